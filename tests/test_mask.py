"""The figure of RAda's mask: which masks are counted, that they are those of stored answers, and what is drawn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import LiteralRAda, entropy, mean_softmax, surest, unit
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmarks are in the checkout and in no wheel

from bench import records
from bench.__main__ import main as bench
from bench.api import METHODS
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, classes_of, support_of
from bench.figures import style
from benchmarks import mask
from benchmarks.mask import LARGEST, STEP, Masks, drawn, watched
from methods.rada import QUERIES, new_layer

BACKBONE, CLASSES = LinearBackbone(), classes_of(5)
TEXT = BACKBONE.text_features(CLASSES)


def units(features: Tensor) -> Tensor:
    return torch.stack([unit(row) for row in features])


def literal(state: dict[str, Tensor], heads: int) -> LiteralRAda:
    return LiteralRAda(BACKBONE.dim, heads, QUERIES, 1.0).load(state)


# -- which masks ------------------------------------------------------------------------------------------------------


def test_after_few_shot_learning_every_picture_is_seen_once_with_its_mask() -> None:
    form = METHODS["rada-eft"].with_fields(epochs=2, heads=4, lr=0.05)
    state = form.method.fit(support_of(BACKBONE), BACKBONE, torch.Generator().manual_seed(0))
    batch, seen = batch_of(BACKBONE), []
    predict = form.method.predictor(state, CLASSES, BACKBONE, torch.Generator())
    with watched(form, seen.append):
        predict(batch)
    expected = literal(state, 4)(units(batch.features), TEXT, BACKBONE.scale)[1]
    assert (expected - 1).abs().max() > 1e-3  # it has learnt something
    assert torch.allclose(torch.cat(seen), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["rada-ttt", "rada-dagger"])
def test_at_test_time_the_mask_after_the_step_is_seen_and_none_of_those_on_the_way(name: str) -> None:
    form = METHODS[name].with_fields(heads=4, keep=0.2, lr=2e-2)
    start = new_layer(BACKBONE.dim, QUERIES, torch.Generator().manual_seed(3), TEXT)
    if name == "rada-dagger":
        start["out.weight"] = 0.1 * start["key.weight"]  # a layer that has learnt
    batch, seen = batch_of(BACKBONE, n=3, views=10), []
    predict = form.method.predictor(start, CLASSES, BACKBONE, torch.Generator())
    with watched(form, seen.append):
        predict(batch)
    found = torch.cat([one.flatten(0, -3) for one in seen])
    assert found.shape == (3, 5, BACKBONE.dim)
    assert batch.views is not None
    for views, one in zip(map(units, batch.views), found, strict=True):
        layer = literal(start, 4)
        optimiser = torch.optim.AdamW(layer.parameters(), lr=2e-2, weight_decay=1e-2)
        kept = surest(layer(views, TEXT, BACKBONE.scale)[0].detach(), 0.2)
        entropy(mean_softmax(layer(views[kept], TEXT, BACKBONE.scale)[0])).backward()
        optimiser.step()
        assert torch.allclose(one, layer(views[:1], TEXT, BACKBONE.scale)[1][0], rtol=0, atol=1e-9)


# -- of stored cells --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few-shot learning on the smoke suite: 40 pictures of two shifts."""
    root = tmp_path_factory.mktemp("results")
    assert bench(["run", "--methods", "rada-eft", "--suite", "smoke", "--results", str(root)]) == 0
    return root


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mask", *words])
    mask.main()


def test_the_layers_of_stored_cells_are_fitted_again_and_every_entry_of_every_picture_counts(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = mask.masks("smoke", results, 1, None)
    assert found.title == "RAda"
    assert list(found.by_task) == ["world-sketch:3", "world-noise:3"]  # in the suite's order
    assert [int(counts.sum()) for counts in found.by_task.values()] == [40 * 50 * 128] * 2
    called(monkeypatch, "--suite", "smoke", "--results", str(results))
    printed = capsys.readouterr().out
    assert f"RAda: mean of M {found.mean:.4f}, 98 % of its entries from {found.quantile(0.01):.3f} to" in printed
    assert (results / "figures" / "smoke-mask.pdf").read_bytes().startswith(b"%PDF")
    assert (results / "figures" / "smoke-mask.png").read_bytes().startswith(b"\x89PNG")


def test_answers_that_are_not_the_stored_ones_are_refused(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in records.places(results):
        stored = records.load(place)
        assert stored.prediction is not None
        records.save(replace(stored, prediction=(stored.prediction + 1) % 50), tmp_path)
    with pytest.raises(SystemExit, match=r"was answered otherwise, by other code or another machine: run it again"):
        called(monkeypatch, "--suite", "smoke", "--results", str(tmp_path))


def test_without_cells_of_rada_the_remedy_is_said(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SystemExit, match="holds no cells of RAda in suite 'smoke' with seed 7: run python -m bench run"
    ):
        called(monkeypatch, "--suite", "smoke", "--results", str(results), "--seed", "7")


# -- what is drawn ----------------------------------------------------------------------------------------------------


def counted(*entries: tuple[float, int]) -> np.ndarray:
    """Counts of so many entries in the middle of a bin."""
    counts = np.zeros(round(LARGEST / STEP), dtype=np.int64)
    for entry, count in entries:
        counts[int(entry / STEP)] = count
    return counts


def panels(found: Sequence[Masks]) -> list:
    with style.applied():
        return [axes for axes in drawn(found).axes if axes.get_title(loc="left")]


def test_mean_and_quantiles_are_those_of_all_entries() -> None:
    found = Masks("a", {"one": counted((0.5, 30)), "two": counted((1.5, 10), (2.0, 60))})
    assert found.mean == pytest.approx((0.5 * 30 + 1.5 * 10 + 2.0 * 60) / 100, abs=STEP)
    assert [found.quantile(q) for q in (0.3, 0.31, 0.4, 0.99)] == pytest.approx([0.5, 1.5, 1.5, 2.0], abs=STEP)


def test_each_task_is_a_line_whose_steps_are_shares_of_its_entries() -> None:
    (axes,) = panels([Masks("RAda", {"one": counted((0.5, 30), (1.5, 10)), "two": counted((1.0, 7))})])
    one, two, clip = axes.lines
    heights = np.asarray(one.get_ydata())
    assert sorted(heights[heights > 0]) == [25, 75]
    assert np.asarray(two.get_ydata()).sum() == pytest.approx(100)
    at = np.asarray(one.get_xdata())[heights.argmax()]
    assert at <= 0.5 <= at + 0.02
    assert list(clip.get_xdata()) == [1, 1]  # M = 1 is CLIP
    assert [line.get_label() for line in (one, two)] == ["one", "two"]


def test_a_mask_that_hardly_moves_has_a_scale_of_its_own() -> None:
    near = Masks("near", {"one": counted((1.0, 50), (1.001, 50))})
    far = Masks("far", {"one": counted((0.1, 50), (1.9, 50))})
    (left, right) = panels([near, far])
    assert left.get_xlim()[1] - left.get_xlim()[0] < 0.01
    assert right.get_xlim()[0] < 0.1
    assert right.get_xlim()[1] > 1.9


def test_no_two_of_ten_tasks_look_the_same_in_grey_and_names_are_text_alone() -> None:
    names = [f"$x_{i}$ 50% <script>" for i in range(10)]
    (axes,) = panels([Masks("$M$ of 100%", {name: counted((1.0, 5)) for name in names})])
    looks = {(line.get_linewidth(), str(line._unscaled_dash_pattern)) for line in axes.lines[:10]}
    assert len(looks) == 10
    assert axes.get_title(loc="left") == "$M$ of 100%"
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == names
