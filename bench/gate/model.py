"""What a gate finds, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench import stats

Outcome = Literal["pass", "regression", "inconclusive", "refusal"]
EXIT: dict[Outcome, int] = {"pass": 0, "regression": 1, "inconclusive": 2, "refusal": 3}
SHOWN = 3
"""Cells named in a sentence; more are counted."""


@dataclass(frozen=True)
class Refusal:
    """Why cells cannot be compared. field, baseline, now: what differs and both values; empty where a cell is not."""

    reason: str
    cells: tuple[str, ...] = ()
    field: str = ""
    baseline: str = ""
    now: str = ""

    def __str__(self) -> str:
        return self.reason + (f" ({some(self.cells)})" if self.cells else "")


@dataclass(frozen=True)
class Failure:
    """A cell that had answers in the baseline and has none now."""

    cell: str
    error: str


@dataclass(frozen=True)
class Change:
    """A cell whose answers are not the baseline's bit for bit, and what else has changed.

    answers: images with another answer. probability: how far that of the answer, or of the true class, moved at most.
    made: what of the method's fields, labelled pictures and code differs. platform: likewise; empty on the same one,
    where a cell made alike must match exactly.
    """

    method: str
    cell: str
    images: int
    answers: int
    probability: float
    made: tuple[str, ...]
    platform: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A method on one task, or its mean over all (task is None): accuracies and the verdict on now - baseline."""

    method: str
    task: str | None
    seeds: int
    images: int
    baseline: float
    now: float
    verdict: stats.Verdict
    same: bool  # no image was gained or lost

    @property
    def name(self) -> str:
        return self.method if self.task is None else f"{self.method} on {self.task}"


@dataclass(frozen=True)
class Gate:
    """The outcome, and all that it rests on.

    cells: how many were compared. unanswered: cells that the baseline has no answers of; new: those that it does not
    have; left_out: how many more there are of cells that were compared. None of these are judged.
    """

    outcome: Outcome
    baseline: str
    results: str
    margin: float
    alpha: float
    cells: int
    rows: tuple[Row, ...]
    refusals: tuple[Refusal, ...]
    failures: tuple[Failure, ...]
    changes: tuple[Change, ...]
    unanswered: tuple[str, ...]
    new: tuple[str, ...]
    left_out: int

    @property
    def exit(self) -> int:
        return EXIT[self.outcome]


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
