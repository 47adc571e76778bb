"""The decision: rows of paired answers, their verdicts, and the outcome of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import records, stats
from bench.api import Task, UserError
from bench.gate import cells
from bench.gate.model import Failure, Gate, Outcome, Refusal, Row


@dataclass(frozen=True, eq=False)
class Pair:
    """One cell, then and now: whether each image (n,) was answered rightly."""

    method: str
    task: Task
    seed: int
    ids: tuple[str, ...]
    then: NDArray[np.bool_]
    now: NDArray[np.bool_]


def compare(
    baseline: str | Path,
    results: str | Path,
    margin: float = stats.MARGIN,
    alpha: float = stats.ALPHA,
    order: Sequence[str] = (),
) -> Gate:
    """Every cell of the baseline that is done against the newest one of its method, task and seed.

    Decides by `judged`, a row for each method on each task and one for its mean; rows in the `order` of methods. A cell
    that failed or is not runnable now is a regression; one without answers in the baseline is not judged. Any refusal
    leaves no verdict.
    """
    then, refusals = cells.of_baseline(baseline)
    stored = cells.named(results)
    if not stored:
        refusals.append(Refusal(f"{results} holds no cells: run the suite first, or name its folder by --results DIR"))
    failures, changes, pairs, left_out = [], [], [], 0
    for cell in (cell for cell in then if stored and cell.record.status == "done"):
        try:
            now, others = cells.newest(cell, stored)
            left_out += others
            cells.agree(cells.protocol(cell), cells.protocol(now))
            if now.record.status != "done":
                failures.append(Failure(cell.title, now.record.error or now.record.status))
                continue
            a, b = records.load(cell.path), records.load(now.path)
            cells.agree(cells.asked(a), cells.asked(b))
        except cells.Refused as refused:
            refusals.append(replace(refused.refusal, cells=(cell.title,)))
            continue
        except UserError as error:  # damaged, or of a newer schema
            refusals.append(Refusal(str(error).rstrip("."), (cell.title,)))
            continue
        right = (np.asarray(record.prediction) == np.asarray(record.label) for record in (a, b))
        pairs.append(Pair(a.method, a.task, a.seed, a.ids, *right))
        changes.append(cells.change(cell, a, b))
    place = {name: i for i, name in enumerate(order)}
    pairs.sort(key=lambda pair: (place.get(pair.method, len(place)), pair.method))
    rows = () if refusals else tuple(_rows(pairs, margin, alpha))
    return Gate(
        outcome=_outcome(rows, refusals, failures),
        baseline=str(baseline),
        results=str(results),
        margin=margin,
        alpha=alpha,
        cells=len(pairs),
        rows=rows,
        refusals=_grouped(refusals),
        failures=tuple(failures),
        changes=tuple(change for change in changes if change is not None),
        unanswered=tuple(cell.title for cell in then if cell.record.status != "done"),
        new=tuple(sorted(stored.keys() - {cell.name for cell in then})),
        left_out=left_out,
    )


def judged(d: NDArray[np.float64], margin: float, alpha: float, comparisons: int) -> stats.Verdict:
    """The verdict on d (S, n), one of so many rows: `stats.gate`, with a correction for a regression alone.

    For a pass all rows must pass, so that each may be asked at alpha (the intersection-union test: Berger,
    Technometrics 24, 1982); for a regression one row suffices, so that each is asked at alpha / comparisons
    (Bonferroni). The interval shown is that of 1 - alpha, and p is not corrected.
    """
    found = stats.gate(d, margin, alpha)
    if found.outcome == "pass" or found.difference >= -margin:
        return found
    strict = stats.gate(d, margin, alpha / comparisons)
    return replace(strict, low=found.low, high=found.high)


def _rows(pairs: Iterable[Pair], margin: float, alpha: float) -> list[Row]:
    methods: dict[str, dict[Task, dict[int, Pair]]] = {}
    for pair in pairs:
        methods.setdefault(pair.method, {}).setdefault(pair.task, {})[pair.seed] = pair
    questions: list[tuple[str, str | None, list[list[Pair]]]] = []
    for method, tasks in methods.items():
        seeds = sorted(set.intersection(*map(set, tasks.values())))
        if len(tasks) > 1 and seeds:
            questions.append((method, None, [[by_seed[seed] for seed in seeds] for by_seed in tasks.values()]))
        questions += [(method, task.name, [list(by_seed.values())]) for task, by_seed in tasks.items()]
    return [_row(*question, margin, alpha, len(questions)) for question in questions]


def _row(method: str, task: str | None, tasks: list[list[Pair]], margin: float, alpha: float, comparisons: int) -> Row:
    """tasks: the pairs of each, one a seed."""
    then, now = (np.array([[getattr(pair, when).mean() for pair in of] for of in tasks]) for when in ("then", "now"))
    each = [np.array([pair.now.astype(float) - pair.then for pair in of]) for of in tasks]  # T times (S, n)
    d = stats.spread([(x, of[0].ids) for x, of in zip(each, tasks, strict=True)]) if task is None else each[0]
    (seeds, images), same = d.shape, not any(x.any() for x in each)
    verdict = judged(d, margin, alpha, comparisons)
    return Row(method, task, seeds, images, float(then.mean()), float(now.mean()), verdict, same)


def _outcome(rows: Iterable[Row], refusals: Sequence[Refusal], failures: Sequence[Failure]) -> Outcome:
    found = {row.verdict.outcome for row in rows}
    if refusals:
        return "refusal"
    if failures or "regression" in found:
        return "regression"
    return "inconclusive" if "inconclusive" in found else "pass"


def _grouped(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    """One refusal for all cells that have the same."""
    found: dict[Refusal, list[str]] = {}
    for refusal in refusals:
        found.setdefault(replace(refusal, cells=()), []).extend(refusal.cells)
    return tuple(replace(refusal, cells=tuple(of)) for refusal, of in found.items())
