"""Real images and real CLIP features: the figures that others measured, and the layouts that users have.

The expected figures stand in the README of the data: OpenAI's CLIP ViT-B/32, 59 classes and 1401 test images of
Caltech101, zero-shot 94.9 %, linear probe started from the text 96.9 % at 16 shots.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import methods  # noqa: F401
from bench import backbone, cards, readers
from bench.api import METHODS, Card, Part
from bench.backbone import Stored
from bench.cache import Cache
from bench.features import Features
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
