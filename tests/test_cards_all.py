"""Every card and every suite of datasets/. A failure here says what to mend in which file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

import methods  # noqa: F401
from bench import cards, readers, tune, world
from bench.__main__ import main
from bench.api import METHODS, Part

CARDS = cards.cards()
SUITES = cards.suites()
WORLDS = [card for card in CARDS.values() if card.reader == "world"]
EASY = 2000  # test pictures of a set of the world, enough for two points at 80 % power


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_a_card_says_enough(card):
    where = f"{card.path}: "
    raw = (cards.home() / f"{card.name}.toml").read_text(encoding="utf-8")
    assert raw.startswith("# "), where + "begin with a comment that says what the data set is for or what its trap is"
    assert "classes" in card.counts, where + "give counts.classes, the number of classes"
    assert card.title[0].isupper(), where + "begin the title with a capital letter"
    for template in card.templates:
        assert template.endswith("."), (
            where + f"end the template {template!r} with a full stop, as the published ones do"
        )
    if card.reader == "world":
        assert card.licence.startswith("MIT"), where + "pictures of the world are under the MIT licence; say so"
        return
    assert card.folder, where + "give folder, the place below the data root"
    assert card.citation, where + "give citation, the paper that the data set comes from"
    assert re.search(r"https://", card.source), where + "give in source the address where the data can be had"
    assert card.obtain is not None, where + "add [obtain] with how, the steps to get the data by hand"
    folder = card.folder.split("/")[0]
    assert folder in card.obtain.how, where + f"name in obtain.how the folder {folder}/ that the steps end with"
    if card.reader in ("split-file", "text-lists"):
        assert {"train", "val", "test"} <= set(card.counts), where + "give counts.train, counts.val and counts.test"
    if card.reader == "domain-folders":
        known = set(card.domains) <= set(card.counts) or "total" in card.counts
        assert known, where + "give the number of pictures of each domain in counts, or of all as total"
        if {"total", *card.domains} <= set(card.counts):
            assert sum(card.counts[domain] for domain in card.domains) == card.counts["total"], where + "mend total"


HASHES = {
    "caltech101": "52ce83205ff8", "dtd": "f26ebeccd2b5", "eurosat": "541503a77d0b", "oxford-flowers": "2f50c42fc1a1",
    "oxford-pets": "d7f3ffe65b39", "stanford-cars": "40acee7aa65c", "ucf101": "d78cb834f7c5",
}  # fmt: skip


def test_the_hash_of_a_split_file_is_the_published_one_and_none_is_invented():
    stated = {card.name: card.options.get("sha256") for card in CARDS.values() if card.reader == "split-file"}
    assert {name: sha256[:12] for name, sha256 in stated.items() if sha256} == HASHES
    assert {name for name, sha256 in stated.items() if not sha256} == {"food101", "sun397"}, "nobody published theirs"
    for card in CARDS.values():
        for download in card.obtain.urls if card.obtain else ():
            assert download.sha256 == "", f"{card.path}: say where this hash comes from, here"


@pytest.mark.parametrize("card", WORLDS, ids=lambda card: card.name)
def test_a_card_of_the_world_can_be_read(card):
    where = f"{card.path}: "
    expected = len(world.classes(card.options["variant"]))
    assert card.counts["classes"] == expected, where + f"counts.classes must be {expected}"
    assert card.counts["test"] >= EASY, where + f"draw at least {EASY} test pictures (counts.test)"
    if "train" in card.counts:
        each = 400 if card.name == "world-finetune" else 100
        assert card.counts["train"] == each * expected, where + f"counts.train must be {each} a class"
        assert card.counts["val"] == 20 * expected, where + "counts.val must be 20 a class"
    prints = set()
    for domain in card.domains or (None,):
        for split in ("train", "val", "test"):
            if split in card.counts:
                rows = readers.read(card, Part(card.name, split, domain))
                assert len(rows) == card.counts[split]
                assert len(set(rows.labels.tolist())) == expected
                prints.add(rows.fingerprint)
    wanted = max(1, len(card.domains)) * sum(split in card.counts for split in ("train", "val", "test"))
    assert len(prints) == wanted, (
        where + "two domains or splits hold the same pictures; tell them apart in options.domain"
    )


def test_the_readmes_table_of_data_sets_is_what_the_cards_say():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    stated = readme.split("<!-- data sets -->\n")[1].split("<!-- end of data sets -->")[0]
    assert stated == cards.markdown(CARDS.values()), "put in what `python -m bench list datasets --format md` prints"
    assert stated.count("\n") == 2 + sum(card.reader != "world" for card in CARDS.values())


def test_the_table_of_data_sets_is_printed_by_its_command(capsys):
    assert main(["list", "datasets", "--format", "md"]) == 0
    assert capsys.readouterr().out == cards.markdown(CARDS.values())


def test_every_shift_of_the_world_has_its_card_and_the_validation_shift_is_no_test():
    shifts = {card.options["shift"] for card in WORLDS if card.name == f"world-{card.options.get('shift')}"}
    assert shifts == set(world.TEST_SHIFTS), "write one card datasets/world-<shift>.toml for each of world.TEST_SHIFTS"
    for suite in SUITES.values():
        if not suite.name.startswith("validation"):
            uses = {cards.split_reference(reference)[0] for reference in (*suite.tests, *filter(None, [suite.source]))}
            assert "world-validation" not in uses, (
                f"{suite.path}: world-validation is for choosing hyper-parameters only"
            )


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_suite_says_what_it_asks_and_can_be_planned(suite):
    where = f"{suite.path}: "
    raw = (cards.home() / "suites" / f"{suite.name}.toml").read_text(encoding="utf-8")
    assert raw.startswith("# "), where + "begin with a comment that says which question the suite answers"
    assert suite.title[0].isupper(), where + "begin the title with a capital letter"
    assert set(tomllib.loads(raw)) >= {"seeds", "shots"}, where + "say seeds and shots, though there are defaults"
    tasks = cards.tasks(suite)
    assert len({task.name + str(task.shots) for task in tasks}) == len(tasks), where + "two tasks have the same name"
    for task in tasks:
        assert task.train is not None
        counts = cards.card(task.train.dataset).counts
        known = "train" in counts or cards.card(task.train.dataset).reader != "world"
        assert known, where + f"{task.train.dataset} has no training pictures; take another source"


def test_the_suites_that_are_promised_are_there():
    promised = {"ood", "ood-full", "few-shot", "base-to-new", "smoke", "spurious", "pacs", "validation"}
    promised |= {"finetune", "finetune-smoke", "validation-finetune", "imagenet-fft", "imagenet-ood"}
    promised |= {"imagenet-ood-masked", "base-to-new-11", "few-shot-11", "cross-dataset", "domainbed", "cifar-shift"}
    assert promised <= set(SUITES)
    full = {cards.split_reference(test)[0] for test in SUITES["ood-full"].tests}
    assert full == {"world-photo", *(f"world-{shift}" for shift in world.TEST_SHIFTS)}
    assert len(SUITES["ood-full"].tests) == 1 + 5 * len(world.TEST_SHIFTS)


def test_a_recipe_of_the_world_asks_in_all_prompts_that_captions_sound_like():
    for name in ("finetune", "validation-finetune"):
        assert SUITES[name].fields["templates"] == list(world.TEMPLATES["objects"])


@pytest.mark.parametrize("suite", [suite for suite in SUITES.values() if suite.fields], ids=lambda suite: suite.name)
def test_a_recipe_names_fields_of_methods_that_fine_tune(suite):
    for form in METHODS.values():
        stated = tune.recipe(form, suite)
        assert set(stated) <= set(form.hyper_parameters())
        if form.method.setting == "fine-tune":
            assert {"epochs", "batch", "warmup"} <= set(stated)


def test_the_choice_of_learning_rates_follows_the_suite_that_they_are_for():
    mine, theirs = SUITES["validation-finetune"].fields, SUITES["finetune"].fields
    assert {key: mine[key] for key in ("epochs", "batch", "templates")} == {
        key: theirs[key] for key in ("epochs", "batch", "templates")
    }


def test_imagenets_recipe_asks_in_the_80_templates_of_clips_authors():
    asked = SUITES["imagenet-fft"].fields["templates"]
    assert asked == [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
    assert len(asked) == 80


def test_the_cards_of_imagenets_family_call_a_class_alike():
    whole = dict(zip(CARDS["imagenet"].options["folders"], CARDS["imagenet"].classes, strict=True))
    assert len(whole) == 1000
    for name in ("imagenet-sketch", "imagenet-a", "imagenet-r"):
        mine = dict(zip(CARDS[name].options["folders"], CARDS[name].classes, strict=True))
        assert mine.items() <= whole.items()
        assert len(mine) == CARDS[name].counts["classes"]
    assert CARDS["imagenet-v2"].classes == CARDS["imagenet"].classes
    assert CARDS["imagenet-v2"].options["folders"] == [str(i) for i in range(1000)]
