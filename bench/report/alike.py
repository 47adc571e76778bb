"""What answers must share before they are compared, and how it is said that they do not.

A field that a cell does not know, for it is older than the field, is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.api import Record
from bench.report.cells import Cell

MADE_BY = ("code", "weights", "precision", "views")
"""What all cells of a row share."""
QUESTION: Mapping[str, str] = {
    "images": "answered other images",
    "classes": "answered other classes",
    "labels": "answered other labels",
    "test data": "answered other test data",
    "templates": "was asked with other templates",
    "train data": "learnt from other train data",
    "val data": "chose by other val data",
}
"""Fields of what was asked -> what is said of a row that differs in it, before "than" and another row."""
PLATFORM = ("device", "gpu", "processor", "threads", "python")
MODEL: Mapping[str, str] = {"precision": "ran in another precision", "weights": "has other weights"}
"""Likewise of the model, where two rows are said to be on the same one."""


def made_by(record: Record) -> dict[str, Any]:
    values = (record.code, record.fingerprint, record.precision, record.provenance.get("views"))
    return dict(zip(MADE_BY, values, strict=True))


def other_model(a: Record, b: Record) -> str:
    """The field in which two rows on a backbone of one name do not share the model; "" where they do."""
    if a.backbone != b.backbone:
        return ""
    return next((name for name in MODEL if made_by(a)[name] != made_by(b)[name]), "")


def made_otherwise(a: Record, b: Record) -> dict[str, tuple[Any, Any]]:
    """In what two rows differ that may be compared all the same: field -> both values.

    The code, of one method; weights and precision, on one backbone; views, where both have some; what can change a
    rounding. What only one of them knows is no difference.
    """
    fields = ["code"] * (a.method == b.method) + ["weights", "precision"] * (a.backbone == b.backbone)
    mine, theirs = ({**made_by(r), **{name: r.provenance.get(name) for name in PLATFORM}} for r in (a, b))
    fields += ["views"] * bool(mine["views"] and theirs["views"])
    packages = [r.provenance.get("packages") or {} for r in (a, b)]
    pairs = {name: (mine[name], theirs[name]) for name in (*fields, *PLATFORM)}
    pairs |= {name: (packages[0][name], packages[1].get(name)) for name in packages[0]}
    return {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}


def other_question(a: Cell, b: Cell) -> str:
    """The first field in which two cells were not asked the same; "" where they were.

    Templates are compared of equal tasks, for those of the pictures learnt on are among them.
    """
    if a.asked == b.asked:
        return ""
    fields = ["images", "classes", "labels", "test data"] + ["templates"] * (a.record.task == b.record.task)
    return _first(a.asked, b.asked, fields) or other_support(a, b)


def other_support(a: Cell, b: Cell) -> str:
    """The field in which one draw gave two cells other pictures; "" where it gave the same, or there are two draws."""
    if a.record.task.train is None or _draw(a.record) != _draw(b.record):
        return ""
    return _first(a.asked, b.asked, ("train data", "val data"))


def _draw(record: Record) -> tuple:
    return record.task.train, record.task.shots, record.seed


def _first(mine: Mapping[str, Any], theirs: Mapping[str, Any], fields: Iterable[str]) -> str:
    known = (name for name in fields if mine.get(name) is not None and theirs.get(name) is not None)
    return next((name for name in known if mine[name] != theirs[name]), "")
