"""What the figures show, against numbers worked out by hand; that they can be read in grey; that bytes do not vary."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generated import CELLS, GRADED, ONE, ROWS, SHIFT, THREE, TWO, answers, cell, failed, few, graded, made
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from bench import cards, figures, records
from bench.__main__ import main
from bench.api import Record
from bench.figures import draw, style
from bench.report import Leaderboard
from bench.report.charts import front
from bench.report.looks import COLOURS, INK, looks_of
from bench.report.looks import SETTINGS as KINDS
from bench.report.model import Chart, Entry, Point, Row

ROOT = Path(__file__).parent.parent


@functools.cache
def three() -> Leaderboard:
    return graded(**THREE)


def chart(board: Leaderboard, name: str) -> Chart:
    return next(one for one in board.charts if one.name == name)


@contextmanager
def drawn(board: Leaderboard, name: str) -> Iterator:
    with style.applied():
        yield draw.DRAWINGS[name](board, chart(board, name))


def xy(line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def marked(axes) -> list:
    return [line for line in axes.lines if line.get_marker() not in ("None", "", None)]


def filled(line) -> bool:
    return to_hex(line.get_markerfacecolor()) != "#ffffff"


def words(figure) -> list[str]:
    """Every text of a figure that says something."""
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")) if text.get_text()]


def summary(board: Leaderboard, row: int) -> Entry:
    columns = [column.title for column in board.headline.columns]
    return board.headline.entries[row][columns.index("mean")]


# -- accuracy against cost --------------------------------------------------------------------------------------------


def priced(**methods: tuple[int, float]) -> Leaderboard:
    """Of two tasks: right answers of 20, milliseconds a picture."""
    zero = CELLS[0].cost
    cells = [
        answers(m.replace("_", "-"), task, k, cost=replace(zero, encode_ms=ms / 2, adapt_ms=ms / 4, predict_ms=ms / 4))
        for m, (k, ms) in methods.items()
        for task in (ONE, TWO)
    ]
    return made(SHIFT, cells, ROWS)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ({0: (1, 0.5), 1: (2, 0.4), 2: (3, 0.7)}, (0, 2)),
        ({0: (3, 0.5), 1: (2, 0.5), 2: (1, 0.1)}, (2, 1)),  # as accurate and dearer is dominated
        ({0: (1, 0.5), 1: (1, 0.6)}, (1,)),  # of the same cost the best
        ({0: (1, 0.5), 1: (1, 0.5)}, (0,)),  # of two equals the first
        ({}, ()),
    ],
)
def test_the_pareto_front_holds_who_is_better_than_all_that_cost_no_more(points, expected) -> None:
    assert front([Point(row, x, Entry(y)) for row, (x, y) in points.items()]) == expected


def test_cost_has_a_point_a_row_with_its_interval_and_those_of_the_front_are_filled_and_joined() -> None:
    board = priced(zero_shot=(10, 1.0), probe=(8, 2.0), views=(14, 64.0))
    with drawn(board, "cost") as figure:
        (axes,) = figure.axes
        points = {xy(line)[0]: line for line in marked(axes)}
        assert set(points) == {(1.0, 50.0), (2.0, 40.0), (64.0, 70.0)}
        assert {at for at, line in points.items() if filled(line)} == {(1.0, 50.0), (64.0, 70.0)}
        (line,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        assert xy(line)[:2] == [(1.0, 50.0), (64.0, 70.0)]
        assert xy(line)[2] == (axes.get_xlim()[1], 70.0)
        bars = [xy(other) for other in axes.lines if len(xy(other)) == 2]
        for row, ms in enumerate((1.0, 2.0, 64.0)):
            entry = summary(board, row)
            assert entry.low is not None
            assert entry.high is not None
            assert [(ms, 100 * entry.low), (ms, 100 * entry.high)] in bars
        assert axes.get_xscale() == "log"
        assert {text.get_text() for text in axes.texts} == {"Zero-shot CLIP", "Probe", "views"}
        kinds = {text.get_text() for text in figure.legends[0].get_texts()}
        assert kinds == {"zero-shot", "few-shot", "test-time", "Pareto front"}
        assert axes.get_ylabel() == "accuracy (%), mean over 2 tasks"


def test_names_beside_points_touch_neither_points_nor_each_other() -> None:
    board = priced(zero_shot=(10, 1.0), probe=(11, 1.02), tuned=(12, 1.04), views=(12, 1.3))
    with drawn(board, "cost") as figure:
        (axes,) = figure.axes
        figure.draw_without_rendering()
        boxes = [text.get_window_extent().shrunk(0.98, 0.9) for text in axes.texts]
        spots = [axes.transData.transform(xy(line)[0]) for line in marked(axes)]
        assert len(boxes) == 4
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert not any(box.contains(*spot) for spot in spots)


def test_times_of_several_machines_are_not_set_side_by_side() -> None:
    there = {"provenance": {**CELLS[0].provenance, "processor": "Pascaline"}}
    board = made(SHIFT, [*CELLS[:2], *(replace(one, **there) for one in CELLS[2:])])
    assert chart(board, "cost").absent == (
        "times were measured on 2 machines, and must not be compared: Abacus, 1 thread; Pascaline, 1 thread"
    )


# -- critical differences ---------------------------------------------------------------------------------------------


def test_ranks_stand_on_their_axis_and_bars_join_rows_within_the_critical_difference() -> None:
    board = three()
    shown = chart(board, "ranks")
    # views are always first; probe is second on three tasks, ties with zero-shot on two, and is third on one
    zero, probe = (3 * 3 + 2 * 2.5 + 2) / 6, (3 * 2 + 2 * 2.5 + 3) / 6
    assert {point.row: point.x for point in shown.panels[0].points} == pytest.approx({0: zero, 1: probe, 2: 1})
    assert shown.critical == pytest.approx(2.3437 * math.sqrt(3 * 4 / (6 * 6)), rel=1e-3)  # q at 5 % for three rows
    assert [set(group) for group in shown.joined] == [{2, 1}, {1, 0}]  # 1.333 apart and 0.333, but 1.667 is too much
    with drawn(board, "ranks") as figure:
        (axes,) = figure.axes
        spots = sorted(xy(line)[0] for line in marked(axes))
        assert spots == [pytest.approx(at) for at in [(1, 0), (probe, 0), (zero, 0)]]
        bars = sorted(xy(line) for line in axes.lines if line.get_linewidth() == 2.6)
        ends = [(left, right) for (left, _), (right, _) in bars]
        assert ends == [pytest.approx((1, probe), abs=0.05), pytest.approx((probe, zero), abs=0.05)]
        assert ends[0][0] < 1 < probe < ends[0][1]
        assert len({bar[0][1] for bar in bars}) == 2  # they overlap, so each has a level of its own
        assert {"views  1.00", "Probe  2.33", "2.67  Zero-shot CLIP", "critical difference 1.35"} <= set(words(figure))
        level = [xy(line) for line in axes.lines if {y for _, y in xy(line)} == {-1.25}]
        assert level == [[(1, -1.25), (pytest.approx(1 + (shown.critical or 0)), -1.25)]]
    assert "Descriptive" in shown.caption


def test_too_few_tasks_or_rows_are_no_ranking_and_it_is_said_why() -> None:
    few_tasks = chart(made(SHIFT, CELLS), "ranks").absent
    assert few_tasks == (
        "with the tasks as a sample of tasks, not testable (N = 2): the smallest possible p is 0.5; N = 6 would do"
    )
    two = {name: counts for name, counts in THREE.items() if name != "views"}
    assert chart(graded(**two), "ranks").absent == "2 of 2 rows answered all 6 tasks, and ranks need 3"


def test_a_row_that_lacks_a_task_is_not_ranked_and_that_is_said() -> None:
    tasks = cards.tasks(GRADED)
    cells = [answers(m.replace("_", "-"), t, k) for m, ks in THREE.items() for t, k in zip(tasks, ks, strict=True)]
    cells += [answers("tuned", task, 5) for task in tasks[:-1]]
    shown = chart(made(GRADED, cells, ROWS), "ranks")
    assert len(shown.panels[0].points) == 3
    assert "Without 1 rows that did not answer all of them." in shown.caption


# -- severity and shots -----------------------------------------------------------------------------------------------


def test_severity_has_the_mean_over_shifts_large_and_each_shifts_difference_to_zero_shot_small() -> None:
    board = three()
    with drawn(board, "severity") as figure:
        main, _, *small = figure.axes
        assert main.get_title(loc="left") == "mean over 3 shifts"
        lines = {to_hex(line.get_color()): xy(line) for line in marked(main)}
        looks = looks_of(board.rows)
        expected = {  # severity 0 is the photographs
            0: [80, 50, 30],
            1: [85, 60, 30],
            2: [90, 100, 80],
        }
        for row, ys in expected.items():
            found = lines[to_hex(looks[row].colour)]
            assert [y for _, y in found] == pytest.approx(ys)
            assert [x for x, _ in found] == pytest.approx([0, 1, 2], abs=0.15)  # beside each other
        assert [axes.get_title(loc="left") for axes in small] == ["world-sketch", "world-noise", "world-warp"]
        probe = [line for line in marked(small[0]) if to_hex(line.get_color()) == looks[1].colour]
        assert [xy(line) for line in probe] == [[pytest.approx(at) for at in [(0, 5), (1, 20), (2, 10)]]]
        assert len(marked(small[0])) == 2  # zero-shot is the line of 0
        assert main.get_xlabel() == "severity of the shift (0: none)"
        assert {"Zero-shot CLIP", "Probe", "views"} <= set(words(figure))


def test_intervals_of_the_mean_are_drawn_beside_each_other() -> None:
    board = three()
    points = chart(board, "severity").panels[0].points
    with drawn(board, "severity") as figure:
        main = figure.axes[0]
        bars = [xy(line) for line in main.lines if line not in marked(main)]
        known = [point for point in points if point.y.low is not None]
        assert len(known) == 8  # nine, but where all answers are right
        ends = sorted((bar[0][1], bar[1][1]) for bar in bars)
        assert ends == sorted((100 * (p.y.low or 0), 100 * (p.y.high or 0)) for p in known)
        assert len({bar[0][0] for bar in bars}) == 8  # no two bars on one another


def test_a_suite_without_severities_or_with_one_number_of_shots_says_so() -> None:
    board = made(SHIFT, CELLS)
    assert chart(board, "severity").absent == "no shift of this suite is tested at several severities"
    assert chart(board, "shots").absent == "this suite has one number of labelled pictures: 4 shots"


def test_shots_have_a_curve_a_row_over_a_logarithmic_axis_and_zero_shot_is_level() -> None:
    board = few(zero_shot=[[10, 12]] * 3, probe=[[4, 6], [10, 12], [18, 20]])
    with drawn(board, "shots") as figure:
        main, _, *small = figure.axes
        assert main.get_title(loc="left") == "mean over 2 data sets"
        assert [label.get_text() for label in main.get_xticklabels()] == ["1", "4", "16"]
        assert list(main.get_xticks()) == [0, 2, 4]
        zero, probe = marked(main)
        assert [y for _, y in xy(zero)] == pytest.approx([55, 55, 55])
        assert [y for _, y in xy(probe)] == pytest.approx([25, 55, 95])
        assert [axes.get_title(loc="left") for axes in small] == ["cats", "dogs"]
        assert [y for _, y in xy(marked(small[1])[1])] == pytest.approx([30, 60, 100])


# -- differences ------------------------------------------------------------------------------------------------------


def test_differences_have_a_panel_a_row_a_line_a_task_and_the_mean_last() -> None:
    board = three()
    with drawn(board, "differences") as figure:
        panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}
        assert list(panels) == ["Probe", "views"]
        spots = {name: [xy(line)[0] for line in marked(axes)] for name, axes in panels.items()}
        assert spots["Probe"] == [pytest.approx(at) for at in zip([20, 10, 10, 0, 0, -10, 5], range(7), strict=True)]
        assert [x for x, _ in spots["views"]] == pytest.approx([50] * 7)
        labels = [label.get_text() for label in panels["Probe"].get_yticklabels()]
        assert labels == [*GRADED.tests[1:], "all 6"]
        # views: ten pictures gained and none lost, p = 2 / 2^10 exactly; probe: four gained at best, p = 2 / 2^4
        assert [filled(line) for line in marked(panels["views"])] == [True] * 7
        assert [filled(line) for line in marked(panels["Probe"])] == [False] * 7
        assert figure.get_supxlabel() == "difference to zero-shot (points)"


def test_each_difference_has_its_interval() -> None:
    board = three()
    panel = chart(board, "differences").panels[1]
    with drawn(board, "differences") as figure:
        bars = [xy(line) for line in figure.axes[1].lines if line.get_solid_capstyle() == "butt"]
    expected = [[(100 * p.y.low, p.x), (100 * p.y.high, p.x)] for p in panel.points if p.y.low is not None]  # type: ignore[operator]
    assert len(expected) >= 6
    assert all(bar in bars for bar in expected)


def test_without_zero_shot_there_is_nothing_to_take_differences_to() -> None:
    board = made(SHIFT, [one for one in CELLS if one.method != "zero-shot"])
    assert chart(board, "differences").absent == "no row can be compared with zero-shot"


# -- reliability ------------------------------------------------------------------------------------------------------


def test_reliability_shows_the_accuracy_of_each_bin_its_gap_and_the_share_of_answers() -> None:
    sure = np.array([0.95] * 8 + [0.35] * 2)
    cells = [cell("zero-shot", task, 1, "1111000010", confidence=0.5) for task in (ONE, TWO)]
    board = made(SHIFT, [replace(one, confidence=sure) for one in cells])
    with drawn(board, "reliability") as figure:
        above, axes = figure.axes
        bars = {round(p.get_x() / (100 / 15)): p for p in axes.patches if p.get_fill() and p.get_height()}
        # 0.95 is in bin 14 of 15, four of eight right; 0.35 in bin 5, one of two right
        assert {k: p.get_height() for k, p in bars.items()} == pytest.approx({14: 50, 5: 50})
        gaps = {round(p.get_x() / (100 / 15)): p for p in axes.patches if not p.get_fill()}
        assert {k: (p.get_y(), p.get_y() + p.get_height()) for k, p in gaps.items()} == {
            14: pytest.approx((50, 95)),
            5: pytest.approx((35, 50)),
        }
        shares = {round(p.get_x() / (100 / 15)): p.get_height() for p in above.patches}
        assert shares == pytest.approx({14: 0.8, 5: 0.2})
        assert [text.get_text() for text in axes.texts] == ["ECE 39.0"]  # 0.8 * 0.45 + 0.2 * 0.15
        assert above.get_title(loc="left") == "Zero-shot CLIP"


def test_a_row_whose_confidences_are_no_numbers_has_no_reliability_and_where_none_has_any_that_is_said() -> None:
    none = {"confidence": np.full(4, math.nan)}
    some = made(SHIFT, [*CELLS[:2], *(replace(one, **none) for one in CELLS[2:])])
    with drawn(some, "reliability") as figure:
        assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["Zero-shot CLIP"]
    reason = chart(made(SHIFT, [replace(one, **none) for one in CELLS]), "reliability").absent
    assert reason == "no answer has a confidence that is a number"


def test_without_any_answer_every_chart_says_why_it_is_not_there() -> None:
    board = made(SHIFT, [failed("zero-shot", ONE, 1), failed("probe", TWO, 1)])
    reasons = {one.name: one.absent for one in board.charts}
    assert all(reasons.values())
    assert reasons["cost"] == "no row answered all tasks in a time that was measured"
    assert reasons["reliability"] == "no cell holds answers"
    assert list(figures.rendered(board)) == []


# -- awkward input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param([cell("zero-shot", task, 1, "1") for task in (ONE, TWO)], id="one method, one seed, one image"),
        pytest.param(
            [cell(m, task, seed, "1111") for m in ("zero-shot", "probe") for task in (ONE, TWO) for seed in (1, 2)],
            id="constant accuracy",
        ),
        pytest.param([*CELLS[:2], cell("probe", ONE, 1, "11100"), cell("probe", TWO, 1, "110")], id="unequal images"),
        pytest.param([replace(one, confidence=np.full(4, math.nan)) for one in CELLS], id="NaN confidences"),
        pytest.param([replace(one, cost=replace(one.cost, predict_ms=math.nan)) for one in CELLS], id="NaN times"),
        pytest.param([*CELLS, failed("broken", ONE, 1), failed("broken", TWO, 1)], id="a row without a number"),
    ],
)
def test_whatever_the_cells_each_chart_is_drawn_without_a_warning_or_says_why_not(cells: list[Record]) -> None:
    board = made(SHIFT, cells)
    for one in board.charts:
        if not one.absent:
            with drawn(board, one.name) as figure:
                figure.draw_without_rendering()
    assert {one.name for one in board.charts if one.absent} >= {"ranks", "severity", "shots"}


def test_constant_accuracies_share_the_middle_rank() -> None:
    board = graded(zero_shot=[10] * 7, probe=[10] * 7, views=[10] * 7)
    shown = chart(board, "ranks")
    assert [point.x for point in shown.panels[0].points] == [2, 2, 2]
    assert len(shown.joined) == 1
    assert "Friedman's p = 1.000" in shown.caption


# -- in grey ----------------------------------------------------------------------------------------------------------


def rows(count: int) -> list[Row]:
    return [Row(f"row {i}", {"method": "zero-shot" if i == 3 else f"m{i}"}) for i in range(count)]


def test_no_two_of_45_rows_share_marker_and_dashes_nor_two_of_63_colour_and_marker() -> None:
    found = looks_of(rows(46))
    assert len({(look.marker, look.dashes) for look in found}) == 46
    assert len({(look.colour, look.marker) for look in looks_of(rows(64))}) == 64
    for one, other in itertools.pairwise(found):
        assert one.colour != other.colour
        assert one.marker != other.marker
        assert one.dashes != other.dashes
    assert len({look.marker for look in KINDS.values()}) == len(KINDS)


def luminance(colour: str) -> float:
    parts = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colour", [*COLOURS, INK])
def test_lines_stand_out_from_paper_and_names_can_be_read_on_it(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) > 2
    assert 1.05 / (luminance(to_hex(style.ink(colour))) + 0.05) > 3.9


def test_what_is_drawn_of_twelve_rows_differs_by_marker_and_dashes() -> None:
    names = ["zero_shot", *(f"m{i}" for i in range(11))]
    board = graded(**{name: [10 + i % 5] * 7 for i, name in enumerate(names)})
    with drawn(board, "severity") as figure:
        seen = {(line.get_marker(), str(line._unscaled_dash_pattern)) for line in marked(figure.axes[0])}
        assert len(seen) == 12


# -- names ------------------------------------------------------------------------------------------------------------

HOSTILE = "$x$ 50% a_b \\frac{1}{2} <script>&'\" 方法 🦆"
SHOWN = "$x$ 50% a_b \\frac{1}{2} <script>&'\" […"  # as long as 40 letters are


@functools.cache
def hostile() -> Leaderboard:
    suite = replace(GRADED, title=HOSTILE)
    titled = {"zero_shot": "Zero-shot CLIP", "probe": HOSTILE, "views": "^_{%}"}
    cells = [
        replace(answers(m.replace("_", "-"), task, k), title=titled[m])
        for m, ks in THREE.items()
        for task, k in zip(cards.tasks(suite), ks, strict=True)
    ]
    return made(suite, cells, ROWS)


@pytest.mark.parametrize("name", ["cost", "size", "ranks", "severity", "differences", "reliability"])
def test_names_are_drawn_as_they_are_written(name: str) -> None:
    board = hostile()
    with drawn(board, name) as figure:
        said = " ".join(" ".join(words(figure)).split())
        assert "$x$ 50% a_b \\frac{1}{2} <script>&'\"" in said
        assert "^_{%}" in said
        assert not any(text.get_parse_math() for text in figure.findobj(lambda one: hasattr(one, "get_parse_math")))
        for _, content in style.saved(figure, f"{board.title}: {name}", "caption"):
            assert len(content) > 5000


def test_letters_that_the_font_lacks_are_named_and_long_names_end_in_dots() -> None:
    assert style.name("a方b") == "a[U+65B9]b"
    assert style.name("x" * 50, 10) == "x" * 9 + "…"
    assert style.title("one two-three four", 11) == "one\ntwo-three …"


# -- bytes ------------------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib, sys; sys.path.insert(0, "tests")
from generated import THREE, graded
from bench import figures
for name, kind, content in figures.rendered(graded(**THREE)):
    print(name, kind, hashlib.sha256(content).hexdigest())
"""


def test_the_same_cells_give_the_same_bytes_in_another_process_with_other_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 20\nsavefig.dpi: 30\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path), "SOURCE_DATE_EPOCH": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    board = three()
    here = [f"{n} {kind} {hashlib.sha256(content).hexdigest()}" for n, kind, content in figures.rendered(board)]
    assert done.stdout.splitlines() == here
    assert [line.split()[:2] for line in here[:2]] == [["cost", "pdf"], ["cost", "png"]]


def test_neither_file_says_when_or_by_what_it_was_made_and_both_say_how_to_read_it() -> None:
    board = made(SHIFT, CELLS)
    caption = chart(board, "cost").caption
    with drawn(board, "cost") as figure:
        content = dict(style.saved(figure, "Title", caption))
    assert b"/CreationDate" not in content["pdf"]
    assert b"atplotlib" not in content["pdf"]
    assert b"atplotlib" not in content["png"]
    assert b"/Subject (Bars are 95 % intervals" in content["pdf"]
    with Image.open(io.BytesIO(content["png"])) as image:
        assert image.info["Title"] == "Title"
        assert image.info["Description"] == caption


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_each_figure_twice_and_says_which_it_cannot_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in cards.tasks(cards.suite("smoke")):
        for name in ("zero-shot", "probe"):
            records.save(cell(name, task, 1, [1] * 30 + [0] * 10), tmp_path)
    assert main(["report", "--suite", "smoke", "--format", "figures", "--results", str(tmp_path)]) == 0
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    there = ("cost", "differences", "reliability", "size")
    assert files == [f"smoke-{name}.{kind}" for name in there for kind in ("pdf", "png")]
    printed = " ".join(capsys.readouterr().out.split())
    assert "no figure smoke-shots: this suite has one number of labelled pictures: 4 shots" in printed
    assert "no figure smoke-ranks: with the tasks as a sample of tasks, not testable (N = 2)" in printed
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert main(["report", "--suite", "smoke", "--format", "figures", "--results", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
