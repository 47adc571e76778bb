"""Protocols of the literature, from the suite to the cell: one domain left out, and answers among more classes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from bench import cards, readers
from bench.api import Batch, Card, Classes, Form, NotRunnable, Part, Suite, Task, UserError
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.features import Features
from bench.runner import Cell, Runner, places

CARD = """
name = "{name}"
title = "Toy"
reader = "{reader}"
templates = ["a {{}}."]
licence = "MIT"
source = "nowhere"
folder = "{name}"
{more}
"""
LEFT_OUT = """
name = "left-out"
title = "One left out"
setting = "domain-shift"
source = "other domains"
tests = ["media:photo", "media:sketch"]
admits = ["zero-shot", "few-shot"]
backbone = "world-rn"
shots = [1]
"""
AMONG = """
name = "masked"
title = "Among many"
setting = "domain-shift"
source = "many"
tests = ["many", "few"]
among = "many"
admits = ["zero-shot", "few-shot"]
backbone = "world-rn"
shots = [1]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Cards of three data sets: domains of two classes; four classes; two of them and one that is a pair of them."""
    folder = tmp_path / "cards"
    (folder / "suites").mkdir(parents=True)
    for name, reader, more in (
        ("media", "domain-folders", 'domains = ["photo", "art", "sketch"]'),
        (
            "many",
            "class-folders",
            'classes = ["ant", "bee", "cow", "doe"]\n[options]\nfolders = ["n1", "n2", "n3", "n4"]',
        ),
        ("few", "class-folders", 'classes = ["insect", "cow"]\n[options]\nflat = "test"\nkeys = ["n2+n1", "n3"]'),
    ):
        (folder / f"{name}.toml").write_text(CARD.format(name=name, reader=reader, more=more))
    (folder / "suites/left-out.toml").write_text(LEFT_OUT)
    (folder / "suites/masked.toml").write_text(AMONG)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Their pictures, each of its own colour: 3 a class and domain, or 2 a class and split."""
    root = tmp_path / "data"
    media = [
        f"media/{domain}/{name}/{i}.png" for domain in ("photo", "art", "sketch") for name in "xy" for i in range(3)
    ]
    many = [f"many/{split}/n{k}/{i}.png" for split in ("train", "test") for k in range(1, 5) for i in range(2)]
    few = [f"few/{name}/{i}.png" for name in ("insect", "cow") for i in range(2)]
    for number, file in enumerate([*media, *many, *few]):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (5 * number, 0, 0)).save(root / file)
    return root


# -- one domain left out ----------------------------------------------------------------------------------------------


def test_each_domain_is_answered_after_learning_on_all_the_others(home: Path) -> None:
    photo, sketch = cards.tasks(cards.suite("left-out", home))
    assert photo == Task(Part("media", "test", "photo"), Part("media", "train", "-photo"), 1)
    assert photo.name == "media:photo @1 from the other domains"
    assert (sketch.test.domain, sketch.train and sketch.train.domain) == ("sketch", "-sketch")
    assert cards.unsupported(photo).name == "media:photo"


def test_the_support_holds_every_picture_of_the_other_domains_and_none_of_the_tested_one(
    home: Path, data: Path
) -> None:
    media = cards.card("media", home)
    rows = readers.read(media, Part("media", "train", "-photo"), data)
    assert Counter(id_.split("/")[0] for id_ in rows.ids) == {"art": 6, "sketch": 6}
    assert Counter(rows.labels.tolist()) == {0: 6, 1: 6}
    assert all(id_.split("/")[1] == rows.names[label] for id_, label in zip(rows.ids, rows.labels, strict=True))
    alone = {domain: readers.read(media, Part("media", "train", domain), data) for domain in ("art", "sketch")}
    assert rows.ids == alone["art"].ids + alone["sketch"].ids
    for position in (0, 5, 6, 11):
        own = alone["art"] if position < 6 else alone["sketch"]
        (shown,), (expected,) = rows.load([position]), own.load([position % 6])
        assert np.array_equal(np.asarray(shown), np.asarray(expected))
    others = readers.read(media, Part("media", "train", "-art"), data)
    assert others.fingerprint != rows.fingerprint
    assert len(readers.read(media, Part("media", "val", "-photo"), data)) == 0


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        ('["many"]', "'many' has no other domains; test on a domain of a data set that has several."),
        ('["media:foto"]', "has no domain 'foto'; did you mean photo?"),
        ('["media:-photo"]', "'media:-photo' has no other domains"),
        ('["world-sketch:3"]', "unknown data set 'world-sketch'"),
    ],
)
def test_a_suite_that_leaves_nothing_out_is_refused(home: Path, tests: str, says: str) -> None:
    (home / "suites/left-out.toml").write_text(re.sub(r"tests = .*", f"tests = {tests}", LEFT_OUT))
    with pytest.raises(UserError) as raised:
        cards.suite("left-out", home)
    assert str(raised.value).startswith("suites/left-out.toml: ")
    assert says in str(raised.value)


def test_a_source_that_holds_the_tested_domain_is_refused(home: Path) -> None:
    shift = replace(cards.suite("left-out", home), source="media:-art", tests=("media:art",))
    cards.check(shift, home)
    for test in ("media:photo", "media:-sketch"):
        with pytest.raises(UserError, match="has one split only and cannot be learnt from and tested on at once"):
            cards.check(replace(shift, tests=(test,)), home)


def test_what_has_splits_or_one_domain_cannot_be_read_but_for_one(data: Path) -> None:
    world = cards.card("world-sketch")
    with pytest.raises(UserError, match="cannot be read without one domain: '-1' must name one itself"):
        readers.read(world, Part("world-sketch", "test", "-1"))


def test_domainbed_leaves_out_each_of_its_22_domains_once() -> None:
    tasks = cards.tasks(cards.suite("domainbed"))
    assert Counter(task.test.dataset for task in tasks) == {
        "pacs": 4, "vlcs": 4, "office-home": 4, "terra-incognita": 4, "domain-net": 6,
    }  # fmt: skip
    for name in ("pacs", "vlcs", "office-home", "terra-incognita", "domain-net"):
        assert {task.test.domain for task in tasks if task.test.dataset == name} == set(cards.card(name).domains)
    assert {task.shots for task in tasks} == {0}


# -- among more classes than are asked for ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Loudest:
    """Its logit of a class is given by the class's name; it transfers, so it answers with any classes."""

    needs: ClassVar = frozenset({"features"})
    setting: ClassVar = "zero-shot"
    transfers: ClassVar = True
    online: ClassVar = False
    selection: ClassVar = "fixed"
    grid: ClassVar[Mapping] = {}

    def parameters(self, backbone, classes: int) -> int:
        return 0

    def fit(self, support, backbone, rng):
        raise AssertionError("zero-shot methods are not fitted")

    def predictor(self, state, classes: Classes, backbone, rng) -> Callable[[Batch], torch.Tensor]:
        loud = torch.tensor([{"ant": 1.0, "bee": 4.0, "cow": 3.0, "doe": 9.0, "insect": 0.0}[n] for n in classes.names])
        return lambda batch: loud.expand(len(batch.ids), -1)


def test_a_suite_asks_among_all_classes_of_another_data_set(home: Path) -> None:
    whole, few = cards.tasks(cards.suite("masked", home))
    assert whole.among is None, "the data set itself has all of them already"
    assert few.among == "many"
    assert few.name == "few among many @1 from many"
    assert cards.unsupported(few).name == "few among many"


def test_logits_are_masked_to_the_asked_classes_and_a_pair_gets_its_largest(
    home: Path, data: Path, tmp_path: Path, tiny: OpenClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "home", lambda: home)
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path, data)
    form = Form("loudest", "Loudest", "loudest", Loudest())  # type: ignore[arg-type]
    own, masked = (Task(Part("few", "test"), among=among) for among in (None, "many"))
    alone, among = runner.run([Cell(form, task, 1) for task in (own, masked)]).records
    assert alone.classes == among.classes == ("insect", "cow")
    assert alone.prediction.tolist() == [1, 1, 1, 1], "cow 3 is above insect 0"
    assert among.prediction.tolist() == [0, 0, 0, 0], "of insect's ant 1 and bee 4 the largest is above cow 3"
    assert among.confidence == pytest.approx(torch.tensor([4.0, 3.0]).softmax(0).max().item())
    assert (alone.notes, among.notes) == ((), ("4 logits masked to the 2 classes asked for",))
    assert alone.id != among.id, "another protocol is another cell"


def test_a_cell_that_masks_nothing_keeps_the_id_that_it_had_before_there_were_masks(
    home: Path, data: Path, tmp_path: Path, tiny: OpenClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "home", lambda: home)
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path, data)
    form = Form("loudest", "Loudest", "loudest", Loudest())  # type: ignore[arg-type]
    seen = []
    monkeypatch.setattr("bench.records.id_of", lambda parts: seen.append(parts) or "id")
    runner.cell_id(Cell(form, Task(Part("few", "test")), 1))
    assert set(json.loads(seen[-1]["task"])) == {"test", "train", "shots", "limit"}
    assert "among" not in seen[-1]


def test_keys_of_several_classes_are_found_among_the_known_ones() -> None:
    known = Classes(("ant", "bee", "cow"), ("{}",), (0, 1, 2), ("n1", "n2", "n3"))
    asked = Classes(("cow", "insect"), ("{}",), (0, 1), ("n3", "n2+n1"))
    assert places(asked, known) == [[2, 2], [1, 0]]
    with pytest.raises(NotRunnable, match="tied to the classes it was fitted on"):
        places(replace(asked, keys=("n3", "n2+n9")), known)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"among": "media"}, "among names 'media'; name a data set whose card lists its classes"),
        ({"among": "mani"}, "unknown data set 'mani'"),
        ({"setting": "few-shot", "source": None}, "lists its classes, and that in a domain-shift suite."),
    ],
)  # fmt: skip
def test_a_suite_that_asks_among_nothing_is_refused(home: Path, change: dict, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        cards.check(replace(cards.suite("masked", home), **change), home)


def test_imagenet_a_and_r_are_answered_by_both_protocols_each_under_its_own_name() -> None:
    def asked(name: str) -> dict[str, str | None]:
        return {task.test.dataset: task.among for task in cards.tasks(cards.suite(name))}

    assert asked("imagenet-ood") == dict.fromkeys(("imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r"))
    assert asked("imagenet-ood-masked") == dict.fromkeys(("imagenet-a", "imagenet-r"), "imagenet")
    assert asked("imagenet-fft")["imagenet"] is None
    assert asked("imagenet-fft")["objectnet"] == asked("imagenet-fft")["imagenet-a"] == "imagenet"


@pytest.mark.parametrize("name", ["imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r", "objectnet"])
def test_imagenets_family_is_found_among_the_thousand(name: str) -> None:
    def classes(card: Card) -> Classes:
        names, keys = readers.listed(card)
        return Classes(names, card.templates, tuple(range(len(names))), keys)

    asked, known = classes(cards.card(name)), classes(cards.card("imagenet"))
    if asked.names == known.names:
        return  # the same question: nothing is masked, and V2 calls its folders by number
    found = places(asked, known)
    assert len(found) == len(asked)
    for name_, group in zip(asked.names, found, strict=True):
        if len(set(group)) == 1 and name != "objectnet":
            assert known.names[group[0]] == name_


# -- the suites of the literature's tables ----------------------------------------------------------------------------

ELEVEN = {
    "imagenet", "caltech101", "oxford-pets", "stanford-cars", "oxford-flowers", "food101", "fgvc-aircraft", "sun397",
    "dtd", "eurosat", "ucf101",
}  # fmt: skip
TEMPLATES = {
    "oxford-pets": "a photo of a {}, a type of pet.", "oxford-flowers": "a photo of a {}, a type of flower.",
    "fgvc-aircraft": "a photo of a {}, a type of aircraft.", "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.", "food101": "a photo of {}, a type of food.",
    "ucf101": "a photo of a person doing {}.",
}  # fmt: skip
NOT_OF_THE_LINE = {"iwildcam", "fmow", "camelyon17"}


def test_the_eleven_data_sets_of_the_line_are_asked_with_its_shots_and_seeds() -> None:
    few, new = cards.suite("few-shot-11"), cards.suite("base-to-new-11")
    assert set(few.tests) == set(new.tests) == ELEVEN
    assert (few.shots, few.seeds, new.shots, new.seeds) == ((1, 2, 4, 8, 16), 3, (16,), 3)
    cross = cards.suite("cross-dataset")
    assert (cross.source, set(cross.tests), cross.shots) == ("imagenet", ELEVEN - {"imagenet"}, (16,))


def test_templates_are_those_of_coops_line() -> None:
    for card in cards.cards().values():
        if card.reader != "world" and card.name not in NOT_OF_THE_LINE:
            assert card.templates == (TEMPLATES.get(card.name, "a photo of a {}."),), card.path


def test_cifar_shift_asks_at_the_highest_severity_of_the_fifteen_corruptions() -> None:
    suite: Suite = cards.suite("cifar-shift")
    corrupted = [test for test in suite.tests if test.startswith("cifar10-c:")]
    assert len(corrupted) == 15
    assert all(test.endswith("-5") for test in corrupted)
    assert not {"gaussian_blur", "saturate", "spatter", "speckle_noise"} & {t[10:-2] for t in corrupted}
    assert set(suite.tests) - set(corrupted) == {"cifar10", "cifar10.1"}
