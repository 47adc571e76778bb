"""RAda: one last attention over the rational matrix (Chen, Ahmad, Yao, Liu and Shen, "One Last Attention for Your
Vision-Language Model", ICCV 2025; https://github.com/khufia/RAda for few-shot; the test-time forms are reconstructions
from the paper's text, whose code is not public).

R[b, k] = f_b * h_k, elementwise, is the rational matrix (B, K, D); s times its sum over D is CLIP's logit. One
attention layer over the K classes as tokens, with H heads of d = D/H, weighs its entries:

    Q_1 = Wq1(sqrt(s) f_b), Q_2 = Wq2(sqrt(s) h_k), Q_3 = Wq3(s R), Key = Wk(s R), Value = Wv(s R)
    A_j = K softmax over all K x K entries of Q_j Key^T / (tau sqrt(d))              each image, each head
    M = relu(1 + Wo((A_1 + A_2 + A_3)/3 Value)),    logits = s sum over D of M * R
    loss = cross-entropy + alpha reg(M)

Wo starts at zero, so M = 1 and the logits are CLIP's. `methods/_attention.py` computes this without keeping a K x K
array, and Q_1, whose rows are all equal, as one row. 6 (D^2 + D) parameters, 1 575 936 at D = 512. Every logit depends
on all candidate classes.

`rada-ttt` runs TPT's episode with this layer in place of the context: views chosen by the initial layer's logits
(CLIP's), entropy of the mean, one AdamW step from the same initial weights for every picture. `rada-dagger` starts the
episode from a layer trained on labelled pictures. `rada-adapter` puts CLIP-Adapter's bottleneck on both features before
R; the released form ends it in a ReLU behind a zero-initialised layer, never gets a gradient, and so equals RAda with
mse.

    python -m bench run --methods rada --suite few-shot

Expect 82.16 base, 74.14 new (ViT-B/16, 11 data sets), and for V2, Sketch, A, R 64.10 49.36 61.17 79.35 at test time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from bench.api import (
    Backbone,
    Batch,
    Classes,
    NotRunnable,
    Predictor,
    State,
    Support,
    UserError,
    nearest,
    phase,
    register,
)
from methods._attention import NO_CLASSES, full, mixed_values, rational_logits
from methods._training import adamw, confident, entropy_of_mean, fork, train, training_views, uniform

TEMPLATE = "a photo of a {}."
QUERIES = ("image", "text", "matrix")
ROOM = 2**22  # numbers of R, or of the weights of several episodes, that are at work at once
REGULARISERS = {
    "linf": lambda off: off.abs().flatten(1).max(1).values.mean(),  # mean over images of the largest |M - 1|
    "mse": lambda off: off.square().mean(),
    "l1": lambda off: off.abs().mean(),
    "none": lambda off: off.new_zeros(()),
}


def new_layer(dim: int, queries: tuple[str, ...], rng: torch.Generator, like: Tensor) -> dict[str, Tensor]:
    """The layer's weights: torch's default Linear initialisation, the output map zero."""
    weights, like = {}, full(like)
    for name in (*queries, "key", "value"):
        weights[f"{name}.weight"] = uniform((dim, dim), dim**-0.5, rng, like)
        weights[f"{name}.bias"] = uniform((dim,), dim**-0.5, rng, like)
    return weights | {"out.weight": like.new_zeros(dim, dim), "out.bias": like.new_zeros(dim)}


def layer_size(dim: int, queries: tuple[str, ...]) -> int:
    return (len(queries) + 3) * (dim * dim + dim)


def at_once(numbers: int) -> int:
    """How many pictures or episodes of so many numbers each have room."""
    return max(1, ROOM // numbers)


def unit(x: Tensor) -> Tensor:
    return normalize(full(x), dim=-1)


def texts(backbone: Backbone, classes: Classes, template: str) -> tuple[Tensor, Tensor]:
    """Unit text features (K, D) and the scale."""
    if not len(classes):
        raise UserError(NO_CLASSES)
    return full(backbone.text_features(classes, (template,))), full(backbone.scale)


def _check(queries: tuple[str, ...], tau: float) -> None:
    for query in queries:
        if query not in QUERIES:
            raise UserError(f"rada has no query {query!r}: {nearest(query, QUERIES)}")
    if not queries or len(set(queries)) < len(queries):
        raise UserError(f"rada needs queries, each once, out of {', '.join(QUERIES)}.")
    if not 0 < tau < float("inf"):
        raise UserError(f"rada divides its scores by tau, which cannot be {tau}: set it above 0.")


@register(
    "rada-adapter-released",
    title="RAda + Adapter, as released",
    family="rada",
    extra=True,
    reg="mse",
    adapter="released",
)
@register("rada-adapter", title="RAda + Adapter", family="rada", extra=True, reg="mse", adapter="working")
@register("rada-eft", title="RAda", family="rada")
@dataclass(frozen=True)
class RAda:
    """template: the prompt on every data set. adapter: none, working or released; ratio: its share.

    augment: augmented views of each picture, as in CoOp; five epochs see five of them, each fresh.
    """

    template: str = TEMPLATE
    alpha: float = 1.0
    reg: str = "linf"
    tau: float = 1.0
    queries: tuple[str, ...] = QUERIES
    heads: int = 8
    adapter: str = "none"
    ratio: float = 0.2
    lr: float = 5e-5
    weight_decay: float = 5e-4
    batch: int = 32
    epochs: int = 5
    augment: int = 8

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (5e-5, 2e-4, 6e-4, 2e-3, 6e-3, 2e-2)}
    identity: ClassVar[dict[str, Any]] = {"epochs": 0}

    def __post_init__(self) -> None:
        _check(self.queries, self.tau)
        for value, known in ((self.reg, REGULARISERS), (self.adapter, ("none", "working", "released"))):
            if value not in known:
                raise UserError(f"rada does not know {value!r}: {nearest(value, known)}")

    def logits(self, weights: State, image: Tensor, text: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        if self.adapter != "none":
            image, text = self._adapted(weights, "image", image), self._adapted(weights, "text", text)
        return rational_logits(weights, image, text, scale, self.heads, self.queries, self.tau)

    def _adapted(self, weights: State, side: str, x: Tensor) -> Tensor:
        hidden = linear(linear(x, weights[f"{side}.down"]).relu(), weights[f"{side}.up"])
        hidden = hidden.relu() if self.adapter == "released" else hidden
        return normalize(self.ratio * hidden + (1 - self.ratio) * x, dim=-1)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order, dim = fork(rng), backbone.dim
        text, scale = texts(backbone, support.classes, self.template)
        weights = new_layer(dim, self.queries, rng, text)
        if self.adapter != "none":
            for side in ("image", "text"):
                weights[f"{side}.down"] = uniform((dim // 4, dim), dim**-0.5, rng, text)
                weights[f"{side}.up"] = text.new_zeros(dim, dim // 4)
        for weight in weights.values():
            weight.requires_grad_()

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            logits, mask = self.logits(weights, unit(features), text, scale)
            return cross_entropy(logits, labels) + self.alpha * REGULARISERS[self.reg](mask - 1)

        optimiser = torch.optim.Adam(weights.values(), self.lr, weight_decay=self.weight_decay, fused=True)
        views = training_views(support, min(self.augment, self.epochs))
        few = at_once(text.numel())
        train(loss, views, support.labels, optimiser, batch=self.batch, epochs=self.epochs, rng=order, at_once=few)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text, scale = texts(backbone, classes, self.template)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            pieces = unit(batch.features).split(at_once(text.numel()))  # R is B K D numbers
            return torch.cat([self.logits(state, piece, text, scale)[0] for piece in pieces])

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        adapters = 0 if self.adapter == "none" else 4 * backbone.dim * (backbone.dim // 4)
        return layer_size(backbone.dim, self.queries) + adapters


@register("rada-ttt", title="RAda at test time", family="rada")
@dataclass(frozen=True)
class RAdaTTT:
    """keep: share of the views, those of least entropy, that counts."""

    template: str = TEMPLATE
    tau: float = 1.0
    queries: tuple[str, ...] = QUERIES
    heads: int = 8
    keep: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    weight_decay: float = 1e-2

    needs: ClassVar[frozenset[str]] = frozenset({"features", "views"})
    setting: ClassVar = "test-time"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-3, 2e-3, 5e-3, 1.5e-2, 4e-2, 1e-1)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        _check(self.queries, self.tau)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        """Starts from the layer in `state` where there is one, else from a new one, the same for all pictures."""
        text, scale = texts(backbone, classes, self.template)
        start = state or new_layer(backbone.dim, self.queries, rng, text)
        fresh = not start["out.weight"].any() and not start["out.bias"].any()  # M = 1, CLIP's logits exactly
        layer = text, scale, self.heads, self.queries, self.tau

        def unadapted(views: Tensor) -> Tensor:
            """The logits (E, V, K) that choose the views."""
            if fresh:
                return scale * views @ text.T
            pieces = views.flatten(0, 1).split(at_once(text.numel()))
            return torch.cat([rational_logits(start, piece, *layer)[0] for piece in pieces]).view(*views.shape[:2], -1)

        def slopes(weights: State, kept: Tensor) -> dict[str, Tensor]:
            """Gradients of each episode's loss by its own weights; kept (E, S, D)."""
            own = {name: weight.expand(len(kept), *start[name].shape) for name, weight in weights.items()}
            leaves = {name: weight.detach().requires_grad_() for name, weight in own.items()}
            loss = entropy_of_mean(rational_logits(leaves, kept, *layer)[0]).sum()
            return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

        def first_slopes(kept: Tensor) -> dict[str, Tensor]:
            """The same at M = 1: behind Wo = 0 every other gradient is exactly zero, and no mask is needed."""
            logits = (scale * kept @ text.T).requires_grad_()  # (E, S, K)
            (slope,) = torch.autograd.grad(entropy_of_mean(logits).sum(), logits)
            slope = (slope[..., None] * (scale * kept)[:, :, None] * text).flatten(1, 2)  # by M (E, S K, D)
            mixed = mixed_values(start, kept, *layer).flatten(1, 2)
            return {"out.weight": slope.mT @ mixed, "out.bias": slope.sum(1)}

        def adapted(views: Tensor) -> State:
            """The layers after the steps of E pictures, whose views (E, V, D) are unit."""
            with torch.no_grad():
                chosen = confident(unadapted(views), self.keep)  # (E, S)
            kept = views.gather(1, chosen[..., None].expand(-1, -1, views.shape[2]))
            weights, moments = start, {}
            for step in range(1, self.steps + 1):
                gradients = first_slopes(kept) if fresh and step == 1 else slopes(weights, kept)
                weights = adamw(weights, gradients, moments, step, self.lr, self.weight_decay)
            return weights

        def predict(batch: Batch) -> Tensor:
            assert batch.views is not None
            kept, learns = max(1, int(batch.views.shape[1] * self.keep)), layer_size(backbone.dim, self.queries)
            answers = []
            for views in batch.views.split(at_once(max(kept * text.numel(), learns))):
                views = unit(views)  # (E, V, D)
                with phase("adapt"), torch.enable_grad():
                    weights = adapted(views)
                with torch.no_grad():
                    answers.append(rational_logits(weights, views[:, :1], *layer)[0][:, 0])
            return torch.cat(answers)

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return layer_size(backbone.dim, self.queries)


@register("rada-dagger", title="RAda at test time, after few-shot", family="rada")
@dataclass(frozen=True)
class RAdaDagger:
    """RAda's fit (`alpha`, `reg`, `fit_lr`, `fit_weight_decay`, `batch`, `epochs`, `augment`), then RAda's episodes."""

    template: str = TEMPLATE
    alpha: float = 1.0
    reg: str = "linf"
    tau: float = 1.0
    queries: tuple[str, ...] = QUERIES
    heads: int = 8
    fit_lr: float = 5e-5
    fit_weight_decay: float = 5e-4
    batch: int = 32
    epochs: int = 5
    augment: int = 8
    keep: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    weight_decay: float = 1e-2

    needs: ClassVar[frozenset[str]] = frozenset({"features", "views"})
    setting: ClassVar = "few-shot+test-time"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"fit_lr": (5e-5, 6e-4, 6e-3), "lr": (5e-3, 4e-2)}
    identity: ClassVar[dict[str, Any]] = {"epochs": 0, "lr": 0.0}

    def __post_init__(self) -> None:
        self.few_shot()  # names a wrong field

    def few_shot(self) -> RAda:
        return RAda(
            template=self.template,
            alpha=self.alpha,
            reg=self.reg,
            tau=self.tau,
            queries=self.queries,
            heads=self.heads,
            lr=self.fit_lr,
            weight_decay=self.fit_weight_decay,
            batch=self.batch,
            epochs=self.epochs,
            augment=self.augment,
        )

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return self.few_shot().fit(support, backbone, rng)

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        if not state:
            raise NotRunnable("starts from a layer trained on labelled pictures, and this task has none")
        shared = (self.template, self.tau, self.queries, self.heads, self.keep, self.steps, self.lr, self.weight_decay)
        return RAdaTTT(*shared).predictor(state, classes, backbone, rng)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return layer_size(backbone.dim, self.queries)
