"""Numbers that papers print, from results/published.toml: each with its source and what its own entries average to."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bench.api import UserError, nearest

Kind = Literal["shifts", "base-to-new", "in-distribution"]
KINDS: tuple[Kind, ...] = ("shifts", "base-to-new", "in-distribution")


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
    layout: Kind
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


def home() -> Path:
    """Beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "results" / "published.toml"
    return beside if beside.is_file() else package / "results" / "published.toml"


def published(path: Path | None = None) -> tuple[PublishedTable, ...]:
    """Every table of the file."""
    path = path or home()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("table", [])
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} cannot be read ({' '.join(str(error).split())}): mend it.") from error
    return tuple(_table(table, path.name) for table in tables)


def _table(values: dict[str, Any], file: str) -> PublishedTable:
    where = f"{file}: table {values.get('name', '?')}"
    rows = tuple(_made(PublishedRow, row, f"{where}: row {row.get('title', '?')}") for row in values.pop("rows", ()))
    table = _made(PublishedTable, {**values, "rows": rows}, where)
    if table.layout not in KINDS:
        raise UserError(f"{where}: unknown layout {table.layout!r}; {nearest(table.layout, KINDS)}")
    if table.layout != "base-to-new" and len(table.tests) != len(table.headings):
        raise UserError(f"{where}: {len(table.tests)} tests need as many headings, not {len(table.headings)}.")
    for row in rows:
        if len(row.values) != len(table.headings):
            raise UserError(
                f"{where}: row {row.title} has {len(row.values)} values for {len(table.headings)} headings; mend it."
            )
    return table


def _made(kind: type, values: dict[str, Any], where: str) -> Any:
    names = [f.name for f in fields(kind)]
    for key in values:
        if key not in names:
            raise UserError(f"{where}: unknown key {key!r}; {nearest(key, names)}")
    for f in fields(kind):
        if f.default is MISSING and f.name not in values:
            raise UserError(f"{where}: {f.name} is missing; add it.")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
