"""Cells made by several processes: the same bytes, and one that dies or hangs costs its own work alone."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench import records
from bench.__main__ import main
from bench.api import METHODS, Record

PLUGIN = """
import os, signal, time
from dataclasses import dataclass
from typing import ClassVar
import torch
from bench.api import register

ANSWERED = []  # the processes's own

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def hang():
    time.sleep(3600)

@register("dies", title="Dies at its second cell", in_second="die")
@register("falls", title="Dies in its fit", in_fit="die")
@register("hangs", title="Hangs at its second cell", in_second="hang")
@register("sleeps", title="Hangs in its fit", in_fit="hang")
@dataclass(frozen=True)
class Trouble:
    in_fit: str = ""
    in_second: str = ""
    needs: ClassVar[frozenset] = frozenset({"features"})
    setting: ClassVar[str] = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[str] = "fixed"
    grid: ClassVar[dict] = {}

    def fit(self, support, backbone, rng):
        ANSWERED.clear()
        globals().get(self.in_fit, bool)()
        return {"w": torch.rand(3, generator=rng)}

    def predictor(self, state, classes, backbone, rng):
        ANSWERED.append(1)
        if len(ANSWERED) > 2:  # a cell asks for a predictor twice
            globals().get(self.in_second, bool)()
        return lambda batch: torch.zeros(len(batch.ids), len(classes)) + torch.arange(len(classes))

    def parameters(self, backbone, classes):
        return 3
"""


def run(folder: Path, *words: str) -> dict[tuple[str, str, int], Record]:
    """Cells by method, task and seed, with their answers."""
    main(["run", "--results", str(folder), *words])
    found, warnings = records.scan(folder, predictions=True)
    assert not warnings
    return {(r.method, r.task.test.dataset, r.seed): r for r in found}


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("cells/*/predictions.npz")}


@pytest.mark.slow
def test_several_processes_make_the_same_bytes_as_one_whatever_the_setting(tmp_path: Path) -> None:
    words = ["--suite", "smoke", "--methods", "zero-shot,clip-adapter,tpt,rada-dagger,view-mean"]
    run(tmp_path / "one", *words)
    run(tmp_path / "two", *words, "--jobs", "2")
    one, two = predictions(tmp_path / "one"), predictions(tmp_path / "two")
    assert len(one) == 12
    assert one == two


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="signals are named as Linux does")
def test_a_process_that_dies_costs_a_retry_and_one_that_hangs_its_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "trouble.py"
    plugin.write_text(PLUGIN)
    words = ["--suite", "smoke", "--methods", "dies,falls,hangs,sleeps", "--plugin", str(plugin)]
    assert "dies" not in METHODS
    found = run(tmp_path / "results", *words, "--jobs", "2", "--cell-timeout", "8")
    status = {key[:2]: record.status for key, record in found.items()}
    first, second = "world-sketch", "world-noise"
    assert status == {
        ("zero-shot", first): "done",
        ("zero-shot", second): "done",
        ("dies", first): "done",
        ("dies", second): "done",  # by another process, which learnt anew
        ("falls", first): "failed",
        ("falls", second): "failed",
        ("hangs", first): "done",
        ("hangs", second): "failed",
        ("sleeps", first): "failed",
        ("sleeps", second): "failed",
    }
    assert "killed by SIGKILL, as happens where memory runs out" in found["falls", first, 1].error
    hung, slept = found["hangs", second, 1], found["sleeps", first, 1]
    assert "answering took longer than the 8 s of --cell-timeout" in hung.error
    assert "the fit took longer than the 8 s of --cell-timeout" in slept.error
    assert "in hang" in hung.traceback  # where it stood
    out = capsys.readouterr().out
    assert "10 cells" in out
    assert "failed: Hangs in its fit" in out


def test_a_mistake_in_a_worker_is_told_as_in_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--methods", "zero-shot", "--suite", "smoke", "--results", str(tmp_path), "--jobs", "1"]
    code = main([*words, "--cell-timeout", "60", "--cache-limit", "0.000001"])
    assert code == 2
    assert capsys.readouterr().err.count("--cache-limit") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["Ctrl-C", "a kill"])
def test_the_processes_end_with_the_one_that_plans_however_it_ends(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    plugin = tmp_path / "trouble.py"
    plugin.write_text(PLUGIN)
    words = ["--suite", "smoke", "--methods", "sleeps", "--plugin", str(plugin), "--results", str(tmp_path / "results")]
    command = [sys.executable, "-m", "bench", "run", *words, "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as run, contextlib.ExitStack() as afterwards:
        afterwards.callback(run.kill)
        while len(list(tmp_path.glob("results/cells/*/cell.json"))) < 2:  # then one process waits, the other hangs
            assert run.poll() is None
            time.sleep(0.1)
        workers = psutil.Process(run.pid).children(recursive=True)
        assert len(workers) >= 2
        run.send_signal(number)
        assert run.wait(60) == code
        psutil.wait_procs(workers, timeout=60)
        assert not any(worker.is_running() for worker in workers)
        assert run.stderr is not None
        told = run.stderr.read().decode()
    assert "Traceback" not in told
    if number == signal.SIGINT:
        assert "2 of 4 cells are done and stored" in " ".join(told.split())
