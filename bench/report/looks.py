"""Which colour, marker and dashes a row has, in every figure the same.

Colours are those of Okabe and Ito as seaborn's "colorblind" has them, without the ones that are pale on paper. No two
of 63 rows share both colour and marker, and neighbours differ in both and in their dashes, so that a figure in grey
says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.report.entries import REFERENCE
from bench.report.model import Row

COLOURS = ("#0173b2", "#d55e00", "#029e73", "#cc78bc", "#de8f05", "#ca9161", "#56b4e9")
MARKERS = "osD^vP<X>"
"""Circle, square, diamond, triangles, plus, cross: by matplotlib's letters."""
DASHES = ((), (4, 1.4), (1.5, 1.2), (5, 1.2, 1.2, 1.2), (3, 1, 1, 1, 1, 1))
INK = "#222222"


class Look(NamedTuple):
    """dashes: lengths of lines and gaps, in widths of the line."""

    colour: str
    marker: str
    dashes: tuple[float, ...] = ()


SETTINGS = {
    "zero-shot": Look(INK, "o"),
    "few-shot": Look(COLOURS[0], "s"),
    "test-time": Look(COLOURS[1], "^"),
    "few-shot+test-time": Look(COLOURS[3], "D"),
    "fine-tune": Look(COLOURS[2], "P"),
}
"""By the kind of method, where names stand beside the points."""


def looks_of(rows: Sequence[Row]) -> list[Look]:
    """One for each row; the reference is dotted ink, whatever stands beside it."""
    found, i = [], 0
    for row in rows:
        if row.facts.get("method") == REFERENCE:
            found.append(Look(INK, "o", (1, 1.2)))
        else:
            found.append(Look(COLOURS[i % len(COLOURS)], MARKERS[(i + 1) % len(MARKERS)], DASHES[i % len(DASHES)]))
            i += 1
    return found
