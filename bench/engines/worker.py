"""The worker's side of an engine: pieces of work in, records out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import encodings
from bench.api import Record, UserError
from bench.runner import Group, Runner

Work = Group | encodings.Encoding


def done(runner: Runner, work: Work, begin: Callable[[str], None] = lambda id: None) -> Iterator[Record]:
    """Do a piece of work. begin: as of `Runner.group`; an encoding has neither a fit nor answers.

    UserError where this process would make other cells than were planned: its code, data or weights differ.
    """
    if isinstance(work, encodings.Encoding):
        encodings.make(runner, work)
        return
    cell, planned = work[0]
    if runner.cell_id(cell) != planned:
        raise UserError(
            f"a worker has other code, data or weights than the run that plans, for {cell.form.title} on "
            f"{cell.task.name}: install the same version everywhere, and change no file during a run."
        )
    yield from runner.group(work, begin)
