"""What the tables of several commands have in common."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.planning import Line


def show_lines(console: Console, backbone: str, lines: Sequence[Line], estimated: bool) -> None:
    """The cells of a plan by form, and their tasks. estimated: with operations."""
    taken = ("PFLOP of fits", "PFLOP of answers") if estimated else ()
    table = Table("method", "setting", "cells", "done", "failed before", "fits to make", *taken, title=f"on {backbone}")
    for line in lines:
        numbers = map(str, (line.cells, line.done, line.failed, line.to_fit))
        operations = ["-" if value is None else f"{value / 1e15:.3g}" for value in (line.fits, line.answers)]
        table.add_row(line.title, line.setting, *numbers, *operations[: len(taken)])
    console.print(table)
    tasks = ", ".join(dict.fromkeys(task for line in lines for task in line.tasks))
    console.print(f"tasks: {tasks}", markup=False, highlight=False, soft_wrap=True)


def size(count: int) -> str:
    """Bytes in units that people read."""
    unit, name = next(pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= pair[0] or pair[1] == "kB")
    return f"{count / unit:.1f} {name}"
