"""Which cells make a row: a method with its fields on a backbone, of one code and one set of weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import cards
from bench.api import Record, Task
from bench.report.alike import made_by, other_question, other_support
from bench.report.cells import Cell
from bench.report.model import clean, short


@dataclass(frozen=True, eq=False)
class Run:
    """The cells of one row, by task and seed: of one code, one set of weights, one precision and number of views."""

    newest: Record
    cells: Mapping[Task, Mapping[int, Cell]]
    left_out: tuple[str, ...] = ()
    """For each older cell that is not shown, in what it differs from those that are."""

    @functools.cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for by_seed in self.cells.values() for seed in by_seed}))

    @property
    def untrained(self) -> bool:
        """Whether the backbone's weights are random."""
        return "random" in self.newest.provenance.get("weights", {})

    def of(self, task: Task) -> Mapping[int, Cell]:
        """The cells that answer `task`; methods without support answer the same question without it."""
        learns = self.newest.setting.startswith(("few-shot", "fine-tune"))
        return self.cells.get(task if learns else cards.unsupported(task), {})

    def done(self, task: Task) -> Mapping[int, Cell]:
        """Those of them that were answered, by seed."""
        if task not in self._done:
            cells = sorted(self.of(task).items())
            self._done[task] = {seed: cell for seed, cell in cells if cell.record.status == "done"}
        return self._done[task]

    @functools.cached_property
    def _done(self) -> dict[Task, dict[int, Cell]]:
        return {}

    def common(self, tasks: Iterable[Task]) -> tuple[int, ...]:
        """Seeds that answered all of these tasks."""
        return tuple(sorted(set.intersection(*(set(self.done(task)) for task in tasks))))

    def right(self, task: Task, seeds: Iterable[int]) -> NDArray[np.bool_]:
        """(S, n): whether the answers are right."""
        done = self.done(task)
        return np.stack([done[seed].right for seed in seeds])

    def ids(self, task: Task) -> tuple[str, ...]:
        return next(iter(self.done(task).values())).ids

    def apart(self, other: Run, tasks: Iterable[Task]) -> str:
        """The first field in which the two were not asked the same of these tasks; "" where they were."""
        for task in tasks:
            mine, theirs = self.done(task), other.done(task)
            common = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
            for a, b in common or [(next(iter(mine.values())), next(iter(theirs.values())))]:
                if field := other_question(a, b):
                    return field
        return ""

    @property
    def older(self) -> str:
        """How many cells are left out and why, "" where none is."""
        if not self.left_out:
            return ""
        count = "1 older cell" if len(self.left_out) == 1 else f"{len(self.left_out)} older cells"
        return f"{count} left out: {'; '.join(dict.fromkeys(self.left_out))}"


def grouped(cells: Iterable[Cell], order: Sequence[str] = ()) -> list[Run]:
    """The rows that these cells make, in the `order` of method names; others follow by name."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        record = cell.record
        groups.setdefault((record.method, _json(record.fields), record.backbone), []).append(cell)
    place = {name: i for i, name in enumerate(order)}
    return [_run(groups[key]) for key in sorted(groups, key=lambda key: (place.get(key[0], len(place)), key))]


def _run(cells: list[Cell]) -> Run:
    """The newest cell decides; cells that were made or asked otherwise are left out, each with what differs."""
    cells = sorted(cells, key=lambda c: (str(c.record.provenance.get("finished", "")), c.record.id), reverse=True)
    kept: dict[Task, dict[int, Cell]] = {}
    left_out = []
    for cell in cells:
        reason = _unlike(cell, cells[0], kept)
        if reason:
            left_out.append(reason)
        else:
            kept.setdefault(cell.record.task, {})[cell.record.seed] = cell
    return Run(cells[0].record, kept, tuple(left_out))


def _unlike(cell: Cell, newest: Cell, kept: Mapping[Task, Mapping[int, Cell]]) -> str:
    """In what a cell differs from those of its row that were kept; "" where it goes with them."""
    mine, theirs = made_by(cell.record), made_by(newest.record)
    if fields := [name for name in mine if mine[name] != theirs[name]]:
        return f"other {', '.join(fields)}"
    task, seed = cell.record.task, cell.record.seed
    same = kept.get(task, {})
    for other in same.values():
        if field := other_question(cell, other):
            return f"other {field}"
    beside = [by_seed[seed] for at, by_seed in kept.items() if at.train == task.train and seed in by_seed]
    for other in beside if task.train is not None else ():
        if field := other_support(cell, other):
            return f"other {field}"
    return "the same cell again" if seed in same else ""


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def titles(runs: Sequence[Run]) -> list[str]:
    """Each method's title; where it is not the only one of that title, with just that in which it differs."""
    values: dict[str, dict[str, set[str]]] = {}  # title -> what its rows may differ in -> how they do
    for run in runs:
        me = run.newest
        fields = {f"field {name}": _json(value) for name, value in me.fields.items()}
        for what, value in {**fields, "method": me.method, "backbone": me.backbone}.items():
            values.setdefault(me.title, {}).setdefault(what, set()).add(value)
    titles = []
    for run in runs:
        me = run.newest
        differs = {what for what, found in values[me.title].items() if len(found) > 1}
        words = [me.method] * ("method" in differs)
        words += [f"{name} = {_short(value)}" for name, value in me.fields.items() if f"field {name}" in differs]
        words += [f"on {me.backbone}"] * ("backbone" in differs)
        said = ", ".join(map(short, words))
        titles.append(clean(short(me.title) + (f" ({said})" if words else "")))
    return titles


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else _json(value)
    return text if len(text) <= 40 else text[:39] + "…"


def facts(run: Run) -> dict[str, str]:
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
        "replicates": " ".join(map(str, run.seeds)),
    }


def listed(run: Run) -> tuple[dict[str, Any], ...]:
    """Every cell of the row, as plain data."""
    return tuple(
        {
            "id": cell.record.id,
            "task": cell.record.task.name,
            "seed": cell.record.seed,
            "status": cell.record.status,
            "error": cell.record.error,
            "traceback": cell.record.traceback,
            "images": len(cell.ids),
            "accuracy": float(cell.right.mean()) if len(cell.ids) else None,
            "ece": cell.ece,
            "cost": vars(cell.record.cost),
            "notes": list(cell.record.notes),
            "provenance": cell.record.provenance,
        }
        for task in sorted(run.cells, key=lambda task: task.name)
        for _, cell in sorted(run.cells[task].items())
    )
