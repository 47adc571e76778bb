"""Arrays made once: content checked, whole or absent, shared by processes, bounded, seconds remembered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.api import UserError
from bench.cache import Cache, Entry

KEY = {"dataset": "pets", "what": "views"}


def make(cache: Cache, value: float = 1.0, n: int = 100, **key: object) -> Entry:
    """400 bytes of numbers and their header of 128."""
    return cache.array({**KEY, **key}, (n,), lambda out: out.fill(value))


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir())


class Other:
    """Another process, which does what it is told; started once, because torch takes seconds to import."""

    LOOP = """
import json, resource, sys, time
from pathlib import Path
from bench.api import UserError
from bench.cache import Cache
for line in sys.stdin:
    program, names = json.loads(line)
    exec(program, {**globals(), **names, "root": Path(names["root"])})
"""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-uc", self.LOOP], stdin=pipe, stdout=pipe, text=True)

    def told(self, root: Path, program: str, **names: object) -> None:
        """Begin the program; it finds the folder as `root`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([program, {"root": str(root), **names}]) + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.communicate()


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    started = Other()
    yield started
    started.end()


# -- made once --------------------------------------------------------------------------------------------------------


def test_an_array_is_made_once_and_its_cost_is_remembered(tmp_path: Path) -> None:
    calls = []

    def fill(out: np.ndarray) -> None:
        calls.append(1)
        out[:] = 3

    first = Cache(tmp_path).array({"a": 1}, (2, 3), fill, about={"machine": "Abacus"})
    again = Cache(tmp_path).array({"a": 1}, (2, 3), fill, about={"machine": "another"})
    assert len(calls) == 1
    assert (first.fresh, again.fresh) == (True, False)
    assert again.seconds == first.seconds > 0
    assert again.about == first.about == {"machine": "Abacus"}
    assert np.array_equal(again.array, np.full((2, 3), 3, np.float32))


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1, "b": 1}])
def test_another_key_is_another_array(tmp_path: Path, other: dict) -> None:
    Cache(tmp_path).array({"a": 1}, (2,), lambda out: out.fill(1))
    assert Cache(tmp_path).array(other, (2,), lambda out: out.fill(7)).array.tolist() == [7, 7]


def test_what_is_read_can_be_changed_in_memory_but_not_on_disk(tmp_path: Path) -> None:
    make(Cache(tmp_path))
    make(Cache(tmp_path)).array[:] = 9
    assert set(make(Cache(tmp_path), 2).array) == {1}


def test_fewer_are_the_first_of_a_longer_entry_and_count_their_share_of_its_seconds(tmp_path: Path) -> None:
    def ask(count: int) -> Entry:
        return Cache(tmp_path).array(KEY, (3, count), lambda out: out.__setitem__(slice(None), range(count)), axis=1)

    twenty, eight = ask(20), ask(8)
    assert (twenty.fresh, eight.fresh) == (True, False)
    assert eight.array.tolist() == [list(range(8))] * 3
    assert eight.seconds == pytest.approx(twenty.seconds * 8 / 20)
    assert ask(30).fresh
    assert ask(5).seconds == pytest.approx(twenty.seconds * 5 / 20)  # the shortest that serves


# -- whole and sound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "cut", "no array", "no about", "wrong about", "poor about", "moved"])
def test_a_damaged_entry_is_made_again_and_the_user_is_told_in_a_line(tmp_path: Path, damage: str) -> None:
    make(Cache(tmp_path))
    (entry,) = folders(tmp_path)
    array, about = entry / "array.npy", entry / "entry.json"
    content = bytearray(array.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        array.write_bytes(content)
    elif damage == "cut":
        array.write_bytes(content[:-8])
    elif damage == "no array":
        array.unlink()
    elif damage == "no about":
        about.unlink()
    elif damage == "wrong about":
        about.write_text("[1")
    elif damage == "poor about":
        about.write_text("{}")
    else:
        make(Cache(tmp_path), 5, seed=2)
        other = next(path for path in folders(tmp_path) if path != entry)
        shutil.rmtree(entry)
        other.rename(entry)
    told: list[str] = []
    again = make(Cache(tmp_path, say=told.append))
    assert again.fresh
    assert set(again.array) == {1}
    assert not make(Cache(tmp_path)).fresh
    assert len(told) == 1
    assert entry.name in told[0]
    assert "pets, views" in told[0]
    assert folders(tmp_path) == [entry]


def test_a_file_that_changes_while_a_process_runs_is_checked_again_whatever_its_time_says(tmp_path: Path) -> None:
    cache = Cache(tmp_path, say=lambda text: None)
    make(cache)
    path = folders(tmp_path)[0] / "array.npy"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert make(cache).fresh


def test_nothing_is_left_where_filling_failed(tmp_path: Path) -> None:
    def fill(out: np.ndarray) -> None:
        raise OSError("a picture cannot be read")

    with pytest.raises(OSError, match="a picture cannot be read"):
        Cache(tmp_path).array(KEY, (2,), fill)
    assert folders(tmp_path) == []


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    dead = Other()
    dead.told(tmp_path, "Cache(root).array({'a': 1}, (1000,), lambda out: (print('filling'), time.sleep(60)))")
    assert dead.line() == "filling"
    dead.end(signal.SIGKILL)
    assert len(folders(tmp_path)) == 2  # a temporary folder and a lock
    assert Cache(tmp_path).clear(["all"]) == []
    assert folders(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match=r"cache folder .*file cannot be written .*--cache DIR"):
        make(Cache(blocker))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_only_read_serves_what_it_holds(tmp_path: Path) -> None:
    make(Cache(tmp_path))
    tmp_path.chmod(0o500)
    try:
        assert not make(Cache(tmp_path)).fresh
        with pytest.raises(UserError, match="cannot be written"):
            make(Cache(tmp_path), seed=2)
    finally:
        tmp_path.chmod(0o700)


LIMITED = """
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
try:
    Cache(root).array({"large": 1}, (1_000_000,), lambda out: out.fill(1))
except UserError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""


def test_a_file_that_grows_beyond_what_is_allowed_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, other: Other
) -> None:
    make(Cache(tmp_path))
    other.told(tmp_path, LIMITED)
    assert other.line() == (
        f"cache folder {tmp_path} cannot be written (File too large): make room there "
        "(`python -m bench cache clear`) or use --cache DIR."
    )
    assert len(folders(tmp_path)) == 1
    assert not make(Cache(tmp_path)).fresh


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(small_disk: Path) -> None:
    make(Cache(small_disk))
    with pytest.raises(UserError, match=r"No space left on device.*cache clear"):
        make(Cache(small_disk), n=1_000_000, seed=2)
    assert len(folders(small_disk)) == 1
    assert not make(Cache(small_disk)).fresh


# -- two processes ----------------------------------------------------------------------------------------------------

THERE = """
entry = Cache(root, say=print).array({"a": 1}, (1000,), lambda out: out.fill(value))
print(entry.array[0], entry.fresh)
"""


def test_of_two_processes_that_miss_the_same_entry_one_makes_it_and_the_other_waits(
    tmp_path: Path, other: Other
) -> None:
    def fill(out: np.ndarray) -> None:
        other.told(tmp_path, THERE, value=5)
        assert "waiting for another process" in other.line()
        out[:] = 3

    assert set(Cache(tmp_path).array({"a": 1}, (1000,), fill).array) == {3}
    assert other.line() == "3.0 False"
    assert len(folders(tmp_path)) == 1


def test_of_two_that_make_the_same_entry_without_locks_the_first_is_kept(tmp_path: Path, other: Other) -> None:
    def fill(out: np.ndarray) -> None:
        for lock in tmp_path.glob(".lock-*"):
            lock.unlink()  # so that the other process does not meet it
        other.told(tmp_path, THERE, value=5)
        assert other.line() == "5.0 True"
        out[:] = 3

    assert set(Cache(tmp_path).array({"a": 1}, (1000,), fill).array) == {5}
    assert len(folders(tmp_path)) == 1
    assert set(Cache(tmp_path).array({"a": 1}, (1000,), fill).array) == {5}


def test_a_map_stays_readable_when_another_process_removes_its_entry(tmp_path: Path, other: Other) -> None:
    entry = make(Cache(tmp_path), 4)
    other.told(tmp_path, "print(len(Cache(root).clear(['all'])))")
    assert other.line() == "1"
    assert set(entry.array) == {4}


# -- bounded ----------------------------------------------------------------------------------------------------------


def aged(root: Path, days: dict[str, float]) -> None:
    """Set when the entry of each data set was used last."""
    for path in folders(root):
        about = path / "entry.json"
        then = time.time() - 86400 * days[json.loads(about.read_text())["key"]["dataset"]]
        for file in path.iterdir():
            os.utime(file, (then, then))


def datasets(root: Path) -> list[str]:
    return [entry.dataset for entry in Cache(root).entries()]


def test_entries_are_listed_with_what_they_hold_least_recently_used_first(tmp_path: Path) -> None:
    made = {name: make(Cache(tmp_path), dataset=name) for name in ("ants", "bees", "cats")}
    aged(tmp_path, {"ants": 1, "bees": 3, "cats": 2})
    assert datasets(tmp_path) == ["bees", "cats", "ants"]
    make(Cache(tmp_path), dataset="bees")
    assert datasets(tmp_path) == ["cats", "ants", "bees"]
    last = Cache(tmp_path).entries()[-1]
    assert (last.key["what"], last.shape, last.seconds) == ("views", (100,), made["bees"].seconds)
    assert last.bytes == sum(path.stat().st_size for path in (tmp_path / last.id).iterdir())


def test_a_limit_removes_what_was_used_least_recently_but_nothing_of_this_process(tmp_path: Path) -> None:
    for name in ("ants", "bees", "cats"):
        make(Cache(tmp_path), dataset=name, n=1000)
    aged(tmp_path, {"ants": 3, "bees": 2, "cats": 1})
    cache = Cache(tmp_path, limit=3 * 4700)
    make(cache, dataset="ants", n=1000)
    make(cache, dataset="dogs", n=1000)
    assert datasets(tmp_path) == ["cats", "ants", "dogs"]


def test_a_limit_that_the_run_itself_exceeds_is_an_error_that_removes_nothing(tmp_path: Path) -> None:
    make(Cache(tmp_path), dataset="ants", n=1000)
    cache = Cache(tmp_path, limit=2 * 4700)
    make(cache, dataset="bees", n=1000)
    with pytest.raises(UserError, match=r"needs 1.2.e-05 GB there at once, and --cache-limit allows 9.4e-06: raise it"):
        make(cache, dataset="cats", n=2000)
    assert sorted(datasets(tmp_path)) == ["ants", "bees"]


@pytest.mark.parametrize(
    ("names", "days", "left"),
    [
        (["ants"], 0, ["cats", "bees"]),
        (["ants", "cats"], 0, ["bees"]),
        (["all"], 0, []),
        (["all"], 1.5, ["bees"]),
        (["bees"], 1.5, ["cats", "ants", "bees"]),
    ],
)
def test_clearing_goes_by_data_set_and_by_last_use(
    names: list[str], days: float, left: list[str], tmp_path: Path
) -> None:
    for name in ("ants", "bees", "cats"):
        make(Cache(tmp_path), dataset=name)
    aged(tmp_path, {"ants": 2, "bees": 1, "cats": 3})
    removed = Cache(tmp_path).clear(names, days * 86400)
    assert len(removed) == 3 - len(left)
    assert datasets(tmp_path) == left


def test_an_entry_is_cleared_by_the_beginning_of_its_id_and_a_damaged_one_too(tmp_path: Path) -> None:
    for name in ("ants", "bees"):
        make(Cache(tmp_path), dataset=name)
    first, second = folders(tmp_path)
    (first / "entry.json").write_text("{")
    assert [entry.id for entry in Cache(tmp_path).clear([first.name[:6]])] == [first.name]
    assert folders(tmp_path) == [second]


def test_an_unknown_name_is_answered_with_the_likely_one(tmp_path: Path) -> None:
    make(Cache(tmp_path))
    with pytest.raises(UserError, match="holds no 'pest'; did you mean pets"):
        Cache(tmp_path).clear(["pest"])


def test_what_is_no_entry_is_neither_listed_nor_removed(tmp_path: Path) -> None:
    for name in ("photos", "0123456789abcdef.txt", "notes-0123456789abcdef"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("precious")
    assert Cache(tmp_path).entries() == []
    assert Cache(tmp_path).clear(["all"]) == []
    assert len(folders(tmp_path)) == 3
