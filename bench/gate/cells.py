"""The cells of a baseline and those that answer for them now; what must be equal in both, and what has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import records
from bench.api import Record, UserError
from bench.gate.model import Change, Refusal

PLATFORM = ("system", "processor", "cpu_capability", "gpu", "device", "threads", "tf32", "python")
"""What of a cell's provenance can change a rounding, beside the packages: where all of it is the same, nothing may."""


class Refused(Exception):
    """Cells that cannot be compared."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True)
class Stored:
    """A cell without its arrays, and where it lies."""

    path: Path
    schema: int
    record: Record

    @property
    def key(self) -> tuple[str, str, int]:
        return self.record.method, self.record.task.name, self.record.seed

    @property
    def title(self) -> str:
        return "{} on {}, seed {}".format(*self.key)

    @property
    def name(self) -> str:
        return readable(self.path)


def read(path: Path) -> Stored:
    """One cell. Raises UserError where it is damaged or of a newer schema."""
    record = records.load(path, predictions=False)
    return Stored(path, json.loads((path / "cell.json").read_text(encoding="utf-8"))["schema"], record)


def readable(path: Path) -> str:
    """The readable part of a cell's folder: task, method and seed."""
    return path.name.rpartition("--")[0]


def named(root: str | Path) -> dict[str, list[Path]]:
    """The folders of all cells by the readable part of their names."""
    found: dict[str, list[Path]] = {}
    for path in records.places(root):
        found.setdefault(readable(path), []).append(path)
    return found


def of_baseline(root: str | Path) -> tuple[list[Stored], list[Refusal]]:
    """A baseline's cells, one for each method, task and seed, and what is wrong with it."""
    found: dict[tuple[str, str, int], Stored] = {}
    refusals = []
    for path in records.places(root):
        try:
            cell = read(path)
        except UserError as error:
            refusals.append(Refusal(str(error).rstrip(".")))
            continue
        if cell.key in found:
            reason = "the baseline holds this cell more than once: make it again in an empty folder"
            refusals.append(Refusal(reason, (cell.title,)))
        found[cell.key] = cell
    if not refusals and not any(cell.record.status == "done" for cell in found.values()):
        reason = f"{root} holds no cell that is done: name the baseline's folder, or make one by `run --results {root}`"
        refusals.append(Refusal(reason))
    return list(found.values()), refusals


def newest(then: Stored, stored: Mapping[str, Sequence[Path]]) -> tuple[Stored, int]:
    """The newest cell of that method, task and seed among the `named` ones, and how many others there are.

    Those of the same limit, backbone and precision go first: these are chosen run by run, and a results folder may
    hold several runs. Fields do not: a new default must not let an older cell answer for it.
    """
    found = [cell for cell in map(read, stored.get(then.name, ())) if cell.record.method == then.record.method]
    if not found:
        stem, _, seed = then.name.rpartition("--s")
        others = {name.rpartition("--s")[2] for name in stored if name.rpartition("--s")[0] == stem} - {seed}
        raise Refused(
            differing("seed", seed, f"{', '.join(sorted(others))} alone")
            if others
            else differing("cell", "there", "missing")
        )

    def rank(cell: Stored) -> tuple:
        chosen, asked = ((c.record.task, c.record.backbone, c.record.precision) for c in (cell, then))
        return chosen == asked, str(cell.record.provenance.get("finished", "")), cell.record.id

    return max(found, key=rank), len(found) - 1


# -- what must be equal -----------------------------------------------------------------------------------------------


def protocol(cell: Stored) -> dict[str, Any]:
    """What two cells must share before they are compared, causes before consequences."""
    record, task, known = cell.record, cell.record.task, cell.record.provenance
    data = known.get("data") or {}
    return {
        "schema": cell.schema,
        "backbone": record.backbone,
        "precision": record.precision,
        "weights": record.fingerprint,
        "labelled pictures": task.train and f"{task.shots or 'all'} a class of {task.train.name}",
        "task": task.name,
        "limit": task.limit,
        "views": known.get("views"),
        "classes": record.classes,
        "templates": known.get("templates"),
        **{f"{part} data": data.get(part) for part in ("test", "train", "val")},
    }


def asked(record: Record) -> dict[str, Any]:
    """The images and their true classes."""
    return {"images": record.ids, "labels": tuple(np.asarray(record.label).tolist())}


def agree(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise Refused for the first field that differs."""
    for field, value in then.items():
        if value != now[field]:
            raise Refused(differing(field, value, now[field]))


def differing(field: str, then: Any, now: Any) -> Refusal:
    """The refusal for a field with both values; of two lists, where they begin to differ."""
    if isinstance(then, tuple) and isinstance(now, tuple):
        place = next((i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), None)
        if place is None:
            then, now = f"{len(then)} of them", f"{len(now)} of them"
        else:
            then, now = f"{then[place]!r} as number {place + 1}", repr(now[place])
    return Refusal(f"{field}: {then} in the baseline, {now} now", (), field, str(then), str(now))


# -- what has changed -------------------------------------------------------------------------------------------------


def change(cell: Stored, a: Record, b: Record) -> Change | None:
    """How the answers differ, if they do, and what else does; a, b: the cell then and now, with its arrays."""
    answers = int((np.asarray(a.prediction) != np.asarray(b.prediction)).sum())
    before, after = (np.nan_to_num(np.stack([r.p_true, r.confidence]).astype(float), nan=-1) for r in (a, b))
    moved = float(np.abs(before - after).max(initial=0))
    if not answers and not moved:
        return None
    made, platform = (_moves(of(a), of(b)) for of in (_method, _platform))
    return Change(a.method, cell.title, len(a.ids), answers, moved, made, platform)


def _method(record: Record) -> dict[str, Any]:
    return {**record.fields, "labelled pictures": record.support, "code": record.code}


def _platform(record: Record) -> dict[str, Any]:
    known = record.provenance
    return {**{name: known.get(name) for name in PLATFORM}, **(known.get("packages") or {})}


def _moves(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """The names whose values differ, with both."""
    names = dict.fromkeys([*then, *now])
    return tuple(f"{name} {then.get(name)} -> {now.get(name)}" for name in names if then.get(name) != now.get(name))
