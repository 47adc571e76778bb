"""All leaderboards as one HTML file that needs nothing else: tables, figures, and every cell with its provenance.

The page is three files beside this one (markup, style, script) and the data as JSON. Nothing in it can make a request,
nor run another script than its own: a content security policy with the hashes of both says so to the browser. Names
and messages reach the page as text, never as markup. The same leaderboards give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import report
from bench.report import Leaderboard
from bench.report.looks import looks_of
from bench.report.model import Block, Chart, Column, Entry, Point
from bench.report.text import shown

HERE = Path(__file__).parent
DIGITS = 6
"""Significant digits of numbers that people see rounded anyway."""


def write(boards: Sequence[Leaderboard], root: str | Path) -> Path:
    """Write <root>/index.html; where it is."""
    (path,) = report.put(root, {"index.html": html(boards).encode()})
    return path


def html(boards: Sequence[Leaderboard]) -> str:
    """The whole page."""
    markup, style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js"))
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src {_hash(style)}"
    parts = {
        "policy": f"{policy}; script-src {_hash(script)}",
        "style": style,
        "script": script,
        "data": _inside_script(data(boards)),
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda place: parts[place[1]], markup)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inside_script(value: Any) -> str:
    """JSON that no text in it can end, or open a comment in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


# -- data -------------------------------------------------------------------------------------------------------------


def data(boards: Sequence[Leaderboard]) -> dict[str, Any]:
    """What the script draws from. Keys are short where there are many of them."""
    return {"suites": [_suite(board) for board in boards]}


def _suite(board: Leaderboard) -> dict[str, Any]:
    environments: dict[str, int] = {}  # where cells were made: many share one
    head = board.headline
    return {
        "name": board.name,
        "title": board.title,
        "rows": [
            {
                "title": row.title,
                "facts": dict(row.facts),
                "notes": row.notes,
                "look": look,
                "cells": [_cell(cell, environments) for cell in row.cells],
            }
            for row, look in zip(board.rows, looks_of(board.rows), strict=True)
        ],
        "blocks": [_block(block) for block in board.blocks],
        "pairs": [[_entry(entry, PAIR) for entry in line[i + 1 :]] for i, line in enumerate(head.pairs)],
        "bins": [[[b.count, _number(b.confidence), _number(b.accuracy)] for b in bins] for bins in head.reliability],
        "charts": [_chart(chart) for chart in board.charts],
        "footnotes": board.footnotes,
        "footer": list(board.footer.values()),
        "environments": [json.loads(text) for text in environments],
    }


PAIR = Column("difference", "difference", unit="points")


def _block(block: Block) -> dict[str, Any]:
    places = [j for j, column in enumerate(block.columns) if column.shown]
    return {
        "title": block.title,
        "columns": [_column(block.columns[j]) for j in places],
        "entries": [[_entry(entries[j], block.columns[j]) for j in places] for entries in block.entries],
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "title": column.title,
        "kind": column.kind,
        "part": column.part,
        "unit": column.unit,
        "tasks": column.tasks,
    }


def _entry(entry: Entry, column: Column) -> dict[str, Any]:
    """t: as all formats write it; v, l, h: the number and its interval; p, c: its p, uncorrected and corrected."""
    return _short(
        {
            "t": shown(entry, column),
            "v": _number(entry.value),
            "l": _number(entry.low),
            "h": _number(entry.high),
            "p": _number(entry.p),
            "c": _number(entry.corrected),
            "s": entry.standing,
            "n": entry.notes,
        }
    )


def _cell(cell: Mapping[str, Any], environments: dict[str, int]) -> dict[str, Any]:
    made = {key: value for key, value in cell["provenance"].items() if key != "finished"}
    known = json.dumps(_plain(made), sort_keys=True)
    return _short(
        {
            **{key: _plain(value) for key, value in cell.items() if key != "provenance"},
            "finished": cell["provenance"].get("finished"),
            "environment": environments.setdefault(known, len(environments)),
        }
    )


def _chart(chart: Chart) -> dict[str, Any]:
    return _short(
        {
            "name": chart.name,
            "title": chart.title,
            "x": chart.x,
            "y": chart.y,
            "panels": [
                {"title": panel.title, "y": panel.y, "points": [_point(point) for point in panel.points]}
                for panel in chart.panels
            ],
            "ticks": list(chart.ticks.items()),
            "joined": chart.joined,
            "critical": _number(chart.critical),
            "caption": chart.caption,
            "absent": chart.absent,
        }
    )


def _point(point: Point) -> list[Any]:
    """Row, x, and what is known of y: value, interval, corrected p."""
    y = point.y
    return [point.row, _number(point.x), *map(_number, (y.value, y.low, y.high, y.corrected))]


def _short(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing."""
    return {key: value for key, value in found.items() if value is not None and value not in ("", (), [])}


def _number(value: float | None) -> float | None:
    """Rounded; what is endless or not a number is left out, as in JSON."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded == int(rounded) else rounded


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else str(value)
    return value
