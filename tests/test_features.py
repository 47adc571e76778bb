"""What methods are served: encoded once, the same for all, in any order, and never with a test label."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import backbone, cards, provenance, readers
from bench.api import Batch, Card, Classes, Part, UserError
from bench.backbone import Crops, OpenClip, Stored, counted
from bench.cache import Cache
from bench.features import Features, rows_hash
from bench.readers import Rows

PHOTO = "world-photo"


def photos(split: str = "test", n: int = 12) -> Rows:
    return readers.read(cards.card(PHOTO), Part(PHOTO, split)).take(range(n))  # type: ignore[arg-type]


@pytest.fixture
def features(tiny: OpenClip, tmp_path: Path) -> Features:
    return Features(tiny, Cache(tmp_path))


def test_features_are_the_image_towers_and_come_from_the_cache_the_second_time(features: Features) -> None:
    rows = photos()
    first, cost = features.plain(rows, PHOTO)
    direct = features.backbone.encode_images(features.backbone.transform.test(rows.load(range(12))))  # type: ignore[union-attr]
    assert torch.allclose(first, direct, atol=1e-6)
    with counted(features.backbone) as counts:
        again, known = features.plain(rows, PHOTO)
    assert counts.images == 0
    assert torch.equal(first, again)
    assert known.seconds == cost.seconds > 0
    assert known.forwards == 12


def test_views_of_a_picture_do_not_depend_on_which_others_are_encoded(features: Features) -> None:
    rows = photos()
    serve, cost = features.batches(rows, PHOTO, frozenset({"views"}), view_seed=1, views=5, size=5)
    together = torch.cat([batch.views for batch in serve()])  # type: ignore[misc]
    assert together.shape == (12, 5, features.backbone.dim)
    assert cost.forwards == 12 * 5
    order = [7, 3]
    serve, _ = features.batches(rows.take(order), PHOTO, frozenset({"views"}), view_seed=1, views=5)
    assert torch.allclose(next(serve()).views, together[order], atol=1e-5)  # type: ignore[arg-type]


def test_another_view_seed_gives_other_views_and_the_same_centre(features: Features) -> None:
    one, two = (
        next(features.batches(photos(n=3), PHOTO, frozenset({"views"}), view_seed=seed, views=4)[0]())
        for seed in (1, 2)
    )
    assert one.views is not None
    assert two.views is not None
    assert torch.equal(one.views[:, 0], two.views[:, 0])
    assert torch.equal(one.views[:, 0], one.features)
    assert not torch.allclose(one.views[:, 1:], two.views[:, 1:])


def test_a_batch_holds_what_was_asked_for_and_has_no_place_for_labels(features: Features) -> None:
    serve, _ = features.batches(photos(), PHOTO, frozenset({"features"}), 1, 8, size=5)
    batches = list(serve())
    assert [len(batch.ids) for batch in batches] == [5, 5, 2]
    assert all(batch.views is None and batch.pixels is None for batch in batches)
    assert {f.name for f in fields(Batch)} == {"ids", "features", "views", "pixels"}
    ids = [id_ for batch in batches for id_ in batch.ids]
    assert len(set(ids)) == 12
    assert not set(ids) & set(photos().ids)


def test_pixels_are_those_that_the_features_were_made_of(features: Features) -> None:
    serve, _ = features.batches(photos(n=4), PHOTO, frozenset({"features", "pixels"}), 1, 8)
    batch = next(serve())
    assert batch.pixels is not None
    assert torch.allclose(features.backbone.encode_images(batch.pixels), batch.features, atol=1e-6)


def support_of(features: Features, rows: Rows, val: Rows | None = None, seed: int = 1):
    classes = Classes(rows.names, ("a photo of a {}.",), tuple(range(len(rows.names))))
    return features.support(rows, val, classes, PHOTO, seed)


def test_support_crops_follow_the_seed_and_are_accounted_as_encoding(features: Features) -> None:
    rows = photos("train", 6)
    support, cost = support_of(features, rows)
    before = cost.seconds
    crops = support.augment(3)
    assert crops.shape == (6, 3, features.backbone.dim)
    assert cost.seconds > before
    assert cost.augmented
    other, _ = support_of(features, rows, seed=2)
    assert not torch.allclose(crops, other.augment(3))
    same, _ = support_of(features, rows)
    assert torch.equal(crops, same.augment(3))


def test_fewer_crops_are_the_first_of_more_and_are_not_encoded_again(features: Features, tmp_path: Path) -> None:
    rows = photos("train", 6)
    support, cost = support_of(features, rows)
    many = support.augment(70)  # more than are drawn at a time
    with counted(features.backbone) as counts:
        few, spent = support_of(features, rows)
        assert torch.equal(few.augment(5), many[:, :5])
    assert counts.images == 0
    assert spent.found == {"test transform": True, "5 support crops": True}
    whole, part = cost.entries["70 support crops"].seconds, spent.entries["5 support crops"].seconds
    assert part == pytest.approx(whole * 5 / 70)
    alone, _ = support_of(Features(features.backbone, Cache(tmp_path / "other")), rows)
    assert torch.allclose(alone.augment(5), many[:, :5], atol=1e-5)


def test_what_was_found_and_where_it_was_measured_is_known(features: Features) -> None:
    _, first = features.batches(photos(n=3), PHOTO, frozenset({"views"}), view_seed=1, views=4)
    _, again = features.batches(photos(n=3), PHOTO, frozenset({"views"}), view_seed=2, views=4)
    assert first.found == {"test transform": False, "views": False}
    assert again.found == {"test transform": True, "views": False}
    assert again.machines == {provenance.machine("cpu")}
    assert provenance.machine("cpu").endswith("1 thread")


def test_an_entry_says_in_words_what_it_holds(features: Features) -> None:
    features.crops(photos(n=3), PHOTO, 4, Crops(), 7, "views")
    (entry,) = features.cache.entries()
    assert entry.shape == (3, 4, features.backbone.dim)
    known = {"dataset": PHOTO, "what": "views", "seed": 7, "backbone": "random-0", "precision": "fp32"}
    assert {name: entry.key[name] for name in known} == known


def resident(root: Path) -> int:
    """KiB of this process's memory that are pages of files below `root` (proc_pid_smaps(5))."""
    total, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            mine = str(root) in line
        elif mine and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says which pages are resident")
def test_views_that_were_served_do_not_stay_in_memory(features: Features, tmp_path: Path) -> None:
    serve, _ = features.batches(photos(), PHOTO, frozenset({"views"}), view_seed=1, views=9, size=5)
    batches = serve()
    next(batches)
    assert resident(tmp_path) >= 12 * 8 * 128 * 4 // 1024
    assert len(list(batches)) == 2
    assert resident(tmp_path) == 0


def test_features_that_are_not_finite_are_refused_and_not_kept(make_backbone, tmp_path: Path) -> None:
    backbone = make_backbone(3)
    backbone.model.visual.attnpool.c_proj.weight.fill_(float("inf"))
    with pytest.raises(UserError, match=r"random-3 in fp32 are not finite: use --precision fp32"):
        Features(backbone, Cache(tmp_path)).plain(photos(n=2), PHOTO)
    assert list(tmp_path.iterdir()) == []


def test_validation_pictures_come_with_the_support(features: Features) -> None:
    support, _ = support_of(features, photos("train", 6), photos("val", 4))
    assert support.val is not None
    assert support.val.labels.tolist() == photos("val", 4).labels.tolist()
    assert support.val.augment(2).shape == (4, 1, features.backbone.dim)


def test_a_bundle_is_served_as_stored_without_a_picture_being_asked_for(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)

    def load(positions):
        raise AssertionError("a bundle has no pictures")

    rows = Rows(("a", "b", "c", "d"), np.arange(4), tuple("wxyz"), load, "f", stored)
    backbone = Stored("features:x", np.eye(4, 8, dtype=np.float32), 100.0, "f")
    features = Features(backbone, Cache(tmp_path))
    serve, cost = features.batches(rows, "x", frozenset({"features"}), 1, 64)
    assert np.array_equal(next(serve()).features.numpy(), stored)
    assert (cost.seconds, cost.forwards) == (0.0, 0)
    support, about = support_of(features, rows)
    assert support.augment(20).shape == (4, 1, 8)
    assert about.augmented


def test_the_hash_of_rows_changes_with_their_order_and_their_choice() -> None:
    rows = photos()
    hashes = {rows_hash(rows), rows_hash(rows.take([1, 0])), rows_hash(rows.take([0])), rows_hash(photos("val"))}
    assert len(hashes) == 4


# -- worker processes, interruptions and pictures that cannot be read --------------------------------------------------


def folder_of_pictures(root: Path, count: int) -> Card:
    """`count` real files below root/pets, of two classes in turn."""
    for i in range(count):
        path = root / "pets" / ("cat", "dog")[i % 2] / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((48, 40)).save(path)
    return Card("pets", "Pets", "class-folders", ("a photo of a {}.",), "none", "nowhere", folder="pets")


def pets(root: Path, count: int) -> Rows:
    return readers.read(folder_of_pictures(root, count), Part("pets", "test"), root)


def bytes_of(cache: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in cache.glob("*/array.npy"))


def small_blocks(monkeypatch: pytest.MonkeyPatch, side: int = 32) -> None:
    """Eight pictures pass the image tower together, so that few files are many blocks."""
    monkeypatch.setattr("bench.features.PIXELS", 8 * 3 * side * side)


def test_worker_processes_change_no_byte(vits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    rows, drawn = pets(tmp_path, 20), photos()
    for workers in (0, 2):
        features = Features(vits["real"], Cache(tmp_path / str(workers)), workers=workers)
        features.plain(rows, "pets")
        features.crops(rows, "pets", 3, Crops(), 1, "views")
        features.crops(drawn, PHOTO, 3, Crops(), 1, "views")
    assert len(bytes_of(tmp_path / "0")) == 3
    assert bytes_of(tmp_path / "0") == bytes_of(tmp_path / "2")


def test_pixels_for_methods_come_from_worker_processes_too(vits, tmp_path: Path) -> None:
    rows, served = pets(tmp_path, 20), []
    for workers in (0, 2):
        features = Features(vits["real"], Cache(tmp_path / "cache"), workers=workers)
        serve, _ = features.batches(rows, "pets", frozenset({"pixels"}), 1, 8, size=6)
        served.append(torch.cat([batch.pixels for batch in serve()]))  # type: ignore[misc]
    assert served[0].shape == (20, 3, 32, 32)
    assert torch.equal(*served)


def test_progress_counts_pictures_up_to_all_of_them(vits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    told: list[tuple[str, int, int]] = []
    Features(vits["real"], Cache(tmp_path / "cache"), lambda *words: told.append(words)).plain(
        pets(tmp_path, 20), "pets"
    )
    assert told == [("encoding pets", done, 20) for done in (0, 8, 16, 20)]


ENCODING = """
import os, signal, sys
from pathlib import Path
import bench.features
from bench import backbone, readers
from bench.api import Card, Part
from bench.cache import Cache
from bench.features import Features
bench.features.PIXELS = 8 * 3 * 64 * 64
root, workers = Path(sys.argv[1]), int(sys.argv[2])
def tick(text, done, total):
    if done == 24:
        os.kill(os.getpid(), signal.SIGKILL)
card = Card("pets", "Pets", "class-folders", ("a photo of a {}.",), "none", "nowhere", folder="pets")
rows = readers.read(card, Part("pets", "test"), root)
Features(backbone.load("world-rn"), Cache(root / "cache", shard=0), tick, workers).plain(rows, "pets")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_encoding_goes_on_behind_its_last_shard_and_gives_the_same_bytes(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, side=64)
    rows, model = pets(tmp_path, 43), backbone.load("world-rn")
    words = [sys.executable, "-c", ENCODING, str(tmp_path), str(workers)]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "cache").glob(".part-*"))) == 1
    told: list[int] = []
    features = Features(model, Cache(tmp_path / "cache"), lambda text, done, n: told.append(done), workers)
    with counted(features.backbone) as counts:
        found, _ = features.plain(rows, "pets")
    assert told == [24, 32, 40, 43]
    assert counts.images == 43 - 24
    whole, _ = Features(model, Cache(tmp_path / "other")).plain(rows, "pets")
    assert torch.equal(found, whole)
    assert bytes_of(tmp_path / "cache") == bytes_of(tmp_path / "other")
    assert not list((tmp_path / "cache").glob(".*"))


def broken(rows: Rows, root: Path, *places: int) -> list[Path]:
    """Spoil the files of these rows, without a change of their size."""
    paths = [root / "pets" / rows.ids[place] for place in places]
    for path in paths:
        path.write_bytes(b"x" * path.stat().st_size)
    return paths


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_ends_encoding_with_its_name(
    vits, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    rows = pets(tmp_path, 20)
    (path,) = broken(rows, tmp_path, 11)
    features = Features(vits["real"], Cache(tmp_path / "cache"), workers=workers)
    with pytest.raises(UserError) as caught:
        features.plain(rows, "pets")
    assert str(caught.value) == (
        f"{path} is not a picture that can be read (its bytes are of no known format); replace the file, or leave such "
        "pictures out by --on-bad-image skip."
    )
    with pytest.raises(UserError, match="of no known format"):
        list(features.images(rows, "pets", 1)([(0, torch.tensor([3, 11])), (0, torch.tensor([1]))], (0.1, 1.0), 0.5))


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_cannot_be_read_are_left_out_and_counted(vits, tmp_path: Path, workers: int) -> None:
    rows = pets(tmp_path, 150)
    broken(rows, tmp_path, 3, 70, 149)
    features = Features(vits["real"], Cache(tmp_path / "cache"), workers=workers)
    left = features.sound(rows, "pets")
    assert left.ids == tuple(id_ for place, id_ in enumerate(rows.ids) if place not in (3, 70, 149))
    assert left.labels.tolist() == [label for place, label in enumerate(rows.labels) if place not in (3, 70, 149)]
    assert left.skipped == 3
    assert left.warnings == (f"pets: 3 of 150 pictures cannot be read and were left out, such as {rows.ids[3]}",)
    assert rows_hash(left) != rows_hash(rows)
    assert features.plain(left, "pets")[0].shape == (147, 24)


def test_all_pictures_are_opened_once_and_those_that_were_broken_again(tmp_path: Path, vits) -> None:
    rows = pets(tmp_path, 20)
    good = (tmp_path / "pets" / rows.ids[4]).read_bytes()
    broken(rows, tmp_path, 4, 5)
    asked: list[int] = []

    def load(places):
        asked.extend(places)
        return rows.load(places)

    features = Features(vits["real"], Cache(tmp_path / "cache"))
    watched = replace(rows, load=load)
    assert features.sound(watched, "pets").skipped == 2
    assert asked == list(range(20))
    asked.clear()
    (tmp_path / "pets" / rows.ids[4]).write_bytes(good)
    assert features.sound(watched, "pets").skipped == 1
    assert asked == [4, 5]


def test_rows_that_can_all_be_read_stay_as_they_are(vits, tmp_path: Path) -> None:
    rows, features = pets(tmp_path, 20), Features(vits["real"], Cache(tmp_path / "cache"))
    assert features.sound(rows, "pets") is rows


def test_rows_of_which_none_can_be_read_are_refused(vits, tmp_path: Path) -> None:
    rows = pets(tmp_path, 4)
    broken(rows, tmp_path, 0, 1, 2, 3)
    with pytest.raises(UserError, match=r"pets: none of 4 pictures can be read: `python -m bench data check`"):
        Features(vits["real"], Cache(tmp_path / "cache")).sound(rows, "pets")


def test_a_million_rows_take_a_few_hundred_mebibytes(tmp_path: Path) -> None:
    """Measured on 5000 files, at most 700 bytes a row while they are read and 400 afterwards."""
    card, count = folder_of_pictures(tmp_path, 1), 5000
    for i in range(1, count):
        os.link(tmp_path / "pets" / "cat" / "0000.png", tmp_path / "pets" / "cat" / f"ILSVRC2012_val_{i:08}.png")
    readers.read(card, Part("pets", "test"), tmp_path)
    tracemalloc.start()
    try:
        rows = readers.read(card, Part("pets", "test"), tmp_path)
        rows_hash(rows)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rows) == count
    assert held < 400 * count
    assert most < 700 * count
