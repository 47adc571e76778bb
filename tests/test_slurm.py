"""Shards as jobs, by submitit's own executor for one machine: real processes, signals and files, but no queue."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from bench import records
from bench.__main__ import main
from bench.api import UserError
from bench.engines import slurm
from bench.engines.shard import Shard

pytest.importorskip("submitit", reason="pip install .[slurm]")

LOCAL = ["--executor", "submitit", "--slurm", "cluster=local"]
PLUGIN = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import torch
from bench.api import register

FOLDER = Path(__file__).parent

def wait():
    (FOLDER / "waits").touch()
    while not (FOLDER / "open").exists():
        time.sleep(0.02)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

@register("waits", title="Waits in its fit", doing="wait")
@register("dies", title="Dies in its fit", doing="die")
@dataclass(frozen=True)
class Trouble:
    doing: str = ""
    needs: ClassVar[frozenset] = frozenset({"features"})
    setting: ClassVar[str] = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[str] = "fixed"
    grid: ClassVar[dict] = {}

    def fit(self, support, backbone, rng):
        globals()[self.doing]()
        return {"w": torch.rand(3, generator=rng)}

    def predictor(self, state, classes, backbone, rng):
        return lambda batch: torch.zeros(len(batch.ids), len(classes)) + torch.arange(len(classes))

    def parameters(self, backbone, classes):
        return 3
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin" / "trouble.py"
    path.parent.mkdir()
    path.write_text(PLUGIN)
    return path


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("cells/*/predictions.npz")}


def runs(word: str, process: psutil.Process) -> bool:
    """Whether the word stands in the process's command; one that has ended meanwhile has none."""
    try:
        return word in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def supervisors() -> list[psutil.Process]:
    """The processes of this test that submitit has started for a job's work."""
    return [child for child in psutil.Process().children(recursive=True) if runs("submitit.core._submit", child)]


def works(process: psutil.Process) -> bool:
    """Whether its harness is at work."""
    try:
        return any(runs("bench", child) for child in process.children())
    except psutil.Error:
        return False


@pytest.mark.slow
def test_two_shards_one_of_them_preempted_in_a_fit_make_the_bytes_of_a_local_run(plugin: Path, tmp_path: Path) -> None:
    words = ["run", "--suite", "smoke", "--methods", "waits", "--plugin", str(plugin)]
    signalled: list[int] = []

    def preempt() -> None:
        while not (plugin.parent / "waits").exists():
            time.sleep(0.05)
        try:
            for process in filter(works, supervisors()):
                process.send_signal(signal.SIGUSR2)
                signalled.append(process.pid)
        finally:
            (plugin.parent / "open").touch()  # or the fit would wait for ever

    scheduler = threading.Thread(target=preempt, daemon=True)
    scheduler.start()
    assert main([*words, "--results", str(tmp_path / "jobs"), *LOCAL, "--shards", "2"]) == 0
    scheduler.join(30)
    assert main([*words, "--results", str(tmp_path / "here")]) == 0
    assert len(predictions(tmp_path / "here")) == 4
    assert predictions(tmp_path / "jobs") == predictions(tmp_path / "here")
    logs = tmp_path / "jobs" / "slurm"
    assert len(list(logs.glob("*_log.err"))) == 2
    assert len(signalled) > 0
    assert sum(path.read_text().count("Requeued job") for path in logs.glob("*_log.out")) == len(signalled)
    assert any("interrupted: " in path.read_text() for path in logs.glob("*_log.err"))  # ended in order


@pytest.mark.slow
def test_a_shard_that_dies_is_reported_with_its_log_and_the_cells_of_the_others_are_there(
    plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--suite", "smoke", "--methods", "dies", "--plugin", str(plugin)]
    assert main([*words, "--results", str(tmp_path), *LOCAL]) == 1
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "did not come to its end" in line]
    assert "shard 2/2 did not come to its end (the process was killed by SIGKILL): its log is " in line
    assert Path(line.partition("its log is ")[2].removesuffix(".")).is_file()
    assert "2 cells are missing: the same command submits what is left." in said
    assert [record.method for record in records.scan(tmp_path).records] == ["zero-shot", "zero-shot"]


def test_a_signal_for_the_supervisor_never_reaches_the_process_that_it_supervises(tmp_path: Path) -> None:
    code = "import os, signal, sys, time; os.kill(os.getpid(), signal.SIGUSR2); time.sleep(0.2)"
    assert Shard([sys.executable, "-c", code], str(tmp_path))() == 0


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("2:30:00", 150), ("1-12", 2160), ("1-0:30", 1470), ("1-0:0:1", 1441), ("0:10", 1)],
)
def test_a_time_is_read_as_sbatch_reads_it_and_rounded_up_to_minutes(text: str, minutes: int) -> None:
    assert slurm.options([f"time={text}"]) == {"time": minutes}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("partion=gpu", "there is no key 'partion'; did you mean partition?"),
        ("partition", "write partition=VALUE, as sbatch takes it."),
        ("gpus_per_node=two", "write gpus_per_node=a whole number above 0."),
        ("time=soon", "write time=minutes, H:M:S or D-H:M:S."),
        ("time=-5", "write time=minutes"),
        ("cluster=pbs", "write cluster=slurm, or local"),
    ],
)
def test_what_slurm_is_asked_for_is_checked_before_anything_is_submitted(word: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        slurm.options(["account=lab", word])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "1/2"], "does not go with --shard: its jobs are the shards"),
        (["--fresh"], "does not go with --fresh: a job that is submitted again would begin anew"),
    ],
)
def test_options_that_jobs_cannot_have_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--suite", "smoke", "--methods", "zero-shot", "--results", str(tmp_path)]
    assert main([*run, *LOCAL, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_machine_without_slurm_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = ["run", "--suite", "smoke", "--methods", "zero-shot", "--results", str(tmp_path)]
    assert main([*run, "--executor", "submitit"]) == 2
    assert "finds no SLURM here (there is no sbatch)" in capsys.readouterr().err
