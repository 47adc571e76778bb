"""Leaderboards against hand-computed cells; what is missing shows, and what cannot be compared is said."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from generated import CELLS, ONE, ORDER, SHIFT, TWO, cell, failed, made, not_runnable
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench import cards, records, report
from bench.api import Part, Suite, UserError
from bench.report import rows

# -- the numbers ------------------------------------------------------------------------------------------------------


def table(suite: Suite, cells) -> pd.DataFrame:
    text = report.render(made(suite, cells), "csv")
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""]).set_index("title")


def test_accuracies_are_means_over_seeds_and_the_mean_is_over_tasks():
    found = table(SHIFT, CELLS)
    assert found.loc["Zero-shot CLIP", ["toy:1", "toy:2", "mean"]].tolist() == [0.5, 0.25, 0.375]
    assert found.loc["Probe", ["toy:1", "toy:2", "mean"]].tolist() == [0.75, 0.5, 0.625]
    assert found.loc["Probe", "vs zero-shot"] == 0.25


def test_the_intervals_are_the_hand_computed_ones():
    found = table(SHIFT, CELLS)
    # zero-shot, scene by scene: 1, 1/2, 0, 0; squares about 3/8: 11/16, /3/4 = 11/192; df 3: wider than 0 to 1
    assert found.loc["Zero-shot CLIP", ["mean low", "mean high"]].tolist() == [0, 1]
    # probe, scene by scene: 1 1 1/2 0 and 1 1/2 1/2 1/2; row means equal; columns 1 3/4 1/2 1/4: ve = (5/16) / 3 / 4
    # residuals 0 +-1/4 0 -+1/4: vi = (1/4) / 3 / 8 = 1/96; v = 5/192, df = 3 v^2 / (v^2 + vi^2) = 75/29
    half = scipy_stats.t.ppf(0.975, 75 / 29) * np.sqrt(5 / 192)
    assert found.loc["Probe", "mean low"] == pytest.approx(0.625 - half)
    # probe minus zero-shot: seed 1: 0 1/2 1/2 0; seed 2: 0 0 1/2 1/2; row means equal, so vs = 0;
    # columns 0 1/4 1/2 1/4: ve = (1/8) / 3 / 4 = 1/96; residuals +-1/4 four times: vi = (1/4) / 3 / 8 = 1/96
    # v = 0 + 1/96, df = 1 / (1/3 + 1/3) = 3/2
    half, t = scipy_stats.t.ppf(0.975, 1.5) * np.sqrt(1 / 96), 0.25 / np.sqrt(1 / 96)
    assert found.loc["Probe", "vs zero-shot low"] == pytest.approx(0.25 - half)
    assert found.loc["Probe", "p"] == pytest.approx(2 * scipy_stats.t.sf(t, 1.5))


def test_calibration_is_averaged_over_tasks_and_seeds():
    found = table(SHIFT, CELLS)["ECE"]
    assert found["Zero-shot CLIP"] == pytest.approx((0 + 0.25) / 2)
    assert found["Probe"] == pytest.approx((0.05 + 0.3) / 2)


def test_costs_are_means_over_cells_and_memory_is_the_largest():
    found = table(SHIFT, CELLS).loc["Probe"]
    expected = {"seeds": 2, "support": 12, "parameters": 1539, "fit s": 3.75, "all ms": 1.5, "peak MiB": 64.5}
    apart = {"encode ms": 1.25, "adapt ms": 0, "predict ms": 0.25, "memory_predict_mib": 3, "GFLOP/image": 0.125}
    apart |= {"image forwards": 0, "text forwards": 30, "text backwards": 0}
    assert found[[*expected, *apart]].to_dict() == {**expected, **apart}


def test_images_may_come_in_another_order():
    turned = [
        replace(r, **{name: getattr(r, name)[::-1] for name in ("ids", "prediction", "label", "p_true", "confidence")})
        if r.method == "probe"
        else r
        for r in CELLS
    ]
    one, other = table(SHIFT, CELLS).loc["Probe"], table(SHIFT, turned).loc["Probe"]
    assert one["vs zero-shot"] == other["vs zero-shot"]
    assert one["p"] == pytest.approx(other["p"])


def test_the_order_of_the_cells_does_not_matter():
    boards = [made(SHIFT, cells) for cells in (CELLS, CELLS[::-1])]
    assert boards[0] == boards[1]


def test_few_shot_has_a_column_for_each_number_of_shots_and_zero_shot_stands_in_all():
    suite = Suite("few", "Few", "few-shot", ("one", "two"), ("zero-shot", "few-shot"), "tiny", None, (1, 4))
    answers = {("one", 1): "1000", ("two", 1): "1100", ("one", 4): "1110", ("two", 4): "1111"}
    cells = [cell("probe", task, 1, answers[task.test.name, task.shots]) for task in cards.tasks(suite)]
    cells += [cell("zero-shot", task, 1, "1100") for task in cards.tasks(suite)[:2]]
    board = made(suite, cells)
    assert [(b.title, [c.title for c in b.columns if c.shown][:2]) for b in board.blocks] == [
        ("one", ["1 shot", "4 shots"]),
        ("two", ["1 shot", "4 shots"]),
        ("mean over 2 data sets", ["1 shot", "4 shots"]),
        ("at 4 shots", ["rank", "vs zero-shot"]),
    ]
    values = [[[e.value for e in row[:2]] for row in block.entries] for block in board.blocks[:3]]
    assert values == [[[0.5, 0.5], [0.25, 0.75]], [[0.5, 0.5], [0.5, 1.0]], [[0.5, 0.5], [0.375, 0.875]]]
    assert board.blocks[3].entries[1][1].value == 0.375


def test_base_to_new_has_the_harmonic_mean_and_the_headline_is_that_of_the_averages():
    suite = Suite("b2n", "B2N", "base-to-new", ("one", "two"), ("zero-shot", "few-shot"), "tiny", None, (4,))
    answers = {"one/base": "1110", "one/new": "1000", "two/base": "1111", "two/new": "1100"}
    cells = [cell(m, task, 1, answers[task.test.name]) for task in cards.tasks(suite) for m in ORDER]
    board = made(suite, cells)
    assert [block.title for block in board.blocks] == ["one", "two", "average over 2 data sets"]
    base, new, h = board.blocks[0].entries[1][:3]
    assert (base.value, new.value, h.value) == (0.75, 0.25, 0.375)
    base, new, h = board.blocks[2].entries[1][:3]
    assert (base.value, new.value) == (0.875, 0.375)
    assert h.value == pytest.approx(2 * 0.875 * 0.375 / 1.25)
    titles = [c.title for c in board.blocks[2].columns if c.shown]
    three = [f"{half} {what}" for half in ("base", "new", "H") for what in ("vs zero-shot", "p")]
    assert titles[3:11] == ["rank", *three, "ECE"]


def test_several_shots_of_a_domain_shift_are_a_block_each():
    suite = replace(SHIFT, shots=(1, 4))
    cells = [*CELLS, *(cell("probe", task, 1, "1000") for task in cards.tasks(suite)[:2])]
    board = made(suite, cells)
    assert [block.title for block in board.blocks] == ["1 shot", "4 shots"]
    assert [[row[2].value for row in block.entries] for block in board.blocks] == [[0.375, 0.25], [0.375, 0.625]]


# -- rows -------------------------------------------------------------------------------------------------------------


def titles(cells, order=ORDER) -> list[str]:
    return [row.title for row in made(SHIFT, cells, order).rows]


def test_rows_stand_in_the_given_order_and_the_unknown_follow_by_name():
    cells = [cell(name, ONE, 1, "1100") for name in ("zeta", "probe", "alpha", "zero-shot")]
    assert titles(cells, ["probe", "zero-shot"]) == ["Probe", "Zero-shot CLIP", "alpha", "zeta"]


def test_equal_titles_are_told_apart_by_just_what_differs():
    cells = [
        cell("probe", ONE, 1, "1100", fields={"lr": 0.1, "epochs": 5}),
        cell("probe", ONE, 1, "1100", fields={"lr": 0.5, "epochs": 5}),
        cell("probe", ONE, 1, "1100", fields={"lr": 0.1, "epochs": 5}, backbone="ViT-B-16:openai"),
        cell("other", ONE, 1, "1100", title="Other"),
    ]
    assert titles(cells) == [
        "Probe (lr = 0.1, on ViT-B-16:openai)",
        "Probe (lr = 0.1, on tiny)",
        "Probe (lr = 0.5, on tiny)",
        "Other",
    ]
    assert titles(cells[:1]) == ["Probe"]


VALUES = st.sampled_from([1, 1.0, 2])
NAMED = st.fixed_dictionaries(
    {"title": st.sampled_from("PQ"), "method": st.sampled_from("pq"), "backbone": st.sampled_from("xy")}
    | {"fields": st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES})}
)


@given(st.lists(NAMED, max_size=6))
def test_a_title_says_of_a_row_what_another_of_its_title_has_otherwise(named: list[dict]):
    rowed = [replace(CELLS[0], **one) for one in named]
    found = rows.titles([rows.Run(record, {}) for record in rowed])
    for title, me in zip(found, rowed, strict=True):
        twins = [other for other in rowed if other.title == me.title]
        words = [me.method] if any(other.method != me.method for other in twins) else []
        for name, value in me.fields.items():
            if any(repr(other.fields.get(name, value)) != repr(value) for other in twins):
                words.append(f"{name} = {value}")
        if any(other.backbone != me.backbone for other in twins):
            words.append(f"on {me.backbone}")
        assert title == me.title + (f" ({', '.join(words)})" if words else "")


def test_cells_of_other_code_or_weights_are_left_out_never_mixed_in():
    older = {"finished": "2026-11-23T05:00:00+00:00"}
    for field, change in {
        "code": {"code": "old"},
        "weights": {"fingerprint": "f0"},
        "precision": {"precision": "float16"},
        "views": {"provenance": {**older, "views": 8}},
    }.items():
        old = cell("probe", ONE, 3, "0000", **{"provenance": older, **change})
        board = made(SHIFT, [*CELLS, old])
        assert board.blocks[0].entries[1][0].value == 0.75
        assert board.rows[1].notes == (1,)
        assert board.footnotes[0] == f"1 older cell left out: other {field}"
    newer = cell("probe", ONE, 3, "0000", code="new", provenance={"finished": "2026-11-25T05:00:00+00:00"})
    board = made(SHIFT, [*CELLS, newer])
    assert [e.value for e in board.blocks[0].entries[1][:2]] == [0.0, None]
    assert board.footnotes[0] == "4 older cells left out: other code"


def test_zero_shot_with_other_weights_is_no_reference():
    cells = [replace(r, fingerprint="f2") if r.method == "probe" else r for r in CELLS]
    board = made(SHIFT, cells)
    entry = board.blocks[0].entries[1][4]
    assert (entry.value, entry.mark) == (None, "–")
    assert board.footnotes[entry.notes[0] - 1] == "zero-shot was not run with the weights of tiny"


def test_zero_shot_on_other_images_is_no_reference():
    cells = [replace(r, ids=tuple("wxyz")) if r.method == "probe" else r for r in CELLS]
    board = made(SHIFT, cells)
    assert board.footnotes == ("answered other images than Zero-shot CLIP", "zero-shot answered other images")
    assert [e.standing for e in board.blocks[0].entries[1][:2]] == ["", ""]


def test_only_the_cells_of_the_suite_count():
    strangers = [
        cell("probe", replace(ONE, shots=16), 1, "0000"),
        cell("probe", replace(ONE, limit=2), 1, "00"),
        cell("probe", replace(ONE, test=Part("toy", "test", "9")), 1, "0000"),
        cell("online", ONE, 1, "0000", setting="online"),
    ]
    assert made(SHIFT, [*CELLS, *strangers]) == made(SHIFT, CELLS)
    with pytest.raises(UserError, match="no stored cells of suite 'toy': run python -m bench run --suite toy first"):
        made(SHIFT, strangers)


def test_cells_without_their_predictions_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="without its predictions"):
        made(SHIFT, [replace(CELLS[0], prediction=None)])


# -- holes ------------------------------------------------------------------------------------------------------------


def test_what_is_missing_failed_or_cannot_be_run_shows_with_its_reason():
    cells = [*CELLS[:2], failed("probe", ONE, 1), cell("probe", TWO, 1, "1111"), not_runnable("tied", ONE, 1)]
    board = made(SHIFT, cells)
    probe, tied = board.blocks[0].entries[1:]
    assert [e.mark for e in probe[:6]] == ["failed", "", "–", "–", "–", "–"]
    assert [e.mark for e in tied[:5]] == ["n/a", "–", "–", "–", "–"]
    assert board.footnotes == (
        "failed: RuntimeError: it broke",
        "every answer is right",
        "1 of 2 tasks",
        "not transferable: tied to the classes it was fitted on",
    )
    assert [e.notes for e in probe[:5]] == [(1,), (2,), (3,), (), (3,)]
    text = report.render(board, "terminal")
    assert "failed [1]" in text
    assert "n/a [4]" in text
    assert "[4] not transferable: tied to the classes" in text


def test_a_lost_seed_is_said_and_the_mean_takes_the_seeds_that_all_tasks_have():
    cells = [*CELLS[:5], failed("probe", TWO, 2, "MemoryError: full")]
    board = made(SHIFT, cells)
    one, two, mean, _, difference = board.blocks[0].entries[1][:5]
    assert (one.value, two.value, mean.value) == (0.75, 0.5, 0.625)
    assert board.footnotes[two.notes[0] - 1] == "1 of 2 seeds; failed: MemoryError: full"
    assert board.footnotes[mean.notes[0] - 1] == "over the seeds that answered all tasks: 1"
    assert difference.value == 0.25


def test_tasks_without_a_common_seed_have_no_mean():
    cells = [*CELLS[:3], CELLS[5]]
    board = made(SHIFT, cells)
    mean = board.blocks[0].entries[1][2]
    assert (mean.value, board.footnotes[mean.notes[0] - 1]) == (None, "no seed answered all tasks")


def test_nothing_but_failures_is_still_a_table():
    board = made(SHIFT, [failed("probe", ONE, 1)])
    for format in report.FORMATS:
        assert "it broke" in report.render(board, format)


def test_one_image_and_one_seed_says_nothing_about_others():
    board = made(SHIFT, [cell("zero-shot", ONE, 1, "1"), cell("zero-shot", TWO, 1, "0")])
    entries = board.blocks[0].entries[0]
    assert [(e.value, e.low, e.high) for e in entries[:3]] == [(1, 0, 1), (0, 0, 1), (0.5, 0, 1)]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_stored_cells_are_read_one_by_one_and_only_those_of_the_suites(tmp_path):
    stranger = cell("probe", replace(ONE, shots=16), 1, "0000")
    places = [records.save(record, tmp_path) for record in (*CELLS, stranger)]
    (places[0] / "predictions.npz").write_bytes(b"not a zip file")
    found = report.read(tmp_path, [SHIFT])
    assert len(found.cells) == len(CELLS) - 1
    assert all(c.record.prediction is None for c in found.cells)
    assert [warning.split(" is damaged")[0] for warning in found.warnings] == [str(places[0])]


OPENED: list[str] = []
WATCHING: list[Path] = []


@sys.addaudithook  # which no program can take off again
def watch(event: str, words: tuple) -> None:
    if event == "open" and WATCHING and str(words[0]).startswith(str(WATCHING[0])):
        OPENED.append(str(Path(words[0]).relative_to(WATCHING[0])))


def test_a_file_of_a_cell_is_opened_once_and_the_answers_of_other_suites_are_not(tmp_path):
    mine = records.save(CELLS[0], tmp_path).name
    other = records.save(cell("probe", replace(ONE, shots=16), 1, "0000"), tmp_path).name
    WATCHING.append(tmp_path / "cells")
    try:
        assert len(report.read(tmp_path, [SHIFT]).cells) == 1
    finally:
        WATCHING.clear()
    assert sorted(OPENED) == sorted([f"{mine}/cell.json", f"{mine}/predictions.npz", f"{other}/cell.json"])


def test_what_cells_have_in_common_is_in_memory_once(tmp_path):
    for seed in (1, 2):
        records.save(cell("probe", ONE, seed, "101101111"), tmp_path)
    one, two = report.read(tmp_path, [SHIFT]).cells
    assert one.ids is two.ids
    assert one.record.task is two.record.task
    assert one.record.classes is two.record.classes
    assert one.asked["labels"] is two.asked["labels"]
    assert one.packed == bytes([0b10110111, 0b10000000])


def test_cells_show_the_same_whatever_the_order_of_their_images():
    record = CELLS[2]
    turned = {name: getattr(record, name)[::-1] for name in ("ids", "prediction", "label", "p_true", "confidence")}
    one, other = report.reduced(record), report.reduced(replace(record, **turned))
    assert one.ids == other.ids == ("00000", "00001", "00002", "00003")
    assert one.right.tolist() == other.right.tolist() == [True, True, True, False]
    assert one.asked == other.asked
    assert one.asked != report.reduced(replace(record, label=np.array([1, 1, 2, 0]))).asked
    assert one.asked != report.reduced(replace(record, classes=("x", "z", "y"))).asked


def test_a_suite_was_run_where_something_learnt_from_its_support_or_all_of_it_was_answered_without():
    cells = [report.reduced(record) for record in CELLS]
    assert report.has_cells(SHIFT, cells)
    assert report.has_cells(SHIFT, cells[:2])
    assert not report.has_cells(SHIFT, cells[:1])
    assert not report.has_cells(replace(SHIFT, shots=(16,), tests=("toy:1", "toy:9")), cells)
