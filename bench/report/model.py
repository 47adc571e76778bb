"""What a leaderboard is: plain data, from which every format is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

HOLE = "–"
"""Stands where a number is missing."""
Part = Literal["tasks", "summary", "cost"]
PARTS: tuple[Part, ...] = ("tasks", "summary", "cost")


@dataclass(frozen=True)
class Entry:
    """One number with what is known about it, or a mark in its place.

    p: of the number being 0, as tested alone; corrected: the same with the correction that the footer names.
    standing: of the column's numbers this is the best, or the best is not separated from it ("tie").
    notes: numbers of footnotes.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    corrected: float | None = None
    standing: Literal["", "best", "tie"] = ""
    mark: str = ""
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Column:
    """`part`: what a narrow page may show apart. Columns that are not `shown` are in the CSV alone.

    Accuracies, differences and percent are fractions, whatever their unit says; `digits` are those of their percent.
    tasks: the names of the tasks whose cells an accuracy comes from, with and without support.
    """

    title: str
    kind: Literal["accuracy", "difference", "percent", "p", "count", "number"]
    part: Part = "tasks"
    interval: bool = False
    shown: bool = True
    unit: str = ""
    digits: int = 1
    tasks: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """Title and unit, but for percent and points, of which the footer speaks."""
        return f"{self.title} {self.unit}" if self.unit and self.kind == "number" else self.title


@dataclass(frozen=True)
class Row:
    """Who the numbers belong to. `facts` are for the CSV; `cells`: each stored cell with its cost and provenance."""

    title: str
    facts: Mapping[str, str]
    notes: tuple[int, ...] = ()
    cells: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence: how many, their mean confidence, and how many of them are right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Block:
    """Columns that belong together: of one data set, one number of shots, or a mean. entries[i][j]: row i, column j.

    The block of the headline also has reliability[i], the bins of row i's confidence from 0 to 1, and pairs[i][k], row
    i minus row k by the headline's measure; these are empty where there are too many rows to test them.
    """

    title: str
    columns: tuple[Column, ...]
    entries: tuple[tuple[Entry, ...], ...]
    pairs: tuple[tuple[Entry, ...], ...] = ()
    reliability: tuple[tuple[Bin, ...], ...] = ()

    @property
    def is_headline(self) -> bool:
        return bool(self.reliability)


@dataclass(frozen=True)
class Point:
    """A row's number y at x."""

    row: int
    x: float
    y: Entry


@dataclass(frozen=True)
class Panel:
    """Points row by row, those of a row in the order of x. y: what its own axis says, where it is not the chart's."""

    title: str
    points: tuple[Point, ...]
    y: str = ""


@dataclass(frozen=True)
class Chart:
    """What a figure shows, as plain data; the points of "reliability" are the headline block's bins.

    x, y: what the axes say. ticks: names of values of x, where these are names.
    joined: groups of rows that belong together: the Pareto front of a cost, the rows of one method, rows that a
        ranking does not separate.
    critical: the difference of mean ranks that would. caption: how to read it. absent: why there is nothing to show.
    """

    name: Literal["cost", "size", "robustness", "ranks", "severity", "shots", "differences", "reliability"]
    title: str
    x: str = ""
    y: str = ""
    panels: tuple[Panel, ...] = ()
    ticks: Mapping[float, str] = field(default_factory=dict)
    joined: tuple[tuple[int, ...], ...] = ()
    critical: float | None = None
    caption: str = ""
    absent: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """What all formats are written from. Footnote i stands at footnotes[i - 1].

    name: what its files are called. footer: how to read the table, a paragraph by topic.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    blocks: tuple[Block, ...]
    footnotes: tuple[str, ...]
    footer: Mapping[str, str]
    charts: tuple[Chart, ...] = ()

    @property
    def headline(self) -> Block:
        """The block that the charts are about: the last one of its kind."""
        return next(block for block in reversed(self.blocks) if block.is_headline)


def clean(text: str) -> str:
    """On one line and without control characters, whatever a name or an error says."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


LONGEST = 200
"""Letters of a name that a table shows."""


def short(name: str) -> str:
    """The name, cut where no table could hold it."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
