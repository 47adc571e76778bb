"""The leaderboard for a terminal of any width: what does not fit beside the answers follows below them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bench.report.model import HOLE, Block, Column, Entry, Leaderboard, Row
from bench.report.text import broken, shown

WIDTH = 120
SPACING = ((34, 2), (26, 2), (26, 1))
"""How wide titles of rows may be before they are broken, and the gap between columns: roomy first."""
ARRANGEMENTS = (
    (("tasks", "summary", "cost"),),
    (("tasks", "summary"), ("cost",)),
    (("tasks",), ("summary", "cost")),
    (("tasks",), ("summary",), ("cost",)),
)
"""Which parts of a block stand side by side: the first arrangement that fits is taken."""


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
        yield from _tables(board, block, width)
    yield ""
    for i, note in enumerate(board.footnotes, 1):
        yield Text(f"[{i}] {note}")
    for line in board.footer.values():
        yield Text(line, style="dim")


def _tables(board: Leaderboard, block: Block, width: int) -> Iterator[RenderableType]:
    """The block in the first arrangement that fits; a part that stands alone may take several tables."""
    widths = [_width(block, j) for j in range(len(block.columns))]
    titles = max(cell_len(_title(row)) for row in board.rows)

    def fitting(group: list[int]) -> tuple[int, int] | None:
        needed = ((s, sum(widths[j] + s[1] for j in group)) for s in SPACING)
        return next((spacing for spacing, wide in needed if min(spacing[0], titles) + wide <= width), None)

    groups: list[tuple[tuple[str, ...], list[int]]] = []
    for arrangement in ARRANGEMENTS:
        groups = [
            (parts, [j for j, c in enumerate(block.columns) if c.shown and c.part in parts]) for parts in arrangement
        ]
        if all(len(parts) == 1 or fitting(group) for parts, group in groups):
            break
    for parts, group in groups:
        spacing = fitting(group) or SPACING[-1]
        for chunk in _chunks(group, [w + spacing[1] for w in widths], width - min(spacing[0], titles)):
            yield ""
            heading = ", ".join(filter(None, [block.title, "what it cost" if parts == ("cost",) else ""]))
            if heading:
                yield Text(heading, style="italic")
            yield _table(board, block, chunk, *spacing)


def _chunks(places: Sequence[int], widths: Sequence[int], room: int) -> Iterator[list[int]]:
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
    return max(map(cell_len, [*broken(column), *(_cell(entries[j], column).plain for entries in block.entries)]))


def _cell(entry: Entry, column: Column) -> Text:
    style = "red" if entry.mark == "failed" else "dim" if entry.mark in (HOLE, "n/a", "reference") else ""
    style = {"best": "bold", "tie": "underline"}.get(entry.standing, style)
    text = Text(shown(entry, column), style=style)
    if entry.notes:
        text.append(f" [{','.join(map(str, entry.notes))}]", style="dim")
    return text


def _title(row: Row) -> str:
    return row.title + (f" [{','.join(map(str, row.notes))}]" if row.notes else "")


def _table(board: Leaderboard, block: Block, places: Sequence[int], title_width: int, gap: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, gap - 1))
    table.add_column("", max_width=title_width, overflow="fold")
    for j in places:
        header = Text("\n".join(broken(block.columns[j])))
        table.add_column(header, justify="right", no_wrap=True)
    for row, entries in zip(board.rows, block.entries, strict=True):
        table.add_row(Text(_title(row)), *(_cell(entries[j], block.columns[j]) for j in places))
    return table
