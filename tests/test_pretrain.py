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

TINY = replace(training.RECIPES[embedded.RESNET], small=16, large=24, grow=0.9, warmup=4, evaluate_every=10)
TINY_STUDENT = replace(training.RECIPES[embedded.VIT], small=8, large=8, warmup=4, evaluate_every=8)


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
    loaded = embedded.load(path=tmp_path / "first" / "weights.safetensors")
    assert not loaded.training
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_a_student_repeats_itself_and_comes_closer_to_its_teacher(tmp_path: Path) -> None:
    first, again = (
        training.pretrain(tmp_path / name, 16, embedded.VIT, recipe=TINY_STUDENT, probe_pictures=10)
        for name in ("first", "again")
    )
    assert first["sha256"] == again["sha256"]
    assert first["teacher"] == {"sha256": embedded.record(embedded.RESNET)["sha256"]}
    names, *rows = (row.split(",") for row in (tmp_path / "first" / "curve.csv").read_text().splitlines())
    for loss in ("feature", "hint"):
        assert float(rows[1][names.index(loss)]) < float(rows[0][names.index(loss)])


def test_a_student_keeps_the_text_tower_and_the_scale_of_its_teacher(tmp_path: Path) -> None:
    training.pretrain(tmp_path, 2, embedded.VIT, recipe=TINY_STUDENT, probe_pictures=10)
    student = embedded.load(embedded.VIT, tmp_path / "weights.safetensors").state_dict()
    teacher = embedded.load(embedded.RESNET).state_dict()
    kept = [key for key in student if not key.startswith("visual.")]
    assert {"logit_scale", "text_projection", "token_embedding.weight"} <= set(kept)
    assert all(torch.equal(student[key], teacher[key]) for key in kept)


def test_a_teacher_measures_angles_of_features_and_squares_of_its_maps() -> None:
    """One hint at the student's own resolution, one at half of it, both transcribed slowly in float64."""
    torch.manual_seed(0)
    told = training.Distillation(hints=(("layer2", 1), ("layer3", 2)))
    student = embedded.model(embedded.VIT)
    teacher = training.Teacher(told, student)
    inputs = embedded.normalise(torch.randint(256, (6, 3, 64, 64), dtype=torch.uint8))
    tokens: list[torch.Tensor] = []
    for block in student.visual.transformer.resblocks:  # type: ignore[union-attr]
        block.register_forward_hook(lambda _module, _inputs, output: tokens.append(output.detach().double()))
    image = torch.nn.functional.normalize(student.encode_image(inputs), dim=-1)
    found = teacher(inputs, image)

    tower = embedded.load(embedded.RESNET).visual.double()
    x = tower.layer1(tower.stem(inputs.double()))
    hint = torch.zeros((), dtype=torch.float64)
    for i, layer in enumerate((tower.layer2, tower.layer3)):
        x = layer(x)
        deviation = (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        target = (x - x.mean((0, 2, 3), keepdim=True)) / deviation
        side, read = x.shape[-1], teacher.reads[i]
        step = 8 // side
        for row in range(side):
            for column in range(side):
                cells = [8 * (row * step + r) + column * step + c for r in range(step) for c in range(step)]
                patch = sum(tokens[i][:, 1 + cell] for cell in cells) / len(cells)  # (6, W)
                guess = patch @ read.weight[:, :, 0, 0].double().t() + read.bias.double()
                hint += (guess - target[:, :, row, column]).square().mean() / side**2
    assert found["hint"].item() == pytest.approx(hint.item(), rel=1e-4)
    feature = torch.nn.functional.normalize(tower(inputs.double()), dim=-1)
    cosine = (image.double() * feature).sum(1).mean()
    assert found["feature"].item() == pytest.approx(1 - cosine.item(), rel=1e-4)
    assert teacher(inputs, feature.float())["feature"].item() == pytest.approx(0, abs=1e-5)


def test_only_the_image_tower_of_a_student_and_its_reading_maps_learn() -> None:
    student = embedded.model(embedded.VIT)
    everything = torch.nn.ModuleList([student, training.Teacher(training.Distillation(), student)])
    optim = training.optimiser(everything, training.RECIPES[embedded.VIT])
    learned = sum(p.numel() for group in optim.param_groups for p in group["params"])
    reads = sum(128 * channels + channels for channels in (128, 256))
    assert learned == sum(p.numel() for p in student.visual.parameters()) + reads


def test_bfloat16_is_near_float32_and_gives_float32() -> None:
    net, inputs = embedded.model(embedded.VIT), torch.randn(4, 3, 64, 64)
    exact, rounded = (training.encode_image(net, inputs, low) for low in (False, True))
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rounded).min() > 0.99


def test_neighbouring_places_of_a_fresh_vision_transformer_look_alike() -> None:
    table = embedded.model(embedded.VIT).visual.positional_embedding.detach()[1:].unflatten(0, (8, 8))
    near, far = ((table[0, 0] * table[row, column]).sum() for row, column in ((0, 1), (7, 7)))
    assert table[0, 0].square().sum() > near > far


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
    embedded.load(path=tmp_path / "w.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def _fresh() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        return embedded.model()


@pytest.mark.parametrize("name", list(training.RECIPES))
def test_the_repositorys_weights_are_those_of_the_record(name: str) -> None:
    record, folder = embedded.record(name), embedded.folder(name)
    assert (folder / "weights.safetensors").stat().st_size < 10_000_000
    assert embedded.load(name).logit_scale.exp() > 5
    assert (folder / "curve.csv").read_text().splitlines()[-1].startswith(f"{record['steps']},{record['pairs']},")
    assert record["command"].startswith("python -m bench pretrain")
    accuracy = training.Probe(200, "cpu")(embedded.load(name), embedded.tokenizer(name))["objects"]
    assert abs(accuracy - record["probe"]["objects"]) < 0.1  # four standard errors


def test_damaged_weights_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(embedded.folder("world-rn"), tmp_path / "world_rn")
    path = tmp_path / "world_rn" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(embedded, "HERE", tmp_path)
    with pytest.raises(embedded.DamagedWeights, match="damaged"):
        embedded.load()


def test_weights_of_the_other_model_are_refused() -> None:
    with pytest.raises(embedded.DamagedWeights, match="does not fit the architecture of world-vit"):
        embedded.load(embedded.VIT, embedded.folder(embedded.RESNET) / "weights.safetensors")


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
