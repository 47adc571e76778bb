"""What a phase of a cell costs: wall clock, peak memory and floating-point operations.

Memory on the CPU is the kernel's own high-water mark of the resident set, reset at the start of the phase where the
kernel allows it (Linux), else the largest of samples taken every 5 ms; on CUDA it is torch's peak. Either way the
figure is what the phase added to what the process already held.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.api import Phases, measured

MIB = 2**20


@dataclass
class Measure:
    """seconds: wall clock of the block; parts: seconds that methods marked inside it; memory_mib: peak added."""

    seconds: float = 0.0
    memory_mib: float = 0.0
    memory_how: str = ""
    parts: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def meter(device: torch.device) -> Iterator[Measure]:
    """Measure a block; the device is synchronised before the clock is read."""
    result = Measure()
    sync = synchroniser(device)
    with _memory(device, result), measured(Phases(result.parts, sync)):
        sync()
        start = time.perf_counter()
        try:
            yield result
        finally:
            sync()
            result.seconds = time.perf_counter() - start


def synchroniser(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was told; does nothing on the CPU."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def flops(block: Callable[[], object]) -> float:
    """Floating-point operations of `block`, counted with attention's fused path off (else it counts a third less)."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            block()
        return float(counter.get_total_flops())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _memory(device: torch.device, result: Measure) -> Iterator[None]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result.memory_how = "CUDA peak allocated (torch)"
        try:
            yield
        finally:
            result.memory_mib = (torch.cuda.max_memory_allocated(device) - before) / MIB
    elif _reset_high_water():
        before = _status_kib("VmRSS")
        result.memory_how = "CPU peak resident set (kernel, reset per phase)"
        try:
            yield
        finally:
            result.memory_mib = max(0.0, (_status_kib("VmHWM") - before) / 1024)
    else:
        result.memory_how = "CPU peak resident set (sampled every 5 ms)"
        with _sampled(result):
            yield


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def _status_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)


@contextlib.contextmanager
def _sampled(result: Measure) -> Iterator[None]:
    process, stop = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        result.memory_mib = (max(peak, process.memory_info().rss) - before) / MIB
