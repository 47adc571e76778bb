"""Work done ahead in other processes: in order, within a window, and with errors that say what they said."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from bench.ahead import AHEAD, ahead
from bench.api import NotRunnable, UserError

WORKERS = 2


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items_whoever_made_them(workers: int) -> None:
    made = list(ahead(range(20), lambda i: torch.full((2,), i), workers))
    assert torch.equal(torch.stack(made), torch.arange(20)[:, None].expand(20, 2))


def test_other_processes_make_them_unless_there_is_but_one(tmp_path: Path) -> None:
    assert os.getpid() not in set(ahead(range(10), lambda i: os.getpid(), WORKERS))
    assert set(ahead(range(10), lambda i: os.getpid(), 0)) == {os.getpid()}
    assert set(ahead(range(1), lambda i: os.getpid(), WORKERS)) == {os.getpid()}
    assert list(ahead([], lambda i: os.getpid(), WORKERS)) == []


def test_no_more_than_a_window_is_ever_made_ahead(tmp_path: Path) -> None:
    def make(i: int) -> int:
        (tmp_path / str(i)).touch()
        return i

    results = ahead(range(1000), make, WORKERS)
    for taken in range(1, 31):
        assert next(results) == taken - 1
        assert len(list(tmp_path.iterdir())) <= taken + WORKERS * AHEAD
    results.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) <= 30 + WORKERS * AHEAD


@pytest.mark.parametrize("workers", [0, WORKERS])
@pytest.mark.parametrize("kind", [UserError, NotRunnable])
def test_what_is_wrong_comes_as_it_was_said_after_the_items_before_it(workers: int, kind: type[Exception]) -> None:
    def make(i: int) -> int:
        if i == 3:
            raise kind("cat.jpg is not a picture; replace the file.")
        return i

    results = ahead(range(9), make, workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(kind) as caught:
        next(results)
    assert str(caught.value) == "cat.jpg is not a picture; replace the file."


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    def make(i: int) -> int:
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match=r"in make\b[\s\S]*no such thing"):
        list(ahead(range(9), make, WORKERS))


def test_a_process_that_dies_is_a_sentence() -> None:
    def make(i: int) -> int:
        if i == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with pytest.raises(UserError, match=r"a process that opens pictures died, .* use --workers 0, or fewer\.$"):
        list(ahead(range(9), make, WORKERS))
