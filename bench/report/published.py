"""Numbers that papers print, from results/published.toml: each with its source and what its own entries average to."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.api import UserError, nearest
from bench.readers import kinds
from bench.readers.kinds import Kind

Layout = Literal["shifts", "base-to-new", "in-distribution"]
KINDS: tuple[Layout, ...] = ("shifts", "base-to-new", "in-distribution")


@dataclass(frozen=True)
class PublishedRow:
    """values: in percent, one for each heading. `ours`: the forms that stand below it. note: what is known about it."""

    title: str
    values: tuple[float, ...]
    average: float
    recomputed: float
    ours: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper.

    tests: the names of the data sets; with shifts and in-distribution each has a heading. id: the one in distribution.
    average: the heading of the average (of the shifts; H of base and new). note: a sentence about all of its numbers.
    """

    name: str
    title: str
    layout: Layout
    source: str
    backbone: str
    digits: int
    tests: tuple[str, ...]
    headings: tuple[str, ...]
    average: str
    rows: tuple[PublishedRow, ...]
    id: str = ""
    note: str = ""

    def differs(self, row: PublishedRow) -> bool:
        """Whether the printed average is another number than its own entries give, beyond rounding."""
        return abs(row.average - row.recomputed) > 0.5 * 10**-self.digits + 1e-9


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6


TEXT, ANY_TEXT = Kind("a text that is not empty", kinds.text, True), Kind("a text", lambda v: isinstance(v, str))
NUMBER = Kind("a number", _number, True)
ROW = {
    "title": TEXT,
    "values": Kind("a list of numbers", kinds.list_of(_number, twice=True), True),
    "average": NUMBER,
    "recomputed": NUMBER,
    "ours": Kind("a list of forms", kinds.list_of(kinds.text)),
    "note": ANY_TEXT,
}
TABLE = {
    **dict.fromkeys(("name", "title", "layout", "source", "backbone", "average"), TEXT),
    "digits": Kind("a whole number from 0 to 6", lambda v: v in range(7) and type(v) is int, True),
    "tests": Kind("a list of different data sets", kinds.list_of(kinds.text), True),
    "headings": Kind("a list of texts", kinds.list_of(kinds.text, twice=True), True),
    "rows": Kind("a list of tables", kinds.list_of(lambda v: isinstance(v, dict), twice=True), True),
    "id": ANY_TEXT,
    "note": ANY_TEXT,
}
FILE = {"table": Kind("a list of tables", kinds.list_of(lambda v: isinstance(v, dict), twice=True))}


def home() -> Path:
    """Beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "results" / "published.toml"
    return beside if beside.is_file() else package / "results" / "published.toml"


def published(path: Path | None = None) -> tuple[PublishedTable, ...]:
    """Every table of the file."""
    path = path or home()
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path.name} cannot be read ({' '.join(str(error).split())}): mend it.") from error
    kinds.checked(whole, FILE, path.name)
    return tuple(_table(table, path.name) for table in whole.get("table", ()))


def _table(values: dict[str, Any], file: str) -> PublishedTable:
    where = f"{file}: table {_called(values, 'name')}"
    kinds.checked(values, TABLE, where)
    for row in values["rows"]:
        kinds.checked(row, ROW, f"{where}: row {_called(row, 'title')}")
    table = PublishedTable(**{**_tuples(values), "rows": tuple(PublishedRow(**_tuples(row)) for row in values["rows"])})
    if table.layout not in KINDS:
        raise UserError(f"{where}: unknown layout {table.layout!r}; {nearest(table.layout, KINDS)}")
    if table.layout != "base-to-new" and len(table.tests) != len(table.headings):
        raise UserError(f"{where}: {len(table.tests)} tests need as many headings, not {len(table.headings)}.")
    for row in table.rows:
        if len(row.values) != len(table.headings):
            raise UserError(
                f"{where}: row {row.title} has {len(row.values)} values for {len(table.headings)} headings; mend it."
            )
    return table


def _called(values: dict[str, Any], key: str) -> str:
    name = values.get(key, "?")
    return name[:60] if kinds.text(name) else repr(name)[:60]


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
