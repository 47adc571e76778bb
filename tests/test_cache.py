"""Arrays made once: content checked, whole or absent, seconds remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.api import UserError
from bench.cache import Cache


def test_an_array_is_made_once_and_its_cost_is_remembered(tmp_path: Path) -> None:
    calls = []

    def fill(out: np.ndarray) -> None:
        calls.append(1)
        out[:] = 3

    first = Cache(tmp_path).array({"a": 1}, (2, 3), fill)
    again = Cache(tmp_path).array({"a": 1}, (2, 3), fill)
    assert len(calls) == 1
    assert (first.fresh, again.fresh) == (True, False)
    assert again.seconds == first.seconds > 0
    assert np.array_equal(again.array, np.full((2, 3), 3, np.float32))


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1, "b": 1}])
def test_another_key_is_another_array(tmp_path: Path, other: dict) -> None:
    Cache(tmp_path).array({"a": 1}, (2,), lambda out: out.fill(1))
    assert Cache(tmp_path).array(other, (2,), lambda out: out.fill(7)).array.tolist() == [7, 7]


@pytest.mark.parametrize("damage", ["flip", "cut", "no about", "wrong about"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    Cache(tmp_path).array({"a": 1}, (100,), lambda out: out.fill(1))
    (entry,) = tmp_path.iterdir()
    array = entry / "array.npy"
    content = bytearray(array.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        array.write_bytes(content)
    elif damage == "cut":
        array.write_bytes(content[:-8])
    elif damage == "no about":
        (entry / "entry.json").unlink()
    else:
        (entry / "entry.json").write_text("[1")
    assert Cache(tmp_path).array({"a": 1}, (100,), lambda out: out.fill(1)).fresh


def test_nothing_is_left_where_filling_failed(tmp_path: Path) -> None:
    def fill(out: np.ndarray) -> None:
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        Cache(tmp_path).array({"a": 1}, (2,), fill)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match=r"cache folder .*file cannot be written"):
        Cache(blocker).array({"a": 1}, (2,), lambda out: out.fill(1))


def test_what_is_read_can_be_changed_in_memory_but_not_on_disk(tmp_path: Path) -> None:
    Cache(tmp_path).array({"a": 1}, (2,), lambda out: out.fill(1))
    Cache(tmp_path).array({"a": 1}, (2,), lambda out: out.fill(1)).array[:] = 9
    assert Cache(tmp_path).array({"a": 1}, (2,), lambda out: out.fill(2)).array.tolist() == [1, 1]
