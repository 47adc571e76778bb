"""How RAda's mask is distributed: python -m benchmarks.mask --suite ood

Stored cells hold answers, not what was learnt. So the layer of each stored row of RAda is fitted again from its fields
and seed, and the masks are looked at while the method answers the test pictures as in a run; its answers must be those
of the stored cell, one by one. The figure goes to results/figures/<suite>-mask.pdf and .png: a panel for each row, the
entries of M over all pictures of a task, where M = 1 is CLIP.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import methods  # noqa: F401  fills the registry
from bench import backbone, cards, index, records, report, sampling
from bench.api import METHODS, Form, Part, Record, State, UserError
from bench.cache import Cache
from bench.features import Features
from bench.figures import style
from bench.report.groups import by_shots
from bench.report.looks import COLOURS, DASHES, INK
from bench.runner import ROOT_SEED, Cell, Runner

STEP, LARGEST = 1e-4, 8.0
"""Width of a bin and where the last one ends; what is larger counts there."""


@dataclass
class Masks:
    """Counts of M's entries in bins of STEP from 0, by task."""

    title: str
    by_task: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def all(self) -> np.ndarray:
        return np.sum(list(self.by_task.values()), axis=0)

    def quantile(self, share: float) -> float:
        """The entry below which this share of all entries lies, to a bin's width."""
        reached = np.cumsum(self.all)
        return float(np.searchsorted(reached, share * reached[-1])) * STEP

    @property
    def mean(self) -> float:
        return float((self.all * (np.arange(len(self.all)) + 0.5)).sum() / self.all.sum()) * STEP


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mask", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--suite", default="ood")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    parser.add_argument("--data-root", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=1, help="of the stored cells (default: 1)")
    args = parser.parse_args()
    try:
        found = list(masks(args.suite, args.results, args.seed, args.data_root))
    except UserError as error:
        sys.exit(f"error: {error}")
    for one in found:
        ends = " to ".join(f"{one.quantile(share):.3f}" for share in (0.01, 0.99))
        print(f"{one.title}: mean of M {one.mean:.4f}, 98 % of its entries from {ends}")
    with style.applied():
        caption = "Entries of the mask M over all pictures of a task; line: M = 1, which is CLIP."
        saved = style.saved(drawn(found), f"{args.suite}: RAda's mask", caption)
        for path in report.put(args.results, {f"figures/{args.suite}-mask.{kind}": content for kind, content in saved}):
            print(f"wrote {path}")


def masks(name: str, results: Path, seed: int, data_root: Path | None) -> Iterator[Masks]:
    """The masks of every row of RAda in a suite's leaderboard that has answers of this seed.

    Where a suite has several numbers of labelled pictures these are the largest's.
    """
    suite = cards.suite(name)
    tasks = cards.tasks(suite)
    place = {task.test: i for i, task in enumerate(by_shots(tasks)[tasks[-1].shots])}
    board = report.leaderboard(suite, report.read(results, [suite]).cells, list(METHODS))
    some, places = False, {known.id: known.place for known in index.known(results)}
    for row in board.rows:
        ids = [cell["id"] for cell in row.cells if cell["seed"] == seed and cell["status"] == "done"]
        stored = [records.load(places[id_]) for id_ in ids]
        stored = [record for record in stored if record.task.train is None or record.task.shots == tasks[-1].shots]
        form = METHODS.get(row.facts["method"])
        if not stored or form is None or not hasattr(_module(form), "rational_logits"):
            continue
        some = True
        stored.sort(key=lambda record: place[record.task.test])
        yield _again(row.title, form.with_fields(**stored[0].fields), stored, suite.views, results, data_root)
    if not some:
        raise UserError(
            f"{results} holds no cells of RAda in suite {name!r} with seed {seed}: run python -m bench run "
            f"--methods rada --suite {name} first."
        )


def _again(
    title: str, form: Form, stored: Sequence[Record], views: int, results: Path, data_root: Path | None
) -> Masks:
    """Fit the row's layers as its cells say, answer their pictures, and count the masks that did it."""
    one = stored[0]
    model = backbone.load(one.backbone, precision=one.precision)
    if model.fingerprint != one.fingerprint:
        raise UserError(f"{one.backbone} has other weights than the cells of {title}: run them again.")
    runner = Runner(Features(model, Cache(results / "cache")), results, data_root, views)
    states: dict[Part | None, State] = {}
    found = Masks(title)
    for record in stored:
        task = record.task
        counts = found.by_task.setdefault(task.test.name, np.zeros(round(LARGEST / STEP), dtype=np.int64))

        def see(mask: Tensor, counts: np.ndarray = counts) -> None:
            bins = (mask.flatten() / STEP).long().clamp(0, len(counts) - 1)
            counts += torch.bincount(bins, minlength=len(counts)).numpy()

        if task.train not in states:  # one fit serves all tests of a training set
            states[task.train] = runner._fit(Cell(form, task, record.seed)).state
        rng = sampling.generator(ROOT_SEED, record.seed, "predict")
        predict = form.method.predictor(states[task.train], runner._classes(task.test), model, rng)
        rows = runner._test_rows(task)
        serve, _ = runner.features.batches(rows, task.test.dataset, form.method.needs, record.seed, views)
        with watched(form, see):
            answers = torch.cat([predict(batch).argmax(1) for batch in serve()])
        if not np.array_equal(answers.numpy(), record.prediction):
            raise UserError(
                f"cell {record.id} ({title} on {task.name}) was answered otherwise, by other code or another machine: "
                "run it again."
            )
    return found


@contextlib.contextmanager
def watched(form: Form, see: Callable[[Tensor], Any]) -> Iterator[None]:
    """Let `see` have every mask that an answer comes from: not those of a step's loss, nor those that choose views."""
    module, episodes = _module(form), "test-time" in form.method.setting
    original = module.rational_logits

    def seen(weights: Any, image: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        logits, mask = original(weights, image, *others)
        if not torch.is_grad_enabled() and (image.dim() == 3) == episodes:
            see(mask)
        return logits, mask

    module.rational_logits = seen
    try:
        yield
    finally:
        module.rational_logits = original


def _module(form: Form) -> Any:
    return sys.modules[type(form.method).__module__]


def drawn(found: Sequence[Masks]) -> Figure:
    """A panel for each row; the spread of its mask decides its scale."""
    columns = style.columns(len(found))
    lines = math.ceil(len(found) / columns)
    figure = style.new(2.0 * lines + 0.3)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, one in zip(grid.flat, found, strict=False):
        low, high = min(one.quantile(0.0005), 1.0), max(one.quantile(0.9995), 1.0)
        room = max(0.04 * (high - low), 5 * STEP)
        first, last = max(0, int((low - room) / STEP)), min(len(one.all), int((high + room) / STEP) + 1)
        width = max(1, (last - first) // 80)
        edges = np.arange(first, last + 1, width)
        for i, (task, counts) in enumerate(one.by_task.items()):
            share = 100 * np.add.reduceat(counts, edges)[:-1] / counts.sum()
            (line,) = axes.step(edges[:-1] * STEP, share, where="post", color=COLOURS[i % 7], label=task)
            line.set_linewidth(0.8 + 0.6 * (i // len(DASHES)))  # a dash that comes again is thicker
            if dashes := DASHES[i % len(DASHES)]:
                line.set_dashes(dashes)
        axes.axvline(1, color=INK, lw=0.7, zorder=1)
        axes.set_title(style.title(one.title, 92 // max(3, columns)), fontsize=7, pad=3)
        axes.set(xlabel="entry of M", xlim=(first * STEP, last * STEP), ylim=(0, None))
        axes.locator_params(axis="x", nbins=4)
        style.tidy(axes)
    figure.supylabel("share of the entries (%)", fontsize=7.5)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    room = style.width(figure, labels, 7) + 0.55  # of a name with its line
    figure.legend(handles, labels, loc="outside lower center", ncols=int(style.WIDTH / room) or 1, handlelength=2.4)
    return figure


if __name__ == "__main__":
    main()
