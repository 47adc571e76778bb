"""Every card reads the layout that its data set has on disk: paths are written out here and not taken from the card.

A tree holds a few pictures of each class. What is read must be those pictures, each with its class, as RGB; all that
may be strange about it is that there are fewer than the whole data set has.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from bench import cards, readers
from bench.api import Part

CARDS = {name: card for name, card in cards.cards().items() if card.reader != "world"}


class Entry(NamedTuple):
    """A picture on disk, where it belongs, and what it shows."""

    file: str
    split: str
    shows: str
    domain: str | None = None


def jpeg(mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "JPEG")
    return stream.getvalue()


GREY, COLOUR = jpeg("L"), jpeg()


def put(root: Path, entries: list[Entry]) -> list[Entry]:
    for number, entry in enumerate(entries):
        file = root / entry.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(GREY if number % 3 == 0 else COLOUR)
    return entries


# -- the layouts ------------------------------------------------------------------------------------------------------


def split_json(file: str, images: str, classes: dict[str, str]) -> Callable[[Path], list[Entry]]:
    """CoOp's split file with a picture a class and split; classes: where its pictures lie -> its name."""

    def make(root: Path) -> list[Entry]:
        entries = put(
            root,
            [
                Entry(f"{images}/{place}_{split}.jpg", split, name)
                for split in ("train", "val", "test")
                for place, name in classes.items()
            ],
        )
        number = {name: label for label, name in enumerate(classes.values())}
        table: dict[str, list] = {"train": [], "val": [], "test": []}
        for entry in entries:
            table[entry.split].append([entry.file.removeprefix(f"{images}/"), number[entry.shows], entry.shows])
        (root / file).write_text(json.dumps(table))
        return entries

    return make


def imagenet(*patterns: tuple[str, str]) -> Callable[[Path], list[Entry]]:
    """Class folders of ImageNet: {wnid} and {number} in a path."""

    def make(root: Path) -> list[Entry]:
        known = CARDS["imagenet"]
        return put(
            root,
            [
                Entry(pattern.format(wnid=wnid, number=number), split, name)
                for split, pattern in patterns
                for number, (wnid, name) in enumerate(zip(known.options["folders"], known.classes, strict=True))
            ],
        )

    return make


def part_of_imagenet(name: str, pattern: str) -> Callable[[Path], list[Entry]]:
    def make(root: Path) -> list[Entry]:
        known, whole = CARDS[name], CARDS["imagenet"]
        called = dict(zip(whole.options["folders"], whole.classes, strict=True))
        (root / known.folder).mkdir(parents=True)
        (root / known.folder / "README.txt").write_text("n01498041 stingray")
        return put(root, [Entry(pattern.format(wnid=w), "test", called[w]) for w in known.options["folders"]])

    return make


def objectnet(root: Path) -> list[Entry]:
    shown = {"alarm_clock": "alarm clock", "t-shirt": "t-shirt", "tv": "tv", "full_sized_towel": "bath towel"}
    put(root, [Entry("objectnet-1.0/images/air_freshener/0001.png", "test", "a class that ImageNet has not")])
    known = CARDS["objectnet"]
    called = dict(zip(known.options["folders"], known.classes, strict=True))
    assert called.items() >= shown.items()
    return put(root, [Entry(f"objectnet-1.0/images/{place}/0001.png", "test", name) for place, name in called.items()])


def corrupted(root: Path) -> list[Entry]:
    known = CARDS["imagenet-c"]
    return put(
        root,
        [
            Entry(
                f"imagenet-c/{shift}/{severity}/{wnid}/ILSVRC2012_val_00000293.JPEG",
                "test",
                name,
                f"{shift}-{severity}",
            )
            for shift, severity in (("gaussian_noise", 1), ("fog", 5))
            for wnid, name in zip(known.options["folders"], known.classes, strict=True)
        ],
    )


def domains(folder: str, places: dict[str, str], classes: dict[str, str]) -> Callable[[Path], list[Entry]]:
    """<folder>/<domain>/<class>/*; places: a domain's folder -> the domain; classes likewise."""

    def make(root: Path) -> list[Entry]:
        return put(
            root,
            [
                Entry(f"{folder}/{place}/{cls}/{i}.jpg", "test", name, domain)
                for place, domain in places.items()
                for cls, name in classes.items()
                for i in range(2)
            ],
        )

    return make


def aircraft(root: Path) -> list[Entry]:
    variants = ["707-320", "F-16A/B", "Boeing 717", "A300B4"]
    (root / "fgvc_aircraft").mkdir()
    (root / "fgvc_aircraft/variants.txt").write_text("\n".join(variants) + "\n")
    entries = []
    for s, split in enumerate(("train", "val", "test")):
        lines = [(f"{1000 * s + i:07d}", name) for i, name in enumerate(variants)]
        file = root / "fgvc_aircraft" / f"images_variant_{split}.txt"
        file.write_text("".join(f"{image} {name}\n" for image, name in lines))
        entries += [Entry(f"fgvc_aircraft/images/{image}.jpg", split, name) for image, name in lines]
    return put(root, entries)


def metadata(file: str, rows: list[dict[str, Any]], pictures: list[Entry | None]) -> Callable[[Path], list[Entry]]:
    """A table with a line a picture; None for a line that belongs to no split."""

    def make(root: Path) -> list[Entry]:
        (root / file).parent.mkdir(parents=True)
        with (root / file).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["", *rows[0]])
            writer.writeheader()
            writer.writerows({"": number, **row} for number, row in enumerate(rows))
        return put(root, [entry for entry in pictures if entry is not None])

    return make


CENTRES = "camelyon17_v1.0/patches/patient_{0}_node_{1}/patch_patient_{0}_node_{1}_x_{2}_y_{3}.png"


def tissue(root: Path) -> list[Entry]:
    """Camelyon17's name of a picture says all that its line does, so each line has a place of its own."""
    lines = [
        ("004", 4, 1, 1, 1, 0, 0, "train", "lymph node containing metastatic tumor tissue"),
        ("020", 4, 1, 2, 0, 4, 0, "train", "lymph node"),
        ("021", 0, 1, 3, 0, 4, 1, None, "held out in distribution"),
        ("040", 1, 2, 1, 0, 1, 0, "val", "lymph node"),
        ("099", 2, 3, 1, 1, 2, 1, "test", "lymph node containing metastatic tumor tissue"),
    ]
    columns = ("patient", "node", "x_coord", "y_coord", "tumor", "center", "split")
    rows = [dict(zip(columns, line, strict=False)) for line in lines]
    entries = [Entry(CENTRES.format(*line), str(line[7]), str(line[8])) for line in lines if line[7] is not None]
    return metadata("camelyon17_v1.0/metadata.csv", rows, [*entries])(root)


MEDIA = {place: place for place in ("art_painting", "cartoon", "photo", "sketch")}
OFFICE = {"Art": "Art", "Clipart": "Clipart", "Product": "Product", "RealWorld": "Real World"}
NET = {"clipart": "clip", "info": "info", "painting": "paint", "quick": "quick", "real": "real", "sketch": "sketch"}
PLACES = {place: place for place in ("location_38", "location_43", "location_46", "location_100")}
VLCS = {place: place for place in ("Caltech101", "LabelMe", "SUN09", "VOC2007")}


def same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


LAYOUTS: dict[str, Callable[[Path], list[Entry]]] = {
    "imagenet": imagenet(
        ("train", "imagenet/images/train/{wnid}/{wnid}_36.JPEG"),
        ("test", "imagenet/images/val/{wnid}/ILSVRC2012_val_00000293.JPEG"),
    ),
    "imagenet-v2": imagenet(
        ("test", "imagenetv2/imagenetv2-matched-frequency-format-val/{number}/7e3f26ad3a5f5a8b.jpeg")
    ),
    "imagenet-sketch": imagenet(("test", "imagenet-sketch/images/{wnid}/sketch_0.JPEG")),
    "imagenet-a": part_of_imagenet("imagenet-a", "imagenet-adversarial/imagenet-a/{wnid}/0.000116_digital clock.jpg"),
    "imagenet-r": part_of_imagenet("imagenet-r", "imagenet-rendition/imagenet-r/{wnid}/art_0.jpg"),
    "imagenet-c": corrupted,
    "objectnet": objectnet,
    "caltech101": split_json(
        "caltech-101/split_zhou_Caltech101.json",
        "caltech-101/101_ObjectCategories",
        {"Faces/image_0001": "face", "airplanes/image_0001": "airplane", "crocodile_head/image_0001": "crocodile head"},
    ),
    "oxford-pets": split_json(
        "oxford_pets/split_zhou_OxfordPets.json", "oxford_pets/images", {"Abyssinian_1": "abyssinian", "pug_1": "pug"}
    ),
    "stanford-cars": split_json(
        "stanford_cars/split_zhou_StanfordCars.json",
        "stanford_cars",
        {"cars_train/00001": "2012 Audi S4 Sedan", "cars_test/00001": "1991 Volkswagen Golf Hatchback"},
    ),
    "oxford-flowers": split_json(
        "oxford_flowers/split_zhou_OxfordFlowers.json", "oxford_flowers/jpg", {"image_00001": "pink primrose"}
    ),
    "food101": split_json(
        "food-101/split_zhou_Food101.json", "food-101/images", {"apple_pie/1": "apple pie", "waffles/1": "waffles"}
    ),
    "fgvc-aircraft": aircraft,
    "sun397": split_json(
        "sun397/split_zhou_SUN397.json",
        "sun397/SUN397",
        {"a/abbey/sun_a": "abbey", "b/bow_window/indoor/sun_b": "indoor bow window"},
    ),
    "dtd": split_json(
        "dtd/split_zhou_DescribableTextures.json", "dtd/images", {"banded/banded_0002": "banded", "dotted/d": "dotted"}
    ),
    "eurosat": split_json(
        "eurosat/split_zhou_EuroSAT.json", "eurosat/2750", {"AnnualCrop/AnnualCrop_1": "Annual Crop Land"}
    ),
    "ucf101": split_json(
        "ucf101/split_zhou_UCF101.json",
        "ucf101/UCF-101-midframes",
        {"Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01": "Apply Eye Makeup"},
    ),
    "pacs": domains("PACS", MEDIA, same("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")),
    "vlcs": domains("VLCS", VLCS, same("bird", "car", "chair", "dog", "person")),
    "office-home": domains("office_home", OFFICE, {"Alarm_Clock": "Alarm Clock", "TV": "TV"}),
    "terra-incognita": domains(
        "terra_incognita",
        PLACES,
        same("bird", "bobcat", "cat", "coyote", "dog", "empty", "opossum", "rabbit", "raccoon", "squirrel"),
    ),
    "domain-net": domains("domain_net", NET, {"The_Eiffel_Tower": "The Eiffel Tower", "see_saw": "see saw"}),
    "iwildcam": metadata(
        "iwildcam_v2.0/metadata.csv",
        [
            {"split": "train", "y": 0, "filename": "a.jpg"},
            {"split": "id_test", "y": 1, "filename": "b.jpg"},
            {"split": "val", "y": 36, "filename": "c.jpg"},
            {"split": "test", "y": 181, "filename": "d.jpg"},
        ],
        [
            Entry("iwildcam_v2.0/train/a.jpg", "train", "empty"),
            Entry("iwildcam_v2.0/train/c.jpg", "val", "impala"),
            Entry("iwildcam_v2.0/train/d.jpg", "test", "central american red brocket"),
        ],
    ),
    "fmow": metadata(
        "fmow_v1.1/rgb_metadata.csv",
        [
            {"split": "train", "timestamp": "2012-12-31T23:59:59Z", "category": "zoo"},
            {"split": "train", "timestamp": "2013-01-01T00:00:00Z", "category": "zoo"},
            {"split": "seq", "timestamp": "2010-01-01T00:00:00Z", "category": "zoo"},
            {"split": "val", "timestamp": "2015-12-31T23:59:59Z", "category": "airport_hangar"},
            {"split": "test", "timestamp": "2015-12-31T23:59:59Z", "category": "zoo"},
            {"split": "test", "timestamp": "2016-01-01T00:00:00Z", "category": "multi-unit_residential"},
        ],
        [
            Entry("fmow_v1.1/images/rgb_img_0.png", "train", "zoo"),
            Entry("fmow_v1.1/images/rgb_img_3.png", "val", "airport hangar"),
            Entry("fmow_v1.1/images/rgb_img_5.png", "test", "multi-unit residential"),
        ],
    ),
    "camelyon17": tissue,
}  # fmt: skip
ARRAYS = {"cifar10", "cifar100", "cifar10.1", "cifar10-c"}

# -- what is read of them ---------------------------------------------------------------------------------------------

FEWER = re.compile(r"\d+ (classes|pictures of [\w -]+) found, \d+ expected|is not the published file")


def test_every_data_set_has_its_layout_here() -> None:
    assert LAYOUTS.keys() | ARRAYS == CARDS.keys(), "add the new data set's layout, as its authors distribute it"


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_card_reads_the_layout_that_its_data_set_has(name: str, tmp_path: Path) -> None:
    card, entries = CARDS[name], LAYOUTS[name](tmp_path)
    for split, domain in sorted({(entry.split, entry.domain) for entry in entries}, key=str):
        rows = readers.read(card, Part(name, split, domain), tmp_path)  # type: ignore[arg-type]
        expected = {e.file: e.shows.replace("_", " ") for e in entries if (e.split, e.domain) == (split, domain)}
        found = {id_: rows.names[label] for id_, label in zip(rows.ids, rows.labels.tolist(), strict=True)}
        assert len(found) == len(rows) == len(expected)
        for file, shows in expected.items():
            (own,) = {id_ for id_ in (file.split("/", n)[-1] for n in range(6)) if id_ in found}
            assert found[own] == shows
        assert not [warning for warning in rows.warnings if not FEWER.search(warning)]
        if "classes" in card.counts and card.classes:
            assert len(rows.names) == card.counts["classes"]
        assert {picture.mode for picture in rows.load(range(min(3, len(rows))))} == {"RGB"}  # type: ignore[union-attr]


def test_the_integer_folders_of_imagenet_v2_stand_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    LAYOUTS["imagenet-v2"](tmp_path)
    rows = readers.read(CARDS["imagenet-v2"], Part("imagenet-v2", "test"), tmp_path)
    for id_, label in zip(rows.ids, rows.labels.tolist(), strict=True):
        assert int(id_.split("/")[0]) == label


def test_the_border_of_objectnet_is_cut_off(tmp_path: Path) -> None:
    objectnet(tmp_path)
    framed = Image.new("RGB", (20, 12), (255, 0, 0))
    framed.paste((0, 0, 255), (2, 2, 18, 10))
    framed.save(tmp_path / "objectnet-1.0/images/tv/0001.png")
    rows = readers.read(CARDS["objectnet"], Part("objectnet", "test"), tmp_path)
    (picture,) = rows.load([rows.ids.index("tv/0001.png")])
    assert (picture.size, picture.getcolors()) == ((16, 8), [(128, (0, 0, 255))])  # type: ignore[union-attr]


def test_objectnet_stands_for_125_classes_of_imagenet_none_of_them_twice() -> None:
    keys = [key.split("+") for key in CARDS["objectnet"].options["keys"]]
    ids = [id_ for group in keys for id_ in group]
    assert (len(keys), len(ids), len(set(ids))) == (113, 125, 125)
    assert set(ids) <= set(CARDS["imagenet"].options["folders"])
    called = dict(zip(CARDS["imagenet"].options["folders"], CARDS["imagenet"].classes, strict=True))
    groups = {name: {called[i] for i in k} for name, k in zip(CARDS["objectnet"].classes, keys, strict=True)}
    assert groups["tie"] == {"bow tie", "Windsor tie"}
    assert groups["pen"] == {"ballpoint pen", "quill", "fountain pen"}
    assert groups["bicycle"] == {"mountain bike", "tandem bicycle"}
    assert groups["banana"] == {"banana"}


def test_a_and_r_share_86_classes() -> None:
    a, r = (set(CARDS[name].options["folders"]) for name in ("imagenet-a", "imagenet-r"))
    assert (len(a), len(r), len(a & r)) == (200, 200, 86)


def test_the_imagenet_sample_is_of_the_folders_that_the_card_lists(realdata: Path) -> None:
    names = [file.name for file in (realdata / "imagenet_sample").iterdir() if file.suffix == ".JPEG"]
    assert len(names) == 60
    assert {name.split("_")[0] for name in names} <= set(CARDS["imagenet"].options["folders"])


# -- arrays -----------------------------------------------------------------------------------------------------------


def batch(rng: np.random.Generator, count: int, classes: int, key: str = "labels") -> dict[str, Any]:
    """As Krizhevsky's files are: rows of 3072 bytes, the red ones first."""
    labels = [int(label) for label in rng.integers(classes, size=count)]
    return {"data": rng.integers(256, size=(count, 3072), dtype=np.uint8), key: labels, "batch_label": "one"}


def write_pickle(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=2))


def test_the_batches_of_cifar10_are_read_in_their_order(tmp_path: Path) -> None:
    rng, card, base = np.random.default_rng(0), CARDS["cifar10"], tmp_path / "cifar-10-batches-py"
    batches = [batch(rng, 4, 10) for _ in range(5)]
    for number, content in enumerate(batches, 1):
        write_pickle(base / f"data_batch_{number}", content)
    test = batch(rng, 6, 10)
    write_pickle(base / "test_batch", test)
    write_pickle(base / "batches.meta", {"label_names": list(card.classes), "num_vis": 3072})
    rows = readers.read(card, Part("cifar10", "train"), tmp_path)
    assert rows.labels.tolist() == [label for content in batches for label in content["labels"]]
    (picture,) = rows.load([5])
    expected = batches[1]["data"][1].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(picture), expected)
    assert (picture.mode, rows.names[0]) == ("RGB", "airplane")  # type: ignore[union-attr]
    rows = readers.read(card, Part("cifar10", "test"), tmp_path)
    for position, id_ in enumerate(rows.ids):
        assert rows.labels[position] == test["labels"][int(id_.split("-")[1])]
    assert rows.warnings == ("cifar10: 6 pictures of test found, 10000 expected",)
    assert len(readers.read(card, Part("cifar10", "val"), tmp_path)) == 0


def test_the_fine_labels_of_cifar100_are_read_and_its_names_compared(tmp_path: Path) -> None:
    rng, card, base = np.random.default_rng(1), CARDS["cifar100"], tmp_path / "cifar-100-python"
    content = batch(rng, 20, 100, "fine_labels") | {"coarse_labels": [0] * 20}
    write_pickle(base / "test", content)
    write_pickle(base / "meta", {"coarse_label_names": ["fish"], "fine_label_names": sorted(card.classes)})
    rows = readers.read(card, Part("cifar100", "test"), tmp_path)
    assert sorted(rows.labels.tolist()) == sorted(content["fine_labels"])
    assert rows.names[1] == "aquarium fish"
    assert len(rows.warnings) == 1
    write_pickle(base / "meta", {"fine_label_names": list(reversed(card.classes))})
    rows = readers.read(card, Part("cifar100", "test"), tmp_path)
    assert "cifar100: meta does not list the classes of the card in their order" in rows.warnings


def write_npy(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, array)


def test_cifar10_1_is_read_from_its_two_arrays(tmp_path: Path) -> None:
    pictures = np.random.default_rng(2).integers(256, size=(7, 32, 32, 3), dtype=np.uint8)
    write_npy(tmp_path / "cifar-10.1/cifar10.1_v6_data.npy", pictures)
    write_npy(tmp_path / "cifar-10.1/cifar10.1_v6_labels.npy", np.arange(7, dtype=np.int32))
    rows = readers.read(CARDS["cifar10.1"], Part("cifar10.1", "test"), tmp_path)
    for position in range(7):
        (picture,) = rows.load([position])
        assert np.array_equal(np.asarray(picture), pictures[rows.labels[position]])


def test_a_severity_of_cifar10_c_is_its_fifth_of_the_file(tmp_path: Path) -> None:
    stacked = np.repeat(np.arange(5, dtype=np.uint8), 4)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    write_npy(tmp_path / "CIFAR-10-C/gaussian_noise.npy", stacked)
    write_npy(tmp_path / "CIFAR-10-C/labels.npy", np.tile(np.array([3, 1, 4, 1], np.uint8), 5))
    card, prints = CARDS["cifar10-c"], set()
    for severity in range(1, 6):
        rows = readers.read(card, Part(card.name, "test", f"gaussian_noise-{severity}"), tmp_path)
        assert sorted(rows.labels.tolist()) == [1, 1, 3, 4]
        assert {np.asarray(picture).max() for picture in rows.load(range(4))} == {severity - 1}
        prints.add(rows.fingerprint)
    assert len(prints) == 5
    assert len(card.domains) == 19 * 5
