"""How far answers move with what should not matter: how many pictures are answered together, and torch's threads.

    python -m benchmarks.determinism [--pictures 20] [--methods NAMES]

Every registered form, its fit cut to one short epoch, learns one picture a class of the embedded fine-grained world and
answers on the embedded transformer, whose weights are trained; a form whose prompts are too long for it does so on a
small random one (marked *). Batches: the largest difference of any logit between
pictures answered one by one, three by three, seven by seven and all together. Threads: the same cells made again with
two threads, encoding included; whether the stored predictions are the same bytes, and if not, how far they are apart.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import methods  # noqa: F401  fills the registry
from bench import backbone, records, sampling
from bench.api import METHODS, SETTINGS, Form, NotRunnable, Record, Suite
from bench.backbone import OpenClip
from bench.backbone.untrained import small_vit
from bench.cache import Cache
from bench.features import Features
from bench.runner import Cell, Runner, plan, streams

BRIEF = {"epochs": 1, "augment": 1, "batch": 25, "iterations": 1, "warmup": 1, "micro": 0}
"""One short epoch of whatever a method does when it fits."""
SUITE = Suite(
    name="determinism",
    title="A few pictures of the fine-grained world",
    setting="domain-shift",
    tests=("world-fine",),
    admits=SETTINGS,
    backbone="world-vit",
    source="world-fine",
    shots=(1,),
    seeds=1,
    view_seeds=1,
    views=3,
    limit=6,
)
SIZES = (1, 3, 7)


def brief(form: Form) -> Form:
    """The form with a fit that takes milliseconds."""
    known = form.hyper_parameters()
    return form.with_fields(**{name: value for name, value in BRIEF.items() if name in known})


def cells(forms: Sequence[Form], pictures: int = 6) -> list[Cell]:
    """One cell of each form."""
    return plan(replace(SUITE, limit=pictures), [brief(form) for form in forms])


def runner(model: OpenClip, root: Path, cache: Path | None = None, workers: int = 0) -> Runner:
    return Runner(Features(model, Cache(cache or root / "cache"), workers=workers), root, views=SUITE.views)


def by_size(model: OpenClip, cell: Cell, folder: Path, sizes: Sequence[int]) -> list[Tensor]:
    """One fit's logits (n, K) of the test pictures in batches of each size: for every size a predictor of its own."""
    made = runner(model, folder)
    rows, task, method = made._test_rows(cell.task), cell.task, cell.form.method
    state = {}
    if task.train is not None:
        train, val = made._support_rows(task, cell.seed)
        classes, dataset = made._classes(task.train), task.train.dataset
        support, _ = made.features.support(train, val, classes, dataset, cell.seed, method.needs)
        state = method.fit(support, model, sampling.generator(*streams(cell)["fit"]))
    found = []
    for size in sizes:
        serve, _ = made.features.batches(rows, task.test.dataset, method.needs, cell.seed, made.views, size)
        rng = sampling.generator(*streams(cell)["predict"])
        answer = method.predictor(state, made._classes(task.test), model, rng)
        found.append(torch.cat([answer(batch).detach() for batch in serve()]))
    return found


@dataclass(frozen=True)
class Moved:
    """batches: the largest difference of a logit, spread: the largest logit less the smallest. threads: whether the
    stored predictions are the same bytes; answers: how many differ; probability: the largest difference of one."""

    batches: float
    spread: float
    same: bool
    answers: int
    probability: float


def stored(root: Path, record: Record) -> bytes:
    return (records.folder(root, record) / "predictions.npz").read_bytes()


def measured(models: Sequence[OpenClip], form: Form, pictures: int, folder: Path) -> tuple[OpenClip, Moved]:
    """On the first of these models that the form runs on."""
    *others, last = models
    for model in others:
        with contextlib.suppress(NotRunnable):
            return model, measure(model, form, pictures, folder / model.name)
    return last, measure(last, form, pictures, folder / last.name)


def measure(model: OpenClip, form: Form, pictures: int, folder: Path) -> Moved:
    (cell,) = cells([form], pictures)
    torch.set_num_threads(1)
    whole, *parts = by_size(model, cell, folder / "batches", (pictures, *SIZES))
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        (record,) = runner(model, folder / str(threads)).run([cell]).records
        found.append((stored(folder / str(threads), record), record))
    torch.set_num_threads(1)
    (one, a), (two, b) = found
    return Moved(
        max(float((whole - part).abs().max()) for part in parts),
        float(whole.max() - whole.min()),
        one == two,
        int((a.prediction != b.prediction).sum()),
        max(float(np.abs(getattr(a, name) - getattr(b, name)).max()) for name in ("p_true", "confidence")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--methods", default=",".join(METHODS), help="forms, comma-separated (default: all)")
    args = parser.parse_args()
    models = [backbone.load(SUITE.backbone), small_vit()]
    found: dict[str, Moved] = {}
    print("| form | logits span | by batch size | 2 threads | answers | probability |\n|---|--:|--:|---|--:|--:|")
    for name in args.methods.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model, one = measured(models, METHODS[name], args.pictures, Path(folder))
        found[name], star = one, " *" * (model is not models[0])
        same = "same bytes" if one.same else "other bytes"
        print(
            f"| {name}{star} | {one.spread:.3g} | {one.batches:.2g} | {same} | {one.answers} | {one.probability:.2g} |",
            flush=True,
        )
    worst = max(found, key=lambda name: found[name].batches)
    print(
        f"\nBy batch size at most {found[worst].batches:.2g} ({worst}); {len(found)} forms, {args.pictures} pictures."
    )
    print(f"Two threads: {sum(one.same for one in found.values())} of {len(found)} forms give the same bytes,")
    print(f"{sum(one.answers for one in found.values())} of {len(found) * args.pictures} answers differ.")


if __name__ == "__main__":
    main()
