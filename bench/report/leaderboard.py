"""The leaderboard of a suite as plain data: a pure function of its stored cells.

A row is a method with its fields on a backbone; a column a number of it on one task, or over several. What is missing
stays a hole, what failed or cannot be run says so, and the reason is a footnote.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench import cards
from bench.api import Record, Suite, Task, UserError
from bench.report.cells import Cell, answered
from bench.report.charts import charts, milliseconds
from bench.report.entries import REFERENCE, Headline, Maker, Measure
from bench.report.footer import footer
from bench.report.groups import by_shots, halves, shifted, shots_title
from bench.report.model import Block, Column, Entry, Leaderboard, Part, Row, clean
from bench.report.rows import Run, facts, grouped, listed, titles


def leaderboard(suite: Suite, cells: Iterable[Cell], order: Sequence[str] = ()) -> Leaderboard:
    """The table of a suite's cells; rows in the `order` of method names, others follow by name."""
    maker = Maker(rows_of(suite, cells, order))
    runs, tasks = maker.runs, cards.tasks(suite)
    rows = tuple(
        Row(title, facts(run), maker.left_out(run) + maker.untrained(run), listed(run))
        for run, title in zip(runs, titles(runs), strict=True)
    )
    blocks, headlines = [], []
    for title, layout, headline in LAYOUTS[suite.setting](maker, suite, tasks):
        entries = tuple(tuple(make(run) for _, make in layout) for run in runs)
        block = Block(clean(title), tuple(column for column, _ in layout), entries)
        if headline is not None:
            headlines.append(headline)
            pairs = maker.pairs(headline.measure)
            bins = tuple(maker.reliability(run, headline.measure.all) for run in runs)
            block = Block(block.title, block.columns, entries, pairs, bins)
        blocks.append(block)
    said = {topic: clean(text) for topic, text in footer(maker, rows, headlines[-1])}
    figures = tuple(charts(maker, suite, headlines[-1], rows))
    return Leaderboard(suite.name, clean(suite.title), rows, tuple(blocks), tuple(maker.footnotes), said, figures)


def rows_of(suite: Suite, cells: Iterable[Cell], order: Sequence[str] = ()) -> list[Run]:
    """The rows that a suite's cells make."""
    wanted = answered(suite)
    cells = [cell for cell in cells if cell.record.task in wanted and cell.record.setting in suite.admits]
    if not cells:
        raise UserError(f"no stored cells of suite {suite.name!r}: run python -m bench run --suite {suite.name} first.")
    return grouped(cells, order)


# -- columns ----------------------------------------------------------------------------------------------------------

Layout = list[tuple[Column, Callable[[Run], Entry]]]
Layouts = Iterable[tuple[str, Layout, Headline | None]]


def _accuracy(maker: Maker, title: str, measure: Measure, interval: bool = True, part: Part = "tasks") -> Layout:
    names = dict.fromkeys(name for task in measure.all for name in (task.name, cards.unsupported(task).name))
    column = Column(title, "accuracy", part, interval, unit="%", tasks=tuple(names))
    return [(column, functools.partial(maker.accuracy, measure=measure))]


def _against(maker: Maker, measure: Measure, what: str = "", part: Part = "summary", shown: bool = True) -> Layout:
    """The difference to zero-shot and its p, and for the CSV what p is uncorrected and what could have been found."""
    before = f"{what} " if what else ""
    return [
        (
            Column(f"{before}vs {REFERENCE}", "difference", part, True, shown, "points"),
            functools.partial(maker.difference, measure=measure),
        ),
        (Column(f"{before}p", "p", part, shown=shown), functools.partial(maker.p, measure=measure)),
        (
            Column(f"{before}p uncorrected", "p", part, shown=False),
            functools.partial(maker.p, measure=measure, corrected=False),
        ),
        (
            Column(f"{before}detectable", "percent", part, shown=False, unit="points"),
            functools.partial(maker.detectable, measure=measure),
        ),
    ]


def _compared(maker: Maker, headline: Headline, whats: Sequence[tuple[str, Measure]]) -> Layout:
    """What follows the headline's number: rank, differences, signed ranks where they can say something, orders."""
    layout: Layout = [(Column("rank", "count", "summary"), functools.partial(maker.rank, measure=headline.measure))]
    for what, measure in whats:
        layout += _against(maker, measure, what)
    if len(headline.parts) > 1 and maker.untestable(headline) is None:
        layout.append((Column("p over tasks", "p", "summary"), functools.partial(maker.signed, headline=headline)))
    if any(run.newest.online for run in maker.runs):
        for i, title in enumerate(("SD over orders", "worst order")):
            column = Column(title, "percent", "summary", unit="points" if i == 0 else "%")
            layout.append((column, lambda run, i=i: maker.orders(run, headline.measure)[i]))
    return layout


def _peak(record: Record) -> float:
    return max(record.cost.memory_fit_mib, record.cost.memory_predict_mib)


def _of(name: str) -> Callable[[Record], float]:
    return lambda record: getattr(record.cost, name)


COSTS: dict[str, tuple[str, Callable[[Record], float], bool]] = {
    "support": ("", lambda record: record.support, True),
    "parameters": ("", lambda record: record.parameters, True),
    "fit": ("s", _of("fit_s"), True),
    "encode": ("ms", _of("encode_ms"), True),
    "adapt": ("ms", _of("adapt_ms"), True),
    "predict": ("ms", _of("predict_ms"), True),
    "peak": ("MiB", _peak, True),
    "image forwards": ("", _of("image_forwards"), True),
    "text forwards": ("", _of("text_forwards"), True),
    "text backwards": ("", _of("text_backwards"), True),
    "GFLOP/image": ("", _of("gflop_per_image"), True),
    "all": ("ms", milliseconds, False),
    **{name: ("", _of(name), False) for name in ("encode_support_s", "memory_fit_mib", "memory_predict_mib")},
}
"""Column -> its unit, how a record is read, and whether people are shown it or the CSV alone."""
COUNTS = ("support", "parameters", "image forwards", "text forwards", "text backwards")


def _calibration_and_cost(maker: Maker, measure: Measure, tasks: Sequence[Task]) -> Layout:
    layout: Layout = [
        (Column("ECE", "percent", "summary", unit="%"), functools.partial(maker.ece, tasks=measure.all)),
        (Column("seeds", "count", "cost"), lambda run: Entry(float(len(run.seeds)))),
    ]
    for title, (unit, read, shown) in COSTS.items():
        largest = read is _peak or title.startswith("memory")
        column = Column(title, "count" if title in COUNTS else "number", "cost", shown=shown, unit=unit)
        layout.append((column, functools.partial(maker.cost, tasks=tasks, read=read, largest=largest)))
    return layout


# -- layouts ----------------------------------------------------------------------------------------------------------


def _domain_shift(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Layouts:
    """A block for each number of shots; a column for each task, the mean over the shifted ones, and what it cost."""
    groups = by_shots(tasks)
    for shots, group in groups.items():
        inside, outside = shifted(suite, group)
        single = {task: Measure((task,)) for task in group}
        mean = Measure(tuple(outside))
        layout: Layout = []
        for task in [*inside, *(task for task in outside if task not in inside)]:
            layout += _accuracy(maker, task.test.name, single[task], interval=len(group) == 1 or task in inside)
        if len(outside) > 1:
            layout += _accuracy(maker, "mean", mean, part="summary")
        headline = Headline(mean, tuple(single[task] for task in outside))
        layout += _compared(maker, headline, [("", mean)]) + _calibration_and_cost(maker, mean, group)
        if len(group) > 1:
            for task in group:
                layout += _against(maker, single[task], task.test.name, "tasks", shown=False)
        yield (shots_title(shots) if len(groups) > 1 else ""), layout, headline


def _few_shot(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Layouts:
    """A block for each data set with a column for each number of shots, then the mean over data sets, then the rest."""
    groups = by_shots(tasks)
    most = max(groups, key=lambda k: k or 10**9)  # 0 stands for all pictures
    for i, first in enumerate(groups[most]):
        layout: Layout = []
        for shots, group in groups.items():
            layout += _accuracy(maker, shots_title(shots), Measure((group[i],)))
        for shots, group in groups.items():
            layout += _against(maker, Measure((group[i],)), shots_title(shots), "tasks", shown=False)
        yield first.test.name, layout, None
    if len(suite.tests) > 1:
        layout = []
        for shots, group in groups.items():
            layout += _accuracy(maker, shots_title(shots), Measure(tuple(group)))
        yield f"mean over {len(suite.tests)} data sets", layout, None
    mean = Measure(tuple(groups[most]))
    headline = Headline(mean, tuple(Measure((task,)) for task in mean.tasks))
    layout = _compared(maker, headline, [("", mean)]) + _calibration_and_cost(maker, mean, groups[most])
    yield f"at {shots_title(most)}", layout, headline


def _base_to_new(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Layouts:
    """A block for each data set with base, new and H, then their average over data sets; the last one has the rest."""
    groups = by_shots(tasks)
    for shots, group in groups.items():
        after = f", {shots_title(shots)}" if len(groups) > 1 else ""
        base, new = halves(group)
        parts = tuple(Measure((b,), (n,)) for b, n in zip(base, new, strict=True))
        blocks = [(part.tasks[0].test.name.removesuffix("/base"), part) for part in parts]
        if len(parts) > 1:
            blocks.append((f"average over {len(parts)} data sets", Measure(tuple(base), tuple(new))))
        for i, (title, measure) in enumerate(blocks, 1):
            three = [("base", Measure(measure.tasks)), ("new", Measure(measure.new)), ("H", measure)]
            layout: Layout = []
            for name, part in three:
                layout += _accuracy(maker, name, part)
            headline = None
            if i == len(blocks):
                headline = Headline(measure, parts)
                layout += _compared(maker, headline, three) + _calibration_and_cost(maker, measure, group)
            else:
                for name, part in three:
                    layout += _against(maker, part, name, "tasks", shown=False)
            yield title + after, layout, headline


LAYOUTS: Mapping[str, Callable[[Maker, Suite, Sequence[Task]], Layouts]] = {
    "domain-shift": _domain_shift,
    "few-shot": _few_shot,
    "base-to-new": _base_to_new,
}
