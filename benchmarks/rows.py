"""The rows of the table: one benchmark each, plain and ours on the same inputs.

Ours is the code that the harness runs: `OpenClip.prompts` and the methods' `fit` and `predictor` with real supports and
batches. What a side prepares once for all pictures of a task (token embeddings; ours: the first text forward of TPT)
is not in its time, but is in its memory and, where that takes long, in a note.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Batch, Support
from benchmarks import plain
from benchmarks.measure import deviation, relative_deviation, size, tensor_bytes
from benchmarks.setup import Setup, generator
from methods._training import coop_epochs, fork, uniform
from methods.clip_adapter import ClipAdapter
from methods.coop import CoOp
from methods.rada import QUERIES, RAda, RAdaTTT, new_layer
from methods.tpt import TPT

LOGITS, GRADIENTS = 5e-5, 2e-5
"""Deviations that float32 explains: of logits at scale 100, and of gradients relative to the largest."""


@dataclass(frozen=True)
class Row:
    """One comparison. Seconds are those of one unit (an image, a step, a run), memory is bytes.

    memory: "peak", or "saved" for what is kept for the backward pass. logits, gradients: largest deviation of ours
    from plain, gradients relative to the largest; None where a side does not show them. faster, leaner: the targets.
    """

    name: str
    title: str
    plain_s: float
    ours_s: float
    plain_bytes: int
    ours_bytes: int
    logits: float | None = None
    gradients: float | None = None
    memory: str = "peak"
    faster: float = 1.0
    leaner: float | None = None
    note: str = ""

    @property
    def speedup(self) -> float:
        return self.plain_s / self.ours_s

    @property
    def saving(self) -> float:
        return self.plain_bytes / self.ours_bytes

    @property
    def reached(self) -> bool:
        return self.speedup >= self.faster and (self.leaner is None or self.saving >= self.leaner)

    @property
    def exact(self) -> bool:
        """Whether all deviations that could be read are within float32's."""
        return (self.logits or 0) <= LOGITS and (self.gradients or 0) <= GRADIENTS


def text(setup: Setup, kind: str, title: str, faster: float, leaner: float | None) -> list[Row]:
    """Context -> features of K texts -> logits of eight pictures -> cross-entropy -> gradient of the context."""
    backbone, classes = setup.backbone, setup.classes(100, kind)
    start = backbone.embed("a photo of a")
    whole = plain.Prompts(backbone.model, backbone.tokenizer, classes.names, len(start))
    path = backbone.prompts(classes, len(start))
    image = plain.encoded(backbone.model, setup.pictures(8))
    labels = torch.arange(8) % len(classes)

    def step(features: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        context = start.clone().requires_grad_()
        logits = backbone.scale * image @ features(context).T
        (gradient,) = torch.autograd.grad(cross_entropy(logits, labels), context)
        return logits.detach(), gradient

    def slow() -> tuple[Tensor, Tensor]:
        return step(whole)

    def fast() -> tuple[Tensor, Tensor]:
        return step(lambda context: normalize(path(context), dim=-1))

    (expected, slope), plain_bytes = tensor_bytes(slow)
    (logits, gradient), ours_bytes = tensor_bytes(fast)
    plain_s, ours_s = setup.clock([slow, fast], 3)
    return [
        Row(
            f"text-{kind}",
            title,
            plain_s,
            ours_s,
            plain_bytes.peak,
            ours_bytes.peak,
            deviation(logits, expected),
            relative_deviation([gradient], [slope]),
            faster=faster,
            leaner=leaner,
        )
    ]


def tpt(setup: Setup, k: int, faster_encoding: float) -> list[Row]:
    """One picture of 64 views: from the cache, and with their encoding."""
    backbone, classes, method = setup.backbone, setup.classes(k), TPT()
    start = backbone.embed(method.init)
    whole = plain.Prompts(backbone.model, backbone.tokenizer, classes.names, len(start))
    n, count = setup.count(4, 2), setup.count(64, 20)
    pixels = setup.pictures(count)
    views = backbone.encode_images(pixels)
    cached = torch.stack([views, *(views.roll(i, 0) for i in range(1, n))])  # other pictures: another centre crop

    def predictor() -> Callable[[Batch], Tensor]:
        return method.predictor({}, classes, backbone, generator())

    def batch(views: Tensor) -> Batch:
        return Batch(tuple(map(str, range(len(views)))), views[:, 0], views)

    def look(pixels: Tensor) -> Tensor:
        return plain.encoded(backbone.model, pixels)

    def slow() -> Tensor:
        return plain.tpt(look, whole, start, pixels, backbone.scale, method.keep, method.lr)

    def encode() -> Tensor:
        with torch.no_grad():
            return backbone.encode_images(pixels)[None]

    before = time.process_time()
    predict = predictor()
    once = time.process_time() - before
    expected, plain_bytes = tensor_bytes(slow)
    logits, cached_bytes = tensor_bytes(lambda: predictor()(batch(cached)))
    encoding_bytes = tensor_bytes(lambda: predictor()(batch(encode())))[1]
    blocks = [
        slow,
        lambda: (look(pixels), look(pixels[:1])),
        lambda: predict(batch(cached)),
        lambda: predict(batch(encode())),
    ]
    full, looking, ours_cached, ours_encoding = setup.clock(blocks, 2)
    head, ours_cached = full - looking, ours_cached / n
    off, title = deviation(logits[0], expected), f"TPT, a picture, K = {len(classes)}"
    return [
        Row(
            f"tpt-{k}",
            f"{title}, views cached",
            head,
            ours_cached,
            plain_bytes.peak,
            cached_bytes.peak,
            off,
            faster=20,
            note=f"Ours encodes the first prompts once for all pictures ({once:.2g} s, not counted). Against the plain "
            f"episode with its encoding it is {full / ours_cached:.3g} times faster.",
        ),
        Row(
            f"tpt-{k}",
            f"{title}, views encoded",
            full,
            ours_encoding,
            plain_bytes.peak,
            encoding_bytes.peak,
            off,
            faster=faster_encoding,
        ),
    ]


def coop(setup: Setup) -> list[Row]:
    """One step of CoOp on 32 pictures with 16 context tokens: from the cache, and with their encoding."""
    backbone, classes, steps = setup.backbone, setup.classes(100), 2
    init = " ".join(["a photo of a"] * 4)  # 16 tokens, the same for both sides
    start = backbone.embed(init)
    whole = plain.Prompts(backbone.model, backbone.tokenizer, classes.names, len(start))
    pixels = setup.pictures(32)
    labels = torch.arange(32) % len(classes)

    def encode() -> Tensor:
        with torch.no_grad():
            return backbone.encode_images(pixels)

    features = encode()

    def fit(features: Tensor, steps: int) -> Mapping[str, Tensor]:
        method = CoOp(length=len(start), init=init, epochs=steps, augment=0)
        return method.fit(support_of(classes, features, labels), backbone, generator())

    def slow(steps: int) -> Tensor:
        return plain.coop(backbone.model, whole, start, pixels, labels, backbone.scale, steps, CoOp().lr)

    learnt, plain_bytes = tensor_bytes(lambda: slow(steps))
    state, cached_bytes = tensor_bytes(lambda: fit(features, steps))
    encoding_bytes = tensor_bytes(lambda: fit(encode(), steps))[1]
    predict = CoOp(length=len(start)).predictor(state, classes, backbone, generator())
    with torch.no_grad():
        expected = backbone.scale * normalize(features, dim=-1) @ whole(learnt).T
    deviations = (
        deviation(predict(Batch(tuple(map(str, range(32))), features)), expected),
        relative_deviation([state["context"] - start], [learnt - start]),
    )
    blocks = [lambda: slow(1), encode, lambda: fit(features, steps), lambda: fit(encode(), 1)]
    full, looking, ours_cached, ours_encoding = setup.clock(blocks, 2)
    head, ours_cached = full - looking, ours_cached / steps
    title = f"CoOp, a step of 32, M = {len(start)}, K = {len(classes)}"
    return [
        Row(
            "coop",
            f"{title}, features cached",
            head,
            ours_cached,
            plain_bytes.peak,
            cached_bytes.peak,
            *deviations,
            faster=15,
            note=f"The gradient column compares what {steps} steps have learnt. Against the plain step with its "
            f"encoding it is {full / ours_cached:.3g} times faster.",
        ),
        Row(
            "coop",
            f"{title}, pictures encoded",
            full,
            ours_encoding,
            plain_bytes.peak,
            encoding_bytes.peak,
            *deviations,
            faster=4,
        ),
    ]


@dataclass(frozen=True)
class Layers:
    """RAda's layer twice, with the same weights, after some training: Wo is not zero, so that all gradients exist."""

    plain: plain.RAda
    ours: dict[str, Tensor]
    image: Tensor  # (B, D)
    text: Tensor  # (K, D)
    labels: Tensor
    scale: Tensor

    @classmethod
    def build(cls, setup: Setup, k: int, batch: int) -> Layers:
        stored = setup.features_only(k)
        weights = new_layer(setup.dim, QUERIES, generator(), stored.text)
        weights["out.weight"] = uniform((setup.dim, setup.dim), 1e-2, generator(1), stored.text)
        return cls(
            plain.RAda(weights, RAda().heads),
            {name: weight.clone().requires_grad_() for name, weight in weights.items()},
            setup.features(stored.text, batch),
            stored.text,
            torch.arange(batch) % len(stored.text),
            stored.scale,
        )

    def slow(self) -> tuple[Tensor, Tensor]:
        """Loss and logits with their graph."""
        logits, mask = self.plain(self.image, self.text, self.scale)
        return plain.rada_loss(logits, mask, self.labels), logits

    def fast(self) -> tuple[Tensor, Tensor]:
        logits, mask = RAda().logits(self.ours, self.image, self.text, self.scale)
        return plain.rada_loss(logits, mask, self.labels), logits

    def gradients(self, forward: Callable[[], tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Forward and backward: the gradient of every weight by its name."""
        named = self.ours if forward == self.fast else dict(self.plain.maps.named_parameters())
        return dict(zip(named, torch.autograd.grad(forward()[0], list(named.values())), strict=True))


def rada_layer(setup: Setup) -> list[Row]:
    layers = Layers.build(setup, 1000, 4)
    (_, expected), plain_bytes = tensor_bytes(layers.slow)
    (_, logits), ours_bytes = tensor_bytes(layers.fast)
    off = deviation(logits.detach(), expected.detach())
    del logits, expected
    slopes, plain_all = tensor_bytes(lambda: layers.gradients(layers.slow))
    gradients, ours_all = tensor_bytes(lambda: layers.gradients(layers.fast))
    blocks = [lambda: layers.gradients(layers.slow), lambda: layers.gradients(layers.fast)]
    plain_s, ours_s = setup.clock(blocks, 5)
    return [
        Row(
            "rada-layer",
            f"RAda's layer, forward + backward, K = {len(layers.text)}, batch {len(layers.image)}",
            plain_s,
            ours_s,
            plain_bytes.held,
            ours_bytes.held,
            off,
            relative_deviation([gradients[name] for name in slopes], list(slopes.values())),
            memory="saved",
            leaner=10,
            note=f"The peak of both passes is {size(plain_all.peak)} plain and {size(ours_all.peak)} ours.",
        )
    ]


def rada_test_time(setup: Setup) -> list[Row]:
    """One picture of 64 views whose features are given."""
    stored, method = setup.features_only(200), RAdaTTT()
    classes, n, count = setup.classes(200), setup.count(8, 2), setup.count(64, 20)
    views = setup.features(stored.text, n, count)
    weights = new_layer(setup.dim, QUERIES, generator(), stored.text)

    def predictor() -> Callable[[Batch], Tensor]:
        return method.predictor({}, classes, stored, generator())

    def slow() -> Tensor:
        layer = plain.RAda(weights, method.heads)
        return plain.episode(
            lambda seen: layer(seen, stored.text, stored.scale)[0], layer.parameters(), views[0], method.keep, method.lr
        )

    batch = Batch(tuple(map(str, range(n))), views[:, 0], views)
    predict = predictor()
    expected, plain_bytes = tensor_bytes(slow)
    logits, ours_bytes = tensor_bytes(lambda: predictor()(batch))
    slow_s, fast_s = setup.clock([slow, lambda: predict(batch)], 3)
    return [
        Row(
            "rada-ttt",
            f"RAda at test time, a picture of {count} views, head only, K = {len(classes)}",
            slow_s,
            fast_s / n,
            plain_bytes.peak,
            ours_bytes.peak,
            deviation(logits[0], expected),
            faster=20,
        )
    ]


def clip_adapter(setup: Setup) -> list[Row]:
    """A whole run: 16 shots, 200 epochs, batches of 32. Plain is measured for a few steps, ours from end to end."""
    backbone, classes, shots, few = setup.backbone, setup.classes(100), setup.count(16, 7), setup.count(3, 2)
    epochs = setup.count(coop_epochs(shots), 2)
    labels = torch.arange(len(classes)).repeat_interleave(shots)
    steps = epochs * (len(labels) // 32)
    pixels, method = setup.pictures(32), ClipAdapter(augment=0)
    text, wide = backbone.text_features(classes), backbone.dim
    rng = generator()
    fork(rng)
    narrow = wide // method.reduction
    down, up = uniform((narrow, wide), wide**-0.5, rng, text), uniform((wide, narrow), narrow**-0.5, rng, text)

    def slow() -> tuple[Tensor, Tensor]:
        return plain.clip_adapter(
            backbone.model, down, up, pixels, labels[:32], text, backbone.scale, few, method.lr, method.ratio
        )

    @torch.no_grad()
    def encode(batches: int) -> Tensor:
        """Shifted pictures are other pictures, and cost nothing to make."""
        return torch.cat([backbone.encode_images(pixels.roll(7 * i, -1)) for i in range(batches)])

    def fast() -> Mapping[str, Tensor]:
        return fit(encode(-(-len(labels) // 32))[: len(labels)], labels, epochs)

    def fit(features: Tensor, labels: Tensor, epochs: int) -> Mapping[str, Tensor]:
        method = ClipAdapter(augment=0, epochs=epochs)
        return method.fit(support_of(classes, features, labels), backbone, generator())

    (first, second), plain_bytes = tensor_bytes(slow)
    state, ours_bytes = tensor_bytes(lambda: fit(encode(1), labels[:32], few))
    features = encode(1)
    expected, logits = (
        backbone.scale * method.adapted(features, weights) @ text.T
        for weights in ({"down": first, "up": second}, state)
    )
    slow_s, fast_s = setup.clock([slow, fast], 1)
    return [
        Row(
            "clip-adapter",
            f"CLIP-Adapter, whole run, {shots} shots, {epochs} epochs, K = {len(classes)}",
            slow_s / few * steps,
            fast_s,
            plain_bytes.peak,
            ours_bytes.peak,
            deviation(logits, expected),
            relative_deviation([state["down"] - down, state["up"] - up], [first - down, second - up]),
            faster=100,
            note=f"Plain is extrapolated: measured {few} of {steps} steps. Ours is a whole run with its encoding. "
            f"Memory and deviation (in the gradient column: of what was learnt) are those of {few} steps.",
        )
    ]


def support_of(classes: Any, features: Tensor, labels: Tensor) -> Support:
    """A support without augmented views."""
    return Support(classes, features, labels, lambda copies: features[:, None])


ROWS: dict[str, Callable[[Setup], list[Row]]] = {
    "text-imagenet": lambda s: text(
        s, "imagenet", "Text tower, forward + backward, 100 names of ImageNet, M = 4", 15, 8
    ),
    "text-cars": lambda s: text(s, "cars", "the same, 100 names of cars", 5, None),
    "tpt-100": lambda s: tpt(s, 100, 3),
    "tpt-200": lambda s: tpt(s, 200, 5),
    "coop": coop,
    "rada-layer": rada_layer,
    "rada-ttt": rada_test_time,
    "clip-adapter": clip_adapter,
}
