"""Clock, memory, operations: each against something known."""

from __future__ import annotations

import mmap
import platform
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import meter as meter_module
from bench.api import phase
from bench.cache import Cache
from bench.meter import MIB, aside, flops, meter

CPU = torch.device("cpu")


def test_a_phase_is_part_of_the_block_and_the_rest_is_not() -> None:
    with meter(CPU) as measure:
        with phase("adapt"):
            time.sleep(0.03)
        time.sleep(0.01)
    assert measure.seconds >= measure.parts["adapt"] + 0.01 > 0.04


def test_a_phase_without_a_meter_does_nothing() -> None:
    with phase("adapt"):
        value = 1
    assert value == 1


@pytest.mark.parametrize("kernel", [True, False])
def test_memory_is_the_peak_that_the_block_added(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(meter_module, "_reset_high_water", lambda: False)
    with meter(CPU) as measure:
        block = np.ones(64 * 2**20, np.uint8)
        time.sleep(0.03)
        del block
    assert 60 < measure.memory_mib < 80
    with meter(CPU) as after:
        pass
    assert after.memory_mib < 8
    assert ("sampled" in measure.memory_how) is not kernel or "kernel" in measure.memory_how


def test_what_is_set_apart_counts_neither_as_memory_nor_as_the_blocks_own_time() -> None:
    with meter(CPU) as measure:
        with aside("encode"):
            kept = np.ones(64 * MIB, np.uint8)
            time.sleep(0.03)
        own = np.ones(32 * MIB, np.uint8)
        del own
    assert kept.nbytes == 64 * MIB
    assert 28 < measure.memory_mib < 48
    assert measure.parts["encode"] >= 0.03


def test_a_peak_before_something_is_set_apart_is_not_forgotten() -> None:
    with meter(CPU) as measure:
        own = np.ones(64 * MIB, np.uint8)
        del own
        with aside("encode"):
            pass
    assert 60 < measure.memory_mib < 80


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory as they like")
def test_memory_that_was_freed_before_the_block_does_not_hide_what_the_block_takes() -> None:
    def take() -> list[np.ndarray]:
        return [np.ones(64 * 1024, np.uint8) for _ in range(512)]  # small enough to come from the heap

    held = take()
    pinned = held.pop()  # above the others, so that they are not given back by themselves
    del held
    with meter(CPU) as measure:
        take()
    assert pinned.nbytes == 64 * 1024
    assert 28 < measure.memory_mib < 32 + 48  # at most, all that was dropped counts as well


def test_setting_apart_without_a_meter_does_nothing() -> None:
    with aside("encode"):
        value = 1
    assert value == 1


def test_pages_of_the_cache_count_only_until_they_are_released(tmp_path: Path) -> None:
    Cache(tmp_path).array({"a": 1}, (64, MIB), lambda out, first: out.fill(1), dtype="uint8")
    peaks = []
    for release in (True, False):
        entry = Cache(tmp_path).array({"a": 1}, (64, MIB), lambda out, first: out.fill(1), dtype="uint8")
        assert not entry.fresh
        with meter(CPU) as measure:
            for start in range(0, 64, 8):
                assert entry.array[start : start + 8].sum() == 8 * MIB
                if release:
                    entry.release()
        peaks.append(measure.memory_mib)
    assert peaks[0] < 24 < 56 < peaks[1]


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system has no way to drop a mapped page")
def test_pages_of_files_that_the_kernel_drops_do_not_hide_what_the_block_takes(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(bytes(48 * MIB))
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        with meter(CPU) as measure:
            mapped.madvise(mmap.MADV_DONTNEED)
            own = np.ones(32 * MIB, np.uint8)
            del own
    assert 28 < measure.memory_mib < 56  # the larger of the two, 48, and never their sum, 80


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_memory_is_torchs_peak_and_the_clock_waits_for_the_device() -> None:
    device = torch.device("cuda")
    x = torch.ones(4096, 4096, device=device)
    with meter(device) as measure:
        with phase("adapt"):
            y = x @ x
        del y
    assert measure.memory_mib == pytest.approx(64, abs=16)
    assert measure.memory_how == "CUDA peak allocated (torch)"
    assert 0 < measure.parts["adapt"] <= measure.seconds


def test_operations_of_a_matrix_product_are_two_for_each_multiply_and_add() -> None:
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7


def test_fused_attention_counts_two_products_and_five_on_its_way_back() -> None:
    x = torch.zeros(2, 4, 50, 16, requires_grad=True)
    product = 2 * 2 * 4 * 50 * 50 * 16

    def attended() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    assert flops(attended) == 2 * product
    assert flops(lambda: attended().sum().backward()) == (2 + 5) * product  # the scores are made once more


def test_products_that_are_not_computed_are_counted_and_give_zeros() -> None:
    a, b, made = torch.ones(3, 5), torch.ones(5, 7), []
    assert flops(lambda: made.append(a @ b + 1), computed=False) == 2 * 3 * 5 * 7
    assert torch.equal(made[0], torch.ones(3, 7))


def test_attention_counts_the_same_with_and_without_gradients() -> None:
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).eval()
    x = torch.zeros(2, 4, 16)

    def without() -> None:
        with torch.no_grad():
            layer(x)

    assert flops(without) == flops(lambda: layer(x)) > 0
