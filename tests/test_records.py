"""Stored cells are complete or absent, whatever happens, and come back as they went in."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import records
from bench.api import SCHEMA, Cost, Part, Record, Task, UserError

ROOT = Path(__file__).parent.parent


def a_record(**changes) -> Record:
    record = Record(
        id="0123456789abcdef",
        status="done",
        method="rada-ttt",
        title="RAda (test time)",
        family="rada",
        setting="few-shot+test-time",
        fields={
            "alpha": 0.1,
            "tau": math.inf,
            "rates": (1e-3, 0.3),
            "name": "ä|b",
            "switch": True,
            "none": None,
        },
        chosen_by="fixed",
        task=Task(Part("world-sketch", "test", "s3"), Part("world-photo", "train", None, "base"), 16, 300),
        seed=2,
        classes=("key", "bell", "bell"),
        backbone="world-rn",
        fingerprint="f00",
        code="c0de",
        precision="float32",
        parameters=3 << 40,
        support=48,
        cost=Cost(fit_s=0.1 + 0.2, encode_ms=1 / 3, memory_how="sampled", image_forwards=64_000),
        notes=("one augmentation",),
        provenance={"finished": "2026-11-24T05:00:00Z", "threads": 1},
        ids=("a", "bé/2", "c"),
        prediction=np.array([0, 1, 2]),
        label=np.array([0, 2, 2]),
        p_true=np.array([0.9, 0.25, 1 / 3]),
        confidence=np.array([0.9, 0.5, 1 / 3]),
    )
    return replace(record, **changes)


def failed(**changes) -> Record:
    none = dict.fromkeys(records.ARRAYS)
    return a_record(status="failed", error="It broke.", traceback="Traceback ...", ids=(), **none, **changes)


def same(one: Record, other: Record) -> bool:
    arrays = dict.fromkeys(records.ARRAYS)
    return replace(one, **arrays) == replace(other, **arrays) and all(
        np.array_equal(np.asarray(getattr(one, name), kind), getattr(other, name))
        for name, kind in records.ARRAYS.items()
    )


def test_a_cell_comes_back_exactly_as_it_went_in(tmp_path):
    path = records.save(a_record(), tmp_path)
    assert path == records.folder(tmp_path, a_record())
    assert same(a_record(), records.load(path))


def test_a_failed_cell_keeps_its_sentence_and_its_traceback(tmp_path):
    assert records.load(records.save(failed(), tmp_path)) == failed()
    assert records.scan(tmp_path) == ([failed()], [])


def test_a_cell_says_when_it_was_finished(tmp_path):
    stored = records.load(records.save(a_record(provenance={}), tmp_path)).provenance["finished"]
    age = datetime.now(UTC) - datetime.fromisoformat(stored)
    assert timedelta() <= age < timedelta(minutes=5)


def test_a_task_without_support_comes_back_without_it(tmp_path):
    record = a_record(task=Task(Part("world-photo", "test")))
    assert records.load(records.save(record, tmp_path)).task == record.task


@settings(deadline=None)
@given(st.floats(width=64), st.floats(allow_nan=False))
def test_numbers_keep_every_bit_on_their_way_through_json(field, seconds):
    record = failed(fields={"x": field}, cost=Cost(fit_s=seconds))
    text = json.dumps(records._content(record), allow_nan=False)
    back = records._record(json.loads(text))
    assert math.isnan(field) if math.isnan(back.fields["x"]) else back.fields["x"] == field
    assert back.cost.fit_s == seconds


def test_the_json_is_for_people_and_the_arrays_are_no_pickles(tmp_path):
    path = records.save(a_record(), tmp_path)
    text = (path / "cell.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    assert stored["schema"] == SCHEMA
    assert stored["images"] == 3
    assert stored["accuracy"] == 2 / 3
    assert list(stored) == sorted(stored)
    assert text.startswith('{\n  "')
    assert "NaN" not in text
    assert "Infinity" not in text
    assert not set(records.ARRAYS) & set(stored)
    with np.load(path / "predictions.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype.str for name in arrays} == {
            "ids": "<U4", "prediction": "<i4", "label": "<i4", "p_true": "<f4", "confidence": "<f4",
        }  # fmt: skip


def test_without_predictions_nothing_but_the_arrays_is_missing(tmp_path):
    path = records.save(a_record(), tmp_path)
    assert records.load(path, predictions=False) == replace(a_record(), ids=(), **dict.fromkeys(records.ARRAYS))


def test_predictions_are_read_of_those_records_that_are_asked_for(tmp_path):
    path = records.save(a_record(), tmp_path)
    assert same(a_record(), records.load(path, lambda record: record.method == "rada-ttt"))
    assert records.load(path, lambda record: record.seed == 1) == records.load(path, predictions=False)
    asked = []
    records.load(path, lambda record: asked.append(record) or True)
    assert asked == [records.load(path, predictions=False)]


def test_the_cells_of_one_task_share_their_image_ids_and_their_texts(tmp_path):
    one, two = (records.load(records.save(a_record(id=x * 16), tmp_path)) for x in "ab")
    assert one.ids is two.ids
    assert one.title is two.title
    assert one.provenance["finished"] is two.provenance["finished"]
    assert one.classes[0] is two.classes[0]


def test_arrays_that_do_not_match_the_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"label has shape \(2,\) for 3 images"):
        records.save(a_record(label=np.array([0, 1])), tmp_path)
    assert records.scan(tmp_path) == ([], [])


def test_an_id_names_the_content_and_not_its_order():
    one = records.cell_id({"a": 1, "b": {"c": (1.5, None), "d": {"y", "x"}}, "n": np.float64(0.1)})
    assert one == records.cell_id({"n": 0.1, "b": {"d": ["x", "y"], "c": [1.5, None]}, "a": 1})
    assert one != records.cell_id({"n": 0.1, "b": {"d": ["x", "y"], "c": [1.5, None]}, "a": 2})
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert records.cell_id({"task": Task(Part("x", "test"))}) != records.cell_id({"task": Task(Part("x", "val"))})
    assert records.cell_id({}) == "44136fa355b3678a"  # the same on every machine and in every version
    with pytest.raises(TypeError, match="a object cannot be stored"):
        records.cell_id({"a": object()})


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_a_folder_has_a_name_that_every_file_system_takes(dataset, method):
    path = records.folder("root", a_record(task=Task(Part(dataset, "test")), method=method))
    assert path.parent == Path("root/cells")
    assert path.name.isascii()
    assert len(path.name) < 140
    assert not set(path.name) & set('/\\:*?"<>| \0')
    assert path.name.endswith("--s2--0123456789abcdef")
    assert not path.name.startswith(".")


def test_a_done_cell_is_never_replaced_unless_asked(tmp_path):
    path = records.save(a_record(), tmp_path)
    before = (path / "cell.json").read_bytes()
    records.save(a_record(seed=2, support=1), tmp_path)
    records.save(failed(), tmp_path)
    assert (path / "cell.json").read_bytes() == before
    records.save(a_record(support=1), tmp_path, replace=True)
    assert records.load(path).support == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("status", ["failed", "not-runnable"])
def test_a_cell_without_an_answer_makes_room_for_the_next_attempt(tmp_path, status):
    records.save(replace(failed(), status=status), tmp_path)
    path = records.save(a_record(), tmp_path)
    assert records.load(path).status == "done"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_scan_sorts_by_name(tmp_path):
    for seed in (1, 0, 2):
        records.save(a_record(seed=seed, id=str(seed) * 16), tmp_path)
    assert [r.seed for r in records.scan(tmp_path).records] == [0, 1, 2]


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def edit(path: Path, **changes) -> None:
    stored = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in stored.items() if value != "gone"}))


DAMAGE = {
    "no json": lambda path: (path / "cell.json").unlink(),
    "half a json": lambda path: cut(path / "cell.json"),
    "another json": lambda path: (path / "cell.json").write_text("[]"),
    "binary json": lambda path: (path / "cell.json").write_bytes(b"\xff\xfe"),
    "a missing key": lambda path: edit(path / "cell.json", method="gone"),
    "a missing key of the task": lambda path: edit(path / "cell.json", task={"shots": 1}),
    "no arrays": lambda path: (path / "predictions.npz").unlink(),
    "half of the arrays": lambda path: cut(path / "predictions.npz"),
    "empty arrays": lambda path: cut(path / "predictions.npz", 0),
    "a missing array": lambda path: np.savez(path / "predictions.npz", ids=np.array(["a"])),
    "other images": lambda path: edit(path / "cell.json", images=4),
    "objects": lambda path: np.savez(path / "predictions.npz", ids=np.array([{}], dtype=object)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cell_is_said_in_one_sentence_and_made_again(tmp_path, damage):
    path = records.save(a_record(), tmp_path)
    records.save(a_record(id="f" * 16), tmp_path)
    DAMAGE[damage](path)
    with pytest.raises(records.Damaged) as raised:
        records.load(path)
    assert str(raised.value).startswith(f"{path} is damaged (")
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("): delete this folder and run again.")
    scanned = records.scan(tmp_path, predictions=True)
    assert [r.id for r in scanned.records] == ["f" * 16]
    assert scanned.warnings == [str(raised.value)]
    records.save(a_record(), tmp_path)
    assert same(a_record(), records.load(path))


def test_a_flipped_bit_in_the_arrays_is_noticed_or_changes_nothing(tmp_path):
    path = records.save(a_record(), tmp_path)
    content, noticed = (path / "predictions.npz").read_bytes(), 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        (path / "predictions.npz").write_bytes(flipped)
        try:
            assert same(a_record(), records.load(path)), position
        except records.Damaged:
            noticed += 1
    assert noticed > len(content) / 2


def test_a_cell_of_a_newer_version_is_refused_and_kept(tmp_path):
    path = records.save(a_record(), tmp_path)
    edit(path / "cell.json", schema=SCHEMA + 1)
    for action in (
        lambda: records.load(path),
        lambda: records.save(a_record(), tmp_path),
        lambda: records.scan(tmp_path),
    ):
        with pytest.raises(UserError, match=rf"written by a newer version \(schema {SCHEMA + 1}, this one reads up to"):
            action()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_key_of_a_later_version_of_the_same_schema_is_ignored(tmp_path):
    path = records.save(a_record(), tmp_path)
    edit(path / "cell.json", weather="fine", traceback="gone")
    assert same(a_record(), records.load(path))


def test_a_results_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"results cannot be written \(.+\): mend that or name another one\.$"):
        records.save(a_record(), tmp_path / "results")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_without_permission_is_said_in_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
            records.save(a_record(), tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_what_dead_processes_left_is_ignored_and_swept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    cells = tmp_path / "cells"
    records.save(a_record(), tmp_path)
    names = {
        "dead": f".tmp-{records._host()}_{ended.pid}_aa",
        "alive": f".tmp-{records._host()}_{os.getpid()}_bb",
        "elsewhere": f".tmp-another.host_{ended.pid}_cc",
    }
    for name in names.values():
        (cells / name).mkdir()
        (cells / name / "cell.json").write_text("{")
    assert len(records.scan(tmp_path).records) == 1
    assert not records.scan(tmp_path).warnings
    records.save(a_record(id="f" * 16), tmp_path)
    assert {p.name for p in cells.glob(".tmp-*")} == {names["alive"], names["elsewhere"]}


def test_a_folder_is_searched_for_what_dead_processes_left_at_the_1st_2nd_4th_and_8th_cell_saved_there(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, swept = tmp_path / "cells" / f".tmp-{records._host()}_{ended.pid}_aa", []
    for i in range(1, 10):
        left.mkdir(parents=True, exist_ok=True)
        records.save(a_record(id=str(i) * 16), tmp_path)
        if not left.exists():
            swept.append(i)
    assert swept == [1, 2, 4, 8]
    assert left.exists()
    records.sweep(tmp_path / "cells")  # as a run does before its first cell
    assert not left.exists()


WRITER = """
import sys; sys.path.insert(0, "tests")
from dataclasses import replace
import numpy as np
from bench import records
from test_records import a_record
n = 20_000
big = a_record(ids=tuple(map(str, range(n))), **{name: np.arange(n) / n for name in records.ARRAYS})
print("ready", flush=True)
for i in range(1_000_000):
    records.save(replace(big, id=f"{i:016x}"), sys.argv[1])
    print(i, flush=True)
"""


def test_a_killed_process_leaves_whole_cells_only(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "2":
        pass
    deadline = time.monotonic() + 20
    while not any((tmp_path / "cells").glob(".tmp-*")) and time.monotonic() < deadline:
        pass  # in the middle of a cell
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0].split()
    scanned = records.scan(tmp_path, predictions=True)
    assert not scanned.warnings
    assert len(scanned.records) >= 3 + len(said)
    assert all(len(r.ids) == 20_000 for r in scanned.records)
    records.save(a_record(id="f" * 16), tmp_path)
    assert not any((tmp_path / "cells").glob(".tmp-*"))


def test_two_processes_may_write_the_same_cell(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        while writer.stdout.readline().strip() != "3":
            pass
    for writer in writers:
        writer.kill()
        writer.communicate()
    scanned = records.scan(tmp_path, predictions=True)
    assert not scanned.warnings
    assert len({r.id for r in scanned.records}) == len(scanned.records) >= 4
