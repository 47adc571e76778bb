"""Plan -> cells -> records. Resumes where it stopped; a failed cell is a result; nothing finished is lost.

A cell is (method, task, seed). Cells that share a fit (same support, seed and method, but for fields that only answer)
are run together, so that a method fitted once answers all tasks that follow from it; what a cell contains never depends
on which others are run.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import itertools
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

import numpy as np
import torch

from bench import cards, claims, index, interrupts, provenance, readers, records, sampling
from bench.api import (
    SCHEMA,
    Batch,
    Card,
    Classes,
    Cost,
    Form,
    NotRunnable,
    Part,
    Predictor,
    Record,
    State,
    Suite,
    Task,
    UserError,
    as_fitted,
    watched,
)
from bench.backbone import OpenClip, Stored, counted
from bench.checkpoints import Checkpoints
from bench.features import Encoded, Features, rows_hash
from bench.meter import flops, meter
from bench.readers import Rows

ROOT_SEED = 0
HARNESS = (
    "sampling",
    "features",
    "backbone",
    "backbone.text",
    "backbone.packed",
    "backbone.towers",
    "backbone.transforms",
    "backbone.words",
    "backbone.zoo",
)
"""Modules whose code can change a number; their hash is part of every cell's id. Readers hash what they read."""


@dataclass(frozen=True)
class Fitted:
    """What a fit left behind: the learnt state, and what it cost."""

    state: State
    support: int = 0
    seconds: float = 0.0
    encode_seconds: float = 0.0
    memory_mib: float = 0.0
    texts: int = 0
    text_backwards: int = 0
    notes: tuple[str, ...] = ()
    cached: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One planned result. `chosen_by`: who chose the hyper-parameters: fixed, validation or user."""

    form: Form
    task: Task
    seed: int
    chosen_by: str = "fixed"


@dataclass
class Outcome:
    """What became of a run: where the cells of its plan are, in order, how many were already there, and what failed."""

    places: list[Path] = field(default_factory=list)
    found: int = 0
    failed: list[Record] = field(default_factory=list)

    @property
    def records(self) -> Sequence[Record]:
        """The records with their predictions, each read when it is asked for: a hundred thousand fit no memory."""
        return _Read(self.places)


@dataclass(frozen=True)
class _Read(Sequence[Record]):
    """Stored cells as a sequence of records that holds none of them."""

    places: Sequence[Path]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Record]: ...
    def __getitem__(self, i: int | slice) -> Record | Sequence[Record]:
        return _Read(self.places[i]) if isinstance(i, slice) else records.load(self.places[i])


@dataclass
class Observer:
    """Where progress goes; the command line shows bars, tests and other callers need nothing."""

    cell: Callable[[int, int, str], None] = lambda done, total, text: None
    step: Callable[..., None] = lambda text, done, total, process=0: None


Group = list[tuple[Cell, str]]
"""Cells that share one fit, each with its id."""


# -- engines ----------------------------------------------------------------------------------------------------------


class Lost(RuntimeError):
    """A group ended before its time: its process died, or took too long.

    at: the id of the cell that was being answered, "" while the fit was; told: where the process stood; tries: how
    often that may happen at the same place before it is given up.
    """

    def __init__(self, reason: str, at: str = "", told: str = "", tries: int = 2) -> None:
        super().__init__(reason)
        self.at, self.told, self.tries = at, told, tries


class Engine(Protocol):
    """Where groups of cells are made: here, or in other processes at the same time."""

    room: int
    """How many groups are worked on at once."""

    def start(self, number: int, work: Any) -> None:
        """Begin a group, where `number` was lost what is left of it; or another piece of work that has no records."""
        ...

    def next(self) -> tuple[int, Record | Lost | None]:
        """Wait for the next event: a record of that group, how it was lost, or None where it is finished."""
        ...


@dataclass
class Here:
    """This process, one group after the other."""

    runner: Runner
    room: int = 1

    def start(self, number: int, work: Group) -> None:
        self._number, self._records = number, self.runner.group(work)

    def next(self) -> tuple[int, Record | None]:
        return self._number, next(self._records, None)


@dataclass
class _Underway:
    """A group that an engine has: the cells still to come, its claim, and how often it was lost at which cell."""

    left: Group
    claim: contextlib.ExitStack
    lost: Counter[str] = field(default_factory=Counter)

    def take(self, id_: str) -> Cell:
        """The cell of that id, which is no longer to come."""
        place = next(i for i, (_, id_of) in enumerate(self.left) if id_of == id_)
        return self.left.pop(place)[0]

    def given_up(self, event: Lost | None) -> list[tuple[Cell, str, Lost]]:
        """The cells that are not tried again: the one that was being answered, or all where it was the fit."""
        if event is None:
            return []
        self.lost[event.at] += 1
        if self.lost[event.at] < event.tries:
            return []
        ids = [id_ for _, id_ in self.left if event.at in ("", id_)]
        return [(self.take(id_), id_, event) for id_ in ids]


# -- planning ---------------------------------------------------------------------------------------------------------


def seeds_of(form: Form, suite: Suite) -> range:
    """Replicates 1..S: one for what has no chance in it, the view seeds for test time, else the seeds for training."""
    setting = form.method.setting
    if setting == "zero-shot":
        return range(1, 2)
    return range(1, 1 + (suite.view_seeds if "test-time" in setting else suite.seeds))


def plan(suite: Suite, forms: Iterable[Form], chosen_by: Mapping[str, str] | None = None) -> list[Cell]:
    """Each (method, task, seed) of the suite once; methods without support have the task without its support."""
    cells: dict[Cell, None] = {}
    for form in forms:
        if form.method.setting not in suite.admits:
            continue
        learns = form.method.setting.startswith(("few-shot", "fine-tune"))
        for seed in seeds_of(form, suite):
            for task in cards.tasks(suite):
                task = task if learns else cards.unsupported(task)
                cells[Cell(form, task, seed, (chosen_by or {}).get(form.name, "fixed"))] = None
    return list(cells)


def shard(cells: Sequence[Cell], part: int, parts: int) -> list[Cell]:
    """The share of a plan that falls to the machine `part` of 1 to `parts`, in the plan's order.

    The cells of one fit stay together, and the shares differ by one fit at most.
    """
    fits = {key: i for i, key in enumerate(dict.fromkeys(map(_fit_key, cells)))}
    return [cell for cell in cells if fits[_fit_key(cell)] % parts == part - 1]


def _fit_key(cell: Cell) -> tuple:
    """Cells of equal keys share one fit."""
    return as_fitted(cell.form.method), cell.task.train, cell.task.shots, cell.seed


def streams(cell: Cell) -> dict[str, tuple[str | int, ...]]:
    """Where a cell's random numbers come from: purpose -> the names of its stream, as `sampling.generator` takes them.

    The draw of the support is `random.Random(seed)`, as published. <picture> and <epoch> stand for each of them.
    """
    task, seed, needs = cell.task, cell.seed, cell.form.method.needs
    found: dict[str, tuple[str | int, ...]] = {"predict": (ROOT_SEED, seed, "predict")}
    if "views" in needs:
        found["views"] = ("views", seed, task.test.dataset, "<picture>")
    if task.train is None:
        return found
    found["fit"] = (ROOT_SEED, task.train.name, task.shots, seed, "fit")
    if task.shots:
        found["support"] = ("random.Random", seed)
    if needs & {"features", "views"}:
        found["support crops"] = ("support crops", seed, task.train.dataset, "<picture>")
    if "pixels" in needs:
        found["training crops"] = ("train", seed, "<epoch>", task.train.dataset, "<picture>")
    return found


# -- running ----------------------------------------------------------------------------------------------------------

Asked = ParamSpec("Asked")
Answered = TypeVar("Answered")


def _remembered(ask: Callable[Asked, Answered]) -> Callable[Asked, Answered]:
    """A method whose answers are kept as long as its object lives; functools.cache would keep the object as well."""
    kept: weakref.WeakKeyDictionary[Any, dict[tuple, Answered]] = weakref.WeakKeyDictionary()

    @functools.wraps(ask)
    def remember(*args: Asked.args, **named: Asked.kwargs) -> Answered:
        mine, key = kept.setdefault(args[0], {}), (args[1:], *sorted(named.items()))
        if key not in mine:
            mine[key] = ask(*args, **named)
        return mine[key]

    return remember


@dataclass(eq=False)
class Runner:
    """Runs cells of one backbone into one results folder."""

    features: Features
    results: Path
    data_root: Path | None = None
    views: int = 64
    bundle: readers.Bundle | None = None
    command: str = ""
    observer: Observer = field(default_factory=Observer)
    stored: Callable[[Path], object] = lambda place: None  # told of every cell's folder when it is in place
    own: Card | None = None  # of the user's pictures, which no file describes
    checkpoint_every: float = 60.0  # seconds between two checkpoints of a long fit
    on_bad_image: Literal["fail", "skip"] = "fail"  # what is done about a picture that cannot be read
    _codes: dict[type, str] = field(default_factory=dict, repr=False)
    _forms: dict[int, tuple[Form, dict[str, str]]] = field(default_factory=dict, repr=False)
    _fits: dict[int, tuple[Form, Form]] = field(default_factory=dict, repr=False)  # a form, and it as it is fitted

    @property
    def backbone(self) -> OpenClip | Stored:
        return self.features.backbone

    def run(self, cells: Sequence[Cell], fresh: bool = False, engine: Engine | None = None) -> Outcome:
        """Every cell's record: found, made, failed or not runnable. Interrupted, all that was finished is stored.

        The engine (None: this process) makes the fits that are missing. What another run on the same folder is making
        is left for the end, and made here if that one did not finish it.
        """
        outcome, failed = Outcome(), dict[Cell, Record]()
        groups, made = self.missing(cells, fresh)
        self._tidy(groups, made)
        outcome.found = len(made)
        self.observer.cell(len(made), len(cells), "")

        def store(cell: Cell, record: Record) -> None:
            with interrupts.held():  # so that an interrupted run counts this cell
                made[cell] = records.save(record, self.results, replace=fresh)
                self.stored(made[cell])
                if record.status == "failed":
                    failed[cell] = record
                said = f"{record.title} on {record.task.name}, seed {record.seed}"
                self.observer.cell(len(made), len(cells), said)

        engine, underway = engine or Here(self), dict[int, _Underway]()
        waiting, elsewhere, numbers = deque(groups), deque[Group](), itertools.count()

        def begin(group: Group, wait: bool) -> None:
            claim = all_claims.enter_context(contextlib.ExitStack())
            if not claim.enter_context(claims.claimed(self.results, self._claim(*group[0]), wait)):
                elsewhere.append(group)
                return
            there = {} if fresh else self._stored(group)
            made.update(there)
            outcome.found += len(there)
            left = [(cell, id_) for cell, id_ in group if cell not in there]
            if not left:
                claim.close()
                return
            number = next(numbers)
            underway[number] = _Underway(left, claim)
            engine.start(number, list(left))

        def go_on() -> None:
            number, event = engine.next()
            group = underway[number]
            if isinstance(event, Record):
                store(group.take(event.id), event)
                return
            for cell, id_, error in group.given_up(event):
                store(cell, self._unfinished(cell, id_, error))
            if group.left:
                engine.start(number, list(group.left))
            else:
                underway.pop(number).claim.close()

        with contextlib.ExitStack() as all_claims:
            while waiting or elsewhere or underway:
                while waiting and len(underway) < engine.room:
                    begin(waiting.popleft(), wait=False)
                if not waiting and not underway and elsewhere:
                    self.observer.cell(len(made), len(cells), "waiting for another run on this folder")
                    begin(elsewhere.popleft(), wait=True)
                if underway:
                    go_on()
        outcome.places = [made[cell] for cell in cells]
        outcome.failed = [failed[cell] for cell in cells if cell in failed]
        lost = [place for place in outcome.places if not place.is_dir()]
        if lost:
            raise UserError(
                f"{len(lost)} of {len(made)} finished cells have gone from {self.results / 'cells'} during the run, as "
                "where somebody removes them: the same command makes them again."
            )
        return outcome

    def missing(self, cells: Sequence[Cell], fresh: bool = False) -> tuple[list[Group], dict[Cell, Path]]:
        """The cells that are to be made, those of one fit together, and the folders of the others."""
        made: dict[Cell, Path] = {}
        groups: dict[tuple, Group] = {}
        known = {} if fresh else {k.id: k.place for k in index.known(self.results) if k.status != "failed"}
        for cell in cells:
            id_ = self.cell_id(cell)
            if id_ in known:
                made[cell] = known[id_]
            else:
                groups.setdefault(_fit_key(cell), []).append((cell, id_))
        return list(groups.values()), made

    def _tidy(self, groups: Sequence[Group], made: Iterable[Cell]) -> None:
        """Remove what killed runs left: temporaries, locks that nobody holds, checkpoints of fits that are used up."""
        records.sweep(self.results / "cells")
        claims.sweep(self.results)
        self.features.cache.sweep()
        left = {path.name for path in (self.results / "checkpoints").glob("*")}
        if left:
            left &= {self.fit_id(cell) for cell in made if cell.task.train is not None}
            left -= {self._claim(*group[0]) for group in groups}
        for name in left:
            with claims.claimed(self.results, name, wait=False) as ours:
                if ours:
                    Checkpoints(self.results / "checkpoints", name).clear()

    def _claim(self, cell: Cell, id_: str) -> str:
        """What a run claims whose next fit is this cell's."""
        return id_ if cell.task.train is None else self.fit_id(cell)

    def _stored(self, group: Sequence[tuple[Cell, str]]) -> dict[Cell, Path]:
        """The cells that another run has finished since this one looked."""
        found = {}
        for cell, id_ in group:
            place = records.place(self.results, cell.task, cell.form.name, cell.seed, id_)
            with contextlib.suppress(records.Damaged):
                if records.load(place, predictions=False).status != "failed":
                    found[cell] = place
        return found

    def cell_id(self, cell: Cell) -> str:
        """Hash of all that can change the cell's number."""
        return records.id_of(
            {
                **self._form_said(cell.form),
                **self._task_said(cell.task, cell.seed),
                "schema": records.as_json(SCHEMA),
                "views": records.as_json(self.views if "views" in cell.form.method.needs else 0),
                "backbone": records.as_json(self.backbone.fingerprint),
                "precision": records.as_json(self.backbone.precision),
            }
        )

    def _form_said(self, form: Form) -> Mapping[str, str]:
        """A form's part of an id; kept by the object, since fields that are equal may be written apart (1 and 1.0)."""
        known = self._forms.get(id(form))
        if known is None:
            content = {"method": form.name, "fields": form.hyper_parameters(), "code": self._code(form)}
            known = self._forms[id(form)] = form, {key: records.as_json(value) for key, value in content.items()}
        return known[1]

    @_remembered
    def _task_said(self, task: Task, seed: int) -> Mapping[str, str]:
        """The part of an id that all methods have in common which answer this task with this seed."""
        content = {
            "task": {f.name: getattr(task, f.name) for f in fields(task) if f.name != "among"},
            **self._among(task),
            **self._content(task, seed),
            "seed": seed,
        }
        return {key: records.as_json(value) for key, value in content.items()}

    def test_size(self, cell: Cell) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """The classes that the answers are sought among, their templates, and to how many pictures."""
        task = cell.task
        tied = task.train is not None and not cell.form.method.transfers
        classes = self._classes(task.train if tied and task.train else task.test)
        names = classes.names
        if not tied and task.among is not None:
            names = readers.listed(self._card(task.among))[0]
        return names, classes.templates, len(self._test_rows(task).ids)

    def support_size(self, cell: Cell) -> tuple[int, int]:
        """How many classes and training pictures its fit has."""
        assert cell.task.train is not None
        return len(self._classes(cell.task.train)), len(self._support_rows(cell.task, cell.seed)[0].ids)

    def _among(self, task: Task) -> dict[str, Any]:
        """The classes among which the answer is sought, where they are not those of the test."""
        return {} if task.among is None else {"among": readers.listed(self._card(task.among))}

    def _code(self, form: Form) -> str:
        """As it was when this runner first asked: a file that is edited during a run changes nothing of that run."""
        kind = type(form.method)
        if kind not in self._codes:
            self._codes[kind] = code_hash(form)
        return self._codes[kind]

    def _content(self, task: Task, seed: int) -> dict[str, Any]:
        """The texts and pictures that a cell is given: templates, hashes of the test, training and few val rows."""
        parts = [part for part in (task.test, task.train) if part is not None]
        return {
            "templates": [self._card(part.dataset).templates for part in parts],
            "data": [rows_hash(rows) for rows in self._rows(task, seed)],
        }

    def _rows(self, task: Task, seed: int) -> list[Rows]:
        """The test, training and few validation rows of a cell, as far as it has them."""
        support = () if task.train is None else self._support_rows(task, seed)
        return [rows for rows in (self._test_rows(task), *support) if rows is not None]

    def group(self, group: Group, begin: Callable[[str], None] = lambda id: None) -> Iterator[Record]:
        """The cells of one fit, one after the other. begin: told "" before the fit, a cell's id before its answer."""
        begin("")
        first = group[0][0]
        lacking = first.form.method.needs - self.backbone.offers
        fitted: Fitted | Exception
        if lacking:
            fitted = NotRunnable(f"needs {' and '.join(sorted(lacking))}, which {self.backbone.name} does not offer")
        else:
            try:
                fitted = self._fit(first)
            except UserError:
                raise
            except Exception as error:
                fitted = error
        for cell, id_ in group:
            if isinstance(fitted, Exception):
                yield self._unfinished(cell, id_, fitted)
                continue
            begin(id_)
            try:
                record = self._answer(cell, id_, fitted)
            except UserError:
                raise
            except Exception as error:
                record = self._unfinished(cell, id_, error)
            yield record
        if first.task.train is not None and not isinstance(fitted, Exception):  # the last record is stored by now
            Checkpoints(self.results / "checkpoints", self.fit_id(first)).clear()

    def ask(self, cell: Cell, features: Features) -> None:
        """Ask these features for all that the cell will.

        Its test pictures and their views, its support, and as many crops as the field `augment` says, by convention
        what `fit` asks `support.augment` for.
        """
        method, task = cell.form.method, cell.task
        if method.needs - self.backbone.offers:
            return
        if task.train is not None:
            train, val = self._support_rows(task, cell.seed)
            classes, dataset = self._classes(task.train), task.train.dataset
            support, _ = features.support(train, val, classes, dataset, cell.seed, method.needs)
            copies = cell.form.hyper_parameters().get("augment", 0)
            if copies and "pixels" not in method.needs:
                support.augment(copies)
        features.batches(self._test_rows(task), task.test.dataset, method.needs, cell.seed, self.views)

    def _fit(self, cell: Cell) -> Fitted:
        method, task = cell.form.method, cell.task
        if task.train is None:
            return Fitted({})
        train, val = self._support_rows(task, cell.seed)
        classes = self._classes(task.train)
        checkpoints = Checkpoints(self.results / "checkpoints", self.fit_id(cell), self.checkpoint_every)
        support, encoded = self.features.support(
            train, val, classes, task.train.dataset, cell.seed, method.needs, checkpoints
        )
        rng = sampling.generator(*streams(cell)["fit"])

        def show(text: str, done: int, total: int) -> None:
            self.observer.step(f"{cell.form.title}: {text}", done, total)

        with counted(self.backbone) as counts, meter(self.backbone.device) as measure, watched(show):
            began = time.perf_counter()
            checkpoints.spent = lambda: {
                "seconds": time.perf_counter() - began,
                "texts": counts.texts,
                "text_backwards": counts.text_backwards,
            }
            state = method.fit(support, self.backbone, rng)
        before = {"seconds": 0.0, "texts": 0, "text_backwards": 0, **checkpoints.before}
        notes = [*train.warnings, *checkpoints.notes]
        if val is not None and val.skipped:
            notes += val.warnings
        if train.features is not None and encoded.augmented:
            notes.append("support not augmented: a feature bundle holds no pictures")
        notes += self._elsewhere(encoded)
        return Fitted(
            {name: tensor.detach() for name, tensor in state.items()},
            len(train.ids) + (len(val.ids) if val is not None and method.selection == "few-val" else 0),
            measure.seconds - measure.parts.get("encode", 0.0) + before["seconds"],
            encoded.seconds,
            measure.memory_mib,
            counts.texts + int(before["texts"]),
            counts.text_backwards + int(before["text_backwards"]),
            tuple(notes),
            {f"support, {what}": found for what, found in encoded.found.items()},
        )

    def fit_id(self, cell: Cell) -> str:
        """Hash of all that a fit's outcome depends on: the cell's, but for what is asked afterwards."""
        assert cell.task.train is not None
        task = replace(cell.task, test=cell.task.train, limit=None)
        if id(cell.form) not in self._fits:
            self._fits[id(cell.form)] = cell.form, replace(cell.form, method=as_fitted(cell.form.method))
        return self.cell_id(replace(cell, task=task, form=self._fits[id(cell.form)][1]))

    def _answer(self, cell: Cell, id_: str, fitted: Fitted) -> Record:
        method, task = cell.form.method, cell.task
        asked = classes = self._classes(task.test)
        columns, notes = None, list(fitted.notes)
        if task.train is not None and not method.transfers:
            classes = self._classes(task.train)  # the prompts that its fit has seen, where the test's card has others
        elif task.among is not None:
            names, keys = readers.listed(self._card(task.among))
            classes = Classes(names, asked.templates, tuple(range(len(names))), keys)
        if classes.names != asked.names:
            columns = places(asked, classes)
            notes.append(f"{len(classes)} logits masked to the {len(asked)} classes asked for")
        test = self._test_rows(task)
        serve, encoded = self.features.batches(test, task.test.dataset, method.needs, cell.seed, self.views)

        def prepare() -> Predictor:
            rng = sampling.generator(*streams(cell)["predict"])
            return method.predictor(fitted.state, classes, self.backbone, rng)

        # a predictor of its own warms up and counts, so that an online method's state is not touched; what it prepares
        # once for all pictures (the classes' texts) belongs to no single one
        probe, trial = _first(next(serve())), prepare()
        operations = flops(lambda: trial(probe)) + self._encode_flops(encoded.forwards / len(test.ids))
        answers, n = [], len(test.ids)
        with counted(self.backbone) as counts, meter(self.backbone.device) as measure:
            predictor = prepare()
            for batch in serve():
                logits = predictor(batch)
                if logits.shape != (len(batch.ids), len(classes)):
                    raise ValueError(f"logits of shape {tuple(logits.shape)} for {len(batch.ids)} x {len(classes)}")
                if not torch.isfinite(logits).all():
                    raise ValueError("logits that are not finite")
                logits = logits.detach().double().cpu()
                answers.append(logits if columns is None else logits[:, columns].amax(-1))
                self.observer.step(f"{cell.form.title}: {task.name}", sum(map(len, answers)), n)
        p = torch.cat(answers).softmax(1)
        label = torch.from_numpy(test.labels)
        confidence, prediction = p.max(1)
        adapt = measure.parts.get("adapt", 0.0)
        cost = Cost(
            fit_s=fitted.seconds,
            encode_support_s=fitted.encode_seconds,
            encode_ms=1000 * encoded.seconds / n,
            adapt_ms=1000 * adapt / n,
            predict_ms=1000 * (measure.seconds - adapt) / n,
            memory_fit_mib=fitted.memory_mib,
            memory_predict_mib=measure.memory_mib,
            memory_how=measure.memory_how,
            image_forwards=encoded.forwards + counts.images,
            text_forwards=fitted.texts + counts.texts,
            text_backwards=fitted.text_backwards + counts.text_backwards,
            gflop_per_image=operations / 1e9,
        )
        cached = {**fitted.cached, **encoded.found}
        return replace(
            self._record(cell, id_, cost, cached),
            parameters=method.parameters(self.backbone, len(self._classes(task.train or task.test))),
            support=fitted.support,
            notes=tuple(dict.fromkeys((*self.backbone.notes, *notes, *test.warnings, *self._elsewhere(encoded)))),
            ids=test.ids,
            prediction=prediction.numpy().astype(np.int32),
            label=test.labels.astype(np.int32),
            p_true=p.gather(1, label[:, None])[:, 0].numpy().astype(np.float32),
            confidence=confidence.numpy().astype(np.float32),
        )

    def _elsewhere(self, encoded: Encoded) -> list[str]:
        """A note for encoding times that the cache brings from another machine."""
        here = provenance.machine(str(self.backbone.device))
        return [f"encoding measured on {machine}" for machine in sorted(encoded.machines - {here})]

    def _record(self, cell: Cell, id_: str, cost: Cost, cached: Mapping[str, bool]) -> Record:
        """The record of a cell that is done, but for its answers. cached: whether the cache had what was encoded."""
        form, content = cell.form, self._content(cell.task, cell.seed)
        return Record(
            id=id_,
            status="done",
            method=form.name,
            title=form.title,
            family=form.family,
            setting=form.method.setting,
            fields=form.hyper_parameters(),
            chosen_by=cell.chosen_by,
            task=cell.task,
            seed=cell.seed,
            classes=self._classes(cell.task.test).names,
            backbone=self.backbone.name,
            fingerprint=self.backbone.fingerprint,
            code=self._code(form),
            precision=self.backbone.precision,
            parameters=0,
            support=0,
            cost=cost,
            notes=(),
            provenance={
                **provenance.environment(),
                "weights": self.backbone.origin,
                "device": str(self.backbone.device),
                "threads": torch.get_num_threads(),
                "interop_threads": torch.get_num_interop_threads(),
                "determinism": provenance.determinism(),
                "workers": self.features.workers,
                "tf32": self.backbone.device.type == "cuda" and torch.backends.cudnn.allow_tf32,
                "views": self.views if "views" in form.method.needs else 0,
                "streams": streams(cell),
                "templates": records.cell_id({"templates": content["templates"]}),
                "data": dict(zip(("test", "train", "val"), content["data"], strict=False)),
                "skipped": dict(
                    zip(("test", "train", "val"), (r.skipped for r in self._rows(cell.task, cell.seed)), strict=False)
                ),
                "cached": dict(cached),
                "method": form.origin or provenance.own(),
                "command": provenance.redacted(self.command),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            online=form.method.online,
        )

    def _unfinished(self, cell: Cell, id_: str, error: Exception) -> Record:
        """The record of a cell without answers: not runnable with its reason, or failed with its traceback."""
        interrupts.check()  # of which a library may have made its own error: that is no failure of the method
        record = self._record(cell, id_, Cost(), {})
        if isinstance(error, NotRunnable):
            return replace(record, status="not-runnable", error=str(error))
        told = error.told if isinstance(error, Lost) else "".join(traceback.format_exception(error))
        said = provenance.redacted(f"{type(error).__name__}: {error}")[:300]
        return replace(record, status="failed", error=said, traceback=provenance.redacted(told))

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _card(self, dataset: str) -> Card:
        made = (self.own, self.bundle and self.bundle.card)
        return next((card for card in made if card is not None and card.name == dataset), None) or cards.card(dataset)

    @_remembered
    def _read(self, part: Part, shots: int = 0) -> Rows:
        return readers.read(self._card(part.dataset), replace(part, half="all"), self.data_root, shots or None)

    @_remembered
    def _classes(self, part: Part) -> Classes:
        read = self._read(part)
        whole = Classes(read.names, self._card(part.dataset).templates, tuple(range(len(read.names))), read.keys)
        return whole.permuted(_half(part, len(read.names)))

    @_remembered
    def _test_rows(self, task: Task) -> Rows:
        rows = self._read(task.test).only(_half(task.test, len(self._read(task.test).names)))
        if task.limit is not None and task.limit < len(rows.ids):
            rows = rows.take(range(task.limit))  # readers give test rows in an order whose beginning is a fair sample
        return self._sound(rows, task.test)

    @_remembered
    def _support_rows(self, task: Task, seed: int) -> tuple[Rows, Rows | None]:
        """The k-shot draw over all classes, then the half's classes; likewise the few validation pictures."""
        assert task.train is not None
        train = self._read(task.train, task.shots)
        val = self._read(replace(task.train, split="val"))
        if task.shots:
            chosen, few = sampling.few_shot(train.labels.tolist(), val.labels.tolist(), task.shots, seed, train.names)
            half = _half(task.train, len(train.names))
            train, val = train.take(chosen).only(half), val.take(few).only(half)
        train, val = self._sound(train, task.train), self._sound(val, task.train)
        without = sorted(set(range(len(train.names))) - set(train.labels.tolist())) if train.skipped else ()
        if without:
            name = train.names[without[0]]
            raise UserError(f"{task.train.name}: none of the pictures of {name!r} drawn with seed {seed} can be read.")
        return train, val if len(val.ids) else None

    def _sound(self, rows: Rows, part: Part) -> Rows:
        """The rows that are used: those that can be read, where others may be left out."""
        return self.features.sound(rows, part.dataset) if self.on_bad_image == "skip" else rows

    @_remembered
    def _encode_flops(self, forwards: float) -> float:
        """Operations of encoding one test picture and its views."""
        backbone = self.backbone
        if not isinstance(backbone, OpenClip):
            return 0.0
        size = backbone.transform.size
        pixels = torch.zeros(1, 3, size, size)
        with counted(backbone), torch.no_grad():
            return forwards * flops(lambda: backbone.encode_images(pixels))


def _half(part: Part, classes: int) -> list[int]:
    base, new = sampling.halves(classes)
    return {"all": base + new, "base": base, "new": new}[part.half]


def places(asked: Classes, known: Classes) -> list[list[int]]:
    """Where the asked classes stand among the known ones, whose other logits are masked: (K, m) positions.

    By their keys where both data sets have the same, for two of ImageNet's names stand for two classes each. A key
    "a+b" stands for two of the known classes, of which the larger logit counts (ObjectNet); with m > 1 the positions of
    the others are repeated.
    """
    groups = [key.split("+") for key in asked.keys]
    by_key = bool(groups) and {key for group in groups for key in group} <= set(known.keys)
    mine, theirs = (groups, known.keys) if by_key else ([[name] for name in asked.names], known.names)
    counts, where = Counter(theirs), {name: place for place, name in enumerate(theirs)}
    for name, count in Counter(name for group in mine for name in group).items():
        if name not in where:
            raise NotRunnable("not transferable: tied to the classes it was fitted on")
        if count + counts[name] > 2:
            raise NotRunnable(f"not transferable: tied to its classes, of which more than one is called {name!r}")
    widest = max(map(len, mine))
    return [[where[name] for name in (*group, *group[:1] * (widest - len(group)))] for group in mine]


def _first(batch: Batch) -> Batch:
    """A batch of its first picture."""
    views = None if batch.views is None else batch.views[:1]
    pixels = None if batch.pixels is None else batch.pixels[:1]
    return Batch(batch.ids[:1], batch.features[:1], views, pixels)


def code_hash(form: Form) -> str:
    """Hash of all code that can change a number.

    The method's file and those it imports, the files that methods share, and parts of the harness.
    """
    modules = [f"bench.{name}" for name in HARNESS]
    paths = [Path(spec.origin) for name in modules if (spec := importlib.util.find_spec(name)) and spec.origin]
    spec = importlib.util.find_spec(type(form.method).__module__)
    if spec is not None and spec.origin:
        own = Path(spec.origin)
        shared = own.parent.glob("_[!_]*.py") if spec.parent else ()  # a file of its own shares nothing
        paths += sorted({*with_imported(own), *shared})
    return provenance.code_hash(paths)


@functools.cache
def with_imported(file: Path) -> set[Path]:
    """This file and those of its folder, and of the methods here, that it imports from, directly or not."""
    found, new = set(), {file}
    while new:
        found |= new
        beside = (place for path in new for place in _imported(path))
        new = {path for path in beside if path.is_file()} - found
    return found


def _imported(file: Path) -> Iterator[Path]:
    """Where the modules would be that a file imports from its own folder or from `methods`."""
    here = importlib.util.find_spec("methods")
    folders = {"methods": Path(here.origin).parent} if here is not None and here.origin else {}
    folders[file.parent.name] = file.parent
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        package, _, module = (node.module or "").partition(".")
        if node.level == 1:  # from .module import name, from . import module
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (file.parent / f"{name.split('.')[0]}.py" for name in names)
        elif not node.level and module and package in folders:
            yield folders[package] / f"{module.split('.')[0]}.py"
