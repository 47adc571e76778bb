"""What a phase of a cell costs: wall clock, peak memory and floating-point operations.

Memory on the CPU is the kernel's own high-water mark of the resident set, reset at the start of the phase where the
kernel allows it (Linux), else the largest of samples taken every 5 ms; on CUDA it is torch's peak. Either way the
figure is what the phase added to what the process already held, and what `aside` sets apart does not count. What the
C library keeps of memory that was freed is handed back first, for a phase that took it again would seem to take none.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from bench.api import Phases, measured, phase

MIB = 2**20

Shape = torch.Size


class Gauge(Protocol):
    """Bytes that the process holds: now, and at most since the last reset."""

    how: str

    def reset(self) -> None: ...
    def now(self) -> int: ...
    def peak(self) -> int: ...


@dataclass
class Measure:
    """seconds: wall clock of the block; parts: seconds that methods marked inside it; memory_mib: peak added."""

    seconds: float = 0.0
    memory_mib: float = 0.0
    memory_how: str = ""
    parts: dict[str, float] = field(default_factory=dict)


@dataclass
class _Memory:
    """The largest peak over the stretches of a block, each above what was held when it began."""

    gauge: Gauge
    base: int = 0
    most: int = 0

    def start(self) -> None:
        self.gauge.reset()
        self.base = self.gauge.now()

    def stop(self) -> None:
        self.most = max(self.most, self.gauge.peak() - self.base)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.stop()
        held = self.gauge.now()
        try:
            yield
        finally:
            self.gauge.reset()
            self.base += self.gauge.now() - held


_memory: contextvars.ContextVar[_Memory | None] = contextvars.ContextVar("memory", default=None)


@contextlib.contextmanager
def meter(device: torch.device) -> Iterator[Measure]:
    """Measure a block; the device is synchronised before the clock is read."""
    result = Measure()
    sync = synchroniser(device)
    with _gauge(device) as gauge, measured(Phases(result.parts, sync)):
        memory = _Memory(gauge)
        token = _memory.set(memory)
        sync()
        memory.start()
        start = time.perf_counter()
        try:
            yield result
        finally:
            sync()
            result.seconds = time.perf_counter() - start
            memory.stop()
            _memory.reset(token)
            result.memory_mib, result.memory_how = memory.most / MIB, gauge.how


@contextlib.contextmanager
def aside(name: str) -> Iterator[None]:
    """A part of a block that is not its own work, such as encoding that the cache spares: timed apart as `name`, its
    memory not counted."""
    memory = _memory.get()
    with phase(name), contextlib.nullcontext() if memory is None else memory.paused():
        yield


def synchroniser(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was told; does nothing on the CPU."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def flops(block: Callable[[], object], computed: bool = True) -> float:
    """Floating-point operations of the products in `block`, the same on every device.

    Attention's fused path in torch's modules is off (it would count a third less), and what the CPU fuses counts as
    what CUDA does. computed: False for work that takes the same course whatever its numbers are: products then give
    zeros and take no time.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter,
            contextlib.nullcontext() if computed else _Uncomputed(),
        ):
            block()
        return float(counter.get_total_flops())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(slope: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return sdpa_backward_flop_count(slope, query, key, value)


_ON_CPU: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The fused attention that torch has no formula for."""


class _Uncomputed(TorchDispatchMode):
    """Products get the shape that they would have, and zeros; everything else is computed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket not in flop_registry and func._overloadpacket not in _ON_CPU:
            return func(*args, **(kwargs or {}))
        device = next(x.device for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
        shapes = tree_map_only(Tensor, lambda x: x.to("meta"), (args, kwargs or {}))
        made = func(*shapes[0], **shapes[1])  # the counter, which stands outside, sees this
        return tree_map_only(Tensor, lambda x: torch.zeros_like(x, device=device), made)


# -- gauges -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _gauge(device: torch.device) -> Iterator[Gauge]:
    if device.type == "cuda":
        yield Cuda(device)
    elif _reset_high_water():
        yield Kernel()
    else:
        with Sampled() as gauge:
            yield gauge


@dataclass(frozen=True)
class Cuda:
    """What torch's allocator has handed out."""

    device: torch.device
    how = "CUDA peak allocated (torch)"

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)

    def now(self) -> int:
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device)


class Kernel:
    """Linux's account of the resident set.

    A kernel short of memory drops pages of mapped files (libraries above all) whenever it likes. What a block takes
    must not hide in the hole that they leave, so pages that were lost since the reset count as if they were there: a
    block that took less than was lost reads as if it had taken all of that.
    """

    how = "CPU peak resident set (kernel, reset per phase)"
    _mapped = 0

    def reset(self) -> None:
        _trim()
        _reset_high_water()
        self._mapped = _status_kib("RssFile")

    def now(self) -> int:
        return _status_kib("VmRSS") * 1024

    def peak(self) -> int:
        return (_status_kib("VmHWM") + max(0, self._mapped - _status_kib("RssFile"))) * 1024


class Sampled:
    """The resident set, looked at every 5 ms by a thread."""

    how = "CPU peak resident set (sampled every 5 ms)"

    def __init__(self) -> None:
        self._process, self._over, self._lock = psutil.Process(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.reset()

    def __enter__(self) -> Sampled:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            with self._lock:
                self._most = max(self._most, self.now())

    def reset(self) -> None:
        _trim()
        with self._lock:
            self._most = self.now()

    def now(self) -> int:
        return self._process.memory_info().rss

    def peak(self) -> int:
        return max(self._most, self.now())


def _trim() -> None:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


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
