"""The numbers of a table: what a row's cells say about some tasks, with the footnotes that this needs."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import stats
from bench.api import Record, Task
from bench.report.alike import MODEL, QUESTION, other_model
from bench.report.model import HOLE, Bin, Entry, clean
from bench.report.rows import Run

REFERENCE = "zero-shot"
"""The method that all others are compared with."""
APART = "no seed answered all tasks"
MOST = 200
"""Rows of which every pair is tested: a sweep of thousands has millions of pairs, and nobody reads its ranks."""


@dataclass(frozen=True)
class Measure:
    """What a number is: the mean accuracy over `tasks`, or H of that and of the mean over `new` tasks."""

    tasks: tuple[Task, ...]
    new: tuple[Task, ...] = ()

    @property
    def all(self) -> tuple[Task, ...]:
        return self.tasks + self.new


@dataclass(frozen=True)
class Headline:
    """The number that a block is about, and its parts where tasks are taken as a sample: tasks, or data sets."""

    measure: Measure
    parts: tuple[Measure, ...]


@dataclass(frozen=True)
class Found:
    """An estimate, or the mark in its place; and what has to be said about it."""

    estimate: stats.Estimate | None = None
    mark: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """How rows compare by one measure: shared ranks of those that can be ranked, why others are not, and all pairs."""

    ranks: Mapping[Run, int]
    best: frozenset[Run]
    reasons: Mapping[Run, str]
    pairs: Mapping[tuple[Run, Run], tuple[stats.Estimate, float]]


@dataclass
class Maker:
    """Makes entries, and collects their footnotes in the order of reading."""

    runs: Sequence[Run]
    footnotes: dict[str, int] = field(default_factory=dict)
    known: dict[tuple, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._spread = functools.lru_cache(maxsize=2 * MOST)(_spread)

    @property
    def paired_all(self) -> bool:
        """Whether every pair of rows is tested."""
        return len(self.runs) <= MOST

    def note(self, text: str) -> tuple[int]:
        return (self.footnotes.setdefault(clean(text), len(self.footnotes) + 1),)

    def notes(self, reasons: Iterable[str]) -> tuple[int, ...]:
        return tuple(number for reason in reasons for number in self.note(reason))

    def once(self, make: Callable[..., Any], *key: Any) -> Any:
        """make(*key), computed the first time that it is asked for."""
        place = (make.__name__, *key)
        if place not in self.known:
            self.known[place] = make(*key)
        return self.known[place]

    def left_out(self, run: Run) -> tuple[int, ...]:
        return self.note(run.older) if run.left_out else ()

    def untrained(self, run: Run) -> tuple[int, ...]:
        return self.note("random weights: this row is no result") if run.untrained else ()

    # -- answers ------------------------------------------------------------------------------------------------------

    def answers(self, run: Run, measure: Measure, seeds: Sequence[int]) -> NDArray[Any]:
        """(S, N): the matrix whose mean is the measure, with a row for each of these seeds."""
        if len(measure.all) == 1:
            return run.right(measure.tasks[0], seeds)
        return self._spread(run, measure, tuple(seeds))

    def paired(self, a: Run, b: Run, measure: Measure) -> NDArray[np.float64] | str:
        """a - b (S, N) on the same images and seeds, or why there is no such thing; {} stands for b's name."""
        mine, theirs = a.common(measure.all), b.common(measure.all)
        if len(a.seeds) > 1 and len(b.seeds) > 1:  # else one row stands for every seed
            mine = theirs = tuple(seed for seed in mine if seed in theirs)
        if not mine or not theirs:
            return APART
        if field := a.apart(b, measure.all):
            return f"{{}} {QUESTION[field]}"
        return stats.paired(self.answers(a, measure, mine), self.answers(b, measure, theirs))

    # -- accuracy -----------------------------------------------------------------------------------------------------

    def accuracy(self, run: Run, measure: Measure) -> Entry:
        """The measure with its interval over seeds and images, and how it stands among the rows."""
        found = self.once(self._estimate, run, measure)
        if found.estimate is None:
            return Entry(mark=found.mark, notes=self.notes(found.reasons))
        standing = self.standing(measure)
        tied = len(standing.ranks) > 1 and standing.ranks.get(run) == 1
        entry = _entry(found.estimate, self.notes(found.reasons))
        low, high = (None, None) if entry.low == entry.high else (entry.low, entry.high)
        return replace(
            entry, low=low, high=high, p=None, standing="best" if tied and run in standing.best else "tie" * tied
        )

    def estimate(self, run: Run, measure: Measure) -> stats.Estimate | None:
        """The measure with its interval alone, without a standing or a footnote."""
        return self.once(self._estimate, run, measure).estimate

    def _estimate(self, run: Run, measure: Measure) -> Found:
        if len(measure.all) == 1:
            mark, reasons = _state(run, measure.tasks[0])
            if mark:
                return Found(mark=mark, reasons=reasons)
            estimate = stats.accuracy(run.right(measure.tasks[0], tuple(run.done(measure.tasks[0]))))
            if estimate.mean in (0, 1):
                reasons = (*reasons, f"every answer is {'right' if estimate.mean else 'wrong'}")
            return Found(estimate, reasons=reasons)
        reasons = _lacking(measure, run)
        if reasons is not None:
            return Found(mark=HOLE, reasons=reasons)
        seeds = run.common(measure.all)
        if not seeds:
            return Found(mark=HOLE, reasons=(APART,))
        over = f"over the seeds that answered all tasks: {', '.join(map(str, seeds))}"
        estimate = stats.crossed(self.answers(run, measure, seeds))
        alike = "no answer differs from another of its task: there is no interval"
        said = [over] * (seeds != run.seeds) + [alike] * (estimate.se == 0)
        return Found(replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high)), reasons=tuple(said))

    def orders(self, run: Run, measure: Measure) -> tuple[Entry, Entry]:
        """Of a method whose answers depend on the stream's order: the deviation over orders, and the worst of them."""
        if not run.newest.online or _lacking(measure, run) is not None:
            return Entry(), Entry()
        means = self.answers(run, measure, run.common(measure.all)).mean(1)
        if len(means) < 2:
            alone = Entry(mark=HOLE, notes=self.note("one order alone"))
            return alone, alone
        return Entry(float(means.std(ddof=1))), Entry(float(means.min()))

    # -- comparisons --------------------------------------------------------------------------------------------------

    def standing(self, measure: Measure) -> Standing:
        return self.once(self._standing, measure)

    def _standing(self, measure: Measure) -> Standing:
        """Shared ranks by all pairs of rows that answered the same images, Holm's correction over the pairs."""
        if not self.paired_all:
            return Standing({}, frozenset(), {}, {})
        able = [run for run in self.runs if self.once(self._estimate, run, measure).estimate is not None]
        same: list[Run] = []
        reasons: dict[Run, str] = {}
        for run in able:
            found_apart = ((other, _apart(run, other, measure)) for other in same)
            other, said = next(((other, said) for other, said in found_apart if said), (run, ""))
            if said:
                reasons[run] = f"{said} than {other.newest.title}"
            else:
                same.append(run)
        found: dict[tuple[Run, Run], stats.Estimate] = {}

        def p(a: Run, b: Run) -> float:
            difference = self.paired(a, b, measure)
            if isinstance(difference, str):  # without a common seed nothing tells them apart
                return 1.0
            found[a, b] = stats.difference(difference)
            return found[a, b].p

        if not same:
            return Standing({}, frozenset(), reasons, {})
        means = [self.once(self._estimate, run, measure).estimate.mean for run in same]
        _, corrected = stats.all_pairs(same, p)
        ranks = dict(zip(same, stats.tie_groups(means, corrected).tolist(), strict=True))
        place = {run: i for i, run in enumerate(same)}
        pairs = {(a, b): (estimate, float(corrected[place[a], place[b]])) for (a, b), estimate in found.items()}
        best = frozenset(run for run, mean in zip(same, means, strict=True) if mean >= max(means) - 1e-12)
        return Standing(ranks, best, reasons, pairs)

    def rank(self, run: Run, measure: Measure) -> Entry:
        standing = self.standing(measure)
        if run in standing.ranks:
            return Entry(float(standing.ranks[run]))
        return Entry(mark=HOLE, notes=self.notes([standing.reasons[run]] if run in standing.reasons else []))

    def pairs(self, measure: Measure) -> tuple[tuple[Entry, ...], ...]:
        """Row minus row, for all rows; empty where there are too many."""
        if not self.paired_all:
            return ()
        pairs = self.standing(measure).pairs
        return tuple(tuple(_pair(pairs, a, b) for b in self.runs) for a in self.runs)

    def difference(self, run: Run, measure: Measure) -> Entry:
        """The measure minus zero-shot's on the same backbone, images and seeds, with interval and p."""
        found, corrected = self.differences(measure)[run]
        notes = self.notes(found.reasons)
        if found.estimate is None:
            return Entry(mark=found.mark, notes=notes)
        return replace(_entry(found.estimate, notes), corrected=corrected)

    def differences(self, measure: Measure) -> Mapping[Run, tuple[Found, float | None]]:
        """Every row's difference to zero-shot, and p with Holm's correction over the rows."""
        return self.once(self._differences, measure)

    def _differences(self, measure: Measure) -> Mapping[Run, tuple[Found, float | None]]:
        found = {run: self._against_reference(run, measure) for run in self.runs}
        tested = [run for run in self.runs if found[run].estimate is not None]
        corrected = dict(zip(tested, stats.holm([found[run].estimate.p for run in tested]).tolist(), strict=True))  # type: ignore[union-attr]
        return {run: (found[run], corrected.get(run)) for run in self.runs}

    def reference(self, run: Run) -> Run | Found:
        """The row that this one is compared with, or why there is none."""
        me = run.newest
        others = [r for r in self.once(self._references) if r.newest.backbone == me.backbone]
        if run in others[:1]:
            return Found(mark="reference")
        alike = [r for r in others if not other_model(r.newest, me)]
        if not alike:
            precision = any(other_model(r.newest, me) == "precision" for r in others)
            how = f"in precision {me.precision} on" if precision else "with the weights of"
            return Found(mark=HOLE, reasons=(f"{REFERENCE} was not run {how} {me.backbone}",))
        return alike[0]

    def _references(self) -> Sequence[Run]:
        return [run for run in self.runs if run.newest.method == REFERENCE]

    def _against_reference(self, run: Run, measure: Measure) -> Found:
        other = self.reference(run)
        if isinstance(other, Found):
            return other
        reasons = _lacking(measure, run, other)
        if reasons is not None:
            return Found(mark=HOLE, reasons=reasons)
        d = self.paired(run, other, measure)
        if isinstance(d, str):
            return Found(mark=HOLE, reasons=(d.format(REFERENCE),))
        same = () if d.any() else (f"every image answered as by {REFERENCE}, rightly or wrongly",)
        return Found(stats.difference(d), reasons=same)

    def p(self, run: Run, measure: Measure, corrected: bool = True) -> Entry:
        """The p-value of the difference, as a column of its own."""
        entry = self.difference(run, measure)
        mark = "" if entry.mark == "reference" else entry.mark
        return Entry(entry.corrected if corrected else entry.p, mark=mark)

    def detectable(self, run: Run, measure: Measure) -> Entry:
        """The smallest true difference to zero-shot that this row's answers would have shown."""
        found, _ = self.differences(measure)[run]
        if found.estimate is None or not 0 < found.estimate.se < math.inf:
            return Entry(mark=HOLE)
        return Entry(stats.detectable(found.estimate.se, found.estimate.df))

    def comparisons(self, headline: Headline) -> int:
        """How many rows are compared with zero-shot by the headline."""
        return sum(found.estimate is not None for found, _ in self.differences(headline.measure).values())

    def untestable(self, headline: Headline) -> str | None:
        """Why signed ranks over the headline's parts could show nothing, whatever the data; None where they could."""
        return stats.untestable(len(headline.parts), max(1, self.comparisons(headline)))

    def signed(self, run: Run, headline: Headline) -> Entry:
        """p of Wilcoxon's signed ranks over the parts' differences to zero-shot, with Holm's correction over rows."""
        return self.once(self._signed, headline).get(run, Entry(mark=self.p(run, headline.measure).mark))

    def _signed(self, headline: Headline) -> Mapping[Run, Entry]:
        raw: dict[Run, float] = {}
        for run in self.runs:
            other = self.reference(run)
            if isinstance(other, Run) and self.differences(headline.measure)[run][0].estimate is not None:
                parts = [self.paired(run, other, part) for part in headline.parts]
                raw[run] = stats.wilcoxon([float(np.mean(part)) for part in parts]).p  # type: ignore[arg-type]
        corrected = stats.holm(list(raw.values())).tolist()
        return {run: Entry(p, p=raw[run]) for run, p in zip(raw, corrected, strict=True)}

    # -- calibration and cost -----------------------------------------------------------------------------------------

    def ece(self, run: Run, tasks: Sequence[Task]) -> Entry:
        """Expected calibration error, the mean over tasks of the mean over seeds."""
        if not all(run.done(task) for task in tasks):
            return Entry(mark=HOLE)
        cells = [list(run.done(task).values()) for task in tasks]
        unknown = sum(cell.unknown for group in cells for cell in group)
        if unknown:
            return Entry(mark=HOLE, notes=self.note(f"the confidence of {unknown} answers is not a number (NaN)"))
        return Entry(statistics.fmean(statistics.fmean(cell.ece or 0.0 for cell in group) for group in cells))

    def reliability(self, run: Run, tasks: Sequence[Task]) -> tuple[Bin, ...]:
        """All answers of the row by their confidence, from 0 to 1."""
        bins = [cell.bins for task in tasks for cell in run.done(task).values()]
        counts = np.sum(bins, 0).T.tolist() if bins else []
        return tuple(Bin(int(n), sure / max(n, 1), right / max(n, 1)) for n, sure, right in counts)

    def cost(self, run: Run, tasks: Sequence[Task], read: Callable[[Record], float], largest: bool = False) -> Entry:
        """The mean (or the largest) over all cells that are done."""
        values = [read(cell.record) for task in tasks for cell in run.done(task).values()]
        if not values:
            return Entry(mark=HOLE)
        if not all(map(math.isfinite, values)):
            return Entry(mark=HOLE, notes=self.note("what was measured is not a finite number"))
        return Entry(float(max(values)) if largest else statistics.fmean(values))


def _spread(run: Run, measure: Measure, seeds: Sequence[int]) -> NDArray[np.float64]:
    tasks, new = ([(run.right(t, seeds), run.ids(t)) for t in part] for part in (measure.tasks, measure.new))
    return stats.harmonic_spread(tasks, new) if new else stats.spread(tasks)


def _apart(run: Run, other: Run, measure: Measure) -> str:
    """What is said of a row that another one cannot be ranked with; "" where they can."""
    if field := other_model(run.newest, other.newest):
        return MODEL[field]
    field = run.apart(other, measure.all)
    return QUESTION[field] if field else ""


def _state(run: Run, task: Task) -> tuple[str, tuple[str, ...]]:
    """The mark in place of a single task's number, if any, and what has to be said about it."""
    cells, done = run.of(task), run.done(task)
    lost = [cell.record for _, cell in sorted(cells.items()) if cell.record.status != "done"]
    if not cells:
        return HOLE, ()
    reasons = tuple(dict.fromkeys(f"failed: {r.error}" if r.status == "failed" else r.error for r in lost))
    if not done:
        return ("failed" if any(r.status == "failed" for r in lost) else "n/a"), reasons
    if len(done) < len(run.seeds):
        return "", ("; ".join([f"{len(done)} of {len(run.seeds)} seeds", *reasons]),)
    return "", ()


def _lacking(measure: Measure, *runs: Run) -> tuple[str, ...] | None:
    """What to say where not all of these rows answered all tasks; None where they did."""
    answered = sum(all(run.done(task) for run in runs) for task in measure.all)
    if answered == len(measure.all):
        return None
    return (f"{answered} of {len(measure.all)} tasks",) if answered else ()


def _entry(estimate: stats.Estimate, notes: tuple[int, ...] = ()) -> Entry:
    return Entry(estimate.mean, estimate.low, estimate.high, estimate.p, notes=notes)


def _pair(pairs: Mapping[tuple[Run, Run], tuple[stats.Estimate, float]], a: Run, b: Run) -> Entry:
    if (a, b) in pairs:
        estimate, corrected = pairs[a, b]
        return replace(_entry(estimate), corrected=corrected)
    if (b, a) in pairs:
        estimate, corrected = pairs[b, a]
        return Entry(-estimate.mean, -estimate.high, -estimate.low, estimate.p, corrected)
    return Entry(mark=HOLE)
