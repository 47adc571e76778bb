"""One function for each chart: plain data in, a matplotlib figure out. Accuracies are drawn in percent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from bench.figures import style
from bench.figures.style import HALO, PALE, WIDTH, percent
from bench.report.looks import COLOURS, INK, SETTINGS, Look, looks_of
from bench.report.model import Chart, Leaderboard, Panel, Point
from bench.stats import ALPHA


def cost(board: Leaderboard, chart: Chart) -> Figure:
    """Accuracy over time on a logarithmic axis; filled: on the Pareto front."""
    figure = style.new(3.4)
    axes = figure.subplots()
    points, front = chart.panels[0].points, chart.joined[0]
    for point in points:
        look = _kind(board, point)
        _bar(axes, point.x, point, look.colour, alpha=0.45)
        fill = look.colour if point.row in front else "white"
        axes.plot(point.x, percent(point.y.value), look.marker, color=look.colour, mfc=fill, ms=5.5, zorder=3)
    axes.set_xscale("log")
    _decades(axes, [p.x for p in points])
    axes.margins(y=0.12)
    line = sorted((p.x, percent(p.y.value)) for p in points if p.row in front)
    line.append((axes.get_xlim()[1], line[-1][1]))
    axes.plot(*zip(*line, strict=True), drawstyle="steps-post", color=PALE, linewidth=0.9, zorder=1)
    axes.set(xlabel=chart.x, ylabel=chart.y)
    style.tidy(axes, "both")
    _key(figure, board, points, Line2D([], [], color=PALE, lw=0.9, marker="o", mfc=PALE, ms=5, label="Pareto front"))
    style.settle(figure)
    bars = [_extent(axes, p) for p in points]
    steps = axes.transData.transform(line)
    bars += [Bbox([[x - 1, y - 2], [end, y + 2]]) for (x, y), (end, _) in itertools.pairwise(steps)]
    _names(axes, board, points, bars)
    return figure


def size(board: Leaderboard, chart: Chart) -> Figure:
    """A panel above the other, accuracy over trained parameters; rows with equally many stand side by side."""
    figure = style.new(2.5 * len(chart.panels) + 0.3)
    grid = figure.subplots(len(chart.panels), 1, sharex=True, squeeze=False)[:, 0]
    beside = [[replace(p, x=p.x + 0.035 * _among(panel.points, p)) for p in panel.points] for panel in chart.panels]
    for axes, panel, points in zip(grid, chart.panels, beside, strict=True):
        for point in points:
            look = _kind(board, point)
            _bar(axes, point.x, point, look.colour, alpha=0.45)
            axes.plot(point.x, percent(point.y.value), look.marker, color=look.colour, ms=5, zorder=3)
        axes.margins(x=0.1, y=0.12)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high + 0.12 * (high - low))  # names stand at the right of their points
        axes.set_title(style.name(panel.title))
        axes.set_ylabel(chart.y)
        _ticks(axes, chart)
        style.tidy(axes, "both")
    grid[-1].set_xlabel(chart.x)
    _key(figure, board, chart.panels[0].points)
    style.settle(figure)
    for axes, points in zip(grid, beside, strict=True):
        _names(axes, board, points, [_extent(axes, point) for point in points])
    return figure


def robustness(board: Leaderboard, chart: Chart) -> Figure:
    """Accuracy under shift over accuracy in distribution, with lines along the rows of one method."""
    figure = style.new(3.6)
    axes = figure.subplots()
    points = chart.panels[0].points
    at = {point.row: (point.x, percent(point.y.value)) for point in points}
    for rows in chart.joined:
        axes.plot(*zip(*(at[row] for row in rows), strict=True), color=PALE, lw=0.9, zorder=1)
    for point in points:
        look = _kind(board, point)
        _bar(axes, point.x, point, look.colour, alpha=0.45)
        axes.plot(*at[point.row], look.marker, color=look.colour, ms=5, zorder=3)
    axes.margins(x=0.12, y=0.12)
    axes.set(xlabel=chart.x, ylabel=chart.y)
    style.tidy(axes, "both")
    _key(figure, board, points)
    style.settle(figure)
    _names(axes, board, points, [_extent(axes, point) for point in points])
    return figure


def _among(points: Sequence[Point], point: Point) -> float:
    """Where a point stands beside the others at its x: around 0."""
    rows = [other.row for other in points if other.x == point.x]
    return rows.index(point.row) - (len(rows) - 1) / 2


def _kind(board: Leaderboard, point: Point) -> Look:
    """The look of the kind of method that a row is."""
    return SETTINGS.get(board.rows[point.row].facts.get("setting", ""), SETTINGS["zero-shot"])


def _key(figure: Figure, board: Leaderboard, points: Sequence[Point], *more: Line2D) -> None:
    """What the kinds of methods look like, above the figure."""
    there = {board.rows[point.row].facts.get("setting", "") for point in points}
    kinds = [(kind, look) for kind, look in SETTINGS.items() if kind in there]
    key = [Line2D([], [], color=look.colour, marker=look.marker, ls="", ms=5, label=kind) for kind, look in kinds]
    key += more
    figure.legend(handles=key, loc="outside upper left", ncols=len(key), handletextpad=0.3, columnspacing=1.2)


def _names(axes: Axes, board: Leaderboard, points: Sequence[Point], taken: Sequence[Bbox]) -> None:
    """The rows' titles beside their points, off what is taken."""
    names = [(p.x, percent(p.y.value), board.rows[p.row].title, _kind(board, p).colour) for p in points]
    style.label(axes, names, taken)


def _decades(axes: Axes, xs: Sequence[float]) -> None:
    """Room at both ends of a logarithmic axis, and ticks that are numbers."""
    low, high = math.log10(min(xs)), math.log10(max(xs))
    room = max(0.12 * (high - low), 0.15)
    axes.set_xlim(10 ** (low - room), 10 ** (high + 2 * room))
    wide = high - low + 3 * room
    axes.xaxis.set_major_locator(
        MaxNLocator(5) if wide < 1 else LogLocator(subs=(1, 2, 5)) if wide < 3 else LogLocator()
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if wide < 1:
        axes.xaxis.set_minor_locator(NullLocator())


def _bar(axes: Axes, x: float, point: Point, colour: str, alpha: float = 1.0, width: float = 0.8) -> None:
    if point.y.low is not None and point.y.high is not None:
        axes.plot([x, x], [percent(point.y.low), percent(point.y.high)], color=colour, alpha=alpha, lw=width, zorder=2)


def _extent(axes: Axes, point: Point) -> Bbox:
    low, high = (percent(point.y.value if end is None else end) for end in (point.y.low, point.y.high))
    (x, bottom), (_, top) = axes.transData.transform([(point.x, low), (point.x, high)])
    return Bbox([[x - 1, bottom], [x + 1, top]])


# -- ranks ------------------------------------------------------------------------------------------------------------


def ranks(board: Leaderboard, chart: Chart) -> Figure:
    """Demsar's diagram: names hang from the axis of mean ranks, the better half at the left; bars join cliques."""
    points = sorted(chart.panels[0].points, key=lambda point: (point.x, point.row))
    k, critical = len(points), chart.critical or 0.0
    left, right = points[: (k + 1) // 2], points[(k + 1) // 2 :]
    levels = _levels(chart.joined, points)
    first = 0.55 + 0.32 * (max(levels, default=-1) + 1)  # where names begin, below the bars
    depth = first + 0.5 * len(left)
    figure = style.new(0.75 + 0.3 * depth)
    axes = figure.subplots()
    axes.set_axis_off()
    low, high = 1.0, float(k)
    wide, span = (high - low) * 0.42, high - low
    axes.set(xlim=(low - wide, high + wide), ylim=(depth, -1.75))
    axes.plot([low, high], [0, 0], color=INK, lw=0.9, clip_on=False)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, -0.22], color=INK, lw=0.8)
        axes.text(rank, -0.34, str(rank), ha="center", va="bottom", fontsize=7)
    axes.plot([low, low + critical], [-1.25] * 2, color=INK, lw=0.9)
    for end in (low, low + critical):
        axes.plot([end, end], [-1.37, -1.13], color=INK, lw=0.9)
    said = f"critical difference {critical:.2f}"
    axes.text(low - 0.03 * span, -1.25, said, ha="right", va="center", fontsize=7)
    axes.text(high + wide, -1.25, f"{chart.x}; descriptive", ha="right", va="center", fontsize=7, color=PALE)
    for side, sign, edge in ((left, -1, low), (right[::-1], 1, high)):
        for i, point in enumerate(side):
            y = first + 0.5 * i
            end = edge + sign * 0.05 * span
            axes.plot([point.x, point.x, end], [0, y, y], color=PALE, lw=0.7, solid_joinstyle="miter", zorder=1)
            axes.plot(point.x, 0, "o", color=INK, ms=2.6, zorder=4, clip_on=False)
            title = style.name(board.rows[point.row].title, 40)
            text = f"{title}  {point.x:.2f}" if sign < 0 else f"{point.x:.2f}  {title}"
            axes.text(end + sign * 0.01 * span, y, text, ha="right" if sign < 0 else "left", va="center")
    at = {point.row: point.x for point in points}
    for level, group in zip(levels, chart.joined, strict=True):
        ends = [at[group[0]] - 0.012 * span, at[group[-1]] + 0.012 * span]
        axes.plot(ends, [0.32 + 0.32 * level] * 2, color=INK, lw=2.6, solid_capstyle="butt", zorder=3)
    return figure


def _levels(groups: Sequence[Sequence[int]], points: Sequence[Point]) -> list[int]:
    """On which line each bar lies, so that no two touch."""
    place = {point.row: i for i, point in enumerate(points)}
    ends: list[int] = []
    levels = []
    for group in groups:
        start, end = place[group[0]], place[group[-1]]
        level = next((i for i, last in enumerate(ends) if last < start), len(ends))
        ends[level : level + 1] = [end]
        levels.append(level)
    return levels


# -- curves -----------------------------------------------------------------------------------------------------------


def curves(board: Leaderboard, chart: Chart) -> Figure:
    """The first panel large, with intervals and names; the others small beside it, in the same looks."""
    main, *others = chart.panels
    rows = list(dict.fromkeys(point.row for point in main.points))
    names = {row: style.name(board.rows[row].title, 40) for row in rows}
    columns = 0 if not others else 1 if len(others) < 3 else 2 if len(others) <= 4 else 3
    lines = math.ceil(len(others) / columns) if columns else 1
    figure = style.new(max(2.6, 1.1 * lines + 0.45, 0.125 * len(rows) + 0.8))
    room = style.width(figure, list(names.values()), 7) + 0.15
    rest = WIDTH - room - 0.4 * (1 + bool(columns))
    parts = [rest * 2.3 / (2.3 + columns), room, *[rest / (2.3 + columns)] * columns]
    grid = figure.add_gridspec(lines, 2 + columns, width_ratios=parts)
    looks, axes = looks_of(board.rows), figure.add_subplot(grid[:, 0])
    dodge = min(0.06, 0.4 / len(rows)) * _gap(chart)
    _lines(axes, main, looks, dodge)
    axes.set(xlabel=chart.x, ylabel=main.y or chart.y)
    axes.set_title(style.name(main.title))
    _ticks(axes, chart)
    figure.add_subplot(grid[:, 1]).set_axis_off()  # where the names stand
    small: list[Axes] = []
    for i, panel in enumerate(others):
        sharing = small[0] if small else None
        inset = figure.add_subplot(grid[i // columns, 2 + i % columns], sharex=sharing, sharey=sharing)
        _lines(inset, panel, looks)
        inset.set_title(style.name(panel.title, 22), fontsize=6.5, pad=3)
        _ticks(inset, chart)
        inset.tick_params(labelsize=6, labelleft=i % columns == 0, labelbottom=i + columns >= len(others))
        inset.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        small.append(inset)
    if small:
        middle = small[lines // 2 * columns if lines % 2 else 0]
        middle.set_ylabel(others[0].y or chart.y, fontsize=7)
    style.settle(figure)
    last = {point.row: (point.x + dodge * _place(rows, point.row), percent(point.y.value)) for point in main.points}
    style.beside(axes, [(*last[row], names[row], looks[row].colour) for row in rows])
    return figure


def _place(rows: Sequence[int], row: int) -> float:
    """Where a row stands beside the others at the same x: around 0."""
    return rows.index(row) - (len(rows) - 1) / 2


def _gap(chart: Chart) -> float:
    """The least distance of two marks on the axis."""
    xs = _marks(chart)
    return min((b - a for a, b in itertools.pairwise(xs)), default=1.0)


def _lines(axes: Axes, panel: Panel, looks: Sequence[Look], dodge: float = 0.0) -> None:
    """A line a row; with `dodge` also its intervals, side by side."""
    by_row = {row: list(group) for row, group in itertools.groupby(panel.points, lambda point: point.row)}
    size, line = (3.6, 1.2) if dodge else (2.2, 0.8)
    for row, points in by_row.items():
        look, shift = looks[row], dodge * _place(list(by_row), row)
        x, y = [p.x + shift for p in points], [percent(p.y.value) for p in points]
        (drawn,) = axes.plot(x, y, marker=look.marker, color=look.colour, ms=size, lw=line, mew=0, zorder=3)
        if look.dashes:
            drawn.set_dashes(look.dashes)
        if dodge:
            for at, point in zip(x, points, strict=True):
                _bar(axes, at, point, look.colour, 0.5, 0.6)
    style.tidy(axes)
    if panel.y:
        axes.axhline(0, color=INK, lw=0.6, zorder=1)


def _marks(chart: Chart) -> list[float]:
    """The places on the x axis that have names, else those of the points."""
    return sorted(chart.ticks or {point.x for panel in chart.panels for point in panel.points})


def _ticks(axes: Axes, chart: Chart) -> None:
    xs = _marks(chart)
    axes.set_xticks(xs, [chart.ticks.get(x, f"{x:g}") for x in xs])


# -- differences and calibration --------------------------------------------------------------------------------------


def differences(board: Leaderboard, chart: Chart) -> Figure:
    """A forest for each row: one line a task, the mean below a rule."""
    looks, count = looks_of(board.rows), len(chart.ticks)
    step = 0.15 if count <= 16 else 0.1
    columns = style.columns(len(chart.panels)) if count <= 16 else min(len(chart.panels), 5)  # few lines of tall panels
    lines = math.ceil(len(chart.panels) / columns)
    titles = [style.title(panel.title, 92 // columns) for panel in chart.panels]
    figure = style.new(lines * (step * count + 0.28 + 0.1 * _broken(titles)) + 0.45)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    mean = count - 1 if count > 1 else None
    for axes in grid.flat[len(chart.panels) :]:
        axes.set_axis_off()
    for axes, panel, title in zip(grid.flat, chart.panels, titles, strict=False):
        look = looks[panel.points[0].row]
        axes.axvline(0, color=INK, lw=0.6)
        if mean is not None:
            axes.axhline(mean - 0.5, color=PALE, lw=0.5)
        for point in panel.points:
            whole = point.x == mean
            if point.y.low is not None and point.y.high is not None:
                ends = [percent(point.y.low), percent(point.y.high)]
                axes.plot(ends, [point.x] * 2, color=look.colour, lw=1.6 if whole else 1.0, solid_capstyle="butt")
            sure = point.y.corrected is not None and point.y.corrected <= ALPHA
            axes.plot(
                percent(point.y.value),
                point.x,
                "D" if whole else "o",
                color=look.colour,
                mfc=look.colour if sure else "white",
                mew=0.9,
                ms=4.2 if whole else 3.4,
                zorder=3,
            )
        axes.set_title(title, fontsize=7, pad=3)
        style.tidy(axes, "x")
        axes.tick_params(axis="y", length=0, labelsize=7 if step > 0.1 else 5.5)
    first = grid[0, 0]
    first.set_ylim(count - 0.4, -0.6)
    first.set_yticks(list(chart.ticks), [style.name(text, 30) for text in chart.ticks.values()])
    first.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    hidden = lines * columns - len(chart.panels)
    for axes in grid[-2 if lines > 1 else -1, columns - hidden :]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel(chart.x, fontsize=7.5)
    return figure


def _broken(titles: Sequence[str]) -> bool:
    return any("\n" in title for title in titles)


def reliability(board: Leaderboard, chart: Chart) -> Figure:
    """For each row the accuracy of its bins against the diagonal, and above them the share of answers."""
    block = board.headline
    ece = next(j for j, column in enumerate(block.columns) if column.title == "ECE")
    shown = [i for i, bins in enumerate(block.reliability) if any(one.count for one in bins)]
    columns = style.columns(len(shown))
    lines = math.ceil(len(shown) / columns)
    titles = [style.title(board.rows[i].title, 100 // max(3, columns)) for i in shown]
    tall = 1.55 if columns > 4 else 1.85
    figure = style.new(lines * (tall + 0.1 * _broken(titles)) + 0.3, min(WIDTH, 2.2 * columns))
    grid = figure.subplots(2 * lines, columns, sharex=True, squeeze=False, height_ratios=[1, 4] * lines)
    places: list[tuple[Any, Any]] = [
        (grid[2 * row, column], grid[2 * row + 1, column]) for row, column in np.ndindex(lines, columns)
    ]
    for axes in itertools.chain(*places[len(shown) :]):
        axes.set_axis_off()
    for n, ((above, axes), i, title) in enumerate(zip(places, shown, titles, strict=False)):
        bins = [(k, one) for k, one in enumerate(block.reliability[i]) if one.count]
        width = 100 / len(block.reliability[i])
        total = sum(one.count for _, one in bins)
        for k, one in bins:
            place = {"x": k * width, "width": width, "align": "edge"}
            axes.bar(height=100 * one.accuracy, color=COLOURS[0], alpha=0.5, lw=0, **place)
            low, high = sorted((100 * one.accuracy, 100 * one.confidence))
            axes.bar(height=high - low, bottom=low, fill=False, hatch="/////", ec=INK, lw=0.4, **place)
            axes.plot([k * width, (k + 1) * width], [100 * one.accuracy] * 2, color=INK, lw=1)
            above.bar(height=one.count / total, color=PALE, lw=0, **place)
        axes.plot([0, 100], [0, 100], color=INK, lw=0.7, dashes=(3, 2))
        axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 100])
        value = block.entries[i][ece].value
        axes.text(4, 95, "" if value is None else f"ECE {100 * value:.1f}", va="top", fontsize=7, path_effects=HALO)
        above.set_title(title, fontsize=7, pad=3)
        above.set(ylim=(0, None), yticks=[])
        for a in (axes, above):
            a.spines[["top", "right"]].set_visible(False)
            a.tick_params(labelsize=6, labelbottom=a is axes and n + columns >= len(shown))
        axes.tick_params(labelleft=n % columns == 0)
    figure.supxlabel(chart.x, fontsize=7.5)
    figure.supylabel(chart.y, fontsize=7.5)
    return figure


DRAWINGS: Mapping[str, Callable[[Leaderboard, Chart], Figure]] = {
    "cost": cost,
    "size": size,
    "robustness": robustness,
    "ranks": ranks,
    "severity": curves,
    "shots": curves,
    "differences": differences,
    "reliability": reliability,
}
