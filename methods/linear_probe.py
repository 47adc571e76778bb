"""Linear probes on frozen image features. None transfers: a weight row belongs to a class it was fitted on.

lp, the protocol of CLIP's authors and of CoOp's `lpclip` (Radford et al., ICML 2021; Zhou et al., IJCV 2022):

    min over W, b of   |W|^2 / 2 + C sum of CE(f W^T + b)        f (n, D) not normalised, W (K, D), b (K) free

by L-BFGS. C is the best of 1e6, 1e4, ..., 1e-6 on the few validation pictures, refined by 8 bisection steps in log10
between a tenth of it and ten times it. It knows no text, so it is far below zero-shot at 1 shot.

zs-lp and clap (Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR
2024, https://github.com/jusiro/CLAP) start from the text features T:

    logits = s norm(f) norm(W_k)^T, W = T at the start,    loss = CE + mean over k of a_k |W_k - T_k|^2

a_k is 0 for zs-lp; for CLAP it is the mean zero-shot probability of the true class over the support of class k. They
train on the pool of 20 augmented views of each picture.

    python -m bench run --methods linear-probe --suite few-shot
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from bench.api import Backbone, Classes, NotRunnable, Predictor, State, Support, register
from methods._training import fork, train, training_views


@register("lp", title="Linear probe", family="linear-probe")
@dataclass(frozen=True)
class LinearProbe:
    """C: inverse regularisation; None chooses it by the validation pictures (`coarse` values, then `bisections`).

    tolerance: largest entry of the gradient of the mean loss at which the solver stops, scikit-learn's default.
    """

    C: float | None = None
    coarse: tuple[float, ...] = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
    bisections: int = 8
    iterations: int = 1000
    tolerance: float = 1e-4

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}  # its own search on the few validation pictures is all

    @property
    def selection(self) -> str:
        return "few-val" if self.C is None else "fixed"

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        solve = Solver(support, self.iterations, self.tolerance)
        weight, bias = solve(self.C) if self.C is not None else self._search(solve, support.val)
        return {"weight": weight.to(support.features), "bias": bias.to(support.features)}

    def _search(self, solve: Solver, val: Support | None) -> tuple[Tensor, Tensor]:
        if val is None or not len(val.labels):
            raise NotRunnable("chooses C on validation pictures, and this task has none: set the field C")
        solved: dict[float, tuple[Tensor, Tensor]] = {}
        right: dict[float, int] = {}

        def score(C: float) -> int:
            if C not in solved:
                weight, bias = solved[C] = solve(C)
                right[C] = int(((val.features.double() @ weight.T + bias).argmax(1) == val.labels).sum())
            return right[C]

        for C in sorted(self.coarse):  # from strong to weak regularisation each solution is a good start for the next
            score(C)
        peak = max(self.coarse, key=score)  # of equals the first, as in the release
        low, high = peak / 10, peak * 10
        best = peak
        for _ in range(self.bisections):
            middle = (low * high) ** 0.5
            if score(low) < score(high):
                best, low = high, middle
            else:
                best, high = low, middle
        return solved[best]

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        _check(state, classes)
        return lambda batch: batch.features @ state["weight"].T + state["bias"]

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return classes * (backbone.dim + 1)


class Solver:
    """L-BFGS for one support and many C, in float64, each solution started from the one before.

    It works on coordinates in which the problem is nearly round: centred features (the free intercept absorbs the mean)
    in their principal axes, each scaled by the curvature it has at the start, its variance / K + 1 / (C n). The minimum
    is the same and takes far fewer iterations.
    """

    def __init__(self, support: Support, iterations: int, tolerance: float) -> None:
        features = support.features.double()
        self.iterations, self.tolerance = iterations, tolerance
        self.mean = features.mean(0)
        left, spread, self.axes = torch.linalg.svd(features - self.mean, full_matrices=False)
        self.n, self.k = len(features), len(support.classes)
        self.coordinates = left * spread  # (n, r)
        self.variance = spread**2 / self.n
        self.target = one_hot(support.labels, self.k).double()
        self.weight = features.new_zeros(self.k, len(spread))  # in principal axes
        self.bias = features.new_zeros(self.k)

    def __call__(self, C: float) -> tuple[Tensor, Tensor]:
        decay = 1 / (C * self.n)  # the problem divided by C n: mean CE + decay |W|^2 / 2
        scale = torch.cat([(self.variance / self.k + decay) ** -0.5, self.variance.new_tensor([self.k**0.5])])
        inputs = torch.cat([self.coordinates, self.coordinates.new_ones(self.n, 1)], 1) * scale  # (n, r + 1)
        ridge = decay * scale**2
        ridge[-1] = 0  # the intercept is free
        u = (torch.cat([self.weight, self.bias[:, None]], 1) / scale).requires_grad_()  # (K, r + 1)

        def closure() -> Tensor:
            with torch.no_grad():
                logits = inputs @ u.T
                log_p = logits.log_softmax(1)
                u.grad = (log_p.exp() - self.target).T @ inputs / self.n + ridge * u
                return -(log_p * self.target).sum() / self.n + (ridge * u * u).sum() / 2

        optimiser = torch.optim.LBFGS(
            [u],
            max_iter=self.iterations,
            max_eval=10 * self.iterations,
            tolerance_grad=self.tolerance,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimiser.step(closure)
        solution = u.detach() * scale
        self.weight, self.bias = solution[:, :-1], solution[:, -1]
        weight = self.weight @ self.axes
        return weight, self.bias - weight @ self.mean


@register("zs-lp", title="Linear probe from the text (ZS-LP)", family="linear-probe")
@dataclass(frozen=True)
class TextProbe:
    """augment: augmented views of each picture in the pool that an epoch passes over."""

    lr: float = 0.1
    momentum: float = 0.9
    batch: int = 256
    epochs: int = 300
    augment: int = 20

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)}
    identity: ClassVar[dict[str, Any]] = {"epochs": 0}

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {"weight": _from_text(self, support, backbone, rng, constrained=False)}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        _check(state, classes)
        weight = normalize(state["weight"], dim=-1)
        return lambda batch: backbone.scale * normalize(batch.features, dim=-1) @ weight.T

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return classes * backbone.dim


@register("clap", title="CLAP", family="linear-probe")
@dataclass(frozen=True)
class CLAP:
    """The fields of ZS-LP. Its authors' point is that the same values serve every data set."""

    lr: float = 0.1
    momentum: float = 0.9
    batch: int = 256
    epochs: int = 300
    augment: int = 20

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = False
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}  # no selection at all is the method's claim
    identity: ClassVar[dict[str, Any]] = {"epochs": 0}

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {"weight": _from_text(self, support, backbone, rng, constrained=True)}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        return TextProbe().predictor(state, classes, backbone, rng)

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return classes * backbone.dim


def _from_text(form: TextProbe | CLAP, support: Support, backbone: Backbone, rng, constrained: bool) -> Tensor:
    """The class weights (K, D) after training; `constrained` keeps those near their text that zero-shot gets right."""
    text = backbone.text_features(support.classes)
    views = training_views(support, form.augment)  # (n, c, D)
    pool, labels = normalize(views.flatten(0, 1), dim=-1), support.labels.repeat_interleave(views.shape[1])
    weight = text.clone().requires_grad_()
    price = class_prices(backbone.scale * pool @ text.T, labels) if constrained else None

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        logits = backbone.scale * features @ normalize(weight, dim=-1).T
        value = cross_entropy(logits, labels)
        return value if price is None else value + (price * (weight - text).square().sum(1)).mean()

    optimiser = torch.optim.SGD([weight], form.lr, form.momentum, fused=True)
    train(loss, pool[:, None], labels, optimiser, batch=form.batch, epochs=form.epochs, rng=fork(rng))
    return weight.detach()


def class_prices(logits: Tensor, labels: Tensor) -> Tensor:
    """CLAP's a_k (K): the mean probability of class k over the pictures that show it; 0 where none does."""
    member = one_hot(labels, logits.shape[1]).to(logits)
    return (logits.softmax(1) * member).sum(0) / member.sum(0).clamp(min=1)


def _check(state: State, classes: Classes) -> None:
    if len(state["weight"]) != len(classes):
        raise NotRunnable("a linear probe is tied to the classes it was fitted on")
