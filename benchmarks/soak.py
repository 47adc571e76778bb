"""The smoke suite again and again in one process: whether memory, objects, threads or file descriptors grow.

    python -m benchmarks.soak [--rounds 100] [--methods NAMES] [--json FILE]

A round is `python -m bench run --suite smoke` in a results folder of its own, called in this process. The cache is
empty in the first of every ten rounds and full in the others, so that encoding is soaked too. After each round the
collector runs, freed memory goes back to the kernel, and these are counted: memory that is this process's alone and in
no file (Anonymous in /proc/self/smaps_rollup: pages of mapped files come and go as the kernel likes), objects that the
collector knows, threads, and open file descriptors. The first ten rounds fill what is kept on purpose (compiled code,
small caches of fixed size) and are left out of the fit. What follows is averaged over tens of rounds, since neighbours
are not independent, and a line is fitted through the averages: its slope with the interval of 95 % decides.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import io
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats as scipy_stats
from torch.multiprocessing import reductions

from bench.__main__ import main as bench

METHODS = "clip-adapter,rada-ttt,tpt,rada-dagger"
"""Few-shot, at test time, and both; zero-shot and the means of views come with them."""
LIBC = ctypes.CDLL(None)
TRIM = getattr(LIBC, "malloc_trim", lambda pad: 0)
"""glibc's: what was freed goes back to the kernel. What it holds of that differs by MiB from round to round."""
PR_SET_THP_DISABLE = 41
TEN = 10
"""Rounds to one average; as many at the start are left out, and the first of each has an empty cache."""


@dataclass(frozen=True)
class Held:
    """What this process holds after a round: memory in KiB, objects, threads, descriptors; and the round's seconds."""

    memory: int
    objects: int
    threads: int
    descriptors: int
    seconds: float = 0.0


TOLERANCES = {"memory": 8.0, "objects": 1.0, "threads": 0.0, "descriptors": 0.0}
"""A round may add so much (KiB; a number of them) and is still called steady. One object is the count of it itself."""


@dataclass(frozen=True)
class Trend:
    """A slope a round with its interval of 95 %, and what it means.

    steady: the whole interval is below the tolerance; grows: it is not, and all of it is above 0; undecided: neither.
    """

    slope: float
    low: float
    high: float
    verdict: str


def held(seconds: float = 0.0) -> Held:
    """What this process holds once nothing is left to collect."""
    while gc.collect():
        pass
    reductions.shared_cache.free_dead_references()  # which torch does itself once there are 128
    TRIM(0)
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
    descriptors = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
    return Held(memory, len(gc.get_objects()), threading.active_count() + _native(), descriptors, seconds)


def settled() -> None:
    """What grows in one step, once, does so before anything is counted.

    Python's table of interned strings, among them the parts of every temporary folder's name, takes 3.7 MiB more when
    its places have been used up for the first time, and no more after that; and huge pages are filled by the kernel.
    """
    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    for number in range(200_000):
        sys.intern(f"temporary {number}")


def _native() -> int:
    """Threads that Python does not know."""
    return len(os.listdir("/proc/self/task")) - threading.active_count()


def rounds(count: int, run: Callable[[int], None]) -> Iterator[Held]:
    """run(0), run(1), ...: what is held after each."""
    for number in range(count):
        start = time.perf_counter()
        run(number)
        yield held(time.perf_counter() - start)


def smoke(methods: str, cache: Path, options: Sequence[str] = ()) -> Callable[[int], None]:
    """A round: the smoke suite in a folder that is removed afterwards. RuntimeError where it does not exit with 0."""

    def run(number: int) -> None:
        if number % TEN == 0 and cache.is_dir():
            quietly("cache", "clear", "all", "--cache", cache)
        with tempfile.TemporaryDirectory() as results:
            quietly("run", "--suite", "smoke", "--methods", methods, "--results", results, "--cache", cache, *options)

    return run


def quietly(*words: object) -> None:
    """One command of the harness in this process."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = bench([str(word) for word in words])
    if code:
        raise RuntimeError(f"{' '.join(map(str, words))} exits with {code}: {errors.getvalue()[-500:]}")


def trends(found: Sequence[Held]) -> dict[str, Trend]:
    """Of each quantity over all rounds but the first ten; of threads and descriptors, which are few, any change at all.

    ValueError where there are fewer than 40 rounds: a line through two averages fits always.
    """
    if len(found) < 4 * TEN:
        raise ValueError(f"{len(found)} rounds are too few for a trend: {4 * TEN} or more.")
    values = {name: np.array([getattr(one, name) for one in found[TEN:]], dtype=float) for name in TOLERANCES}
    return {name: trend(series, TOLERANCES[name]) for name, series in values.items()}


def trend(series: np.ndarray, tolerance: float) -> Trend:
    """The line through the means of ten rounds each: (n,) values -> its slope, in units a round, and the verdict."""
    n = len(series) // TEN
    means = series[-n * TEN :].reshape(n, TEN).mean(1)
    if not np.ptp(means):
        return Trend(0.0, 0.0, 0.0, "steady")
    x = TEN * (np.arange(n) - (n - 1) / 2)  # rounds, from their middle
    slope = float(x @ means / (x @ x))
    rest = means - means.mean() - slope * x
    half = float(scipy_stats.t.ppf(0.975, n - 2) * np.sqrt(rest @ rest / (n - 2) / (x @ x)))
    verdict = "steady" if slope + half <= tolerance else "grows" if slope - half > 0 else "undecided"
    return Trend(slope, slope - half, slope + half, verdict)


def table(found: Sequence[Held], fitted: Mapping[str, Trend]) -> str:
    """Markdown: what is held at the start, after ten rounds and at the end, and the slopes."""
    lines = ["| | round 1 | round 10 | last round | slope a round [95 %] | verdict |", "|---|--:|--:|--:|--:|---|"]
    units = {"memory": "memory (KiB)", "objects": "Python objects", "descriptors": "open descriptors"}
    for name, one in fitted.items():
        three = " | ".join(f"{getattr(found[i], name):,}" for i in (0, TEN - 1, -1))
        slope = f"{one.slope:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"
        lines.append(f"| {units.get(name, name)} | {three} | {slope} | {one.verdict} |")
    return "\n".join(lines)


def main() -> int:
    """Exit code 0: nothing grows. 1: something does, or too little is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's counts there")
    args = parser.parse_args()
    found: list[Held] = []
    settled()
    with tempfile.TemporaryDirectory() as folder:
        for one in rounds(args.rounds, smoke(args.methods, Path(folder, "cache"))):
            found.append(one)
            print(f"{len(found):4}  {one.memory:9,} KiB  {one.objects:8,} objects  {one.threads:3} threads  ", end="")
            print(f"{one.descriptors:3} descriptors  {one.seconds:5.1f} s", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in found]))
    fitted = trends(found)
    seconds = math.fsum(one.seconds for one in found)
    print(f"\n{len(found)} rounds of `{args.methods}` in {seconds / 60:.1f} minutes\n\n{table(found, fitted)}")
    return 0 if all(one.verdict == "steady" for one in fitted.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
