"""Two methods, or two folders, task by task: hand-computed differences, tests and counts; what cannot be compared."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from generated import CELLS, ONE, SHIFT, TWO, cell, failed
from scipy import stats as scipy_stats

from bench import cards, records, report
from bench.__main__ import main
from bench.api import Record, Suite, UserError

GOLDEN = Path(__file__).parent / "golden"


def cells(*changed: Record) -> list[report.Cell]:
    return [report.reduced(record) for record in changed]


def table(board: report.Leaderboard) -> dict[str, dict[str, float | None]]:
    (block,) = board.blocks
    names = [column.title for column in block.columns]
    return {
        row.title: dict(zip(names, [entry.value for entry in entries], strict=True))
        for row, entries in zip(board.rows, block.entries, strict=True)
    }


def half(gained: int, lost: int, both: int, neither: int) -> list[Record]:
    """Two methods without seeds on both tasks."""
    a = [1] * (gained + both) + [0] * (lost + neither)
    b = [0] * gained + [1] * (both + lost) + [0] * neither
    return [cell(name, task, 1, row) for name, row in (("a", a), ("b", b)) for task in (ONE, TWO)]


def test_without_seeds_a_task_is_tested_exactly_and_corrected_over_the_tasks():
    found = table(report.compare(SHIFT, "a", "b", cells(*half(8, 1, 20, 11))))
    one = found["toy:1"]
    p = 2 * (1 + 9) / 2**9
    expected = {"A": 28 / 40, "B": 21 / 40, "A - B": 7 / 40, "p": p, "p (Holm)": 2 * p, "gained": 8, "lost": 1}
    assert {key: one[key] for key in expected} == pytest.approx(expected)
    assert (one["images"], one["seeds"]) == (40, 1)
    variance = (9 - 49 / 40) / 39  # of the 40 differences
    t = scipy_stats.t(39)
    assert one["detectable"] == pytest.approx((t.ppf(0.975) + t.ppf(0.8)) * math.sqrt(variance / 40))


def test_the_mean_over_tasks_is_tested_once_and_not_corrected():
    found = table(report.compare(SHIFT, "a", "b", cells(*half(8, 1, 20, 11))))
    mean = found["mean"]
    assert (mean["A - B"], mean["gained"], mean["lost"], mean["p (Holm)"]) == (7 / 40, 16, 2, None)


def test_with_seeds_gains_are_counted_a_seed_and_p_is_of_the_crossed_variance():
    found = table(report.compare(SHIFT, "probe", "zero-shot", cells(*CELLS)))
    # toy:1, probe 1110 and 1101 against 1100: d = 0010 and 0001, row means 1/4; columns 0 0 1/2 1/2: ve = (1/4) / 3 / 4
    # residuals +-1/2 four times: vi = 1 / 3 / 8 = 1/24; v = 0 + 1/48; df = 3 (1/48)^2 / ((1/48)^2 + (1/24)^2) = 3/5
    one = found["toy:1"]
    assert (one["A"], one["B"], one["A - B"], one["gained"], one["lost"]) == (0.75, 0.5, 0.25, 1, 0)
    assert one["p"] == pytest.approx(2 * scipy_stats.t.sf(0.25 * math.sqrt(48), 1))  # df is at least 1
    assert one["seeds"] == 2


def test_turning_a_and_b_round_turns_the_sign_and_keeps_p():
    one, other = (table(report.compare(SHIFT, a, b, cells(*half(8, 1, 20, 11)))) for a, b in (("a", "b"), ("b", "a")))
    for task in ("toy:1", "mean"):
        assert one[task]["A - B"] == -(other[task]["A - B"] or 0)
        assert (one[task]["gained"], one[task]["lost"]) == (other[task]["lost"], other[task]["gained"])
        assert one[task]["p"] == other[task]["p"]
        assert one[task]["p same"] == other[task]["p same"]


def test_of_methods_without_seeds_nothing_below_six_images_can_be_seen():
    found = table(report.compare(SHIFT, "a", "b", cells(*half(0, 0, 20, 20))))["toy:1"]
    assert (found["A - B"], found["p"], found["detectable"]) == (0, 1, 6 / 40)


def test_practically_the_same_is_a_small_p_of_two_one_sided_tests():
    equal, apart = (
        table(report.compare(SHIFT, "a", "b", cells(*half(count, 0, 2000, 2000 - count))))["toy:1"]["p same"]
        for count in (0, 100)
    )
    assert equal is not None
    assert equal < 0.05
    assert apart == pytest.approx(1, abs=1e-3)


def test_tasks_as_a_sample_are_tested_where_there_are_enough_of_them():
    suite = replace(SHIFT, tests=tuple(f"toy:{i}" for i in range(6)))
    rows = [
        cell(name, task, 1, [1] * (right + i * (name == "a")) + [0] * (30 - right - i * (name == "a")))
        for name, right in (("a", 11), ("b", 10))
        for i, task in enumerate(cards.tasks(suite))
    ]
    board = report.compare(suite, "a", "b", cells(*rows))
    assert "Wilcoxon's signed ranks: p = 0.0312 (R+ = 21, R- = 0; the smallest" in board.footer["over tasks"]
    few = report.compare(SHIFT, "a", "b", cells(*half(8, 1, 20, 11)))
    assert "not testable (N = 2): the smallest possible p is 0.5; N = 6 would do" in few.footer["over tasks"]


def test_base_to_new_compares_each_half_and_h():
    suite = Suite("b2n", "B2N", "base-to-new", ("one", "two"), ("zero-shot", "few-shot"), "tiny", None, (4,))
    right = {"one/base": (30, 20), "one/new": (10, 20), "two/base": (30, 20), "two/new": (10, 20)}
    rows = []
    for task in cards.tasks(suite):
        for name, count in zip("ab", right[task.test.name], strict=True):
            rows.append(cell(name, task, 1, [1] * count + [0] * (40 - count)))
            rows[-1] = replace(rows[-1], ids=tuple(f"{task.test.name} {i}" for i in range(40)))
    found = table(report.compare(suite, "a", "b", cells(*rows)))
    assert list(found) == [*right, "base average", "new average", "H average"]
    assert found["base average"]["A - B"] == pytest.approx(0.25)
    assert found["new average"]["A - B"] == pytest.approx(-0.25)
    assert found["H average"]["A - B"] == pytest.approx(2 * 0.75 * 0.25 - 0.5)
    assert found["H average"]["gained"] is None


def test_few_shot_compares_every_number_of_shots():
    suite = Suite("few", "Few", "few-shot", ("one", "two"), ("zero-shot", "few-shot"), "tiny", None, (1, 4))
    rows = [cell(name, task, 1, "1100") for name in ("a", "zero-shot") for task in cards.tasks(suite)]
    found = table(report.compare(suite, "a", "zero-shot", cells(*rows)))
    tasks = [f"{name}, {shots}" for shots in ("1 shot", "4 shots") for name in ("one", "two")]
    assert list(found) == [*tasks, "mean, 1 shot", "mean, 4 shots"]


def test_what_is_missing_or_answered_other_images_is_a_hole_with_its_reason():
    rows = half(8, 1, 20, 11)
    rows[2] = replace(rows[2], ids=tuple(f"other {i}" for i in range(40)))
    board = report.compare(SHIFT, "a", "b", cells(*rows[:3], failed("b", TWO, 1)))
    (block,) = board.blocks
    difference = [row[2] for row in block.entries]
    assert [entry.value for entry in difference] == [None] * 3
    assert board.footnotes[difference[0].notes[0] - 1] == "B answered other images"
    assert block.entries[1][1].mark == "failed"


def test_rows_are_named_by_their_method_or_by_their_title():
    rows = [*CELLS, *(replace(r, fields={"lr": 0.5}, id=r.id[::-1]) for r in CELLS if r.method == "probe")]
    with pytest.raises(UserError, match=r"has 2 rows in suite 'toy': name one of 'Probe \(lr = 0.1\)', 'Probe"):
        report.compare(SHIFT, "probe", "zero-shot", cells(*rows))
    board = report.compare(SHIFT, "Probe (lr = 0.1)", "Probe (lr = 0.5)", cells(*rows))
    assert table(board)["mean"]["A - B"] == 0
    with pytest.raises(UserError, match="no cells of method 'prob' in suite 'toy': did you mean probe"):
        report.compare(SHIFT, "prob", "zero-shot", cells(*rows))
    with pytest.raises(UserError, match="are the same row"):
        report.compare(SHIFT, "zero-shot", "Zero-shot CLIP", cells(*rows))


def test_two_folders_are_compared_row_by_row():
    older = cells(*CELLS)
    newer = cells(*(replace(r, prediction=r.label, code="new") for r in CELLS))
    boards = report.compare_folders(SHIFT, newer, older, ("now", "before"), ["zero-shot", "probe"])
    assert [board.title for board in boards] == ["Toy shifts: Zero-shot CLIP", "Toy shifts: Probe"]
    assert table(boards[0])["mean"]["A - B"] == pytest.approx(1 - 0.375)
    assert boards[1].footer["A"] == "A: Probe in now, on tiny, seeds 1, 2."
    strangers = cells(*(replace(r, backbone="other") for r in CELLS))
    with pytest.raises(UserError, match="now and before hold no method of suite 'toy' in common"):
        report.compare_folders(SHIFT, newer, strangers, ("now", "before"))


def test_the_comparison_is_the_golden_text():
    board = report.compare(SHIFT, "probe", "zero-shot", cells(*CELLS))
    assert report.render(board, "terminal") == (GOLDEN / "compare.txt").read_text(encoding="utf-8")


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Two results folders of the smoke suite; in the second one TPT answers one image more."""
    places = []
    for name, more in (("one", 0), ("two", 1)):
        for task in cards.tasks(cards.suite("smoke")):
            for method, right in (("zero-shot", 20), ("tpt", 28 + more)):
                row = [1] * right + [0] * (40 - right)
                setting = "zero-shot" if method == "zero-shot" else "test-time"
                made = cell(method, task, 1, row, setting=setting, fields={})
                records.save(replace(made, task=cards.unsupported(task)), tmp_path / name)
        places.append(str(tmp_path / name))
    return places[0], places[1]


def rows_printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_two_methods_of_one_folder(folders, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", "tpt", "zero-shot", "--suite", "smoke", "--results", folders[0], "--format", "csv"]) == 0
    printed = rows_printed(capsys)
    assert [row["title"] for row in printed] == ["world-sketch:3", "world-noise:3", "mean"]
    assert [row["gained"] for row in printed] == ["8", "8", "16"]


def test_one_method_in_two_folders(folders, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", "tpt", "tpt", "--results", ",".join(folders), "--format", "csv"]) == 0
    assert [row["lost"] for row in rows_printed(capsys)] == ["1", "1", "2"]


def test_two_folders(folders, capsys: pytest.CaptureFixture[str]):
    assert main(["compare", *folders, "--suite", "smoke"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "A quick look that everything works: Zero-shot CLIP" in text
    assert "A quick look that everything works: tpt" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{one}", "tpt"], "is a results folder: compare it with another one"),
        (["tpt", "zero-shot", "--results", "{one},{two},{one}"], "names 3 folders: two can be compared"),
        (["tpt", "zero-shot", "--results", "nowhere"], "nowhere holds no cells"),
        (["tpt", "tpo", "--results", "{one}"], "did you mean tpt"),
        (["tpt", "zero-shot", "--suite", "ood", "--results", "{one}"], "no stored cells of suite 'ood'"),
        (["tpt", "zero-shot", "--features", "x.npz", "--results", "{one}"], "--suite: name the suite that the "),
    ],
)
def test_a_mistake_is_said_in_one_sentence(words, says: str, folders, capsys: pytest.CaptureFixture[str]):
    one, two = folders
    assert main(["compare", *(word.format(one=one, two=two) for word in words)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_folder_whose_cells_belong_to_no_suite_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    records.save(CELLS[0], tmp_path)
    assert main(["compare", "tpt", "zero-shot", "--results", str(tmp_path)]) == 2
    assert "no suite in common" in capsys.readouterr().err
