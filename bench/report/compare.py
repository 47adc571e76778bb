"""Two rows task by task: two methods of one results folder, or what two folders hold of the same method.

The comparison is a table like a leaderboard, whose rows are tasks and means over them: every format can write it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench import cards, stats
from bench.api import Suite, Task, UserError, nearest
from bench.report.alike import made_otherwise
from bench.report.cells import Cell
from bench.report.entries import Maker, Measure
from bench.report.footer import by_chance
from bench.report.groups import by_shots, halves, shifted, shots_title
from bench.report.leaderboard import rows_of
from bench.report.model import HOLE, Block, Column, Entry, Leaderboard, Row, clean
from bench.report.rows import Run, titles

COLUMNS = (
    Column("A", "accuracy", unit="%"),
    Column("B", "accuracy", unit="%"),
    Column("A - B", "difference", interval=True, unit="points"),
    Column("p", "p"),
    Column("p (Holm)", "p"),
    Column("p same", "p"),
    Column("gained", "count"),
    Column("lost", "count"),
    Column("detectable", "percent", unit="points"),
    Column("images", "count"),
    Column("seeds", "count"),
)
P = 3
"""Where p stands among them; its correction follows."""
FEWEST = next(n for n in range(1, 100) if stats.least_p(n) <= stats.ALPHA)
"""So many images have to go one way before McNemar's test can see anything."""


def compare(suite: Suite, a: str, b: str, cells: Sequence[Cell], others: Sequence[Cell] | None = None) -> Leaderboard:
    """Method a against method b, each by its name or its row's title; b from `others` where there are two folders."""
    first = rows_of(suite, cells)
    second = first if others is None else rows_of(suite, others)
    one, other = _named(suite, first, a), _named(suite, second, b)
    if one is other:
        raise UserError(f"{a!r} and {b!r} are the same row: name two methods, or two results folders.")
    return _table(suite, one, other, _title(first, one), _title(second, other))


def compare_folders(
    suite: Suite, cells: Sequence[Cell], others: Sequence[Cell], names: tuple[str, str], order: Sequence[str] = ()
) -> list[Leaderboard]:
    """Every row that both folders hold (the same method with the same fields on the same backbone), one table each."""
    first, second = rows_of(suite, cells, order), rows_of(suite, others, order)
    tables = []
    for one in first:
        for other in second:
            if _who(one) == _who(other):
                title = _title(first, one)
                mine, theirs = (f"{title} in {name}" for name in names)
                tables.append(_table(suite, one, other, mine, theirs, title))
    if not tables:
        raise UserError(
            f"{names[0]} and {names[1]} hold no method of suite {suite.name!r} in common, with the same fields on the "
            "same backbone: run one again, or compare two methods by their names."
        )
    return tables


def _who(run: Run) -> tuple:
    return run.newest.method, run.newest.fields, run.newest.backbone


def _title(runs: Sequence[Run], run: Run) -> str:
    return titles(runs)[list(runs).index(run)]


def _named(suite: Suite, runs: Sequence[Run], name: str) -> Run:
    """The row of that title, else the one row of the method of that name."""
    named = dict(zip(titles(runs), runs, strict=True))
    if name in named:
        return named[name]
    found = [title for title, run in named.items() if run.newest.method == name]
    if not found:
        known = [*(run.newest.method for run in runs), *named]
        raise UserError(f"no cells of method {name!r} in suite {suite.name!r}: {nearest(name, known)}")
    if len(found) > 1:
        quoted = ", ".join(f"'{title}'" for title in found)
        raise UserError(f"method {name!r} has {len(found)} rows in suite {suite.name!r}: name one of {quoted}.")
    return named[found[0]]


def _table(suite: Suite, a: Run, b: Run, title: str, other: str, heading: str = "") -> Leaderboard:
    maker = Maker([a, b])
    questions = _questions(suite)
    lines = [_line(maker, a, b, measure) for _, measure in questions.tasks]
    tested = [line for line in lines if line[P].value is not None]
    for line, p in zip(tested, stats.holm(np.array([line[P].value for line in tested])).tolist(), strict=True):
        line[P + 1] = Entry(p)
    lines += [_line(maker, a, b, measure) for _, measure in questions.means]
    rows = tuple(Row(clean(name), {"over": "one task"}) for name, _ in questions.tasks)
    rows += tuple(Row(clean(name), {"over": "several tasks"}) for name, _ in questions.means)
    named = heading or f"{title} (A) against {other} (B)"
    footer = {topic: clean(text) for topic, text in _footer(maker, a, b, title, other, questions, len(tested))}
    block = Block("", COLUMNS, tuple(map(tuple, lines)))
    return Leaderboard(
        f"{suite.name}-compare", clean(f"{suite.title}: {named}"), rows, (block,), tuple(maker.footnotes), footer
    )


@dataclass(frozen=True)
class Questions:
    """What two rows are compared on: single tasks, means over them, and the parts of the tasks as a sample."""

    tasks: Sequence[tuple[str, Measure]]
    means: Sequence[tuple[str, Measure]]
    parts: Sequence[Measure]


def _questions(suite: Suite) -> Questions:
    groups = by_shots(cards.tasks(suite))
    tasks, means, parts = [], [], []
    for shots, group in groups.items():
        after = f", {shots_title(shots)}" if len(groups) > 1 else ""
        tasks += [(task.test.name + after, Measure((task,))) for task in group]
        if suite.setting == "base-to-new":
            base, new = halves(group)
            measure = Measure(tuple(base), tuple(new))
            three = ("base", Measure(measure.tasks)), ("new", Measure(measure.new)), ("H", measure)
            means += [(f"{name} average{after}" if len(base) > 1 else f"{name}{after}", part) for name, part in three]
            parts = [Measure((b,), (n,)) for b, n in zip(base, new, strict=True)]
        else:
            _, outside = shifted(suite, group)
            if len(outside) > 1:
                means.append((f"mean{after}", Measure(tuple(outside))))
            parts = [Measure((task,)) for task in outside]
    return Questions(tasks, [mean for mean in means if len(mean[1].all) > 1], parts)


def _line(maker: Maker, a: Run, b: Run, measure: Measure) -> list[Entry]:
    """The entries of COLUMNS; p is corrected later."""
    accuracies = [replace(maker.accuracy(run, measure), standing="") for run in (a, b)]
    if any(entry.value is None for entry in accuracies):
        return [*accuracies, *[Entry(mark=HOLE)] * (len(COLUMNS) - 2)]
    d = maker.paired(a, b, measure)
    if isinstance(d, str):
        return [
            *accuracies,
            Entry(mark=HOLE, notes=maker.note(d.format("B"))),
            *[Entry(mark=HOLE)] * (len(COLUMNS) - 3),
        ]
    found = stats.difference(d)
    return [
        *accuracies,
        Entry(found.mean, found.low, found.high, found.p),
        Entry(found.p),
        Entry(mark=HOLE),
        Entry(stats.tost(d)),
        *_moved(maker, a, b, measure),
        _detectable(d, found),
        Entry(float(d.shape[1])),
        Entry(float(d.shape[0])),
    ]


def _moved(maker: Maker, a: Run, b: Run, measure: Measure) -> tuple[Entry, Entry]:
    """Images that A answers rightly and B wrongly, and conversely: over the tasks, a seed."""
    if measure.new:
        return Entry(mark=HOLE), Entry(mark=HOLE)
    single = [maker.paired(a, b, Measure((task,))) for task in measure.tasks]
    return tuple(Entry(sum(float((sign * d > 0).sum()) / len(d) for d in single)) for sign in (1, -1))  # type: ignore


def _detectable(d: NDArray[np.float64], found: stats.Estimate) -> Entry:
    """The smallest true difference that these data would have shown.

    Of two deterministic methods no fewer images can be significant than McNemar's test needs, if all go one way.
    """
    least = FEWEST / d.shape[1] if len(d) == 1 and np.isin(d, (-1, 0, 1)).all() else 0.0
    shown = stats.detectable(found.se, found.df) if math.isfinite(found.se) else 0.0
    return Entry(max(shown, least)) if max(shown, least) else Entry(mark=HOLE)


def _footer(
    maker: Maker, a: Run, b: Run, title: str, other: str, questions: Questions, tested: int
) -> Iterable[tuple[str, str]]:
    for letter, run, name in (("A", a, title), ("B", b, other)):
        left = f", {run.older}" if run.left_out else ""
        alone = ", one seed alone: nothing is said about others" if len(run.seeds) == 1 and by_chance(run) else ""
        yield (
            letter,
            f"{letter}: {name}, on {run.newest.backbone}, seeds {', '.join(map(str, run.seeds))}{left}{alone}.",
        )
    unlike = [f"{name} {mine} and {theirs}" for name, (mine, theirs) in made_otherwise(a.newest, b.newest).items()]
    if unlike:
        yield "made otherwise", f"A and B differ in: {', '.join(unlike)}."
    yield (
        "difference",
        "A - B in points with half of its 95 % interval, paired on images and seeds. p: two-sided, by McNemar's exact "
        "test where both answer alike in all seeds, else of the variance crossed over seeds and images "
        f"(Satterthwaite); Holm's correction over the {tested} tasks, none for means.",
    )
    margin = 100 * stats.MARGIN
    yield (
        "equivalence",
        f"p same: two one-sided tests against {margin:g} points either way; small where A and B are practically the "
        "same.",
    )
    yield (
        "images",
        "Gained: images that A answers rightly and B wrongly; lost: conversely; both a seed. Detectable: the smallest "
        "true difference that these answers would show with 80 % power, before correction.",
    )
    parts = [maker.paired(a, b, part) for part in questions.parts if all(map(_both(a, b), part.all))]
    moves = [float(np.mean(d)) for d in parts if not isinstance(d, str)]
    if len(moves) < 2:
        return
    reason = stats.untestable(len(moves))
    if reason:
        yield "over tasks", f"With the tasks as a sample of tasks (Wilcoxon's signed ranks): {reason}."
        return
    ranks = stats.wilcoxon(moves)
    yield (
        "over tasks",
        f"With the {len(moves)} tasks as a sample of tasks, Wilcoxon's signed ranks: p = {ranks.p:.3g} "
        f"(R+ = {ranks.plus:g}, R- = {ranks.minus:g}; the smallest possible p is {ranks.least:.3g}).",
    )


def _both(a: Run, b: Run) -> Callable[[Task], bool]:
    return lambda task: bool(a.done(task) and b.done(task))
