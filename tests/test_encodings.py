"""What cells will ask for is known without encoding, and made ahead in pieces with the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import methods  # noqa: F401
from bench import encodings
from bench.api import METHODS, Suite
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.engines.worker import done
from bench.features import Features
from bench.runner import Cell, Lost, Runner, plan

SUITE = Suite(
    name="small",
    title="A shift of the photo world",
    setting="domain-shift",
    tests=("world-photo",),
    admits=("zero-shot", "few-shot", "test-time", "few-shot+test-time"),
    backbone="world-rn",
    source="world-photo",
    shots=(1,),
    seeds=1,
    view_seeds=1,
    views=4,
    limit=30,
)
NAMES = ("zero-shot", "clip-adapter", "view-mean")


class Inline:
    """Pieces of work one after the other, as if three processes were at them; `lose` are lost at their first try."""

    room = 3

    def __init__(self, runner: Runner, lose: Sequence[int] = ()) -> None:
        self.runner, self.waiting, self.lose = runner, deque[tuple[int, Any]](), list(lose)
        self.made: list[Any] = []

    def start(self, number: int, work: Any) -> None:
        self.waiting.append((number, work))

    def next(self) -> tuple[int, Lost | None]:
        number, work = self.waiting.popleft()
        if number in self.lose:
            return number, Lost("its machine was taken away")
        assert list(done(self.runner, work)) == []
        self.made.append(work)
        return number, None


def runner(tiny: OpenClip, folder: Path) -> Runner:
    return Runner(Features(tiny, Cache(folder / "cache")), folder, views=4)


def cells(names: Sequence[str] = NAMES) -> list[Cell]:
    return plan(SUITE, [METHODS[name] for name in names])


def arrays(cache: Cache) -> dict[str, bytes]:
    return {entry.id: (cache.root / entry.folder / "array.npy").read_bytes() for entry in cache.entries()}


def test_a_cell_asks_for_what_its_method_needs_and_nothing_is_encoded_to_know_it(
    tiny: OpenClip, tmp_path: Path
) -> None:
    shapes = {
        name: [request.shape for request in encodings.requests(runner(tiny, tmp_path), cells([name])[0])]
        for name in NAMES
    }
    d, n = tiny.dim, 50
    copies = METHODS["clip-adapter"].hyper_parameters()["augment"]
    assert shapes["zero-shot"] == [(30, d)]
    assert shapes["view-mean"] == [(30, d), (30, 3, d)]
    assert shapes["clip-adapter"] == [(n, d), (n, d), (n, copies, d), (30, d)]  # support, few validation, crops, test
    assert not (tmp_path / "cache").exists()


def test_what_cells_ask_for_is_just_what_a_run_encodes(tiny: OpenClip, tmp_path: Path) -> None:
    own = runner(tiny, tmp_path)
    wanted = encodings.wanted(own, cells())
    assert not any(request.there(own.features.cache) for request in wanted)
    own.run(cells())
    assert all(request.there(own.features.cache) for request in wanted)
    assert sorted(r.id for r in wanted) == sorted(e.id.split("-")[0] for e in own.features.cache.entries())


def test_the_longest_of_those_of_which_fewer_are_the_first_of_more_is_made(tiny: OpenClip, tmp_path: Path) -> None:
    few, many = (
        replace(cells(["clip-adapter"])[0], form=METHODS["clip-adapter"].with_fields(augment=k)) for k in (2, 5)
    )
    shapes = [request.shape for request in encodings.wanted(runner(tiny, tmp_path), [few, many, few])]
    assert [shape for shape in shapes if len(shape) == 3] == [(50, 5, tiny.dim)]


@pytest.mark.parametrize("lose", [[], [0, 2]], ids=["nothing is lost", "two pieces are lost"])
def test_pieces_put_together_are_the_bytes_of_one_making(
    tiny: OpenClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: list[int]
) -> None:
    monkeypatch.setattr(encodings, "PIECE", 16)
    monkeypatch.setattr("bench.features.ENCODE", 8)  # blocks of eight pictures, in both
    whole, shared = runner(tiny, tmp_path / "whole"), runner(tiny, tmp_path / "shared")
    whole.run(cells())
    engine = Inline(shared, lose)
    encodings.first(shared, cells(), engine)
    pieces = [work for work in engine.made if work.rows is not None]
    assert len(pieces) > len([work for work in engine.made if work.pieces]) > 1
    assert arrays(shared.features.cache) == arrays(whole.features.cache)
    assert all(entry.seconds > 0 for entry in shared.features.cache.entries())
    records = shared.run(cells()).records
    assert all(found for record in records for found in record.provenance["cached"].values())


def test_what_is_there_is_not_made_again(tiny: OpenClip, tmp_path: Path) -> None:
    own = runner(tiny, tmp_path)
    own.run(cells())
    engine = Inline(own)
    encodings.first(own, cells(), engine, fresh=True)
    assert engine.made == []


def test_work_that_is_lost_twice_is_left_to_the_cells(tiny: OpenClip, tmp_path: Path) -> None:
    own = runner(tiny, tmp_path)
    engine = Inline(own, lose=range(10))
    encodings.first(own, cells(["zero-shot"]), engine)
    assert engine.made == []
    assert own.run(cells(["zero-shot"])).failed == []


def test_no_piece_cuts_a_block_in_two_and_all_rows_are_covered(tiny: OpenClip, tmp_path: Path) -> None:
    (request,) = encodings.requests(runner(tiny, tmp_path), cells(["zero-shot"])[0])
    for rows, block, processes in [(10_000, 55, 4), (100_000, 512, 3), (5000, 512, 64), (1, 8, 2)]:
        pieces = encodings.shared(replace(request, shape=(rows, tiny.dim), block=block), processes)
        assert [first for first, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])]
        assert pieces[-1][1] == rows
        assert all(first % block == 0 for first, _ in pieces)
        assert len(pieces) <= processes
        assert all(stop - first >= min(rows, encodings.PIECE) for first, stop in pieces[:-1])
    assert np.prod(request.shape) * 4 == request.bytes
