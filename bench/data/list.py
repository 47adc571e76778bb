"""`python -m bench data list`: every data set, and whether its folder is below the data root."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.api import Card

DRAWN = "world"
"""The reader of pictures that are drawn; they have no files."""


def there(card: Card, root: Path | None) -> bool | None:
    """Whether the data set's folder is below the data root; None where there is no root, or nothing to find."""
    return None if root is None or card.reader == DRAWN else (root / card.folder).is_dir()


def about(card: Card, root: Path | None) -> dict[str, Any]:
    """What the table says of a data set, by column. Counts are those that the card expects, None where it has none."""
    pictures = card.counts.get("total") or sum(count for key, count in card.counts.items() if key != "classes")
    return {
        "name": card.name,
        "kind": card.reader,
        "pictures": pictures or None,
        "classes": card.counts.get("classes", len(card.classes)) or None,
        "found": there(card, root),
        "licence": card.licence,
    }


def table(cards: Iterable[Card], root: Path | None) -> Table:
    """The data sets as rows."""
    shown = Table("data set", "kind", "pictures", "classes", "found", "licence")
    for card in cards:
        row = about(card, root)
        found = {True: "yes", False: "no", None: "drawn" if card.reader == DRAWN else ""}[row["found"]]
        shown.add_row(card.name, card.reader, _number(row["pictures"]), _number(row["classes"]), found, card.licence)
    return shown


def as_json(cards: Iterable[Card], root: Path | None) -> str:
    return json.dumps([about(card, root) for card in cards], indent=1, ensure_ascii=False)


def steps(card: Card) -> str:
    """How the data set is put below the data root by hand."""
    how = card.obtain.how.strip() if card.obtain else f"get it from {card.source.rstrip('.')}."
    return f"{card.name} belongs in DATA_ROOT/{card.folder}: {how}"


def counts(found: Mapping[str, int]) -> str:
    """`train 4,128, test 2,465` in words."""
    return ", ".join(f"{part} {count:,}" for part, count in found.items())


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
