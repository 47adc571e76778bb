"""Clock, memory, operations: each against something known."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from bench import meter as meter_module
from bench.api import phase
from bench.meter import flops, meter

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


def test_operations_of_a_matrix_product_are_two_for_each_multiply_and_add() -> None:
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7


def test_attention_counts_the_same_with_and_without_gradients() -> None:
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).eval()
    x = torch.zeros(2, 4, 16)

    def without() -> None:
        with torch.no_grad():
            layer(x)

    assert flops(without) == flops(lambda: layer(x)) > 0
