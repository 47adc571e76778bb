"""`run --images DIR`: a user's own folders of pictures, without a card, from the command line to the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from bench import records
from bench.__main__ import main

COLOURS = {"red cup": (200, 20, 20), "green_leaf": (20, 200, 20), "blue sky": (20, 20, 200)}


def pictures(folder: Path, splits: dict[str, int], names: Sequence[str] = tuple(COLOURS)) -> Path:
    """So many pictures a class in each split; the split "." is the folder itself."""
    for split, count in splits.items():
        for name in names:
            for i in range(count):
                file = folder / split / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 30), tuple(c + i for c in COLOURS[name])).save(file)
    return folder


def run(folder: Path, results: Path, *words: str) -> int:
    return main(["run", "--images", str(folder), "--results", str(results), "--workers", "0", "--seeds", "1", *words])


def test_folders_of_classes_are_answered_zero_shot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pictures(tmp_path / "things", {".": 4}), tmp_path / "results") == 0
    (record,) = records.scan(tmp_path / "results", predictions=True).records
    assert (record.method, record.task.name, record.status) == ("zero-shot", "images-things", "done")
    assert record.classes == ("blue sky", "green leaf", "red cup")
    assert sorted(record.label.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    assert "Pictures of things" in capsys.readouterr().out


def test_folders_of_splits_are_learnt_from_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = pictures(tmp_path / "things", {"train": 3, "val": 2, "test": 5}), tmp_path / "results"
    assert run(folder, results, "--methods", "linear-probe") == 0
    found = {(r.method, r.task.shots): r for r in records.scan(results, predictions=True).records}
    assert {shots for _, shots in found} == {0, 1, 2}, "of few-shot's 1 to 16 shots, those that 3 pictures a class give"
    assert {r.status for r in found.values()} == {"done"}
    assert found["lp", 2].support == 3 * 2 + 3 * 2, "two to learn on and two to choose C by, of each class"
    assert len(found["lp", 2].ids) == 15
    shown = capsys.readouterr().out
    assert main(["report", "--images", str(folder), "--suite", "few-shot", "--results", str(results)]) == 0
    assert "Pictures of things" in shown
    assert "Pictures of things" in capsys.readouterr().out


def test_another_protocol_may_be_asked_of_the_same_pictures(tmp_path: Path) -> None:
    folder, results = pictures(tmp_path / "things", {"train": 2, "test": 2}), tmp_path / "results"
    assert run(folder, results, "--methods", "clap", "--suite", "base-to-new", "--shots", "2") == 0
    names = {r.task.name: r.classes for r in records.scan(results).records}
    assert names["images-things/base"] == ("blue sky", "green leaf")
    assert names["images-things/new"] == ("red cup",)


@pytest.mark.parametrize(
    ("splits", "words", "says"),
    [
        ({".": 2}, ["--methods", "coop"], "has no train folder, so only methods without labelled pictures can run"),
        ({"train": 2, "test": 2}, ["--shots", "4"], "asks for [4]: use --shots 2 or less."),
        ({"train": 2}, [], "has a train folder and no test folder"),
        ({".": 2}, ["--features", "x.npz"], "--images and --features both bring data: leave out one."),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], splits: dict[str, int], words: list[str], says: str
) -> None:
    assert run(pictures(tmp_path / "things", splits), tmp_path / "results", *words) == 2
    assert says in capsys.readouterr().err


def test_without_a_suite_and_pictures_the_suite_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert capsys.readouterr().err == "error: --suite is missing: name a protocol, see `python -m bench list suites`.\n"
