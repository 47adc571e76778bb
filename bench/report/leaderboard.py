"""The leaderboard of a suite as plain data: a pure function of its stored cells.

A row is a method with its fields on a backbone; a column a number of it on one task, or over several. What is missing
stays a hole, what failed or cannot be run says so, and the reason is a footnote.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench import cards
from bench.api import Cost, Record, Suite, Task, UserError
from bench.report.entries import REFERENCE, Maker
from bench.report.model import Block, Column, Entry, Leaderboard, Part, Row, clean
from bench.report.rows import Run, facts, grouped, titles


def leaderboard(suite: Suite, records: Iterable[Record], order: Sequence[str] = ()) -> Leaderboard:
    """The table of a suite's cells (with predictions); rows in the `order` of method names, others follow by name."""
    tasks = cards.tasks(suite)
    wanted = {*tasks, *map(cards.unsupported, tasks)}
    cells = [r for r in records if r.task in wanted and r.setting in suite.admits]
    if not cells:
        raise UserError(f"no stored cells of suite {suite.name!r}: run python -m bench run --suite {suite.name} first.")
    if any(r.status == "done" and r.prediction is None for r in cells):
        raise ValueError("cells without predictions: scan(root, predictions=True)")
    runs = grouped(cells, order)
    maker = Maker(runs)
    rows = tuple(Row(title, facts(run), maker.left_out(run)) for run, title in zip(runs, titles(runs), strict=True))
    blocks = tuple(
        Block(
            clean(title),
            tuple(c for c, _ in layout),
            tuple(tuple(make(run) for _, make in layout) for run in runs),
        )
        for title, layout in LAYOUTS[suite.setting](maker, suite, tasks)
    )
    return Leaderboard(
        suite.name,
        clean(suite.title),
        rows,
        blocks,
        tuple(maker.footnotes),
        tuple(map(clean, _footer(runs, rows))),
    )


# -- layouts ----------------------------------------------------------------------------------------------------------

Layout = list[tuple[Column, Callable[[Run], Entry]]]


def _accuracy(maker: Maker, title: str, tasks: Sequence[Task], interval: bool = True, part: Part = "tasks") -> Layout:
    return [(Column(title, "accuracy", part, interval), lambda run: maker.accuracy(run, tasks))]


def _against(maker: Maker, tasks: Sequence[Task], what: str = "") -> Layout:
    return [
        (
            Column(f"{what} vs {REFERENCE}".lstrip(), "difference", "summary", True),
            lambda run: maker.difference(run, tasks),
        ),
        (Column(f"{what} p".lstrip(), "p", "summary"), lambda run: maker.p(run, tasks)),
    ]


def _ms(record: Record) -> float:
    return record.cost.encode_ms + record.cost.adapt_ms + record.cost.predict_ms


def _peak(record: Record) -> float:
    return max(record.cost.memory_fit_mib, record.cost.memory_predict_mib)


def _of(name: str) -> Callable[[Record], float]:
    return lambda record: getattr(record.cost, name)


COSTS: dict[str, tuple[Callable[[Record], float], bool]] = {
    "support": (lambda record: record.support, True),
    "parameters": (lambda record: record.parameters, True),
    "fit s": (_of("fit_s"), True),
    "ms/image": (_ms, True),
    "encode ms": (_of("encode_ms"), True),
    "peak MiB": (_peak, True),
    "GFLOP/image": (_of("gflop_per_image"), True),
    **{
        name: (_of(name), False)
        for name in Cost.__dataclass_fields__
        if name not in ("fit_s", "encode_ms", "memory_how", "gflop_per_image")
    },
}
"""Column -> how a record is read, and whether people are shown it or the CSV alone."""


def _calibration_and_cost(maker: Maker, tasks: Sequence[Task]) -> Layout:
    layout: Layout = [(Column("ECE", "ece", "summary"), lambda run: maker.ece(run, tasks))]
    layout.append((Column("seeds", "count", "cost"), lambda run: Entry(float(len(run.seeds)))))
    for title, (read, shown) in COSTS.items():
        make = functools.partial(
            maker.cost, tasks=tasks, read=read, largest=read is _peak or title.startswith("memory")
        )
        layout.append(
            (
                Column(title, "count" if title in ("support", "parameters") else "number", "cost", shown=shown),
                make,
            )
        )
    return layout


def _by_shots(tasks: Iterable[Task]) -> dict[int, list[Task]]:
    groups: dict[int, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.shots, []).append(task)
    return groups


def _shots(k: int) -> str:
    return "all pictures" if k == 0 else "1 shot" if k == 1 else f"{k} shots"


def _domain_shift(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Iterable[tuple[str, Layout]]:
    """A block for each number of shots; a column for each shifted task, then the mean over them and what it cost."""
    groups = _by_shots(tasks)
    for shots, group in groups.items():
        layout = [
            column for task in group for column in _accuracy(maker, task.test.name, [task], interval=len(group) == 1)
        ]
        if len(group) > 1:
            layout += _accuracy(maker, "mean", group, part="summary")
        layout += _against(maker, group) + _calibration_and_cost(maker, group)
        yield (_shots(shots) if len(groups) > 1 else ""), layout


def _few_shot(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Iterable[tuple[str, Layout]]:
    """A block for each data set with a column for each number of shots, then the mean over data sets, then the rest."""
    groups = _by_shots(tasks)
    for i, first in enumerate(groups[min(groups)]):
        layout = [column for shots, group in groups.items() for column in _accuracy(maker, _shots(shots), [group[i]])]
        yield first.test.name, layout
    if len(suite.tests) > 1:
        layout = [column for shots, group in groups.items() for column in _accuracy(maker, _shots(shots), group)]
        yield f"mean over {len(suite.tests)} data sets", layout
    most = groups[max(groups)]
    yield (
        f"at {_shots(max(groups))}",
        _against(maker, most) + _calibration_and_cost(maker, most),
    )


def _base_to_new(maker: Maker, suite: Suite, tasks: Sequence[Task]) -> Iterable[tuple[str, Layout]]:
    """A block for each data set with base, new and H, then their average over data sets; the last one has the rest."""
    groups = _by_shots(tasks)
    for shots, group in groups.items():
        base, new = ([task for task in group if task.test.half == half] for half in ("base", "new"))
        blocks = [(b.test.name.removesuffix("/base"), [b], [n]) for b, n in zip(base, new, strict=True)]
        if len(blocks) > 1:
            blocks.append((f"average over {len(blocks)} data sets", base, new))
        for title, bases, news in blocks:
            layout = _accuracy(maker, "base", bases) + _accuracy(maker, "new", news)
            layout.append((Column("H", "accuracy"), functools.partial(maker.harmonic, base=bases, new=news)))
            if bases == base:
                layout += _against(maker, base, "base") + _against(maker, new, "new")
                layout += _calibration_and_cost(maker, group)
            yield title + (f", {_shots(shots)}" if len(groups) > 1 else ""), layout


LAYOUTS: Mapping[str, Callable[[Maker, Suite, Sequence[Task]], Iterable[tuple[str, Layout]]]] = {
    "domain-shift": _domain_shift,
    "few-shot": _few_shot,
    "base-to-new": _base_to_new,
}

# -- footer -----------------------------------------------------------------------------------------------------------

CHOSEN = {
    "fixed": "the methods' own",
    "suite": "the suite's recipe",
    "validation": "chosen once on validation pictures",
    "user": "given by the user",
}
"""Record.chosen_by in words."""


def _footer(runs: Sequence[Run], rows: Sequence[Row]) -> Iterable[str]:
    """How to read the table: what the interval is, who chose the hyper-parameters, where the times come from."""
    cells = [r for run in runs for by_seed in run.cells.values() for r in by_seed.values()]
    done = [r for r in cells if r.status == "done"]
    images = _range(len(r.ids) for r in done)
    counts = {len(run.seeds) for run in runs}
    over = "images" if counts == {1} else "seeds and images"
    alone = "; with one seed it is over images alone" if 1 in counts and len(counts) > 1 else ""
    yield (
        f"Accuracy in percent; {images} images a task, {_range(counts)} seeds a row. ± is half of the 95 % interval "
        f"over {over} (crossed variance, Satterthwaite; an image that several tasks show counts once){alone}."
    )
    yield (
        f"Differences are paired with {REFERENCE} on the same backbone, images and seeds; p is not corrected for the "
        "number of rows. ECE in percent, 15 bins. Times and operations are means over cells, memory is the largest; "
        "ms/image includes encode ms, as measured when the cache was filled."
    )
    chosen: dict[str, list[str]] = {}
    for run, row in zip(runs, rows, strict=True):
        chosen.setdefault(run.newest.chosen_by, []).append(row.title)
    said = (f"{CHOSEN.get(how, how)} ({_who(titles, rows)})" for how, titles in sorted(chosen.items()))
    yield f"Hyper-parameters: {'; '.join(said)}."
    machines = sorted({_machine(r) for r in done} - {""})
    if machines:
        warning = " Times of different machines must not be compared." if len(machines) > 1 else ""
        yield f"Measured on {'; '.join(machines)}.{warning}"
    if memory := sorted({r.cost.memory_how for r in done} - {""}):
        yield f"Memory: {'; '.join(memory)}, above what the process held before."
    notes: dict[str, list[str]] = {}
    for run, row in zip(runs, rows, strict=True):
        mine = {note: None for by_seed in run.cells.values() for r in by_seed.values() for note in r.notes}
        for note in mine:
            notes.setdefault(note, []).append(row.title)
    for note, owners in sorted(notes.items()):
        yield f"{note} ({_who(owners, rows)})."


def _who(titles: Sequence[str], rows: Sequence[Row]) -> str:
    return "all rows" if len(titles) == len(rows) > 1 else ", ".join(titles)


def _machine(record: Record) -> str:
    known = record.provenance
    what = known.get("gpu") if str(known.get("device", "cpu")).startswith("cuda") else known.get("processor")
    threads = known.get("threads")
    return ", ".join([str(what)] * bool(what) + [f"{threads} thread{'s' * (threads != 1)}"] * bool(threads))


def _range(numbers: Iterable[int]) -> str:
    numbers = sorted(set(numbers)) or [0]
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
