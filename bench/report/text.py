"""How numbers look to people, in every format the same."""

from __future__ import annotations

import math
import re

from bench.report.model import Column, Entry


def shown(entry: Entry, column: Column) -> str:
    """The entry without its footnotes: percent, ± half the interval, or the mark in its place."""
    if entry.value is None:
        return entry.mark
    value = entry.value
    if column.kind in ("accuracy", "difference", "percent"):
        text = f"{100 * value:.{column.digits}f}"
        if float(text) == 0:
            text = text.lstrip("-")
        elif column.kind == "difference" and value > 0:
            text = "+" + text
        if column.interval and entry.low is not None and entry.high is not None:
            half = 50 * (entry.high - entry.low)
            text += f" ± {half:.{column.digits}f}" if math.isfinite(half) else " ± ?"
        return text
    if column.kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if column.kind == "count":
        return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
    return number(value)


def number(value: float) -> str:
    """Three digits, more where the number is larger."""
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def broken(column: Column, limit: int = 7) -> list[str]:
    """The column's heading in lines of about `limit` letters, broken behind blanks, hyphens and slashes."""
    lines = [""]
    for word in re.findall(r"[^ /-]+[ /-]*", column.heading):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > limit:
            lines.append("")
        lines[-1] += word
    return [line.strip() for line in lines]
