"""CLIP-Adapter: a bottleneck on the image feature (Gao et al., "CLIP-Adapter: Better Vision-Language Models with
Feature Adapters", IJCV 2024; https://github.com/gaopengcuhk/CLIP-Adapter).

    x = ReLU(W2 ReLU(W1 f)),    f' = r x + (1 - r) f,    logits = s norm(f') h^T,    loss = cross-entropy

f (n, D) is the image feature before normalisation, W1 (D/4, D) and W2 (D, D/4) have no bias, r = 0.2, the text is
fixed: 2 D^2/4 parameters, 131 072 at D = 512. The release has no configuration; its README says to follow CoOp's.

    python -m bench run --methods clip-adapter --suite few-shot

Expect a small gain over zero-shot that grows with the shots. It starts near zero-shot but not at it, since x is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy, linear, normalize

from bench.api import Backbone, Classes, Predictor, State, Support, register
from methods._training import CoOpRecipe, fork, uniform


@register("clip-adapter", title="CLIP-Adapter")
@dataclass(frozen=True)
class ClipAdapter:
    """ratio: r. reduction: how much narrower the bottleneck is. epochs, augment: as in CoOp."""

    ratio: float = 0.2
    reduction: int = 4
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 32
    epochs: int | None = None
    augment: int = 8

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (2e-3, 6e-3, 2e-2, 6e-2, 2e-1, 6e-1)}

    def adapted(self, features: torch.Tensor, weights: State) -> torch.Tensor:
        """Features (n, D) as the image tower gives them -> unit features (n, D)."""
        x = linear(linear(features, weights["down"]).relu(), weights["up"]).relu()
        return normalize(self.ratio * x + (1 - self.ratio) * features, dim=-1)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order, wide = fork(rng), support.features.shape[1]
        narrow = wide // self.reduction
        # torch's default initialisation of a Linear: uniform within 1 / sqrt(inputs)
        weights = {
            "down": uniform((narrow, wide), wide**-0.5, rng, support.features).requires_grad_(),
            "up": uniform((wide, narrow), narrow**-0.5, rng, support.features).requires_grad_(),
        }
        text = backbone.text_features(support.classes)  # (K, D)

        def loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return cross_entropy(backbone.scale * self.adapted(features, weights) @ text.T, labels)

        recipe = CoOpRecipe(self.lr, self.momentum, self.weight_decay, self.batch, self.epochs, self.augment)
        recipe.run(loss, weights.values(), support, order)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = backbone.text_features(classes)
        return lambda batch: backbone.scale * self.adapted(batch.features, state) @ text.T

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return 2 * backbone.dim * (backbone.dim // self.reduction)
