"""Slow, literal transcriptions of the methods' equations in float64; the models they run on are the contract's.

Nothing here shares code with the methods: loops in place of clever contractions, torch's own optimisers, whole K x K
attention. Tests compare values and gradients with these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bench.api import Classes


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def softmax(x: Tensor) -> Tensor:
    e = (x - x.detach().max()).exp()
    return e / e.sum()


def entropy(p: Tensor) -> Tensor:
    return -sum(p_k * p_k.log() for p_k in p)  # type: ignore[return-value]


def clip_logits(f: Tensor, h: Tensor, s: Tensor) -> Tensor:
    """(n, D) and (K, D) -> (n, K), each entry on its own."""
    return torch.stack([torch.stack([s * (unit(f_b) * unit(h_k)).sum() for h_k in h]) for f_b in f])


def surest(logits: Tensor, keep: float) -> list[int]:
    """The int(V keep) views, at least one, of least entropy."""
    order = sorted(range(len(logits)), key=lambda v: float(entropy(softmax(logits[v]))))
    return order[: max(1, int(len(logits) * keep))]


def mean_softmax(logits: Tensor) -> Tensor:
    return torch.stack([softmax(row) for row in logits]).mean(0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    shifted = [row - row.detach().max() for row in logits]  # so that no probability becomes zero and its logarithm none
    return sum(row.exp().sum().log() - row[y] for row, y in zip(shifted, labels, strict=True)) / len(labels)  # type: ignore


def coop_rates(lr: float, epochs: int) -> list[float]:
    return [1e-5] + [lr * (1 + math.cos(math.pi * (e - 1) / epochs)) / 2 for e in range(1, epochs)]


def train_in_one_batch(
    parameters: list[Tensor],
    optimiser: torch.optim.Optimizer,
    loss,
    views: Tensor,
    labels: Tensor,
    epochs: int,
    lr: float,
) -> None:
    """CoOp's schedule where the support fits one batch, so that no order matters."""
    for epoch, rate in enumerate(coop_rates(lr, epochs)):
        for group in optimiser.param_groups:
            group["lr"] = rate
        value = loss(views[:, epoch % views.shape[1]], labels)
        for parameter, gradient in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
            parameter.grad = gradient
        optimiser.step()


def logistic_objective(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, C: float) -> Tensor:
    return weight.pow(2).sum() / 2 + C * len(y) * cross_entropy(x @ weight.T + bias, y)


def tpt_answer(backbone, classes: Classes, start: Tensor, views: Tensor, keep, steps, lr, weight_decay) -> Tensor:
    """One episode of TPT with torch's AdamW -> logits (K) of the centre crop."""
    context = start.clone().requires_grad_()
    text = backbone.prompts(classes, len(start))
    optimiser = torch.optim.AdamW([context], lr=lr, weight_decay=weight_decay)
    kept = surest(clip_logits(views, text(context), backbone.scale).detach(), keep)
    for _ in range(steps):
        loss = entropy(mean_softmax(clip_logits(views[kept], text(context), backbone.scale)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return clip_logits(views[:1], text(context), backbone.scale)[0].detach()


class LiteralRAda(nn.Module):
    """RAda's layer as METHODS states it: three K x K attention matrices, softmax over all their entries at once."""

    def __init__(self, dim: int, heads: int, queries: tuple[str, ...], tau: float) -> None:
        super().__init__()
        self.heads, self.queries, self.tau = heads, queries, tau
        self.maps = nn.ModuleDict({name: nn.Linear(dim, dim) for name in (*queries, "key", "value", "out")})
        nn.init.zeros_(self.maps["out"].weight)
        nn.init.zeros_(self.maps["out"].bias)
        self.double()

    def load(self, weights) -> LiteralRAda:
        self.load_state_dict({f"maps.{name}": tensor for name, tensor in weights.items()})
        return self

    def forward(self, f: Tensor, h: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Unit f (B, D) and h (K, D) -> logits (B, K), M (B, K, D)."""
        k, dim = h.shape
        d = dim // self.heads
        masks, logits = [], []
        for f_b in f:
            rational = torch.stack([f_b * h_k for h_k in h])  # (K, D)
            tokens = {
                "image": torch.stack([s.sqrt() * f_b] * k),
                "text": s.sqrt() * h,
                "matrix": s * rational,
            }
            key, value = self.maps["key"](s * rational), self.maps["value"](s * rational)
            heads = []
            for head in range(self.heads):
                part = slice(head * d, (head + 1) * d)
                attention = torch.zeros(k, k, dtype=f.dtype)
                for name in self.queries:
                    scores = self.maps[name](tokens[name])[:, part] @ key[:, part].T / math.sqrt(d)
                    attention = attention + k * softmax((scores / self.tau).reshape(-1)).reshape(k, k)
                heads.append(attention / len(self.queries) @ value[:, part])
            mask = torch.relu(1 + self.maps["out"](torch.cat(heads, 1)))
            masks.append(mask)
            logits.append(s * (mask * rational).sum(1))
        return torch.stack(logits), torch.stack(masks)


def rada_penalty(mask: Tensor, reg: str) -> Tensor:
    """reg(M) of M (B, K, D)."""
    per_image = []
    for m in mask:
        off = (m - 1).reshape(-1)
        per_image.append(
            {"linf": off.abs().max(), "mse": (off**2).mean(), "l1": off.abs().mean(), "none": off.sum() * 0}[reg]
        )
    return torch.stack(per_image).mean()


def rada_answer(layer: LiteralRAda, views: Tensor, h: Tensor, s: Tensor, keep, steps, lr, weight_decay) -> Tensor:
    """One episode of RAda at test time: all views through the layer, torch's AdamW on all of its parameters."""
    views = torch.stack([unit(view) for view in views])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=lr, weight_decay=weight_decay)
    kept = surest(layer(views, h, s)[0].detach(), keep)
    for _ in range(steps):
        loss = entropy(mean_softmax(layer(views[kept], h, s)[0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return layer(views[:1], h, s)[0][0].detach()
