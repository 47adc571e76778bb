"""Leaderboards against hand-computed cells, in every format; what is missing shows, and hostile names do no harm."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats as scipy_stats

from bench import cards, records, report
from bench.api import Cost, Part, Record, Suite, Task, UserError
from bench.report.model import Column, Entry
from bench.report.text import shown

ROOT = Path(__file__).parent.parent
SETTINGS = ("zero-shot", "few-shot", "test-time", "few-shot+test-time")
SHIFT = Suite("toy", "Toy shifts", "domain-shift", ("toy:1", "toy:2"), SETTINGS, "tiny", "toy-photo", (4,))
ONE, TWO = cards.tasks(SHIFT)
ORDER = ["zero-shot", "probe"]


def cell(method: str, task: Task, seed: int, right: str, confidence: float = 0.5, **changes) -> Record:
    """`right` is a row of 1 and 0, one for each image a, b, c ...; the wrong answers are of another class."""
    correct, label = np.array([int(c) for c in right]), np.arange(len(right)) % 3
    learns = method != "zero-shot"
    record = Record(
        id=records.cell_id(
            {"method": method, "task": task, "seed": seed, "changes": sorted(map(str, changes.items()))}
        ),
        status="done",
        method=method,
        title={"zero-shot": "Zero-shot CLIP", "probe": "Probe"}.get(method, method),
        family=method,
        setting="few-shot" if learns else "zero-shot",
        fields={"lr": 0.1} if learns else {},
        chosen_by="validation" if learns else "fixed",
        task=task if learns else cards.unsupported(task),
        seed=seed,
        classes=("x", "y", "z"),
        backbone="tiny",
        fingerprint="f1",
        code=f"code of {method}",
        precision="float32",
        parameters=1_539 if learns else 0,
        support=12 if learns else 0,
        cost=Cost(
            fit_s=2.5 * seed if learns else 0.0,
            encode_ms=1.25,
            predict_ms=0.25,
            memory_fit_mib=64.5 if learns else 0.0,
            memory_predict_mib=3.0,
            memory_how="sampled",
            gflop_per_image=0.125,
        ),
        notes=(),
        provenance={"finished": "2026-11-24T05:00:00+00:00", "processor": "Abacus", "threads": 1, "device": "cpu"},
        ids=tuple("abcdefghij"[: len(right)]),
        prediction=np.where(correct == 1, label, (label + 1) % 3),
        label=label,
        p_true=np.full(len(right), confidence),
        confidence=np.full(len(right), confidence),
    )
    return replace(record, **changes)


NO_ARRAYS = {"ids": (), "prediction": None, "label": None, "p_true": None, "confidence": None}


def failed(method: str, task: Task, seed: int, error: str = "RuntimeError: it broke", **changes) -> Record:
    return cell(method, task, seed, "", **{"status": "failed", "error": error, **NO_ARRAYS, **changes})


def not_runnable(method: str, task: Task, seed: int) -> Record:
    return failed(method, task, seed, "not transferable: tied to the classes it was fitted on", status="not-runnable")


CELLS = [
    cell("zero-shot", ONE, 1, "1100", 0.5),
    cell("zero-shot", TWO, 1, "1000", 0.5),
    cell("probe", ONE, 1, "1110", 0.8),
    cell("probe", ONE, 2, "1101", 0.8),
    cell("probe", TWO, 1, "1100", 0.8),
    cell("probe", TWO, 2, "1010", 0.8),
]

# -- the numbers ------------------------------------------------------------------------------------------------------


def table(suite: Suite, cells) -> pd.DataFrame:
    text = report.render(report.leaderboard(suite, cells, ORDER), "csv")
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""]).set_index("title")


def test_accuracies_are_means_over_seeds_and_the_mean_is_over_tasks():
    found = table(SHIFT, CELLS)
    assert found.loc["Zero-shot CLIP", ["toy:1", "toy:2", "mean"]].tolist() == [0.5, 0.25, 0.375]
    assert found.loc["Probe", ["toy:1", "toy:2", "mean"]].tolist() == [0.75, 0.5, 0.625]
    assert found.loc["Probe", "vs zero-shot"] == 0.25


def test_the_intervals_are_the_hand_computed_ones():
    found = table(SHIFT, CELLS)
    # zero-shot, scene by scene: 1, 1/2, 0, 0; squares about 3/8: 11/16, /3/4 = 11/192; df 3
    half = scipy_stats.t.ppf(0.975, 3) * np.sqrt(11 / 192)
    assert found.loc["Zero-shot CLIP", "mean high"] - 0.375 == pytest.approx(half)
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
    expected = {"seeds": 2, "support": 12, "parameters": 1539, "fit s": 3.75, "ms/image": 1.5, "peak MiB": 64.5}
    apart = {"encode ms": 1.25, "adapt_ms": 0, "predict_ms": 0.25, "memory_predict_mib": 3, "GFLOP/image": 0.125}
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
    boards = [report.leaderboard(SHIFT, cells, ORDER) for cells in (CELLS, CELLS[::-1])]
    assert boards[0] == boards[1]


def test_few_shot_has_a_column_for_each_number_of_shots_and_zero_shot_stands_in_all():
    suite = Suite("few", "Few", "few-shot", ("one", "two"), ("zero-shot", "few-shot"), "tiny", None, (1, 4))
    answers = {("one", 1): "1000", ("two", 1): "1100", ("one", 4): "1110", ("two", 4): "1111"}
    cells = [cell("probe", task, 1, answers[task.test.name, task.shots]) for task in cards.tasks(suite)]
    cells += [cell("zero-shot", task, 1, "1100") for task in cards.tasks(suite)[:2]]
    board = report.leaderboard(suite, cells, ORDER)
    assert [(b.title, [c.title for c in b.columns if c.shown][:2]) for b in board.blocks] == [
        ("one", ["1 shot", "4 shots"]),
        ("two", ["1 shot", "4 shots"]),
        ("mean over 2 data sets", ["1 shot", "4 shots"]),
        ("at 4 shots", ["vs zero-shot", "p"]),
    ]
    values = [[[e.value for e in row[:2]] for row in block.entries] for block in board.blocks[:3]]
    assert values == [[[0.5, 0.5], [0.25, 0.75]], [[0.5, 0.5], [0.5, 1.0]], [[0.5, 0.5], [0.375, 0.875]]]
    assert board.blocks[3].entries[1][0].value == 0.375


def test_base_to_new_has_the_harmonic_mean_and_the_headline_is_that_of_the_averages():
    suite = Suite("b2n", "B2N", "base-to-new", ("one", "two"), ("zero-shot", "few-shot"), "tiny", None, (4,))
    answers = {"one/base": "1110", "one/new": "1000", "two/base": "1111", "two/new": "1100"}
    cells = [cell(m, task, 1, answers[task.test.name]) for task in cards.tasks(suite) for m in ORDER]
    board = report.leaderboard(suite, cells, ORDER)
    assert [block.title for block in board.blocks] == ["one", "two", "average over 2 data sets"]
    base, new, h = board.blocks[0].entries[1][:3]
    assert (base.value, new.value, h.value) == (0.75, 0.25, 0.375)
    base, new, h = board.blocks[2].entries[1][:3]
    assert (base.value, new.value) == (0.875, 0.375)
    assert h.value == pytest.approx(2 * 0.875 * 0.375 / 1.25)
    titles = [c.title for c in board.blocks[2].columns]
    assert titles[3:8] == ["base vs zero-shot", "base p", "new vs zero-shot", "new p", "ECE"]


def test_several_shots_of_a_domain_shift_are_a_block_each():
    suite = replace(SHIFT, shots=(1, 4))
    cells = [*CELLS, *(cell("probe", task, 1, "1000") for task in cards.tasks(suite)[:2])]
    board = report.leaderboard(suite, cells, ORDER)
    assert [block.title for block in board.blocks] == ["1 shot", "4 shots"]
    assert [[row[2].value for row in block.entries] for block in board.blocks] == [[0.375, 0.25], [0.375, 0.625]]


# -- rows -------------------------------------------------------------------------------------------------------------


def titles(cells, order=ORDER) -> list[str]:
    return [row.title for row in report.leaderboard(SHIFT, cells, order).rows]


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


def test_cells_of_other_code_or_weights_are_left_out_never_mixed_in():
    older = {"finished": "2026-11-23T05:00:00+00:00"}
    for change in (
        {"code": "old"},
        {"fingerprint": "f0"},
        {"precision": "float16"},
        {"provenance": {**older, "views": 8}},
    ):
        old = cell("probe", ONE, 3, "0000", **{"provenance": older, **change})
        board = report.leaderboard(SHIFT, [*CELLS, old], ORDER)
        assert board.blocks[0].entries[1][0].value == 0.75
        assert board.rows[1].notes == (1,)
        assert board.footnotes[0] == "1 older cell of other code, weights, precision, views or images left out"
    newer = cell("probe", ONE, 3, "0000", code="new", provenance={"finished": "2026-11-25T05:00:00+00:00"})
    board = report.leaderboard(SHIFT, [*CELLS, newer], ORDER)
    assert [e.value for e in board.blocks[0].entries[1][:2]] == [0.0, None]
    assert board.footnotes[0].startswith("4 older cells")


def test_zero_shot_with_other_weights_is_no_reference():
    cells = [replace(r, fingerprint="f2") if r.method == "probe" else r for r in CELLS]
    board = report.leaderboard(SHIFT, cells, ORDER)
    entry = board.blocks[0].entries[1][3]
    assert (entry.value, entry.mark) == (None, "–")
    assert board.footnotes[entry.notes[0] - 1] == "zero-shot was not run with the weights of tiny"


def test_zero_shot_on_other_images_is_no_reference():
    cells = [replace(r, ids=tuple("wxyz")) if r.method == "probe" else r for r in CELLS]
    board = report.leaderboard(SHIFT, cells, ORDER)
    assert board.footnotes == ("zero-shot answered other images",)


def test_only_the_cells_of_the_suite_count():
    strangers = [
        cell("probe", replace(ONE, shots=16), 1, "0000"),
        cell("probe", replace(ONE, limit=2), 1, "00"),
        cell("probe", replace(ONE, test=Part("toy", "test", "9")), 1, "0000"),
        cell("online", ONE, 1, "0000", setting="online"),
    ]
    assert report.leaderboard(SHIFT, [*CELLS, *strangers], ORDER) == report.leaderboard(SHIFT, CELLS, ORDER)
    with pytest.raises(UserError, match="no stored cells of suite 'toy': run python -m bench run --suite toy first"):
        report.leaderboard(SHIFT, strangers, ORDER)


def test_cells_without_their_predictions_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="scan"):
        report.leaderboard(SHIFT, [replace(CELLS[0], prediction=None)], ORDER)


# -- holes ------------------------------------------------------------------------------------------------------------


def test_what_is_missing_failed_or_cannot_be_run_shows_with_its_reason():
    cells = [*CELLS[:2], failed("probe", ONE, 1), cell("probe", TWO, 1, "1111"), not_runnable("tied", ONE, 1)]
    board = report.leaderboard(SHIFT, cells, ORDER)
    probe, tied = board.blocks[0].entries[1:]
    assert [e.mark for e in probe[:5]] == ["failed", "", "–", "–", "–"]
    assert [e.mark for e in tied[:4]] == ["n/a", "–", "–", "–"]
    assert board.footnotes == (
        "failed: RuntimeError: it broke",
        "1 of 2 tasks",
        "not transferable: tied to the classes it was fitted on",
    )
    assert [e.notes for e in probe[:4]] == [(1,), (), (2,), (2,)]
    text = report.render(board, "terminal")
    assert "failed [1]" in text
    assert "n/a [3]" in text
    assert "[3] not transferable: tied to the classes" in text


def test_a_lost_seed_is_said_and_the_mean_takes_the_seeds_that_all_tasks_have():
    cells = [*CELLS[:5], failed("probe", TWO, 2, "MemoryError: full")]
    board = report.leaderboard(SHIFT, cells, ORDER)
    one, two, mean, difference = board.blocks[0].entries[1][:4]
    assert (one.value, two.value, mean.value) == (0.75, 0.5, 0.625)
    assert board.footnotes[two.notes[0] - 1] == "1 of 2 seeds; failed: MemoryError: full"
    assert board.footnotes[mean.notes[0] - 1] == "over the seeds that answered all tasks: 1"
    assert difference.value == 0.25


def test_tasks_without_a_common_seed_have_no_mean():
    cells = [*CELLS[:3], CELLS[5]]
    board = report.leaderboard(SHIFT, cells, ORDER)
    mean = board.blocks[0].entries[1][2]
    assert (mean.value, board.footnotes[mean.notes[0] - 1]) == (None, "no seed answered all tasks")


def test_nothing_but_failures_is_still_a_table():
    board = report.leaderboard(SHIFT, [failed("probe", ONE, 1)], ORDER)
    for format in report.FORMATS:
        assert "it broke" in report.render(board, format)


def test_one_image_and_one_seed_is_an_interval_without_end():
    cells = [cell("zero-shot", ONE, 1, "1"), cell("zero-shot", TWO, 1, "1")]
    board = report.leaderboard(SHIFT, cells, ORDER)
    assert "100.0 ± ?" in report.render(board, "md")
    assert ",1,,," in report.render(board, "csv")


# -- the formats ------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def golden(ending: str) -> str:
    """What the hand-computed cells look like; checked by eye against the numbers above when it changes."""
    return (GOLDEN / f"leaderboard.{ending}").read_text(encoding="utf-8")


def toy() -> report.Leaderboard:
    return report.leaderboard(SHIFT, CELLS, ORDER)


@pytest.mark.parametrize(("format", "ending"), [("terminal", "txt"), ("md", "md"), ("tex", "tex")])
def test_the_formats_are_the_golden_texts(format, ending):
    assert report.render(toy(), format) == golden(ending)


def test_csv_is_the_golden_text():
    found, expected = (list(csv.reader(io.StringIO(text))) for text in (report.render(toy(), "csv"), golden("csv")))
    assert found[0] == expected[0]
    for one, other in zip(found[1:], expected[1:], strict=True):
        for cell_, known in zip(one, other, strict=True):  # the last digit may depend on the machine
            assert cell_ == known or float(cell_) == pytest.approx(float(known), rel=1e-12)


PROGRAM = """
import sys; sys.path.insert(0, "tests")
from test_report import CELLS, ORDER, SHIFT
from bench import report
board = report.leaderboard(SHIFT, CELLS, ORDER)
sys.stdout.reconfigure(encoding="utf-8")
print("".join(report.render(board, format) for format in report.FORMATS), end="")
print([m for m in sys.modules if m.split(".")[0] in ("open_clip", "torchvision", "methods")])
"""


def test_the_same_cells_give_the_same_bytes_in_another_process_and_no_model_is_imported():
    board = toy()
    expected = "".join(report.render(board, format) for format in report.FORMATS) + "[]\n"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7", "COLUMNS": "40", "TERM": "dumb"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == expected


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.12345, "accuracy", "12.3"),
        (-0.0004, "difference", "0.0"),
        (-0.0123, "difference", "-1.2"),
        (0.0123, "difference", "+1.2"),
        (0.0009, "p", "<0.001"),
        (1.0, "p", "1.000"),
        (1_575_936.0, "count", "1,575,936"),
        (2.5, "count", "2.5"),
        (0.0, "number", "0"),
        (0.00006042, "number", "6e-05"),
        (0.01234, "number", "0.0123"),
        (12.345, "number", "12.3"),
        (98_765.4, "number", "98,765"),
    ],
)
def test_numbers_look_alike_in_every_format(value, kind, text):
    assert shown(Entry(value), Column("x", kind)) == text


def wide() -> report.Leaderboard:
    """45 shifts, and titles that need breaking."""
    suite = replace(SHIFT, tests=tuple(f"world-silhouette:{i}" for i in range(45)))
    long = {"title": "A method with quite a long title, after sixteen shots"}
    cells = [cell(name, task, 1, "1100", **long) for task in cards.tasks(suite) for name in ORDER]
    return report.leaderboard(suite, [*cells, failed("broken", cards.tasks(suite)[0], 1)], ORDER)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_keeps_to_its_width_and_loses_nothing(width):
    board, stream = wide(), io.StringIO()
    report.show(board, Console(file=stream, width=width, color_system=None))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.count("silhouette:") for line in lines) == 45
    for word in ("mean", "ECE", "reference", "failed [1]", "parameters", "image"):
        assert any(word in line for line in lines), word


def test_what_does_not_fit_beside_the_answers_follows_below():
    def text(width: int) -> str:
        stream = io.StringIO()
        report.show(toy(), Console(file=stream, width=width, color_system=None))
        return stream.getvalue()

    narrow = text(90)
    assert narrow.index("ECE") < narrow.index("what it cost") < narrow.index("parameters")
    assert "what it cost" not in text(140)


HOSTILE = {
    "title": '\x1b[31mR&D_100% $x$ #1 {a}\\\\b ~^ | <b>*bold*</b> `c` [link](x) [red]\nline\r\t"q" ünï–α ą',
    "start": "*[t] first",
    "error": "ValueError: a | b_c & d\n50% \\input{x} [/red] ≤",
}


def hostile() -> report.Leaderboard:
    lost = failed("evil", TWO, 1, HOSTILE["error"], title=HOSTILE["title"])
    suite = replace(SHIFT, title=HOSTILE["title"])
    cells = [replace(r, title=HOSTILE["start"]) if r.method == "probe" else r for r in CELLS[1:]]
    noted = replace(CELLS[0], notes=("a note: 5 % of |x|_2",))
    return report.leaderboard(suite, [noted, *cells, cell("evil", ONE, 1, "1100", title=HOSTILE["title"]), lost], ORDER)


def test_hostile_names_stay_on_one_line_without_control_characters():
    board = hostile()
    for text in (board.title, *board.footnotes, *board.footer, *(row.title for row in board.rows)):
        assert text.isprintable()
    text = report.render(board, "terminal")
    assert "\x1b" not in text
    assert "[link](x) [red]" in text.replace("\n", " ")


def test_hostile_names_do_not_break_a_markdown_table():
    lines = [line for line in report.render(hostile(), "md").splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines]
    assert len(lines) == 5
    assert len(set(bars)) == 1
    assert r"\<b\>\*bold\*" in lines[-1]


def test_hostile_names_come_back_from_the_csv():
    rows = list(csv.DictReader(io.StringIO(report.render(hostile(), "csv"))))
    assert rows[-1]["title"] == hostile().rows[-1].title
    assert "toy:2: failed: ValueError: a | b_c & d 50% \\input{x} [/red] ≤" in rows[-1]["notes"]


def test_hostile_names_are_escaped_for_latex():
    text = report.render(hostile(), "tex")
    assert r"R\&D\_100\% \$x\$ \#1 \{a\}\textbackslash{}" in text
    assert r"\textasciitilde{}\textasciicircum{} \textbar{} \textless{}b\textgreater{}" in text
    assert "ünï--[U+03B1] [U+0105]" in text
    assert r"\input{" not in text.replace(r"\textbackslash{}input\{", "")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("make", [toy, hostile, wide])
def test_latex_compiles(make, tmp_path):
    document = rf"""\documentclass{{article}}
\usepackage{{booktabs,graphicx}}
\begin{{document}}
{report.render(make(), "tex")}
\end{{document}}
"""
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


# -- files ------------------------------------------------------------------------------------------------------------


def test_tables_are_written_whole_and_from_stored_cells_are_the_same(tmp_path):
    for record in CELLS:
        records.save(record, tmp_path)
    stored = records.scan(tmp_path, predictions=True)
    board = report.leaderboard(SHIFT, stored.records, ORDER)
    paths = report.write(SHIFT, board, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "tables/toy.md",
        "tables/toy.csv",
        "tables/toy.tex",
    ]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["toy.csv", "toy.md", "toy.tex"]
    assert paths[0].read_bytes().decode() == golden("md")
    assert report.write(SHIFT, board, tmp_path, ["md"]) == paths[:1]


def test_a_place_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(
        UserError, match=r"^the results folder .+ cannot be written \(.+\): mend that or name another one\.$"
    ):
        report.write(SHIFT, toy(), tmp_path)
