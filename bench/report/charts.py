"""What the figures of a suite show, as plain data: whoever draws them computes nothing.

A figure that the cells cannot fill says why, in a sentence that stands in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from bench import cards, stats
from bench.api import Record, Suite, Task
from bench.report.entries import MOST, REFERENCE, Headline, Maker, Measure
from bench.report.footer import machine_names
from bench.report.groups import by_shots, halves, shifted, shots_title
from bench.report.model import Chart, Entry, Panel, Point, Row, clean
from bench.report.rows import Run

TITLES = {
    "cost": "Accuracy against cost",
    "size": "Accuracy against trained parameters",
    "robustness": "Accuracy under shift against accuracy in distribution",
    "ranks": "Critical-difference diagram",
    "severity": "Accuracy against the severity of the shift",
    "shots": "Accuracy against labelled pictures",
    "differences": f"Differences to {REFERENCE}",
    "reliability": "Reliability",
}
"""The figures in the order of reading."""
INTERVALS = "Bars are 95 % intervals over seeds and images."


def milliseconds(record: Record) -> float:
    """What one test picture took: to encode it with its views, to adapt, and to answer."""
    return record.cost.encode_ms + record.cost.adapt_ms + record.cost.predict_ms


def charts(maker: Maker, suite: Suite, headline: Headline, rows: Sequence[Row]) -> Iterator[Chart]:
    """Every figure of the suite, or the reason why there is none."""
    tasks = cards.tasks(suite)
    what = clean(_words(suite, headline))
    yield _cost(maker, headline, what)
    yield _size(maker, suite, headline)
    yield _robustness(maker, suite, headline)
    yield _ranks(maker, headline, rows)
    yield _severity(maker, suite, tasks)
    yield _shots(maker, suite, tasks)
    yield _differences(maker, headline, rows)
    yield _reliability(maker, headline)


def _words(suite: Suite, headline: Headline) -> str:
    """What the headline's number is."""
    first, count = headline.measure.tasks[0], len(headline.parts)
    if suite.setting == "base-to-new":
        return "H of base and new accuracy" + (f", average over {count} data sets" if count > 1 else "")
    over = "tasks" if suite.setting == "domain-shift" else f"data sets at {shots_title(first.shots)}"
    return f"mean over {count} {over}" if count > 1 else first.test.name


def _name(part: Measure) -> str:
    """Of a part of the headline."""
    return clean(part.tasks[0].test.name.removesuffix("/base"))


def _number(maker: Maker, run: Run, measure: Measure) -> Entry | None:
    """The measure with its interval; None where the row has none. (It is not ranked, and needs no footnote.)"""
    found = maker.estimate(run, measure)
    if found is None:
        return None
    return Entry(found.mean) if found.low == found.high else Entry(found.mean, found.low, found.high)


def _points(maker: Maker, places: Iterable[tuple[float, Measure]]) -> tuple[Point, ...]:
    """Every row's numbers at these x."""
    places = list(places)
    found = ((i, x, _number(maker, run, measure)) for i, run in enumerate(maker.runs) for x, measure in places)
    return tuple(Point(i, x, y) for i, x, y in found if y is not None)


def _gains(maker: Maker, places: Iterable[tuple[float, Measure]]) -> tuple[Point, ...]:
    """Every row's differences to zero-shot at these x."""
    places = list(places)
    found = ((i, x, *maker.differences(measure)[run]) for i, run in enumerate(maker.runs) for x, measure in places)
    return tuple(Point(i, x, _difference(d.estimate, corrected)) for i, x, d, corrected in found if d.estimate)


def _difference(found: stats.Estimate, corrected: float | None) -> Entry:
    return Entry(found.mean, found.low, found.high, found.p, corrected)


def _absent(name: str, reason: str) -> Chart:
    return Chart(name, TITLES[name], absent=reason)  # type: ignore[arg-type]


# -- cost -------------------------------------------------------------------------------------------------------------


def _cost(maker: Maker, headline: Headline, what: str) -> Chart:
    machines = machine_names(maker.runs)
    if len(machines) > 1:
        reason = f"times were measured on {len(machines)} machines, and must not be compared: {'; '.join(machines)}"
        return _absent("cost", reason)
    points = []
    for i, run in enumerate(maker.runs):
        y, ms = _number(maker, run, headline.measure), maker.cost(run, headline.measure.all, milliseconds).value
        if y is not None and ms is not None and ms > 0:
            points.append(Point(i, ms, y))
    if not points:
        return _absent("cost", "no row answered all tasks in a time that was measured")
    on = f" {machines[0]}." if machines else ""
    return Chart(
        "cost",
        TITLES["cost"],
        "ms per picture: encode, adapt, predict",
        f"accuracy (%), {what}",
        (Panel("", tuple(points)),),
        joined=(front(points),),
        caption=f"{INTERVALS} Line: the Pareto front, rows that no other one beats in accuracy at less cost.{on}",
    )


def front(points: Iterable[Point]) -> tuple[int, ...]:
    """The rows that are not dominated, cheapest first: each is more accurate than all that cost as much or less."""
    best, kept = -math.inf, []
    for point in sorted(points, key=lambda point: (point.x, -(point.y.value or 0.0), point.row)):
        if point.y.value is not None and point.y.value > best:
            best = point.y.value
            kept.append(point.row)
    return tuple(kept)


def _size(maker: Maker, suite: Suite, headline: Headline) -> Chart:
    """The mean over the shifts, then what is in distribution, over the decimal logarithm of the trained parameters.

    Rows that train nothing stand half a decade before the others.
    """
    places = [(_words(suite, headline), headline.measure)]
    if inside := shifted(suite, by_shots(cards.tasks(suite))[headline.measure.tasks[0].shots])[0]:
        places.append((f"{inside[0].test.name}, in distribution", Measure(tuple(inside))))
    sizes = [maker.cost(run, headline.measure.all, lambda record: record.parameters).value for run in maker.runs]
    known = [size for size in sizes if size]
    if not known:
        return _absent("size", "no row that answered trains anything")
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    ticks = {float(decade): _short(10**decade) for decade in range(first, max(last, first + 1) + 1)}
    if 0 in sizes:
        ticks = {first - 0.5: "0", **ticks}
    panels = []
    for name, measure in places:
        numbers = [_number(maker, run, measure) for run in maker.runs]
        found = [
            (i, x, y) for i, (x, y) in enumerate(zip(sizes, numbers, strict=True)) if x is not None and y is not None
        ]
        panels.append(Panel(clean(name), tuple(Point(i, math.log10(x) if x else first - 0.5, y) for i, x, y in found)))
    return replace(_curves("size", "trained parameters", panels), ticks=ticks)


def _robustness(maker: Maker, suite: Suite, headline: Headline) -> Chart:
    """The mean over the shifts over what is in distribution; rows of one method, such as those of a sweep, are joined.

    The plot of effective robustness (Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image
    Classification", NeurIPS 2020), and WiSE-FT's curve where alpha is swept.
    """
    inside = shifted(suite, by_shots(cards.tasks(suite))[headline.measure.tasks[0].shots])[0]
    if suite.setting != "domain-shift" or not inside:
        return _absent("robustness", "this suite tests nothing in distribution")
    points, methods = [], {}
    for i, run in enumerate(maker.runs):
        x, y = maker.estimate(run, Measure(tuple(inside))), _number(maker, run, headline.measure)
        if x is not None and y is not None:
            points.append(Point(i, 100 * x.mean, y))
            methods.setdefault(run.newest.method, []).append(i)
    if not points:
        return _absent("robustness", "no row answered these tasks")
    return Chart(
        "robustness",
        TITLES["robustness"],
        f"accuracy (%), {clean(inside[0].test.name)}",
        f"accuracy (%), {clean(_words(suite, headline))}",
        (Panel("", tuple(points)),),
        joined=tuple(tuple(rows) for rows in methods.values() if len(rows) > 1),
        caption=f"{INTERVALS} Lines join the rows of one method, in the order of the table.",
    )


def _short(number: int) -> str:
    """A power of ten as people write it on an axis."""
    for unit, one in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= one:
            return f"{number // one}{unit}"
    return str(number)


# -- ranks ------------------------------------------------------------------------------------------------------------


def _ranks(maker: Maker, headline: Headline, rows: Sequence[Row]) -> Chart:
    """Mean ranks over the headline's parts, with Nemenyi's critical difference."""
    n = len(headline.parts)
    if not maker.paired_all:
        return _absent("ranks", f"of {len(rows):,} rows nobody reads it, and it is drawn of up to {MOST}")
    found = {i: [maker.estimate(run, part) for part in headline.parts] for i, run in enumerate(maker.runs)}
    whole = {i: [one.mean for one in all_ if one is not None] for i, all_ in found.items() if None not in all_}
    reason = stats.untestable(n)
    if reason is not None:
        return _absent("ranks", f"with the tasks as a sample of tasks, {reason}")
    if len(whole) < 3:
        return _absent("ranks", f"{len(whole)} of {len(rows)} rows answered all {n} tasks, and ranks need 3")
    places = list(whole)
    result = stats.friedman(np.array([whole[i] for i in places]).T)
    critical = stats.nemenyi(len(places), n)
    groups = stats.cliques(result.ranks, critical)
    lacking = len(rows) - len(places)
    without = f" Without {lacking} rows that did not answer all of them." if lacking else ""
    return Chart(
        "ranks",
        TITLES["ranks"],
        f"mean rank over {n} tasks",
        "",
        (Panel("", tuple(Point(i, float(r), Entry()) for i, r in zip(places, result.ranks, strict=True))),),
        joined=tuple(tuple(places[j] for j in group) for group in groups),
        critical=critical,
        caption=f"Descriptive, with the {n} tasks as a sample of tasks: bars join rows whose mean ranks differ by no "
        f"more than Nemenyi's critical difference at 5 %. Friedman's p {_p(result.p)}, Iman and Davenport's p "
        f"{_p(result.p_f)}. The leaderboard's ranks come from paired tests.{without}",
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


# -- curves -----------------------------------------------------------------------------------------------------------


def _severity(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Chart:
    """The mean accuracy over shifts that are tested at several severities, and each shift's differences to zero-shot.

    Where a suite tests the data that was learnt from, that is severity 0 of every shift.
    """
    group = by_shots(tasks)[tasks[-1].shots]
    shifts: dict[str, dict[int, Task]] = {}
    for task in group:
        grade = cards.severity(task.test)
        if grade:
            shifts.setdefault(task.test.dataset, {})[grade] = task
    shifts = {name: by_grade for name, by_grade in shifts.items() if len(by_grade) > 1}
    if not shifts:
        return _absent("severity", "no shift of this suite is tested at several severities")
    inside = [task for task in group if task.test.name == (suite.id or suite.source)]
    none = {0: Measure(tuple(inside))} if inside else {}
    single = {
        name: {**none, **{grade: Measure((task,)) for grade, task in sorted(by_grade.items())}}
        for name, by_grade in shifts.items()
    }
    common = sorted(set.intersection(*map(set, shifts.values())))
    mean = {grade: Measure(tuple(by_grade[grade] for by_grade in shifts.values())) for grade in common}
    title = next(iter(shifts)) if len(shifts) == 1 else f"mean over {len(shifts)} shifts"
    panels = [Panel(clean(title), _points(maker, {**none, **mean}.items()))]
    for name, places in single.items():
        points = _gains(maker, places.items())
        panels.append(Panel(clean(name), points, f"difference to {REFERENCE} (points)"))
    chart = _curves("severity", "severity of the shift" + (" (0: none)" if none else ""), panels)
    return chart if chart.absent else replace(chart, caption=f"{INTERVALS} Differences are paired on images and seeds.")


def _shots(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Chart:
    """A panel for each data set, and their mean, over the number of labelled pictures a class."""
    groups = by_shots(tasks)
    if len(groups) < 2:
        return _absent("shots", f"this suite has one number of labelled pictures: {shots_title(tasks[0].shots)}")
    most = math.log2(max(groups))
    at = {k: math.log2(k) if k else most + 1 for k in groups}
    over: dict[str, list[tuple[float, Measure]]] = {}
    for k, group in sorted(groups.items(), key=lambda item: at[item[0]]):
        for name, measure in _parts(suite, group):
            over.setdefault(name, []).append((at[k], measure))
    panels = [Panel(clean(name), _points(maker, places)) for name, places in over.items()]
    chart = _curves("shots", "labelled pictures a class", panels)
    return replace(chart, ticks={at[k]: str(k or "all") for k in groups})


def _parts(suite: Suite, group: Sequence[Task]) -> Iterator[tuple[str, Measure]]:
    """The mean over the tasks of one number of shots, then each of them."""
    if suite.setting == "base-to-new":
        base, new = halves(group)
        parts = [Measure((b,), (n,)) for b, n in zip(base, new, strict=True)]
        mean = Measure(tuple(base), tuple(new))
    else:
        inside, outside = shifted(suite, group)
        parts = [Measure((task,)) for task in [*inside, *(task for task in outside if task not in inside)]]
        mean = Measure(tuple(outside))
    if len(mean.tasks) > 1:
        yield f"mean over {len(mean.tasks)} {'tasks' if suite.setting == 'domain-shift' else 'data sets'}", mean
    for part in parts:
        yield _name(part), part


def _curves(name: str, x: str, panels: Sequence[Panel]) -> Chart:
    panels = tuple(panel for panel in panels if panel.points)
    if not panels:
        return _absent(name, "no row answered these tasks")
    return Chart(name, TITLES[name], x, "accuracy (%)", panels, caption=INTERVALS)  # type: ignore[arg-type]


# -- differences and calibration --------------------------------------------------------------------------------------


def _differences(maker: Maker, headline: Headline, rows: Sequence[Row]) -> Chart:
    """A panel for each row, over the headline's parts, and over their mean last."""
    measures = [*headline.parts, *([headline.measure] if len(headline.parts) > 1 else [])]
    by_row: dict[int, list[Point]] = {}
    for point in _gains(maker, enumerate(measures)):
        by_row.setdefault(point.row, []).append(point)
    panels = [Panel(rows[i].title, tuple(points)) for i, points in by_row.items()]
    if not panels:
        return _absent("differences", f"no row can be compared with {REFERENCE}")
    names = [*map(_name, headline.parts), *([f"all {len(headline.parts)}"] if len(headline.parts) > 1 else [])]
    of_h = " of H" if headline.measure.new else ""
    return Chart(
        "differences",
        TITLES["differences"],
        f"difference{of_h} to {REFERENCE} (points)",
        "",
        tuple(panels),
        dict(enumerate(names)),
        caption="Paired on images and seeds, with 95 % intervals. Filled: p ≤ 0.05 with Holm's correction over the "
        f"{len(panels)} rows, for each line of its own.",
    )


def _reliability(maker: Maker, headline: Headline) -> Chart:
    found = [maker.reliability(run, headline.measure.all) for run in maker.runs]
    if not any(found):
        return _absent("reliability", "no cell holds answers")
    if not any(one.count for bins in found for one in bins):
        return _absent("reliability", "no answer has a confidence that is a number")
    return Chart(
        "reliability",
        TITLES["reliability"],
        "confidence (%)",
        "accuracy (%)",
        caption="Answers of all tasks and seeds in bins of confidence. Bars: the accuracy of a bin; hatched: its "
        "distance to the mean confidence; above: the share of answers. ECE is the leaderboard's, the mean over cells.",
    )
