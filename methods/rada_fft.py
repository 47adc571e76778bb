"""RAda on all training pictures with frozen encoders (Chen, Ahmad, Yao, Liu and Shen, "One Last Attention for Your
Vision-Language Model", ICCV 2025). `methods/rada.py` states the layer; RAda-FT, where the encoders learn with it, is
`methods/rada_ft.py`.

    logits = s sum over D of M * (f h^T),    M the layer's mask,    loss = cross-entropy + alpha reg(M)

The recipe is FT's; the paper leaves open whether there is a regulariser, so `reg` and `alpha` are fields and our choice
is none. f are the features of the test transform, so the image tower answers once for every picture; h are those of
ImageNet's 80 templates (of the field `templates`; None takes the data set's). The start, M = 1, is zero-shot CLIP.

    python -m bench run --methods rada --suite finetune

Expect 78.1 on ImageNet and 57.8 over five shifts with ViT-B/16, where zero-shot has 68.3 and 58.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, register
from methods._finetune import Recipe, finetune, learning, on_features, refuse_unknown
from methods._training import fork
from methods.rada import QUERIES, REGULARISERS, layer_size, new_layer, rational_logits

TOGETHER = 32  # pictures that are answered at once, for R has B K D numbers


@register("rada-fft", title="RAda (frozen encoders)", family="rada")
@dataclass(frozen=True)
class RAdaFrozen:
    """tau, heads, alpha, reg: of the layer and its loss, as in `rada-eft`; the other fields are FT's."""

    templates: tuple[str, ...] | None = None
    tau: float = 1.0
    heads: int = 8
    alpha: float = 1.0
    reg: str = "none"
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: int = 500
    micro: int = 0

    needs: ClassVar[frozenset[str]] = frozenset({"features", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        refuse_unknown("rada-fft", "reg", self.reg, REGULARISERS)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        text = backbone.text_features(support.classes, self.templates)  # (K, D)
        weights = learning(new_layer(backbone.dim, QUERIES, fork(rng), text))

        def loss(features: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            logits, mask = masked(weights, features, text, backbone.scale, self.heads, self.tau)
            return cross_entropy(logits, support.labels[rows]) + self.alpha * REGULARISERS[self.reg](mask - 1)

        finetune(loss, weights, on_features(support), Recipe.of(self), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = backbone.text_features(classes, self.templates)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            pieces = batch.features.split(TOGETHER)
            return torch.cat([masked(state, f, text, backbone.scale, self.heads, self.tau)[0] for f in pieces])

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return layer_size(backbone.dim, QUERIES)


def masked(layer: State, image: Tensor, text: Tensor, scale: Tensor, heads: int, tau: float) -> tuple[Tensor, Tensor]:
    """Image features (n, D), not normalised, and unit texts (K, D) -> logits (n, K), mask M (n, K, D)."""
    return rational_logits(layer, normalize(image, dim=-1), text, scale, heads, QUERIES, tau)
