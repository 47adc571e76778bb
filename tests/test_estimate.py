"""The estimate of what a paper's table takes: its counts by hand, its parts counted on a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmarks are in the checkout and in no wheel

from bench import cards
from benchmarks import estimate
from benchmarks.estimate import Unit, Work

UNIT = Unit(image=2.0, text=3.0, dim=5, layer=lambda k: k, tpt=lambda k: 10.0 * k, ttt=lambda k: 0.5 * k)


def test_the_table_at_test_time_is_counted_by_hand() -> None:
    parts = dict(estimate.at_test_time(cards.suite("imagenet-ood"), UNIT))
    pictures = 10_000 + 50_889 + 7_500 + 30_000
    assert parts["encoding 64 views a picture, 3 seeds"] == Work(
        operations=2.0 * pictures * 64 * 3, opened=pictures * 3, crops=pictures * 64 * 3, kept=pictures * 64 * 3 * 5 * 4
    )
    by_classes = 1000 * (10_000 + 50_889) + 200 * (7_500 + 30_000)
    assert parts["TPT"].operations == 3 * 10 * by_classes
    assert parts["RAda, and after few-shot"].operations == 2 * 3 * 0.5 * by_classes
    assert parts["RAda's few-shot fit"].operations == 16_000 * 3 * (2.0 * 9 + 3 * 5 * 1000)


def test_the_table_of_fine_tuning_is_counted_by_hand() -> None:
    suite = cards.suite("imagenet-fft")
    parts, tests = dict(estimate.fine_tuning(suite, UNIT)), 50_000 + 10_000 + 30_000 + 7_500 + 50_889 + 18_574
    assert parts["FT"].operations == 3 * (3 * 10 * 1_281_167 + tests) * 2.0
    assert parts["FLYP"].operations - parts["FT"].operations == 3 * 3 * 10 * 1_281_167 * 3.0


def test_a_polynomial_goes_through_its_points_and_is_no_longer_than_they_determine() -> None:
    line, square = estimate._polynomial([(10, 25.0), (20, 45.0)]), estimate._polynomial([(1, 1), (2, 4), (3, 9)])
    assert line(1000) == pytest.approx(2005)
    assert square(1000) == pytest.approx(1e6)


def test_every_data_set_of_the_tables_has_a_size() -> None:
    for name in estimate.TABLES:
        suite = cards.suite(name)
        assert {test.partition(":")[0] for test in [*suite.tests, suite.source or "imagenet"]} <= set(
            estimate.GIGABYTES
        )
