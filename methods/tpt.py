"""TPT: tune the prompt on one test picture (Shu et al., "Test-Time Prompt Tuning for Zero-Shot Generalization in
Vision-Language Models", NeurIPS 2022; https://github.com/azshue/TPT).

For each picture anew, with V views of it (view 0 the centre crop) and a context v of "a photo of a":

    p_i = softmax(s f_i h(v)^T)                       each view i
    S = the int(0.1 V) views of least entropy
    loss = entropy(mean of p_i over S)
    v' = one AdamW step from v,     answer = s f_0 h(v')^T

The context is shared by the classes: 4 W parameters, 2048 with CLIP. As the first step of AdamW divides the gradient
by its own size, it moves every coordinate of the context by lr.

    python -m bench run --methods tpt --suite few-shot

Expect, with ViT-B/16 on ImageNet-V2, -Sketch, -A and -R, 63.45 47.94 54.77 77.06 (zero-shot 60.86 46.09 47.87 73.98),
and compare it with the mean of the same views without adaptation (`view-mean-confident`). `coop-tpt` starts from the
context that CoOp learnt on labelled pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from bench.api import Backbone, Batch, Classes, NotRunnable, Predictor, State, Support, phase, register
from methods._training import CoOpRecipe, adamw, confident, entropy_of_mean, fork, learn_context, words


@register("tpt", title="TPT")
@dataclass(frozen=True)
class TPT:
    """init: the words the context starts from. keep: share of the views that counts."""

    init: str = "a photo of a"
    position: str = "end"
    keep: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    weight_decay: float = 1e-2

    needs: ClassVar[frozenset[str]] = frozenset({"features", "views", "text"})
    setting: ClassVar = "test-time"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (5e-4, 1.5e-3, 5e-3, 1.5e-2, 5e-2, 1.5e-1)}

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        """Starts from state["context"] where there is one."""
        start = state["context"] if "context" in state else backbone.embed(self.init)  # (M, W)
        start = start.detach().requires_grad_()
        text = backbone.prompts(classes, len(start), self.position)
        with torch.enable_grad():
            first = text(start)  # (K, D): every picture starts here, so this forward and its graph are kept

        def tuned(views: torch.Tensor) -> torch.Tensor:
            """The context after this picture's steps."""
            views = normalize(views, dim=-1)
            logits = backbone.scale * views @ normalize(first.detach(), dim=-1).T  # (V, K)
            kept = views[confident(logits, self.keep)]
            context, features, moments = start, first, {}
            for step in range(1, self.steps + 1):
                if step > 1:
                    context = context.detach().requires_grad_()
                    features = text(context)
                # the loss up to the text features differs for each picture; from there back the graph is shared
                answer = features.detach().requires_grad_()
                loss = entropy_of_mean(backbone.scale * kept @ normalize(answer, dim=-1).T)
                (slope,) = torch.autograd.grad(loss, answer)
                (slope,) = torch.autograd.grad(features, context, slope, retain_graph=True)
                context = adamw({"v": context.detach()}, {"v": slope}, moments, step, self.lr, self.weight_decay)["v"]
            return context

        def predict(batch: Batch) -> torch.Tensor:
            assert batch.views is not None
            answers = []
            for views in batch.views:  # (V, D)
                with phase("adapt"), torch.enable_grad():
                    context = tuned(views)
                with torch.no_grad():
                    answers.append(backbone.scale * normalize(text(context), dim=-1) @ normalize(views[0], dim=-1))
            return torch.stack(answers)

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return backbone.embed(self.init).numel()


@register("coop-tpt", title="CoOp + TPT", family="tpt", extra=True)
@dataclass(frozen=True)
class CoOpTPT:
    """CoOp's fit (`fit_lr`, `epochs`, `augment`), then TPT's episodes (`keep`, `steps`, `lr`, `weight_decay`)."""

    init: str = "a photo of a"
    length: int = 4
    position: str = "end"
    fit_lr: float = 2e-3
    epochs: int | None = None
    augment: int = 8
    keep: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    weight_decay: float = 1e-2

    needs: ClassVar[frozenset[str]] = frozenset({"features", "views", "text"})
    setting: ClassVar = "few-shot+test-time"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"fit_lr": (2e-3, 2e-2, 2e-1), "lr": (5e-3, 5e-2)}

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        start = words(backbone, self.init, self.length)
        recipe = CoOpRecipe(self.fit_lr, epochs=self.epochs, augment=self.augment)
        return {"context": learn_context(start, self.position, support, backbone, recipe, fork(rng))}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        if "context" not in state:
            raise NotRunnable("CoOp + TPT starts from a context learnt on labelled pictures, and this task has none")
        episode = TPT(self.init, self.position, self.keep, self.steps, self.lr, self.weight_decay)
        return episode.predictor(state, classes, backbone, rng)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return self.length * backbone.embed("a").shape[1]
