"""How rows compare: corrected p-values, shared ranks, tasks as a sample, and a sentence for what cannot be tested."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from generated import CELLS, ONE, SHIFT, TWO, cell, made
from scipy import stats as scipy_stats

from bench import cards, page, report
from bench.api import Cost, Record, Suite
from bench.report import entries

SINGLE = replace(SHIFT, tests=("toy:1",))


def shown(board: report.Leaderboard, title: str, block: int = -1) -> list:
    """The entries of one column."""
    b = board.blocks[block]
    place = [column.title for column in b.columns].index(title)
    return [row[place] for row in b.entries]


def values(board: report.Leaderboard, title: str, block: int = -1) -> list:
    return [entry.value for entry in shown(board, title, block)]


def gains(*counts: int, n: int = 40) -> list[Record]:
    """Methods without seeds on one task: zero-shot answers half of n images rightly, method i so many of the others."""
    rows = [[1] * (n // 2 + count) + [0] * (n - n // 2 - count) for count in (0, *counts)]
    names = ["zero-shot", *"abcdef"[: len(counts)]]
    return [cell(name, ONE, 1, row) for name, row in zip(names, rows, strict=True)]


# -- corrections and ranks --------------------------------------------------------------------------------------------


def test_p_is_exact_on_one_task_without_seeds_and_corrected_over_the_rows():
    board = made(SINGLE, gains(8, 6))
    assert values(board, "vs zero-shot") == [None, 0.2, 0.15]
    assert values(board, "p uncorrected") == [None, 2 / 2**8, 2 / 2**6]
    assert values(board, "p") == [None, 2 * 2 / 2**8, 2 / 2**6]


def test_rows_share_a_rank_that_the_best_is_not_separated_from():
    # pairs: a - zero-shot 2/2^8, b - zero-shot 2/2^6, a - b 2/2^2; Holm: times 3, 2 and 1
    board = made(SINGLE, gains(8, 6))
    assert values(board, "rank") == [3, 1, 1]
    assert [entry.standing for entry in shown(board, "toy:1")] == ["", "best", "tie"]
    corrected = [[entry.corrected for entry in row] for row in board.blocks[0].pairs]
    assert corrected == [[None, 6 / 2**8, 4 / 2**6], [6 / 2**8, None, 0.5], [4 / 2**6, 0.5, None]]
    assert "by the same test with Holm's correction over 3 pairs" in board.footer["rank"]


def test_the_correction_joins_what_a_test_alone_would_part():
    # a - zero-shot 2/2^6 = 0.03, but 3 times that with Holm's correction over three pairs
    board = made(SINGLE, gains(6, 3))
    assert values(board, "p uncorrected")[1] == 2 / 2**6
    assert values(board, "rank") == [1, 1, 1]


def test_pairs_are_row_minus_row_and_turn_their_sign():
    board = made(SINGLE, gains(8, 6))
    pairs = board.blocks[0].pairs
    assert [[e.value for e in row] for row in pairs] == [[None, -0.2, -0.15], [0.2, None, 0.05], [0.15, -0.05, None]]
    one, other = pairs[1][0], pairs[0][1]
    assert one.low is not None
    assert (one.low, one.high, one.p) == (-(other.high or 0), -(other.low or 0), other.p)


def test_another_row_changes_no_p_before_the_correction():
    few, many = made(SINGLE, gains(8, 6)), made(SINGLE, gains(8, 6, 1))
    assert values(few, "p uncorrected") == values(many, "p uncorrected")[:3]
    assert values(many, "p")[1] == 3 * 2 / 2**8


def test_equally_good_rows_are_both_the_best():
    board = made(SINGLE, gains(8, 8))
    assert [entry.standing for entry in shown(board, "toy:1")] == ["", "best", "best"]
    assert shown(board, "vs zero-shot")[1].notes == ()


def test_a_row_alone_is_not_called_the_best():
    board = made(SHIFT, CELLS[:2])
    assert [entry.standing for entry in board.blocks[0].entries[0][:3]] == ["", "", ""]
    assert board.footer["one row"] == "One row alone: there is nothing to compare it with."


def test_rows_without_a_common_seed_are_not_separated_and_have_no_difference():
    cells = [cell("zero-shot", ONE, 1, "10" * 10)]
    cells += [cell("a", ONE, seed, "1" * 20) for seed in (1, 2)]
    cells += [cell("b", ONE, seed, "0" * 20) for seed in (3, 4)]
    board = made(SINGLE, cells)
    assert values(board, "rank") == [3, 1, 1]
    assert board.blocks[0].pairs[1][2].value is None


def test_a_row_that_answered_other_images_has_no_rank():
    cells = [*gains(8), replace(gains(6)[1], method="b", title="b", ids=tuple(f"other {i}" for i in range(40)))]
    board = made(SINGLE, cells)
    rank = shown(board, "rank")
    assert [entry.value for entry in rank] == [2, 1, None]
    assert board.footnotes[rank[2].notes[0] - 1] == "answered other images than Zero-shot CLIP"


# -- many rows --------------------------------------------------------------------------------------------------------


def sweep(rows: int) -> list[Record]:
    """Zero-shot, and settings of one method that each answer one more of four images rightly."""
    return [cell("zero-shot", ONE, 1, "1100"), *(cell("probe", ONE, 1, "1110", fields={"lr": i}) for i in range(rows))]


def test_of_thousands_of_rows_no_pairs_are_tested_and_all_else_is_there():
    board = made(SINGLE, sweep(201))
    assert values(board, "rank") == [None] * 202
    assert {entry.standing for entry in shown(board, "toy:1")} == {""}
    assert board.headline.pairs == ()
    assert values(board, "vs zero-shot") == [None, *[0.25] * 201]
    assert values(board, "p") == [None, *[1.0] * 201]
    assert {row.title for row in board.rows[1:]} == {f"Probe (lr = {i})" for i in range(201)}
    assert board.footer["rank"] == (
        "No ranks, best or ties: these take a test of every pair of rows, 20,301 of 202 rows, and are made of up to "
        "200 rows. python -m bench compare tests one pair."
    )
    assert board.footer["hyper-parameters"].endswith("chosen once on validation pictures (201 of 202 rows).")
    assert page.data([board])["suites"][0]["pairs"] == []
    assert report.render(report.paper(SINGLE, board), "csv").count("\n") == 203
    chart = next(chart for chart in board.charts if chart.name == "ranks")
    assert chart.absent == "of 202 rows nobody reads it, and it is drawn of up to 200"


@pytest.mark.parametrize(("rows", "ranks"), [(2, [1, 1, 1]), (3, [None] * 4)])
def test_pairs_are_tested_up_to_a_number_of_rows(rows: int, ranks: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(entries, "MOST", 3)
    assert values(made(SINGLE, sweep(rows)), "rank") == ranks


def test_backbones_with_too_many_rows_to_pair_stand_side_by_side(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(entries, "MOST", 2)
    other = [replace(record, backbone="other", fingerprint="f2") for record in sweep(2)]
    both, *_ = report.leaderboards(SINGLE, map(report.reduced, [*sweep(1), *other]), ["zero-shot", "probe"])
    assert both.headline.pairs == ()
    assert values(both, "vs zero-shot") == [None, None, 0.25, 0.25, 0.25]


# -- tasks as a sample ------------------------------------------------------------------------------------------------


def shifts(n: int) -> Suite:
    return replace(SHIFT, tests=tuple(f"toy:{i}" for i in range(n)))


def on_all(suite: Suite, *methods: str) -> list[Record]:
    """Zero-shot answers no image of a task rightly, every other method one more on each next task."""
    tasks = cards.tasks(suite)
    cells = [cell("zero-shot", task, 1, [0] * 20) for task in tasks]
    return cells + [
        cell(name, task, 1, [1] * (i + 1) + [0] * (19 - i)) for name in methods for i, task in enumerate(tasks)
    ]


def test_over_enough_tasks_signed_ranks_are_shown():
    suite = shifts(8)
    board = made(suite, on_all(suite, "a", "b"))
    assert values(board, "p over tasks") == [None, 2 * 2 / 2**8, 2 * 2 / 2**8]
    assert "takes the 8 tasks as a sample of tasks" in board.footer["over tasks"]


def test_over_too_few_tasks_it_is_said_what_could_at_best_be_seen_and_how_many_would_do():
    suite = shifts(4)
    board = made(suite, on_all(suite, "a"))
    assert not any(column.title == "p over tasks" for column in board.blocks[0].columns)
    assert board.footer["over tasks"] == (
        "With the tasks as a sample of tasks (Wilcoxon's signed ranks): not testable (N = 4): the smallest possible p "
        "is 0.125; N = 6 would do."
    )
    board = made(suite, on_all(suite, "a", "b"))
    assert "with Holm over 2 comparisons is 0.25; N = 7 would do" in board.footer["over tasks"]


def test_the_smallest_difference_that_could_have_been_seen_is_said():
    board = made(SINGLE, gains(8))
    d = np.array([0] * 20 + [1] * 8 + [0] * 12)
    t = scipy_stats.t(39)
    smallest = (t.ppf(0.975) + t.ppf(0.8)) * math.sqrt(d.var(ddof=1) / 40)
    assert values(board, "detectable")[1] == pytest.approx(smallest)
    assert f"with 80 % power and before correction, is {100 * smallest:.1f} points" in board.footer["detectable"]


def test_one_task_is_no_sample_of_tasks():
    assert "over tasks" not in made(SINGLE, gains(8)).footer


# -- base to new ------------------------------------------------------------------------------------------------------

B2N = Suite("b2n", "B2N", "base-to-new", ("one",), ("zero-shot", "few-shot"), "tiny", None, (4,))


def test_h_has_the_interval_of_the_delta_method():
    base, new = cards.tasks(B2N)
    x, y = [1] * 15 + [0] * 5, [1] * 10 + [0] * 20
    cells = [cell("zero-shot", base, 1, x), cell("zero-shot", new, 1, y)]
    cells[1] = replace(cells[1], ids=tuple(f"new {i}" for i in range(30)))
    h = shown(made(B2N, cells), "H")[0]
    b, m, n = 0.75, 1 / 3, 50
    by_b, by_m = 2 * m**2 / (b + m) ** 2, 2 * b**2 / (b + m) ** 2  # H's derivatives
    variance = n / (n - 1) * (by_b**2 * b * (1 - b) / 20 + by_m**2 * m * (1 - m) / 30)
    half = scipy_stats.t.ppf(0.975, n - 1) * math.sqrt(variance)
    assert h.value == pytest.approx(2 * b * m / (b + m))
    assert (h.low, h.high) == (pytest.approx(h.value - half), pytest.approx(h.value + half))


def test_base_new_and_h_are_each_compared_and_the_rank_is_that_of_h():
    base, new = cards.tasks(B2N)
    rows = {"zero-shot": (10, 10), "a": (30, 12), "b": (40, 0)}
    cells = []
    for name, counts in rows.items():
        for task, right in zip((base, new), counts, strict=True):
            ids = tuple(f"{task.test.half} {i}" for i in range(40))
            cells.append(replace(cell(name, task, 1, [1] * right + [0] * (40 - right)), ids=ids))
    board = made(B2N, cells)
    assert values(board, "base vs zero-shot")[1:] == [0.5, 0.75]
    assert values(board, "new vs zero-shot")[1:] == [pytest.approx(0.05), -0.25]
    assert values(board, "H vs zero-shot")[1] == pytest.approx(2 * 0.75 * 0.3 / 1.05 - 0.25)
    assert values(board, "H")[2] == 0
    assert values(board, "rank") == [2, 1, 3]


# -- in distribution, and online --------------------------------------------------------------------------------------


def test_the_test_in_distribution_stands_first_and_apart_from_the_mean():
    suite = replace(SHIFT, tests=("toy:1", "toy:2", "toy:3"), id="toy:3")
    answers = {"toy:1": "1000", "toy:2": "1110", "toy:3": "1111"}
    cells = [cell("probe", task, 1, answers[task.test.name]) for task in cards.tasks(suite)]
    board = made(suite, cells)
    columns = [column.title for column in board.blocks[0].columns][:4]
    assert columns == ["toy:3", "toy:1", "toy:2", "mean"]
    assert [entry.value for entry in board.blocks[0].entries[0][:4]] == [1, 0.25, 0.75, 0.5]


def test_methods_that_fine_tune_learn_from_the_suites_support():
    suite = replace(SHIFT, shots=(0,), admits=("zero-shot", "fine-tune"))
    cells = [cell("ft", task, 1, "1100", setting="fine-tune") for task in cards.tasks(suite)]
    assert values(made(suite, cells), "mean") == [0.5]


def test_online_methods_show_the_deviation_over_orders_and_the_worst_order():
    orders = {1: ("1111", "1100"), 2: ("1100", "1000"), 3: ("1000", "1000")}  # means 3/4, 3/8, 1/4
    online = [
        cell("tda", task, order, right, online=True)
        for order, answers in orders.items()
        for task, right in zip((ONE, TWO), answers, strict=True)
    ]
    board = made(SHIFT, [*CELLS, *online])
    assert values(board, "mean")[2] == pytest.approx((6 + 3 + 2) / 24)
    assert values(board, "SD over orders") == [None, None, pytest.approx(np.std([6, 3, 2], ddof=1) / 8)]
    assert values(board, "worst order") == [None, None, 0.25]
    assert not any(column.title == "worst order" for column in made(SHIFT, CELLS).blocks[0].columns)


def test_one_order_alone_has_no_deviation():
    board = made(SHIFT, [cell("tda", task, 1, "1100", online=True) for task in (ONE, TWO)])
    entry = shown(board, "worst order")[0]
    assert (entry.value, board.footnotes[entry.notes[0] - 1]) == (None, "one order alone")


# -- what cannot be said ----------------------------------------------------------------------------------------------


def test_one_seed_of_a_method_with_chance_in_it_is_said():
    assert made(SHIFT, [*CELLS[:3], CELLS[4]]).footer["one seed"] == (
        "One seed alone (Probe): its interval and its tests are over images, and say nothing about other seeds."
    )
    assert "one seed" not in made(SHIFT, CELLS).footer


@pytest.mark.parametrize(("right", "low", "high"), [("1" * 10, 0.6915, 1), ("0" * 10, 0, 0.3085)])
def test_constant_answers_keep_an_interval_and_are_said(right: str, low: float, high: float):
    # Clopper and Pearson: 0.025^(1/10) = 0.6915
    entry = made(SINGLE, [cell("zero-shot", ONE, 1, right)]).blocks[0].entries[0][0]
    assert (entry.low, entry.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert entry.notes == (1,)


def test_a_mean_over_constant_answers_has_no_interval():
    cells = [cell("zero-shot", ONE, 1, "1111"), cell("zero-shot", TWO, 1, "0000")]
    board = made(SHIFT, cells)
    mean = shown(board, "mean")[0]
    assert (mean.value, mean.low, mean.high) == (0.5, None, None)
    assert board.footnotes[mean.notes[0] - 1] == "no answer differs from another of its task: there is no interval"


def test_answers_like_zero_shots_are_said_and_have_p_1():
    board = made(SINGLE, gains(0))
    difference = shown(board, "vs zero-shot")[1]
    assert (difference.value, difference.corrected) == (0, 1)
    assert board.footnotes[difference.notes[0] - 1] == "every image answered as by zero-shot, rightly or wrongly"


def test_a_confidence_that_is_not_a_number_leaves_a_hole_with_its_reason():
    confidence = np.array([0.5, np.nan, 0.5, np.nan])
    board = made(SHIFT, [*CELLS[:5], replace(CELLS[5], confidence=confidence)])
    ece = shown(board, "ECE")[1]
    assert (ece.value, board.footnotes[ece.notes[0] - 1]) == (None, "the confidence of 2 answers is not a number (NaN)")
    assert values(board, "mean")[1] == 0.625


def test_a_cost_that_is_not_finite_leaves_a_hole_with_its_reason():
    board = made(SHIFT, [*CELLS[:5], replace(CELLS[5], cost=Cost(fit_s=math.nan))])
    fit = shown(board, "fit")[1]
    assert (fit.value, board.footnotes[fit.notes[0] - 1]) == (None, "what was measured is not a finite number")


def test_reliability_bins_hold_every_answer_of_the_row():
    cells = [replace(cell("zero-shot", ONE, 1, "1100"), confidence=np.array([0.05, 0.95, 0.94, 1.0]))]
    bins: Sequence = made(SINGLE, cells).blocks[0].reliability[0]
    assert [(b.count, b.accuracy) for b in bins if b.count] == [(1, 1.0), (3, pytest.approx(1 / 3))]
    assert bins[14].confidence == pytest.approx((0.95 + 0.94 + 1) / 3)
    assert len(bins) == 15
