"""What several methods share: CoOp's training, TPT's choice of views and its loss, AdamW as a function.

Files with an underscore are not methods, and their code counts for the identity of every cell. Shapes: n images, c
augmented views of each, D feature dimensions, V views, K classes, M context tokens of width W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Classes, Support, UserError


def shots_of(labels: Tensor) -> int:
    """How many pictures the support holds of its most frequent class."""
    return int(torch.bincount(labels).max())


def coop_epochs(shots: int) -> int:
    """How long CoOp trains: 50 epochs for one shot, 100 for up to four, 200 beyond."""
    return 50 if shots <= 1 else 100 if shots <= 4 else 200


def coop_rate(lr: float, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch: the first one warms up at 1e-5, the others follow a cosine."""
    return 1e-5 if epoch == 0 else lr * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


def minibatches(n: int, batch: int, rng: torch.Generator) -> tuple[Tensor, ...]:
    """A fresh order of n pictures in pieces of `batch`; a smaller last piece is dropped unless it is the only one."""
    order = torch.randperm(n, generator=rng)
    return order[: n - n % batch if n >= batch else n].split(batch)


def training_views(support: Support, copies: int) -> Tensor:
    """Features (n, c, D) to train on: `copies` augmented views of each picture, or its test view for 0."""
    return support.augment(copies) if copies else support.features[:, None]


def train(
    loss: Callable[[Tensor, Tensor], Tensor],
    views: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    batch: int,
    epochs: int,
    rng: torch.Generator,
    at_once: int | None = None,
) -> None:
    """Minimise loss(features (b, D), labels (b,)) by CoOp's schedule; epoch e sees augmented view e mod c.

    at_once: so many pictures of a batch pass the loss at a time, which has to be a mean over pictures (None: all).
    """
    lr = optimiser.param_groups[0]["lr"]
    with torch.enable_grad():
        for epoch in range(epochs):
            optimiser.param_groups[0]["lr"] = coop_rate(lr, epoch, epochs)
            features = views[:, epoch % views.shape[1]]
            for rows in minibatches(len(labels), batch, rng):
                rows = rows.to(labels.device)
                optimiser.zero_grad()
                for few in rows.split(at_once or batch):
                    (loss(features[few], labels[few]) * (len(few) / len(rows))).backward()
                optimiser.step()


@dataclass(frozen=True)
class CoOpRecipe:
    """How CoOp trains, and who follows it. epochs: None takes CoOp's number for the shots."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 32
    epochs: int | None = None
    augment: int = 8

    def run(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        weights: Iterable[Tensor],
        support: Support,
        rng: torch.Generator,
    ) -> None:
        optimiser = torch.optim.SGD(weights, self.lr, self.momentum, weight_decay=self.weight_decay, fused=True)
        epochs = coop_epochs(shots_of(support.labels)) if self.epochs is None else self.epochs
        views = training_views(support, min(self.augment, epochs))
        train(loss, views, support.labels, optimiser, batch=self.batch, epochs=epochs, rng=rng)


def learn_context(
    start: Tensor, position: str, support: Support, backbone: Backbone, recipe: CoOpRecipe, rng: torch.Generator
) -> Tensor:
    """CoOp: the context (M, W), or (K, M, W), that minimises the cross-entropy of s f h^T over the support."""
    context = start.clone().requires_grad_()
    text = backbone.prompts(support.classes, context.shape[-2], position)

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        logits = backbone.scale * normalize(features, dim=-1) @ normalize(text(context), dim=-1).T
        return cross_entropy(logits, labels)

    recipe.run(loss, [context], support, rng)
    return context.detach()


def words(backbone: Backbone, text: str, length: int) -> Tensor:
    """The embeddings (length, W) that a context starts from."""
    found = backbone.embed(text)
    if len(found) != length:
        raise UserError(
            f"the context {text!r} is {len(found)} tokens long, not {length}: set the field length to that."
        )
    return found


def captions(classes: Classes, template: str) -> list[str]:
    """The prompt of each class; braces elsewhere in the template or in a name stay as they are."""
    return [template.replace("{}", name.replace("_", " "), 1) for name in classes.names]


def fork(rng: torch.Generator) -> torch.Generator:
    """A stream of its own for one purpose, so that what others draw does not shift it."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=rng)))


def uniform(shape: tuple[int, ...], bound: float, rng: torch.Generator, like: Tensor) -> Tensor:
    """Numbers from [-bound, bound), as torch's Linear draws them; the same in every precision and on every device."""
    return ((torch.rand(shape, generator=rng) * 2 - 1) * bound).to(like)


def confident(logits: Tensor, keep: float) -> Tensor:
    """Which int(V keep) views, at least one, are surest: those of least entropy, in (..., V, K) logits -> (..., S)."""
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)  # (..., V)
    return entropy.topk(max(1, int(entropy.shape[-1] * keep)), largest=False).indices


def log_mean(logits: Tensor) -> Tensor:
    """Logarithm of the mean softmax over the views: (..., V, K) -> (..., K)."""
    return logits.log_softmax(-1).logsumexp(-2) - math.log(logits.shape[-2])


def entropy_of_mean(logits: Tensor) -> Tensor:
    """TPT's loss, the entropy of the views' mean softmax: (..., V, K) -> (...)."""
    log_p = log_mean(logits)
    return -(log_p.exp() * log_p).sum(-1)


def adamw(
    values: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    moments: dict[str, tuple[Tensor, Tensor]],
    step: int,
    lr: float,
    weight_decay: float,
) -> dict[str, Tensor]:
    """New values after one step of torch's AdamW with its default betas and epsilon; step counts from 1.

    As a function, since an episode per picture must not pay for an optimiser object. A value without a gradient has
    had none but exact zeros so far: it only decays. `moments` is carried from step to step.
    """
    (beta1, beta2), eps, result = (0.9, 0.999), 1e-8, {}
    for name, value in values.items():
        result[name] = value * (1 - lr * weight_decay)
        if (gradient := gradients.get(name)) is not None:
            first, second = gradient * (1 - beta1), (gradient * gradient).mul_(1 - beta2)
            if name in moments:
                first.add_(moments[name][0], alpha=beta1)
                second.add_(moments[name][1], alpha=beta2)
            moments[name] = first, second
            spread = (second / (1 - beta2**step)).sqrt_().add_(eps)
            result[name] = torch.addcdiv(result[name], first, spread, value=-lr / (1 - beta1**step))
    return result
