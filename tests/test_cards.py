"""What is wrong in a card or a suite is said in one sentence; what is right becomes tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import cards
from bench.api import Card, Download, Obtain, Part, Suite, Task, UserError

CARD = """
name = "toy"
title = "Toy"
reader = "class-folders"
templates = ["a photo of a {}."]
licence = "MIT"
source = "nowhere"
"""
DOMAINS = CARD.replace("class-folders", "domain-folders").replace("toy", "media") + 'domains = ["photo", "sketch"]\n'
SUITE = """
name = "quick"
title = "Quick"
setting = "few-shot"
tests = ["toy"]
admits = ["zero-shot", "few-shot"]
backbone = "world-rn"
"""
SHIFT = SUITE.replace("few-shot", "domain-shift", 1).replace('"toy"', '"media:sketch"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suites").mkdir()
    (tmp_path / "toy.toml").write_text(CARD)
    (tmp_path / "media.toml").write_text(DOMAINS)
    (tmp_path / "suites" / "quick.toml").write_text(SUITE)
    return tmp_path


def complaint(folder: Path, what: str, text: str) -> str:
    """What is said about a card or suite of this text."""
    file = folder / ("toy.toml" if what == "card" else "suites/quick.toml")
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        cards.card("toy", folder) if what == "card" else cards.suite("quick", folder)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"{file.parent.name}/{file.name}")
    return sentence


# -- cards ----------------------------------------------------------------------------------------------------


def test_a_card_is_read_with_its_defaults(folder: Path):
    card = cards.card("toy", folder)
    shown = f"{folder.name}/toy.toml"
    expected = Card("toy", "Toy", "class-folders", ("a photo of a {}.",), "MIT", "nowhere", path=shown)
    assert card == expected
    assert list(cards.cards(folder)) == ["media", "toy"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("title = ", "titel = "), "unknown key 'titel'; did you mean title?"),
        (('"Toy"', "3"), "title must be a text that is not empty, not 3."),
        (('"Toy"', '" "'), "title must be a text that is not empty, not ' '."),
        (('licence = "MIT"\n', ""), "licence is missing; add it: a text that is not empty."),
        (("class-folders", "class-folder"), "unknown reader 'class-folder'; did you mean class-folders"),
        (("a {}.", "a dog."), "templates must be a list of different texts with one {} for the class name"),
        (("a {}.", "a {0}."), "templates must be a list of different texts with one {} for the class name"),
        (('"toy"', '"toys"'), "name is 'toys'; rename the file to toys.toml or change the name."),
        (('"toy"', '"to/y"'), "name must be a name of letters, digits, '-', '_' and '.', not 'to/y'."),
        (('"nowhere"', '"nowhere"\nfolder = "../x"'), "folder must be a folder below the data root"),
        (('"nowhere"', '"nowhere"\nclasses = []'), "classes must be a list of class names"),
        (('"nowhere"', '"nowhere"\ncounts = { test = 0 }'), "counts must be a table of whole numbers above 0"),
        (('"nowhere"', '"nowhere"\ncounts = { tests = 1 }'), "unknown key 'tests' in counts; did you mean test?"),
        (('"nowhere"', '"nowhere"\ndomains = ["a"]'), "domains must be left out; the reader class-folders knows none."),
        (('"nowhere"', '"nowhere"\noptions = { flt = "test" }'), "options: unknown key 'flt'; did you mean flat?"),
        (
            ('"nowhere"', '"nowhere"\noptions = { flat = "all" }'),
            "options: flat must be one of train, test, not 'all'.",
        ),
        (
            ('"nowhere"', '"nowhere"\nclasses = ["a"]\ncounts = { classes = 2 }'),
            "counts.classes is 2, but classes lists 1",
        ),
        (('"nowhere"', '"nowhere"\noptions = { folders = ["a"] }'), "options.folders has 1 names and classes has 0"),
        (("class-folders", "domain-folders"), "domains is missing; the reader domain-folders needs"),
        (("class-folders", "split-file"), "options: file is missing; add it: the split file below the folder"),
        (("class-folders", "world"), "options: variant is missing; add it: one of objects"),
        (('"MIT"', '"MIT'), "is not a TOML file: "),
    ],
)
def test_a_mistake_in_a_card_is_one_sentence(folder: Path, change: tuple[str, str], expected: str):
    assert change[0] in CARD
    assert expected in complaint(folder, "card", CARD.replace(*change))


WORLD = CARD.replace("class-folders", "world")


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (
            'options = { variant = "objects" }',
            "counts.test is missing; the world draws as many test pictures as it says.",
        ),
        (
            'counts = { test = 9 }\noptions = { variant = "objects", shift = "skech" }',
            "options: shift must be one of sketch",
        ),
        (
            'counts = { test = 9 }\noptions = { variant = "objects", shift = "sketch" }',
            "severity is missing in options",
        ),
        (
            'counts = { test = 9 }\noptions = { variant = "objects", spurious = 2 }',
            "spurious must be a share between 0 and 1, not 2.",
        ),
        (
            'counts = { test = 9 }\noptions = { variant = "objects", seed = true }',
            "seed must be a whole number from 0, not True.",
        ),
        (
            'counts = { test = 9 }\noptions = { variant = "objects", domain = { x = {} } }',
            "options.domain.x is no domain of the card",
        ),
        (
            'domains = ["x"]\ncounts = { test = 9 }\noptions = { variant = "objects", domain = { x = { y = 1 } } }',
            "options.domain.x: unknown key 'y'",
        ),
    ],
)
def test_a_mistake_in_a_card_of_the_world_is_one_sentence(folder: Path, rest: str, expected: str):
    assert expected in complaint(folder, "card", WORLD + rest)


def test_two_cards_of_one_name_name_each_other(folder: Path):
    (folder / "zoo.toml").write_text(CARD)
    with pytest.raises(UserError, match=r"zoo.toml: the name 'toy' is taken by .*toy.toml already; rename one\."):
        cards.cards(folder)


def test_an_unknown_data_set_is_answered_with_the_likely_one(folder: Path):
    with pytest.raises(UserError, match=r"unknown data set 'tox'; did you mean toy\?"):
        cards.card("tox", folder)
    with pytest.raises(UserError, match="unknown suite 'slow'; known are: quick"):
        cards.suite("slow", folder)


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a = [" * 5000, b"\x00", b"name = 1979-05-27", b"name = nan"])
def test_a_card_that_is_no_toml_is_one_sentence(folder: Path, raw: bytes):
    (folder / "toy.toml").write_bytes(raw)
    with pytest.raises(UserError, match=r"toy\.toml"):
        cards.card("toy", folder)


def said(action: Callable[[], object]) -> str:
    """The user's mistake in one sentence, or nothing; any other exception passes through."""
    try:
        action()
    except UserError as error:
        return str(error)
    return ""


def toml(value: object) -> str:
    """A value in TOML, inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value) + '"'
    return repr(value)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain = (
    words
    | st.integers(-(10**20), 10**20)
    | st.booleans()
    | st.floats()
    | st.sampled_from(["toy", "world", "{}", "a {}", "..", "a:b"])
)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@anywhere
@given(
    key=st.sampled_from(list(cards.CARD)),
    value=values,
    base=st.sampled_from([CARD, DOMAINS.replace("media", "toy"), WORLD]),
)
def test_whatever_a_card_holds_there_is_no_traceback(folder: Path, key: str, value: object, base: str):
    lines = [line for line in base.splitlines() if not line.startswith(key + " ")]
    (folder / "toy.toml").write_text("\n".join([*lines, f"{key} = {toml(value)}"]))
    assert "\n" not in said(lambda: cards.card("toy", folder))


@anywhere
@given(key=st.sampled_from(list(cards.SUITE)), value=values, base=st.sampled_from([SUITE, SHIFT]))
def test_whatever_a_suite_holds_there_is_no_traceback(folder: Path, key: str, value: object, base: str):
    lines = [line for line in base.splitlines() if not line.startswith(key + " ")]
    (folder / "suites" / "quick.toml").write_text("\n".join([*lines, f"{key} = {toml(value)}"]))
    assert "\n" not in said(lambda: cards.tasks(cards.suite("quick", folder)))


# -- suites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ('"few-shot"\ntests', '"one-shot"\ntests'),
            "setting must be one of domain-shift, few-shot, base-to-new, not 'one-shot'.",
        ),
        (('["zero-shot", ', '["zeroshot", '), "admits must be a list of different settings out of zero-shot, few-shot"),
        (('"world-rn"', '""'), "backbone must be the name of a backbone"),
        (('["toy"]', '["tox"]'), "tests names 'tox': unknown data set 'tox'; did you mean toy?"),
        (('["toy"]', '["toy:photo"]'), "tests names 'toy:photo': data set toy has no domains: leave out 'photo'."),
        (('["toy"]', '["media"]'), "tests names 'media': data set media has domains: name one, such as media:photo."),
        (
            ('["toy"]', '["media:foto"]'),
            "tests names 'media:foto': data set media has no domain 'foto'; did you mean photo?",
        ),
        (
            ('["toy"]', '["media:photo"]'),
            "'media:photo' has one split only and cannot be learnt from and tested on at once",
        ),
        (('["toy"]', '["toy"]\nsource = "toy"'), "source must be left out"),
        (
            ('["toy"]', '["toy"]\nshots = [-1]'),
            "shots must be a list of different whole numbers, 0 for all pictures, not [-1].",
        ),
        (
            ('["toy"]', '["toy"]\nshots = [true]'),
            "shots must be a list of different whole numbers, 0 for all pictures, not [True].",
        ),
        (('["toy"]', '["toy"]\nseeds = 0'), "seeds must be a whole number from 1 to 10000, not 0."),
        (
            ('["toy"]', '["toy"]\nlimit = -1'),
            "limit must be a whole number above 0 (leave it out for all pictures), not -1.",
        ),
        (('["toy"]', '["toy", "toy"]'), "tests must be a list of different data sets"),
        (('"few-shot"\ntests', '"domain-shift"\ntests'), "source is missing"),
    ],
)
def test_a_mistake_in_a_suite_is_one_sentence(folder: Path, change: tuple[str, str], expected: str):
    assert change[0] in SUITE
    assert expected in complaint(folder, "suite", SUITE.replace(*change))


def test_a_suite_that_learns_and_tests_on_the_same_domain_is_refused(folder: Path):
    text = SHIFT + 'source = "media:sketch"\n'
    assert "has one split only" in complaint(folder, "suite", text)
    (folder / "suites" / "quick.toml").write_text(text.replace('source = "media:sketch', 'source = "media:photo'))
    assert cards.suite("quick", folder).source == "media:photo"


def suite_of(setting: str, **values) -> Suite:
    return Suite("s", "S", setting, ("a", "b:3"), ("zero-shot",), "world-rn", **values)  # type: ignore[arg-type]


def test_a_domain_shift_learns_on_the_source_and_answers_on_each_test():
    tasks = cards.tasks(suite_of("domain-shift", source="c:photo", shots=(4, 16), limit=9))
    source = Part("c", "train", "photo")
    tests = [Part("a", "test"), Part("b", "test", "3")]
    assert tasks == [Task(test, source, k, 9) for k in (4, 16) for test in tests]


def test_few_shot_learns_on_what_it_tests():
    tasks = cards.tasks(suite_of("few-shot", shots=(1,)))
    assert tasks == [
        Task(Part("a", "test"), Part("a", "train"), 1),
        Task(Part("b", "test", "3"), Part("b", "train", "3"), 1),
    ]


def test_base_to_new_learns_on_the_base_half_and_answers_on_both():
    tasks = cards.tasks(replace(suite_of("base-to-new"), tests=("a",)))
    train = Part("a", "train", None, "base")
    assert tasks == [Task(Part("a", "test", None, half), train, 16) for half in ("base", "new")]


def test_shots_replace_those_of_the_suite_and_0_stands_for_all_pictures():
    suite = suite_of("few-shot")
    assert {task.shots for task in cards.tasks(suite, [2, 3])} == {2, 3}
    assert {task.name.split(" @")[1] for task in cards.tasks(suite, [0])} == {"all"}
    with pytest.raises(UserError, match=r"shots must be 0 \(all pictures\) or more, not -1"):
        cards.tasks(suite, [-1])


def test_without_support_all_shots_and_sources_are_one_task():
    shift, few = suite_of("domain-shift", source="c", shots=(1, 16)), suite_of("few-shot", shots=(1, 2, 4))
    bare = {cards.unsupported(task) for suite in (shift, few) for task in cards.tasks(suite)}
    assert bare == {Task(Part("a", "test")), Task(Part("b", "test", "3"))}


def test_the_cards_are_found_beside_the_package_or_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "site-packages" / "bench"
    package.mkdir(parents=True)
    monkeypatch.setattr(cards, "__file__", str(package / "cards.py"))
    other_library = package.parent / "datasets"
    other_library.mkdir()
    assert cards.home() == package / "datasets"
    (other_library / "suites").mkdir()
    (other_library / "suites" / "ood.toml").touch()
    assert cards.home() == other_library


# -- how a data set is obtained ------------------------------------------------------------------------------------


OBTAIN = (
    CARD
    + """
[obtain]
how = \"\"\"
1. Get it.
2. Put it into toy/.
\"\"\"
torchvision = "DTD"
hub = "owner/name"
urls = [{ url = "https://a.org/b.tar", sha256 = "HASH", extract = "toy" }, { url = "http://a.org/c.npy" }]
""".replace("HASH", "0" * 64)
)


def test_a_card_says_how_its_data_is_obtained(folder: Path):
    (folder / "toy.toml").write_text(OBTAIN)
    assert cards.card("toy", folder).obtain == Obtain(
        "1. Get it.\n2. Put it into toy/.",
        "DTD",
        "owner/name",
        (Download("https://a.org/b.tar", "0" * 64, "toy"), Download("http://a.org/c.npy")),
    )
    assert cards.card("media", folder).obtain is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('torchvision = "DTD"', 'torchvison = "DTD"', "obtain: unknown key 'torchvison'; did you mean torchvision?"),
        ('torchvision = "DTD"', 'torchvision = "datasets.DTD"', "obtain: torchvision must be the name of a class"),
        ('hub = "owner/name"', 'hub = "name"', "obtain: hub must be owner/name on the Hugging Face hub"),
        ('hub = "owner/name"', 'hub = "../name"', "obtain: hub must be owner/name on the Hugging Face hub"),
        ("how = ", "why = ", "obtain: unknown key 'why'"),
        ('"https://a.org/b.tar"', '"ftp://a.org/b.tar"', "obtain.urls[0]: url must be an address that begins with"),
        ('"https://a.org/b.tar"', '"https://a.org/b c"', "obtain.urls[0]: url must be an address that begins with"),
        ("0" * 64, "0" * 63, "obtain.urls[0]: sha256 must be 64 lower-case hexadecimal digits"),
        ("0" * 64, "A" * 64, "obtain.urls[0]: sha256 must be 64 lower-case hexadecimal digits"),
        ('extract = "toy"', 'extract = "../toy"', "obtain.urls[0]: extract must be a folder below the data root"),
        ('{ url = "http://a.org/c.npy" }', '"http://a.org/c.npy"', "obtain.urls[1] must be a table, such as {url"),
        ('{ url = "http://a.org/c.npy" }', "{}", "obtain.urls[1]: url is missing; add it"),
    ],
)
def test_what_is_wrong_about_obtaining_is_said(folder: Path, old: str, new: str, says: str):
    assert old in OBTAIN
    assert says in complaint(folder, "card", OBTAIN.replace(old, new))
