"""L2-SP: fine-tuning that is drawn back to where it started (Li, Grandvalet and Davoine, "Explicit Inductive Bias for
Transfer Learning with Convolutional Networks", ICML 2018).

    loss = cross-entropy + lam / 2 |theta - theta0|^2

theta are FT's weights, the image tower and the head; theta0 is where they start, the pretrained tower and the head of
the texts. The penalty is part of the loss, so AdamW scales its gradient as it does the others; AdamW's own decay, to
zero, stays as in FT. `lam` is our choice.

    python -m bench run --methods finetune --suite finetune

Expect more than FT under shift: 81.7 on ImageNet and 57.8 over five shifts with ViT-B/16, where FT has 81.3 and 53.8,
and zero-shot 68.3 and 58.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import Backbone, Classes, Predictor, State, Support, UserError, register
from methods._finetune import Recipe, finetune, learning
from methods._head import answers, classifier, parameters, text_head


@register("l2-sp", title="L2-SP", family="finetune")
@dataclass(frozen=True)
class L2SP:
    """lam: the penalty's weight, lambda in the paper; the other fields are FT's."""

    lam: float = 0.1
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
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 1e-4, 1e-3), "lam": (0.1, 0.01)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        if self.lam < 0:
            raise UserError(f"l2-sp cannot push weights away from their start: set lam to 0 or more, not {self.lam}.")

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        start = backbone.weights("image") | text_head(backbone, support.classes, self.templates)
        weights = learning(start)
        logits = classifier(backbone, weights, self.recompute)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            return cross_entropy(logits(pixels), support.labels[rows]) + self.lam / 2 * distance(weights, start)

        finetune(loss, weights, support, Recipe.of(self), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        return answers(state, classes, backbone)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return parameters(backbone, classes)


def distance(weights: State, start: State) -> Tensor:
    """|theta - theta0|^2 over all weights."""
    return torch.stack([(weight - start[name]).square().sum() for name, weight in weights.items()]).sum()
