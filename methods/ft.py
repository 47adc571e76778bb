"""FT: fine-tune the image tower with a linear head (the baseline of Wortsman et al., "Robust Fine-Tuning of Zero-Shot
Models", CVPR 2022, and of Goyal et al., "Finetune Like You Pretrain", CVPR 2023).

    logits = s f(x; theta) W^T / |f|,    loss = cross-entropy,    theta and W learn

f (D) is the image feature, W (K, D) starts from the text features of 80 templates (here: of the data set's, or those of
the field `templates`), so that the start is zero-shot CLIP. The text tower takes no part. The head knows its classes
alone.

    python -m bench run --methods ft --suite finetune

Expect gains in distribution and losses under shift: 81.3 on ImageNet and 53.8 over five shifts with ViT-B/16, where
zero-shot has 68.3 and 58.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, register
from methods._finetune import Recipe, finetune, head_logits, learning


@register("ft", title="FT")
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

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)}

    def recipe(self) -> Recipe:
        return Recipe(
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            clip=self.clip,
            micro=self.micro,
            precision=self.precision,
        )

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        head = backbone.text_features(support.classes, self.templates)  # (K, D)
        weights = learning({**backbone.weights("image"), "head": head})
        own = backbone.copy({name: weight for name, weight in weights.items() if name != "head"}, self.recompute)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            return cross_entropy(head_logits(own, weights["head"], pixels), support.labels[rows])

        finetune(loss, weights, support, self.recipe(), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        own = backbone.copy({name: weight for name, weight in state.items() if name != "head"})

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            return head_logits(own, state["head"], batch.pixels)

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return sum(weight.numel() for weight in backbone.weights("image").values()) + classes * backbone.dim
