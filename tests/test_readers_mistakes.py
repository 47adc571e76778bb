"""A mistake of the user's in each reader of arrays, lists and tables, and in a folder of their own, is one sentence.

It names the file, what is wrong with it, and the remedy.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import readers
from bench.api import Card, Part, UserError

NAMES = ("cat", "dog", "ice cream")


def card(reader: str, options: dict[str, Any], **values: Any) -> Card:
    values = {"classes": NAMES} | values
    return Card(
        "toy", "Toy", reader, ("a {}.",), "MIT", "the toy shop", "toy", options=options, path="toy.toml", **values
    )


def refusal(of: Card, root: Path, split: Any = "test", domain: str | None = None) -> str:
    with pytest.raises(UserError) as raised:
        readers.read(of, Part("toy", split, domain), root)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def unfit(of: Card) -> str:
    with pytest.raises(UserError) as raised:
        readers.check(of)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def pictures(count: int, colours: int = 3, kind: Any = np.uint8) -> np.ndarray:
    return np.zeros((count, 4, 4, colours), kind)


# -- arrays -----------------------------------------------------------------------------------------------------------

NPY = card("arrays", {"pictures": {"test": ["x.npy"]}, "labels": "y.npy"})
BATCH = card("arrays", {"pictures": {"test": ["batch"]}})


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (None, [0, 1], "x.npy is missing; put it there, from the toy shop."),
        (pictures(2), None, "y.npy is missing; put it there"),
        (pictures(3), [0, 1], "3 pictures and 2 labels in"),
        (pictures(2), [0, 3], "labels from 0 to 3 for 3 classes in"),
        (pictures(2), [-1, 0], "labels from -1 to 0 for 3 classes in"),
        (pictures(2), [0.0, 1.0], "y.npy must be a list of whole numbers, the labels"),
        (pictures(2), [[0], [1]], "y.npy must be a list of whole numbers, the labels"),
        (pictures(2, colours=1), [0, 1], "x.npy must be pictures (n, height, width, 3) of bytes"),
        (pictures(2, kind=np.float32), [0, 1], "x.npy must be pictures (n, height, width, 3) of bytes"),
        (np.zeros((2, 48), np.uint8), [0, 1], "x.npy must be pictures (n, height, width, 3) of bytes"),
        (np.array([object()]), [0, 1], "x.npy is damaged ("),
        (b"\x93NUMPY rubbish", [0, 1], "x.npy is damaged"),
        (b"", [0, 1], "x.npy is damaged"),
    ],
)
def test_arrays_that_are_not_pictures_with_labels(toy: Path, x: Any, y: Any, says: str) -> None:
    if isinstance(x, bytes):
        (toy / "x.npy").write_bytes(x)
    elif x is not None:
        np.save(toy / "x.npy", x, allow_pickle=True)
    if y is not None:
        np.save(toy / "y.npy", np.array(y))
    said = refusal(NPY, toy.parent)
    assert says in said
    assert said.endswith(("from the toy shop.", f"in {toy}."))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"labels": [0]}, "batch is no batch of pictures: it must hold data (n, 3072) and labels"),
        ({"data": np.zeros((1, 100), np.uint8), "labels": [0]}, "batch is no batch of pictures"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}, "batch is no batch of pictures"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "batch is no batch of pictures"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 pictures and 1 labels"),
        ({"data": np.zeros((1, 3072)), "labels": [0]}, "must be pictures (n, height, width, 3) of bytes"),
        ([1, 2], "must be pictures (n, height, width, 3) of bytes"),
        (print, "is not read: it asks for __builtin__.print, and pictures need no code"),
    ],
)
def test_batches_that_are_none(toy: Path, content: Any, says: str) -> None:
    (toy / "batch").write_bytes(pickle.dumps(content, protocol=2))
    assert says in refusal(BATCH, toy.parent)


def test_a_batch_that_is_cut_off_is_damaged(toy: Path) -> None:
    whole = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}, protocol=2)
    (toy / "batch").write_bytes(whole[: len(whole) // 2])
    assert "batch is damaged (" in refusal(BATCH, toy.parent)
    assert "has no train pictures" in refusal(BATCH, toy.parent, "train")


SHIFTS = {"pictures": {"test": ["{shift}.npy"]}, "labels": "y.npy", "severities": 5}


def test_severities_that_do_not_divide_the_file(toy: Path) -> None:
    np.save(toy / "fog.npy", pictures(7))
    np.save(toy / "y.npy", np.zeros(7, int))
    shifted = card("arrays", SHIFTS, domains=("fog-1", "fog-5"))
    assert "fog.npy must hold 5 severities of equal size, not 7 pictures" in refusal(
        shifted, toy.parent, domain="fog-5"
    )


@pytest.mark.parametrize(
    ("options", "values", "says"),
    [
        (SHIFTS, {"domains": ("fog-6",)}, "toy.toml: domain 'fog-6' must end in a severity, -1 to -5."),
        (SHIFTS, {"domains": ("fog",)}, "toy.toml: domain 'fog' must end in a severity, -1 to -5."),
        (SHIFTS, {}, "toy.toml: domains, options.severities and a {shift} in options.pictures go together"),
        (NPY.options, {"domains": ("fog-1",)}, "go together; give all or none."),
        (NPY.options, {"classes": ()}, "toy.toml: classes is missing; arrays hold numbers only"),
        ({}, {}, "toy.toml: options: pictures is missing; add it"),
        ({"pictures": {"tests": ["x.npy"]}}, {}, "toy.toml: options: pictures must be a table from split"),
        ({"pictures": {"test": ["../x.npy"]}}, {}, "toy.toml: options: pictures must be a table from split"),
    ],
)
def test_a_card_of_arrays_that_does_not_fit_together(options: Any, values: dict[str, Any], says: str) -> None:
    assert says in unfit(card("arrays", options, **values))


# -- text lists -------------------------------------------------------------------------------------------------------

LISTS = card(
    "text-lists",
    {
        "classes": "all.txt",
        "lists": {s: f"{s}.txt" for s in ("train", "val", "test")},
        "images": "jpg",
        "suffix": ".jpg",
    },
    classes=(),
)


@pytest.mark.parametrize(
    ("classes", "lines", "says"),
    [
        (None, "1 F-16A/B", "all.txt is missing; put it there, from the toy shop."),
        ("F-16A/B\n707", None, "test.txt is missing; put it there, from the toy shop."),
        ("F-16A/B\nF-16A/B", "1 F-16A/B", "all.txt must list each class once"),
        ("", "1 F-16A/B", "all.txt must list each class once"),
        ("F-16A/B\n707", "1 707\n2 737", "test.txt, line 2: it must be an image and a class of all.txt, not '2 737'"),
        ("F-16A/B\n707", "1", "test.txt, line 1: it must be an image and a class of all.txt, not '1'"),
        ("F-16A/B\n707", "../../secret 707", "test.txt, line 1: it must be an image and a class of all.txt"),
        ("F-16A/B\n707", "1 707", "1 of 1 pictures are missing in"),
        (b"\xff\xfe\x00", "1 707", "all.txt is not a text file"),
    ],
)
def test_lists_that_are_none(toy: Path, classes: Any, lines: str | None, says: str) -> None:
    if classes is not None:
        (toy / "all.txt").write_bytes(classes if isinstance(classes, bytes) else classes.encode())
    if lines is not None:
        (toy / "test.txt").write_text(lines)
    assert says in refusal(LISTS, toy.parent)


def test_a_card_of_lists_without_a_list_for_each_split() -> None:
    options = LISTS.options | {"lists": {"test": "test.txt"}}
    assert "options: lists must be a table from each of train, val and test" in unfit(card("text-lists", dict(options)))


# -- tables -----------------------------------------------------------------------------------------------------------

TABLE = {"file": "meta.csv", "image": "jpg/{name}", "label": "y", "splits": {"test": {"split": "test"}}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "meta.csv is missing; put it there, from the toy shop."),
        ("name,split\na.jpg,test", "meta.csv: the column 'y' is missing; get it again"),
        ("name,y\na.jpg,1", "meta.csv: the column 'split' is missing; get it again"),
        ("y,split\n1,test", "meta.csv: the column 'name' is missing; get it again"),
        ("name,y,split\na.jpg,3,test", "meta.csv, picture 0: y must be one of the 3 classes"),
        ("name,y,split\nb.jpg,1,train\na.jpg,cat,test", "meta.csv, picture 1: y must be one of the 3 classes"),
        ("name,y,split\n../../a.jpg,1,test", "the image below the folder, not '1' and 'jpg/../../a.jpg'"),
        ("name,y,split\na.jpg,1,test", "1 of 1 pictures are missing in"),
        (b"name,y,split\n\xff,1,test", "meta.csv is not a table with commas"),
        ("name,y,split\n" + "a" * 200_000 + ",1,test", "meta.csv is not a table with commas"),
    ],
)
def test_tables_that_are_none(toy: Path, text: Any, says: str) -> None:
    if text is not None:
        (toy / "meta.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert says in refusal(card("table", TABLE), toy.parent)


def test_a_split_that_the_table_has_not(toy: Path) -> None:
    (toy / "meta.csv").write_text("name,y,split\n")
    assert "has no train pictures: take another source" in refusal(card("table", TABLE), toy.parent, "train")
    assert len(readers.read(card("table", TABLE), Part("toy", "val"), toy.parent)) == 0


@pytest.mark.parametrize(
    ("options", "values", "says"),
    [
        (TABLE, {"classes": ()}, "toy.toml: classes is missing; list the names in the order of the labels."),
        (TABLE | {"values": ["a"]}, {}, "toy.toml: options.values has 1 texts and classes 3 names."),
        (TABLE | {"image": "jpg"}, {}, "toy.toml: options: image must be a path made of columns"),
        (TABLE | {"image": "{0.__class__}"}, {}, "toy.toml: options: image must be a path made of columns"),
        (TABLE | {"image": "{name"}, {}, "toy.toml: options: image must be a path made of columns"),
        (TABLE | {"splits": {"test": {"year": 2016}}}, {}, "toy.toml: options: splits must be a table from split"),
        (TABLE | {"splits": {"test": {"year": {"to": "2016"}}}}, {}, "options: splits must be a table from split"),
    ],
)
def test_a_card_of_a_table_that_does_not_fit_together(options: Any, values: dict[str, Any], says: str) -> None:
    assert says in unfit(card("table", options, **values))


# -- class and domain folders -----------------------------------------------------------------------------------------


def test_keys_must_be_one_for_each_class() -> None:
    said = unfit(card("class-folders", {"keys": ["n1"]}))
    assert said == "toy.toml: options.keys has 1 names and classes has 3; list one key for each class."


@pytest.mark.parametrize(
    ("options", "says"),
    [({"border": 0}, "border must be a whole number of pixels above 0"), ({"others": False}, "others must be true")],
)
def test_options_of_folders_that_mean_nothing(options: dict[str, Any], says: str) -> None:
    assert says in unfit(card("class-folders", options))


# -- a folder of one's own --------------------------------------------------------------------------------------------


def draw(root: Path, *places: str) -> Path:
    for number, place in enumerate(places):
        (root / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / place / f"{number}.png")
    return root


def read(folder: Path, split: Any) -> list[tuple[str, str]]:
    made = readers.images_card(folder)
    rows = readers.read(made, Part(made.name, split))
    return sorted((id_, rows.names[label]) for id_, label in zip(rows.ids, rows.labels.tolist(), strict=True))


def test_folders_of_classes_alone_are_tested(tmp_path: Path) -> None:
    folder = draw(tmp_path / "my pets", "cat", "hot_dog")
    made = readers.images_card(folder)
    assert (made.name, made.title, readers.learns(made)) == ("images-my-pets", "Pictures of my pets", False)
    assert read(folder, "test") == [("cat/0.png", "cat"), ("hot_dog/1.png", "hot dog")]
    assert read(folder, "val") == []


def test_folders_of_splits_are_learnt_from_and_tested(tmp_path: Path) -> None:
    folder = draw(tmp_path, *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("cat", "dog")))
    assert readers.learns(readers.images_card(folder))
    assert read(folder, "train") == [("train/cat/0.png", "cat"), ("train/dog/1.png", "dog")]
    assert read(folder, "val") == [("val/cat/2.png", "cat"), ("val/dog/3.png", "dog")]
    assert read(folder, "test") == [("test/cat/4.png", "cat"), ("test/dog/5.png", "dog")]


def test_without_a_test_folder_validation_pictures_are_tested_and_choose_nothing(tmp_path: Path) -> None:
    folder = draw(tmp_path, "train/cat", "train/dog", "validation/cat", "validation/dog")
    assert read(folder, "test") == [("validation/cat/2.png", "cat"), ("validation/dog/3.png", "dog")]
    assert read(folder, "val") == []


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read(draw(tmp_path, "bus", "train"), "test") == [("bus/0.png", "bus"), ("train/1.png", "train")]


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ([], "holds no two folders of pictures: sort them as "),
        (["cat"], "holds no two folders of pictures: sort them as "),
        (["train/cat", "train/dog"], "has a train folder and no test folder: put the pictures to test on into "),
        (["train/cat", "test/cat", "test/dog"], "train has no pictures of class 'dog': add a folder of that name."),
    ],
)
def test_a_folder_that_cannot_be_run_is_said_so(tmp_path: Path, places: list[str], says: str) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError) as raised:
        readers.images_card(draw(tmp_path / "mine", *places))
    assert str(tmp_path / "mine") in str(raised.value)
    assert says in str(raised.value)


def test_a_place_that_is_no_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(UserError, match="cannot be read as a folder"):
            readers.images_card(place)
