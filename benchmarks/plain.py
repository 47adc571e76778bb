"""The methods as their papers' codes do them, written without any of the shortcuts that `methods` and `bench` take.

Every prompt has the full 77 tokens and is encoded whole for each class, images are encoded again whenever they are
looked at, attention matrices are materialised, gradients are autograd's, optimisers are torch's. Models are open_clip's
own modules. Shapes: n images, V views, K classes, D feature dimensions, M context tokens of width W, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

# -- text -------------------------------------------------------------------------------------------------------------


class Prompts:
    """[start] [context] [name] [.] [end] [padding] of K classes through the whole text tower (CoOp, TPT)."""

    def __init__(self, model: Any, tokenizer: Any, names: Sequence[str], length: int) -> None:
        tokens = tokenizer([" ".join(["X"] * length + [name.replace("_", " ")]) + "." for name in names])  # (K, L)
        with torch.no_grad():
            embedded = model.token_embedding(tokens)  # (K, L, W)
        self.model, self.ends = model, tokens.argmax(-1)  # the end token has the highest number
        self.start, self.rest = embedded[:, :1], embedded[:, 1 + length :]

    def __call__(self, context: Tensor) -> Tensor:
        """(M, W) -> unit text features (K, D)."""
        model = self.model
        shared = context.expand(len(self.ends), -1, -1)
        x = torch.cat([self.start, shared, self.rest], 1) + model.positional_embedding  # (K, L, W)
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        return normalize(x[torch.arange(len(x)), self.ends] @ model.text_projection, dim=-1)


def encoded(model: Any, pixels: Tensor) -> Tensor:
    """(n, 3, H, W) -> unit features (n, D)."""
    with torch.no_grad():
        return normalize(model.encode_image(pixels), dim=-1)


def rate(lr: float, epoch: int, epochs: int) -> float:
    """CoOp's schedule: one epoch at 1e-5, then a cosine."""
    return 1e-5 if epoch == 0 else lr / 2 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


def coop(
    model: Any, text: Prompts, start: Tensor, pixels: Tensor, labels: Tensor, scale: Tensor, steps: int, lr: float
) -> Tensor:
    """CoOp's context after `steps` steps, each an epoch of one batch: images encoded, texts encoded, SGD."""
    context = nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([context], lr, momentum=0.9, weight_decay=5e-4)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate(lr, step, steps)
        optimiser.zero_grad()
        cross_entropy(scale * encoded(model, pixels) @ text(context).T, labels).backward()
        optimiser.step()
    return context.detach()


# -- test time --------------------------------------------------------------------------------------------------------


def surest(logits: Tensor, keep: float) -> Tensor:
    """The int(V keep) rows of least entropy, at least one, of (V, K) logits."""
    p = logits.softmax(-1)
    return (-(p * p.log()).sum(-1)).argsort()[: max(1, int(len(logits) * keep))]


def entropy_of_mean(logits: Tensor) -> Tensor:
    mean = logits.softmax(-1).mean(0)
    return -(mean * mean.log()).sum()


def episode(
    logits: Callable[[Tensor], Tensor], weights: Iterable[Tensor], views: Tensor, keep: float, lr: float
) -> Tensor:
    """One test picture: AdamW's step on the entropy of the surest views, then the logits (K) of view 0 once more.

    logits: views as they are given, features or pixels (V, ...) -> (V, K), by the `weights` that learn.
    """
    optimiser = torch.optim.AdamW(weights, lr)
    first = logits(views)
    loss = entropy_of_mean(first[surest(first, keep)])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        return logits(views[:1])[0]


def tpt(
    encode: Callable[[Tensor], Tensor],
    text: Prompts,
    start: Tensor,
    views: Tensor,
    scale: Tensor,
    keep: float,
    lr: float,
) -> Tensor:
    """TPT's episode from the context `start` (M, W); encode: views -> unit features (V, D), called at every look."""
    context = nn.Parameter(start.clone())
    return episode(lambda seen: scale * encode(seen) @ text(context).T, [context], views, keep, lr)


# -- heads ------------------------------------------------------------------------------------------------------------


class RAda(nn.Module):
    """RAda's attention layer: every query for every row of every picture, softmax over whole K x K matrices."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int) -> None:
        """weights: `image`, `text`, `matrix` (the queries), `key`, `value`, `out`, each with .weight and .bias."""
        super().__init__()
        self.heads = heads
        self.maps = nn.ModuleDict()
        for name in ("image", "text", "matrix", "key", "value", "out"):
            self.maps[name] = nn.Linear(weights[f"{name}.weight"].shape[1], weights[f"{name}.weight"].shape[0])
        self.load_state_dict({f"maps.{name}": tensor for name, tensor in weights.items()})

    def forward(self, image: Tensor, text: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Unit image (B, D), text (K, D) -> logits (B, K), mask M (B, K, D)."""
        b, (k, dim) = len(image), text.shape
        rational = image[:, None] * text[None]  # (B, K, D)
        tokens = {
            "image": scale.sqrt() * image[:, None].expand(b, k, dim),
            "text": scale.sqrt() * text[None].expand(b, k, dim),
            "matrix": scale * rational,
        }

        def heads(name: str, x: Tensor) -> Tensor:  # (B, K, D) -> (B, H, K, d)
            return self.maps[name](x).view(b, k, self.heads, dim // self.heads).transpose(1, 2)

        key, value = heads("key", scale * rational), heads("value", scale * rational)
        attention = []
        for name, x in tokens.items():
            scores = heads(name, x) @ key.transpose(-2, -1) / math.sqrt(dim // self.heads)  # (B, H, K, K)
            attention.append(k * scores.flatten(2).softmax(-1).view_as(scores))
        mixed = (attention[0] + attention[1] + attention[2]) / 3 @ value  # (B, H, K, d)
        mask = torch.relu(1 + self.maps["out"](mixed.transpose(1, 2).reshape(b, k, dim)))
        return scale * (mask * rational).sum(-1), mask


def rada_loss(logits: Tensor, mask: Tensor, labels: Tensor, alpha: float = 1.0) -> Tensor:
    """Cross-entropy and alpha times the mean over images of the largest |M - 1|."""
    return cross_entropy(logits, labels) + alpha * (mask - 1).abs().flatten(1).amax(1).mean()


def clip_adapter(
    model: Any,
    down: Tensor,
    up: Tensor,
    pixels: Tensor,
    labels: Tensor,
    text: Tensor,
    scale: Tensor,
    steps: int,
    lr: float,
    ratio: float = 0.2,
) -> tuple[Tensor, Tensor]:
    """CLIP-Adapter's weights after `steps` steps from `down` (D/4, D) and `up` (D, D/4), each an epoch of one batch.

    Kinder than the release, which encodes the fixed texts (K, D) in every step too.
    """
    bottleneck = nn.Sequential(nn.Linear(*down.T.shape, bias=False), nn.ReLU(), nn.Linear(*up.T.shape, bias=False))
    bottleneck.append(nn.ReLU()).load_state_dict({"0.weight": down, "2.weight": up})
    optimiser = torch.optim.SGD(bottleneck.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate(lr, step, steps)
        with torch.no_grad():
            features = model.encode_image(pixels)  # (n, D)
        adapted = normalize(ratio * bottleneck(features) + (1 - ratio) * features, dim=-1)
        optimiser.zero_grad()
        cross_entropy(scale * adapted @ text.T, labels).backward()
        optimiser.step()
    first, second = (weight.detach() for weight in bottleneck.parameters())
    return first, second
