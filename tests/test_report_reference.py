"""What is committed of `results/` is what the code makes of the committed cells: tables byte by byte, page and figures.

Where one of these fails because a table was changed on purpose: the README of that folder says how to make it again.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from bench import cards, page, records, report
from bench.__main__ import parser
from bench.api import METHODS
from bench.report import Leaderboard

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = {"reference": ("finetune", "ood"), "baseline": ("smoke",)}
SUITES = [(folder, suite) for folder, suites in FOLDERS.items() for suite in suites]


def home(folder: str) -> Path:
    return ROOT / "results" / folder


@functools.cache
def boards(folder: str) -> dict[str, Leaderboard]:
    """Of every suite that there are cells of, as the command does it without --suite."""
    suites = list(cards.suites().values())
    found = report.read(home(folder), suites)
    assert not found.warnings
    shown = [suite for suite in suites if report.has_cells(suite, found.cells)]
    return {b.name: b for suite in shown for b in report.leaderboards(suite, found.cells, list(METHODS))}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_holds_the_tables_of_all_its_suites_and_no_other(folder: str) -> None:
    names = {file.name for file in (home(folder) / "tables").iterdir()}
    assert set(boards(folder)) == set(FOLDERS[folder])
    assert names == {f"{suite}.{format}" for suite in FOLDERS[folder] for format in ("md", "csv", "tex")}


@pytest.mark.parametrize("format", ["md", "tex"])
@pytest.mark.parametrize(("folder", "suite"), SUITES)
def test_the_cells_give_the_committed_table_byte_by_byte(folder: str, suite: str, format: str) -> None:
    committed = (home(folder) / "tables" / f"{suite}.{format}").read_bytes()
    assert report.render(boards(folder)[suite], format).encode() == committed


@pytest.mark.parametrize(("folder", "suite"), SUITES)
def test_the_cells_give_every_unrounded_number_of_the_committed_csv(folder: str, suite: str) -> None:
    committed = (home(folder) / "tables" / f"{suite}.csv").read_text(encoding="utf-8")
    made = report.render(boards(folder)[suite], "csv")
    if made == committed:
        return
    for one, other in zip(*(csv.reader(io.StringIO(text)) for text in (made, committed)), strict=True):
        for number, known in zip(one, other, strict=True):  # another processor may round the last digit otherwise
            assert number == known or float(number) == pytest.approx(float(known), rel=1e-12)


def test_the_committed_page_holds_what_these_cells_say() -> None:
    text = (home("reference") / "index.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    made = json.loads(json.dumps(page.data([boards("reference")[name] for name in sorted(FOLDERS["reference"])])))
    assert {suite["name"]: suite for suite in json.loads(data)["suites"]} == {s["name"]: s for s in made["suites"]}


@pytest.mark.parametrize("suite", FOLDERS["reference"])
def test_every_figure_that_can_be_drawn_is_committed_with_its_caption(suite: str) -> None:
    board, folder = boards("reference")[suite], home("reference") / "figures"
    captions = {chart.name: chart.caption for chart in board.charts if not chart.absent}
    there = {path.stem.removeprefix(f"{suite}-") for path in folder.glob(f"{suite}-*.png")} - {"mask"}
    assert there == set(captions)
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.pdf")}
    for name, caption in captions.items():
        with Image.open(folder / f"{suite}-{name}.png") as image:
            assert image.info["Description"] == caption
            assert image.info["Title"] == f"{board.title}: {next(c.title for c in board.charts if c.name == name)}"


def test_the_readmes_table_is_the_reference_runs() -> None:
    table = README.split("<!-- reference table")[1].split("```")[1]
    board = boards("reference")["ood"]
    columns = [column.title for column in board.headline.columns]
    for row, entries in zip(board.rows, board.headline.entries, strict=True):
        mean, first = entries[columns.index("mean")], entries[0]
        start = re.escape(row.title.removesuffix(" few-shot"))  # which stands on a line of its own
        (line,) = [line for line in table.splitlines() if re.match(rf"{start} +\d", line) and "±" in line]
        assert f"{100 * (mean.value or 0):.1f} ± {50 * ((mean.high or 0) - (mean.low or 0)):.1f}" in line
        assert f" {100 * (first.value or 0):.1f} " in line


def test_the_reference_was_made_by_the_commands_of_its_readme() -> None:
    text = (home("reference") / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"python -m bench ([^\n`]*)", text)
    for command in commands:
        parser().parse_args(command.split())
    found = records.scan(home("reference"))
    assert not found.warnings
    recorded = {str(record.provenance["command"]) for record in found.records}
    assert recorded == {f"python -m bench {command}" for command in commands if command.startswith("run ")}


@pytest.mark.parametrize(("folder", "limit"), [("reference", 4_500_000), ("baseline", 600_000)])
def test_what_is_committed_is_small_and_speaks_of_no_place_on_a_disk(folder: str, limit: int) -> None:
    files = [file for file in home(folder).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < limit
    for file in files:
        if file.suffix in (".json", ".md", ".csv", ".tex", ".html"):
            assert not re.search(r"/(tmp|home|root|Users)/", file.read_text(encoding="utf-8")), file
