"""How far a command has come: for the bars on the terminal, and for whoever interrupts it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench import interrupts, provenance
from bench.progress import progress
from bench.runner import Observer


@dataclass
class Standing:
    """How far a run has come, for whoever interrupts it.

    total: of the cells that are planned so far; doing: what each process is at; jobs: what goes on without this one.
    """

    done: int = 0
    total: int = 0
    doing: dict[int, str] = field(default_factory=dict)
    jobs: str = ""

    def __str__(self) -> str:
        if self.jobs:
            return f"no longer waited for: {self.jobs}. When they have ended the same command makes the table."
        told = "interrupted: what was finished is stored whole"
        if self.total:
            told = f"interrupted: {self.done} of {self.total} cells are done and stored"
            if self.doing and self.done < self.total:
                told += f"; dropped: {', '.join(self.doing.values())}"
        return f"{told}. The same command goes on from here: {provenance.command()}"

    def said_at_once(self) -> None:
        """As a handler of signals may: past the streams, which may be in the middle of something."""
        visible = "\x1b[?25h" if os.isatty(2) else ""  # the bars hide the cursor
        os.write(2, f"{visible}\n{self}\n".encode(errors="replace"))


@contextlib.contextmanager
def bars(standing: Standing | None = None) -> Iterator[Any]:
    """Progress on standard error: cells in all, and the work inside the present one; noted in `standing` too."""
    noted = standing or Standing()
    done_before, total_before = noted.done, noted.total  # on the backbones before
    with progress() as shown:
        cells = shown.add_task("cells", total=None)
        bars_of: dict[int, Any] = {}

        def cell(done: int, total: int, text: str) -> None:
            noted.done, noted.total = done_before + done, total_before + total
            noted.doing.clear()
            interrupts.check()
            shown.update(cells, completed=done, total=total, description="cells")

        def step(text: str, done: int, total: int, process: int = 0) -> None:
            noted.doing[process] = f"{text} ({done:,} of {total:,})"
            interrupts.check()
            if process not in bars_of:
                bars_of[process] = shown.add_task("", total=None, visible=False)
            inner = bars_of[process]
            if (
                text != shown.tasks[shown.task_ids.index(inner)].description
            ):  # what was found done already is no part of its rate
                shown.reset(inner, completed=done, total=total, description=text, visible=True)
            else:
                shown.update(inner, completed=done, total=total)

        yield Observer(cell, step)
