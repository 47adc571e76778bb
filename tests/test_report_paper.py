"""The layouts of papers' tables, and what papers print beside what was measured here."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from generated import ORDER, SHIFT, cell, made

import methods  # noqa: F401
from bench import cards, report
from bench.api import METHODS, Record, Suite, UserError
from bench.report.published import PublishedTable

TABLES = report.published()
NAMED = {table.name: table for table in TABLES}
SHIFTS = replace(SHIFT, name="imagenet-ood", tests=NAMED["test-time"].tests)
ORDER_HERE = [*ORDER, "tpt", "rada-ttt"]


def measured(suite: Suite, *names: str) -> list[Record]:
    return [cell(name, task, 1, "1110") for name in names for task in cards.tasks(suite)]


def in_layout(suite: Suite, *names: str, tables=TABLES) -> report.Leaderboard:
    return report.paper(suite, made(suite, measured(suite, *names), ORDER_HERE), tables)


def column(board: report.Leaderboard, title: str) -> dict[str, float | None]:
    (block,) = board.blocks
    place = [c.title for c in block.columns].index(title)
    return {row.title: entries[place].value for row, entries in zip(board.rows, block.entries, strict=True)}


# -- published.toml ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "row"), [(table, row) for table in TABLES for row in table.rows], ids=str)
def test_the_recomputed_average_is_that_of_the_printed_entries(table: PublishedTable, row):
    if table.layout == "base-to-new":
        base, new = row.values
        average = 2 * base * new / (base + new)
    else:
        over = [value for test, value in zip(table.tests, row.values, strict=True) if test != table.id]
        average = sum(over) / len(over)
    assert row.recomputed == pytest.approx(average, abs=0.0005001)


def test_the_averages_that_differ_from_their_entries_are_these():
    differ = {(table.name, row.title) for table in TABLES for row in table.rows if table.differs(row)}
    assert differ == {
        ("test-time", "TPT"),
        ("test-time", "CoCoOp+TPT"),
        ("base-to-new", "ProGrad"),
        ("base-to-new", "CLIP-Adapter"),
    }


def test_all_three_tables_are_there_with_their_sources_and_rows():
    assert {name: (table.layout, len(table.rows)) for name, table in NAMED.items()} == {
        "test-time": ("shifts", 8),
        "base-to-new": ("base-to-new", 12),
        "fine-tuning": ("in-distribution", 10),
    }
    assert all("ICCV 2025" in table.source and table.backbone == "ViT-B/16" for table in TABLES)


def test_the_forms_that_stand_below_a_published_row_exist():
    assert {name for table in TABLES for row in table.rows for name in row.ours} <= set(METHODS)


TABLE = """[[table]]
name = "t"
title = "T"
layout = "shifts"
source = "S"
backbone = "B"
digits = 1
tests = ["a", "b"]
headings = ["A", "B"]
average = "mean"
rows = [{ title = "x", values = [1.0, 2.0], average = 1.5, recomputed = 1.5 }]
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "[", "cannot be read"),
        ('source = "S"', "", "table t: source is missing"),
        ('layout = "shifts"', 'layout = "shift"', "unknown layout 'shift'; did you mean shifts"),
        ("values = [1.0, 2.0]", "values = [1.0]", "row x has 1 values for 2 headings"),
        ('headings = ["A", "B"]', 'headings = ["A"]', "2 tests need as many headings, not 1"),
        ("recomputed = 1.5 }", "recomputed = 1.5, our = [] }", "row x: unknown key 'our'; did you mean ours"),
    ],
)
def test_a_mistake_in_the_file_is_named(old: str, new: str, says: str, tmp_path: Path):
    (tmp_path / "published.toml").write_text(TABLE)
    assert report.published(tmp_path / "published.toml")[0].rows[0].values == (1.0, 2.0)
    (tmp_path / "published.toml").write_text(TABLE.replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(says)):
        report.published(tmp_path / "published.toml")


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_shifts_have_the_papers_headings_and_each_published_row_has_ours_below_it():
    board = in_layout(SHIFTS, "zero-shot", "tpt", "rada-ttt", "probe")
    assert [c.title for c in board.blocks[0].columns] == ["V2", "Sketch", "A", "R", "average"]
    titles = [row.title for row in board.rows]
    assert titles[:4] == ["CLIP (published)", "Zero-shot CLIP", "TPT (published)", "tpt"]
    assert titles[-4:] == ["RAda (published)", "rada-ttt", "RAda† (published)", "Probe"]
    assert column(board, "V2")["TPT (published)"] == pytest.approx(0.6435)
    assert column(board, "average")["tpt"] == 0.75
    assert [row.facts["source"] for row in board.rows[:2]] == [NAMED["test-time"].source, "measured here"]


def test_where_the_printed_average_is_not_that_of_its_entries_both_are_shown():
    text = report.render(in_layout(SHIFTS, "zero-shot"), "md")
    lines = [[word.strip() for word in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [r"TPT (published) \[1\]", "64.35", "47.94", "54.77", "77.06", r"60.81 \[2\]"] in lines
    assert ["CLIP (published)", "60.86", "46.09", "47.87", "73.98", "57.20"] in lines
    assert r"\[1\] printed; V2 should be 63.45" in text
    assert r"\[2\] printed 60.81; its entries give 61.03" in text


def test_published_rows_stand_only_in_the_columns_whose_tests_match_and_without_their_average():
    suite = replace(SHIFT, tests=("imagenet-v2", "toy:1"))
    board = in_layout(suite, "zero-shot")
    assert [c.title for c in board.blocks[0].columns] == ["V2", "toy:1", "average"]
    clip = [entry.value for entry in board.blocks[0].entries[0]]
    assert clip == [pytest.approx(0.6086), None, None]


def test_a_suite_of_other_tests_has_the_layout_with_our_rows_alone():
    board = in_layout(SHIFT, "zero-shot", "probe")
    assert [c.title for c in board.blocks[0].columns] == ["toy:1", "toy:2", "average"]
    assert [row.title for row in board.rows] == ["Zero-shot CLIP", "Probe"]
    assert "published" not in board.footer


def test_base_to_new_shows_base_new_and_h_over_the_same_data_sets():
    suite = Suite("b2n", "B2N", "base-to-new", NAMED["base-to-new"].tests, ("zero-shot",), "tiny", None, (4,))
    board = in_layout(suite, "zero-shot")
    assert [c.title for c in board.blocks[0].columns] == ["base", "new", "H"]
    assert board.rows[0].title == "CLIP (published)"
    assert [e.value for e in board.blocks[0].entries[0]] == [pytest.approx(v) for v in (0.6934, 0.7422, 0.7170)]
    assert "gaps below 0.8 points are inside the noise" in board.footer["published"]
    fewer = replace(suite, tests=suite.tests[:3])
    assert [row.title for row in in_layout(fewer, "zero-shot").rows] == ["Zero-shot CLIP"]


def test_in_distribution_stands_first_and_the_average_is_over_the_shifts():
    table = NAMED["fine-tuning"]
    suite = replace(SHIFT, tests=(*table.tests[1:], table.id), id=table.id)
    board = in_layout(suite, "zero-shot")
    titles = [c.title for c in board.blocks[0].columns]
    assert titles == ["ID", "V2", "R", "A", "Sketch", "ObjectNet", "average of the shifts"]
    flyp = next(i for i, row in enumerate(board.rows) if row.title == "FLYP (published)")
    assert [e.value for e in board.blocks[0].entries[flyp]] == [
        pytest.approx(v / 100) for v in (82.6, 73.0, 71.4, 48.1, 49.6, 58.7, 60.2)
    ]
    assert "half of the images" in board.footnotes[board.rows[flyp].notes[0] - 1]


def test_few_shot_has_no_layout_of_a_paper():
    suite = Suite("few", "Few", "few-shot", ("one",), ("zero-shot",), "tiny", None, (1,))
    with pytest.raises(UserError, match="suite 'few' is few-shot, which has no layout of a paper's table"):
        in_layout(suite, "zero-shot")


def test_footnotes_are_numbered_anew_and_the_best_is_among_what_was_measured():
    board = in_layout(SHIFTS, "zero-shot", "tpt")
    used = [n for row in board.rows for n in row.notes]
    used += [n for entries in board.blocks[0].entries for entry in entries for n in entry.notes]
    assert sorted(set(used)) == list(range(1, len(board.footnotes) + 1))
    standing = {row.title: e[0].standing for row, e in zip(board.rows, board.blocks[0].entries, strict=True)}
    assert {title for title, place in standing.items() if place} == {"Zero-shot CLIP", "tpt"}
    assert "best and ties are among them alone" in board.footer["published"]


def test_the_papers_table_is_the_golden_text():
    board = in_layout(SHIFTS, "zero-shot", "tpt", "rada-ttt")
    path = Path(__file__).parent / "golden" / "paper.md"
    assert report.render(board, "md") == path.read_text(encoding="utf-8")
