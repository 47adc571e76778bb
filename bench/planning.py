"""What a run would take, before it is run: cells, encodings, operations, hours, disk.

Encodings are what the cells ask the cache for, exactly. What fits and answers take is counted on the model itself with
one and two made-up pictures of two, four and six classes, and carried on to the run's: a step takes s(K), and p(K) for
each of its pictures, where K is the number of classes and s and p are polynomials of the second degree. A form without
a field for its length, or whose steps follow a rule of their own, is not estimated, and named.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from bench import encodings, index
from bench.api import Classes, Form, NotRunnable, Support, as_fitted
from bench.backbone import PRECISIONS
from bench.contract import data
from bench.meter import flops
from bench.runner import Cell, Runner

SIZES = (2, 4, 6)
"""Numbers of classes that the operations are counted at: three determine a polynomial of the second degree."""
NAME, TEMPLATE = data.ANIMALS[0], data.TEMPLATE
MANY = 10**9
"""A batch that holds every picture."""
GPUS: dict[str, tuple[float, float]] = {
    "T4": (4, 25),
    "V100": (7, 50),
    "A100": (10, 125),
    "RTX4090": (40, 65),
    "H100": (30, 400),
    "H200": (30, 400),
}
"""Assumed sustained TFLOP/s in float32 without TF32, some half of what the vendors state, and in half precision, two
fifths of that; nothing here was measured."""
LENGTHS = ("epochs", "iterations")


@dataclass(frozen=True)
class Line:
    """A form's share of the plan. fits and answers in operations; None: not estimated, for the reason in `why`.

    fits_in, answers_in: the precision of most of these operations.
    """

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
    fits_in: str = "fp32"
    answers_in: str = "fp32"
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
    """All of it, on one backbone. seconds: of what is estimated; bytes: that the cache will grow by.

    precision: that encodings are in. tflops: the rate in each precision that something is in.
    """

    backbone: str
    precision: str
    lines: tuple[Line, ...]
    encodings: tuple[Encoding, ...]
    tflops: dict[str, float]
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
        work = [(e.operations, self.precision) for e in self.encodings if not e.there]
        for line in self.lines:
            work += [(line.fits or 0.0, line.fits_in), (line.answers or 0.0, line.answers_in)]
        return sum(operations / (self.tflops[precision] * 1e12) for operations, precision in work)

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
    seen: set[object] = set()  # fits that an earlier form makes too
    for form, group in by_form.items():
        known = [status.get(runner.cell_id(cell)) for cell in group]
        left = [cell for cell, state in zip(group, known, strict=True) if state in (None, "failed")]
        fits = {(as_fitted(cell.form.method), cell.task.train, cell.task.shots, cell.seed): cell for cell in left}
        learning = [cell for key, cell in fits.items() if cell.task.train is not None and key not in seen]
        seen.update(fits)
        fits_in, answers_in = _precisions(form, runner.backbone.precision)
        line = Line(
            form.name,
            form.title,
            form.method.setting,
            tuple(dict.fromkeys(cell.task.name for cell in group)),
            len(group),
            len(group) - len(left),
            sum(state == "failed" for state in known),
            len(learning),
            fits_in=fits_in,
            answers_in=answers_in,
        )
        yield line, left, learning


def planned(runner: Runner, cells: Sequence[Cell], rate: Rate, on: str) -> Plan:
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
    precision = runner.backbone.precision
    used = dict.fromkeys([precision, *(kind for line in lines for kind in (line.fits_in, line.answers_in))])
    tflops = {kind: rate(kind) for kind in used}
    return Plan(runner.backbone.name, precision, tuple(lines), tuple(wanted), tflops, on)


def _precisions(form: Form, backbone: str) -> tuple[str, str]:
    """Of most operations of the form's fits and answers: of the towers, where they see pixels."""
    if "pixels" not in form.method.needs:
        return "fp32", "fp32"
    # a tower that is loaded in a lower precision stays in it, whatever a fit asks for
    return form.hyper_parameters().get("precision", "fp32") if backbone == "fp32" else backbone, backbone


def _image(runner: Runner) -> float:
    """Operations of one picture in the image tower; 0 where there is none."""
    if "images" not in runner.backbone.offers:
        return 0.0
    size = runner.backbone.transform.size  # type: ignore[union-attr]
    with torch.no_grad():
        pixels = torch.zeros(1, 3, size, size, device=runner.backbone.device)
        return flops(lambda: runner.backbone.encode_images(pixels), computed=False)


def _taken(
    runner: Runner, form: Form, cells: Sequence[Cell], fits: Sequence[Cell]
) -> tuple[float | None, float | None, str]:
    """Operations of the fits and of the answers, or why they are not estimated."""
    try:
        names, templates, _ = runner.test_size(cells[0])
        size = Size(form, runner.backbone, runner.views, sorted(names, key=len)[len(names) // 2], templates)
        # a fit has the classes and pictures of its support, which are known without being read again
        learnt = sum(size.fit(*runner.support_size(cell)) for cell in fits)
        asked = [(len(names), pictures) for names, _, pictures in map(runner.test_size, cells)]
        return learnt, sum(size.answers(*each) for each in asked), ""
    except NotRunnable as error:
        return None, None, str(error)


class Size:
    """The operations of one form, as functions of the numbers of classes and pictures.

    name, templates: that every class has, for a text takes more the longer it is; of several templates the longest
    stands for all. A fit is what comes before its first step, and so many steps of so many pictures:

        A0(K) + n A1(K) + L n B(K) + steps(L, n) (s(K) + b p(K)),    b = min(batch, n)

    L is the form's own length: epochs, each n // batch steps (what is left over is no step, as in CoOp), or iterations,
    in all or for each shot. NotRunnable where the backbone cannot carry the form, or where its steps follow another
    rule, such as to go on until it has converged.
    """

    def __init__(
        self, form: Form, backbone: Any, views: int, name: str = NAME, templates: Sequence[str] = (TEMPLATE,)
    ) -> None:
        lacking = form.method.needs - backbone.offers
        if lacking:
            raise NotRunnable(f"needs {' and '.join(sorted(lacking))}, which {backbone.name} does not offer")
        own = form.hyper_parameters()
        if own.get("templates"):
            form = form.with_fields(templates=_longest(own["templates"]))
        self.form, self.backbone, self.views = form, backbone, views
        self.name, self.templates = name, _longest(templates)
        self.learns = form.method.setting.startswith(("few-shot", "fine-tune"))
        self.on_pixels = "pixels" in form.method.needs
        self.batch = own.get("batch") or MANY
        self._by_rule: dict[int, float] = {}
        if self.learns:
            count = self._on_pixels if self.on_pixels else self._on_features
            self._length_field, self._steps, self._before, self._step = count()
        self._once, self._each = self._of_answers()

    def fit(self, classes: int, pictures: int) -> float:
        """A fit of so many pictures of so many classes."""
        if not self.learns:
            return 0.0
        shots = pictures // max(1, classes)
        length, (start, each, each_epoch), (step, picture) = self._length(shots), self._before, self._step
        taken = start(classes) + pictures * (each(classes) + length * each_epoch(classes))
        steps = length * self._steps(pictures, shots)
        return taken + steps * (step(classes) + min(self.batch, pictures) * picture(classes))

    def answers(self, classes: int, pictures: int) -> float:
        """The answers to so many pictures among so many classes."""
        return self._once(classes) + pictures * self._each(classes)

    def _on_pixels(self) -> _Fit:
        """One step of one and of two pictures, and what comes before it, by a support that looks on."""
        name = next((name for name in LENGTHS if name in self.form.hyper_parameters()), None)
        if name is None:
            raise NotRunnable("not estimated: its fit has no number of epochs or iterations")
        k, shots = 2, 4
        made = self._looked_at(k, shots, 0, 1, **{name: 1})[1]
        rules: dict[int, Steps] = {
            k * shots: lambda n, shots: max(1, n // self.batch),
            shots: lambda n, shots: shots,
            1: lambda n, shots: 1,
        }
        if made not in rules or self._looked_at(k, shots, 0, 1, **{name: 2})[1] != 2 * made:
            raise NotRunnable("not estimated: its steps follow a rule of their own")
        before, step = [], []
        for k in SIZES:
            once, twice = (self._looked_at(k, 1, 0, 1, **{name: length})[0] for length in (1, 2))
            more = self._looked_at(k, 2, 0, 1, **{name: 1})[0]
            epoch = (twice - once) / k
            each = (more - once) / k - epoch
            before.append((once - k * (each + epoch), each, epoch))
            one, two = (self._looked_at(k, 1, 1, b, **{name: 1})[0] - once for b in (1, 2))
            step.append((2 * one - two, two - one))
        return name, rules[made], _curves(before), _curves(step)

    def _looked_at(self, k: int, shots: int, steps: int, batch: int, **fields: Any) -> tuple[float, int]:
        """Operations until so many steps are done, and how many the fit would make in all."""
        support, made = _support(self.backbone, k, shots, self._named(k)), []
        images = support.images
        assert images is not None

        def watched(schedule: Iterable[Any], scale: tuple[float, float], flip: float) -> Iterator[torch.Tensor]:
            schedule = list(schedule)
            made.append(len(schedule))
            yield from images(schedule[:steps], scale, flip)
            raise _Enough

        def fit() -> None:
            with contextlib.suppress(_Enough):
                self._fitted(replace(support, images=watched), batch, **fields)

        return flops(fit, computed=False), made[0]

    def _on_features(self) -> _Fit:
        """Fits of one and two epochs, on one and two pictures a class in one batch."""
        before, step = [], []
        for k in SIZES if "epochs" in self.form.hyper_parameters() else ():
            taken = []
            for shots in (1, 2):
                support = _support(self.backbone, k, shots, self._named(k))
                one, two = (flops(lambda support=support, n=n: self._fitted(support, MANY, epochs=n)) for n in (1, 2))
                taken.append((2 * one - two, two - one))  # before the first, and each
            (rest_a, epoch_a), (rest_b, epoch_b) = taken
            before.append((2 * rest_a - rest_b, (rest_b - rest_a) / k, 0.0))
            step.append((2 * epoch_a - epoch_b, (epoch_b - epoch_a) / k))
        if not any(map(any, step)):
            raise NotRunnable("not estimated: its fit has no number of epochs")
        return "epochs", self._batches(step), _curves(before), _curves(step)

    def _batches(self, step: Sequence[Sequence[float]]) -> Steps:
        """Whether a last, smaller batch is no step, as in CoOp, or hardly matters, the pool being larger than n."""
        k, (fixed, each) = SIZES[0], step[0]
        support = _support(self.backbone, k, 2, self._named(k))  # 4 pictures by threes
        one, two = (flops(lambda n=n: self._fitted(support, 3, epochs=n)) for n in (1, 2))
        if math.isclose(two - one, fixed + 3 * each):
            return lambda n, shots: max(1, n // self.batch)
        return lambda n, shots: max(1, n / self.batch)

    def _fitted(self, support: Support, batch: int, **fields: Any) -> Any:
        if "batch" in self.form.hyper_parameters():
            fields["batch"] = batch
        method = self.form.with_fields(**fields).method
        return method.fit(support, self.backbone, torch.Generator().manual_seed(0))

    def _length(self, shots: int) -> float:
        """Epochs of a fit of so many pictures a class; where the method follows a rule, counted on two classes."""
        stated = self.form.hyper_parameters()[self._length_field]
        if stated is not None:
            return float(stated)
        if shots not in self._by_rule:
            k, shots = SIZES[0], max(1, shots)
            if self.on_pixels:
                self._by_rule[shots] = float(self._looked_at(k, shots, 0, MANY)[1])
            else:
                support = _support(self.backbone, k, shots, self._named(k))
                (start, each, _), (step, picture) = self._before, self._step
                taken = flops(lambda: self._fitted(support, MANY)) - start(k) - k * shots * each(k)
                self._by_rule[shots] = float(round(taken / (step(k) + k * shots * picture(k))))
        return self._by_rule[shots]

    def _of_answers(self) -> tuple[Curve, Curve]:
        once, each, computed = [], [], not self.on_pixels
        for k in SIZES:
            state: Any = {}
            if self.learns:
                support, length = _support(self.backbone, k, 1, self._named(k)), {self._length_field: 1}
                (state,) = self._kept(lambda support=support, length=length: self._fitted(support, MANY, **length))[1]
            start, (predict,) = self._kept(
                lambda k=k, state=state: self.form.method.predictor(
                    state, self._named(k), self.backbone, torch.Generator().manual_seed(0)
                )
            )
            batches = (data.batch_of(self.backbone, k, n, self.views) for n in (1, 2))
            one, two = (flops(lambda predict=predict, batch=batch: predict(batch), computed) for batch in batches)
            once.append(start + 2 * one - two)  # what a batch takes whatever its size is counted once
            each.append(two - one)
        return _curve(once), _curve(each)

    def _kept(self, make: Callable[[], Any]) -> tuple[float, list[Any]]:
        """Operations of `make`, and what it gave."""
        made: list[Any] = []
        return flops(lambda: made.append(make()), computed=not self.on_pixels), made

    def _named(self, k: int) -> Classes:
        """So many classes of the one name."""
        return Classes((self.name,) * k, self.templates, tuple(range(k)))


class _Enough(Exception):
    """The steps that are to be counted are done."""


def _longest(templates: Sequence[str]) -> tuple[str, ...]:
    """As many, each the longest: texts that are drawn at random then take the same, whatever is drawn."""
    return (max(templates, key=len),) * len(templates)


def _support(backbone: Any, k: int, shots: int, classes: Classes) -> Support:
    made = data.support_of(backbone, k, shots)
    assert made.val is not None
    return replace(made, classes=classes, val=replace(made.val, classes=classes))


Curve = Callable[[float], float]
Steps = Callable[[int, int], float]
"""(pictures, shots) -> steps, for each unit of a fit's length."""
_Fit = tuple[str, Steps, tuple[Curve, ...], tuple[Curve, ...]]
"""The field of the length, its steps, operations before (A0, A1, B) and of a step (s, p)."""


def _curve(values: Sequence[float]) -> Curve:
    """Through all points, of the second degree."""
    return np.poly1d(np.polyfit(SIZES, values, len(SIZES) - 1))  # type: ignore[return-value]


def _curves(rows: Sequence[Sequence[float]]) -> tuple[Curve, ...]:
    return tuple(map(_curve, zip(*rows, strict=True)))


Rate = Callable[[str], float]
"""fp32, bf16 or fp16 -> TFLOP/s."""


def assumed(gpu: str) -> Rate:
    """That of a GPU in `GPUS`."""
    full, half = GPUS[gpu]
    return lambda precision: full if precision == "fp32" else half


def here(runner: Runner) -> Rate:
    """That of this machine, by a second of the image tower's own work on a few pictures, or of products of matrices."""
    if "images" not in runner.backbone.offers:
        matrix = torch.rand(1024, 1024)
        work, operations = (lambda: matrix @ matrix), 2.0 * 1024**3
    else:
        size = runner.backbone.transform.size  # type: ignore[union-attr]
        pixels = torch.zeros(16, 3, size, size, device=runner.backbone.device)
        work, operations = (lambda: runner.backbone.encode_images(pixels)), 16 * _image(runner)
    device = runner.backbone.device.type

    def measured(precision: str) -> float:
        kind = PRECISIONS[precision]
        with torch.no_grad(), torch.autocast(device, kind, enabled=kind is not None):
            work()
            times, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < 1.0:
                work()
                times += 1
            if device == "cuda":
                torch.cuda.synchronize()
            return times * operations / (time.perf_counter() - begun) / 1e12

    return measured
