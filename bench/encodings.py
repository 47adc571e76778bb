"""What cells will ask the cache for, found without encoding anything, and shared out so that it is encoded first.

Nothing here knows what features are: a cell's questions are put to a stand-in of the cache, which notes them. What is
noted can be counted (`bench plan`), looked up, and made in pieces by several processes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.cache import Cache, Entry, Fill
from bench.runner import Cell, Engine, Lost, Runner

PIECE = 2048
"""Pictures and views of a piece, at least: below that, starting a process's work costs more than it saves."""


@dataclass(frozen=True)
class Request:
    """An array that a cell asks for: the arguments of `Cache.array`. cell: one that asks for it."""

    cell: Cell
    key: Mapping[str, Any]
    shape: tuple[int, ...]
    fill: Fill = field(repr=False, compare=False)
    axis: int | None
    about: Mapping[str, Any] = field(repr=False, compare=False)
    block: int = 1

    @property
    def id(self) -> str:
        """What the cache calls it, but for its length along `axis`."""
        return Cache.name(self.key, self.shape, "float32", self.axis)

    @property
    def forwards(self) -> int:
        """Pictures and views that have to pass the image tower."""
        return math.prod(self.shape[:-1])

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * 4

    def there(self, cache: Cache) -> bool:
        """Whether the cache has it, by its name alone: its bytes are looked at when they are used."""
        return cache.has(self.key, self.shape, axis=self.axis)


@dataclass(frozen=True)
class Encoding:
    """Work for one process: a request of a cell, whole, the rows of it from `first` to `stop`, or all its pieces put
    together (`pieces`)."""

    cell: Cell
    id: str
    rows: tuple[int, int] | None = None
    pieces: tuple[tuple[int, int], ...] = ()


class _Note(Cache):
    """In place of a cache: notes what it is asked for, and answers with nothing."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.asked: list[tuple[Mapping[str, Any], tuple[int, ...], Fill, int | None, Mapping[str, Any]]] = []

    def array(
        self,
        key: Mapping[str, Any],
        shape: tuple[int, ...],
        fill: Fill,
        dtype: str = "float32",
        axis: int | None = None,
        about: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> Entry:
        self.asked.append((key, shape, fill, axis, about or {}))
        return Entry(
            np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, [0] * len(shape)), 0.0, True, about or {}
        )


def requests(runner: Runner, cell: Cell) -> list[Request]:
    """What this cell asks for."""
    note, features = _Note(), runner.features
    runner.ask(cell, replace(features, cache=note))
    together = features._together() if note.asked else 1

    def block(shape: tuple[int, ...]) -> int:
        return max(1, together // math.prod(shape[1:-1]))

    return [Request(cell, key, shape, fill, axis, about, block(shape)) for key, shape, fill, axis, about in note.asked]


def wanted(runner: Runner, cells: Iterable[Cell]) -> list[Request]:
    """Every array that the cells ask for, once; of those of which fewer are the first of more, the longest."""
    longest: dict[str, Request] = {}
    seen = set()
    for cell in cells:
        method = cell.form.method
        alike = (cell.task, cell.seed, method.needs, cell.form.hyper_parameters().get("augment", 0))
        if alike in seen:
            continue
        seen.add(alike)
        for request in requests(runner, cell):
            known = longest.get(request.id)
            if known is None or request.forwards > known.forwards:
                longest[request.id] = request
    return list(longest.values())


def shared(request: Request, processes: int) -> list[tuple[int, int]]:
    """The rows of a request in about so many pieces that are worth it, none of which cuts a block in two.

    So the image tower sees the same pictures together as when one process encodes all of them.
    """
    rows, each = request.shape[0], math.prod(request.shape[1:-1])
    least = max(1, PIECE // each, math.ceil(rows / processes))
    step = math.ceil(least / request.block) * request.block
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]


def first(runner: Runner, cells: Sequence[Cell], engine: Engine, fresh: bool = False) -> None:
    """Have everything encoded that missing cells ask for and the cache lacks, before any of them begins.

    One process lost is made good by another; what cannot be encoded is left to the cells, which say why.
    """
    waiting: deque[Encoding] = deque()
    pieces_left: dict[str, set[Encoding]] = {}
    join: dict[str, Encoding] = {}
    missing, _ = runner.missing(cells, fresh)
    for request in wanted(runner, (cell for group in missing for cell, _ in group)):
        if request.there(runner.features.cache):
            continue
        whole, rows = Encoding(request.cell, request.id), shared(request, engine.room)
        if len(rows) > 1:
            pieces_left[request.id] = {replace(whole, rows=part) for part in rows}
            join[request.id] = replace(whole, pieces=tuple(rows))
            waiting.extend(replace(whole, rows=part) for part in rows)
        else:
            waiting.append(whole)
    underway: dict[int, Encoding] = {}
    numbers, lost = itertools.count(), Counter[Encoding]()
    while waiting or underway:
        while waiting and len(underway) < engine.room:
            number = next(numbers)
            underway[number] = waiting.popleft()
            engine.start(number, underway[number])
        number, event = engine.next()
        done = underway.pop(number)
        lost[done] += isinstance(event, Lost)
        if isinstance(event, Lost) and lost[done] < event.tries:
            waiting.appendleft(done)
        elif done.rows is not None:
            left = pieces_left[done.id]
            left.discard(done)
            if not left:
                waiting.appendleft(join[done.id])


def make(runner: Runner, encoding: Encoding) -> None:
    """Encode what is asked for into the runner's cache."""
    found = (request for request in requests(runner, encoding.cell) if request.id == encoding.id)
    request = next(found, None)
    if request is None:  # the code was changed in between, and what the cells ask for now has another name
        return
    cache = runner.features.cache
    if encoding.rows is not None:
        _piece(cache, request, encoding.rows)
    elif encoding.pieces:
        _joined(cache, request, encoding.pieces)
    else:
        cache.array(request.key, request.shape, request.fill, axis=request.axis, about=request.about)


def _piece(cache: Cache, request: Request, rows: tuple[int, int]) -> Entry:
    first, stop = rows

    def fill(out: np.ndarray, done: int) -> Iterator[int]:
        for at in request.fill(_Shifted(out, first), first + done) or ():  # type: ignore[arg-type]
            yield at - first
            if at >= stop:
                return

    key = {**request.key, "piece": [first, stop]}
    return cache.array(key, (stop - first, *request.shape[1:]), fill, axis=request.axis, about=request.about)


class _Shifted:
    """The rows of an array from `first` on, written to by their places in the whole."""

    def __init__(self, out: np.ndarray, first: int) -> None:
        self.out, self.first = out, first

    def __setitem__(self, place: slice, values: np.ndarray) -> None:
        self.out[place.start - self.first : place.stop - self.first] = values


def _joined(cache: Cache, request: Request, pieces: Sequence[tuple[int, int]]) -> None:
    entries = [_piece(cache, request, rows) for rows in pieces]

    def fill(out: np.ndarray, done: int) -> Iterator[int]:
        for (first, stop), entry in zip(pieces, entries, strict=True):
            if first >= done:
                out[first:stop] = entry.array
                entry.release()
                yield stop

    machines = sorted({str(entry.about.get("machine", "")) for entry in entries})
    about = {**request.about, "machine": ", ".join(machines)}
    spent = sum(entry.seconds for entry in entries)
    cache.array(request.key, request.shape, fill, axis=request.axis, about=about, seconds=spent)
    for rows in pieces:
        cache.drop({**request.key, "piece": list(rows)}, (rows[1] - rows[0], *request.shape[1:]), axis=request.axis)
