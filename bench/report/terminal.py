"""The leaderboard for a terminal of any width: what does not fit beside the answers follows below them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bench.report.leaderboard import HOLE, Block, Column, Entry, Leaderboard
from bench.report.text import shown

WIDTH = 120
TITLE_WIDTH = 34
"""A longer title of a row is broken."""


def as_terminal(board: Leaderboard) -> str:
    """The text that a terminal of 120 columns shows, without colours."""
    stream = io.StringIO()
    show(
        board,
        Console(file=stream, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False),
    )
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def show(board: Leaderboard, console: Console) -> None:
    """Print the leaderboard on a console, in as many tables as its width asks for."""
    for piece in _pieces(board, console.width):
        console.print(piece)


def _pieces(board: Leaderboard, width: int) -> Iterator[RenderableType]:
    yield Text(board.title, style="bold")
    for block in board.blocks:
        places = [j for j, column in enumerate(block.columns) if column.shown]
        titles = [row.title for row in board.rows]
        widths = {j: _width(block, j) for j in places}
        room = width - min(TITLE_WIDTH, max(map(cell_len, titles))) - 4
        if sum(widths.values()) <= room:
            yield _table(board, block, places, block.title)
            continue
        for part, about in (("answers", ""), ("cost", "what it cost")):
            for chunk in _chunks([j for j in places if block.columns[j].part == part], widths, room):
                yield _table(board, block, chunk, ", ".join(filter(None, [block.title, about])))
    for i, note in enumerate(board.footnotes, 1):
        yield Text(f"[{i}] {note}")
    for line in board.footer:
        yield Text(line, style="dim")


def _chunks(places: Sequence[int], widths: dict[int, int], room: int) -> Iterator[list[int]]:
    """As many columns a table as there is room for, at least one."""
    chunk: list[int] = []
    for j in places:
        if chunk and sum(widths[i] for i in chunk) + widths[j] > room:
            yield chunk
            chunk = []
        chunk.append(j)
    if chunk:
        yield chunk


def _width(block: Block, j: int) -> int:
    column = block.columns[j]
    lines = _header(column).split("\n") + [_cell(entries[j], column).plain for entries in block.entries]
    return max(map(cell_len, lines)) + 2


def _header(column: Column) -> str:
    """Long names are broken behind a blank, a hyphen or a colon."""
    lines = [""]
    for word in re.findall(r"[^ :/-]*[ :/-]*", column.title):
        if len(lines[-1].strip()) and len(lines[-1]) + len(word) > 11:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip(" ") for line in lines)


def _cell(entry: Entry, column: Column) -> Text:
    style = "red" if entry.mark == "failed" else "dim" if entry.mark in (HOLE, "n/a", "reference") else ""
    text = Text(shown(entry, column), style=style)
    if entry.notes:
        text.append(f" [{','.join(map(str, entry.notes))}]", style="dim")
    return text


def _table(board: Leaderboard, block: Block, places: Sequence[int], title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=Text(title) if title else None, title_justify="left")
    table.add_column("", max_width=TITLE_WIDTH, overflow="fold", min_width=8)
    for j in places:
        table.add_column(Text(_header(block.columns[j])), justify="right", vertical="bottom", no_wrap=True)
    for row, entries in zip(board.rows, block.entries, strict=True):
        marks = f" [{','.join(map(str, row.notes))}]" if row.notes else ""
        table.add_row(Text(row.title + marks), *(_cell(entries[j], block.columns[j]) for j in places))
    return table
