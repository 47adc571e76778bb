"""Every format against golden texts and against hostile names, and files that are written whole."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from generated import CELLS, ONE, ORDER, SHIFT, TWO, cell, failed, made
from rich.console import Console

from bench import cards, records, report
from bench.api import Record, UserError
from bench.report.model import Column, Entry
from bench.report.text import shown

ROOT = Path(__file__).parent.parent

# -- the formats ------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def golden(ending: str) -> str:
    """What the hand-computed cells look like; checked by eye against the numbers above when it changes."""
    return (GOLDEN / f"leaderboard.{ending}").read_text(encoding="utf-8")


def toy() -> report.Leaderboard:
    return made(SHIFT, CELLS)


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
from generated import CELLS, SHIFT, made
from bench import report
board = made(SHIFT, CELLS)
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
        (0.0004, "difference", "0.0"),
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
    return made(suite, [*cells, failed("broken", cards.tasks(suite)[0], 1)])


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_keeps_to_its_width_and_loses_nothing(width):
    board, stream = wide(), io.StringIO()
    report.show(board, Console(file=stream, width=width, color_system=None))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.count("silhouette:") for line in lines) == 45
    for word in ("mean", "ECE", "reference", "failed [2]", "parameters", "GFLOP/"):
        assert any(word in line for line in lines), word


def test_what_does_not_fit_beside_the_answers_follows_below():
    def text(width: int) -> str:
        stream = io.StringIO()
        report.show(toy(), Console(file=stream, width=width, color_system=None))
        return stream.getvalue()

    narrow = text(110)
    assert narrow.index("ECE") < narrow.index("what it cost") < narrow.index("parameters")
    assert "what it cost" not in text(170)


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
    return made(suite, [noted, *cells, cell("evil", ONE, 1, "1100", title=HOSTILE["title"]), lost])


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
    assert "ünï--{[}U+03B1] {[}U+0105]" in text
    assert r"\input{" not in text.replace(r"\textbackslash{}input\{", "")


def test_the_best_is_bold_its_ties_are_underlined_and_units_stand_below_the_headings():
    board = made(replace(SHIFT, tests=("toy:1",)), gains(8, 6))
    lines = [line.strip() for line in report.render(board, "tex").splitlines()]
    assert [line.split(" $")[0] for line in lines if line[:2] in ("a ", "b ")][:2] == [
        r"a & \textbf{70.0}",
        r"b & \underline{65.0}",
    ]
    assert r"& (\%) &  & (points) &  & (\%) \\" in lines
    assert any("(s) & (ms) & (ms) & (ms) & (MiB)" in line for line in lines)


def test_negative_numbers_have_a_minus_and_no_hyphen():
    cells = [cell("zero-shot", ONE, 1, "1111"), cell("a", ONE, 1, "0111")]
    assert r" & $-$25.0 $\pm$ " in report.render(made(replace(SHIFT, tests=("toy:1",)), cells), "tex")


def test_the_caption_states_images_seeds_test_and_correction_and_the_table_of_costs_its_own():
    first, second = re.findall(r"\\caption\{(.*)\}\n", report.render(toy(), "tex"))
    for words in ("4 images a task", "seeds a row: 1 to 2", "crossed variance", "Holm's correction", "not testable (N"):
        assert words in first
    assert "Measured on Abacus" in second
    assert "Measured on" not in first


def latex_is_there() -> bool:
    if not shutil.which("pdflatex") or not shutil.which("kpsewhich"):
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


def gains(*counts: int) -> list[Record]:
    """Zero-shot answers half of 40 images rightly, methods a, b, ... so many more."""
    rows = zip(["zero-shot", *"abc"], (0, *counts), strict=False)
    return [cell(name, ONE, 1, [1] * (20 + count) + [0] * (20 - count)) for name, count in rows]


@pytest.mark.skipif(not latex_is_there(), reason="pdflatex or its package booktabs is not installed")
@pytest.mark.parametrize("make", [toy, hostile, wide])
def test_latex_compiles_alone_and_inside_another_document(make, tmp_path):
    (tmp_path / "table.tex").write_text(report.render(make(), "tex"), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(PAPER, encoding="utf-8")
    for name in ("table", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
    assert b"behind the tables" in (tmp_path / "paper.log").read_bytes()


PAPER = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{table}
\message{behind the tables}
\end{document}
"""


def test_the_terminal_sets_the_best_in_bold_and_underlines_its_ties():
    stream = io.StringIO()
    board = made(replace(SHIFT, tests=("toy:1",)), gains(8, 6))
    report.show(board, Console(file=stream, width=120, force_terminal=True, color_system="standard"))
    assert "\x1b[1m70.0 ± 14.8\x1b[0m" in stream.getvalue()
    assert "\x1b[4m65.0 ± 15.4\x1b[0m" in stream.getvalue()


def test_a_leaderboard_is_plain_data():
    board = made(SHIFT, [*CELLS, failed("broken", ONE, 1)])
    text = json.dumps(asdict(board), allow_nan=False)
    assert [row["title"] for row in json.loads(text)["rows"]] == ["Zero-shot CLIP", "Probe", "broken"]
    cells = board.rows[1].cells
    assert [(c["task"], c["seed"], c["accuracy"]) for c in cells] == [
        ("toy:1 @4 from toy-photo", 1, 0.75),
        ("toy:1 @4 from toy-photo", 2, 0.75),
        ("toy:2 @4 from toy-photo", 1, 0.5),
        ("toy:2 @4 from toy-photo", 2, 0.5),
    ]
    assert cells[0]["provenance"]["processor"] == "Abacus"
    assert board.rows[2].cells[0]["error"] == "RuntimeError: it broke"


# -- files ------------------------------------------------------------------------------------------------------------


def test_tables_are_written_whole_and_from_stored_cells_are_the_same(tmp_path):
    for record in CELLS:
        records.save(record, tmp_path)
    board = report.leaderboard(SHIFT, report.read(tmp_path, [SHIFT]).cells, ["zero-shot", "probe"])
    paths = report.write(board, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "tables/toy.md",
        "tables/toy.csv",
        "tables/toy.tex",
    ]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["toy.csv", "toy.md", "toy.tex"]
    assert paths[0].read_bytes().decode() == golden("md")
    assert report.write(board, tmp_path, ["md"]) == paths[:1]


def test_a_place_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    (tmp_path / "tables").write_text("a file")
    with pytest.raises(
        UserError, match=r"^the results folder .+ cannot be written \(.+\): mend that or name another one\.$"
    ):
        report.write(toy(), tmp_path)
