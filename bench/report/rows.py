"""Which cells make a row: a method with its fields on a backbone, of one code and one set of weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import cards
from bench.api import Record, Task
from bench.report.model import clean


@dataclass(frozen=True, eq=False)
class Run:
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


def grouped(cells: Iterable[Record], order: Sequence[str]) -> list[Run]:
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in cells:
        groups.setdefault((record.method, _json(record.fields), record.backbone), []).append(record)
    place = {name: i for i, name in enumerate(order)}
    return [_run(groups[key]) for key in sorted(groups, key=lambda key: (place.get(key[0], len(place)), key))]


def _run(cells: list[Record]) -> Run:
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
    return Run(cells[0], kept, len(cells) - sum(map(len, kept.values())))


def _made_by(record: Record) -> tuple:
    return record.code, record.fingerprint, record.precision, record.provenance.get("views")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def titles(runs: Sequence[Run]) -> list[str]:
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
        titles.append(clean(me.title + (f" ({', '.join(words)})" if words else "")))
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
