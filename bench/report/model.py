"""What a leaderboard is: plain data, from which every format is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

HOLE = "–"
"""Stands where a number is missing."""
Part = Literal["tasks", "summary", "cost"]
PARTS: tuple[Part, ...] = ("tasks", "summary", "cost")


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
    """`part`: what a narrow page may show apart. Columns that are not `shown` are in the CSV alone."""

    title: str
    kind: Literal["accuracy", "difference", "p", "ece", "count", "number"]
    part: Part = "tasks"
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


def clean(text: str) -> str:
    """On one line and without control characters, whatever a name or an error says."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
