"""How long a report of many large cells takes, and how much memory: python -m benchmarks.report

Cells of the suite ood are generated with as many images as asked for, of methods whose answers agree as much as those
of related methods do. Then `python -m bench report` makes their tables in a process of its own, whose wall clock,
processor time and largest resident set are printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import cards, records
from bench.api import Cost, Record, Suite, Task

CLASSES = 50


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--suite", default="ood")
    parser.add_argument("--format", default="md,csv,tex")
    parser.add_argument("--results", type=Path, help="keep the cells there, or find those of an earlier call")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.results or Path(temporary)
        start = time.perf_counter()
        if not (root / "cells").is_dir():
            for record in generated(cards.suite(args.suite), args.cells, args.images, args.seeds):
                records.save(record, root)
        count = len(records.places(root))
        print(f"{count} cells of {args.images} images, generated in {time.perf_counter() - start:.0f} s")
        command = [sys.executable, "-m", "bench", "report", "--suite", args.suite, "--results", str(root)]
        start = time.perf_counter()
        subprocess.run([*command, "--format", args.format], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{wall:.1f} s, processor {used.ru_utime + used.ru_stime:.1f} s, {used.ru_maxrss / 1024:.0f} MiB")


def generated(suite: Suite, count: int, images: int, seeds: int) -> Iterator[Record]:
    """At least `count` cells: zero-shot, then whole methods with all seeds."""
    rng = np.random.default_rng(0)
    tasks = cards.tasks(suite)
    ids = tuple(f"scene-{i:06}" for i in range(images))
    label = rng.integers(CLASSES, size=images)
    ease = {task: rng.normal(size=images) for task in tasks}  # what makes an image hard for all methods
    made, methods = 0, 0
    while made < count:
        name = f"method-{methods:03}" if methods else "zero-shot"
        skill = rng.normal(scale=0.1)
        for seed in range(1, 1 + (seeds if methods else 1)):
            for task in tasks:
                own = 0.3 * rng.normal(size=images) + 0.3 * rng.normal() / 30
                yield _record(name, task, seed, ids, label, ease[task] + own + skill > 0, rng)
                made += 1
        methods += 1


def _record(
    name: str,
    task: Task,
    seed: int,
    ids: tuple[str, ...],
    label: np.ndarray,
    right: np.ndarray,
    rng: np.random.Generator,
) -> Record:
    learns = name != "zero-shot"
    task = task if learns else cards.unsupported(task)
    confidence = rng.uniform(1 / CLASSES, 1, size=len(ids))
    return Record(
        id=records.cell_id({"method": name, "task": task, "seed": seed}),
        status="done",
        method=name,
        title=name,
        family=name,
        setting="few-shot" if learns else "zero-shot",
        fields={},
        chosen_by="fixed",
        task=task,
        seed=seed,
        classes=tuple(f"class {i}" for i in range(CLASSES)),
        backbone="generated",
        fingerprint="0",
        code=name,
        precision="fp32",
        parameters=1000,
        support=800,
        cost=Cost(1.0, 0.0, 2.0, 0.5, 0.5, 100.0, 10.0, "generated", len(ids), 50, 50, 0.5),
        notes=(),
        provenance={},
        ids=ids,
        prediction=np.where(right, label, (label + 1) % CLASSES),
        label=label,
        p_true=np.where(right, confidence, (1 - confidence) / (CLASSES - 1)),
        confidence=confidence,
    )


if __name__ == "__main__":
    main()
