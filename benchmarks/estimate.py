"""What RAda's three tables take with real data and weights: an estimate, before anything is downloaded.

    python -m benchmarks.estimate                      # half a minute of one core
    python -m benchmarks.estimate --tflops 60 --cores 32

Operations are counted on the architecture itself (untrained, one picture, some classes) and multiplied by the counts of
the cards; in the number of classes K, text towers are linear and RAda's layer is quadratic, so three K give all. The
rate of the GPU is an assumption; how fast pictures are opened and cropped is measured here, on one core. A backward
pass counts as two forward passes.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

import methods  # noqa: F401
from bench import backbone, cards
from bench.api import METHODS, Batch, Suite
from bench.backbone import Crops, OpenClip
from bench.meter import flops
from benchmarks import names

ARCHITECTURE = "ViT-B-16-quickgelu"
TFLOPS = 10.0
"""Float32 without TF32 on a large GPU of 2020 to 2024: about half of an A100's 19.5."""
CORES = 16
GIGABYTES: dict[str, float] = {
    "imagenet": 150, "imagenet-v2": 1.3, "imagenet-sketch": 7.6, "imagenet-a": 0.7, "imagenet-r": 2.2,
    "objectnet": 190, "caltech101": 0.2, "oxford-pets": 0.8, "stanford-cars": 2, "oxford-flowers": 0.4,
    "food101": 5, "fgvc-aircraft": 2.7, "sun397": 37, "dtd": 0.6, "eurosat": 0.1, "ucf101": 0.2,
}  # fmt: skip
"""Of pictures on disk, from their sources' pages, rounded."""


@dataclass
class Work:
    """operations of the towers and methods; pictures opened; crops made of them; bytes of features that are kept."""

    operations: float = 0.0
    opened: float = 0.0
    crops: float = 0.0
    kept: float = 0.0

    def encode(self, unit: Unit, pictures: float, views: int = 1) -> None:
        self.operations += pictures * views * unit.image
        self.opened += pictures
        self.crops += pictures * views
        self.kept += pictures * views * unit.dim * 4


@dataclass(frozen=True)
class Unit:
    """Operations of one picture, one prompt, and one picture of RAda, TPT and RAda at test time for K classes."""

    image: float
    text: float
    dim: int
    layer: Callable[[int], float]
    tpt: Callable[[int], float]
    ttt: Callable[[int], float]


def counted(model: OpenClip) -> Unit:
    """Operations of the parts, on this model."""
    size = model.transform.size

    def asked(name: str, k: int) -> float:
        classes = names.imagenet(k)
        views = torch.randn(1, 64, model.dim, generator=torch.Generator().manual_seed(0))
        form, rng = METHODS[name], torch.Generator().manual_seed(0)
        state = _new_layer(model) if name == "rada-eft" else {}
        predict = form.method.predictor(state, classes, model, rng)
        return flops(lambda: predict(Batch(("one",), views[:, 0], views)))

    with torch.no_grad():
        image = flops(lambda: model.encode_images(torch.zeros(1, 3, size, size)))
        text = flops(lambda: model.text_features(names.imagenet(100))) / 100
    fitted = {
        name: _polynomial([(k, asked(name, k)) for k in places])
        for name, places in (("rada-eft", (50, 100, 200)), ("tpt", (20, 40)), ("rada-ttt", (50, 100, 200)))
    }
    return Unit(image, text, model.dim, fitted["rada-eft"], fitted["tpt"], fitted["rada-ttt"])


def _new_layer(model: OpenClip) -> dict[str, Any]:
    from methods.rada import QUERIES, new_layer

    return dict(new_layer(model.dim, QUERIES, torch.Generator().manual_seed(0), model.scale))


def _polynomial(points: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """Through all points, of the degree that they determine."""
    k, y = zip(*points, strict=True)
    return np.poly1d(np.polyfit(k, y, len(points) - 1))


# -- suites -----------------------------------------------------------------------------------------------------------


def _size(name: str, part: str = "test") -> tuple[int, int]:
    counts = cards.card(name.partition(":")[0]).counts
    return counts[part], counts["classes"]


def at_test_time(suite: Suite, unit: Unit) -> Iterator[tuple[str, Work]]:
    tests, seeds, (_, classes) = [_size(test) for test in suite.tests], suite.view_seeds, _size("imagenet")
    views, support = Work(), Work()
    for n, _ in tests:
        views.encode(unit, n * seeds, suite.views)
    yield f"encoding {suite.views} views a picture, {seeds} seeds", views
    yield "TPT", Work(seeds * sum(n * unit.tpt(k) for n, k in tests))
    yield "RAda, and after few-shot", Work(2 * seeds * sum(n * unit.ttt(k) for n, k in tests))
    for shots in suite.shots:
        few = METHODS["rada-dagger"].hyper_parameters()
        support.encode(unit, shots * classes * suite.seeds, 1 + few["augment"])
        support.operations += 3 * few["epochs"] * shots * classes * suite.seeds * unit.layer(classes)
    yield "RAda's few-shot fit", support


def base_to_new(suite: Suite, unit: Unit) -> Iterator[tuple[str, Work]]:
    parts = {name: Work() for name in ("encoding", "CoOp", "RAda, with and without adapter", "RAda + Prompt")}
    shots, seeds = suite.shots[0], suite.seeds
    coop, rada, prompt = (METHODS[name].hyper_parameters() for name in ("coop-m16", "rada-eft", "rada-prompt"))
    for test in suite.tests:
        (n, k), base = _size(test), (_size(test)[1] + 1) // 2
        parts["encoding"].encode(unit, n)
        parts["encoding"].encode(unit, seeds * shots * k, 1 + max(coop["augment"], rada["augment"]))
        epochs = 50 if test == "imagenet" else 200  # CoOp's, of 16 shots
        parts["CoOp"].operations += 3 * seeds * epochs * (shots * base / coop["batch"]) * base * unit.text
        layer = 3 * seeds * rada["epochs"] * shots * base * unit.layer(base) + seeds * n * unit.layer(base)
        parts["RAda, with and without adapter"].operations += 2 * layer
        steps = seeds * prompt["epochs"] * shots * base / prompt["batch"]
        parts["RAda + Prompt"].operations += 3 * steps * (prompt["batch"] * unit.image + base * unit.text)
        parts["RAda + Prompt"].operations += seeds * n * unit.image
        parts["RAda + Prompt"].opened += steps * prompt["batch"] + seeds * n
        parts["RAda + Prompt"].crops += steps * prompt["batch"] + seeds * n
    yield from parts.items()


def fine_tuning(suite: Suite, unit: Unit) -> Iterator[tuple[str, Work]]:
    n, classes = _size("imagenet", "train")
    tests, seeds, epochs = sum(_size(test)[0] for test in suite.tests), suite.seeds, suite.fields["epochs"]
    heads = Work()
    heads.encode(unit, n + tests)
    heads.operations += 3 * seeds * epochs * n * unit.layer(classes)
    yield "encoding; LP and RAda, encoders frozen", heads
    passes = seeds * (3 * epochs * n + tests)
    tuned = Work(passes * unit.image, seeds * (epochs * n + tests), seeds * (epochs * n + tests))
    yield "FT", tuned
    yield "L2-SP", tuned
    yield "LP-FT", tuned
    yield "FLYP", replace(tuned, operations=tuned.operations + 3 * seeds * epochs * n * unit.text)
    own = METHODS["rada-ft"].hyper_parameters()
    texts = 3 * seeds * epochs * n / own["batch"] / max(1, own["refresh"]) * classes * unit.text
    layer = seeds * (3 * epochs * n + tests) * unit.layer(classes)
    yield "RAda-FT", replace(tuned, operations=tuned.operations + layer + texts)


TABLES = {"imagenet-ood": at_test_time, "base-to-new-11": base_to_new, "imagenet-fft": fine_tuning}


# -- rates ------------------------------------------------------------------------------------------------------------


def picture_rates(model: OpenClip, seconds: float) -> tuple[float, float]:
    """(seconds to open a JPEG of ImageNet's size and crop it once, seconds for one crop more), on one core."""
    noise = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)

    def spent(views: int) -> float:
        def once() -> None:
            picture = Image.open(io.BytesIO(stream.getvalue())).convert("RGB")
            model.transform.crops(picture, views, Crops(), torch.Generator().manual_seed(0))

        once()
        start, times = time.process_time(), 0
        while time.process_time() - start < seconds:
            once()
            times += 1
        return (time.process_time() - start) / times

    one, many = spent(1), spent(33)
    return one, (many - one) / 32


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate", description="An estimate of time and disk.")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help=f"assumed rate of the GPU (default: {TFLOPS:g})")
    parser.add_argument("--cores", type=int, default=CORES, help=f"that open pictures (default: {CORES})")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring each rate (default: 2)")
    args = parser.parse_args(words)
    model = backbone.load(backbone.find(ARCHITECTURE, random_weights=True))
    unit, (opened, crop) = counted(model), picture_rates(model, args.seconds)
    print(
        f"An estimate. {ARCHITECTURE}: {unit.image / 1e9:.1f} GFLOP a picture, {unit.text / 1e9:.2f} a prompt, RAda's "
        f"layer {unit.layer(1000) / 1e9:.1f} a picture of 1000 classes.\nAssumed: a GPU of {args.tflops:g} TFLOP/s "
        f"sustained, {args.cores} cores. Measured on one core: {1000 * opened:.1f} ms to open and crop a picture, "
        f"{1000 * crop:.2f} ms a crop more."
    )
    for name, parts in TABLES.items():
        suite, rows, total = cards.suite(name), [], Work()
        for what, work in parts(suite, unit):
            rows.append(_row(what, work, args, opened, crop))
            total = Work(*(a + b for a, b in zip(vars(total).values(), vars(work).values(), strict=True)))
        rows.append(_row("all", total, args, opened, crop))
        sets = {test.partition(":")[0] for test in suite.tests} | ({suite.source} if suite.source else set())
        print(f"\n{suite.title} ({name}); {sum(GIGABYTES[s] for s in sets):.0f} GB of pictures")
        headers = ["", "PFLOP", "GPU hours", "hours of all cores", "GB kept"]
        print(tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 4)))


def _row(what: str, work: Work, args: argparse.Namespace, opened: float, crop: float) -> list[Any]:
    cores = (work.opened * opened + (work.crops - work.opened) * crop) / args.cores / 3600
    gpu = work.operations / args.tflops / 1e12 / 3600
    return [what, f"{work.operations / 1e15:,.1f}", f"{gpu:,.1f}", f"{cores:,.1f}", f"{work.kept / 1e9:,.1f}"]


if __name__ == "__main__":
    main()
