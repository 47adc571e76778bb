"""Every mistake in the cards of data sets and suites, and in split files, gets one sentence with its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mistakes import RUN, Case, Cases, Make, png, put

from bench import cards, records
from bench.__main__ import main

CASES = Cases()
case, mistakes = CASES.one, CASES.each

# -- cards and suites -------------------------------------------------------------------------------------------------

TOY = {
    "name": '"toy"',
    "title": '"Toy"',
    "reader": '"class-folders"',
    "templates": '["a photo of a {}."]',
    "licence": '"MIT"',
    "source": '"the toy shop"',
    "folder": '"toy"',
    "classes": '["cat", "dog"]',
}
QUICK = {
    "name": '"quick"',
    "title": '"Quick"',
    "setting": '"few-shot"',
    "tests": '["toy"]',
    "admits": '["zero-shot", "few-shot"]',
    "backbone": '"world-rn"',
    "shots": "[1]",
    "seeds": "1",
}


def toml(table: dict[str, str], **changes: str | None) -> str:
    """TOML of the table with other values; None leaves a key out."""
    return "".join(f"{key} = {value}\n" for key, value in (table | changes).items() if value is not None)


def home(card: str | bytes = toml(TOY), suite: str | bytes = toml(QUICK)) -> Make:
    """A folder of cards with one data set and one suite."""

    def make(at: Path) -> None:
        (at / "datasets" / "suites").mkdir(parents=True)
        for name, text in (("toy.toml", card), ("suites/quick.toml", suite)):
            (at / "datasets" / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def carded(changes: dict[str, str | None] | str | bytes) -> Make:
    return home(toml(TOY, **changes) if isinstance(changes, dict) else changes)


def suited(changes: dict[str, str | None] | str | bytes) -> Make:
    return home(suite=toml(QUICK, **changes) if isinstance(changes, dict) else changes)


mistakes(
    f"{RUN} --suite quick --data-root @/data",
    ({"clases": '["cat"]'}, "toy.toml", "unknown key 'clases'", "did you mean classes"),
    ({"title": None}, "toy.toml", "title is missing", "add it"),
    ({"title": "3"}, "toy.toml", "title must be a text", "not 3"),
    ({"title": '"a\\u001b[31m"'}, "toy.toml", "title must be a text", r"\x1b"),
    ({"name": '"other"'}, "toy.toml", "name is 'other'", "rename the file to other.toml"),
    ({"name": '"../toy"'}, "toy.toml", "name must be a name of letters", "'../toy'"),
    (
        {"reader": '"class-folder"'},
        "toy.toml",
        "unknown reader 'class-folder'",
        "did you mean class-folders or domain-folders?",
    ),
    ({"reader": "[]"}, "toy.toml", "reader must be one of", "not []"),
    ({"templates": '["a photo."]'}, "toy.toml", "templates must be a list", "one {}"),
    ({"templates": '["a {0.__class__}"]'}, "toy.toml", "templates must be a list"),
    ({"templates": '["a {}", "a {}"]'}, "toy.toml", "templates must be a list of different texts"),
    ({"folder": '"../../etc"'}, "toy.toml", "folder must be a folder below the data root"),
    ({"folder": '"/etc"'}, "toy.toml", "folder must be a folder below the data root"),
    ({"folder": '"~/toy"'}, "toy.toml", "folder must be a folder below the data root"),
    ({"classes": '["cat", 3]'}, "toy.toml", "classes must be a list of class names"),
    ({"classes": '["cat", ""]'}, "toy.toml", "classes must be a list of class names"),
    ({"classes": '["cat", " "]'}, "toy.toml", "classes must be a list of class names"),
    ({"classes": "[]"}, "toy.toml", "classes must be a list of class names"),
    ({"counts": "{ test = -1 }"}, "toy.toml", "counts must be a table of whole numbers above 0"),
    ({"counts": "{ tset = 1 }"}, "toy.toml", "unknown key 'tset' in counts", "did you mean test"),
    ({"counts": "{ classes = 3 }"}, "toy.toml", "counts.classes is 3", "mend one of them"),
    ({"options": "{ bordr = 1 }"}, "toy.toml", "options: unknown key 'bordr'", "did you mean border or folders?"),
    ({"options": '{ splits = { test = "/etc" } }'}, "toy.toml", "options: splits must be a table"),
    ({"obtain": "{}"}, "toy.toml", "obtain: how is missing", "add it"),
    (toml(TOY) + 'title = "again"\n', "toy.toml", "is not a TOML file", "Cannot overwrite a value"),
    (b"\xff\xfe", "toy.toml", "is not a TOML file"),
    (b"a = [" * 5000, "toy.toml", "is not a TOML file"),
    (b"a" + b".a" * 2_000 + b" = 1", "toy.toml", "unknown key 'a'", "known are"),
    ("", "toy.toml", "name is missing", "add it"),
    make=carded,
)
mistakes(
    f"{RUN} --suite quick --data-root @/data",
    ({"setting": '"one-shot"'}, "quick.toml", "setting must be one of domain-shift"),
    ({"tests": '["tox"]'}, "quick.toml", "unknown data set 'tox'", "did you mean toy?"),
    ({"tests": '["toy", "toy"]'}, "quick.toml", "tests must be a list of different data sets"),
    ({"tests": '["toy:x"]'}, "quick.toml", "has no domains: leave out 'x'"),
    ({"tests": '["../toy"]'}, "quick.toml", "unknown data set '../toy'"),
    ({"admits": '["zeroshot"]'}, "quick.toml", "admits must be a list of different settings"),
    ({"shots": "[-1]"}, "quick.toml", "shots must be a list of different whole numbers"),
    ({"seeds": "true"}, "quick.toml", "seeds must be a whole number from 1 to 10000, not True"),
    ({"seeds": "99999999999999999999"}, "quick.toml", "seeds must be a whole number from 1 to 10000"),
    ({"limit": "0"}, "quick.toml", "limit must be a whole number above 0"),
    ({"shotz": "[1]"}, "quick.toml", "unknown key 'shotz'", "did you mean shots?"),
    ({"setting": None}, "quick.toml", "setting is missing", "add it"),
    ({"fields": "{ lrr = 1 }"}, "quick.toml", "has the field 'lrr'", "did you mean lr"),
    ({"name": '"fast"'}, "quick.toml", "name is 'fast'", "rename the file to fast.toml"),
    ({"backbone": '"world-rm"'}, "unknown backbone 'world-rm'", "did you mean world-rn or world-vit?"),
    (toml(QUICK) + "seeds = 2\n", "quick.toml", "is not a TOML file"),
    make=suited,
)

# -- split files ------------------------------------------------------------------------------------------------------

ROWS = {"train": [["c.png", 0, "cat"], ["d.png", 1, "dog"]], "val": [], "test": [["a.png", 0, "cat"]]}
SPLIT = toml(TOY, reader='"split-file"', classes=None, options='{ file = "split.json" }')


def split(content: Any) -> Make:
    """A data set of the split file's kind whose file holds this."""

    def make(at: Path) -> None:
        home(SPLIT)(at)
        (at / "data" / "toy").mkdir(parents=True)
        for name in ("a.png", "c.png", "d.png"):
            (at / "data" / "toy" / name).write_bytes(png())
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (at / "data" / "toy" / "split.json").write_bytes(raw)

    return make


def rows(*test: Any, **others: Any) -> dict[str, Any]:
    return ROWS | {"test": list(test)} | others


FILE = "@/data/toy/split.json"
ENTRY = "must be [path below the image folder, label from 0, class name]"
mistakes(
    f"{RUN} --suite quick --data-root @/data --methods zero-shot",
    (b"", f"{FILE} is not a JSON file", "fetch it again"),
    (b"{", f"{FILE} is not a JSON file", "fetch it again"),
    (b"\xff\xfe\x00", f"{FILE} is not a JSON file", "fetch it again"),
    (b"[" * 100_000, f"{FILE} is not a JSON file", "fetch it again"),
    (b'{"train": [["a.png", ' + b"9" * 5000 + b', "cat"]]}', f"{FILE} is not a JSON file", "fetch it again"),
    ([], f"{FILE} is not a split file", "the lists train, val and test"),
    ({"train": [], "val": []}, f"{FILE} is not a split file", "the lists train, val and test"),
    (ROWS | {"val": {}}, f"{FILE} is not a split file", "the lists train, val and test"),
    (b"NaN", f"{FILE} is not a split file", "the lists train, val and test"),
    ({"train": [], "val": [], "test": []}, FILE, "labels must be 0, 1, 2 and so on"),
    (rows(["a.png", 0]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["../../a.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY, "'../../a.png'"),
    (rows(["/etc/passwd", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY, "'/etc/passwd'"),
    (rows(["~/a.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["C:\\a.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a\0.png", 0, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows([0, "a.png", "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", -1, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0.5, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", True, "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", "0", "cat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, 7]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, None]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, ""]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "  "]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "_"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "c\x1b[31mat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "c\u202eat"]), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "\ud800"]), f"{FILE} is not a JSON file", "surrogates", "fetch it again"),
    (rows({"path": "a.png"}), f"{FILE}: entry 0 of test", ENTRY),
    (rows(["a.png", 0, "dog"]), f"{FILE}: label 0 is called 'cat' and 'dog'", "give it one name"),
    (rows(["a.png", 5, "eel"]), FILE, "labels must be 0, 1, 2 and so on without gaps"),
    (rows(["a.png", 10**18, "eel"]), FILE, "labels must be 0, 1, 2 and so on without gaps"),
    (rows(["a.png", 0, "cat"], ["a.png", 1, "dog"]), FILE, "'a.png' stands twice, in test and in test", "keep one"),
    (rows(["c.png", 0, "cat"]), FILE, "'c.png' stands twice, in train and in test", "keep one"),
    (rows(["none.png", 0, "cat"]), "1 of 1 pictures are missing", "none.png", "get them"),
    make=split,
)


@pytest.mark.parametrize("one", CASES, ids=CASES.named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(one: Case, answered) -> None:
    answered(one)


def test_a_class_name_of_10_000_letters_is_cut_to_the_context_and_answered(tmp_path: Path, capsys) -> None:
    names = ["ab" * 5000, "b " * 5000 + "b"]
    paths = {"train": [["c.png", 0, names[0]], ["d.png", 1, names[1]]], "val": [], "test": [["a.png", 0, names[0]]]}
    split(paths)(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "home", lambda: tmp_path / "datasets")
        words = f"{RUN} --suite quick --data-root @/data --methods zero-shot"
        assert main(put(words, tmp_path)) == 0, capsys.readouterr().err
    (record,) = records.scan(tmp_path / "results").records
    assert record.classes == tuple(names)
