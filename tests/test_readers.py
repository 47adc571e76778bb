"""Layouts on disk, made here from real picture files; the real data sets; the world."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from bench import cards, readers, world
from bench.api import Card, NotRunnable, Part, UserError
from bench.readers import drawn, split_file
from bench.sampling import few_shot, halves

COLOURS = {"cat": (250, 0, 0), "dog": (0, 250, 0), "ice_cream": (0, 0, 250)}


def card(reader: str, **values: Any) -> Card:
    return Card(
        "toy", "Toy", reader, ("a photo of a {}.",), "MIT", "the toy shop", "toy", path="datasets/toy.toml", **values
    )


def picture(file: Path, colour: tuple[int, int, int] = (9, 9, 9), mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), colour).convert(mode).save(file)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """toy/{train,val,test}/<class>/<i>.png with 3, 1 and 2 pictures a class, each class of one colour."""
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for name, colour in COLOURS.items():
            for i in range(count):
                picture(tmp_path / "toy" / split / name / f"{i}.png", colour)
    return tmp_path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """toy/<domain>/<class>/<i>.png with 2 pictures a class."""
    for domain in ("photo", "sketch"):
        for name, colour in COLOURS.items():
            for i in range(2):
                picture(tmp_path / "toy" / domain / name / f"{i}.png", colour)
    return tmp_path


def refusal(card: Card, part: Part, root: Path | None, shots: int | None = None) -> str:
    with pytest.raises(UserError) as raised:
        readers.read(card, part, root, shots)
    assert "\n" not in str(raised.value)
    return str(raised.value)


TEST, TRAIN, VAL = Part("toy", "test"), Part("toy", "train"), Part("toy", "val")

# -- class folders --------------------------------------------------------------------------------------------


def test_class_folders_give_names_labels_and_rgb_pictures(splits: Path):
    for part, count in ((TRAIN, 9), (VAL, 3), (TEST, 6)):
        rows = readers.read(card("class-folders"), part, splits)
        assert rows.names == ("cat", "dog", "ice cream")
        assert len(rows) == len(rows.labels) == len(set(rows.ids)) == count
        assert rows.warnings == ()
        for loaded, label in zip(rows.load(range(count)), rows.labels, strict=True):
            assert isinstance(loaded, Image.Image)
            assert (loaded.mode, loaded.getpixel((0, 0))) == ("RGB", list(COLOURS.values())[label])


def test_training_rows_keep_the_order_of_the_files_and_test_rows_are_mixed(splits: Path):
    train, test = (readers.read(card("class-folders"), part, splits) for part in (TRAIN, TEST))
    assert list(train.ids) == sorted(train.ids)
    assert list(test.ids) != sorted(test.ids)
    assert readers.read(card("class-folders"), TEST, splits).ids == test.ids


def test_the_card_sets_the_order_of_classes_and_a_stray_folder_is_reported(splits: Path):
    rows = readers.read(card("class-folders", classes=("ice cream", "cat")), TEST, splits)
    assert rows.names == ("ice cream", "cat")
    assert {i.split("/")[1]: int(label) for i, label in zip(rows.ids, rows.labels, strict=True)} == {
        "ice_cream": 0,
        "cat": 1,
    }
    assert rows.warnings == ("toy: folder dog in test is no class of the card and was left out",)


def test_folders_may_be_called_otherwise_than_classes(splits: Path):
    options = {"folders": ["dog", "cat", "ice_cream"], "splits": {"test": "val"}}
    rows = readers.read(card("class-folders", classes=("hound", "cat", "gelato"), options=options), TEST, splits)
    assert rows.names == ("hound", "cat", "gelato")
    assert rows.keys == ("dog", "cat", "ice_cream")
    assert rows.only([2, 0]).keys == ("ice_cream", "dog")
    assert sorted(zip(rows.ids, rows.labels.tolist(), strict=True)) == [
        ("val/cat/0.png", 1),
        ("val/dog/0.png", 0),
        ("val/ice_cream/0.png", 2),
    ]


def test_folders_that_are_numbers_are_sorted_as_numbers(tmp_path: Path):
    for i in range(11):
        picture(tmp_path / "toy" / str(i) / "0.jpg")
    assert readers.read(card("class-folders"), TEST, tmp_path).names == tuple(map(str, range(11)))


def test_flat_folders_are_one_split_only(splits: Path):
    flat = replace(card("class-folders"), folder="toy/train")
    assert len(readers.read(flat, TEST, splits)) == 9
    assert len(readers.read(flat, VAL, splits)) == 0
    assert "has no train split" in refusal(flat, TRAIN, splits)
    assert len(readers.read(replace(flat, options={"flat": "train"}), TRAIN, splits)) == 9


def test_what_is_no_picture_is_passed_over(splits: Path):
    base = splits / "toy" / "test"
    (base / "README.txt").write_text("hello")
    (base / "cat" / "notes.md").write_text("hello")
    (base / "cat" / "._0.png").write_bytes(b"a resource fork")
    (base / ".hidden").mkdir()
    assert len(readers.read(card("class-folders"), TEST, splits)) == 6


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "PNG"), ("CMYK", "JPEG"), ("1", "png"), ("P", "gif"), ("RGBA", "webp")]
)
def test_every_picture_is_rgb_whatever_it_was_stored_as(tmp_path: Path, mode: str, suffix: str):
    picture(tmp_path / "toy" / "cat" / f"a.{suffix}", mode=mode)
    (loaded,) = readers.read(card("class-folders"), TEST, tmp_path).load([0])
    assert isinstance(loaded, Image.Image)
    assert loaded.mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40])
def test_a_damaged_picture_is_named_when_it_is_opened(splits: Path, content: bytes):
    (splits / "toy" / "test" / "cat" / "0.png").write_bytes(content)
    rows = readers.read(card("class-folders"), TEST, splits)
    with pytest.raises(UserError, match=r"0\.png is not a picture that can be read"):
        rows.load(range(6))


def test_expected_counts_that_differ_are_warnings(splits: Path):
    expected = {"classes": 3, "train": 9, "test": 7}
    assert readers.read(card("class-folders", counts=expected), TRAIN, splits).warnings == ()
    assert readers.read(card("class-folders", counts=expected), TEST, splits).warnings == (
        "toy: 6 pictures of test found, 7 expected",
    )


def test_what_is_missing_is_said_with_place_and_source(splits: Path):
    assert refusal(card("class-folders"), TEST, None) == (
        "data set toy needs toy below the data root, from the toy shop; say where that is with --data-root."
    )
    assert refusal(card("class-folders"), TEST, splits / "x") == (
        f"data set toy needs toy below the data root, from the toy shop; {splits / 'x' / 'toy'} is not a folder."
    )
    missing = refusal(card("class-folders", classes=("cat", "cow")), TEST, splits)
    assert (
        missing
        == f"data set toy: no pictures of class 'cow' in {splits / 'toy/test/cow'}; put them there, from the toy shop."
    )
    (splits / "toy" / "empty").mkdir()
    assert "no pictures in" in refusal(replace(card("class-folders"), folder="toy/empty"), TEST, splits)


# -- rows -----------------------------------------------------------------------------------------------------


def test_taken_rows_keep_everything_together(splits: Path):
    rows = readers.read(card("class-folders"), TRAIN, splits)
    some = rows.take([8, 0, 4])
    assert some.ids == (rows.ids[8], rows.ids[0], rows.ids[4])
    assert some.labels.tolist() == [2, 0, 1]
    assert [p.getpixel((0, 0)) for p in some.load([1, 2])] == [COLOURS["cat"], COLOURS["dog"]]  # type: ignore[union-attr]
    assert some.take([2]).ids == (rows.ids[4],)


def test_only_some_classes_are_renumbered(splits: Path):
    rows = readers.read(card("class-folders"), TRAIN, splits)
    base, new = (rows.only(half) for half in halves(3))
    assert (base.names, base.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1, 1])
    assert (new.names, new.labels.tolist()) == (("ice cream",), [0, 0, 0])
    assert new.load([0])[0].getpixel((0, 0)) == COLOURS["ice_cream"]  # type: ignore[union-attr]


def test_the_fingerprint_changes_with_whatever_can_change_a_number(splits: Path):
    def fingerprint(**values: Any) -> str:
        return readers.read(card("class-folders", **values), TEST, splits).fingerprint

    rows = readers.read(card("class-folders"), TEST, splits)
    prints = [
        rows.fingerprint,
        rows.take([0, 1]).fingerprint,
        rows.take([1, 0]).fingerprint,
        rows.only([0]).fingerprint,
    ]
    prints += [
        rows.only([1]).fingerprint,
        rows.only([0, 2, 1]).fingerprint,
        fingerprint(classes=("dog", "cat", "ice cream")),
    ]
    prints += [fingerprint(classes=("a", "b", "c"), options={"folders": ["cat", "dog", "ice_cream"]})]
    assert rows.take(range(6)).fingerprint == rows.only(range(3)).fingerprint == fingerprint() == rows.fingerprint
    with (splits / "toy/test/cat/0.png").open("ab") as file:
        file.write(b"more")
    prints.append(fingerprint())
    picture(splits / "toy/test/cat/2.png")
    prints.append(fingerprint())
    assert len(set(prints)) == len(prints)


# -- domain folders -------------------------------------------------------------------------------------------


def test_a_domain_serves_whole_as_training_or_as_test_data(media: Path):
    toy = card("domain-folders", domains=("photo", "sketch"), counts={"photo": 6, "sketch": 7})
    train, test = (readers.read(toy, Part("toy", split, "photo"), media) for split in ("train", "test"))
    assert sorted(train.ids) == sorted(test.ids)
    assert Counter(train.labels.tolist()) == {0: 2, 1: 2, 2: 2}
    assert train.warnings == ()
    assert len(readers.read(toy, Part("toy", "val", "photo"), media)) == 0
    sketch = readers.read(toy, Part("toy", "test", "sketch"), media)
    assert sketch.warnings == ("toy: 6 pictures of sketch found, 7 expected",)


def test_a_stray_folder_is_reported_and_moves_no_domain(media: Path):
    (media / "toy" / "aaa").mkdir()
    rows = readers.read(card("domain-folders", domains=("photo", "sketch")), Part("toy", "test", "photo"), media)
    assert all(name.startswith("photo/") for name in rows.ids)
    assert rows.warnings == ("toy: folder aaa is no domain of the card and was left out",)


def test_another_spelling_of_a_domain_is_found(media: Path):
    toy = card("domain-folders", domains=("Real World",), options={"aliases": {"Real World": ["RealWorld", "photo"]}})
    assert len(readers.read(toy, Part("toy", "test", "Real World"), media)) == 6


def test_classes_are_the_same_in_every_domain(media: Path):
    picture(media / "toy" / "sketch" / "ant" / "0.png")
    toy = card("domain-folders", domains=("photo", "sketch"))
    rows = [readers.read(toy, Part("toy", "test", domain), media) for domain in toy.domains]
    assert rows[0].names == rows[1].names == ("ant", "cat", "dog", "ice cream")
    assert set(rows[0].labels.tolist()) == {1, 2, 3}


def test_a_wrong_domain_is_said(media: Path):
    toy = card("domain-folders", domains=("photo", "art"))
    assert "has no domain 'foto'; did you mean photo?" in refusal(toy, Part("toy", "test", "foto"), media)
    assert "has domains: name one, such as toy:photo." in refusal(toy, TEST, media)
    assert "the folder of domain 'art' is missing" in refusal(toy, Part("toy", "test", "art"), media)
    assert "has no domains: leave out 'photo'." in refusal(card("class-folders"), Part("toy", "test", "photo"), media)


# -- split files ----------------------------------------------------------------------------------------------

SPLIT = card("split-file", options={"file": "split.json", "images": "images"})


def write_split(root: Path, table: Any) -> None:
    (root / "toy" / "images").mkdir(parents=True, exist_ok=True)
    (root / "toy" / "split.json").write_text(json.dumps(table) if not isinstance(table, str) else table)


@pytest.fixture
def table(tmp_path: Path) -> dict[str, list]:
    for i in range(6):
        picture(tmp_path / "toy" / "images" / "a" / f"{i}.jpg", (40 * i, 0, 0))
    entries = [[f"a/{i}.jpg", 1 - i % 2, ("a_dog", "cat")[1 - i % 2]] for i in range(6)]
    return {"train": entries[:3], "val": entries[3:4], "test": entries[4:]}


def test_a_split_file_keeps_its_order_and_its_labels(tmp_path: Path, table: dict[str, list]):
    write_split(tmp_path, table)
    rows = readers.read(SPLIT, TRAIN, tmp_path)
    assert rows.ids == ("a/0.jpg", "a/1.jpg", "a/2.jpg")
    assert (rows.labels.tolist(), rows.names) == ([1, 0, 1], ("a dog", "cat"))
    assert len(readers.read(SPLIT, VAL, tmp_path)) == 1
    assert sorted(readers.read(SPLIT, TEST, tmp_path).ids) == ["a/4.jpg", "a/5.jpg"]
    assert rows.load([2])[0].size == (8, 6)  # type: ignore[union-attr]


def test_a_split_file_other_than_the_published_one_is_a_warning(tmp_path: Path, table: dict[str, list]):
    write_split(tmp_path, table)
    true = split_file.parse(tmp_path / "toy" / "split.json").sha256
    for sha256, warnings in ((true[:12], 0), (true, 0), ("0" * 12, 1)):
        named = replace(SPLIT, options={**SPLIT.options, "sha256": sha256})
        assert len(readers.read(named, TRAIN, tmp_path).warnings) == warnings


@pytest.mark.parametrize(
    "path", ["../b.jpg", "a/../../b.jpg", "/etc/passwd", "C:\\b.jpg", "..\\b.jpg", "", "~/b.jpg", 7, None]
)
def test_paths_that_leave_the_image_folder_are_refused(tmp_path: Path, table: dict[str, list], path: object):
    table["test"].append([path, 0, "a_dog"])
    write_split(tmp_path, table)
    assert "entry 2 of test must be [path below the image folder" in refusal(SPLIT, TRAIN, tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"test": [["a/0.jpg", 0, "cat"]]}, "label 0 is called 'a dog' and 'cat'; give it one name."),
        ({"test": [["d/0.jpg", 3, "cow"]]}, "the labels must be 0, 1, 2 and so on without gaps; 3 were found."),
        ({"test": [["a/0.jpg", True, "cat"]]}, "entry 0 of test must be"),
        ({"test": [["a/0.jpg", -1, "cat"]]}, "entry 0 of test must be"),
        ({"test": [["a/0.jpg", 1]]}, "entry 0 of test must be"),
        ({"test": {"a/0.jpg": 1}}, "is not a split file: it must hold an object with the lists train, val and test."),
        ({"train": [], "val": [], "test": []}, "the labels must be 0, 1, 2"),
        ({"train": [["a/9.jpg", 1, "cat"], ["a/8.jpg", 0, "a dog"]]}, "2 of 2 pictures are missing in"),
    ],
)
def test_a_mistake_in_a_split_file_is_one_sentence(
    tmp_path: Path, table: dict[str, list], change: dict[str, Any], expected: str
):
    write_split(tmp_path, table | change)
    assert expected in refusal(SPLIT, TRAIN, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "NaN", "[]", '{"train": 1}', "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")],
)
def test_a_split_file_that_is_none_is_one_sentence(tmp_path: Path, text: str):
    write_split(tmp_path, text)
    assert "split.json is not a" in refusal(SPLIT, TRAIN, tmp_path)


def test_a_missing_split_file_or_image_folder_is_named(tmp_path: Path):
    (tmp_path / "toy").mkdir()
    assert "the split file" in refusal(SPLIT, TRAIN, tmp_path)
    (tmp_path / "toy" / "split.json").write_text("{}")
    assert "the image folder" in refusal(SPLIT, TRAIN, tmp_path)


some = st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=5)
entry = (
    st.lists(some, max_size=4)
    | st.tuples(st.just("a/0.jpg"), st.integers(-1, 3), st.sampled_from(["x", "y", ""]))
    | some
)
tables = (
    st.fixed_dictionaries({}, optional=dict.fromkeys(("train", "val", "test"), st.lists(entry, max_size=4) | some))
    | some
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(content=tables)
def test_whatever_a_split_file_holds_there_is_no_traceback(tmp_path: Path, content: Any):
    picture(tmp_path / "toy" / "images" / "a" / "0.jpg")
    write_split(tmp_path, content if not isinstance(content, str) else json.dumps(content))
    try:
        rows = readers.read(SPLIT, TRAIN, tmp_path)
    except UserError:
        return
    assert rows.labels.max(initial=0) < len(rows.names)


# -- feature bundles ------------------------------------------------------------------------------------------


def arrays(**changes: Any) -> dict[str, Any]:
    """Three classes in 4 dimensions: a test set, validation rows and support sets of 1 and 2 shots."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(3 * count, 4)).astype(np.float16), np.repeat(np.arange(3), count)

    out: dict[str, Any] = {"names": np.array(["cat", "dog", "ice_cream"]), "text": np.eye(3, 4, dtype=np.float16)}
    for key, count in (("test", 5), ("val", 2), ("train1", 1), ("train2", 2)):
        out[f"{key}_x"], out[f"{key}_y"] = part(count)
    return {key: value for key, value in (out | changes).items() if value is not None}


def write_bundle(root: Path, **changes: Any) -> Path:
    path = root / "some features.npz"
    np.savez(path, **arrays(**changes))
    return path


def test_a_bundle_makes_its_own_card_and_serves_features(tmp_path: Path):
    path = write_bundle(tmp_path)
    made, bundle = readers.bundle_card(path), readers.open_bundle(path)
    assert (made.name, made.reader, made.classes) == ("some-features", "feature-bundle", ("cat", "dog", "ice cream"))
    assert (bundle.card, bundle.shots, bundle.scale) == (made, (1, 2), 100.0)
    assert (bundle.text.shape, bundle.text.dtype) == ((3, 4), np.float32)
    rows = readers.read(made, Part(made.name, "test"))
    assert rows.features is not None
    assert (rows.features.shape, rows.features.dtype, rows.names) == ((15, 4), np.float32, bundle.names)
    source = arrays()["test_x"].astype(np.float32)
    for feature, label, id_ in zip(rows.features, rows.labels, rows.ids, strict=True):
        number = int(id_.split("-")[1])
        assert label == number // 5
        assert np.array_equal(feature, source[number])
    with pytest.raises(NotRunnable, match="some-features holds features and no pictures"):
        rows.load([0])


def test_a_bundle_of_fixed_support_sets_gives_the_one_asked_for(tmp_path: Path):
    made = readers.bundle_card(write_bundle(tmp_path))
    for shots, expected in ((1, 3), (2, 6), (None, 6)):
        rows = readers.read(made, Part(made.name, "train"), None, shots)
        assert len(rows) == expected
        assert "all seeds share it" in rows.warnings[0]
    val = readers.read(made, Part(made.name, "val"))
    support, few = few_shot(rows.labels.tolist(), val.labels.tolist(), 2, 1)
    assert sorted(support) == list(range(6))
    assert len(few) == 6
    assert refusal(made, Part(made.name, "train"), None, 4).endswith("has support sets of 1, 2 shots, not 4.")


def test_a_bundle_with_one_pool_gives_any_number_of_shots(tmp_path: Path):
    pool = {"train_x": np.ones((7, 4), np.float32), "train_y": np.array([0, 1, 2, 0, 1, 2, 0])}
    path = write_bundle(
        tmp_path, train1_x=None, train1_y=None, train2_x=None, train2_y=None, val_x=None, val_y=None, **pool
    )
    bundle = readers.open_bundle(path)
    assert bundle.shots == (1, 2)
    rows = readers.read(bundle.card, Part("x", "train"), None, 1)
    assert (len(rows), rows.warnings) == (7, ())
    assert len(readers.read(bundle.card, Part("x", "val"))) == 0


def test_a_bundle_without_support_says_so(tmp_path: Path):
    path = write_bundle(tmp_path, train1_x=None, train1_y=None, train2_x=None, train2_y=None)
    assert readers.open_bundle(path).shots == ()
    assert "holds nothing to learn on" in refusal(readers.bundle_card(path), Part("x", "train"), None)


def test_several_texts_of_a_class_are_averaged_as_directions(tmp_path: Path):
    texts = np.random.default_rng(1).normal(size=(3, 5, 4))
    expected = []
    for own in texts:
        mean = sum(text / np.sqrt((text**2).sum()) for text in own) / 5
        expected.append(mean / np.sqrt((mean**2).sum()))
    stacked = readers.open_bundle(write_bundle(tmp_path, text=texts))
    assert np.allclose(stacked.text, expected, atol=1e-6)
    shuffled = np.random.default_rng(2).permutation(15)
    flat = {"text": texts.reshape(15, 4)[shuffled], "text_y": np.repeat(np.arange(3), 5)[shuffled]}
    assert np.allclose(readers.open_bundle(write_bundle(tmp_path, **flat)).text, expected, atol=1e-6)


def test_features_from_before_the_projection_pass_it(tmp_path: Path):
    rng = np.random.default_rng(3)
    before, projection = rng.normal(size=(15, 6)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)
    path = write_bundle(tmp_path, test_x=None, test_pre=before, projection=projection, scale=np.float32(21.5))
    bundle = readers.open_bundle(path)
    assert np.allclose(bundle.parts["test"][0], before @ projection, atol=1e-6)
    assert bundle.scale == 21.5


def as_safetensors(root: Path, metadata: dict[str, str] | None = None, **changes: Any) -> Path:
    tensors = {key: torch.from_numpy(value) for key, value in arrays(**changes).items() if key != "names"}
    tensors["test_x"] = tensors["test_x"].bfloat16()
    path = root / "some features.safetensors"
    save_file(tensors, path, {"names": json.dumps(["cat", "dog", "ice_cream"])} if metadata is None else metadata)
    return path


def test_a_bundle_in_safetensors_is_the_same_bundle(tmp_path: Path):
    path = as_safetensors(tmp_path)
    bundle, other = readers.open_bundle(path), readers.open_bundle(write_bundle(tmp_path))
    assert (bundle.names, bundle.shots, bundle.card.name) == (other.names, other.shots, "some-features")
    assert np.array_equal(bundle.text, other.text)
    assert np.array_equal(bundle.parts["train2"][0], other.parts["train2"][0])
    assert np.allclose(bundle.parts["test"][0], other.parts["test"][0], rtol=1e-2), "bfloat16 has 8 bits"
    assert len(readers.read(bundle.card, Part("x", "val"))) == 6


@pytest.mark.parametrize("metadata", [{}, {"names": "cat, dog"}, {"names": "[1, 2, 3]"}])
def test_a_bundle_in_safetensors_without_names_is_one_sentence(tmp_path: Path, metadata: dict[str, str]):
    with pytest.raises(
        UserError, match=r"is not a feature bundle \(.*\): give a \.safetensors file with names"
    ) as raised:
        readers.open_bundle(as_safetensors(tmp_path, metadata))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_bundle_in_safetensors_is_one_sentence(tmp_path: Path, content: bytes):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is not a feature bundle") as raised:
        readers.open_bundle(tmp_path / "a.safetensors")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"text": np.ones((3, 0, 4), np.float32)}, "text must be (classes, D) finite numbers, (classes, texts, D)"),
        ({"text": np.zeros((3, 2, 4), np.float32)}, "text must be (classes, D) finite numbers, (classes, texts, D)"),
        ({"text": np.ones((2, 2, 4), np.float32)}, "text must be (classes, D) finite numbers, (classes, texts, D)"),
        ({"text_y": np.array([0, 0, 1])}, "or (texts, D) with text_y"),
        ({"text_y": np.array([0, 1, 2, 2])}, "or (texts, D) with text_y"),
        ({"test_pre": np.ones((15, 6), np.float32)}, "test_pre needs projection, (W, D) finite numbers"),
        (
            {"test_pre": np.ones((15, 6), np.float32), "projection": np.ones((6, 4), np.float32)},
            "test_pre and test_x are the same pictures; leave one out",
        ),
        (
            {"test_x": None, "test_pre": np.ones((15, 5), np.float32), "projection": np.ones((6, 4), np.float32)},
            "test_pre must be (rows, 6)",
        ),
        (
            {"test_x": None, "test_pre": np.full((15, 6), 3e38, np.float32), "projection": np.full((6, 4), 2.0)},
            "test_x must be (rows, 4) finite numbers",
        ),
        ({"scale": np.float32(-1)}, "scale must be a number above 0"),
        ({"names": None}, "names is missing among"),
        ({"text": None}, "text_a is missing among"),
        ({"test_y": None}, "test_y is missing among"),
        ({"train1_y": None}, "train1_y must be a list of whole numbers"),
        ({"text": np.ones((2, 4), np.float32)}, "text must be (classes, D) finite numbers"),
        ({"text": np.full((3, 4), np.nan, np.float32)}, "text must be (classes, D) finite numbers"),
        ({"test_x": np.ones((15, 5), np.float32)}, "test_x must be (rows, 4) finite numbers"),
        ({"test_x": np.ones(15, np.float32)}, "test_x must be (rows, 4) finite numbers"),
        ({"test_y": np.full(15, 3)}, "test_y must be a class below 3 for each row of test_x"),
        ({"test_y": np.zeros(14, int)}, "test_y must be a class below 3 for each row of test_x"),
        ({"val_y": np.zeros(6)}, "val_y must be a list of whole numbers"),
        ({"names": np.arange(3)}, "names must be a list of texts"),
        ({"names": np.array(["a", 1, None], dtype=object)}, "is not a feature bundle"),
    ],
)
def test_another_layout_of_a_bundle_is_one_sentence(tmp_path: Path, changes: dict[str, Any], expected: str):
    path = write_bundle(tmp_path, **changes)
    with pytest.raises(UserError) as raised:
        readers.open_bundle(path)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def damaged() -> Sequence[bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays())
    whole = buffer.getvalue()
    middle = len(whole) // 3
    npy = io.BytesIO()
    np.save(npy, np.ones(3))
    stray = io.BytesIO()
    with zipfile.ZipFile(stray, "w") as file:
        file.writestr("names.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': rubbish")
        file.writestr("readme.txt", b"hello")
    return [
        b"",
        b"rubbish",
        whole[:middle],
        whole[:middle] + bytes(50) + whole[middle + 50 :],
        npy.getvalue(),
        stray.getvalue(),
    ]


@pytest.mark.parametrize("content", damaged(), ids=["empty", "rubbish", "cut", "overwritten", "one array", "odd zip"])
def test_a_damaged_bundle_is_one_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        readers.open_bundle(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="cannot be read"):
        readers.open_bundle(tmp_path / "none.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=6))
def test_wherever_a_bundle_is_damaged_there_is_no_traceback(tmp_path: Path, where: float, junk: bytes):
    path = write_bundle(tmp_path)
    raw = bytearray(path.read_bytes())
    start = int(where * len(raw))
    raw[start : start + len(junk)] = junk
    path.write_bytes(raw)
    try:
        bundle = readers.open_bundle(path)
    except UserError:
        return
    assert len(bundle.names) == len(bundle.text)


def test_a_changed_bundle_is_read_anew(tmp_path: Path):
    first = readers.open_bundle(write_bundle(tmp_path)).fingerprint
    second = readers.open_bundle(write_bundle(tmp_path, text=np.ones((3, 4), np.float32))).fingerprint
    assert first != second


# -- the world ------------------------------------------------------------------------------------------------

WORLD = card("world", counts={"train": 100, "test": 60}, options={"variant": "objects"})


def test_the_world_draws_what_the_card_counts():
    rows = readers.read(WORLD, TEST)
    assert len(rows) == 60
    assert rows.names == world.classes("objects")
    drawn_ = rows.load([3, 1])
    assert isinstance(drawn_, torch.Tensor)
    assert (drawn_.shape, drawn_.dtype) == ((2, 3, 64, 64), torch.uint8)
    spec = world.Spec("objects", "test")
    assert torch.equal(drawn_, world.pictures(spec, torch.tensor([3, 1])))
    assert rows.labels.tolist() == world.labels(spec, torch.arange(60)).tolist()
    assert rows.take([5, 1]).load([1]).equal(drawn_[1:])  # type: ignore[union-attr]


def test_a_split_that_the_world_has_no_count_for_is_refused_but_validation_is_empty():
    assert len(readers.read(WORLD, VAL)) == 0
    without = replace(WORLD, counts={"test": 60})
    assert (
        refusal(without, TRAIN, None) == "data set toy has no train pictures: take another source, such as world-photo."
    )


def test_options_of_a_domain_change_the_pictures_and_the_fingerprint():
    options = {"variant": "objects", "domain": {"tied": {"spurious": 1.0}, "new": {"colours": "unseen"}}}
    toy = replace(WORLD, domains=("free", "tied", "new"), options=options)
    parts = {domain: readers.read(toy, Part("toy", "test", domain)) for domain in toy.domains}
    assert len({rows.fingerprint for rows in parts.values()}) == 3
    assert len({rows.ids for rows in parts.values()}) == 1
    assert parts["free"].fingerprint == readers.read(WORLD, TEST).fingerprint
    pictures = [rows.load(range(20)) for rows in parts.values()]
    assert not torch.equal(pictures[0], pictures[1])  # type: ignore[arg-type]


def test_orders_of_a_stream_hold_the_same_pictures():
    labels = [i % 10 for i in range(500)]
    cyclic, shuffled, blocks = (drawn._order(labels, order, 0) for order in ("cyclic", "shuffled", "blocks"))
    assert cyclic == sorted(shuffled) == sorted(blocks) == list(range(500))
    assert drawn._order(labels, "blocks", 0) == blocks

    def classes_in_a_stretch(order: list[int]) -> float:
        return np.mean([len({labels[i] for i in order[start : start + 25]}) for start in range(0, 500, 25)])  # type: ignore[return-value]

    assert classes_in_a_stretch(shuffled) > 8
    assert classes_in_a_stretch(blocks) < 5


def test_a_stream_shows_each_picture_with_its_own_label():
    rows = readers.read(replace(WORLD, options={"variant": "objects", "order": "blocks"}), TEST)
    plain = readers.read(WORLD, TEST)
    where = [plain.ids.index(id_) for id_ in rows.ids]
    assert where != sorted(where)
    assert rows.labels.tolist() == plain.labels[where].tolist()
    assert torch.equal(rows.load([0, 7]), plain.load([where[0], where[7]]))  # type: ignore[arg-type]


def test_nothing_is_drawn_or_opened_before_it_is_asked_for(splits: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a picture was made while reading")

    monkeypatch.setattr(world, "pictures", never)
    monkeypatch.setattr(Image, "open", never)
    assert len(readers.read(WORLD, TEST).only([0, 1])) == 4
    assert len(readers.read(card("class-folders"), TRAIN, splits).take([0])) == 1


# -- real data ------------------------------------------------------------------------------------------------

BASE_NEW = {
    "caltech101": (1549, 916), "dtd": (864, 828), "eurosat": (4200, 3900), "oxford-flowers": (1053, 1410),
    "oxford-pets": (1881, 1788), "stanford-cars": (4002, 4039), "ucf101": (1934, 1849),
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("name", list(BASE_NEW))
def test_official_split_files_are_those_of_the_cards(realdata: Path, name: str):
    known = cards.card(name)
    split = split_file.parse(realdata / "splits" / known.options["file"])
    assert split.sha256 == known.options["sha256"]
    found = {part: len(paths) for part, (paths, _) in split.splits.items()}
    assert {"classes": len(split.names)} | found == known.counts
    test = Counter(split.splits["test"][1])
    assert tuple(sum(test[label] for label in half) for half in halves(len(split.names))) == BASE_NEW[name]


@pytest.mark.realdata
def test_pacs_is_read_whole(realdata: Path):
    pacs = cards.card("pacs")
    for domain in pacs.domains:
        rows = readers.read(pacs, Part("pacs", "test", domain), realdata)
        assert rows.names == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
        assert Counter(rows.labels.tolist()) == dict.fromkeys(range(7), 20)
        assert all(id_.split("/")[1] == rows.names[label] for id_, label in zip(rows.ids, rows.labels, strict=True))
        assert rows.warnings == (f"pacs: 140 pictures of {domain} found, {pacs.counts[domain]} expected",)
        assert {(p.size, p.mode) for p in rows.load([0, 1])} == {((227, 227), "RGB")}  # type: ignore[union-attr]


@pytest.mark.realdata
def test_the_sample_of_caltech101_is_read(realdata: Path):
    known = cards.card("caltech101")
    for split, count in (("train", 400), ("val", 200), ("test", 400)):
        rows = readers.read(known, Part("caltech101", split), realdata)  # type: ignore[arg-type]
        assert (len(rows), len(rows.names)) == (count, 100)
        assert set(Counter(rows.labels.tolist()).values()) == {count // 100}
        assert rows.warnings[-1].startswith("caltech101: split_zhou_Caltech101.json is not the published file")
    assert {p.mode for p in rows.load(range(40))} == {"RGB"}  # type: ignore[union-attr]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "shots", "rows", "accuracy"),
    [("caltech101_59cls", (1, 2, 4, 8, 16), 1401, 94.9), ("imagenet100_4shot", (1, 2, 3, 4), 295, 86.8)],
)
def test_bundles_of_the_real_clip_give_its_zero_shot_accuracy(
    realdata: Path, file: str, shots: tuple[int, ...], rows: int, accuracy: float
):
    bundle = readers.open_bundle(realdata / "clip_b32_features" / f"{file}.npz")
    test = readers.read(bundle.card, Part(file, "test"))
    assert test.features is not None
    assert (bundle.card.name, bundle.shots, len(test)) == (file, shots, rows)
    right = (test.features @ bundle.text.T).argmax(1) == test.labels
    assert round(100 * right.mean(), 1) == accuracy
