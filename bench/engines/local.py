"""Processes of this machine, each of which does one piece of work at a time and keeps its model for the next.

A process that dies, or takes too long, costs the work that it had: the runner gives what is left of it to another.
"""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from bench import plugins
from bench.api import Record, UserError
from bench.engines.setup import Setup, device_of
from bench.engines.worker import Work, done
from bench.runner import Lost, Observer

EVERY = 0.2
"""Seconds between two messages on how far a process has come."""


class Local:
    """An engine of `jobs` processes. limit: seconds that a fit, or a cell's answers, may take.

    To be used as a context, which ends the processes.
    """

    def __init__(
        self,
        setup: Setup,
        jobs: int,
        limit: float | None = None,
        step: Callable[..., None] = lambda text, done, total, process=0: None,
    ) -> None:
        self.room, self.limit, self.step = jobs, limit, step
        self._places = tempfile.TemporaryDirectory(prefix="vlm-bench-")
        self._workers = [
            _Worker(replace(setup, device=device_of(setup.device, slot)), slot, Path(self._places.name), limit)
            for slot in range(jobs)
        ]

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()
        self._places.cleanup()

    def start(self, number: int, work: Work) -> None:
        """Give the work to a process that has none."""
        next(worker for worker in self._workers if worker.number is None).start(number, work)

    def next(self) -> tuple[int, Record | Lost | None]:
        """The next event of any process. UserError where one says so: it would be the same in all."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.number is not None}
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                assert worker.number is not None
                try:
                    kind, *content = worker.pipe.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    number, worker.number = worker.number, None
                    return number, worker.post_mortem()
                if kind == "step":
                    self.step(*content, worker.slot)
                elif kind == "at":
                    worker.at = content[0]
                elif kind == "mistake":
                    raise UserError(content[0])
                elif kind == "record":
                    return worker.number, content[0]
                else:
                    number, worker.number = worker.number, None
                    return number, None


@dataclass
class _Worker:
    """A process, as the engine sees it. number: of the work that it has; at: the cell that it is answering."""

    setup: Setup
    slot: int
    places: Path
    limit: float | None
    number: int | None = None
    at: str = ""
    process: BaseProcess | None = None
    pipe: Any = field(default=None, repr=False)

    @property
    def last_words(self) -> Path:
        return self.places / f"{self.slot}.txt"

    def start(self, number: int, work: Work) -> None:
        self.number, self.at = number, ""
        packed = pickle.dumps(work)
        if self.process is None or not self.process.is_alive():
            self._begin()
        try:
            self.pipe.send_bytes(packed)
        except OSError:  # it died while it had nothing to do
            self._begin()
            self.pipe.send_bytes(packed)

    def _begin(self) -> None:
        self.end()
        # spawned, not forked: a process with threads or a GPU cannot be forked
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.setup, self.limit, self.last_words), name=f"bench worker {self.slot}"
        )
        self.process.start()
        theirs.close()

    def post_mortem(self) -> Lost:
        """Why the process has ended."""
        assert self.process is not None
        self.process.join(10)
        code, told = self.process.exitcode, ""
        if self.last_words.exists():
            told = self.last_words.read_text(encoding="utf-8", errors="replace")
        if told.startswith("Timeout"):
            what = "answering" if self.at else "the fit"
            return Lost(f"{what} took longer than the {self.limit:g} s of --cell-timeout", self.at, told, tries=1)
        if code is not None and code < 0:
            ended = f"was killed by {signal.Signals(-code).name}"
            ended += ", as happens where memory runs out" if code == -signal.SIGKILL else ""
        else:
            ended = f"ended with exit code {code}"
        return Lost(f"the process that made it {ended}", self.at, told)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
            self.pipe.close()
            self.process = None


def _serve(pipe: Any, setup: Setup, limit: float | None, last_words: Path) -> None:
    """What a worker's process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that plans, which ends this one
    gc.freeze()  # as the command line does
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    with open(last_words, "w", encoding="utf-8") as words:
        try:
            with plugins.plugged(setup.plugins):
                _work(pipe, setup, limit, words)
        except UserError as error:
            pipe.send(("mistake", str(error)))
        except BaseException:
            words.write(traceback.format_exc())
            raise


def _work(pipe: Any, setup: Setup, limit: float | None, words: Any) -> None:
    told = 0.0

    def step(text: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= EVERY or done == total:
            told = now
            pipe.send(("step", text, done, total))

    def begin(id_: str) -> None:
        pipe.send(("at", id_))
        if limit is not None:  # a thread without Python's lock, which ends the process whatever hangs
            faulthandler.dump_traceback_later(limit, exit=True, file=words)

    runner = setup.runner(Observer(step=step))
    while True:
        try:
            work = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        for record in done(runner, work, begin):
            pipe.send(("record", record))
        faulthandler.cancel_dump_traceback_later()
        pipe.send(("done",))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
