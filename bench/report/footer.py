"""What stands below a table: what intervals, tests and ranks are, what could not be tested, who chose what, where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.report.entries import MOST, REFERENCE, Headline, Maker
from bench.report.model import Row
from bench.report.rows import Run
from bench.stats.ranks import EXACT

CHOSEN = {
    "fixed": "the methods' own",
    "suite": "the suite's recipe",
    "validation": "chosen once on validation pictures",
    "user": "given by the user",
}
"""Record.chosen_by in words."""


Topics = Iterable[tuple[str, str]]


def footer(maker: Maker, rows: Sequence[Row], headline: Headline) -> Topics:
    """How to read the table: topics, and a paragraph about each."""
    runs = maker.runs
    untrained = sorted({run.newest.backbone for run in runs if run.untrained})
    if untrained:
        yield (
            "weights",
            f"RANDOM WEIGHTS: {', '.join(untrained)} was never trained. These numbers show that the methods run; they "
            "say nothing about how good they are.",
        )
    cells = [cell for run in runs for by_seed in run.cells.values() for cell in by_seed.values()]
    done = [cell for cell in cells if cell.record.status == "done"]
    yield (
        "accuracy",
        f"Accuracy in percent; {number_range(len(cell.ids) for cell in done)} images a task, "
        f"seeds a row: {number_range(len(run.seeds) for run in runs)}. ± is half of the 95 % interval over seeds and "
        "images (crossed variance, Satterthwaite, cut at 0 and 100; an image that several tasks show counts once).",
    )
    yield from _alone(runs, rows)
    yield from _tests(maker, headline)
    yield "calibration", "ECE in percent, 15 bins."
    yield (
        "cost",
        "Costs are means over cells, memory is the largest. Encode (as measured when the cache was filled), adapt and "
        "predict are times an image; forwards and backwards are pictures or texts a cell.",
    )
    chosen: dict[str, list[str]] = {}
    for run, row in zip(runs, rows, strict=True):
        chosen.setdefault(run.newest.chosen_by, []).append(row.title)
    said = (f"{CHOSEN.get(how, how)} ({_who(titles, rows)})" for how, titles in sorted(chosen.items()))
    yield "hyper-parameters", f"Hyper-parameters: {'; '.join(said)}."
    yield from machines(runs)
    if memory := sorted({cell.record.cost.memory_how for cell in done} - {""}):
        yield "memory", f"Memory: {'; '.join(memory)}, above what the process held before."
    notes: dict[str, list[str]] = {}
    for run, row in zip(runs, rows, strict=True):
        mine = {n: None for by_seed in run.cells.values() for cell in by_seed.values() for n in cell.record.notes}
        for note in mine:
            notes.setdefault(note, []).append(row.title)
    for i, (note, owners) in enumerate(sorted(notes.items()), 1):
        yield f"note {i}", f"{note} ({_who(owners, rows)})."


def _alone(runs: Sequence[Run], rows: Sequence[Row]) -> Topics:
    """What is there only once, so that nothing can be said about its variation."""
    once = [row.title for run, row in zip(runs, rows, strict=True) if len(run.seeds) == 1 and by_chance(run)]
    if once:
        yield (
            "one seed",
            f"One seed alone ({_who(once, rows)}): its interval and its tests are over images, and say nothing about "
            "other seeds.",
        )
    if len(rows) == 1:
        yield "one row", "One row alone: there is nothing to compare it with."


def by_chance(run: Run) -> bool:
    """Whether other seeds could give other answers."""
    return run.newest.setting != "zero-shot"


def _tests(maker: Maker, headline: Headline) -> Topics:
    """Which test a difference, a rank and a p over tasks come from, and what cannot be tested."""
    compared = maker.comparisons(headline)
    if compared:
        yield (
            "difference",
            f"vs {REFERENCE}: in points, paired on the same backbone, images and seeds (a row of one seed stands for "
            "every seed). p: two-sided, by the same crossed variance, or by McNemar's exact test where two methods "
            f"meet on one task without seeds; Holm's correction over {counted(compared, 'row')}.",
        )
    ranked = len(maker.standing(headline.measure).ranks)
    if not maker.paired_all:
        n = len(maker.runs)
        yield (
            "rank",
            f"No ranks, best or ties: these take a test of every pair of rows, {n * (n - 1) // 2:,} of {n:,} rows, and "
            f"are made of up to {MOST} rows. python -m bench compare tests one pair.",
        )
    if ranked > 1:
        yield (
            "rank",
            "Rank: shared by all rows that the best of them is not separated from at 5 %, by the same test with Holm's "
            f"correction over {counted(ranked * (ranked - 1) // 2, 'pair')}.",
        )
        yield (
            "ties",
            "The best of a column and its ties: those that share the first rank by paired tests of that column's "
            "answers (crossed variance, or McNemar's exact test), Holm's correction over all pairs, at 5 %.",
        )
    if not compared:
        return
    if len(headline.parts) > 1:
        reason = maker.untestable(headline)
        if reason is None:
            n = len(headline.parts)
            kind = "exact" if n <= EXACT else "normal approximation"
            yield (
                "over tasks",
                f"p over tasks takes the {n} tasks as a sample of tasks: Wilcoxon's signed ranks of their differences, "
                f"{kind}, Holm's correction over rows; all else takes the tasks as they are.",
            )
        else:
            yield "over tasks", f"With the tasks as a sample of tasks (Wilcoxon's signed ranks): {reason}."
    shown = [maker.detectable(run, headline.measure).value for run in maker.runs]
    points = sorted(100 * value for value in shown if value is not None)
    if points:
        low, high = f"{points[0]:.1f}", f"{points[-1]:.1f}"
        yield (
            "detectable",
            "The smallest true difference that these images and seeds would show, with 80 % power and before "
            f"correction, is {low if low == high else f'{low} to {high}'} points.",
        )


def machines(runs: Sequence[Run]) -> Topics:
    """Where times come from."""
    names = machine_names(runs)
    if names:
        warning = " Times of different machines must not be compared." if len(names) > 1 else ""
        yield "machines", f"Measured on {'; '.join(names)}.{warning}"


def machine_names(runs: Sequence[Run]) -> list[str]:
    """The machines that the times of these rows come from, as far as cells say."""
    cells = (cell for run in runs for by_seed in run.cells.values() for cell in by_seed.values())
    return sorted({_machine(cell.record.provenance) for cell in cells if cell.record.status == "done"} - {""})


def _machine(known: Mapping[str, Any]) -> str:
    what = known.get("gpu") if str(known.get("device", "cpu")).startswith("cuda") else known.get("processor")
    threads = known.get("threads")
    return ", ".join([str(what)] * bool(what) + [f"{threads} thread{'s' * (threads != 1)}"] * bool(threads))


def _who(titles: Sequence[str], rows: Sequence[Row]) -> str:
    if len(titles) > MOST:
        return f"{len(titles):,} of {len(rows):,} rows" if len(titles) < len(rows) else "all rows"
    return "all rows" if len(titles) == len(rows) > 1 else ", ".join(titles)


def counted(n: int, what: str) -> str:
    """A number of things in words."""
    return f"{n} {what}" + "s" * (n != 1)


def number_range(numbers: Iterable[int]) -> str:
    numbers = sorted(set(numbers)) or [0]
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
