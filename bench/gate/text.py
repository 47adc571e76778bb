"""What a gate finds, in words: a table for people, JSON for programs, annotations for GitHub Actions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.gate.model import Change, Gate, Row, some

COLOURS: dict[str, str] = {"pass": "green", "regression": "red", "inconclusive": "yellow", "refusal": "red"}


def show(found: Gate, console: Console) -> None:
    """The table of rows, what is to be known beside it, and the outcome in the last line."""

    def say(text: str, style: str) -> None:
        console.print(Text(text, style=style))

    if found.rows:
        console.print(_table(found.rows))
        for line in _legend(found):
            say(line, "dim")
    for failure in found.failures:
        say(f"failed now: {failure.cell}: {failure.error}", "red")
    for refusal in found.refusals:
        say(f"not comparable: {refusal}.", "red")
    if found.cells:
        say(f"{found.cells - len(found.changes)} of {found.cells} cells match the baseline exactly.", "dim")
    for line, surprising in _exactness(found):
        say(line, "yellow" if surprising else "dim")
    for what, names in (("no answers in the baseline", found.unanswered), ("not in the baseline", found.new)):
        if names:
            say(f"Not judged, {what}: {some(names)}.", "dim")
    if found.left_out:
        say(
            f"Not judged, older than cells that are or of another limit, backbone or precision: {found.left_out}.",
            "dim",
        )
    say(summary(found), f"bold {COLOURS[found.outcome]}")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", max_width=34, overflow="fold")
    for heading in ("seeds", "images", "baseline", "now", "difference", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    means = {row.method for row in rows if row.task is None}
    for row in rows:
        found = row.verdict
        below = row.task is not None and row.method in means
        name = Padding(Text(str(row.task)), (0, 0, 0, 2)) if below else Text(row.name)
        apart = "" if row.same else f" [{_points(found.low)}, {_points(found.high)}]"
        accuracies = (f"{100 * x:.1f}" for x in (row.baseline, row.now))
        p = "<0.001" if found.p < 0.001 else f"{found.p:.3f}"
        verdict = Text(verdict_of(row), style=COLOURS[found.outcome])
        difference = _points(found.difference) + apart
        table.add_row(name, str(row.seeds), f"{row.images:,}", *accuracies, difference, p, verdict)
    return table


def _points(x: float) -> str:
    text = f"{100 * x:+.1f}"
    return text[1:] if float(text) == 0 else text


def verdict_of(row: Row) -> str:
    """The verdict in words, with what would decide where nothing is decided."""
    found = row.verdict
    if row.same:
        return "pass, unchanged"
    if found.needed is None:
        return found.outcome
    numbers = {"images": found.needed.images, "seeds": found.needed.seeds}
    would = " or ".join(f"{number:,} {what}" for what, number in numbers.items() if number is not None)
    return f"inconclusive, {would or 'no number of images or seeds alone'} would decide"


def _legend(found: Gate) -> Iterable[str]:
    margin, m, alpha = f"{100 * found.margin:g} points", len(found.rows), found.alpha
    yield (
        f"Difference: now - baseline in points with its {100 * (1 - alpha):g} % interval, paired on images and seeds; "
        "a method's own row is the mean over its tasks. p: two-sided, uncorrected, by McNemar's exact test where all "
        "seeds answer alike, else of the variance crossed over seeds and images."
    )
    yield (
        f"pass: the interval leaves out a drop beyond {margin} (all rows must, so none is corrected), or no image was "
        f"gained or lost (unchanged). regression: a drop beyond {margin} with p <= {alpha:g} / {m} = {alpha / m:.2g} "
        f"(Bonferroni over {m} rows). inconclusive: neither; so many would decide, should the difference stay as it is."
    )


def _exactness(found: Gate) -> Iterable[tuple[str, bool]]:
    """Which cells are not the baseline's bit for bit, and whether on the same platform, where they should be."""
    groups: dict[tuple, list[Change]] = {}
    for change in sorted(found.changes, key=lambda change: bool(change.platform)):
        groups.setdefault((change.platform, bool(change.made), change.answers and change.method), []).append(change)
    for (platform, made, method), group in groups.items():
        how = "by other code or fields" if made else "by the same code and fields"
        if method:
            images, answers = (sum(getattr(change, name) for change in group) for name in ("images", "answers"))
            what = f"{method} differs in {answers} of {images} images"
            how += f" ({', '.join(dict.fromkeys(move for change in group for move in change.made))})" if made else ""
        else:
            what = f"{len(group)} cells give the same answers with other probabilities"
        moved = max(change.probability for change in group)
        where = f"on another platform ({', '.join(platform)})" if platform else "on the same platform"
        yield f"{what} (moved by up to {moved:.2g}), {where}, {how}.", not platform


def summary(found: Gate) -> str:
    """The outcome, its exit code, and why, in a sentence."""
    margin = f"{100 * found.margin:g} points"
    outcomes = [row.verdict.outcome for row in found.rows]
    count = f"{outcomes.count(found.outcome)} of {len(outcomes)} rows"
    why = {
        "pass": f"{found.cells} cells, no drop beyond {margin}",
        "regression": f"{count} dropped beyond {margin}, {len(found.failures)} cells failed",
        "inconclusive": f"{count} changed too much for so few answers to say whether they dropped beyond {margin}",
        "refusal": "what is compared must be alike: run as the baseline was run, or make the baseline again",
    }
    return f"gate: {found.outcome} (exit {found.exit}): {why[found.outcome]}."


def as_json(found: Gate) -> str:
    """Everything, for programs; accuracies and differences as fractions, null for what is not finite."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    content = {"outcome": found.outcome, "exit": found.exit, "summary": summary(found), **plain(asdict(found))}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def as_github(found: Gate) -> list[str]:
    """Lines that GitHub Actions shows beside a run: the outcome first, for it shows the first ten of a kind."""
    lines = [] if found.outcome == "pass" else [_annotation("error" if found.exit != 2 else "warning", summary(found))]
    lines += [_annotation("error", f"not comparable: {refusal}") for refusal in found.refusals]
    lines += [_annotation("error", f"failed now: {failure.cell}: {failure.error}") for failure in found.failures]
    for row in found.rows:
        if row.verdict.outcome != "pass":
            text = f"{row.name}: {_points(row.verdict.difference)} points, {verdict_of(row)}"
            lines.append(_annotation("error" if row.verdict.outcome == "regression" else "warning", text))
    return lines + [_annotation("warning", line) for line, surprising in _exactness(found) if surprising]


def _annotation(kind: str, text: str) -> str:
    """A workflow command; its message escapes what would end or change it."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{kind} title=Accuracy gate::{escaped}"
