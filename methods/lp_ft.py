"""LP-FT: first the head, then everything (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022).

    1. W, b: LP, on frozen features          2. theta, W and b: FT, from that head

A head that fits the features sends small gradients into the tower, which then has less reason to leave what it knew.
The first step is `methods/lp_all.py` with the fields `solver`, `probe_lr`, `C` and this recipe's epochs and batch, the
second `methods/ft.py`.

    python -m bench run --methods finetune --suite finetune

Expect FT's gain in distribution at a smaller price: 81.7 on ImageNet and 60.3 over five shifts with ViT-B/16, where FT
has 81.3 and 53.8, and zero-shot 68.3 and 58.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import Backbone, Classes, Predictor, State, Support, register
from methods._finetune import Recipe, finetune, learning
from methods._head import answers, classifier, parameters
from methods._training import fork
from methods.lp_all import LPAll


@register("lp-ft", title="LP-FT", family="finetune")
@dataclass(frozen=True)
class LPFT:
    """solver, probe_lr, C: of the first step, as in `lp-all`; the other fields are FT's."""

    templates: tuple[str, ...] | None = None
    solver: str = "adamw"
    probe_lr: float = 1e-3
    C: float = 10.0
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: int = 500
    clip: float | None = None
    micro: int = 0
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"features", "pixels", "images", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 1e-4, 1e-3), "probe_lr": (1e-3, 1e-2)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0, "probe_lr": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        self.probe()

    def probe(self) -> LPAll:
        shared = (self.epochs, self.batch, self.probe_lr, self.weight_decay, self.warmup)
        return LPAll(self.templates, self.solver, *shared, self.C)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        # the probe takes a moment and is fitted again by a fit that goes on at a checkpoint, which is the second step's
        head = self.probe().fit(replace(support, checkpoints=None), backbone, fork(rng))
        weights = learning({**backbone.weights("image"), **head})
        logits = classifier(backbone, weights, self.recompute)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            return cross_entropy(logits(pixels), support.labels[rows])

        finetune(loss, weights, support, Recipe.of(self), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        return answers(state, classes, backbone)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return parameters(backbone, classes)
