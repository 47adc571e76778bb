"""The worker's side of an engine: pieces of work in, records out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import encodings
from bench.api import Record
from bench.runner import Group, Runner

Work = Group | encodings.Encoding


def done(runner: Runner, work: Work, begin: Callable[[str], None] = lambda id: None) -> Iterator[Record]:
    """Do a piece of work. begin: as of `Runner.group`; an encoding has neither a fit nor answers."""
    if isinstance(work, encodings.Encoding):
        encodings.make(runner, work)
        return
    yield from runner.group(work, begin)
