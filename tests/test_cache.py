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

from bench.__main__ import main
from bench.api import UserError
from bench.cache import Cache, Entry

KEY = {"dataset": "pets", "what": "views"}


def make(cache: Cache, value: float = 1.0, n: int = 100, **key: object) -> Entry:
    """400 bytes of numbers and their header of 128."""
    return cache.array({**KEY, **key}, (n,), lambda out, first: out.fill(value))


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

    def fill(out: np.ndarray, first: int) -> None:
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
    Cache(tmp_path).array({"a": 1}, (2,), lambda out, first: out.fill(1))
    assert Cache(tmp_path).array(other, (2,), lambda out, first: out.fill(7)).array.tolist() == [7, 7]


def test_what_is_read_can_be_changed_in_memory_but_not_on_disk(tmp_path: Path) -> None:
    make(Cache(tmp_path))
    make(Cache(tmp_path)).array[:] = 9
    assert set(make(Cache(tmp_path), 2).array) == {1}


def test_fewer_are_the_first_of_a_longer_entry_and_count_their_share_of_its_seconds(tmp_path: Path) -> None:
    def ask(count: int) -> Entry:
        return Cache(tmp_path).array(
            KEY, (3, count), lambda out, first: out.__setitem__(slice(None), range(count)), axis=1
        )

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
    def fill(out: np.ndarray, first: int) -> None:
        raise OSError("a picture cannot be read")

    with pytest.raises(OSError, match="a picture cannot be read"):
        Cache(tmp_path).array(KEY, (2,), fill)
    assert folders(tmp_path) == []


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    dead = Other()
    dead.told(tmp_path, "Cache(root).array({'a': 1}, (1000,), lambda out, first: (print('filling'), time.sleep(60)))")
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
    Cache(root).array({"large": 1}, (1_000_000,), lambda out, first: out.fill(1))
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


# -- shards -----------------------------------------------------------------------------------------------------------

ROWS, BLOCK = 1000, 50
SLOW = """
import numpy as np
def fill(out, first):
    for start in range(first, 1000, 50):
        out[start : start + 50] = np.arange(3 * start, 3 * start + 150).reshape(50, 3)
        yield start + 50
        print(start + 50)
        if start + 50 == stop:
            time.sleep(60)
Cache(root, shard=0).array(key, (1000, 3), fill)
"""


def counting(begun: list[int], until: int = ROWS, failure: Exception | None = None):
    """Writes 0, 1, 2 ... block by block, and notes from where it was asked to."""

    def fill(out: np.ndarray, first: int) -> Iterator[int]:
        begun.append(first)
        for start in range(first, until, BLOCK):
            out[start : start + BLOCK] = np.arange(3 * start, 3 * (start + BLOCK)).reshape(BLOCK, 3)
            yield start + BLOCK
        if failure is not None:
            raise failure

    return fill


def counted(root: Path, **how: object) -> tuple[Entry, list[int]]:
    begun: list[int] = []
    entry = Cache(root, shard=0, say=lambda text: None).array(KEY, (ROWS, 3), counting(begun, **how))  # type: ignore[arg-type]
    return entry, begun


def killed(root: Path, stop: int) -> Path:
    """What a process leaves that is killed when it has made so many rows."""
    dead = Other()
    dead.told(root, SLOW, key=KEY, stop=stop)
    while dead.line() != str(stop):
        pass
    dead.end(signal.SIGKILL)
    (part,) = root.glob(".part-*")
    return part


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a making without interruption."""
    root = tmp_path_factory.mktemp("undisturbed")
    counted(root)
    return next(root.glob("*/array.npy")).read_bytes()


def test_after_a_kill_making_goes_on_behind_the_last_shard_and_gives_the_same_bytes(
    tmp_path: Path, undisturbed: bytes
) -> None:
    killed(tmp_path, stop=600)
    entry, begun = counted(tmp_path)
    assert begun == [600]
    assert entry.array[599].tolist() == [1797, 1798, 1799]
    (place,) = folders(tmp_path)
    assert (place / "array.npy").read_bytes() == undisturbed
    assert sorted(path.name for path in place.iterdir()) == ["array.npy", "entry.json"]


def test_the_seconds_before_an_interruption_count(tmp_path: Path) -> None:
    part = killed(tmp_path, stop=200)
    lines = [json.loads(line) for line in (part / "journal").read_text().splitlines()]
    lines[-1]["seconds"] = 5000.0
    (part / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entry, begun = counted(tmp_path)
    assert begun == [200]
    assert 5000 < entry.seconds < 5060


@pytest.mark.parametrize(
    ("damage", "first"),
    [
        ("torn line", 600),
        ("lost page", 250),
        ("short file", 600),
        ("other header", 0),
        ("no journal", 0),
        ("text", 600),
    ],
)
def test_only_shards_whose_bytes_are_as_the_journal_says_are_taken_over(
    tmp_path: Path, undisturbed: bytes, damage: str, first: int
) -> None:
    part = killed(tmp_path, stop=600)
    journal, array = part / "journal", part / "array.npy"
    if damage == "torn line":
        journal.write_bytes(journal.read_bytes() + b'{"rows": 650, "sha')
    elif damage == "lost page":
        content = bytearray(array.read_bytes())
        content[128 + 270 * 12] ^= 1  # behind numpy's header, in row 270
        array.write_bytes(content)
    elif damage == "short file":
        array.write_bytes(array.read_bytes()[:-4])
    elif damage == "other header":
        journal.write_text(journal.read_text().replace('"pets"', '"dogs"'))
    elif damage == "no journal":
        journal.unlink()
    else:
        journal.write_bytes(journal.read_bytes() + b"[]\n")
    assert counted(tmp_path)[1] == [first]
    assert next(tmp_path.glob("*/array.npy")).read_bytes() == undisturbed


def test_a_failure_leaves_its_whole_shards_and_the_next_making_goes_on_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a picture cannot be read"):
        counted(tmp_path, until=350, failure=OSError("a picture cannot be read"))
    assert counted(tmp_path)[1] == [350]


def test_rows_are_put_on_the_disk_at_the_given_interval_and_no_sooner(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="stop"):
        Cache(tmp_path, shard=3600).array(KEY, (ROWS, 3), counting([], 350, OSError("stop")))
    assert folders(tmp_path) == []


def test_two_processes_never_write_into_the_same_part_even_without_the_lock_that_spares_work(
    tmp_path: Path, other: Other, undisturbed: bytes
) -> None:
    def fill(out: np.ndarray, first: int) -> Iterator[int]:
        yield from counting([], until=200)(out, first)
        for lock in tmp_path.glob(".lock-*"):
            lock.unlink()  # so that the other process does not meet it
        other.told(tmp_path, SLOW, key=KEY, stop=-1)
        for rows in range(BLOCK, ROWS + 1, BLOCK):
            assert other.line() == str(rows)
        other.told(tmp_path, "print('finished')")
        assert other.line() == "finished"
        yield from counting([], until=ROWS)(out, 200)

    Cache(tmp_path, shard=0).array(KEY, (ROWS, 3), fill)
    (place,) = folders(tmp_path)
    assert (place / "array.npy").read_bytes() == undisturbed


def test_what_was_interrupted_is_listed_and_cleared_but_not_while_a_process_makes_it(tmp_path: Path) -> None:
    busy = Other()
    busy.told(tmp_path, SLOW, key=KEY, stop=400)
    while busy.line() != "400":
        pass
    (entry,) = Cache(tmp_path).entries()
    assert (entry.dataset, entry.rows, entry.shape) == ("pets", 400, (ROWS, 3))
    assert Cache(tmp_path).clear(["pets"]) == []
    busy.end(signal.SIGKILL)
    assert [entry.rows for entry in Cache(tmp_path).clear(["pets"])] == [400]
    assert folders(tmp_path) == []


def test_the_command_lists_how_far_an_interrupted_making_came(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(OSError, match="stop"):
        Cache(tmp_path, shard=0).array(KEY, (ROWS, 3), counting([], 350, OSError("stop")))
    assert main(["cache", "list", "--cache", str(tmp_path)]) == 0
    assert "views, interrupted at 350 of 1000" in capsys.readouterr().out
    assert main(["cache", "clear", "pets", "--cache", str(tmp_path)]) == 0
    assert folders(tmp_path) == []


def test_a_limit_takes_what_was_interrupted_first_where_it_is_oldest_but_not_the_part_it_goes_on_with(
    tmp_path: Path,
) -> None:
    killed(tmp_path, stop=600)
    size = 1000 * 3 * 4 + 128
    entry, begun = Cache(tmp_path, limit=size).array(KEY, (ROWS, 3), counting(begun := [])), begun
    assert (entry.fresh, begun) == (True, [600])
    with pytest.raises(OSError, match="stop"):
        Cache(tmp_path, shard=0).array({**KEY, "seed": 2}, (ROWS, 3), counting([], 350, OSError("stop")))
    cache = Cache(tmp_path, limit=3 * size)
    for seed in (3, 4):
        make(cache, n=3 * ROWS, seed=seed)
    assert [entry.rows for entry in cache.entries()] == [None, None]


# -- two processes ----------------------------------------------------------------------------------------------------

THERE = """
entry = Cache(root, say=print).array({"a": 1}, (1000,), lambda out, first: out.fill(value))
print(entry.array[0], entry.fresh)
"""


def test_of_two_processes_that_miss_the_same_entry_one_makes_it_and_the_other_waits(
    tmp_path: Path, other: Other
) -> None:
    def fill(out: np.ndarray, first: int) -> None:
        other.told(tmp_path, THERE, value=5)
        assert "waiting for another process" in other.line()
        out[:] = 3

    assert set(Cache(tmp_path).array({"a": 1}, (1000,), fill).array) == {3}
    assert other.line() == "3.0 False"
    assert len(folders(tmp_path)) == 1


def test_of_two_that_make_the_same_entry_without_locks_the_first_is_kept(tmp_path: Path, other: Other) -> None:
    def fill(out: np.ndarray, first: int) -> None:
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
