"""FT: fine-tune the image tower with a linear head (the baseline of Wortsman et al., "Robust Fine-Tuning of Zero-Shot
Models", CVPR 2022, https://github.com/mlfoundations/wise-ft, and of Goyal et al., "Finetune Like You Pretrain", CVPR
2023).

    logits = f(x; theta) W^T / |f| + b,    loss = cross-entropy,    theta, W and b learn

f (D) is the image feature; W (K, D) starts as the scale times the text features of ImageNet's 80 templates (those of
the field `templates`; None takes the data set's) and b at zero, so that the start is zero-shot CLIP. The text tower
takes no part, and BatchNorm keeps its statistics. The head knows its classes alone.

    python -m bench run --methods finetune --suite finetune

Expect gains in distribution and losses under shift: 81.3 on ImageNet and 53.8 over five shifts with ViT-B/16, where
zero-shot has 68.3 and 58.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import Backbone, Classes, Predictor, State, Support, register
from methods._finetune import Recipe, finetune, learning
from methods._head import answers, classifier, parameters, text_head


@register("ft", title="FT", family="finetune")
@dataclass(frozen=True)
class FT:
    """The fields are those of `methods._finetune.Recipe`; recompute: keep less for the way back."""

    templates: tuple[str, ...] | None = None
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: int = 500
    clip: float | None = None
    micro: int = 0
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        weights = learning(backbone.weights("image") | text_head(backbone, support.classes, self.templates))
        logits = classifier(backbone, weights, self.recompute)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            return cross_entropy(logits(pixels), support.labels[rows])

        finetune(loss, weights, support, Recipe.of(self), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        return answers(state, classes, backbone)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return parameters(backbone, classes)
