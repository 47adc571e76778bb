"""Clocks and bytes for two implementations in one process.

Time: seconds of the processor, user and system; with one thread and nothing else running, those of the wall clock. The
sides run in turn, so a machine that slows down slows all of them, and of as many samples each the best counts.
Memory: every allocation of a tensor's bytes as torch's CPU allocator reports it to the profiler. That is exact and the
same on every run, unlike the resident set, which keeps pages that the C library has not given back.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would write to stderr that it started and stopped

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

MIB = 2**20


def alternate(blocks: Sequence[Callable[[], object]], samples: int, least: float = 0.2) -> list[float]:
    """Seconds of each block, the best of `samples`; they run in turn: first, second, ..., first, second, ...

    A block shorter than `least` seconds is repeated until a sample takes that long.
    """
    rounds = [[_sample(block, least) for block in blocks] for _ in range(samples)]
    return [min(column) for column in zip(*rounds, strict=True)]


def _sample(block: Callable[[], object], least: float) -> float:
    runs, start = 0, time.process_time()
    while True:
        block()
        runs += 1
        if (spent := time.process_time() - start) >= least:
            return spent / runs


@dataclass(frozen=True)
class Bytes:
    """peak: most bytes of tensors alive at once; held: those alive at the end. Both beyond what was there before."""

    peak: int
    held: int


def tensor_bytes(block: Callable[[], Any]) -> tuple[Any, Bytes]:
    """What the block returns, and the tensors it made. What only autograd keeps alive for the backward pass is held."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = block()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = [0, *itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()))]  # type: ignore[attr-defined]
    return result, Bytes(max(alive), alive[-1])


def relative_deviation(ours: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """The largest difference over the largest value of `plain`."""
    largest = max(float(tensor.abs().max()) for tensor in plain)
    return max(float((a - b).abs().max()) for a, b in zip(ours, plain, strict=True)) / largest


def deviation(ours: Tensor, plain: Tensor) -> float:
    return float((ours - plain).abs().max())


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / MIB:.3g} MiB" if count < 1000 * MIB else f"{count / MIB / 1024:.3g} GiB"
