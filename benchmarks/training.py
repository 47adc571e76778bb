"""`python -m benchmarks.training`: what a step costs each method that learns from pictures.

python -m benchmarks.training                  # every method; writes results/training.md
python -m benchmarks.training --only ft,flyp   # some; prints, writes nothing unless --out says where
python -m benchmarks.training --quick          # a tiny model, to see that it works

A method's own `fit` runs on random pictures for a few steps. What its optimiser keeps is read off its checkpoint.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

import methods  # noqa: F401  fills the registry
from bench.api import METHODS, Form, Support, UserError, nearest, watched
from benchmarks.measure import size, tensor_bytes
from benchmarks.setup import ARCHITECTURE, Setup, generator
from benchmarks.write import duration, machine, pipes, table

FORMS = ("lp-all", "ft", "l2-sp", "lp-ft", "flyp", "wise-ft", "rada-fft", "rada-ft")
FORMS += ("maple", "prompt-src", "clip-lora", "rada-prompt")
STEPS = 3
COLUMNS = ("method", "trained parameters", "optimiser keeps", "a step", "pictures/s", "peak")
AGAIN = ("recomputing: a step", "pictures/s", "peak", "memory, times less")
HOW = (
    "Each method's own `fit`, float32, the same batch for all. A step is all between two reports of progress: "
    "pictures (random ones, in memory), forward, backward, optimiser. The best of {steps} steps, in processor time. "
    "Recomputing is the field `recompute`: activations inside the towers are computed again on the way back.",
    "The peak is the most bytes of tensors alive at once during two steps, from torch's allocator, beyond the frozen "
    "model and the pictures; copies of the weights that learn, their gradients and what the optimiser keeps are in it. "
    "LP and RAda with frozen encoders learn from stored features, so a step never sees the towers.",
)


@dataclass(frozen=True)
class Fit:
    """seconds: of steps but the first. kept: bytes of the optimiser's state. peak: bytes beyond the frozen model."""

    seconds: tuple[float, ...]
    kept: int
    peak: int


@dataclass(frozen=True)
class Row:
    """again: the same with `recompute`; None where no tower learns."""

    title: str
    parameters: int
    batch: int
    plain: Fit
    again: Fit | None

    def entries(self) -> list[str]:
        found = [self.title, f"{self.parameters:,}", size(self.plain.kept), *self._speed(self.plain)]
        if self.again is None:
            return [*found, *[""] * len(AGAIN)]
        return [*found, *self._speed(self.again), f"{self.plain.peak / self.again.peak:.3g}"]

    def _speed(self, fit: Fit) -> list[str]:
        best = min(fit.seconds)
        return [duration(best), f"{self.batch / best:.3g}", size(fit.peak)]


class Optimiser:
    """A place for checkpoints that keeps nothing but the bytes of what is no weight."""

    kept = 0

    def due(self) -> bool:
        return True

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        state = (tensor for name, tensor in tensors.items() if "/" in name and not name.startswith("weight/"))
        self.kept = sum(tensor.nbytes for tensor in state)

    def load(self) -> None:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME,...", help=f"some of {', '.join(FORMS)}")
    parser.add_argument("--quick", action="store_true", help="a tiny model and five classes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: results, for complete runs)")
    options = parser.parse_args(arguments)
    try:
        run(tuple(options.only.split(",")) if options.only else FORMS, options.quick, options.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(names: Sequence[str], quick: bool, out: Path | None) -> None:
    for name in names:
        if name not in FORMS:
            raise UserError(f"no method {name!r} is measured here: {nearest(name, FORMS)}")
    torch.set_num_threads(1)
    setup, rows, console = Setup(quick), [], Console()
    batch, classes = setup.count(16, 2), len(setup.classes(100))
    for name in names:
        rows.append(row(setup, METHODS[name], batch))
        console.print(f"{name}: {duration(min(rows[-1].plain.seconds))} a step", style="dim", highlight=False)
    body = [one.entries() for one in rows]
    console.print(table((*COLUMNS, *AGAIN), body))
    complete = not quick and set(names) == set(FORMS)
    folder = out or (Path("results") if complete else None)
    if folder is None:
        return
    command = ["python -m benchmarks.training"] + ["--quick"] * quick
    command += [] if set(names) == set(FORMS) else ["--only", ",".join(names)]
    model = "A tiny CLIP" if quick else ARCHITECTURE
    parts = [
        "# What a training step costs",
        f"`{' '.join(command)}`, {datetime.date.today()}, on {machine()}.",
        f"{model} with random weights, {classes} classes, {batch} pictures a step.",
        pipes((*COLUMNS, *AGAIN), body),
        *(text.format(steps=STEPS - 1) for text in HOW),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    console.print(f"written: {folder / 'training.md'}")


def row(setup: Setup, form: Form, batch: int) -> Row:
    support = pictures(setup, batch)
    recomputes = "recompute" in form.hyper_parameters()
    return Row(
        form.title,
        form.method.parameters(setup.backbone, len(support.classes)),
        batch,
        fit(setup, form, support),
        fit(setup, form.with_fields(recompute=True), support) if recomputes else None,
    )


def pictures(setup: Setup, batch: int) -> Support:
    """As many random pictures as one batch has, of different classes where there are so many."""
    classes, pixels = setup.classes(100), setup.pictures(batch)
    with torch.no_grad():
        features = setup.backbone.encode_images(pixels)

    def images(steps: Iterable[tuple[int, Tensor]], scale: tuple[float, float], flip: float) -> Iterator[Tensor]:
        return (pixels[rows] for _, rows in steps)

    labels = torch.arange(batch) % len(classes)
    return Support(classes, features, labels, lambda copies: features[:, None], images=images)


def fit(setup: Setup, form: Form, support: Support) -> Fit:
    """Some steps on the clock, and two that the allocator counts: in the second, the optimiser has a state."""
    ticks: list[float] = []
    with watched(lambda *_: ticks.append(time.process_time())):
        _learn(setup, form, support, STEPS)
    seconds = tuple(after - before for before, after in itertools.pairwise(ticks[-STEPS:]))
    optimiser = Optimiser()
    _, found = tensor_bytes(lambda: _learn(setup, form, replace(support, checkpoints=optimiser), 2))
    return Fit(seconds, optimiser.kept, found.peak)


def _learn(setup: Setup, form: Form, support: Support, steps: int) -> None:
    long = "iterations" if form.name == "clip-lora" else "epochs"  # one picture a class, one batch an epoch
    form.with_fields(batch=len(support.labels), **{long: steps}).method.fit(support, setup.backbone, generator())


if __name__ == "__main__":
    sys.exit(main())
