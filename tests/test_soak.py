"""Rounds of the harness in one process leave nothing behind: a few here, a hundred in `python -m benchmarks.soak`."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import methods  # noqa: F401
from bench.api import METHODS, Classes
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.features import Features
from bench.runner import Runner, plan

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmarks are in the checkout and in no wheel

from benchmarks import determinism, soak

MEMORY = 2048
"""KiB that a round may add on average. One runner that is never let go holds some 10 000."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[soak.Held]:
    """Seven rounds of the smoke suite's cheapest methods, without labels and few-shot."""
    cache = tmp_path_factory.mktemp("soak") / "cache"
    return list(soak.rounds(7, soak.smoke("clip-adapter", cache, ["--workers", "0"])))


def test_no_descriptor_and_no_thread_stays_open(found: list[soak.Held]) -> None:
    assert len({one.descriptors for one in found}) == 1
    assert len({one.threads for one in found[1:]}) == 1


def test_no_object_stays_but_the_count_of_it(found: list[soak.Held]) -> None:
    assert np.median(np.diff([one.objects for one in found[2:]])) <= 2


def test_memory_does_not_grow_from_round_to_round(found: list[soak.Held]) -> None:
    assert found[-1].memory - found[2].memory < MEMORY * (len(found) - 3)


def test_what_is_counted_is_what_is_there() -> None:
    before = soak.held()
    kept = [[] for _ in range(1000)]
    block = np.ones(2**23, np.uint8)  # 8 MiB
    number, ready, go = os.open("/dev/null", os.O_RDONLY), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), go.wait()))
    thread.start()
    ready.wait()
    after = soak.held()
    go.set()
    thread.join()
    os.close(number)
    assert (after.descriptors - before.descriptors, after.threads - before.threads) == (1, 1)
    assert 1000 <= after.objects - before.objects < 1100
    assert 8192 <= after.memory - before.memory < 8192 + 4096  # huge pages may round up
    assert (len(kept), block.nbytes) == (1000, 2**23)


def test_a_line_through_means_of_ten_says_what_grows_and_what_is_not_known() -> None:
    rng = np.random.default_rng(0)
    climbs = soak.trend(3.0 * np.arange(90), tolerance=1)
    assert (climbs.slope, climbs.low, climbs.high, climbs.verdict) == (*[pytest.approx(3)] * 3, "grows")
    assert soak.trend(np.full(90, 7.0), 0) == soak.Trend(0, 0, 0, "steady")
    assert soak.trend(-3.0 * np.arange(90), 0).verdict == "steady"  # what becomes less does not grow
    assert soak.trend(rng.normal(0, 1, 90), 0.1).verdict == "steady"
    assert soak.trend(rng.normal(0, 1000, 90), 0.1).verdict == "undecided"
    hand = soak.trend(np.repeat([0.0, 10.0, 10.0, 20.0], 10), 0)  # the means are those values, 10 rounds apart
    # about their middle x = -15 -5 5 15: Sxx = 500, Sxy = 300, slope 0.6; residuals -1 3 -3 1, s^2 = 20 / 2
    assert hand.slope == pytest.approx(0.6)
    assert hand.high - hand.slope == pytest.approx(4.302653 * (10 / 500) ** 0.5, rel=1e-6)  # t of 2 degrees
    with pytest.raises(ValueError, match="39 rounds are too few for a trend"):
        soak.trends([soak.Held(1, 1, 1, 1)] * 39)


def test_a_runner_dies_with_its_run_and_its_rows_with_it(vits: dict[str, OpenClip], tmp_path: Path) -> None:
    runner: Runner = determinism.runner(vits["real"], tmp_path)
    (cell,) = determinism.cells([METHODS["zero-shot"]])
    runner.run([cell])
    rows, seen = weakref.ref(runner._test_rows(cell.task)), weakref.ref(runner)
    assert runner._test_rows(cell.task) is rows()  # read once
    del runner
    gc.collect()
    assert (seen(), rows()) == (None, None)


def test_a_text_tower_dies_with_the_texts_that_were_packed_for_it(make_backbone, tmp_path: Path) -> None:
    backbone = make_backbone(3)
    classes = Classes(("star", "key"), ("a photo of a {}.",), (0, 1))
    with torch.no_grad():
        backbone.prompts(classes, 2)(torch.zeros(2, backbone.embed("a").shape[1]))
    tower = weakref.ref(backbone.model)
    del backbone
    gc.collect()
    assert tower() is None


def test_a_run_makes_no_feature_that_outlives_it(vits: dict[str, OpenClip], tmp_path: Path) -> None:
    features = Features(vits["real"], Cache(tmp_path / "cache"))
    Runner(features, tmp_path, views=3).run(plan(determinism.SUITE, [determinism.brief(METHODS["clip-adapter"])]))
    seen = weakref.ref(features)
    del features
    gc.collect()
    assert seen() is None
