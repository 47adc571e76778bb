"""A job of `bench.engines.slurm`: a supervisor and the harness, each in a process, so that both have their signals.

Before a job's time is up, submitit's signal comes to the supervisor. It ends the harness in order and submits the job
again, which goes on from the stored cells. Nothing but the standard library is imported, so that a supervisor is small.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

ORDERLY = 60.0
"""Seconds that the harness has to end in order; submitit's signal comes 90 before the end."""
PATIENCE = 120.0
"""Seconds after SLURM's SIGTERM in which it kills the job, or sends the signal to submit it again."""

DONE = (0, 1)
"""Exit codes of a run that came to its end: 1 where cells failed, which are results."""
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)


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

        if self._process is not None and self._process.returncode is None:
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
