"""The charts of accuracy against trained parameters and against accuracy in distribution: what they show and draw."""

import math
from dataclasses import replace

import numpy as np
import pytest
from generated import CELLS, ONE, SHIFT, TWO, cell, made

from bench import cards, figures
from bench.api import Record
from bench.report import Leaderboard
from bench.report.model import Chart

INSIDE = replace(SHIFT, tests=("toy:0", *SHIFT.tests), id="toy:0")
TASKS = {task.test.name: task for task in cards.tasks(INSIDE)}


def chart_of(board: Leaderboard, name: str = "size") -> Chart:
    return next(chart for chart in board.charts if chart.name == name)


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
    right = {"toy:0": "1111", "toy:1": "1100", "toy:2": "1000"}
    cells = [cell(m, TASKS[name], 1, answers) for name, answers in right.items() for m in ("zero-shot", "probe")]
    shifts, inside = chart_of(made(INSIDE, cells)).panels
    assert (shifts.title, inside.title) == ("mean over 2 tasks", "toy:0, in distribution")
    assert [point.y.value for point in shifts.points] == [0.375, 0.375]
    assert [point.y.value for point in inside.points] == [1.0, 1.0]


def swept() -> Leaderboard:
    """Zero-shot, and a method at three values of a field: right answers on toy:0, toy:1 and toy:2."""
    right = {0.0: ("1100", "1100", "1000"), 0.5: ("1110", "1110", "1000"), 1.0: ("1111", "1000", "1000")}
    rows = [cell("zero-shot", task, 1, "1100") for task in TASKS.values()]
    for alpha, answers in right.items():
        tasks = zip(TASKS.values(), answers, strict=True)
        rows += [cell("probe", task, 1, some, fields={"alpha": alpha}) for task, some in tasks]
    return made(INSIDE, rows)


def test_rows_of_a_sweep_are_joined_over_their_accuracy_in_distribution() -> None:
    board = swept()
    chart = chart_of(board, "robustness")
    assert (chart.x, chart.y) == ("accuracy (%), toy:0", "accuracy (%), mean over 2 tasks")
    places = {board.rows[p.row].title: (p.x, p.y.value) for p in chart.panels[0].points}
    assert places == {
        "Zero-shot CLIP": (50.0, 0.5),
        "Probe (alpha = 0.0)": (50.0, 0.375),
        "Probe (alpha = 0.5)": (75.0, 0.5),
        "Probe (alpha = 1.0)": (100.0, 0.25),
    }
    assert [[board.rows[row].title[-4:-1] for row in rows] for rows in chart.joined] == [["0.0", "0.5", "1.0"]]


def test_the_curve_is_drawn_through_the_rows_of_the_sweep() -> None:
    from bench.figures import draw, style

    board = swept()
    with style.applied():
        (axes,) = draw.robustness(board, chart_of(board, "robustness")).axes
    lines = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    assert [[50.0, 37.5], [75.0, 50.0], [100.0, 25.0]] in lines
    assert sum(name == "robustness" for name, _, _ in figures.rendered(board)) == 2


def test_without_a_test_in_distribution_there_is_no_curve() -> None:
    assert chart_of(made(SHIFT, CELLS), "robustness").absent == "this suite tests nothing in distribution"


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
