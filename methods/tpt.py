"""TPT: tune the prompt on one test picture (Shu et al., "Test-Time Prompt Tuning for Zero-Shot Generalization in
Vision-Language Models", NeurIPS 2022; https://github.com/azshue/TPT).

For each picture anew, with V views of it (view 0 the centre crop) and a context v of "a photo of a":

    p_i = softmax(s f_i h(v)^T)                       each view i
    S = the int(0.1 V) views of least entropy
    loss = entropy(mean of p_i over S)
    v' = one AdamW step from v,     answer = s f_0 h(v')^T

The context is shared by the classes: 4 W parameters, 2048 with CLIP. As the first step of AdamW divides the gradient
by its own size, it moves every coordinate of the context by lr, up or down by the gradient's sign alone: so the text
path is float32 whatever the precision of the image tower, and an answer depends on rounding, such as that of how many
pictures are tuned together, as far as a coordinate with a gradient of almost zero can move it.

    python -m bench run --methods tpt --suite few-shot

Expect, with ViT-B/16 on ImageNet-V2, -Sketch, -A and -R, 63.45 47.94 54.77 77.06 (zero-shot 60.86 46.09 47.87 73.98),
and compare it with the mean of the same views without adaptation (`view-mean-confident`). `coop-tpt` starts from the
context that CoOp learnt on labelled pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.api import Backbone, Batch, Classes, NotRunnable, Predictor, State, Support, phase, register
from methods._training import CoOpRecipe, adamw, confident, entropy_of_mean, fork, learn_context, words

TOGETHER = 256
"""Texts of several pictures' episodes that pass the tower together; with more classes each picture goes alone."""


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
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        """Starts from state["context"] where there is one."""
        start = state["context"] if "context" in state else backbone.embed(self.init)  # (M, W)
        text = backbone.prompts(classes, len(start), self.position)
        first, back = text.vjp(start)  # every picture starts here, so this forward pass is kept for all of them

        def tuned(views: Tensor) -> Tensor:
            """The contexts (B, 1, M, W) after the steps of B pictures; views (B, V, D) unit."""
            logits = backbone.scale * views @ normalize(first, dim=-1).T  # (B, V, K)
            kept = views.gather(1, confident(logits, self.keep)[..., None].expand(-1, -1, views.shape[2]))  # (B, S, D)
            contexts, moments = start.expand(len(views), 1, *start.shape), {}
            for step in range(1, self.steps + 1):
                leaf = contexts.detach().requires_grad_()
                features = first.expand(len(views), *first.shape) if step == 1 else text(leaf)  # (B, K, D)
                answer = features.detach().requires_grad_()
                loss = entropy_of_mean(backbone.scale * kept @ normalize(answer, dim=-1).mT).sum()
                (slope,) = torch.autograd.grad(loss, answer)
                slope = back(slope)[:, None] if step == 1 else torch.autograd.grad(features, leaf, slope)[0]
                moved = adamw({"v": leaf.detach()}, {"v": slope}, moments, step, self.lr, self.weight_decay)
                contexts = moved["v"]
            return contexts

        def predict(batch: Batch) -> Tensor:
            assert batch.views is not None
            answers = []
            for views in batch.views.split(max(1, TOGETHER // len(classes))):
                views = normalize(views, dim=-1)  # (B, V, D)
                with phase("adapt"), torch.enable_grad():
                    contexts = tuned(views)
                with torch.no_grad():
                    features = normalize(text(contexts), dim=-1)  # (B, K, D)
                    answers.append(backbone.scale * (features @ views[:, 0, :, None])[..., 0])
            return torch.cat(answers)

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return backbone.embed(self.init).numel()


@register("coop-tpt", title="CoOp + TPT", family="tpt", extra=True)
@dataclass(frozen=True)
class CoOpTPT:
    """CoOp's fit (`fit_lr`, `batch`, `epochs`, `augment`), TPT's episodes (`keep`, `steps`, `lr`, `weight_decay`)."""

    init: str = "a photo of a"
    length: int = 4
    position: str = "end"
    fit_lr: float = 2e-3
    batch: int = 32
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
    identity: ClassVar[dict[str, Any]] = {"epochs": 0, "lr": 0.0}

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        start = words(backbone, self.init, self.length)
        recipe = CoOpRecipe(self.fit_lr, batch=self.batch, epochs=self.epochs, augment=self.augment)
        return {"context": learn_context(start, self.position, support, backbone, recipe, fork(rng))}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        if "context" not in state:
            raise NotRunnable("CoOp + TPT starts from a context learnt on labelled pictures, and this task has none")
        episode = TPT(self.init, self.position, self.keep, self.steps, self.lr, self.weight_decay)
        return episode.predictor(state, classes, backbone, rng)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return self.length * backbone.embed("a").shape[1]
