"""What tables need of a stored cell: a bit an image instead of five arrays, so that thousands of cells fit."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import cards, records, stats
from bench.api import Record, Suite, Task

BINS = 15
EDGES = np.linspace(0, 1, BINS + 1)[1:-1]


@dataclass(frozen=True, eq=False)
class Cell:
    """A record without its arrays, and what they said.

    ids (n,): the images in alphabetical order. packed: whether each was answered rightly, eight to a byte.
    asked: digests of the images, their classes, labels and contents, of the templates, and of the pictures learnt on;
        answers are compared only where they are the same (`bench.report.alike`).
    bins (3, 15): answers, sum of their confidences and right answers, by confidence in bins of equal width.
    unknown: answers whose confidence is not a number; there is no ECE then.
    """

    record: Record
    ids: tuple[str, ...] = ()
    packed: bytes = b""
    asked: Mapping[str, Any] = field(default_factory=dict)
    bins: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, BINS)))
    ece: float | None = None
    unknown: int = 0

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,): whether each image was answered rightly."""
        return np.unpackbits(np.frombuffer(self.packed, np.uint8), count=len(self.ids)).view(bool)


class Reading(NamedTuple):
    """The cells, and one sentence about each folder that could not be read."""

    cells: list[Cell]
    warnings: list[str]


def read(root: str | Path, suites: Iterable[Suite]) -> Reading:
    """The stored cells that tables of these suites can show; each is read once and its arrays are let go.

    Raises UserError where one is of a newer schema, for nobody knows what it would say.
    """
    wanted = frozenset().union(*map(answered, suites))
    cells, warnings = [], []
    for path in records.places(root):
        try:
            record = records.load(path, predictions=lambda record: record.task in wanted)
        except records.Damaged as error:
            warnings.append(str(error))
        else:
            if record.task in wanted:
                cells.append(reduced(record))
    return Reading(cells, warnings)


def answered(suite: Suite) -> frozenset[Task]:
    """The tasks that a suite's cells answer: its own, and the same questions without labelled pictures."""
    tasks = cards.tasks(suite)
    return frozenset([*tasks, *map(cards.unsupported, tasks)])


def has_cells(suite: Suite, cells: Iterable[Cell]) -> bool:
    """Whether somebody ran this suite: some cell learnt from its support, or the whole of it was answered without.

    Cells without support may have come from another suite that shows some of the same pictures.
    """
    found = {cell.record.task for cell in cells if cell.record.setting in suite.admits}
    tasks = cards.tasks(suite)
    return any(task in found for task in tasks) or all(cards.unsupported(task) in found for task in tasks)


def reduced(record: Record) -> Cell:
    """The cell of a record that was loaded with its predictions."""
    shared = {"task": _same(record.task), "classes": _same(record.classes)}
    bare = replace(record, **shared, ids=(), prediction=None, label=None, p_true=None, confidence=None)
    known = record.provenance
    data = {f"{part} data": digest for part, digest in (known.get("data") or {}).items()}
    asked = {**data, "templates": known.get("templates")}
    if record.status != "done":
        return Cell(bare, asked=asked)
    if record.prediction is None:
        raise ValueError("a cell without its predictions: load(path, predictions=True)")
    ids, order = _sorted(record.ids)
    label, confidence = np.asarray(record.label)[order], np.asarray(record.confidence, dtype=float)[order]
    right = np.asarray(record.prediction)[order] == label
    known = np.isfinite(confidence)
    asked |= {"images": _digest(ids), "classes": _digest(record.classes), "labels": _hashed(label.astype(np.int64))}
    place = np.searchsorted(EDGES, confidence[known], side="left")
    counted = [np.bincount(place, weights, BINS) for weights in (None, confidence[known], right[known])]
    return Cell(
        bare,
        ids,
        np.packbits(right).tobytes(),
        asked,
        np.array(counted, dtype=float),
        stats.ece(confidence, right, BINS) if known.all() else None,
        int((~known).sum()),
    )


@functools.lru_cache(maxsize=512)
def _sorted(ids: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The ids in alphabetical order, one tuple for all cells of a task, and their places."""
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    return tuple(ids[i] for i in order), order


@functools.lru_cache(maxsize=512)
def _same(value: Any) -> Any:
    """The first that was equal to it: what many cells have in common is in memory once."""
    return value


@functools.lru_cache(maxsize=512)
def _digest(names: tuple[str, ...]) -> str:
    return _hashed(repr(names).encode())


def _hashed(content: Any) -> str:
    """Digest of bytes, or of an array's."""
    return sys.intern(hashlib.blake2b(content, digest_size=16).hexdigest())
