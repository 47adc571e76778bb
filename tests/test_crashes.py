"""Runs that are killed, interrupted, out of disk or memory: the same command goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))  # the benchmarks are in the checkout and in no wheel

from bench import faults, records  # noqa: E402
from bench.api import UserError  # noqa: E402
from bench.checkpoints import Checkpoints  # noqa: E402
from benchmarks.forks import Run  # noqa: E402
from benchmarks.kills import (  # noqa: E402
    FULL,
    Stage,
    Trial,
    at_point,
    at_random,
    cells,
    identities,
    in_a_row,
    leftovers,
    points,
    stage,
    two_at_once,
)

QUICK = ("--methods", "zero-shot,moody,ft", "--seeds", "1")
"""Three cells: one that needs no fit, one that failed in an earlier run, and one with checkpoints."""
WHOLE = ("--checkpoint-every", "60")
"""Without checkpoints, whose absence a cell would note."""


@pytest.fixture(scope="module")
def play() -> Iterator[Stage]:
    with stage() as built:
        yield built


@pytest.fixture
def trial(play: Stage) -> Trial:
    return Trial(play, play.staged(), QUICK)


def until_stopped(run: Run) -> None:
    end = time.monotonic() + 60
    while Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end, run.said
        time.sleep(0.01)


# -- killed -----------------------------------------------------------------------------------------------------------


def test_killed_at_every_write_a_run_loses_nothing_and_completes(play: Stage) -> None:
    reached = points(play, *QUICK)
    assert set(reached) >= {f"{what}.renamed" for what in ("cell", "entry", "checkpoint", "file")}
    assert in_a_row(play, list(reached), *QUICK) == len(reached) > 30


def test_killed_at_random_moments_a_run_loses_nothing_and_completes(play: Stage) -> None:
    assert at_random(play, signal.SIGKILL, 8, random.Random(0), *QUICK) == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_random_moments_a_run_ends_without_a_traceback_and_goes_on(play: Stage, number: int) -> None:
    assert at_random(play, number, 5, random.Random(number), *QUICK, "--workers", "2") == 5


def test_two_runs_at_once_of_which_either_is_killed_lose_and_double_nothing(play: Stage) -> None:
    assert two_at_once(play, 5, random.Random(1), *QUICK) == 5


def test_a_finished_cell_that_is_made_again_is_there_all_the_while(trial: Trial) -> None:
    assert trial.start().wait() == 0
    for point in ("cell.synced", "cell.exchanged", "cell.discarding", "cell.discarded", "cell.renamed"):
        assert trial.start("--fresh", BENCH_FAULT=f"{point}=kill").wait() == -signal.SIGKILL
        assert len(identities(trial.results)) == 3
    run = trial.start()
    assert run.wait() == 0
    assert "3 cells in results/cells: 3 found, 0 run." in run.said
    assert leftovers(trial.results) == []


def test_a_report_that_is_killed_leaves_whole_tables_figures_and_pages(play: Stage, trial: Trial) -> None:
    assert trial.start().wait() == 0
    words = ["report", "--suite", "finetune", "--images", str(play.pictures), "--plugin", str(play.plugin)]
    words += ["--format", "md,html"]
    before = (trial.results / "tables" / "finetune.md").read_bytes()
    for point in ("file.written:1", "file.synced:2"):
        assert play.forks.start(words, trial.place, BENCH_FAULT=f"{point}=kill").wait() == -signal.SIGKILL
        assert (trial.results / "tables" / "finetune.md").read_bytes() == before
        assert not (trial.results / "index.html").exists()
    assert play.forks.start(words, trial.place).wait() == 0
    assert (trial.results / "index.html").read_text().rstrip().endswith("</html>")
    assert leftovers(trial.results) == []


# -- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "code"), [("int", 130), ("term", 143)])
def test_an_interrupted_run_says_how_far_it_came_and_how_to_go_on(trial: Trial, what: str, code: int) -> None:
    run = trial.start(BENCH_FAULT=f"checkpoint.renamed:2={what}")
    assert run.wait() == code
    command = " ".join(["python -m bench", *trial.stage.words(*QUICK)])
    (last,) = run.said.strip().splitlines()[-1:]
    assert last.startswith("interrupted: 1 of 3 cells are done and stored; dropped: FT: loss ")
    assert last.endswith(f". The same command goes on from here: {command}")
    assert "Traceback" not in run.said
    assert not [name for name in leftovers(trial.results) if not name.startswith("checkpoints")]
    trial.complete()


def test_an_interruption_while_a_cell_is_written_waits_until_it_is_stored(trial: Trial) -> None:
    run = trial.start(BENCH_FAULT="cell.temporary=int")
    assert run.wait() == 130
    assert "1 of 3 cells are done and stored." in run.said
    assert len(identities(trial.results)) == 1
    assert leftovers(trial.results) == []
    trial.complete()


def test_a_second_interruption_ends_the_run_at_once_and_says_the_same(trial: Trial) -> None:
    run = trial.start(BENCH_FAULT="cell.temporary=int,cell.arrays=int")
    assert run.wait() == 130
    assert "interrupted: 0 of 3 cells are done and stored" in run.said
    assert "Traceback" not in run.said
    trial.complete()


def test_ctrl_c_reaches_the_processes_that_open_pictures_too_and_nobody_complains(play: Stage) -> None:
    trial = Trial(play, play.staged(), (*QUICK, "--workers", "2"))
    run = trial.start(BENCH_FAULT="checkpoint.renamed=stop")
    until_stopped(run)
    run.send(signal.SIGINT, group=True)
    run.send(signal.SIGCONT)
    assert run.wait() == 130
    assert run.said.strip().splitlines()[-1].startswith("interrupted: 1 of 3 cells are done and stored; dropped: FT")
    assert "Traceback" not in run.said
    assert "DataLoader" not in run.said
    trial.complete()


def test_ctrl_c_during_the_imports_prints_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "bench", "list", "suites"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "| rich.console" in line.replace("  ", " ").replace("|   ", "| "):
            break
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors


# -- no room, no right, no folder -------------------------------------------------------------------------------------


def test_no_space_at_any_write_is_one_sentence_and_the_same_command_goes_on(play: Stage) -> None:
    for point in ("cell.arrays", "entry.header", "file.written"):
        assert point in FULL
        at_point(play, point, 1, "raise-enospc", *QUICK)


def test_files_that_may_not_grow_end_the_run_in_one_sentence(play: Stage) -> None:
    trial = Trial(play, play.staged(), WHOLE)
    run = trial.start(limit=8000)
    assert run.wait() == 2
    assert "error: cache folder results/cache cannot be written (File too large): make room there" in run.said
    assert "Traceback" not in run.said
    assert leftovers(trial.results) == []
    trial.complete()


@pytest.fixture
def small_disk(play: Stage) -> Iterator[Trial]:
    """A trial whose results are on a disk of their own, of 60 kB."""
    trial = Trial(play, play.staged(), WHOLE)
    kept = trial.place / "kept"
    trial.results.rename(kept)
    trial.results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(trial.results)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    shutil.copytree(kept, trial.results, dirs_exist_ok=True)
    yield trial
    subprocess.run(["umount", str(trial.results)], check=True)


def remount(trial: Trial, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(trial.results)], check=True)


def test_a_full_disk_ends_the_run_in_one_sentence_and_with_more_room_the_same_command_completes(
    small_disk: Trial,
) -> None:
    stored = []
    for size in (60, 80, 100, 120):
        remount(small_disk, f"size={size}k")
        run = small_disk.start()
        assert run.wait() == 2
        assert "cannot be written (No space left on device)" in run.said
        assert "Traceback" not in run.said
        small_disk.look()
        assert leftovers(small_disk.results) == []
        stored.append(len(small_disk.seen))
    assert stored == sorted(stored)
    remount(small_disk, "size=20m")
    assert small_disk.start().wait() == 0
    small_disk.look()
    assert cells(small_disk.results) == small_disk.stage.undisturbed(*WHOLE)


def test_a_disk_that_is_read_only_ends_the_run_in_one_sentence(small_disk: Trial) -> None:
    remount(small_disk, "ro")
    run = small_disk.start()
    assert run.wait() == 2
    assert "error: results folder results cannot be written (Read-only file system)" in run.said
    remount(small_disk, "rw,size=20m")
    assert small_disk.start().wait() == 0


def test_a_results_folder_that_is_removed_during_the_run_is_made_again_by_the_same_command(play: Stage) -> None:
    trial = Trial(play, play.staged(), (*QUICK, *WHOLE))
    run = trial.start(BENCH_FAULT="cell.put=stop")
    until_stopped(run)
    shutil.rmtree(trial.results)
    run.send(signal.SIGCONT)
    assert run.wait() == 2
    assert "error: 1 of 3 finished cells have gone from results/cells during the run" in run.said
    assert "Traceback" not in run.said
    trial.complete()


# -- methods that cannot ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mood", "says"),
    [
        ("raise", "ZeroDivisionError: a bad day"),
        ("memory", "Unable to allocate 8.00 PiB"),
        ("nan", "ValueError: logits that are not finite"),
        ("shape", "ValueError: logits of shape (80, 3) for 80 x 4"),
    ],
)
def test_a_method_that_fails_is_a_stored_failure_and_the_others_finish(trial: Trial, mood: str, says: str) -> None:
    run = trial.start(MOOD=mood)
    assert run.wait() == 1
    assert "failed: Moody on images-pictures, seed 1: " in run.said
    stored = {record.method: record for record in records.scan(trial.results).records}
    status = {name: record.status for name, record in stored.items()}
    assert status == {"zero-shot": "done", "moody": "failed", "ft": "done"}
    assert says in stored["moody"].error
    assert "Traceback" in stored["moody"].traceback
    trial.look()
    trial.complete()


# -- what holds it ----------------------------------------------------------------------------------------------------


def test_the_temporary_of_a_dead_process_is_swept_though_a_new_one_has_its_number(tmp_path: Path) -> None:
    mine = records.new_temporary(tmp_path)
    pid, start = os.getpid(), records._start(os.getpid())
    (tmp_path / mine.name.replace(f"_{pid}-{start}_", f"_{pid}-{int(start) - 1}_")).mkdir()
    (tmp_path / mine.name.replace(f"_{pid}-{start}_", f"_{pid}-{int(start) + 1}_")).write_text("a file")
    records.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "table.md"
    records.write(place, b"old")
    for stage_ in ("temporary", "written", "synced"):
        faults.arrivals.clear()
        monkeypatch.setenv("BENCH_FAULT", f"file.{stage_}=raise-enospc")
        with pytest.raises(OSError, match="No space left"):
            records.write(place, b"new")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_a_fit_had_cost_before_it_was_killed_is_kept_with_its_state(tmp_path: Path) -> None:
    first, second, third = (Checkpoints(tmp_path, "fit") for _ in range(3))
    first.spent = second.spent = lambda: {"seconds": 2.5, "texts": 4}
    first.save(1, {"w": torch.ones(2)})
    assert second.load() is not None
    assert second.before == {"seconds": 2.5, "texts": 4}
    second.save(2, {"w": torch.ones(2)})
    third.load()
    assert third.before == {"seconds": 5.0, "texts": 8}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("cell.renamed", "must look like"),
        ("cell.renamed=explode", "must look like"),
        ("cell.renamed=raise-nothing", "must look like"),
        ("cell.renamde=kill", "there is no point 'cell.renamde'; did you mean cell.renamed"),
    ],
)
def test_a_fault_that_means_nothing_is_refused(fault: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_FAULT", fault)
    with pytest.raises(UserError, match=says):
        faults.point("cell.json")
