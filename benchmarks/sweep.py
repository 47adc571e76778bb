"""How time and memory grow with the number of classes, and what RAda's attention layer costs beside the rest of CLIP.

The figure has time above memory and RAda's layer beside TPT, against K on logarithmic axes. It reads in grey: the sides
differ in lightness, the batches in dashes and markers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from bench.api import Batch, Predictor
from benchmarks import plain
from benchmarks.measure import MIB, size, tensor_bytes
from benchmarks.rows import Layers
from benchmarks.setup import Setup, generator
from methods.rada import RAda
from methods.tpt import TPT

CLASSES = (10, 100, 1000)
BATCHES = (1, 4, 32)
LAYER, EPISODE = "RAda's layer, forward + backward", "TPT, views cached"
MATRICES = 10  # attention matrices (B, H, K, K) that the plain layer holds at its peak
NUMBERS = 15  # numbers of the tower's width that autograd keeps of a token in a layer, plain


@dataclass(frozen=True)
class Side:
    """seconds of a picture; None where it would not fit the memory, and then `peak` is an estimate. peak: bytes."""

    seconds: float | None
    peak: int


@dataclass(frozen=True)
class Point:
    """One size: what was run (LAYER or EPISODE), for K classes, on a batch of pictures."""

    what: str
    k: int
    batch: int
    plain: Side
    ours: Side


@dataclass(frozen=True)
class Share:
    """layer: seconds of RAda's forward for one picture; text: of encoding the K prompts once."""

    k: int
    layer: float
    text: float


@dataclass(frozen=True)
class Sweep:
    """image: seconds of encoding one picture."""

    points: tuple[Point, ...]
    shares: tuple[Share, ...]
    image: float

    def tables(self) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
        """Title, headers and entries."""
        grown = ("", "K", "batch", "plain, ms a picture", "ours", "plain, peak memory", "ours")
        beside = ("K", "layer, ms a picture", "% of encoding the picture", "encoding K prompts, ms", "% of that")
        return [
            (
                "Time of a picture, peak memory of its batch. What does not fit is estimated.",
                grown,
                [
                    [
                        *(p.what, str(p.k), str(p.batch)),
                        *(_milliseconds(side.seconds) for side in (p.plain, p.ours)),
                        *(size(side.peak) for side in (p.plain, p.ours)),
                    ]
                    for p in self.points
                ],
            ),
            (
                "What the layer adds to answering one picture.",
                beside,
                [
                    [
                        *(str(s.k), _milliseconds(s.layer), f"{100 * s.layer / self.image:.3g}"),
                        *(_milliseconds(s.text), f"{100 * s.layer / s.text:.3g}"),
                    ]
                    for s in self.shares
                ],
            ),
        ]

    def answer(self) -> str:
        """What the attention layer costs, in sentences."""
        few, *_, many = self.shares
        return (
            f"Encoding a picture takes {_milliseconds(self.image)} ms. To that the layer adds "
            f"{100 * few.layer / self.image:.3g} % for {few.k} classes and {100 * many.layer / self.image:.3g} % for "
            f"{many.k}: its products of K x K entries grow with the square of K, all else in it linearly. Prompts are "
            f"encoded once for all pictures."
        )


def sweep(setup: Setup) -> Sweep:
    """Measures everything."""
    sizes = (2, 3, 5) if setup.quick else CLASSES
    points = [layer_point(setup, k, batch) for k in sizes for batch in BATCHES]
    points += [episode_point(setup, k) for k in sizes]
    pixels = setup.pictures(1)
    with torch.no_grad():
        (image,) = setup.clock([lambda: setup.backbone.encode_images(pixels)], 3)
    return Sweep(tuple(points), tuple(share(setup, k) for k in sizes), image)


def layer_point(setup: Setup, k: int, batch: int) -> Point:
    layers = Layers.build(setup, k, batch)
    needed = 4 * MATRICES * batch * RAda().heads * len(layers.text) ** 2

    def run(forward: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[], object]:
        return lambda: layers.gradients(forward)

    ours, slow = run(layers.fast), run(layers.slow) if _fits(needed) else None
    return Point(LAYER, len(layers.text), batch, *_sides(setup, slow, ours, ours, needed, batch))


def episode_point(setup: Setup, k: int) -> Point:
    """TPT on one picture whose views are given."""
    backbone, classes, method = setup.backbone, setup.classes(k), TPT()
    model, start = backbone.model, backbone.embed(method.init)
    views = backbone.encode_images(setup.pictures(setup.count(64, 20)))
    batch, unit = Batch(("picture",), views[:1], views[None]), normalize(views, dim=-1)
    layers, wide = len(model.transformer.resblocks), start.shape[1]
    needed = 4 * NUMBERS * len(classes) * model.context_length * wide * layers

    def predictor() -> Predictor:
        return method.predictor({}, classes, backbone, generator())

    whole, predict = plain.Prompts(model, backbone.tokenizer, classes.names, len(start)), predictor()

    def slow() -> Tensor:
        return plain.tpt(lambda seen: seen, whole, start, unit, backbone.scale, method.keep, method.lr)

    fitting = slow if _fits(needed) else None
    sides = _sides(setup, fitting, lambda: predict(batch), lambda: predictor()(batch), needed, 1)
    return Point(EPISODE, len(classes), 1, *sides)


def share(setup: Setup, k: int) -> Share:
    layers, context = Layers.build(setup, k, 1), setup.backbone.embed("a photo of a")
    prompts = setup.backbone.prompts(setup.classes(k), len(context))
    with torch.no_grad():
        return Share(len(layers.text), *setup.clock([layers.fast, lambda: prompts(context)], 3))


def _sides(
    setup: Setup,
    slow: Callable[[], object] | None,
    fast: Callable[[], object],
    whole: Callable[[], object],
    needed: int,
    batch: int,
) -> tuple[Side, Side]:
    """Plain, unless it does not fit, and ours, whose memory is that of `whole`: its preparation included."""
    ours_peak = tensor_bytes(whole)[1].peak
    if slow is None:
        (seconds,) = setup.clock([fast], 2)
        return Side(None, needed), Side(seconds / batch, ours_peak)
    plain_peak = tensor_bytes(slow)[1].peak
    plain_s, ours_s = setup.clock([slow, fast], 2)
    return Side(plain_s / batch, plain_peak), Side(ours_s / batch, ours_peak)


def _fits(count: int) -> bool:
    """Whether so many bytes are at hand, with as many to spare."""
    return 2 * count < psutil.virtual_memory().available


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "does not fit"
    return f"{seconds * 1e3:.0f}" if seconds >= 1 else f"{seconds * 1e3:.3g}"


# -- the figure -------------------------------------------------------------------------------------------------------

TIME, MEMORY = "seconds a picture", "peak memory, MiB"


def draw(swept: Sweep, stem: Path) -> None:
    """Writes stem.pdf and stem.png."""
    rows = [
        {"what": p.what, "K": p.k, "batch": str(p.batch), "": name, TIME: side.seconds, MEMORY: side.peak / MIB}
        for p in swept.points
        for name, side in (("ours", p.ours), ("plain", p.plain))
        if side.seconds is not None
    ]
    frame, sizes = pd.DataFrame(rows), sorted({p.k for p in swept.points})
    batches = [str(batch) for batch in BATCHES]
    with sns.axes_style("whitegrid"), sns.plotting_context("paper", font_scale=1.1):
        figure = Figure(figsize=(7, 5.5), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey="row")
        for measure, line in zip((TIME, MEMORY), panels, strict=True):
            for what, axis in zip((LAYER, EPISODE), line, strict=True):
                sns.lineplot(
                    frame.query("what == @what"),
                    x="K",
                    y=measure,
                    hue="",
                    palette={"ours": "#08306b", "plain": "#f0803c"},  # dark and light, so they differ in grey
                    style="batch",
                    style_order=batches,
                    markers=["o", "s", "^"],
                    markersize=7,
                    ax=axis,
                )
                axis.set(xscale="log", yscale="log", xlabel="classes K")
                axis.set_xticks(sizes, [str(k) for k in sizes])
                axis.minorticks_off()
                if measure == TIME:
                    axis.set_title(what)
                    axis.axhline(swept.image, color="0.4", linestyle=":")
                    axis.annotate(
                        "encoding a picture",
                        (0, swept.image),
                        (3, 3),
                        xycoords=("axes fraction", "data"),
                        textcoords="offset points",
                        ha="left",
                        color="0.3",
                        fontsize="small",
                    )
                axis.get_legend().remove()
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(stem.with_suffix(".pdf"))
        figure.savefig(stem.with_suffix(".png"), dpi=200)
