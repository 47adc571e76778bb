"""Runs of the command line that begin at once: a process that has everything imported forks them.

Starting Python and torch takes seconds, and a hundred kills would take as many; a fork takes milliseconds and is a
process like any other, with signals, locks and a process group of its own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Run:
    """`python -m bench` with these words, in a folder, under way."""

    def __init__(self, forks: Forks, pid: int, log: Path) -> None:
        self.forks, self.pid, self.log = forks, pid, log

    def send(self, number: int, group: bool = False) -> None:
        """A signal; to the whole group, as a terminal sends Ctrl-C, or to the process alone."""
        (os.killpg if group else os.kill)(self.pid, number)  # a zombie until `wait`: the number is nobody else's

    def wait(self) -> int:
        """Exit code, or the negative number of the signal that ended it."""
        return self.forks.ask(wait=self.pid)

    @property
    def ended(self) -> bool:
        return self.forks.ask(ended=self.pid)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Forks:
    """The process that forks. warm: words of a command that it runs once itself, so that all is loaded."""

    def __init__(self, warm: Sequence[str] = ()) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.forks", *warm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.logs = tempfile.TemporaryDirectory()
        self.number = 0
        self._read()

    def start(self, words: Sequence[str], folder: Path, limit: int | None = None, **env: str) -> Run:
        """Begin a run whose working directory is `folder`, with these variables in its environment.

        limit: bytes that a file may have, behind which the disk is full for it.
        """
        self.number += 1
        log = Path(self.logs.name, f"{self.number}")
        log.touch()
        return Run(self, self.ask(words=list(words), folder=str(folder), env=env, log=str(log), limit=limit), log)

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.logs.cleanup()


def main() -> None:
    """Fork what is asked for on stdin, a line of JSON a request, and answer on stdout."""
    import torch

    from bench import provenance
    from bench.__main__ import main as bench

    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))  # as while `python -m bench` imports
    torch.set_num_threads(1)
    provenance.environment()
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.ExitStack() as stack:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            bench(sys.argv[1:])
    gc.collect()
    gc.freeze()  # what is loaded is not looked at again in each child
    print("true", flush=True)
    statuses: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "words" in request:
            answer: Any = _fork(bench, request)
        else:
            pid = request.get("wait") or request["ended"]
            if pid not in statuses:
                found, status = os.waitpid(pid, 0 if "wait" in request else os.WNOHANG)
                if found:
                    statuses[pid] = os.waitstatus_to_exitcode(status)
            answer = statuses[pid] if "wait" in request else pid in statuses
        print(json.dumps(answer), flush=True)


def _fork(bench: Any, request: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the child does it too, and may be the first
            os.setpgid(pid, pid)
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(request["folder"])
        os.environ.update(request["env"])
        null, log = os.open(os.devnull, os.O_RDONLY), os.open(request["log"], os.O_WRONLY)
        for number, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(number, target)
        if request["limit"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], resource.RLIM_INFINITY))
        sys.argv = [str(ROOT / "bench" / "__main__.py"), *request["words"]]
        code = bench()
        if "ARRIVALS" in os.environ:
            from bench import faults

            Path(os.environ["ARRIVALS"]).write_text(json.dumps(faults.arrivals))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
