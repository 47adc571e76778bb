"""`--on-bad-image`: a run ends with the file's name, or leaves the picture out, counts it, and says so everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cards, readers, records, sampling
from bench.__main__ import main
from bench.api import Part, Record

SPLITS = {"train": 6, "val": 4, "test": 10}
Said = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with 20 test pictures of two classes, and a suite on them."""
    home = tmp_path / "datasets"
    (home / "suites").mkdir(parents=True)
    (home / "pets.toml").write_text("""
name = "pets"
title = "Pets"
reader = "class-folders"
templates = ["a photo of a {}."]
licence = "MIT"
source = "https://pets.org"
folder = "pets"
classes = ["cat", "dog"]
""")
    (home / "suites" / "pets.toml").write_text("""
name = "pets"
title = "Pets"
setting = "few-shot"
tests = ["pets"]
admits = ["zero-shot", "few-shot"]
backbone = "world-rn"
shots = [2]
seeds = 2
""")
    monkeypatch.setattr(cards, "home", lambda: home)
    for split, count in SPLITS.items():
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                path = tmp_path / "data" / "pets" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng([label, i]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(noise).resize((48, 40)).save(path)
    return tmp_path / "data"


def spoil(root: Path, *names: str) -> None:
    """Other bytes, and as many."""
    for name in names:
        path = root / "pets" / name
        path.write_bytes(b"x" * path.stat().st_size)


def run(root: Path, *words: str, methods: str = "zero-shot") -> int:
    results = root.parent / "results"
    there = ["--data-root", str(root), "--results", str(results), "--workers", "0"]
    return main(["run", "--methods", methods, "--suite", "pets", *there, *words])


def cells(root: Path, **about: object) -> list[Record]:
    found = [records.load(path) for path in records.places(root.parent / "results")]
    return [cell for cell in found if all(getattr(cell, name) == value for name, value in about.items())]


def test_by_default_the_run_ends_with_the_name_of_the_file(root: Path, capsys: Said) -> None:
    spoil(root, "test/dog/7.png")
    assert run(root) == 2
    said = capsys.readouterr().err
    assert f"{root}/pets/test/dog/7.png is not a picture that can be read (its bytes are of no known format)" in said
    assert "--on-bad-image skip" in said
    assert cells(root) == []


def test_skipped_pictures_leave_the_test_set_and_are_counted_in_record_and_table(root: Path, capsys: Said) -> None:
    spoil(root, "test/dog/7.png", "test/cat/0.png")
    assert run(root, "--on-bad-image", "skip") == 0
    (cell,) = cells(root)
    assert len(cell.ids) == 18
    assert not {"test/dog/7.png", "test/cat/0.png"} & set(cell.ids)
    assert cell.provenance["skipped"] == {"test": 2}
    (note,) = (note for note in cell.notes if "left out" in note)
    assert note.startswith("pets: 2 of 20 pictures cannot be read and were left out, such as test/")
    shown = " ".join(capsys.readouterr().out.split())
    assert "18 images a task" in shown
    assert "pets: 2 of 20 pictures cannot be read and were left out" in shown


def test_where_nothing_is_broken_both_ways_are_the_same_cell(root: Path, capsys: Said) -> None:
    assert run(root) == 0
    assert run(root, "--on-bad-image", "skip") == 0
    assert "1 cells in" in capsys.readouterr().out
    (cell,) = cells(root)
    assert (len(cell.ids), cell.provenance["skipped"]) == (20, {"test": 0})


def test_cells_with_and_without_skipped_pictures_are_two_and_never_compared(root: Path, capsys: Said) -> None:
    assert run(root, methods="zero-shot") == 0
    spoil(root, "test/dog/7.png")
    assert run(root, "--on-bad-image", "skip", "--results", str(root.parent / "other")) == 0
    whole, other = root.parent / "results", root.parent / "other"
    ids = {records.load(path).id for folder in (whole, other) for path in records.places(folder)}
    assert len(ids) == 2
    capsys.readouterr()
    assert main(["gate", "--baseline", str(whole), "--results", str(other)]) == 3
    assert "not comparable: test data" in capsys.readouterr().out
    assert main(["compare", str(whole), str(other), "--suite", "pets"]) == 0
    said = capsys.readouterr().out
    assert "[1] B answered other images" in said


def test_a_picture_that_is_replaced_is_part_of_the_test_set_again(root: Path) -> None:
    path = root / "pets" / "test/dog/7.png"
    good = path.read_bytes()
    spoil(root, "test/dog/7.png")
    assert run(root, "--on-bad-image", "skip") == 0
    path.write_bytes(good)
    assert run(root, "--on-bad-image", "skip") == 0
    assert sorted(len(cell.ids) for cell in cells(root)) == [19, 20]


def test_a_labelled_picture_that_cannot_be_read_leaves_fewer_shots_and_the_record_says_so(root: Path) -> None:
    train, val = (readers.read(cards.card("pets"), Part("pets", split), root) for split in ("train", "val"))  # type: ignore[arg-type]
    chosen, few = sampling.few_shot(train.labels.tolist(), val.labels.tolist(), 2, 1, train.names)
    spoil(root, train.ids[chosen[0]], val.ids[few[0]], val.ids[few[1]])
    assert run(root, "--on-bad-image", "skip", "--seeds", "1", methods="lp") == 0
    (cell,) = cells(root, method="lp")
    assert cell.provenance["skipped"] == {"test": 0, "train": 1, "val": 2}
    assert any(note.startswith("pets: 1 of 4 pictures cannot be read") for note in cell.notes)
    assert any(note.startswith("pets: 2 of 4 pictures cannot be read") for note in cell.notes)
    assert len(cell.ids) == 20


def test_a_class_of_which_every_drawn_picture_is_broken_is_refused(root: Path, capsys: Said) -> None:
    spoil(root, *(f"train/cat/{i}.png" for i in range(6)))
    assert run(root, "--on-bad-image", "skip", methods="lp") == 2
    assert "pets: none of the pictures of 'cat' drawn with seed 1 can be read." in capsys.readouterr().err
