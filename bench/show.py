"""One stored cell, read back: what was asked, what came out, what it cost, and where it comes from."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import records
from bench.api import Record, UserError

SHORT = 4
"""The fewest letters of an id that may stand for it."""


def find(root: Path, name: str) -> Path:
    """The folder of the cell that is meant: by its path, its folder's name, its id, or the beginning of its id."""
    known = {path.name: path for path in records.places(root)}
    if Path(name).name in known and (
        Path(name).name == name or Path(name).resolve().parent == (root / "cells").resolve()
    ):
        return known[Path(name).name]
    meant = [
        path for path in known.values() if _id(path) == name or (len(name) >= SHORT and _id(path).startswith(name))
    ]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UserError(f"{name!r} begins the id of {len(meant)} cells in {root}: {', '.join(map(_id, meant))}.")
    if not known:
        raise UserError(f"{root} holds no cells: run a suite first, or name its folder by --results.")
    close = difflib.get_close_matches(name, [*known, *map(_id, known.values())], n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"its {len(known)} cells are in {root / 'cells'}."
    raise UserError(f"{root} holds no cell {name!r}; {hint}")


def _id(path: Path) -> str:
    return path.name.rsplit("--", 1)[-1]


def text(path: Path) -> str:
    """The cell's own JSON, as it is stored."""
    return (path / "cell.json").read_text(encoding="utf-8")


def sections(path: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(title, lines of a name and a value): everything but the answers, of which counts are shown."""
    record = records.load(path, predictions=True)
    yield "", [("cell", record.id), ("folder", str(path)), ("status", record.status), *_outcome(record)]
    task = record.task
    asked = [("method", f"{record.title} ({record.method})"), ("task", task.name), ("seed", str(record.seed))]
    asked += [("classes", f"{len(record.classes)}"), ("labelled support", f"{record.support:,}")]
    asked += [("backbone", f"{record.backbone}, {record.precision}"), ("hyper-parameters", f"{record.chosen_by}")]
    yield "asked", asked + [(f"  {key}", _said(value)) for key, value in record.fields.items()]
    costs = {field.name: getattr(record.cost, field.name) for field in dataclasses.fields(record.cost)}
    yield "cost", [("trained parameters", f"{record.parameters:,}"), *((k, _said(v)) for k, v in costs.items())]
    hashes = [("weights and transform", record.fingerprint), ("code", record.code)]
    yield "provenance", hashes + list(_flat(record.provenance))
    if record.notes:
        yield "notes", [("", note) for note in record.notes]
    if record.traceback:
        yield "traceback", [("", line) for line in record.traceback.rstrip().splitlines()]


def _outcome(record: Record) -> list[tuple[str, str]]:
    if record.status != "done":
        return [("reason", record.error)]
    right, n = int((record.prediction == record.label).sum()), len(record.ids)
    return [("accuracy", f"{100 * right / n:.2f} % ({right} of {n} pictures)")]


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key} ")
        else:
            yield before + key, _said(value)
