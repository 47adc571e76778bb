"""RAda: one last attention over the rational matrix (Chen, Ahmad, Yao, Liu and Shen, "One Last Attention for Your
Vision-Language Model", ICCV 2025; https://github.com/khufia/RAda for few-shot; the test-time forms are reconstructions
from the paper's text, whose code is not public).

R[b, k] = f_b * h_k, elementwise, is the rational matrix (B, K, D); s times its sum over D is CLIP's logit. One
attention layer over the K classes as tokens, with H heads of d = D/H, weighs its entries:

    Q_1 = Wq1(sqrt(s) f_b), Q_2 = Wq2(sqrt(s) h_k), Q_3 = Wq3(s R), Key = Wk(s R), Value = Wv(s R)
    A_j = K softmax over all K x K entries of Q_j Key^T / (tau sqrt(d))              each image, each head
    M = relu(1 + Wo((A_1 + A_2 + A_3)/3 Value)),    logits = s sum over D of M * R
    loss = cross-entropy + alpha reg(M)

Wo starts at zero, so M = 1 and the logits are CLIP's. Row k of A_j is that row's own softmax times its share of the
total mass, exp(row logsumexp - total logsumexp): so it is computed, and so Q_1, whose rows are all equal, needs only
one. 6 (D^2 + D) parameters, 1 575 936 at D = 512. Every logit depends on all candidate classes.

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
from torch.utils.checkpoint import checkpoint

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
from methods._training import adamw, confident, entropy_of_mean, fork, train, training_views, uniform

TEMPLATE = "a photo of a {}."
QUERIES = ("image", "text", "matrix")
ROW_BLOCK = 2**25  # attention entries held at once; more rows are recomputed block by block
REGULARISERS = {
    "linf": lambda off: off.abs().flatten(1).max(1).values.mean(),  # mean over images of the largest |M - 1|
    "mse": lambda off: off.square().mean(),
    "l1": lambda off: off.abs().mean(),
    "none": lambda off: off.new_zeros(()),
}


def new_layer(dim: int, queries: tuple[str, ...], rng: torch.Generator, like: Tensor) -> dict[str, Tensor]:
    """The layer's weights: torch's default Linear initialisation, the output map zero."""
    weights = {}
    for name in (*queries, "key", "value"):
        weights[f"{name}.weight"] = uniform((dim, dim), dim**-0.5, rng, like)
        weights[f"{name}.bias"] = uniform((dim,), dim**-0.5, rng, like)
    return weights | {"out.weight": like.new_zeros(dim, dim), "out.bias": like.new_zeros(dim)}


def layer_size(dim: int, queries: tuple[str, ...]) -> int:
    return (len(queries) + 3) * (dim * dim + dim)


def rational_logits(
    weights: State, image: Tensor, text: Tensor, scale: Tensor, heads: int, queries: tuple[str, ...], tau: float
) -> tuple[Tensor, Tensor]:
    """image (B, D), text (K, D), both unit -> logits (B, K), mask M (B, K, D)."""
    dim = image.shape[1]
    if dim % heads:
        raise NotRunnable(f"{heads} heads do not divide the {dim} dimensions of the features: set the field heads")

    def project(name: str, x: Tensor) -> Tensor:  # (..., rows, D) -> (..., H, rows, d)
        x = linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
        return x.unflatten(-1, (heads, dim // heads)).transpose(-2, -3)

    rational = image[:, None] * text  # (B, K, D)
    scaled = scale * rational
    # One row a picture, K rows for all pictures, K rows a picture
    source = {"image": scale.sqrt() * image[:, None], "text": scale.sqrt() * text, "matrix": scaled}
    key, value = project("key", scaled), project("value", scaled)  # (B, H, K, d)
    factor = 1 / (tau * (dim // heads) ** 0.5)
    mixed = sum(attend(project(name, source[name]), key, value, factor) for name in queries) / len(queries)
    assert isinstance(mixed, Tensor)  # (B, H, 1 or K, d)
    delta = linear(mixed.transpose(1, 2).flatten(2), weights["out.weight"], weights["out.bias"])  # (B, 1 or K, D)
    mask = (1 + delta).relu().expand_as(rational)
    return scale * (mask * rational).sum(-1), mask


def attend(query: Tensor, key: Tensor, value: Tensor, factor: float) -> Tensor:
    """K softmax over all entries of factor Q Key^T, times Value; query (.., H, K, d), or one row for K equal ones."""
    rows = query.shape[-2]
    block = max(1, ROW_BLOCK // (key.shape[:-1].numel()))
    if rows <= block:
        mixed, mass = _rows(query, key, value, factor)
    else:
        blocks = [checkpoint(_rows, q, key, value, factor, use_reentrant=False) for q in query.split(block, -2)]
        mixed, mass = (torch.cat(part, -2) for part in zip(*blocks, strict=True))  # type: ignore[arg-type]
    return mixed * ((mass - mass.logsumexp(-2, keepdim=True)).exp() * rows)


def _rows(query: Tensor, key: Tensor, value: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Each row's own softmax times Value (B, H, rows, d), and the logarithm of its mass (B, H, rows, 1)."""
    scores = (query * factor) @ key.mT  # (B, H, rows, K)
    top = scores.detach().amax(-1, keepdim=True)  # cancels in both results, so it needs no gradient
    terms = scores.sub_(top).exp_()
    total = terms.sum(-1, keepdim=True)
    return terms @ value / total, top + total.log()


def _check(queries: tuple[str, ...]) -> None:
    for query in queries:
        if query not in QUERIES:
            raise UserError(f"rada has no query {query!r}: {nearest(query, QUERIES)}")
    if not queries or len(set(queries)) < len(queries):
        raise UserError(f"rada needs queries, each once, out of {', '.join(QUERIES)}.")


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

    def __post_init__(self) -> None:
        _check(self.queries)
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
        order, like, dim = fork(rng), support.features, backbone.dim
        weights = new_layer(dim, self.queries, rng, like)
        if self.adapter != "none":
            for side in ("image", "text"):
                weights[f"{side}.down"] = uniform((dim // 4, dim), dim**-0.5, rng, like)
                weights[f"{side}.up"] = like.new_zeros(dim, dim // 4)
        for weight in weights.values():
            weight.requires_grad_()
        text = backbone.text_features(support.classes, (self.template,))  # (K, D)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            logits, mask = self.logits(weights, normalize(features, dim=-1), text, backbone.scale)
            return cross_entropy(logits, labels) + self.alpha * REGULARISERS[self.reg](mask - 1)

        optimiser = torch.optim.Adam(weights.values(), self.lr, weight_decay=self.weight_decay)
        views = training_views(support, min(self.augment, self.epochs))
        train(loss, views, support.labels, optimiser, batch=self.batch, epochs=self.epochs, rng=order)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = backbone.text_features(classes, (self.template,))

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            pieces = normalize(batch.features, dim=-1).split(self.batch)  # R is B K D numbers: keep B small
            return torch.cat([self.logits(state, piece, text, backbone.scale)[0] for piece in pieces])

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

    def __post_init__(self) -> None:
        _check(self.queries)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        """Starts from the layer in `state` where there is one, else from a new one, the same for all pictures."""
        text, scale = backbone.text_features(classes, (self.template,)), backbone.scale
        start = state or new_layer(backbone.dim, self.queries, rng, text)
        fresh = not start["out.weight"].any()
        initial_is_clip = fresh and not start["out.bias"].any()  # M = 1: CLIP's logits exactly, without the layer

        def logits(weights: State, image: Tensor) -> Tensor:
            return rational_logits(weights, image, text, scale, self.heads, self.queries, self.tau)[0]

        def adapted(views: Tensor) -> State:
            """The layer after this picture's steps; views (V, D) unit."""
            with torch.no_grad():
                if initial_is_clip:
                    first = scale * views @ text.T
                else:  # a few at a time, which fits the processor's cache
                    first = torch.cat([logits(start, few) for few in views.split(8)])
            kept, weights, moments = views[confident(first, self.keep)], start, {}
            for step in range(1, self.steps + 1):
                # behind a zero output map every other gradient is exactly zero, so it need not be computed
                names = ("out.weight", "out.bias") if fresh and step == 1 else tuple(weights)
                leaves = {name: weights[name].detach().requires_grad_() for name in names}
                loss = entropy_of_mean(logits({**weights, **leaves}, kept))
                slopes = torch.autograd.grad(loss, list(leaves.values()))
                gradients = dict(zip(names, slopes, strict=True))
                weights = adamw(weights, gradients, moments, step, self.lr, self.weight_decay)
            return weights

        def predict(batch: Batch) -> Tensor:
            assert batch.views is not None
            answers = []
            for views in normalize(batch.views, dim=-1):  # (V, D)
                with phase("adapt"), torch.enable_grad():
                    weights = adapted(views)
                with torch.no_grad():
                    answers.append(logits(weights, views[:1])[0])
            return torch.stack(answers)

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
