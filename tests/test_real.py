"""Real images and real CLIP features: the figures that others measured, and the layouts that users have.

The expected figures stand in the README of the data: OpenAI's CLIP ViT-B/32, 59 classes and 1401 test images of
Caltech101, zero-shot 94.9 %, linear probe started from the text 96.9 % at 16 shots.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import methods  # noqa: F401
from bench import backbone, cards, readers, records
from bench.__main__ import main
from bench.api import METHODS, Card, Part
from bench.backbone import OpenClip, Stored
from bench.cache import Cache
from bench.features import Features
from bench.readers import split_file
from bench.runner import Runner, plan

pytestmark = pytest.mark.realdata


def accuracy(record) -> float:
    assert record.status == "done", record.error
    return 100 * float((record.prediction == record.label).mean())


def test_real_clip_features_give_the_known_zero_shot_and_text_initialised_probe(realdata: Path, tmp_path: Path) -> None:
    bundle = readers.open_bundle(realdata / "clip_b32_features" / "caltech101_59cls.npz")
    model = Stored("features:caltech101_59cls", bundle.text, bundle.scale, bundle.fingerprint)
    suite = replace(cards.suite("few-shot"), tests=(bundle.card.name,), shots=(16,), seeds=1)
    runner = Runner(Features(model, Cache(tmp_path / "cache")), tmp_path, bundle=bundle)
    zero_shot, clap, tpt = runner.run(plan(suite, [METHODS[name] for name in ("zero-shot", "clap", "coop-m4")])).records
    assert len(zero_shot.ids) == 1401
    assert round(accuracy(zero_shot), 1) == 94.9
    assert abs(accuracy(clap) - 96.9) < 1
    assert (tpt.status, tpt.error) == ("not-runnable", "needs text, which features:caltech101_59cls does not offer")


@pytest.mark.parametrize("layout", ["domain-folders", "class-folders"])
def test_real_images_pass_the_embedded_backbone_from_both_layouts(realdata: Path, tmp_path: Path, layout: str) -> None:
    card = cards.card("pacs")
    part = Part("pacs", "test", "cartoon")
    if layout == "class-folders":
        card = Card("cartoons", "PACS's cartoons", layout, card.templates, card.licence, card.source, "PACS/cartoon")
        part = Part("cartoons", "test")
    rows = readers.read(card, part, realdata)
    names = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    assert (len(rows), rows.names) == (140, names)
    features, cost = Features(backbone.load("world-rn"), Cache(tmp_path)).plain(rows.take(range(8)), card.name)
    assert features.shape == (8, 128)
    assert cost.forwards == 8
    assert features.isfinite().all()


# -- the literature's protocols on real files --------------------------------------------------------------------------


def shell(realdata: Path, root: Path, name: str) -> Card:
    """The whole data set as its official split file lists it; files without content, since a draw opens none."""
    card = cards.card(name)
    file = realdata / "splits" / card.options["file"]
    images = root / card.folder / card.options["images"]
    for split, (paths, _) in split_file.parse(file).splits.items():
        for path in paths:
            (images / path).parent.mkdir(parents=True, exist_ok=True)
            (images / path).touch()
        assert len(paths) == card.counts[split]
    shutil.copy(file, root / card.folder)
    return card


@pytest.mark.parametrize("name", ["caltech101", "dtd"])
def test_the_runner_draws_the_published_support_sets_for_all_shots_and_seeds(
    realdata: Path, tmp_path: Path, tiny: OpenClip, name: str
) -> None:
    card = shell(realdata, tmp_path, name)
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path / "results", tmp_path)
    suite = cards.suite("few-shot-11")
    tasks = {task.shots: task for task in cards.tasks(suite) if task.test.dataset == name}
    for shots in (1, 2, 4, 8, 16):
        for seed in range(1, 1 + suite.seeds):
            train, val = runner._support_rows(tasks[shots], seed)
            assert val is not None
            published = json.loads((realdata / f"few_shot_indices/{name}/shot_{shots}-seed_{seed}.json").read_text())
            for rows, part in ((train, "train"), (val, "val")):
                wanted = [(entry["impath"], entry["label"], entry["classname"]) for entry in published[part]["data"]]
                assert (
                    len(rows) == len(wanted) == card.counts["classes"] * (shots if part == "train" else min(shots, 4))
                )
                for (path, label, called), id_, own in zip(wanted, rows.ids, rows.labels.tolist(), strict=True):
                    assert path.endswith(f"/{id_}")
                    assert (label, called.replace("_", " ")) == (own, rows.names[own])
            assert train.warnings == (), "counts, classes and the split file's hash are as published"


@pytest.mark.parametrize(("name", "base", "new"), [("caltech101", 1549, 916), ("dtd", 864, 828)])
def test_base_and_new_halves_of_a_real_data_set(
    realdata: Path, tmp_path: Path, tiny: OpenClip, name: str, base: int, new: int
) -> None:
    card = shell(realdata, tmp_path, name)
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path / "results", tmp_path)
    first, second = (task for task in cards.tasks(cards.suite("base-to-new-11")) if task.test.dataset == name)
    assert [len(runner._test_rows(task)) for task in (first, second)] == [base, new]
    names = [runner._classes(task.test).names for task in (first, second)]
    assert [len(own) for own in names] == [(card.counts["classes"] + 1) // 2, card.counts["classes"] // 2]
    assert not set(names[0]) & set(names[1])
    for seed in (1, 2, 3):
        train, val = runner._support_rows(second, seed)
        published = json.loads((realdata / f"few_shot_indices/{name}/shot_16-seed_{seed}.json").read_text())
        for rows, part in ((train, "train"), (val, "val")):
            assert rows is not None
            ours = [entry for entry in published[part]["data"] if entry["label"] < len(names[0])]
            assert [entry["label"] for entry in ours] == rows.labels.tolist()
            assert all(entry["impath"].endswith(f"/{id_}") for entry, id_ in zip(ours, rows.ids, strict=True))
            assert rows.names == names[0], "new classes are not learnt from"


def test_leaving_one_domain_of_pacs_out_learns_on_the_other_three(
    realdata: Path, tmp_path: Path, tiny: OpenClip
) -> None:
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path, realdata)
    tasks = cards.tasks(cards.suite("pacs-lodo"))
    assert {task.test.domain for task in tasks} == {"art_painting", "cartoon", "photo", "sketch"}
    for task in tasks:
        test = runner._test_rows(task)
        assert Counter(test.labels.tolist()) == dict.fromkeys(range(7), 20)
        assert {id_.split("/")[0] for id_ in test.ids} == {task.test.domain}
        train, val = runner._support_rows(task, 1)
        assert val is None
        assert Counter(train.labels.tolist()) == dict.fromkeys(range(7), 16)
        assert {id_.split("/")[0] for id_ in train.ids} == {"art_painting", "cartoon", "photo", "sketch"} - {
            task.test.domain
        }
        everything, _ = runner._support_rows(replace(task, shots=0), 1)
        assert len(everything) == 3 * 140
        assert runner._classes(task.test).templates == ("a photo of a {}.",)


def test_pacs_runs_from_the_command_line_with_one_domain_left_out(
    realdata: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "run --suite pacs-lodo --methods clap --seeds 1 --backbone world-rn --workers 0"
    assert main([*command.split(), "--data-root", str(realdata), "--results", str(tmp_path)]) == 0
    assert "8 cells in" in capsys.readouterr().out
    found = {(r.method, r.task.name): r for r in records.scan(tmp_path, predictions=True).records}
    for domain in ("art_painting", "cartoon", "photo", "sketch"):
        clap = found["clap", f"pacs:{domain} @16 from the other domains"]
        assert (clap.status, clap.support, len(clap.ids)) == ("done", 7 * 16, 140)
        assert len(found["zero-shot", f"pacs:{domain}"].ids) == 140
