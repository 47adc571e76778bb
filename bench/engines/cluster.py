"""A Ray cluster as the engine: every fit is a task with the resources that its method needs.

The process that plans claims the cells and stores their records; the nodes send them as they are made, and need no
folder in common for that. What they encode is shared where the cache is a folder that all of them see, or a URL; else
each node encodes what it needs. Ray starts the tasks where there is room, and gives the work of a lost node back.
"""

from __future__ import annotations

import functools
import pickle
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench import plugins
from bench.api import Form, Record, UserError
from bench.engines.setup import Setup
from bench.engines.worker import Work, done
from bench.runner import Lost, Runner

GIB = 2**30
LOSSES = 6
"""So often may a piece of work lose its node at the same place."""
NOTICED = 5
"""Seconds after which a cluster has noticed that a node is gone."""


def resources(form: Form, cuda: bool, threads: int) -> dict[str, float]:
    """What Ray is to keep free for a fit of this form: processors, GPUs, bytes of memory.

    A method may declare `resources`, any of {"cpus": 2, "gpus": 0.5, "memory_gib": 8}. Else a method that sees pixels
    has a GPU for itself and 4 GiB, and one on features shares a GPU with three others and has 1 GiB.
    """
    heavy = "pixels" in form.method.needs
    declared: Mapping[str, float] = getattr(form.method, "resources", {})
    strange = declared.keys() - {"cpus", "gpus", "memory_gib"}
    if strange:
        raise UserError(f"method {form.name!r} declares the resource {min(strange)!r}: use cpus, gpus or memory_gib.")
    return {
        "num_cpus": declared.get("cpus", threads),
        "num_gpus": declared.get("gpus", 1.0 if heavy else 0.25) if cuda else 0,
        "memory": declared.get("memory_gib", 4.0 if heavy else 1.0) * GIB,
    }


@dataclass
class _Task:
    """A piece of work that the cluster has.

    at: "" until the first record has come, so that a fit and the first answers are one; then the cell that is next.
    """

    work: Work
    answers: Any  # Ray's generator
    at: str = ""
    node: str = ""
    since: float | None = None  # when it began, or when its last record came

    def answered(self, id_: str) -> None:
        assert isinstance(self.work, list)
        ids = [planned for _, planned in self.work]
        self.at = (*ids, "")[ids.index(id_) + 1]


class Cluster:
    """An engine on the cluster at `address`; to be used as a context.

    address: auto for the one of this machine, HOST:PORT or ray://HOST:PORT, or local for one that is started here.
    limit: seconds that a fit with its first answers, or a further cell's answers, may take.
    """

    def __init__(self, setup: Setup, address: str = "auto", limit: float | None = None) -> None:
        self.ray = _imported()
        self.setup, self.limit = setup, limit
        self._tasks: dict[int, _Task] = {}
        self._told: list[Mapping[str, float]] = []
        try:
            self.ray.init(
                address=None if address == "local" else address,
                log_to_driver=False,
                logging_level="error",
                include_dashboard=False if address == "local" else None,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]}): start one with "
                "`ray start --head`, name another by --ray-address, or use --ray-address local."
            ) from error
        self.cuda = setup.device != "cpu" and self.ray.cluster_resources().get("GPU", 0) > 0
        if setup.device.startswith("cuda") and not self.cuda:
            raise UserError(f"--device {setup.device}: the Ray cluster at {address!r} has no GPU; use --device cpu.")
        self._setup = self.ray.put(replace(setup, device="cuda" if self.cuda else "cpu"))
        self._remote = self.ray.remote(num_returns="streaming", max_retries=0)(_made)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        for task in self._tasks.values():
            self.ray.cancel(task.answers, force=True)
        self.ray.shutdown()

    @property
    def room(self) -> int:
        """Twice as many as there are processors for, so that a node never waits for the next piece of work."""
        return max(2, 2 * int(self.ray.cluster_resources().get("CPU", 1)))

    def start(self, number: int, work: Work) -> None:
        """Hand the work to the cluster."""
        self._tasks[number] = _Task(work, self._submitted(work))

    def _submitted(self, work: Work) -> Any:
        form = (work[0][0] if isinstance(work, list) else work.cell).form
        needed = resources(form, self.cuda, self.setup.threads or 1)
        self._look_for(needed)
        return self._remote.options(**needed).remote(self._setup, pickle.dumps(work))

    def _look_for(self, needed: Mapping[str, float]) -> None:
        """Say once where no node has what is needed: one may be on its way, but Ray would wait for ever in silence."""
        kinds = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
        if needed in self._told:
            return
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(all(node.get(kinds[name], 0) >= amount for name, amount in needed.items()) for node in nodes):
            self._told.append(needed)
            wanted = f"{needed['num_cpus']:g} CPUs, {needed['num_gpus']:g} GPUs, {needed['memory'] / GIB:g} GiB"
            print(f"ray: no node has {wanted} as a task needs; waiting for one to join.", file=sys.stderr)

    def next(self) -> tuple[int, Record | Lost | None]:
        """The next event of any task. UserError where one says so: it would be the same in all."""
        while True:
            by_answers = {task.answers: number for number, task in self._tasks.items()}
            ready, _ = self.ray.wait(list(by_answers), num_returns=1, timeout=self._patience(), fetch_local=False)
            if not ready:
                late = self._late()
                if late is None:
                    continue
                return late
            number = by_answers[ready[0]]
            task = self._tasks[number]
            try:
                kind, content = self.ray.get(next(task.answers))
            except StopIteration:
                del self._tasks[number]
                return number, None
            except self.ray.exceptions.RayError as error:
                del self._tasks[number]
                return number, self._lost(task, error)
            if kind == "mistake":
                raise UserError(content)
            task.since = time.monotonic()
            if kind == "node":
                task.node = content
            else:
                task.answered(content.id)
                return number, content

    def _lost(self, task: _Task, error: Exception) -> Lost:
        ended = self.ray.exceptions
        said = str(error).strip()
        if isinstance(error, ended.RayTaskError):  # the harness's own fault, for a method's is in its record
            return Lost(f"the process that made it failed: {said.splitlines()[-1][:200]}", task.at, said)
        if isinstance(error, ended.NodeDiedError | ended.ObjectLostError) or not self._alive(task.node):
            return Lost("the node that made it was lost", task.at, said, tries=LOSSES)
        if isinstance(error, ended.OutOfMemoryError):
            return Lost("the process that made it was killed, for its node ran out of memory", task.at, said)
        return Lost("the process that made it died", task.at, said)

    def _alive(self, node: str) -> bool:
        """Whether the node still is, some seconds after something ended on it: the cluster takes a while to know."""
        for _ in range(NOTICED):
            if node and not any(n["NodeID"] == node and n["Alive"] for n in self.ray.nodes()):
                return False
            time.sleep(1.0)
        return True

    def _patience(self) -> float | None:
        """Seconds until a task has taken too long; None where nothing is limited."""
        begun = [task.since for task in self._tasks.values() if task.since is not None]
        if self.limit is None:
            return None
        return max(0.0, min(begun) + self.limit - time.monotonic()) if begun else self.limit

    def _late(self) -> tuple[int, Lost] | None:
        """A task that has taken too long, which is ended."""
        assert self.limit is not None
        for number, task in self._tasks.items():
            if task.since is not None and time.monotonic() - task.since >= self.limit:
                self.ray.cancel(task.answers, force=True)
                del self._tasks[number]
                what = "answering" if task.at else "the fit"
                return number, Lost(f"{what} took longer than the {self.limit:g} s of --cell-timeout", task.at, tries=1)
        return None


def _made(setup: Setup, packed: bytes) -> Iterator[tuple[str, Any]]:
    """A task: what a process of the cluster does. It keeps its runner, and so the model, for the next."""
    import ray

    yield "node", ray.get_runtime_context().get_node_id()
    try:
        with plugins.plugged(setup.plugins):
            runner = _runner(setup)
            for record in done(runner, pickle.loads(packed)):
                yield "record", record
    except UserError as error:
        yield "mistake", str(error)


@functools.lru_cache(maxsize=1)
def _runner(setup: Setup) -> Runner:
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    return setup.runner()


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError("--executor ray needs Ray: pip install 'vlm-bench[ray]'.") from error
    return ray
