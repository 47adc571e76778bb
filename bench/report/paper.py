"""A leaderboard in the layout of a paper's table, with what papers print beside what was measured here.

Three layouts: shifts and their average; base, new and H over data sets; in distribution, shifts and their average.
Published rows stand only where the tested data sets are the same ones by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.api import Suite, UserError
from bench.report.model import HOLE, Block, Column, Entry, Leaderboard, Row
from bench.report.published import Layout, PublishedRow, PublishedTable

TOPICS = ("accuracy", "one seed", "one row", "ties", "hyper-parameters")
"""What of a leaderboard's footer is about the numbers that are left."""


def kind(suite: Suite) -> Layout:
    """The layout that belongs to a suite of this form."""
    if suite.setting == "base-to-new":
        return "base-to-new"
    if suite.setting == "domain-shift":
        return "in-distribution" if suite.id else "shifts"
    raise UserError(
        f"suite {suite.name!r} is {suite.setting}, which has no layout of a paper's table: leave out --style paper, "
        "or choose a suite of domain shifts or of base and new classes."
    )


def has_layout(suite: Suite) -> bool:
    """Whether a paper has a table for suites of this form."""
    return suite.setting in ("base-to-new", "domain-shift")


def paper(suite: Suite, board: Leaderboard, tables: Sequence[PublishedTable] = ()) -> Leaderboard:
    """The suite's leaderboard with the columns of a paper's table alone, and that table's rows, where they match."""
    table = next((table for table in tables if table.layout == kind(suite) and _shared(suite, table)), None)
    order = _order(board, table)
    notes = list(board.footnotes)

    def note(text: str) -> int:
        if text not in notes:
            notes.append(text)
        return notes.index(text) + 1

    def row(place: int | PublishedRow) -> Row:
        if isinstance(place, int):
            ours = board.rows[place]
            return replace(ours, facts={**ours.facts, "source": "measured here"})
        assert table is not None
        facts = {**dict.fromkeys(board.rows[0].facts, ""), "backbone": table.backbone, "source": table.source}
        marks = (note(f"printed; {place.note}"),) if place.note else ()
        return Row(f"{place.title} (published)", facts, marks)

    def entry(place: int | PublishedRow, block: Block, j: int) -> Entry:
        if isinstance(place, int):
            return block.entries[place][j]
        assert table is not None
        return _printed(suite, table, place, block.columns[j], note)

    blocks = []
    for block in board.blocks:
        if not block.is_headline:  # one of the data sets alone, and no average
            continue
        columns = [j for j, c in enumerate(block.columns) if c.kind == "accuracy" and c.shown]
        entries = tuple(tuple(entry(place, block, j) for j in columns) for place in order)
        titled = tuple(_column(table, block.columns[j]) for j in columns)
        blocks.append(Block(block.title, titled, entries))
    rows = tuple(map(row, order))
    footer = _footer(board, table)
    return _renumbered(Leaderboard(f"{board.name}-paper", board.title, rows, tuple(blocks), tuple(notes), footer))


def _shared(suite: Suite, table: PublishedTable) -> bool:
    """Base and new are printed as averages, which only the same data sets have; of shifts any may be shared."""
    if table.layout == "base-to-new":
        return set(suite.tests) == set(table.tests)
    return any(test in suite.tests for test in table.tests)


def _order(board: Leaderboard, table: PublishedTable | None) -> list[int | PublishedRow]:
    """Each published row with ours below it, then those of ours that no paper of this table has."""
    methods = [row.facts["method"] for row in board.rows]
    order: list[int | PublishedRow] = []
    for row in table.rows if table is not None else ():
        order += [row, *(i for i, name in enumerate(methods) if name in row.ours and i not in order)]
    return order + [i for i in range(len(methods)) if i not in order]


def _column(table: PublishedTable | None, column: Column) -> Column:
    title = {"mean": "average"}.get(column.title, column.title)
    if table is None:
        return replace(column, title=title, part="tasks")
    titles = {**dict(zip(table.tests, table.headings, strict=False)), "mean": table.average}
    if table.layout == "base-to-new":
        titles = {}
    return replace(column, title=titles.get(column.title, title), part="tasks", digits=table.digits)


def _printed(
    suite: Suite, table: PublishedTable, row: PublishedRow, column: Column, note: Callable[[str], int]
) -> Entry:
    """What the paper prints in this column; an average only where it is over the same tests."""
    if table.layout == "base-to-new":
        values = dict(zip(table.headings, row.values, strict=True)) | {table.average: row.average}
        average, complete = table.average, True
    else:
        values = dict(zip(table.tests, row.values, strict=True)) | {"mean": row.average}
        average, complete = "mean", set(suite.tests) == set(table.tests)
    if column.title not in values or (column.title == average and not complete):
        return Entry(mark=HOLE)
    differs = column.title == average and table.differs(row)
    said = f"printed {row.average:.{table.digits}f}; its entries give {row.recomputed:.{table.digits}f}"
    return Entry(values[column.title] / 100, notes=(note(said),) if differs else ())


def _renumbered(board: Leaderboard) -> Leaderboard:
    """The same table with the footnotes that are left, in the order of reading."""
    order: dict[int, int] = {}

    def new(notes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(order.setdefault(number, len(order) + 1) for number in notes)

    rows = tuple(replace(row, notes=new(row.notes)) for row in board.rows)
    blocks = tuple(
        replace(block, entries=tuple(tuple(replace(e, notes=new(e.notes)) for e in row) for row in block.entries))
        for block in board.blocks
    )
    return replace(board, rows=rows, blocks=blocks, footnotes=tuple(board.footnotes[number - 1] for number in order))


def _footer(board: Leaderboard, table: PublishedTable | None) -> dict[str, str]:
    kept = {topic: text for topic, text in board.footer.items() if topic in TOPICS}
    if table is None:
        return kept
    backbones = sorted({row.facts["backbone"] for row in board.rows})
    said = (
        f"Published: as printed for {table.backbone} in {table.source}; no deviations or numbers of seeds are printed "
        "there.",
        table.note,
        f"The other rows were measured here, with {', '.join(backbones)}; best and ties are among them alone.",
    )
    return {"published": " ".join(filter(None, said)), **kept}
