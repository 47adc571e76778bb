"""LP: a linear head on frozen image features, learnt from all training pictures (the baseline of Kumar et al.,
"Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022, and of WiSE-FT, CVPR
2022). The few-shot probe of CLIP's authors is `methods/linear_probe.py`.

    logits = f W^T / |f| + b,    loss = cross-entropy,    W (K, D) and b (K) learn

solver "adamw": from the text features times the scale, s h_k, by the recipe of FT; the learning rate is our choice.
solver "l-bfgs": the minimum of |W|^2 / 2 + C sum of CE, which knows no text. The features are those of the test
transform, so the towers answer once for every picture, whatever the number of epochs.

    python -m bench run --methods finetune --suite finetune

Expect 79.9 on ImageNet and 57.2 over five shifts with ViT-B/16, where zero-shot has 68.3 and 58.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Classes, Predictor, State, Support, register
from methods._finetune import Recipe, finetune, learning, on_features, refuse_unknown
from methods._head import check, head_logits, text_head
from methods.linear_probe import Solver

SOLVERS = ("adamw", "l-bfgs")


@register("lp-all", title="LP (all pictures)", family="finetune")
@dataclass(frozen=True)
class LPAll:
    """C: inverse regularisation of l-bfgs, in at most `iterations`; the other fields are adamw's."""

    templates: tuple[str, ...] | None = None
    solver: str = "adamw"
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 500
    C: float = 10.0
    iterations: int = 1000

    needs: ClassVar[frozenset[str]] = frozenset({"features", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        self.recipe()  # names a wrong field
        refuse_unknown("lp-all", "solver", self.solver, SOLVERS)

    def recipe(self) -> Recipe:
        return Recipe(self.epochs, self.batch, self.lr, self.weight_decay, warmup=self.warmup)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        if self.solver == "l-bfgs":
            unit = replace(support, features=normalize(support.features, dim=-1))
            weight, bias = Solver(unit, self.iterations, tolerance=1e-4)(self.C)
            return {"head.weight": weight.to(support.features), "head.bias": bias.to(support.features)}
        weights = learning(text_head(backbone, support.classes, self.templates))

        def loss(features: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            return cross_entropy(head_logits(weights, features), support.labels[rows])

        finetune(loss, weights, on_features(support), self.recipe(), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        check(state, classes)
        return lambda batch: head_logits(state, batch.features)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return classes * (backbone.dim + 1)
