"""Cells made by a Ray cluster of several nodes on this machine, with results and cache in a real object store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench import records
from bench.__main__ import main
from bench.api import METHODS, UserError
from bench.engines.cluster import resources

ray = pytest.importorskip("ray", reason="pip install .[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")

WORDS = ["run", "--suite", "smoke", "--methods", "zero-shot,clip-adapter,view-mean"]
CELLS = 8

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[Any]:
    """A cluster of so many nodes of one processor each."""
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("cells/*/predictions.npz")}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run in one process answers."""
    folder = tmp_path_factory.mktemp("here")
    assert main([*WORDS, "--results", str(folder)]) == 0
    return predictions(folder)


def test_three_nodes_with_an_object_store_make_the_cells_of_a_local_run_byte_for_byte_and_a_killed_node_costs_time_only(
    here: dict[str, bytes], bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BENCH_MIRRORS", str(tmp_path / "mirrors"))
    assert len(here) == CELLS
    with cluster(3) as made:
        killed = []

        def kill() -> None:
            cells = tmp_path / "mirrors"
            while not list(cells.glob("*/cells/*/cell.json")):  # the first cell is there
                time.sleep(0.1)
            node = next(iter(made.worker_nodes))
            made.remove_node(node, allow_graceful=False)
            killed.append(node)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        address = ["--executor", "ray", "--ray-address", made.address]
        assert main([*WORDS, "--results", f"{bucket}/results", *address]) == 0
        killer.join(60)
        assert len(killed) == 1
    (mirror,) = (path for path in (tmp_path / "mirrors").iterdir() if (path / "cells").is_dir())
    assert predictions(mirror) == here
    assert not records.scan(mirror).warnings
    # whoever looks from elsewhere finds all of it in the store
    monkeypatch.setenv("BENCH_MIRRORS", str(tmp_path / "elsewhere"))
    assert main(["report", "--suite", "smoke", "--format", "md", "--results", f"{bucket}/results"]) == 0
    (mirror,) = (path for path in (tmp_path / "elsewhere").iterdir() if (path / "cells").is_dir())
    assert predictions(mirror) == here


@pytest.mark.parametrize(
    ("name", "cuda", "needed"),
    [
        ("zero-shot", False, {"num_cpus": 2, "num_gpus": 0, "memory": 2**30}),
        ("zero-shot", True, {"num_cpus": 2, "num_gpus": 0.25, "memory": 2**30}),
        ("ft", True, {"num_cpus": 2, "num_gpus": 1.0, "memory": 4 * 2**30}),
    ],
)
def test_a_task_asks_for_what_its_method_needs(name: str, cuda: bool, needed: dict[str, float]) -> None:
    assert resources(METHODS[name], cuda, threads=2) == needed


def test_a_method_may_declare_what_it_needs_and_is_told_of_a_word_that_does_not_count() -> None:
    @dataclass(frozen=True)
    class Hungry:
        needs: ClassVar[frozenset[str]] = frozenset({"features"})
        resources: ClassVar[dict[str, float]] = {"gpus": 2, "memory_gib": 8}

    form = replace(METHODS["lp"], method=Hungry())  # type: ignore[arg-type]
    assert resources(form, True, 1) == {"num_cpus": 1, "num_gpus": 2, "memory": 8 * 2**30}
    Hungry.resources = {"memory": 8}
    with pytest.raises(UserError, match="declares the resource 'memory': use cpus, gpus or memory_gib"):
        resources(form, True, 1)


def test_where_no_cluster_answers_one_sentence_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code = main([*WORDS, "--results", str(tmp_path), "--executor", "ray", "--ray-address", "auto"])
    assert code == 2
    assert "ray start --head" in capsys.readouterr().err
