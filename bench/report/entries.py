"""The numbers of a table: what a row's cells say about some tasks, with the footnotes that this needs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench import stats
from bench.api import Record, Task
from bench.report.model import HOLE, Entry, clean
from bench.report.rows import Run

REFERENCE = "zero-shot"
"""The method that all others are compared with."""


@dataclass
class Maker:
    """Makes entries, and collects their footnotes in the order of reading."""

    runs: Sequence[Run]
    footnotes: list[str] = field(default_factory=list)
    differences: dict[tuple[int, tuple[Task, ...]], Entry] = field(default_factory=dict)

    def note(self, text: str) -> tuple[int]:
        text = clean(text)
        if text not in self.footnotes:
            self.footnotes.append(text)
        return (self.footnotes.index(text) + 1,)

    def left_out(self, run: Run) -> tuple[int, ...]:
        if not run.left_out:
            return ()
        cells = "1 older cell" if run.left_out == 1 else f"{run.left_out} older cells"
        return self.note(f"{cells} of other code, weights, precision, views or images left out")

    def accuracy(self, run: Run, tasks: Sequence[Task]) -> Entry:
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

    def _state(self, run: Run, task: Task) -> tuple[str, tuple[int, ...]]:
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

    def difference(self, run: Run, tasks: Sequence[Task]) -> Entry:
        """Accuracy minus zero-shot's on the same backbone, images and seeds, with interval and p."""
        key = (id(run), tuple(tasks))
        if key not in self.differences:
            self.differences[key] = self._difference(run, tasks)
        return self.differences[key]

    def _difference(self, run: Run, tasks: Sequence[Task]) -> Entry:
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

    def p(self, run: Run, tasks: Sequence[Task]) -> Entry:
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

    def harmonic(self, run: Run, base: Sequence[Task], new: Sequence[Task]) -> Entry:
        """H of the mean base and the mean new accuracy."""
        b, n = self.accuracy(run, base).value, self.accuracy(run, new).value
        if b is None or n is None:
            return Entry(mark=HOLE)
        return Entry(2 * b * n / (b + n) if b + n else 0.0)

    def ece(self, run: Run, tasks: Sequence[Task]) -> Entry:
        """Expected calibration error, the mean over tasks of the mean over seeds."""
        if not all(run.done(task) for task in tasks):
            return Entry(mark=HOLE)
        return Entry(statistics.fmean(statistics.fmean(map(_ece, run.done(task).values())) for task in tasks))

    def cost(self, run: Run, tasks: Sequence[Task], read: Callable[[Record], float], largest: bool = False) -> Entry:
        """The mean (or the largest) over all cells that are done."""
        values = [read(record) for task in tasks for record in run.done(task).values()]
        if not values:
            return Entry(mark=HOLE)
        return Entry(max(values) if largest else statistics.fmean(values))


def _ece(record: Record) -> float:
    return stats.ece(record.confidence, np.asarray(record.prediction) == np.asarray(record.label))


def _entry(estimate: stats.Estimate, notes: tuple[int, ...] = ()) -> Entry:
    return Entry(estimate.mean, estimate.low, estimate.high, estimate.p, notes=notes)


def _list(items: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(items)))
