"""Several backbones: a leaderboard for each, and one table of methods x backbones.

Every test stays within one backbone: the table sets side by side what the leaderboards hold, and tests nothing itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from bench.api import Suite
from bench.report.cells import Cell
from bench.report.entries import REFERENCE
from bench.report.leaderboard import leaderboard, rows_of
from bench.report.model import HOLE, Block, Column, Entry, Leaderboard, Row, clean, short

SAID = (
    f"Each row is compared with {REFERENCE} on its own backbone. Ranks, ties and tests between methods are in the "
    "table of each backbone, where Holm's correction is over its rows alone. No test here is between two backbones: "
    "python -m bench compare has one."
)
KEPT = ("weights", "accuracy", "difference", "hyper-parameters")
"""Topics of the leaderboards' footers that are about these numbers too."""


def leaderboards(suite: Suite, cells: Iterable[Cell], order: Sequence[str] = ()) -> list[Leaderboard]:
    """The suite's leaderboard; where its cells are of several backbones, the table across them and one for each."""
    cells = list(cells)
    names = sorted({run.newest.backbone for run in rows_of(suite, cells, order)}, key=_order(cells))
    if len(names) == 1:
        return [leaderboard(suite, cells, order)]
    boards = []
    for name, file in zip(names, _files(names), strict=True):
        board = leaderboard(suite, [cell for cell in cells if cell.record.backbone == name], order)
        boards.append(replace(board, name=f"{suite.name}-{file}", title=clean(f"{suite.title}: {short(name)}")))
    return [_across(suite, names, boards), *boards]


def _order(cells: Sequence[Cell]) -> Callable[[str], tuple[str, str]]:
    """Backbones as they were run: by the time of their first cell."""
    first: dict[str, str] = {}
    for cell in cells:
        when = str(cell.record.provenance.get("finished", ""))
        first[cell.record.backbone] = min(first.get(cell.record.backbone, when), when)
    return lambda name: (first[name], name)


def _files(names: Sequence[str]) -> list[str]:
    """What files of each are called; where letters alone would not tell two apart, with a hash."""
    plain = [re.sub(r"[^A-Za-z0-9._@+=]+", "-", name).strip("-.") for name in names]
    hashes = [hashlib.sha256(name.encode()).hexdigest()[:8] for name in names]
    alone = [bool(text) and len(text) <= 100 and plain.count(text) == 1 for text in plain]
    return [
        text if one else f"{text[:100]}-{digest}".lstrip("-")
        for text, digest, one in zip(plain, hashes, alone, strict=True)
    ]


def _across(suite: Suite, names: Sequence[str], boards: Sequence[Leaderboard]) -> Leaderboard:
    """Rows method by method, backbones in order within; footnotes numbered anew."""
    notes: dict[str, int] = {}
    named: dict[str, list[tuple[int, int]]] = {}  # in the first board's order, what only others have behind
    for b, board in enumerate(boards):
        for i, titled in enumerate(board.rows):
            named.setdefault(titled.title, []).append((b, i))
    places = [place for of_title in named.values() for place in of_title]

    def noted(board: Leaderboard, numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(notes.setdefault(board.footnotes[n - 1], len(notes) + 1) for n in numbers)

    def row(b: int, i: int) -> Row:
        mine = boards[b].rows[i]
        return replace(mine, title=clean(f"{mine.title} on {short(names[b])}"), notes=noted(boards[b], mine.notes))

    def entry(b: int, i: int, block: Block, column: Column) -> Entry:
        there = [j for j, other in enumerate(block.columns) if other == column]
        if not there:
            return Entry(mark=HOLE)
        found = block.entries[i][there[0]]
        return replace(found, standing="", notes=noted(boards[b], found.notes))

    rows, blocks = tuple(row(b, i) for b, i in places), []
    for alike in zip(*(_headlines(board) for board in boards), strict=True):
        columns = tuple(column for column in alike[0].columns if column.kind == "accuracy" or _is_compared(column))
        entries = tuple(tuple(entry(b, i, alike[b], column) for column in columns) for b, i in places)
        hole, tested = Entry(mark=HOLE), all(block.pairs for block in alike)
        pairs = [tuple(alike[b].pairs[i][k] if b == c else hole for c, k in places) for b, i in places if tested]
        bins = tuple(alike[b].reliability[i] for b, i in places)
        blocks.append(Block(alike[0].title, columns, entries, tuple(pairs), bins))
    footer = {"backbones": SAID, **dict(_footer(names, boards))}
    title = clean(f"{suite.title}: {len(names)} backbones")
    return Leaderboard(f"{suite.name}-backbones", title, rows, tuple(blocks), tuple(notes), footer)


def _headlines(board: Leaderboard) -> list[Block]:
    return [block for block in board.blocks if block.is_headline]


def _is_compared(column: Column) -> bool:
    return column.part == "summary" and column.kind in ("difference", "p") and column.title != "p over tasks"


def _footer(names: Sequence[str], boards: Sequence[Leaderboard]) -> Iterator[tuple[str, str]]:
    """What the boards say: once where they all say the same, else with the backbone's name."""
    for topic in KEPT:
        said = {name: board.footer[topic] for name, board in zip(names, boards, strict=True) if topic in board.footer}
        if len(said) == len(names) and len(set(said.values())) == 1:
            yield topic, next(iter(said.values()))
        else:
            yield from ((f"{topic}, {name}", f"{name}: {text}") for name, text in said.items())
