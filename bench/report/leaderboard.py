"""The leaderboard of a suite as plain data: a pure function of its stored cells.

A row is a method with its fields on a backbone; a column a number of it on one task, or over several. What is missing
stays a hole, what failed or cannot be run says so, and the reason is a footnote.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from bench import cards, stats
from bench.api import Cost, Record, Suite, Task, UserError

HOLE = "–"
REFERENCE = "zero-shot"
"""The method that all others are compared with."""

# -- what a table is --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One number with what is known about it, or a mark in its place. `notes` are numbers of footnotes."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    mark: str = ""
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Column:
    """`part`: answers or cost, which narrow pages show apart. Columns that are not `shown` are in the CSV alone."""

    title: str
    kind: Literal["accuracy", "difference", "p", "ece", "count", "number"]
    part: Literal["answers", "cost"] = "answers"
    interval: bool = False
    shown: bool = True


@dataclass(frozen=True)
class Row:
    """Who the numbers belong to. `facts` are for the CSV."""

    title: str
    facts: Mapping[str, str]
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """Columns that belong together: of one data set, one number of shots, or a mean. entries[i][j]: row i, column j."""

    title: str
    columns: tuple[Column, ...]
    entries: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Leaderboard:
    """What all formats are written from. Footnote i stands at footnotes[i - 1]; `footer` explains the table."""

    suite: str
    title: str
    rows: tuple[Row, ...]
    blocks: tuple[Block, ...]
    footnotes: tuple[str, ...]
    footer: tuple[str, ...]


def leaderboard(suite: Suite, records: Iterable[Record], order: Sequence[str] = ()) -> Leaderboard:
    """The table of a suite's cells (with predictions); rows in the `order` of method names, others follow by name."""
    tasks = cards.tasks(suite)
    wanted = {*tasks, *map(cards.unsupported, tasks)}
    cells = [r for r in records if r.task in wanted and r.setting in suite.admits]
    if not cells:
        raise UserError(f"no stored cells of suite {suite.name!r}: run python -m bench run --suite {suite.name} first.")
    if any(r.status == "done" and r.prediction is None for r in cells):
        raise ValueError("cells without predictions: scan(root, predictions=True)")
    runs = _runs(cells, order)
    maker = _Maker(runs)
    rows = tuple(Row(title, _facts(run), maker.left_out(run)) for run, title in zip(runs, _titles(runs), strict=True))
    blocks = tuple(
        Block(
            _clean(title),
            tuple(c for c, _ in layout),
            tuple(tuple(make(run) for _, make in layout) for run in runs),
        )
        for title, layout in LAYOUTS[suite.setting](maker, suite, tasks)
    )
    return Leaderboard(
        suite.name,
        _clean(suite.title),
        rows,
        blocks,
        tuple(maker.footnotes),
        tuple(map(_clean, _footer(runs, rows))),
    )


def _clean(text: str) -> str:
    """On one line and without control characters, whatever a name or an error says."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# -- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Run:
    """The cells of one row, by task and seed: of one code, one set of weights, one precision and number of views."""

    newest: Record
    cells: Mapping[Task, Mapping[int, Record]]
    left_out: int

    @functools.cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for by_seed in self.cells.values() for seed in by_seed}))

    def of(self, task: Task) -> Mapping[int, Record]:
        """The cells that answer `task`; methods without support answer the same question without it."""
        learns = self.newest.setting.startswith("few-shot")
        return self.cells.get(task if learns else cards.unsupported(task), {})

    def done(self, task: Task) -> dict[int, Record]:
        return {seed: record for seed, record in sorted(self.of(task).items()) if record.status == "done"}

    def common(self, tasks: Sequence[Task]) -> set[int]:
        """Seeds that answered all of these tasks."""
        return set.intersection(*(set(self.done(task)) for task in tasks))

    def right(self, task: Task, seeds: Iterable[int]) -> np.ndarray:
        """(S, n): whether the answers are right."""
        done = self.done(task)
        return np.stack([np.asarray(done[s].prediction) == np.asarray(done[s].label) for s in sorted(seeds)]) * 1.0

    def ids(self, task: Task) -> tuple[str, ...]:
        return next(iter(self.done(task).values())).ids


def _runs(cells: Iterable[Record], order: Sequence[str]) -> list[_Run]:
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in cells:
        groups.setdefault((record.method, _json(record.fields), record.backbone), []).append(record)
    place = {name: i for i, name in enumerate(order)}
    return [_run(groups[key]) for key in sorted(groups, key=lambda key: (place.get(key[0], len(place)), key))]


def _run(cells: list[Record]) -> _Run:
    """The newest cell decides; cells of other code, weights, precision, views or images are left out."""
    cells = sorted(cells, key=lambda r: (str(r.provenance.get("finished", "")), r.id), reverse=True)
    kept: dict[Task, dict[int, Record]] = {}
    for record in cells:
        if _made_by(record) != _made_by(cells[0]):
            continue
        by_seed = kept.setdefault(record.task, {})
        others = (r.ids for r in by_seed.values() if r.status == record.status == "done")
        if record.seed not in by_seed and record.ids == next(others, record.ids):
            by_seed[record.seed] = record
    return _Run(cells[0], kept, len(cells) - sum(map(len, kept.values())))


def _made_by(record: Record) -> tuple:
    return record.code, record.fingerprint, record.precision, record.provenance.get("views")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _titles(runs: Sequence[_Run]) -> list[str]:
    """Each method's title; where it is not the only one of that title, with just that in which it differs."""
    titles = []
    for run in runs:
        me = run.newest
        twins = [other.newest for other in runs if other.newest.title == me.title]
        words = []
        if any(other.method != me.method for other in twins):
            words.append(me.method)
        for name, value in me.fields.items():
            if any(name in other.fields and _json(other.fields[name]) != _json(value) for other in twins):
                words.append(f"{name} = {_short(value)}")
        if any(other.backbone != me.backbone for other in twins):
            words.append(f"on {me.backbone}")
        titles.append(_clean(me.title + (f" ({', '.join(words)})" if words else "")))
    return titles


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else _json(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _facts(run: _Run) -> dict[str, str]:
    me = run.newest
    return {
        "method": me.method,
        "family": me.family,
        "setting": me.setting,
        "fields": _json(me.fields),
        "chosen_by": me.chosen_by,
        "backbone": me.backbone,
        "fingerprint": me.fingerprint,
        "code": me.code,
        "precision": me.precision,
        "seeds": " ".join(map(str, run.seeds)),
    }


# -- entries ----------------------------------------------------------------------------------------------------------


@dataclass
class _Maker:
    """Makes entries, and collects their footnotes in the order of reading."""

    runs: Sequence[_Run]
    footnotes: list[str] = field(default_factory=list)

    def note(self, text: str) -> tuple[int]:
        text = _clean(text)
        if text not in self.footnotes:
            self.footnotes.append(text)
        return (self.footnotes.index(text) + 1,)

    def left_out(self, run: _Run) -> tuple[int, ...]:
        if not run.left_out:
            return ()
        cells = "1 older cell" if run.left_out == 1 else f"{run.left_out} older cells"
        return self.note(f"{cells} of other code, weights, precision, views or images left out")

    def accuracy(self, run: _Run, tasks: Sequence[Task]) -> Entry:
        """The unweighted mean over tasks of the accuracy, with its interval over seeds and images."""
        if len(tasks) == 1:
            mark, notes = self._state(run, tasks[0])
            if mark:
                return Entry(mark=mark, notes=notes)
            task, seeds = tasks[0], run.done(tasks[0])
            return _entry(stats.crossed(run.right(task, seeds)), notes)
        answered = [task for task in tasks if run.done(task)]
        if len(answered) < len(tasks):
            return Entry(mark=HOLE, notes=self.note(f"{len(answered)} of {len(tasks)} tasks") if answered else ())
        seeds = run.common(tasks)
        if not seeds:
            return Entry(mark=HOLE, notes=self.note("no seed answered all tasks"))
        notes = self.note(f"over the seeds that answered all tasks: {_list(seeds)}") if seeds != set(run.seeds) else ()
        return _entry(stats.pooled([(run.right(task, seeds), run.ids(task)) for task in tasks]), notes)

    def _state(self, run: _Run, task: Task) -> tuple[str, tuple[int, ...]]:
        """The mark in place of a number, if any, and the footnotes that a single task's number needs."""
        cells, done = run.of(task), run.done(task)
        lost = [r for _, r in sorted(cells.items()) if r.status != "done"]
        if not cells:
            return HOLE, ()
        reasons = list(dict.fromkeys(f"failed: {r.error}" if r.status == "failed" else r.error for r in lost))
        if not done:
            notes = tuple(number for reason in reasons for number in self.note(reason))
            return ("failed" if any(r.status == "failed" for r in lost) else "n/a"), notes
        if len(done) < len(run.seeds):
            return "", self.note("; ".join([f"{len(done)} of {len(run.seeds)} seeds", *reasons]))
        return "", ()

    @functools.cached_property
    def _differences(self) -> dict[tuple[int, tuple[Task, ...]], Entry]:
        return {}

    def difference(self, run: _Run, tasks: Sequence[Task]) -> Entry:
        """Accuracy minus zero-shot's on the same backbone, images and seeds, with interval and p."""
        key = (id(run), tuple(tasks))
        if key not in self._differences:
            self._differences[key] = self._difference(run, tasks)
        return self._differences[key]

    def _difference(self, run: _Run, tasks: Sequence[Task]) -> Entry:
        me = run.newest
        others = [r for r in self.runs if r.newest.method == REFERENCE and r.newest.backbone == me.backbone]
        if run in others[:1]:
            return Entry(mark="reference")
        others = [r for r in others if r.newest.fingerprint == me.fingerprint]
        if not others:
            return Entry(mark=HOLE, notes=self.note(f"{REFERENCE} was not run with the weights of {me.backbone}"))
        other = others[0]
        answered = [task for task in tasks if run.done(task) and other.done(task)]
        if len(answered) < len(tasks):
            return Entry(mark=HOLE, notes=self.note(f"{len(answered)} of {len(tasks)} tasks") if answered else ())
        mine, theirs = run.common(tasks), other.common(tasks)
        if len(run.seeds) > 1 and len(other.seeds) > 1:  # else one row stands for every seed
            mine = theirs = mine & theirs
        if not mine or not theirs:
            return Entry(mark=HOLE, notes=self.note("no seed answered all tasks"))
        differences = []
        for task in tasks:
            place = {name: i for i, name in enumerate(other.ids(task))}
            if place.keys() != set(run.ids(task)):
                return Entry(mark=HOLE, notes=self.note(f"{REFERENCE} answered other images"))
            theirs_there = other.right(task, theirs)[:, [place[name] for name in run.ids(task)]]
            differences.append((stats.paired(run.right(task, mine), theirs_there), run.ids(task)))
        return _entry(stats.pooled(differences))

    def p(self, run: _Run, tasks: Sequence[Task]) -> Entry:
        """The p-value of the difference, as a column of its own."""
        entry = self.difference(run, tasks)
        return replace(
            entry,
            value=entry.p,
            low=None,
            high=None,
            mark="" if entry.mark == "reference" else entry.mark,
            notes=(),
        )

    def harmonic(self, run: _Run, base: Sequence[Task], new: Sequence[Task]) -> Entry:
        """H of the mean base and the mean new accuracy."""
        b, n = self.accuracy(run, base).value, self.accuracy(run, new).value
        if b is None or n is None:
            return Entry(mark=HOLE)
        return Entry(2 * b * n / (b + n) if b + n else 0.0)

    def ece(self, run: _Run, tasks: Sequence[Task]) -> Entry:
        """Expected calibration error, the mean over tasks of the mean over seeds."""
        if not all(run.done(task) for task in tasks):
            return Entry(mark=HOLE)
        means = [np.mean([_ece(record) for record in run.done(task).values()]) for task in tasks]
        return Entry(float(np.mean(means)))

    def cost(self, run: _Run, tasks: Sequence[Task], read: Callable[[Record], float], largest: bool = False) -> Entry:
        """The mean (or the largest) over all cells that are done."""
        values = [read(record) for task in tasks for record in run.done(task).values()]
        if not values:
            return Entry(mark=HOLE)
        return Entry(max(values) if largest else float(np.mean(values)))


def _ece(record: Record) -> float:
    return stats.ece(record.confidence, np.asarray(record.prediction) == np.asarray(record.label))


def _entry(estimate: stats.Estimate, notes: tuple[int, ...] = ()) -> Entry:
    return Entry(estimate.mean, estimate.low, estimate.high, estimate.p, notes=notes)


def _list(items: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(items)))


# -- layouts ----------------------------------------------------------------------------------------------------------

Layout = list[tuple[Column, Callable[[_Run], Entry]]]


def _accuracy(maker: _Maker, title: str, tasks: Sequence[Task], interval: bool = True) -> Layout:
    return [(Column(title, "accuracy", interval=interval), lambda run: maker.accuracy(run, tasks))]


def _against(maker: _Maker, title: str, tasks: Sequence[Task]) -> Layout:
    return [
        (Column(title, "difference", interval=True), lambda run: maker.difference(run, tasks)),
        (Column(f"p of {title}", "p"), lambda run: maker.p(run, tasks)),
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
    "peak MiB": (_peak, True),
    "GFLOP/image": (_of("gflop_per_image"), True),
    **{
        name: (_of(name), False)
        for name in Cost.__dataclass_fields__
        if name not in ("fit_s", "memory_how", "gflop_per_image")
    },
}
"""Column -> how a record is read, and whether people are shown it or the CSV alone."""


def _calibration_and_cost(maker: _Maker, tasks: Sequence[Task]) -> Layout:
    layout: Layout = [(Column("ECE", "ece"), lambda run: maker.ece(run, tasks))]
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
    return "1 shot" if k == 1 else f"{k} shots"


def _domain_shift(maker: _Maker, suite: Suite, tasks: Sequence[Task]) -> Iterable[tuple[str, Layout]]:
    """A block for each number of shots; a column for each shifted task, then the mean over them and what it cost."""
    groups = _by_shots(tasks)
    for shots, group in groups.items():
        layout = [
            column for task in group for column in _accuracy(maker, task.test.name, [task], interval=len(group) == 1)
        ]
        if len(group) > 1:
            layout += _accuracy(maker, "mean", group)
        layout += _against(maker, f"vs {REFERENCE}", group) + _calibration_and_cost(maker, group)
        yield (_shots(shots) if len(groups) > 1 else ""), layout


def _few_shot(maker: _Maker, suite: Suite, tasks: Sequence[Task]) -> Iterable[tuple[str, Layout]]:
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
        _against(maker, f"vs {REFERENCE}", most) + _calibration_and_cost(maker, most),
    )


def _base_to_new(maker: _Maker, suite: Suite, tasks: Sequence[Task]) -> Iterable[tuple[str, Layout]]:
    """A block for each data set with base, new and H, then their average over data sets, then the rest."""
    groups = _by_shots(tasks)
    for shots, group in groups.items():
        ending = f", {_shots(shots)}" if len(groups) > 1 else ""
        base, new = ([task for task in group if task.test.half == half] for half in ("base", "new"))
        blocks = [(b.test.name.removesuffix("/base"), [b], [n]) for b, n in zip(base, new, strict=True)]
        if len(blocks) > 1:
            blocks.append((f"average over {len(blocks)} data sets", base, new))
        for title, bases, news in blocks:
            layout = _accuracy(maker, "base", bases) + _accuracy(maker, "new", news)
            make = functools.partial(maker.harmonic, base=bases, new=news)
            yield title + ending, [*layout, (Column("H", "accuracy"), make)]
        layout = _against(maker, f"base vs {REFERENCE}", base) + _against(maker, f"new vs {REFERENCE}", new)
        yield f"against {REFERENCE}, and the cost{ending}", layout + _calibration_and_cost(maker, group)


LAYOUTS: Mapping[str, Callable[[_Maker, Suite, Sequence[Task]], Iterable[tuple[str, Layout]]]] = {
    "domain-shift": _domain_shift,
    "few-shot": _few_shot,
    "base-to-new": _base_to_new,
}

# -- footer -----------------------------------------------------------------------------------------------------------


def _footer(runs: Sequence[_Run], rows: Sequence[Row]) -> Iterable[str]:
    """How to read the table: what the interval is, who chose the hyper-parameters, where the times come from."""
    cells = [r for run in runs for by_seed in run.cells.values() for r in by_seed.values()]
    done = [r for r in cells if r.status == "done"]
    images, seeds = _range(len(r.ids) for r in done), _range(len(run.seeds) for run in runs)
    yield (
        f"Accuracy in percent; {images} images a task, {seeds} seeds a row. ± is half of the 95 % interval over seeds "
        "and images (crossed variance, Satterthwaite; an image that several tasks show counts once)."
    )
    yield (
        f"Differences are paired with {REFERENCE} on the same backbone, images and seeds; p is not corrected for the "
        "number of rows. ECE in percent, 15 bins. Times and operations are means over cells, memory is the largest."
    )
    chosen: dict[str, list[str]] = {}
    for run, row in zip(runs, rows, strict=True):
        chosen.setdefault(run.newest.chosen_by, []).append(row.title)
    said = "; ".join(f"{how}: {', '.join(titles)}" for how, titles in sorted(chosen.items()))
    yield (
        f"Hyper-parameters: {next(iter(chosen))} for all rows." if len(chosen) == 1 else f"Hyper-parameters: {said}."
    )
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
    for note, titles in sorted(notes.items()):
        yield f"{note} ({'all rows' if len(titles) == len(rows) > 1 else ', '.join(titles)})."


def _machine(record: Record) -> str:
    known = record.provenance
    what = known.get("gpu") if str(known.get("device", "cpu")).startswith("cuda") else known.get("processor")
    threads = known.get("threads")
    return ", ".join([str(what)] * bool(what) + [f"{threads} thread{'s' * (threads != 1)}"] * bool(threads))


def _range(numbers: Iterable[int]) -> str:
    numbers = sorted(set(numbers)) or [0]
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
