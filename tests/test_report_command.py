"""`python -m bench report` on stored cells: which suites it shows, what it writes, and its answers to mistakes."""

from dataclasses import replace
from pathlib import Path

import pytest
from generated import cell

from bench import cards, records
from bench.__main__ import main
from bench.api import Suite
from bench.report import FORMATS


def store(root: Path, suite: Suite, *methods: str) -> None:
    for task in cards.tasks(suite):
        for name in methods:
            records.save(cell(name, task, 1, [1] * 30 + [0] * 10), root)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Cells of three suites, one of each setting."""
    for name in ("smoke", "few-shot", "base-to-new"):
        store(tmp_path, cards.suite(name), "zero-shot", "probe")
    return tmp_path


def written(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "tables").iterdir())


def test_without_a_suite_every_suite_is_shown_that_there_are_cells_of(
    results: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["report", "--results", str(results)]) == 0
    names = ("base-to-new", "few-shot", "smoke")
    assert written(results) == [f"{name}.{ending}" for name in names for ending in ("csv", "md", "tex")]
    printed = capsys.readouterr().out
    for name in names:
        assert cards.suite(name).title in printed


def test_suites_and_formats_can_be_chosen(results: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", "--suite", "smoke,few-shot", "--format", "md", "--results", str(results)]) == 0
    assert written(results) == ["few-shot.md", "smoke.md"]
    printed = capsys.readouterr().out.split()
    assert printed == ["wrote", f"{results}/tables/smoke.md", "wrote", f"{results}/tables/few-shot.md"]


def test_the_same_cells_give_the_same_bytes(results: Path):
    texts = []
    for _ in range(2):
        assert main(["report", "--results", str(results)]) == 0
        texts.append({path.name: path.read_bytes() for path in (results / "tables").iterdir()})
        for path in (results / "tables").iterdir():
            path.unlink()
    assert texts[0] == texts[1]


def test_in_papers_style_the_suites_that_have_a_layout_are_written_beside_the_others(results: Path):
    assert main(["report", "--style", "paper", "--format", ",".join(FORMATS), "--results", str(results)]) == 0
    assert written(results) == [f"{n}-paper.{e}" for n in ("base-to-new", "smoke") for e in ("csv", "md", "tex")]


def test_a_damaged_cell_is_named_and_the_others_are_shown(results: Path, capsys: pytest.CaptureFixture[str]):
    place = records.places(results)[0]
    (place / "predictions.npz").unlink()
    assert main(["report", "--suite", "base-to-new", "--format", "terminal", "--results", str(results)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "is damaged (predictions.npz is missing)" in printed
    assert "average over 3 data sets" in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--suite", "ood"], "no stored cells of suite 'ood': run python -m bench run --suite ood first"),
        (["--suite", "smoke,oood"], "unknown suite 'oood'; did you mean ood"),
        (["--format", "md,pdf"], "unknown format 'pdf'"),
        (["--style", "paper", "--suite", "few-shot"], "few-shot, which has no layout of a paper's table"),
        (["--features", "x.npz"], "--suite: name the suite that the "),
    ],
)
def test_a_mistake_is_said_in_one_sentence(words, says: str, results: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", *words, "--results", str(results)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_cells_of_no_suite_are_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    suite = replace(cards.suite("smoke"), limit=7)
    store(tmp_path, suite, "probe")
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert "holds no cells of any suite" in " ".join(capsys.readouterr().err.split())
