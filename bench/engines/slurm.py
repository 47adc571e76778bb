"""Shards of a run as jobs of SLURM, submitted by submitit: each repeats the command with `--shard I/N`.

A job supervises a process of its own that runs the harness, so that both may have their signals: before the time is up,
and where a scheduler tells it to, submitit's signal comes to the supervisor. It ends the harness in order and submits
the job again, which goes on from the stored cells. What a job makes is what any run with that `--shard` makes.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import records
from bench.api import UserError, nearest

MOST = 64
"""Shards at most, where no number is named: each loads the model anew."""
MINUTES = 60
"""A job's time where none is named; what is not finished by then is submitted again."""
TIMES_UP = 100
"""So often may a shard's time be up."""
ORDERLY = 60.0
"""Seconds that the harness has to end in order; submitit's signal comes 90 before the end."""
PATIENCE = 120.0
"""Seconds after SLURM's SIGTERM in which it kills the job, or sends the signal to submit it again."""
UNSEEN = 60.0
"""A job has died that the scheduler has not known for so many seconds, and that left no outcome in this time."""

DONE = (0, 1)
"""Exit codes of a run that came to its end: 1 where cells failed, which are results."""
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)


# -- options ----------------------------------------------------------------------------------------------------------


def _minutes(text: str) -> int:
    """SLURM's notations: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S; in whole minutes, at least 1."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if len(parts) > 3 or min(parts) < 0:
        raise ValueError(text)
    hours, minutes, seconds = (*parts, 0, 0)[:3] if dash or len(parts) == 3 else (0, *parts, 0)[:3]
    return max(1, math.ceil((int(days) if dash else 0) * 1440 + hours * 60 + minutes + seconds / 60))


def _number(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _cluster(text: str) -> str:
    if text not in ("slurm", "local"):
        raise ValueError(text)
    return text


KEYS: dict[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "mem"), (str, "")),
    **dict.fromkeys(("gpus_per_node", "cpus_per_task", "array_parallelism"), (_number, "a whole number above 0")),
    "time": (_minutes, "minutes, H:M:S or D-H:M:S"),
    "cluster": (_cluster, "slurm, or local for processes of this machine"),
}
"""What `--slurm KEY=VALUE` may say: how each is read, and what to write. As `sbatch` has them, but for the last two."""


def options(words: Sequence[str]) -> dict[str, Any]:
    """`partition=gpu` and others -> values by key; UserError for what is unknown or cannot be read."""
    found = {}
    for word in words:
        key, equals, text = word.partition("=")
        if key not in KEYS:
            raise UserError(f"--slurm {word!r}: there is no key {key!r}; {nearest(key, list(KEYS))}")
        read, remedy = KEYS[key]
        try:
            if not equals or not text:
                raise ValueError(text)
            found[key] = read(text)
        except ValueError as error:
            raise UserError(f"--slurm {word!r}: write {key}={remedy or 'VALUE, as sbatch takes it'}.") from error
    return found


# -- in a job ---------------------------------------------------------------------------------------------------------


@dataclass
class Shard:
    """A job's work, as submitit calls it."""

    command: list[str]
    folder: str  # where it was typed
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> int:
        """Run to the end -> the exit code, 0 or 1. RuntimeError for any other."""
        while (code := self._run()) in STOPPED:
            # SLURM's SIGTERM comes to all processes of a job: it is cancelled or preempted, which it says no more of
            time.sleep(PATIENCE)
        if code not in DONE:
            ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise RuntimeError(f"the process {ended}")
        return code

    def _run(self) -> int:
        ours = _submitits_signal()
        # for the supervisor alone, though SLURM sends it to all: blocked in the harness and in what that starts
        signal.pthread_sigmask(signal.SIG_BLOCK, {ours})
        try:
            self._process = subprocess.Popen(self.command, cwd=self.folder)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {ours})
        try:
            return self._process.wait()
        finally:
            if self._process.returncode is None:
                self._end()

    def _end(self) -> None:
        """End the harness in order. Not by Popen.wait, whose lock the interrupted one may hold."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
            until = time.monotonic() + ORDERLY
            while not _ended(self._process.pid):
                if time.monotonic() > until:
                    os.kill(self._process.pid, signal.SIGKILL)
                time.sleep(0.1)

    def checkpoint(self) -> Any:
        """What submitit asks for in its handler: what is to be submitted again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._end()
        return DelayedSubmission(Shard(self.command, self.folder))


def _submitits_signal() -> signal.Signals:
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _ended(pid: int) -> bool:
    """Whether a child has; its exit code is left for who waits for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError as error:
        return error.errno == errno.ECHILD


# -- where it was typed -----------------------------------------------------------------------------------------------


@dataclass
class Lost:
    """A shard that did not come to its end. log: where it says more."""

    shard: str
    reason: str
    log: Path


@dataclass
class Jobs:
    """What was submitted: a job for each shard. cluster: slurm or local."""

    cluster: str
    jobs: list[Any]
    folder: Path

    def __str__(self) -> str:
        name = self.jobs[0].job_id.partition("_")[0]
        count = f"{len(self.jobs)} job{'s' * (len(self.jobs) > 1)}"
        if self.cluster == "local":
            return f"{count} of this machine, processes {', '.join(job.job_id for job in self.jobs)}"
        return (
            f"{count} of SLURM, {name} (follow: squeue --job {name}; cancel: scancel {name}); what they say is in "
            f"{self.folder}"
        )

    def wait(self, ids: Collection[str], results: Path, told: Callable[[int, int, str], None]) -> list[Lost]:
        """Until none is left -> the shards that did not come to their end. told: cells done, cells in all, and a word.

        ids: of the cells that are planned.
        """
        wanted, seen = set(ids), dict.fromkeys(self.jobs, time.monotonic())
        while True:
            done = sum(path.name.rpartition("--")[2] in wanted for path in records.places(results))
            told(done, len(wanted), f"{len(seen)} of {len(self.jobs)} jobs left")
            known = self._known()
            for job in list(seen):
                if self.cluster == "local":
                    over = job.done()
                else:
                    over = job.paths.result_pickle.exists() or time.monotonic() - seen[job] > UNSEEN
                if over:
                    del seen[job]
                elif known is None or job.job_id in known:
                    seen[job] = time.monotonic()
            if not seen:
                return [lost for i, job in enumerate(self.jobs, 1) if (lost := self._lost(i, job))]
            time.sleep(0.5 if self.cluster == "local" else 5.0)

    def _known(self) -> set[str] | None:
        """The jobs that the scheduler has, pending and running; None where it does not answer, or need not be asked."""
        if self.cluster == "local":
            return None
        asked = ["squeue", "--noheader", "--array", "--user", str(os.getuid()), "--format", "%F_%K %F"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        return set(answer.stdout.split()) if answer.returncode == 0 else None

    def _lost(self, number: int, job: Any) -> Lost | None:
        reason = "it was killed or cancelled, or its node was lost"
        if job.paths.result_pickle.exists():
            error = job.exception()
            if error is None:
                return None
            reason = [line for line in str(error).splitlines() if "Error: " in line][-1].partition("Error: ")[2]
        return Lost(f"{number}/{len(self.jobs)}", reason.rstrip("."), job.paths.stderr)


def submit(words: Sequence[str], shards: int, results: Path, wanted: dict[str, Any]) -> Jobs:
    """Submit the command `python -m bench WORDS` in so many shards; wanted: as `options` gives it."""
    submitit = _imported()
    cluster = wanted.get("cluster", "slurm")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise UserError(
            "--executor submitit finds no SLURM here (there is no sbatch): submit on a machine of the cluster, or try "
            "it with processes of this one by --slurm cluster=local."
        )
    # of two equal options the last one counts
    command = [sys.executable, "-m", "bench", *words, "--executor", "local", "--shard"]
    work = [Shard([*command, f"{i}/{shards}"], str(Path.cwd())) for i in range(1, shards + 1)]
    for_slurm = {f"slurm_{key}": wanted[key] for key in wanted.keys() - {"cluster", "time", "gpus_per_node"}}
    if "cpus_per_task" in wanted:  # srun does not take it over from sbatch
        for_slurm["slurm_srun_args"] = [f"--cpus-per-task={wanted['cpus_per_task']}"]
    inside = submitit.helpers.clean_env() if "SLURM_JOB_ID" in os.environ else contextlib.nullcontext()
    try:
        with inside:
            executor = submitit.AutoExecutor(results / "slurm", cluster, slurm_max_num_timeout=TIMES_UP)
            executor.update_parameters(
                name="bench",
                timeout_min=wanted.get("time", MINUTES),
                gpus_per_node=wanted.get("gpus_per_node"),
                slurm_additional_parameters={"requeue": True},
                **for_slurm,
            )
            jobs = [executor.submit(*work)] if shards == 1 else executor.submit_array(work)
    except submitit.core.utils.FailedJobError as error:
        said = [line for line in str(error).splitlines() if line.startswith("sbatch: error")] or [str(error)]
        raise UserError(
            f"SLURM does not take the jobs ({said[0].removeprefix('sbatch: error: ').rstrip('.')}): look at --slurm."
        ) from error
    return Jobs(cluster, jobs, results / "slurm")


def _imported() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("--executor submitit needs submitit: pip install 'vlm-bench[slurm]'.") from error
    return submitit
