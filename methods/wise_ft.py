"""WiSE-FT: the mean of the weights before and after fine-tuning (Wortsman et al., "Robust Fine-Tuning of Zero-Shot
Models", CVPR 2022, https://github.com/mlfoundations/wise-ft).

    theta = (1 - alpha) theta0 + alpha theta1

over all weights, the image tower and the head: theta0 is zero-shot CLIP, theta1 what FT makes of it, here with its
gradients clipped at norm 1. alpha = 0.5 needs no tuning. A curve comes from one fit, for alpha takes no part in it:

    python -m bench run --methods finetune --suite finetune
    python -m bench run --methods wise-ft --suite finetune --sweep wise-ft.alpha=0,0.2,0.4,0.6,0.8,1

Expect a curve above the straight line between its ends: at some alpha more than FT in distribution and more than
zero-shot under shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import Backbone, Classes, Predictor, State, Support, UserError, answering, register
from methods._finetune import Recipe, finetune, learning
from methods._head import answers, check, classifier, parameters, text_head


@register("wise-ft", title="WiSE-FT", family="finetune")
@dataclass(frozen=True)
class WiSEFT:
    """alpha: 0 is zero-shot, 1 is FT; the other fields are FT's."""

    alpha: float = answering(0.5)
    templates: tuple[str, ...] | None = None
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: int = 500
    clip: float | None = 1.0
    micro: int = 0
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)}
    identity: ClassVar[dict[str, Any]] = {"alpha": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        if not 0 <= self.alpha <= 1:
            raise UserError(f"wise-ft lies between zero-shot and FT: set alpha between 0 and 1, not {self.alpha}.")

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        weights = learning(self.start(support.classes, backbone))
        logits = classifier(backbone, weights, self.recompute)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            return cross_entropy(logits(pixels), support.labels[rows])

        finetune(loss, weights, support, Recipe.of(self), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def start(self, classes: Classes, backbone: Backbone) -> State:
        """theta0."""
        return backbone.weights("image") | text_head(backbone, classes, self.templates)

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        check(state, classes)
        start = self.start(classes, backbone)
        # lerp is exact at both ends
        between = {name: torch.lerp(start[name], weight, self.alpha) for name, weight in state.items()}
        return answers(between, classes, backbone)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return parameters(backbone, classes)
