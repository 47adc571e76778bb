"""The chart of accuracy against trained parameters: what it shows, and what the drawing makes of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from generated import CELLS, ONE, SHIFT, TWO, cell, made

from bench import cards, figures
from bench.api import Record
from bench.report import Leaderboard
from bench.report.model import Chart


def chart_of(board: Leaderboard) -> Chart:
    return next(chart for chart in board.charts if chart.name == "size")


def sized(method: str, parameters: int) -> list[Record]:
    return [cell(method, task, 1, "1110", parameters=parameters) for task in (ONE, TWO)]


def test_a_row_stands_at_the_logarithm_of_what_it_trains_and_one_that_trains_nothing_before_the_first_decade() -> None:
    board = made(SHIFT, [*CELLS, *sized("large", 2_000_000)], ["zero-shot", "probe", "large"])
    chart = chart_of(board)
    assert chart.ticks == {2.5: "0", 3.0: "1k", 4.0: "10k", 5.0: "100k", 6.0: "1M", 7.0: "10M"}
    (panel,) = chart.panels
    assert panel.title == "mean over 2 tasks"
    assert {board.rows[p.row].title: p.x for p in panel.points} == {
        "Zero-shot CLIP": 2.5,
        "Probe": pytest.approx(math.log10(1_539)),
        "large": pytest.approx(math.log10(2e6)),
    }
    accuracies = {board.rows[p.row].title: p.y.value for p in panel.points}
    assert accuracies["large"] == 0.75


def test_a_suite_with_a_test_in_distribution_has_a_panel_of_its_own_for_it() -> None:
    suite = replace(SHIFT, tests=("toy:0", *SHIFT.tests), id="toy:0")
    tasks = {task.test.name: task for task in cards.tasks(suite)}
    right = {"toy:0": "1111", "toy:1": "1100", "toy:2": "1000"}
    cells = [cell(m, tasks[name], 1, answers) for name, answers in right.items() for m in ("zero-shot", "probe")]
    shifts, inside = chart_of(made(suite, cells)).panels
    assert (shifts.title, inside.title) == ("mean over 2 tasks", "toy:0, in distribution")
    assert [point.y.value for point in shifts.points] == [0.375, 0.375]
    assert [point.y.value for point in inside.points] == [1.0, 1.0]


def test_where_no_row_trains_anything_the_chart_says_so() -> None:
    board = made(SHIFT, [one for one in CELLS if one.method == "zero-shot"])
    assert chart_of(board).absent == "no row that answered trains anything"


def test_rows_with_equally_many_parameters_are_drawn_side_by_side() -> None:
    from bench.figures import draw, style

    board = made(SHIFT, [*CELLS, *sized("same", 1_539)], ["zero-shot", "probe", "same"])
    with style.applied():
        (axes,) = draw.size(board, chart_of(board)).axes
    spots = {float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_marker() not in ("", "None")}
    middle = math.log10(1_539)
    assert sorted(spots) == pytest.approx([2.5, middle - 0.0175, middle + 0.0175])
    assert {text.get_text() for text in axes.texts} == {"Zero-shot CLIP", "Probe", "same"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1k", "10k"]
    assert sum(name == "size" for name, _, _ in figures.rendered(board)) == 2
