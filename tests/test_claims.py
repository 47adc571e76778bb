"""Two runs on one results folder: each cell is made once, and what a dead run held is taken over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import claims, records
from bench.api import UserError

RUN = """
import dataclasses, os, pathlib, sys, time
import torch
torch.set_num_threads(1)
from bench.api import Form
from bench.cache import Cache
from bench.features import Features
from bench.runner import Runner, plan
from conftest import random_backbone
from test_runner import SUITE, Probe

HERE = pathlib.Path(__file__).parent

class Slow(Probe):
    def fit(self, support, backbone, rng):
        with open(HERE / "fits", "a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(float(sys.argv[1]))
        return super().fit(support, backbone, rng)

def main():
    results = HERE / "results"
    runner = Runner(Features(random_backbone(), Cache(results / "cache")), results, views=4)
    cells = plan(dataclasses.replace(SUITE, seeds=4), [Form("slow", "Slow", "slow", Slow())])
    outcome = runner.run(cells)
    print(len(outcome.records), len(outcome.failed), outcome.found)
"""


class Run:
    """A process that runs four fits of two cells each."""

    def __init__(self, folder: Path, pause: float) -> None:
        self.log = folder / "fits"
        (folder / "slow.py").write_text(RUN)
        paths = [str(folder), str(Path(__file__).parent)]
        code = f"import sys; sys.path[:0] = {paths}; import slow; slow.main()"
        command = [sys.executable, "-c", code, str(pause)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def fits(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    def ended(self) -> list[int]:
        """Cells, failed ones, and those that were there or that another run made."""
        out, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0
        return [int(word) for word in out.splitlines()[-1].split()]


def until(condition, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_two_runs_at_once_make_each_fit_once_and_both_end_with_every_cell(tmp_path: Path) -> None:
    one, two = Run(tmp_path, 0.5), Run(tmp_path, 0.5)
    first, second = one.ended(), two.ended()
    assert first[:2] == second[:2] == [8, 0]
    assert len(one.fits()) == 4
    assert first[2] + second[2] == 8  # what one of them made the other found
    assert len(records.scan(tmp_path / "results").records) == 8
    assert list((tmp_path / "results" / "claims").iterdir()) == []


def test_what_a_killed_run_was_at_is_taken_over(tmp_path: Path) -> None:
    victim = Run(tmp_path, 600)
    until(lambda: victim.fits())
    heir = Run(tmp_path, 0)
    until(lambda: len(heir.fits()) == 4)  # it passed on, and now waits for the first
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    assert victim.process.stdout is not None
    victim.process.stdout.close()
    assert heir.ended() == [8, 0, 0]
    assert len(heir.fits()) == 5


def test_a_claim_is_free_again_after_its_block_and_its_file_is_gone(tmp_path: Path) -> None:
    with claims.claimed(tmp_path, "a", wait=False) as ours:
        assert ours
        with claims.claimed(tmp_path, "a", wait=False) as other, claims.claimed(tmp_path, "b", wait=False) as another:
            assert not other
            assert another
    with claims.claimed(tmp_path, "a", wait=False) as ours:
        assert ours
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("no folder")
    with pytest.raises(UserError, match=f"{tmp_path} cannot be written"), claims.claimed(tmp_path, "a", wait=False):
        pass


def test_a_child_does_not_keep_the_claim_of_its_dead_parent(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, time
from bench import claims
with claims.claimed(pathlib.Path({str(tmp_path)!r}), "a", wait=False):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with claims.claimed(tmp_path, "a", wait=False) as ours:
            assert not ours
        parent.kill()
        parent.wait()
        with claims.claimed(tmp_path, "a", wait=False) as ours:
            assert ours
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()
