"""The leaderboard as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tabulate import tabulate

from bench.report.leaderboard import Block, Column, Entry, Leaderboard
from bench.report.text import shown

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
        headers = ["", *(_markdown(block.columns[j].title) for j in places)]
        alignment = ["left", *("right" for _ in places)]
        parts.append(tabulate(table, headers, "pipe", colalign=alignment, disable_numparse=True))
    parts += [f"\\[{i}\\] {_markdown(note)}" for i, note in enumerate(board.footnotes, 1)]
    parts += [_markdown(line) for line in board.footer]
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_{}[]<>#|~$" else c for c in text)


def _marks(notes: Sequence[int]) -> str:
    return f" [{', '.join(map(str, notes))}]" if notes else ""


def _with_marks(entry: Entry, column: Column) -> str:
    return shown(entry, column) + _marks(entry.notes)


# -- CSV --------------------------------------------------------------------------------------------------------------


def as_csv(board: Leaderboard) -> str:
    """One line a row, numbers as they are (accuracies and ECE as fractions), holes empty, reasons in `notes`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    facts = list(board.rows[0].facts)
    columns = [
        (b, j, f"{b.title}: {c.title}" if b.title else c.title) for b in board.blocks for j, c in enumerate(b.columns)
    ]
    header = ["title", *facts]
    for block, j, name in columns:
        header += (
            [name, f"{name} low", f"{name} high"] if block.columns[j].interval or _is_accuracy(block, j) else [name]
        )
    writer.writerow([*header, "notes"])
    for i, row in enumerate(board.rows):
        line, notes = (
            [row.title, *(row.facts[name] for name in facts)],
            [board.footnotes[n - 1] for n in row.notes],
        )
        for block, j, name in columns:
            entry = block.entries[i][j]
            line.append(_csv(entry.value))
            if block.columns[j].interval or _is_accuracy(block, j):
                line += [_csv(entry.low), _csv(entry.high)]
            reasons = "; ".join(board.footnotes[n - 1] for n in entry.notes)
            if reasons:
                notes.append(f"{name}: {reasons}")
        writer.writerow([*line, " | ".join(notes)])
    return stream.getvalue()


def _is_accuracy(block: Block, j: int) -> bool:
    return any(entries[j].low is not None for entries in block.entries)


def _csv(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value == round(value) and abs(value) >= 1 else repr(float(value))


# -- LaTeX ------------------------------------------------------------------------------------------------------------


def as_latex(board: Leaderboard) -> str:
    """A table environment for each block's answers and one for its cost; needs \\usepackage{booktabs} alone."""
    pieces = ["% needs \\usepackage{booktabs}"]
    for block in board.blocks:
        for part in ("answers", "cost"):
            places = [j for j, column in enumerate(block.columns) if column.shown and column.part == part]
            if places:
                pieces.append(_latex_table(board, block, places, "what it cost" if part == "cost" else ""))
    return "\n\n".join(pieces) + "\n"


def _latex_table(board: Leaderboard, block: Block, places: Sequence[int], about: str) -> str:
    title = ", ".join(filter(None, [board.title, block.title, about]))
    caption = ". ".join([title.rstrip("."), *(line.rstrip(".") for line in board.footer)]) + "."
    used: set[int] = set()
    body = []
    for row, entries in zip(board.rows, block.entries, strict=True):
        used.update(row.notes, *(entries[j].notes for j in places))
        cells = [latex(row.title) + _latex_marks(row.notes)]
        cells += [latex(shown(entries[j], block.columns[j])) + _latex_marks(entries[j].notes) for j in places]
        body.append("    " + " & ".join(cells) + r" \\")
    notes = [rf"  \par\textsuperscript{{{i}}} {latex(board.footnotes[i - 1])}" for i in sorted(used)]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering\small",
            r"  \setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{latex(caption)}}}",
            rf"  \begin{{tabular}}{{l{'r' * len(places)}}}",
            r"    \toprule",
            "    " + " & ".join(["", *(latex(block.columns[j].title) for j in places)]) + r" \\",
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            *notes,
            r"\end{table}",
        ]
    )


LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--", "—": "---", "…": r"\dots{}",
}  # fmt: skip


def latex(text: str) -> str:
    """The text for pdflatex; a letter that its fonts lack is named by its code point rather than lost."""
    return "".join(LATEX.get(c, c if ord(c) < 0x180 else f"[U+{ord(c):04X}]") for c in text)


def _latex_marks(notes: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, notes))}}}" if notes else ""
