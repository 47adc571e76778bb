"""`data check` and `data list`: what is on the disk against what the cards say, file by file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cards
from bench.__main__ import main
from bench.api import Card
from bench.data.check import COMPARE, SHOWN, Checked, check

CLASSES = ("cat", "dog", "ferret")


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def pets(root: Path, each: int = 4, **changes) -> Card:
    """Class folders that are as the card says."""
    for name in CLASSES:
        for i in range(each):
            picture(root / "pets" / name / f"{i}.png", i)
    about: dict = {
        "classes": CLASSES,
        "counts": {"classes": 3, "test": 3 * each},
        "options": {"flat": "test"},
        **changes,
    }
    return Card("pets", "Pets", "class-folders", ("a {}.",), "MIT", "https://pets.org", folder="pets", **about)


def whats(result: Checked) -> list[str]:
    return [problem.what for problem in result.problems]


def test_a_data_set_that_is_as_its_card_says_is_right(tmp_path: Path) -> None:
    assert check(pets(tmp_path), tmp_path, 0) == Checked("pets", "right", {"test": 12}, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_picture_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, workers: int) -> None:
    card = pets(tmp_path, each=60)
    spoilt = [tmp_path / "pets" / "cat" / "3.png", tmp_path / "pets" / "ferret" / "59.png"]
    spoilt[0].write_bytes(b"")
    spoilt[1].write_bytes(spoilt[1].read_bytes()[:90])
    told: list[tuple[str, int, int]] = []
    result = check(card, tmp_path, workers, lambda *words: told.append(words))
    assert result.status == "wrong"
    assert {problem.file for problem in result.problems} == {"cat/3.png", "ferret/59.png"}
    assert f"{spoilt[0]} is not a picture that can be read (the file is empty)." in whats(result)
    assert all(problem.do.startswith("replace the file") for problem in result.problems)
    assert told[-1] == ("opening pets", 180, 180)


def test_counts_and_strange_folders_are_named(tmp_path: Path) -> None:
    card = pets(tmp_path)
    (tmp_path / "pets/dog/3.png").unlink()
    picture(tmp_path / "pets/unicorn/1.png")
    result = check(card, tmp_path, 0)
    assert (result.status, result.pictures) == ("wrong", {"test": 11})
    assert "pets: 11 pictures of test found, 12 expected." in whats(result)
    assert any("unicorn" in what for what in whats(result))


def test_a_class_without_a_folder_is_named(tmp_path: Path) -> None:
    card = pets(tmp_path)
    for path in (tmp_path / "pets/dog").iterdir():
        path.unlink()
    (what,) = whats(check(card, tmp_path, 0))
    assert "no pictures of class 'dog'" in what


def test_the_total_over_domains_is_compared(tmp_path: Path) -> None:
    for domain in ("photo", "sketch"):
        for name in CLASSES:
            picture(tmp_path / "media" / domain / name / "1.png")
    card = Card(
        "media",
        "Media",
        "domain-folders",
        ("a {}.",),
        "MIT",
        "https://media.org",
        folder="media",
        classes=CLASSES,
        domains=("photo", "sketch"),
        counts={"photo": 3, "total": 7},
    )
    result = check(card, tmp_path, 0)
    assert result.pictures == {"photo": 3, "sketch": 3}
    assert whats(result) == ["media: 6 pictures found in all, 7 expected."]


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Card]:
    """A data set with a split file; the pictures are there but for those that are left out."""

    def make(without: tuple[str, ...] = (), sha256: str | None = None) -> Card:
        base = tmp_path / "listed"
        split = {
            part: [[f"{name}/{part}{i}.png", label, name] for label, name in enumerate(CLASSES) for i in range(2)]
            for part in ("train", "val", "test")
        }
        for rows in split.values():
            for path, *_ in rows:
                if path not in without:
                    picture(base / "images" / path)
        (base / "split.json").write_text(json.dumps(split))
        sha256 = sha256 or hashlib.sha256((base / "split.json").read_bytes()).hexdigest()
        return Card(
            "listed",
            "Listed",
            "split-file",
            ("a {}.",),
            "MIT",
            "https://listed.org",
            folder="listed",
            counts={"classes": 3, "train": 6, "val": 6, "test": 6},
            options={"file": "split.json", "images": "images", "sha256": sha256},
        )

    return make


def test_all_splits_of_a_list_are_checked(listed, tmp_path: Path) -> None:
    assert check(listed(), tmp_path, 0) == Checked("listed", "right", {"train": 6, "val": 6, "test": 6}, 3)


def test_every_listed_picture_that_is_missing_is_named_and_the_others_are_opened_still(listed, tmp_path: Path) -> None:
    card = listed(without=("cat/train0.png", "dog/test1.png", "ferret/test0.png"))
    images = tmp_path / "listed" / "images"
    (images / "cat/test0.png").write_bytes(b"broken")
    result = check(card, tmp_path, 0)
    assert set(whats(result)) == {
        f"{images / 'cat/train0.png'} is listed and is not there.",
        f"{images / 'dog/test1.png'} is listed and is not there.",
        f"{images / 'ferret/test0.png'} is listed and is not there.",
        f"{images / 'cat/test0.png'} is not a picture that can be read (its bytes are of no known format).",
    }
    assert result.pictures == {"train": 5, "val": 6, "test": 4}


def test_a_split_file_that_is_not_the_published_one_is_said_once(listed, tmp_path: Path) -> None:
    (what,) = whats(check(listed(sha256="0" * 64), tmp_path, 0))
    assert "split.json is not the published file" in what


def test_pictures_that_are_drawn_need_no_check() -> None:
    assert check(cards.card("world-photo"), Path("/nowhere"), 0) == Checked("world-photo", "drawn")


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cards, `pets` and `bees`; what is below root is up to the test."""
    folder = tmp_path / "datasets"
    (folder / "suites").mkdir(parents=True)
    for name in ("pets", "bees"):
        (folder / f"{name}.toml").write_text(f"""
name = "{name}"
title = "Some {name}"
reader = "class-folders"
templates = ["a photo of a {{}}."]
licence = "MIT"
source = "https://{name}.org"
folder = "{name}"
classes = ["cat", "dog", "ferret"]
[counts]
classes = 3
test = 12
[options]
flat = "test"
[obtain]
how = "Get {name}.zip and unpack it."
""")
    monkeypatch.setattr(cards, "home", lambda: folder)
    return tmp_path / "root"


Said = pytest.CaptureFixture[str]


def checked(root: Path, *words: str) -> int:
    return main(["data", "check", *words, "--data-root", str(root), "--workers", "0"])


def test_exit_code_0_where_all_is_right(home: Path, capsys: Said) -> None:
    pets(home)
    assert checked(home, "pets") == 0
    assert capsys.readouterr().out == "pets: all right (3 classes, pictures: test 12)\n"


def test_exit_code_1_and_a_line_for_each_thing_where_something_is_wrong(home: Path, capsys: Said) -> None:
    pets(home)
    (home / "pets/cat/0.png").write_bytes(b"")
    (home / "pets/dog/0.png").unlink()
    assert checked(home, "pets") == 1
    assert capsys.readouterr().out.splitlines() == [
        "pets: 2 things wrong (3 classes, pictures: test 11)",
        "    pets: 11 pictures of test found, 12 expected.",
        f"    -> {COMPARE}",
        f"    {home}/pets/cat/0.png is not a picture that can be read (the file is empty).",
        "    -> replace the file, or leave such pictures out by --on-bad-image skip.",
    ]


def test_a_data_set_that_is_asked_for_and_not_there_is_wrong_and_its_steps_are_told(home: Path, capsys: Said) -> None:
    pets(home)
    assert checked(home, "pets", "bees") == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"bees: not there: {home}/bees is not a folder.",
        "    bees belongs in DATA_ROOT/bees: Get bees.zip and unpack it.",
    ]


def test_all_means_those_that_are_there(home: Path, capsys: Said) -> None:
    pets(home)
    assert checked(home, "all") == 0
    assert "bees" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pest"], "unknown data set 'pest'; did you mean pets or bees?"),
        (["all"], "holds the folder of no data set: see `python -m bench data list`."),
    ],
)
def test_exit_code_2_for_a_mistake(home: Path, capsys: Said, words: list[str], sentence: str) -> None:
    home.mkdir()
    assert checked(home, *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_data_root_that_is_no_folder_is_a_mistake(home: Path, capsys: Said) -> None:
    assert checked(home, "all") == 2
    assert f"data root {home} is not a folder" in capsys.readouterr().err


def test_many_things_of_a_kind_are_counted_and_json_has_them_all(home: Path, capsys: Said) -> None:
    pets(home, each=SHOWN)
    for path in (home / "pets").rglob("*.png"):
        path.write_bytes(b"")
    assert checked(home, "pets") == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum("the file is empty" in line for line in lines) == SHOWN
    assert f"    and {2 * SHOWN} more like these; --json lists them all" in lines
    assert checked(home, "pets", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["exit"], said["root"]) == (1, str(home))
    (about,) = said["data"]
    assert (about["name"], about["status"], about["pictures"], about["classes"]) == ("pets", "wrong", {"test": 60}, 3)
    assert len(about["problems"]) == 61
    assert about["problems"][1].keys() == {"file", "what", "do"}


def test_the_list_says_what_there_is_and_what_is_found(home: Path, capsys: Said) -> None:
    pets(home)
    assert main(["data", "list", "--data-root", str(home)]) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines() if "class-folders" in line]
    assert rows == [
        ["bees", "class-folders", "12", "3", "no", "MIT"],
        ["pets", "class-folders", "12", "3", "yes", "MIT"],
    ]
    assert main(["data", "list", "--json"]) == 0
    about = {"kind": "class-folders", "pictures": 12, "classes": 3, "found": None, "licence": "MIT"}
    assert json.loads(capsys.readouterr().out) == [{"name": "bees", **about}, {"name": "pets", **about}]


def test_the_list_of_all_cards_can_be_made(capsys: Said, tmp_path: Path) -> None:
    assert main(["data", "list", "--data-root", str(tmp_path), "--json"]) == 0
    said = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(said) == set(cards.cards())
    assert (said["pacs"]["pictures"], said["pacs"]["classes"], said["pacs"]["found"]) == (9991, 7, False)
    assert said["office-home"]["pictures"] == 15588
    assert said["world-photo"]["found"] is None


@pytest.mark.realdata
def test_the_real_pictures_at_hand_can_be_read_and_only_their_number_differs(realdata: Path) -> None:
    result = check(cards.card("pacs"), realdata, 2)
    assert sum(result.pictures.values()) == 560
    assert all("pictures of" in what or "in all" in what for what in whats(result))
