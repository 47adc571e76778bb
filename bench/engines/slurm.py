"""Shards of a run as jobs of SLURM, submitted by submitit: each repeats the command with `--shard I/N`.

What a job does is in `bench.engines.shard`. Here they are submitted and waited for; what they make is what any run with
that `--shard` makes.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import records
from bench.api import UserError, nearest
from bench.engines.shard import Shard

MOST = 64
"""Shards at most, where no number is named: each loads the model anew."""
MINUTES = 60
"""A job's time where none is named; what is not finished by then is submitted again."""
TIMES_UP = 100
"""So often may a shard's time be up."""
UNSEEN = 60.0
"""A job has died that the scheduler has not known for so many seconds, and that left no outcome in this time."""


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
