"""What a run would take, before it is run: cells, encodings, operations, hours, disk.

Encodings are what the cells ask the cache for, exactly. What fits and answers take is counted on the model itself with
a few made-up pictures of two, four and six classes, and carried on to the run's: an epoch takes s(K) a step and p(K) a
picture, where K is the number of classes and s and p are polynomials of the second degree. A form that has no field
for its length, or whose steps follow another rule, is not estimated, and named.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from bench import encodings, index
from bench.api import Classes, Form, NotRunnable, Support, as_fitted
from bench.contract import data
from bench.meter import flops
from bench.runner import Cell, Runner

SIZES = (2, 4, 6)
"""Numbers of classes that the operations are counted at: three determine a polynomial of the second degree."""
SHOTS = (1, 2)
NAME = "cat"
BACKENDS: dict[str, float] = {"T4": 4, "V100": 7, "A100": 10, "RTX4090": 40, "H100": 30, "H200": 30}
"""Assumed sustained TFLOP/s in float32 without TF32, some half of what the vendors state; nothing here was measured."""
LENGTHS = ("epochs", "iterations")


@dataclass(frozen=True)
class Line:
    """A form's share of the plan. fits and answers in operations; None: not estimated, for the reason in `why`."""

    method: str
    title: str
    setting: str
    tasks: tuple[str, ...]
    cells: int
    done: int
    failed: int
    to_fit: int
    fits: float | None = None
    answers: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Encoding:
    """An array that the missing cells ask for. forwards: pictures and views; operations: of the image tower."""

    dataset: str
    what: str
    shape: tuple[int, ...]
    forwards: int
    operations: float
    bytes: int
    there: bool


@dataclass(frozen=True)
class Plan:
    """All of it, on one backbone. seconds: at `tflops`, of what is estimated; bytes: that the cache will grow by."""

    backbone: str
    lines: tuple[Line, ...]
    encodings: tuple[Encoding, ...]
    tflops: float
    on: str

    @property
    def operations(self) -> dict[str, float]:
        """Of what is still to do and could be estimated."""
        return {
            "encodings": sum(e.operations for e in self.encodings if not e.there),
            "fits": sum(line.fits or 0.0 for line in self.lines),
            "answers": sum(line.answers or 0.0 for line in self.lines),
        }

    @property
    def seconds(self) -> float:
        return sum(self.operations.values()) / (self.tflops * 1e12)

    @property
    def bytes(self) -> int:
        return sum(e.bytes for e in self.encodings if not e.there)

    def as_json(self) -> dict[str, Any]:
        """Everything, in what JSON knows."""
        sums = {"operations": self.operations, "seconds": self.seconds, "bytes": self.bytes}
        return {**asdict(self), **sums}


def counted(runner: Runner, cells: Sequence[Cell], fresh: bool = False) -> tuple[Line, ...]:
    """The cells of each form, of which nothing is estimated, so that it is quick. fresh: as if none were stored."""
    return tuple(line for line, _, _ in _shares(runner, cells, fresh))


def _shares(runner: Runner, cells: Sequence[Cell], fresh: bool) -> Iterator[tuple[Line, list[Cell], list[Cell]]]:
    """Each form's line without an estimate, its cells that are to be made, and one cell of each fit among them."""
    status = {} if fresh else {known.id: known.status for known in index.known(runner.results)}
    by_form: dict[Form, list[Cell]] = {}
    for cell in cells:
        by_form.setdefault(cell.form, []).append(cell)
    for form, group in by_form.items():
        known = [status.get(runner.cell_id(cell)) for cell in group]
        left = [cell for cell, state in zip(group, known, strict=True) if state in (None, "failed")]
        fits = {(as_fitted(cell.form.method), cell.task.train, cell.task.shots, cell.seed): cell for cell in left}
        learning = [cell for cell in fits.values() if cell.task.train is not None]
        line = Line(
            form.name,
            form.title,
            form.method.setting,
            tuple(dict.fromkeys(cell.task.name for cell in group)),
            len(group),
            len(group) - len(left),
            sum(state == "failed" for state in known),
            len(learning),
        )
        yield line, left, learning


def planned(runner: Runner, cells: Sequence[Cell], tflops: float, on: str) -> Plan:
    """The plan of these cells on the runner's backbone; nothing is encoded, fitted or stored."""
    lines, to_make = [], set()
    for line, left, learning in _shares(runner, cells, fresh=False):
        learnt, answered, why = _taken(runner, left[0].form, left, learning) if left else (0.0, 0.0, "")
        lines.append(replace(line, fits=learnt, answers=answered, why=why))
        to_make.update(left)
    missing = [cell for cell in cells if cell in to_make]
    cache = runner.features.cache
    image = _image(runner) if missing else 0.0
    wanted = [
        Encoding(
            str(request.key["dataset"]),
            str(request.key["what"]),
            request.shape,
            request.forwards,
            request.forwards * image,
            request.bytes,
            request.there(cache),
        )
        for request in encodings.wanted(runner, missing)
    ]
    return Plan(runner.backbone.name, tuple(lines), tuple(wanted), tflops, on)


def _image(runner: Runner) -> float:
    """Operations of one picture in the image tower; 0 where there is none."""
    if "images" not in runner.backbone.offers:
        return 0.0
    size = runner.backbone.transform.size  # type: ignore[union-attr]
    with torch.no_grad():
        return flops(
            lambda: runner.backbone.encode_images(torch.zeros(1, 3, size, size, device=runner.backbone.device))
        )


def _taken(
    runner: Runner, form: Form, cells: Sequence[Cell], fits: Sequence[Cell]
) -> tuple[float | None, float | None, str]:
    """Operations of the fits and of the answers, or why they are not estimated."""
    try:
        names, _ = runner.test_size(cells[0])
        size = Size(form, runner.backbone, runner.views, sorted(names, key=len)[len(names) // 2])
        # a fit has the classes and pictures of its support, which are known without being read again
        learnt = sum(size.fit(*runner.support_size(cell)) for cell in fits)
        asked = [(len(names), pictures) for names, pictures in map(runner.test_size, cells)]
        return learnt, sum(size.answers(*each) for each in asked), ""
    except NotRunnable as error:
        return None, None, str(error)


class Size:
    """The operations of one form, as functions of the numbers of classes and pictures.

    name: that every class has, for a text takes more the longer it is. A step of fewer pictures than a batch, at the
    end of an epoch, counts, though some methods leave it out; L-BFGS counts as if it never converged before its limit.
    NotRunnable where the backbone cannot carry the form, or where it has no field for the length of its fit.
    """

    def __init__(self, form: Form, backbone: Any, views: int, name: str = NAME) -> None:
        lacking = form.method.needs - backbone.offers
        if lacking:
            raise NotRunnable(f"needs {' and '.join(sorted(lacking))}, which {backbone.name} does not offer")
        self.form, self.backbone, self.views, self.name = form, backbone, views, name
        self._by_rule: dict[int, int] = {}
        self.learns = form.method.setting.startswith(("few-shot", "fine-tune"))
        self.batch = form.hyper_parameters().get("batch") or 10**9
        if self.learns:
            self._fixed, self._epoch = self._of_fit()
        self._once, self._each = self._of_answers()

    def fit(self, classes: int, pictures: int) -> float:
        """A fit of so many pictures of so many classes."""
        if not self.learns:
            return 0.0
        fixed, epoch = self._parts(classes, pictures)
        return fixed + self._length(pictures // max(1, classes)) * epoch

    def answers(self, classes: int, pictures: int) -> float:
        """The answers to so many pictures among so many classes."""
        return self._once(classes) + pictures * self._each(classes)

    def _of_fit(self) -> tuple[tuple[Curve, Curve], tuple[Curve, Curve]]:
        name = self._length_field()
        fixed, epoch = [], []
        for k in SIZES:
            taken = []
            for shots in SHOTS:
                support = _support(self.backbone, k, shots, self.name)
                one, two = (self._counted(support, **{name: length}) for length in (1, 2))
                taken.append((2 * one - two, two - one))  # before the first, and each
            (rest_a, epoch_a), (rest_b, epoch_b) = taken
            fixed.append((2 * rest_a - rest_b, (rest_b - rest_a) / k))
            steps = [math.ceil(k * shots / self.batch) for shots in SHOTS]
            # epoch = steps * s + pictures * p; where steps follow the pictures, all of it is p's
            per_picture = (epoch_b - epoch_a) / k if steps[0] == steps[1] else epoch_b / (k * SHOTS[1])
            epoch.append(((epoch_a - k * per_picture) / steps[0] if steps[0] == steps[1] else 0.0, per_picture))
        return _curves(fixed), _curves(epoch)

    def _length_field(self) -> str:
        own = self.form.hyper_parameters()
        name = next((name for name in LENGTHS if name in own), None)
        if name is None or ("pixels" in self.form.method.needs and name == "iterations"):
            raise NotRunnable("not estimated: its fit has no number of epochs")
        return name

    def _length(self, shots: int) -> float:
        """Epochs of a fit of so many pictures a class; where the method follows a rule, counted on two classes."""
        stated = self.form.hyper_parameters()[self._length_field()]
        if stated is not None:
            return float(stated)
        if shots not in self._by_rule:
            k, n = SIZES[0], SIZES[0] * max(1, shots)
            fixed, epoch = self._parts(k, n)
            self._by_rule[shots] = round(
                (self._counted(_support(self.backbone, k, max(1, shots), self.name)) - fixed) / epoch
            )
        return self._by_rule[shots]

    def _parts(self, classes: int, pictures: int) -> tuple[float, float]:
        """Operations before the first epoch, and of each."""
        per_step, per_picture = self._epoch
        epoch = math.ceil(pictures / self.batch) * per_step(classes) + pictures * per_picture(classes)
        return self._fixed[0](classes) + pictures * self._fixed[1](classes), epoch

    def _counted(self, support: Any, **fields: Any) -> float:
        method = self.form.with_fields(**fields).method
        return flops(lambda: method.fit(support, self.backbone, torch.Generator().manual_seed(0)))

    def _of_answers(self) -> tuple[Curve, Curve]:
        once, each = [], []
        for k in SIZES:
            state: Any = {}
            form = self.form
            if self.learns:
                form = self.form.with_fields(**{self._length_field(): 1})
                support = _support(self.backbone, k, 1, self.name)
                state = form.method.fit(support, self.backbone, torch.Generator().manual_seed(0))
            batch = data.batch_of(self.backbone, k, 1, self.views)
            kept: list[Any] = []

            def prepare(form: Form = form, state: Any = state, k: int = k, kept: list[Any] = kept) -> None:
                rng = torch.Generator().manual_seed(0)
                kept.append(form.method.predictor(state, _names(k, self.name), self.backbone, rng))

            once.append(flops(prepare))
            each.append(flops(lambda kept=kept, batch=batch: kept[0](batch)))
        return _curve(once), _curve(each)


def _names(k: int, name: str) -> Classes:
    """So many classes of one name."""
    return Classes((name,) * k, ("a photo of a {}.",), tuple(range(k)))


def _support(backbone: Any, k: int, shots: int, name: str) -> Support:
    made = data.support_of(backbone, k, shots)
    assert made.val is not None
    return replace(made, classes=_names(k, name), val=replace(made.val, classes=_names(k, name)))


Curve = Callable[[float], float]


def _curve(values: Sequence[float]) -> Curve:
    """Through all points, of the second degree."""
    return np.poly1d(np.polyfit(SIZES, values, len(SIZES) - 1))  # type: ignore[return-value]


def _curves(pairs: Sequence[tuple[float, float]]) -> tuple[Curve, Curve]:
    first, second = zip(*pairs, strict=True)
    return _curve(first), _curve(second)


def here(runner: Runner) -> float:
    """TFLOP/s of this machine, by the image tower's own work on a few pictures, or a product of matrices."""
    if "images" not in runner.backbone.offers:
        matrix = torch.rand(1024, 1024)
        work, operations = (lambda: matrix @ matrix), 2.0 * 1024**3
    else:
        size = runner.backbone.transform.size  # type: ignore[union-attr]
        pixels = torch.zeros(16, 3, size, size, device=runner.backbone.device)
        work, operations = (lambda: runner.backbone.encode_images(pixels)), 16 * _image(runner)
    with torch.no_grad():
        work()
        times, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < 1.0:
            work()
            times += 1
        if runner.backbone.device.type == "cuda":
            torch.cuda.synchronize()
        return times * operations / (time.perf_counter() - begun) / 1e12
