"""Pretraining runs, learns, repeats itself, and the weights in the repository are those of the record."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import calibrate
from bench import pretrain as training
from bench.backbone import embedded
from bench.world.shapes import OBJECT_NAMES

TINY = replace(training.Recipe(), small=16, large=24, grow=0.9, warmup=4, evaluate_every=10)


def test_a_few_steps_lower_the_loss_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    records = [
        training.pretrain(tmp_path / name, steps=20, seed=seed, threads=1, recipe=TINY, probe_pictures=30)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    ]
    shas = [record["sha256"] for record in records]
    assert shas[0] == shas[1] != shas[2]
    rows = (tmp_path / "first" / "curve.csv").read_text().splitlines()
    column = rows[0].split(",").index("attributes")
    assert float(rows[2].split(",")[column]) < float(rows[1].split(",")[column])
    assert records[0]["pairs"] == 18 * 16 + 2 * 24
    loaded = embedded.load(tmp_path / "first" / "weights.safetensors")
    assert not loaded.training
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_the_loss_counts_only_rows_of_the_styles_that_the_prompt_fits() -> None:
    logits, names = torch.randn(32, 5), torch.randint(5, (32,))
    style = torch.arange(32) % 4
    alone = torch.nn.functional.cross_entropy(logits[style == 1], names[style == 1])
    torch.testing.assert_close(training.masked_loss(logits, names, style, (1,)), alone)
    assert training.masked_loss(logits, names, style, (4,)) == 0


def test_bare_names_are_rare_prompts() -> None:
    rng = random.Random(0)
    drawn = [training.name_prompts(rng)[0][0] for _ in range(2000)]
    assert 0.1 < sum(text == OBJECT_NAMES[0] for text in drawn) / 2000 < 0.2


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    recipe = training.Recipe()
    rates = [training.learning_rate(step, 1000, recipe) for step in range(1000)]
    assert rates[0] < rates[100] < rates[199]
    assert rates[199] > rates[500] > rates[999]
    assert rates[999] < 0.011 * recipe.learning_rate


def test_building_or_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    embedded.save(_fresh(), tmp_path / "w.safetensors")
    embedded.load(tmp_path / "w.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def _fresh() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        return embedded.model()


def test_the_repositorys_weights_are_those_of_the_record() -> None:
    record = json.loads(embedded.RECORD.read_text())
    assert embedded.WEIGHTS.stat().st_size < 10_000_000
    assert embedded.load().logit_scale.exp() > 5
    assert (
        (embedded.FOLDER / "curve.csv").read_text().splitlines()[-1].startswith(f"{record['steps']},{record['pairs']},")
    )
    assert record["command"].startswith("python -m bench pretrain")


def test_damaged_weights_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(embedded.FOLDER, tmp_path / "copy")
    path = tmp_path / "copy" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(embedded, "WEIGHTS", path)
    with pytest.raises(embedded.DamagedWeights, match="damaged"):
        embedded.load()


def test_the_small_clip_knows_the_world_as_well_as_the_calibration_says() -> None:
    """400 pictures: four standard errors are 10 points."""
    recorded = json.loads(calibrate.CALIBRATION.read_text())
    found = calibrate.ZeroShot().accuracy(calibrate.Spec(), 400)
    assert abs(found - recorded["test"]["photo"]) < 0.1


def test_a_noisy_curve_is_made_monotone_before_it_is_read() -> None:
    assert calibrate.decreasing([0.9, 0.5, 0.6, 0.2], [1, 1, 1, 1]) == [0.9, 0.55, 0.55, 0.2]
    points = [(0.0, 0.9, 1), (1.0, 0.5, 1), (2.0, 0.6, 1), (3.0, 0.2, 1)]
    assert calibrate.crossing(points, 0.725) == pytest.approx(0.5)
    assert calibrate.crossing(points, 0.375) == pytest.approx(2.5)
    assert calibrate.crossing(points, 0.1) == 3.0


def test_views_of_a_plain_picture_are_plain() -> None:
    plain = torch.full((2, 3, 64, 64), 120, dtype=torch.uint8)
    cropped = calibrate.views(plain, 5, seed=0, least=0.3)
    assert cropped.shape == (2, 5, 3, 64, 64)
    assert torch.allclose(cropped, torch.tensor(120.0))
