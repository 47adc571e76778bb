"""How planning, resuming and the report grow with the number of cells: python -m benchmarks.scale --plot docs/scale.png

Cells of the suite ood on the embedded world are planned as a sweep of one method, with the ids that the runner gives
them, and written as a run would leave them, but not synced. Each step is measured in a process of its own. Printed are
its processor time, wall clock and largest resident set, and the machine's load before it; starting Python and loading
the model count as well in the memory, and not in the times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.figure
import numpy as np
import seaborn as sns

import methods  # noqa: F401
from bench import cards, index, provenance, records, report
from bench.api import METHODS, Cost, Record
from bench.engines.setup import Setup
from bench.runner import Cell, Runner, plan

matplotlib.use("Agg")
SUITE, REFERENCE, METHOD, IMAGES = "ood", "zero-shot", "clip-adapter", 300
STEPS = ("plan", "cold", "resume", "resume but 100", "read", "tables")
WORDS = {
    "plan": "plan and ids",
    "cold": "resume without an index",
    "resume": "resume",
    "resume but 100": "resume, 100 missing",
    "read": "read for tables",
    "tables": "read, tables in all formats",
}


def planned(count: int) -> list[Cell]:
    """As many cells: zero-shot, and settings of one method on all seeds and tests."""
    suite = cards.suite(SUITE)
    share = suite.seeds * len(cards.tasks(suite))
    forms = [METHODS[METHOD].with_fields(ratio=0.2 + i / 1e6) for i in range(-(-count // share))]
    return plan(suite, [METHODS[REFERENCE], *forms])[:count]


def runner(root: Path) -> Runner:
    return Setup("world-rn", False, root, root / "cache").runner()


def generate(root: Path, count: int) -> None:
    """Write the cells of a plan; each answers a third of the images wrongly, and settings differ in one of fifty."""
    make, rng = runner(root), np.random.default_rng(0)
    records.make_folder(root / "cells")
    first: dict[tuple, Record] = {}  # settings have all but a few answers in common
    for cell in planned(count):
        id_, key = make.cell_id(cell), (cell.form.name, cell.task, cell.seed)
        if key not in first:
            first[key] = _answered(make, cell)
        common, classes = first[key], len(first[key].classes)
        other = np.where(rng.random(IMAGES) < 0.02, rng.integers(classes, size=IMAGES), common.prediction)
        record = replace(common, id=id_, fields=cell.form.hyper_parameters(), prediction=other)
        place = records.folder(root, record)
        place.mkdir()
        np.savez_compressed(place / "predictions.npz", **records._arrays(record))  # type: ignore[arg-type]
        text = json.dumps(records._content(record), indent=2, sort_keys=True)
        (place / "cell.json").write_text(text + "\n")


def _answered(make: Runner, cell: Cell) -> Record:
    """The record that a run would leave, but for its answers; the same images for all methods and seeds of a test."""
    classes, test = len(make._classes(cell.task.test).names), zlib.crc32(cell.task.test.name.encode())
    label, rng = np.random.default_rng(test).integers(classes, size=IMAGES), np.random.default_rng([test, cell.seed])
    right, confidence = rng.random(IMAGES) < 2 / 3, rng.uniform(1 / classes, 1, IMAGES)
    return replace(
        make._record(cell, "0" * 16, Cost(fit_s=1.0, memory_how="generated"), {}),
        ids=tuple(f"{i:06}" for i in range(IMAGES)),
        prediction=np.where(right, label, (label + 1) % classes),
        label=label,
        p_true=np.where(right, confidence, 0.0),
        confidence=confidence,
    )


@contextmanager
def measured() -> Iterator[None]:
    wall, used, load = time.perf_counter(), time.process_time(), os.getloadavg()[0]
    yield
    wall, used = time.perf_counter() - wall, time.process_time() - used
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"processor_s": used, "wall_s": wall, "peak_mib": peak, "load_before": load}))


def step(name: str, root: Path, count: int) -> None:
    """One step, in this process."""
    make = runner(root)
    provenance.environment()
    if name == "cold":
        (root / "cells" / index.NAME).unlink(missing_ok=True)
    with measured():
        if name in ("read", "tables"):
            suite = cards.suite(SUITE)
            found = report.read(root, [suite]).cells
            assert len(found) == count
            for board in report.leaderboards(suite, found, list(METHODS)) if name == "tables" else ():
                report.write(board, root)
                report.render(board, "terminal")
            return
        cells = planned(count)
        if name == "plan":
            assert len({make.cell_id(cell) for cell in cells}) == count
            return
        groups, made = make.missing(cells)
        missing = 100 if name == "resume but 100" else 0
        assert (sum(map(len, groups)), len(made)) == (missing, count - missing)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cells", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 10_000, 100_000])
    parser.add_argument("--results", type=Path, help="keep the cells there, or find those of an earlier call")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step(args.step, args.results, args.cells[0])
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = []
        for count in args.cells:
            root = (args.results or Path(temporary)) / str(count)
            if not (root / "cells").is_dir():
                generate(root, count)
                time.sleep(index.SETTLED)
            for name in STEPS:
                if name == "resume but 100":
                    for place in records.places(root)[:100]:
                        place.rename(root / place.name)
                words = [sys.executable, "-m", "benchmarks.scale", "--step", name, "--results", str(root)]
                done = subprocess.run([*words, "--cells", str(count)], check=True, capture_output=True, text=True)
                found.append({"cells": count, "step": WORDS[name], **json.loads(done.stdout.splitlines()[-1])})
                print(found[-1], flush=True)
                if name == "resume but 100":
                    for place in root.glob("*--*"):
                        place.rename(root / "cells" / place.name)
            if args.json:
                args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.plot:
        draw(found, args.plot)


def draw(found: list[dict], path: Path) -> None:
    """Seconds of the processor by cells, a line a step, both axes logarithmic."""
    sns.set_theme(style="whitegrid")
    figure = matplotlib.figure.Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    columns = {key: [row[key] for row in found] for key in found[0]}
    sns.lineplot(x=columns["cells"], y=columns["processor_s"], hue=columns["step"], marker="o", ax=axes)
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1))
    axes.axhline(10, color="0.4", linewidth=1, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="cells", ylabel="processor seconds")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
