"""How figures look on paper: one theme, and labels beside what they name."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib import font_manager, patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from bench.report.looks import INK

WIDTH = 6.9
"""Inches between the margins of a page."""
PALE = "#8a8a8a"
KEPT = {"backend", "backend_fallback", "interactive", "toolbar", "timezone", "date.epoch", "webagg.port"}
"""Settings of the program around us that drawing does not depend on."""


@contextmanager
def applied() -> Iterator[None]:
    """The theme, for figures that are made and saved inside, whatever the user's own settings are."""
    theme = {
        **mpl.rcParamsDefault,
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",  # comes with matplotlib, so it is there everywhere
        "font.size": 7.5,
        "axes.labelsize": 7.5,
        "axes.titlesize": 7.5,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.6,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "text.parse_math": False,  # a dollar in a name is a dollar
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.minor.size": 1.5,
        "xtick.minor.width": 0.4,
        "legend.frameon": False,
        "legend.fontsize": 7,
        "lines.linewidth": 1.2,
        "lines.markersize": 4,
        "hatch.linewidth": 0.5,
        "pdf.fonttype": 42,  # text stays text
        "savefig.dpi": 200,
        "figure.dpi": 100,
    }
    with mpl.rc_context():
        mpl.rcParams.update({key: value for key, value in theme.items() if key not in KEPT})  # type: ignore[misc]
        yield


def new(height: float, width: float = WIDTH) -> Figure:
    """A figure of its own, which no global state knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Lay the figure out for good: what is added afterwards moves nothing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def saved(figure: Figure, title: str, caption: str) -> Iterator[tuple[str, bytes]]:
    """The figure as pdf and as png, without a date or the version of a program."""
    about = {
        "pdf": {"Title": title, "Subject": caption, "CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Title": title, "Description": caption, "Software": None},
    }
    for kind, metadata in about.items():
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, metadata=metadata)
        yield kind, stream.getvalue()


def tidy(axes: Axes, grid: str = "y") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.5)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def percent(x: float | None) -> float:
    return math.nan if x is None else 100 * x


def columns(count: int) -> int:
    """How many panels stand side by side: few enough to read, with few places left empty."""
    return count if count < 4 else min((4, 3, 5), key=lambda n: -count % n)


# -- names ------------------------------------------------------------------------------------------------------------


def name(text: str, limit: int = 60) -> str:
    """The text as the font can show it; a character that it lacks is named by its code point rather than lost."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if ord(c) in _glyphs() else f"[U+{ord(c):04X}]" for c in text)


@functools.cache
def _glyphs() -> frozenset[int]:
    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans"))
    return frozenset(font_manager.get_font(path).get_charmap())


def title(text: str, limit: int) -> str:
    """The name on at most two lines of so many letters."""
    return textwrap.fill(name(text, 4 * limit), limit, max_lines=2, placeholder=" …", break_on_hyphens=False)


def ink(colour: str) -> tuple[float, float, float]:
    """The colour as dark as text has to be."""
    red, green, blue = to_rgb(colour)
    return 0.72 * red, 0.72 * green, 0.72 * blue


HALO: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=2, foreground="white")]


def width(figure: Figure, texts: Sequence[str], size: float) -> float:
    """Inches that the longest of these names takes."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    drawn = [figure.text(0, 0, text, fontsize=size) for text in texts]
    widest = max(text.get_window_extent(renderer).width for text in drawn) / figure.dpi
    for text in drawn:
        text.remove()
    return widest


def beside(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 7) -> None:
    """Names (x, y, text, colour) at the right edge, as near to the ends' y as they can stand without touching."""
    figure, box = axes.figure, axes.get_window_extent()
    ends = sorted(ends, key=lambda end: end[1])
    gap = 1.2 * size * figure.dpi / 72
    at = axes.transData.transform([end[:2] for end in ends])
    steps = gap * np.arange(len(ends))
    places = isotonic_regression(at[:, 1] - steps).x + steps  # the least moves that keep the order and the gap
    over = max(0.0, places[-1] - box.y1)
    places = places - min(over, max(0.0, places[0] - box.y0))
    for (x, y, text, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name(text, 40),
            (x, y),
            (1.03, (place - box.y0) / box.height),
            textcoords="axes fraction",
            fontsize=size,
            color=ink(colour),
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2},
        )


COMPASS = [(math.cos(a), math.sin(a)) for a in np.radians([0, 180, 45, 315, 135, 225, 90, 270, 22, 338, 158, 202])]
DISTANCES = (5, 9, 15, 23, 33)


def label(axes: Axes, names: Sequence[tuple[float, float, str, str]], bars: Sequence[Bbox], size: float = 7) -> None:
    """Names (x, y, text, colour) around their points: where they cover least of points, bars and each other, and where
    no other point is nearer than their own.

    bars: what else should stay visible, in pixels.
    """
    figure, frame = axes.figure, axes.get_window_extent()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    point, back = figure.dpi / 72, axes.transData.inverted()
    spots = axes.transData.transform([spot[:2] for spot in names])
    dots = [Bbox.from_bounds(x - 3 * point, y - 3 * point, 6 * point, 6 * point) for x, y in spots]
    taken: list[Bbox] = []

    def price(own: int, box: Bbox, distance: float) -> float:
        covered = 8 * sum(_overlap(box, other) for other in taken + dots)
        covered += 1.5 * sum(_overlap(box, other) for other in bars)
        nearest = min((_gap(box, spot) for i, spot in enumerate(spots) if i != own), default=math.inf)
        strange = max(0.0, _gap(box, spots[own]) - nearest)
        outside = box.width * box.height - _overlap(box, frame)
        return covered + 40 * outside + 4 * distance * point + 25 * point * strange

    for i in sorted(range(len(names)), key=lambda i: (-spots[i][1], spots[i][0])):
        _, _, text, colour = names[i]
        drawn = axes.text(0, 0, name(text, 40), fontsize=size, color=ink(colour), va="bottom", zorder=5)
        drawn.set_path_effects(HALO)
        extent = drawn.get_window_extent(renderer)
        boxes = [
            (_around(spots[i], distance * point, dx, dy, extent), distance)
            for distance in DISTANCES
            for dx, dy in COMPASS
        ]
        box, distance = min(boxes, key=lambda pair, own=i: price(own, *pair))
        taken.append(box)
        x, y = back.transform((box.x0, box.y0))
        drawn.set_position((x, y))
        if distance > 9:
            ends = back.transform([spots[i], np.clip(spots[i], box.min, box.max)])
            axes.plot(*ends.T, color=colour, linewidth=0.5, zorder=1)


def _around(spot: np.ndarray, distance: float, dx: float, dy: float, extent: Bbox) -> Bbox:
    """The box of a text that lies in that direction of a point."""
    x, y = (0.0 if d > 0.3 else 1.0 if d < -0.3 else 0.5 for d in (dx, dy))
    left, bottom = spot[0] + distance * dx - x * extent.width, spot[1] + distance * dy - y * extent.height
    return Bbox.from_bounds(left, bottom, extent.width, extent.height)


def _gap(box: Bbox, spot: np.ndarray) -> float:
    """How far the spot lies from the box."""
    return float(np.hypot(*(spot - np.clip(spot, box.min, box.max))))


def _overlap(a: Bbox, b: Bbox) -> float:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0
