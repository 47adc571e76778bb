"""CoOp: learn the words around the class name (Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022,
https://github.com/KaiyangZhou/CoOp).

    h_k = text([start] [v_1] ... [v_M] [name of k] [.] [end]),    logits = s f h^T,    loss = cross-entropy

The context V (M, W), shared by all classes, is all that learns; W is the width of the text tower. M = 16 vectors start
from N(0, 0.02), M = 4 from the words "a photo of a". Image features f are never differentiated. With `class_specific`
every class has a context of its own (K, M, W), which says nothing about other classes.

    python -m bench run --methods coop --suite few-shot

Expect gains on the classes it was fitted on and losses on unseen ones (base-to-new: base 82.7, new 63.2 with ViT-B/16
on the 11 data sets, where zero-shot has 69.3 and 74.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from bench.api import Backbone, Batch, Classes, NotRunnable, Predictor, State, Support, register
from methods._training import CoOpRecipe, fork, learn_context, words


@register("coop-csc", title="CoOp, class-specific", family="coop", extra=True, class_specific=True)
@register("coop-m4", title="CoOp, M = 4", family="coop", length=4, init="a photo of a")
@register("coop-m16", title="CoOp, M = 16", family="coop")
@dataclass(frozen=True)
class CoOp:
    """init: words whose embeddings the context starts from (`length` of them), "" for random vectors.

    epochs: None takes CoOp's own number for the shots. augment: augmented views of each picture; CoOp draws a fresh
    one every epoch, here epoch e takes view e mod `augment`, our bounded stand-in (0: the test transform).
    """

    length: int = 16
    init: str = ""
    deviation: float = 0.02
    position: str = "end"
    class_specific: bool = False
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 32
    epochs: int | None = None
    augment: int = 8

    needs: ClassVar[frozenset[str]] = frozenset({"features", "text"})
    setting: ClassVar = "few-shot"
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (2e-3, 6e-3, 2e-2, 6e-2, 2e-1, 6e-1)}

    @property
    def transfers(self) -> bool:
        return not self.class_specific

    @property
    def identity(self) -> dict[str, Any] | None:
        return {"epochs": 0} if self.init else None  # a context of words is a prompt, one of chance is not

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order = fork(rng)
        start = self._start(backbone, len(support.classes), rng)
        recipe = CoOpRecipe(self.lr, self.momentum, self.weight_decay, self.batch, self.epochs, self.augment)
        return {"context": learn_context(start, self.position, support, backbone, recipe, order)}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        context = state["context"]
        if self.class_specific and len(context) != len(classes):
            raise NotRunnable("a class-specific context is tied to the classes it was fitted on")
        with torch.no_grad():
            text = normalize(backbone.prompts(classes, self.length, self.position)(context), dim=-1)  # (K, D)

        def predict(batch: Batch) -> torch.Tensor:
            return backbone.scale * normalize(batch.features, dim=-1) @ text.T

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return self.length * backbone.embed("a").shape[1] * (classes if self.class_specific else 1)

    def _start(self, backbone: Backbone, classes: int, rng: torch.Generator) -> torch.Tensor:
        """The context before training: (M, W), or (K, M, W)."""
        each = (classes,) if self.class_specific else ()
        if self.init:
            start = words(backbone, self.init, self.length)
            return start.expand(*each, *start.shape)
        like = backbone.embed("a")
        return (torch.randn((*each, self.length, like.shape[1]), generator=rng) * self.deviation).to(like)
