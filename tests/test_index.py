"""The index of a results folder says what reading every cell would, whatever was done to the folder or to the index."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from generated import ONE, cell, failed
from hypothesis import given, settings
from hypothesis import strategies as st

import methods  # noqa: F401
from bench import index, records
from bench.api import METHODS, SCHEMA, Suite, UserError
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.features import Features
from bench.runner import Runner, plan

SUITE = Suite("two", "Two", "domain-shift", ("world-photo", "world-renamed"), ("few-shot",), "world-rn", "world-photo")


def plain(root: Path) -> list[tuple[str, str]]:
    return [(record.id, record.status) for record in records.scan(root).records]


def known(root: Path) -> list[tuple[str, str]]:
    """By the index, which these small folders would have no need of."""
    return [(found.id, found.status) for found in index.known(root, least=0, settled=0)]


def some(root: Path) -> list[Path]:
    return [records.save(cell("probe", ONE, seed, "110"), root) for seed in (1, 2, 3)]


def save(root: Path, seed: int) -> None:
    records.save(cell("probe", ONE, seed, "101", id=f"{seed:016}"), root)


def put(root: Path, seed: int) -> None:
    records.save(cell("probe", ONE, seed, "011", id=f"{seed:016}"), root, replace=True)


def fail(root: Path, seed: int) -> None:
    records.save(failed("probe", ONE, seed, id=f"{seed:016}"), root, replace=True)


def of_number(root: Path, seed: int) -> list[Path]:
    return [place for place in records.places(root) if place.name.endswith(f"{seed:016}")]


def delete(root: Path, seed: int) -> None:
    for place in of_number(root, seed):
        records.discard(place, "cell")


def lose(root: Path, seed: int) -> None:
    for place in of_number(root, seed):
        (place / "predictions.npz").unlink(missing_ok=True)


def cut(root: Path, seed: int) -> None:
    for place in of_number(root, seed):
        content = (place / "cell.json").read_bytes()
        (place / "cell.json").write_bytes(content[: len(content) // 2])


def edit(root: Path, seed: int) -> None:
    """By hand, in place, to a text of the same length, with the old time put back."""
    for place in of_number(root, seed):
        path, before = place / "cell.json", (place / "cell.json").stat()
        path.write_bytes(path.read_bytes().replace(b'"status": "done"', b'"status":"faile"'))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def spoil(root: Path, seed: int) -> None:
    if (root / "cells" / index.NAME).exists():
        (root / "cells" / index.NAME).write_bytes(b"x" * seed)


STEPS: tuple[Callable[[Path, int], None], ...] = (save, put, fail, delete, lose, cut, edit, spoil)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 3)), max_size=8))
def test_whatever_happens_to_the_cells_the_index_says_what_reading_them_does(steps: list) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for act, seed in steps:
            act(root, seed)
            assert known(root) == plain(root)
            time.sleep(0.01)  # a tick of the file system's clock, for which the index outside of tests waits


def test_what_is_in_the_index_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some(tmp_path)
    before, read = known(tmp_path), []
    load = records.load
    monkeypatch.setattr(
        records, "load", lambda place, *args, **named: read.append(place) or load(place, *args, **named)
    )
    assert known(tmp_path) == before
    assert read == []
    place = records.save(cell("probe", ONE, 4, "111"), tmp_path)
    read.clear()
    assert len(known(tmp_path)) == 4
    assert read == [place]


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    some(tmp_path)
    index.known(tmp_path, least=0, settled=3600)
    assert index._read(tmp_path / "cells") == {}


@pytest.mark.parametrize("damage", ["empty", "half", "one bit", "folder"])
def test_an_index_that_is_damaged_is_made_again(
    tmp_path: Path, damage: Literal["empty", "half", "one bit", "folder"]
) -> None:
    some(tmp_path)
    before, path = known(tmp_path), tmp_path / "cells" / index.NAME
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        changed = {"empty": b"", "half": content[: len(content) // 2], "one bit": content.replace(b"done", b"dond")}
        path.write_bytes(changed[damage])
    assert known(tmp_path) == before
    assert path.is_dir() or path.read_bytes() == content


def test_a_small_folder_has_no_index(tmp_path: Path) -> None:
    some(tmp_path)
    assert len(index.known(tmp_path)) == 3
    assert not (tmp_path / "cells" / index.NAME).exists()
    assert index.known(tmp_path / "nowhere") == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own; `remount` lets it only be read, which file modes do not say to root."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def test_a_folder_that_can_only_be_read_is_listed_without_an_index(disk: Path) -> None:
    some(disk)
    remount(disk, "ro")
    assert known(disk) == plain(disk)
    assert len(known(disk)) == 3
    assert not (disk / "cells" / index.NAME).exists()


def test_where_it_can_only_be_read_an_old_index_is_used_for_what_it_still_knows(disk: Path) -> None:
    some(disk)
    known(disk)
    before = (disk / "cells" / index.NAME).read_bytes()
    records.save(cell("probe", ONE, 4, "111"), disk)
    records.discard(records.places(disk)[0], "cell")
    remount(disk, "ro")
    assert [id_ for id_, _ in known(disk)] == [id_ for id_, _ in plain(disk)]
    assert len(known(disk)) == 3
    assert (disk / "cells" / index.NAME).read_bytes() == before


def test_a_cell_of_a_newer_version_is_refused_as_without_an_index(tmp_path: Path) -> None:
    place = some(tmp_path)[0] / "cell.json"
    known(tmp_path)
    place.write_text(place.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}'))
    with pytest.raises(UserError, match="newer version"):
        known(tmp_path)


def test_processes_that_write_the_index_at_once_and_are_killed_leave_one_that_is_true(tmp_path: Path) -> None:
    some(tmp_path)
    program = (
        "import sys, pathlib; from bench import index; print('on', flush=1)\n"
        "cells = pathlib.Path(sys.argv[1], 'cells')\n"
        "while 1: (cells / '.index').unlink(missing_ok=True); index.known(sys.argv[1], 0, 0)"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
    time.sleep(0.2)
    for process in running:
        process.kill()
        process.communicate()
    assert known(tmp_path) == plain(tmp_path)
    assert known(tmp_path) == plain(tmp_path)


def test_an_id_put_together_from_parts_is_the_hash_of_the_whole(tmp_path: Path, tiny: OpenClip) -> None:
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path / "results", views=4)
    forms: list[Any] = [METHODS["clip-adapter"].with_fields(ratio=ratio) for ratio in (0.5, 1.0, 1)]
    ids = []
    for planned in [one for form in forms for one in plan(replace(SUITE, seeds=2), [form])]:
        task = planned.task
        content = {
            "schema": SCHEMA,
            "method": "clip-adapter",
            "fields": planned.form.hyper_parameters(),
            "code": runner._code(planned.form),
            "task": {"test": task.test, "train": task.train, "shots": task.shots, "limit": task.limit},
            **runner._content(task, planned.seed),
            "seed": planned.seed,
            "views": 0,
            "backbone": tiny.fingerprint,
            "precision": tiny.precision,
        }
        ids.append(runner.cell_id(planned))
        assert ids[-1] == records.cell_id(content)
    assert len(set(ids)) == 12  # 1 and 1.0 are equal, and are written apart
