"""The leaderboard as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace

from tabulate import tabulate

from bench.report.model import PARTS, Block, Column, Entry, Leaderboard, short
from bench.report.text import broken, shown

# -- Markdown ---------------------------------------------------------------------------------------------------------


def as_markdown(board: Leaderboard) -> str:
    """GitHub's tables; footnotes as [1]."""
    parts = [f"# {_markdown(board.title)}"]
    for block in board.blocks:
        if block.title:
            parts.append(f"## {_markdown(block.title)}")
        places = [j for j, column in enumerate(block.columns) if column.shown]
        table = [
            [
                _markdown(row.title + _marks(row.notes)),
                *(_markdown(_with_marks(entries[j], block.columns[j])) for j in places),
            ]
            for row, entries in zip(board.rows, block.entries, strict=True)
        ]
        headers = ["", *(_markdown(block.columns[j].heading) for j in places)]
        alignment = ["left", *("right" for _ in places)]
        parts.append(tabulate(table, headers, "pipe", colalign=alignment, disable_numparse=True))
    parts += [f"\\[{i}\\] {_markdown(note)}" for i, note in enumerate(board.footnotes, 1)]
    parts += [_markdown(line) for line in board.footer.values()]
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_{}[]<>#|~$" else c for c in text)


def _marks(notes: Sequence[int]) -> str:
    return f" [{', '.join(map(str, notes))}]" if notes else ""


def _with_marks(entry: Entry, column: Column) -> str:
    return shown(entry, column) + _marks(entry.notes)


# -- CSV --------------------------------------------------------------------------------------------------------------


def as_csv(board: Leaderboard) -> str:
    """One line a row, numbers unrounded (percent and points as fractions), holes empty, reasons in `notes`."""
    names = [
        f"{block.title}: {c.heading}" if block.title else c.heading for block in board.blocks for c in block.columns
    ]
    columns = [column for block in board.blocks for column in block.columns]
    ranged = [column.kind in ("accuracy", "difference") for column in columns]
    header = ["title", *board.rows[0].facts]
    for name, both in zip(names, ranged, strict=True):
        header += [name, f"{name} low", f"{name} high"] if both else [name]
    lines: list[list[str]] = [[*header, "notes"]]
    for i, row in enumerate(board.rows):
        line, notes = [row.title, *row.facts.values()], [board.footnotes[n - 1] for n in row.notes]
        entries = [entry for block in board.blocks for entry in block.entries[i]]
        for name, both, entry in zip(names, ranged, entries, strict=True):
            line += map(_csv, (entry.value, entry.low, entry.high) if both else (entry.value,))
            if entry.notes:
                notes.append(f"{name}: {'; '.join(board.footnotes[n - 1] for n in entry.notes)}")
        lines.append([*line, " | ".join(notes)])
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _csv(value: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return ""
    return str(int(value)) if value == round(value) else repr(float(value))


# -- LaTeX ------------------------------------------------------------------------------------------------------------


WIDEST = 12
"""As many columns of answers a page can show beside the names of the rows."""


ALONE = r"""% Compiles as it is. \input into another document it is the tables alone, which need booktabs and graphicx.
\makeatletter
\ifx\@nodocument\relax\else
  \def\TablesAlone{}
  \documentclass{article}
  \usepackage[margin=2cm]{geometry}
  \usepackage{booktabs,graphicx}
  \begin{document}
\fi
\makeatother"""
END = r"""\ifdefined\TablesAlone\else\expandafter\endinput\fi
\end{document}"""


COST = ("cost", "machines", "memory")
"""Topics of the footer that are about the tables of costs."""
CAPTION = 2500
"""Letters that LaTeX can measure on one line, which it does to see whether a caption needs several."""
STANDING = "Bold: the best of a column; underlined: its ties."


def as_latex(board: Leaderboard) -> str:
    """Table environments, the answers of a block before its cost; the first caption of either explains the others."""
    said = [text for topic, text in board.footer.items() if topic not in COST]
    explained = {
        "": [*said, STANDING],
        "what it cost": [board.footer[topic] for topic in COST if topic in board.footer],
    }
    pieces = [ALONE]
    for block in board.blocks:
        tasks, summary, cost = (
            [j for j, c in enumerate(block.columns) if c.shown and c.part == part] for part in PARTS
        )
        tables = [tasks + summary]
        if len(tasks) + len(summary) > WIDEST:
            tables = [*(tasks[i : i + WIDEST] for i in range(0, len(tasks), WIDEST)), summary]
        for places, about in [*((places, "") for places in tables), (cost, "what it cost")]:
            if places:
                title = ", ".join(filter(None, (board.title, block.title, about)))
                said = [latex(text.rstrip(".") + ".") for text in (short(title), *explained.pop(about, ()))]
                pieces.append(_latex_table(board, block, places, said))
    return "\n\n".join([*pieces, END]) + "\n"


def _latex_table(board: Leaderboard, block: Block, places: Sequence[int], said: Sequence[str]) -> str:
    used: set[int] = set()
    body = []
    for row, entries in zip(board.rows, block.entries, strict=True):
        used.update(row.notes, *(entries[j].notes for j in places))
        cells = [latex(row.title) + _latex_marks(row.notes)]
        cells += [_latex_entry(entries[j], block.columns[j]) for j in places]
        body.append("    " + " & ".join(cells) + r" \\")
    fits = sum(map(len, said)) <= CAPTION
    units = [f"({latex(block.columns[j].unit)})" if block.columns[j].unit else "" for j in places]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"  \centering\small\setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{' '.join(said if fits else said[:1])}}}",
            r"  \medskip",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{l{'r' * len(places)}}}",
            r"    \toprule",
            "    " + " & ".join(["", *(_latex_header(block.columns[j]) for j in places)]) + r" \\",
            *(["    " + " & ".join(["", *units]) + r" \\"] if any(units) else []),
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}}",
            *(rf"  \par\footnotesize\textsuperscript{{{i}}} {latex(board.footnotes[i - 1])}" for i in sorted(used)),
            *([] if fits else [rf"  \par\footnotesize {' '.join(said[1:])}"]),
            r"\end{table}",
        ]
    )


def _latex_entry(entry: Entry, column: Column) -> str:
    text = re.sub(r"^-(?=\d)", "$-$", latex(shown(entry, column)))  # a minus, not a hyphen
    number, plus_minus, half = text.partition(r" $\pm$")
    command = {"best": r"\textbf", "tie": r"\underline"}.get(entry.standing)
    marked = f"{command}{{{number}}}{plus_minus}{half}" if command else text
    return marked + _latex_marks(entry.notes)


def _latex_header(column: Column) -> str:
    lines = r"\\".join(map(latex, broken(replace(column, unit=""), limit=9)))
    return rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{lines}\end{{tabular}}" if r"\\" in lines else lines


LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "±": r"$\pm$", "–": "--", "—": "---", "…": r"\dots{}", "†": r"\dag{}",
    "[": "{[}", "*": "{*}",  # which the end of the line before would take for its own
}  # fmt: skip


LATEX_LACKS = frozenset("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲų")
"""Latin letters that LaTeX's default font encoding cannot set."""


def latex(text: str) -> str:
    """The text for pdflatex as it is installed; a letter that it lacks is named by its code point rather than lost."""
    known = (c if ord(c) < 0x17F and c not in LATEX_LACKS else f"{{[}}U+{ord(c):04X}]" for c in text)
    return "".join(LATEX.get(c, plain) for c, plain in zip(text, known, strict=True))


def _latex_marks(notes: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, notes))}}}" if notes else ""
