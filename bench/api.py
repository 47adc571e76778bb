"""The vocabulary of the harness: what a data set, a task, a method, a backbone and a result are.

This module imports nothing of ours, so every other one may speak its words. Shapes: n images, V views, K classes,
D feature dimensions, M context tokens, W width of the text tower.
"""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

SCHEMA = 1
"""Version of the stored cells. A reader refuses a newer one and must keep reading every older one."""


class UserError(Exception):
    """A user's mistake: one sentence naming the file, key or value and the remedy. The command line exits with 2."""


class NotRunnable(Exception):
    """This method cannot answer this task, and the reason is part of the result: the table shows a hole with it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The clause that ends a sentence about a wrong name: the likely right ones, else all of them."""
    known = sorted(known)
    by_letters = {name.casefold(): name for name in known}
    close = [by_letters[name] for name in difflib.get_close_matches(word.casefold(), by_letters, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(close)}?" if close else f"known are: {', '.join(known) or 'none'}."


# -- data -------------------------------------------------------------------------------------------------------------

SplitName = Literal["train", "val", "test"]
Half = Literal["all", "base", "new"]


@dataclass(frozen=True)
class Download:
    """One file to fetch: `extract` is the folder below the data root that an archive is unpacked in, None for a file
    that is put into the card's folder as it is. sha256: of the file, all 64 digits, or empty where none is known."""

    url: str
    sha256: str = ""
    extract: str | None = None


@dataclass(frozen=True)
class Obtain:
    """How a data set gets below the data root: by hand (`how`, the steps in words), and by whom it can be fetched.

    torchvision: the name of the class in torchvision.datasets whose images these are; hub: owner/name of a data set
    on the Hugging Face hub. Empty where there is none.
    """

    how: str
    torchvision: str = ""
    hub: str = ""
    urls: tuple[Download, ...] = ()


@dataclass(frozen=True)
class Card:
    """What a data set is: one TOML file in datasets/. `options` belong to the reader and are checked by it."""

    name: str
    title: str
    reader: str
    templates: tuple[str, ...]
    licence: str
    source: str
    folder: str = ""
    classes: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    citation: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    obtain: Obtain | None = None
    path: str = ""


@dataclass(frozen=True)
class Suite:
    """A named protocol. A changed protocol gets a new name, for its numbers are other numbers.

    `source` is where labelled support comes from (None: from the data set that is tested); `tests` are references
    `data set` or `data set:domain`; `admits` lists the settings of methods that make sense here; a 0 among `shots`
    means all training pictures. A `source` of "other domains" leaves one domain out: each test domain is answered after
    learning on all others of its data set. `among` is that of the tasks whose test is another data set (see Task).
    `fields` is the protocol's recipe: fields of methods that fine-tune, and of zero-shot beside them, in place of their
    defaults. `id` names the test that is in distribution: a column of its own, and no part of the mean over the shifts.
    """

    name: str
    title: str
    setting: Literal["domain-shift", "few-shot", "base-to-new"]
    tests: tuple[str, ...]
    admits: tuple[str, ...]
    backbone: str
    source: str | None = None
    shots: tuple[int, ...] = (16,)
    seeds: int = 5
    view_seeds: int = 3
    views: int = 64
    limit: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    among: str | None = None
    path: str = ""


BUT = "-"
"""Before the name of a domain: all domains of the data set but this one."""


@dataclass(frozen=True)
class Part:
    """A slice of one data set: which domain ("-sketch": all but sketch), which split, which half of its classes."""

    dataset: str
    split: SplitName
    domain: str | None = None
    half: Half = "all"

    @property
    def name(self) -> str:
        return (
            self.dataset + (f":{self.domain}" if self.domain else "") + (f"/{self.half}" if self.half != "all" else "")
        )


@dataclass(frozen=True)
class Task:
    """Learn on `shots` pictures a class of `train` (0: on all; None: nothing is labelled), answer on `test`.

    `limit` bounds the test pictures (the first ones of the reader's order, which is fixed by the data set).
    `among` names the data set among all of whose classes the answer is sought; the logits are then masked to those of
    `test`, where an id that stands for several gets their largest. None: among those of `test` alone.
    """

    test: Part
    train: Part | None = None
    shots: int = 0
    limit: int | None = None
    among: str | None = None

    @property
    def name(self) -> str:
        name = self.test.name + (f" among {self.among}" if self.among else "")
        if self.train is None:
            return name
        source = "" if self.train.dataset == self.test.dataset else f" from {self.train.name}"
        if self.train.domain and self.train.domain.startswith(BUT):
            source = " from the other domains"
        return f"{name} @{self.shots or 'all'}{source}"


@dataclass(frozen=True)
class Classes:
    """The classes to answer with. Logit k belongs to `names[k]`; keyed by position, since names may be equal.

    `rows` are the positions in the data set's own list (base and new halves are renumbered from 0); `keys` is what the
    data set calls them, such as WordNet's ids, no two the same, or empty.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]
    rows: tuple[int, ...]
    keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def permuted(self, order: Sequence[int]) -> Classes:
        """The same classes in another order."""
        names, rows = tuple(self.names[i] for i in order), tuple(self.rows[i] for i in order)
        return replace(self, names=names, rows=rows, keys=tuple(self.keys[i] for i in order) if self.keys else ())


Images = Callable[[Sequence[tuple[int, Tensor]], tuple[float, float], float], Iterator[Tensor]]
"""(epoch, rows (b,)) of every step, the crops' range of areas, the chance of a flip -> pixels (b, 3, H, W) of each.

A picture's crop is a function of (seed, epoch, picture) alone; the next batches are made while one is used.
"""


class Checkpoints(Protocol):
    """Where a long fit may put its state down and find it again."""

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None: ...

    def load(self) -> Mapping[str, Tensor] | None:
        """The newest state of this very fit, None where there is none."""
        ...


@dataclass(frozen=True)
class Support:
    """Labelled pictures a method may learn from, already encoded.

    features: (n, D) as the image tower gives them, not normalised, from the test transform.
    labels: (n,) int64 in [0, K).
    augment: copies -> (n, copies, D), features of seeded random crops and flips; (n, 1, D) where none can be made
        (a feature bundle), which the runner writes into the record.
    val: at most min(shots, 4) pictures a class, for methods that choose a hyper-parameter by them; never test data.
    images: the pictures themselves, for methods that need pixels; None for the others and for a feature bundle.
    checkpoints: where a fit of many steps keeps its state; None where nothing is kept.
    """

    classes: Classes
    features: Tensor
    labels: Tensor
    augment: Callable[[int], Tensor]
    val: Support | None = None
    images: Images | None = None
    checkpoints: Checkpoints | None = None


@dataclass(frozen=True)
class Batch:
    """Test pictures as the method asked for them; there are no labels in here, and no way to get any.

    ids: one opaque name a picture (a file's own name would often tell its class).
    features: (n, D) of the test transform, not normalised.
    views: (n, V, D), view 0 is the test transform and the others are random crops and flips, functions of
        (view seed, data set, image id) alone; None unless asked for.
    pixels: (n, 3, H, W) after the backbone's test transform; None unless asked for.
    """

    ids: tuple[str, ...]
    features: Tensor
    views: Tensor | None = None
    pixels: Tensor | None = None


# -- models -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Prompts(Protocol):
    """The differentiable text path for one list of classes: context vectors in, text features out."""

    def __call__(self, context: Tensor, deep: Tensor | None = None) -> Tensor:
        """context (M, W), or (K, M, W) one for each class -> text features (K, D), not normalised.

        Several contexts at once, (B, 1, M, W) shared by the classes or (B, K, M, W), give (B, K, D).
        deep: (depth, m, W) tokens that replace the first m context vectors at the entrance of the blocks 1 to depth.
        """
        ...

    def vjp(self, context: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """context (M, W) -> features (K, D) without a graph, and the way back: slopes (B, K, D) -> (B, M, W).

        The vector-Jacobian product of one kept forward pass, as often as asked.
        """
        ...


Tower = Literal["image", "text"]


class Backbone(Protocol):
    """A vision-language model. Its own parameters never require gradients: what learns is a `copy`."""

    name: str
    fingerprint: str
    dim: int
    offers: frozenset[str]  # what it can serve: features, views, pixels, text, images

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), 0-dimensional."""
        ...

    def text_features(self, classes: Classes, templates: Sequence[str] | None = None) -> Tensor:
        """Unit text features (K, D), the normalised mean over `templates` (None: those of the classes); no gradient."""
        ...

    def embed(self, text: str) -> Tensor:
        """Token embeddings (M, W) of a text without its start and end tokens."""
        ...

    def prompts(self, classes: Classes, length: int, position: str = "end") -> Prompts:
        """The path of "[start] [context of `length` tokens] [name] . [end]"; position: where the name stands."""
        ...

    def encode_images(self, pixels: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Image features (n, D), not normalised, of pixels (n, 3, H, W); differentiable.

        tokens: (depth, m, W) prompts behind the patches, `tokens[i]` put in at the entrance of block i.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Text features (n, D), not normalised; differentiable with respect to a copy's weights."""
        ...

    def weights(self, part: Literal["image", "text", "scale"]) -> dict[str, Tensor]:
        """The parameters of the image tower, the text tower, or the logit scale, by name."""
        ...

    def copy(self, weights: Mapping[str, Tensor], recompute: bool = False) -> Backbone:
        """The same model with these tensors in place of its own, the others shared; gradients reach those that learn.

        recompute: keep less for the way back and compute it again there.
        """
        ...

    def shape(self, tower: Tower) -> tuple[int, int]:
        """Blocks and width of a tower that is a transformer; NotRunnable where it is not."""
        ...

    def add_branches(self, tower: Tower, branches: Sequence[Callable[[Tensor], Tensor]]) -> None:
        """Change a copy: branch i makes (..., 3 W) of block i's normalised tokens (..., W).

        That is added to their queries, keys and values.
        """
        ...

    def in_projections(self, tower: Tower) -> list[str]:
        """The names of the weights (3 W, W) that those branches stand beside, block by block."""
        ...


# -- methods ----------------------------------------------------------------------------------------------------------

Setting = Literal["zero-shot", "few-shot", "test-time", "few-shot+test-time", "fine-tune"]
SETTINGS: tuple[str, ...] = ("zero-shot", "few-shot", "test-time", "few-shot+test-time", "fine-tune")
State = Mapping[str, Tensor]
"""What a method has learnt: tensors by name, counted as its trainable parameters."""
Predictor = Callable[[Batch], Tensor]
"""Test pictures -> logits (n, K). Episodic unless the method is declared online."""


class Method(Protocol):
    """A frozen dataclass whose fields are the hyper-parameters. It keeps no state: what it learns, it returns.

    Where a method begins as zero-shot CLIP it may say so by one more declaration, `identity`: the fields with which it
    is still there, such as {"lr": 0.0}; `bench.contract` then checks that it is. What a fit needs of a cluster it may
    say by `resources`, any of {"cpus": 2, "gpus": 0.5, "memory_gib": 8}.
    """

    needs: ClassVar[frozenset[str]]  # of: features, views, pixels, text (the text tower), images (the image tower)
    setting: ClassVar[Setting]
    transfers: ClassVar[bool]  # False: tied to the classes it was fitted on
    online: ClassVar[bool]  # True: answers depend on the order of the stream
    selection: ClassVar[Literal["fixed", "few-val"]]  # few-val: chooses a hyper-parameter by the support's `val`
    grid: ClassVar[Mapping[str, tuple[Any, ...]]]  # the search space, beside the defaults

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        """Learn from the support. Called only where the setting has one."""
        ...

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        """Prepare what all pictures share, then answer batch by batch. `state` is empty where nothing was fitted."""
        ...

    def parameters(self, backbone: Backbone, classes: int) -> int:
        """How many numbers the method trains, in `fit` or for each test picture."""
        ...


@dataclass(frozen=True)
class Form:
    """A registered method: a class with its fields. `extra` forms run only when they are named themselves.

    `origin`: the package and its version, or the file and its hash, where a plug-in brought it.
    """

    name: str
    title: str
    family: str
    method: Method
    extra: bool = False
    origin: str = ""

    def with_fields(self, **values: Any) -> Form:
        """The same form with other hyper-parameters."""
        return replace(self, method=replace(self.method, **values))  # type: ignore[type-var]

    def hyper_parameters(self) -> dict[str, Any]:
        return {f.name: getattr(self.method, f.name) for f in fields(self.method)}  # type: ignore[arg-type]


def answering(default: Any) -> Any:
    """A field that `predictor` reads and `fit` does not: forms that differ in such fields alone share one fit."""
    return field(default=default, metadata={"fit": False})


def as_fitted(method: Method) -> Method:
    """The method with such fields at their defaults, so that equal methods learn the same."""
    answer = {f.name: f.default for f in fields(method) if not f.metadata.get("fit", True)}  # type: ignore[arg-type]
    return replace(method, **answer)  # type: ignore[type-var]


METHODS: dict[str, Form] = {}
"""Every registered form in leaderboard order; filled by `register`, read by the command line and the tests."""


def register(name: str, *, title: str, family: str | None = None, extra: bool = False, **values: Any):
    """Class decorator: a method becomes available as `name`, with `values` in place of its default fields."""

    def decorate(cls):
        if name in METHODS:
            raise ValueError(f"two methods are registered as {name!r}: choose another name")
        METHODS[name] = Form(name, title, family or name, cls(**values), extra)
        return cls

    return decorate


# -- cost -------------------------------------------------------------------------------------------------------------


@dataclass
class Phases:
    """Seconds spent by phase name. A method marks its own parts with `phase`."""

    seconds: dict[str, float] = field(default_factory=dict)
    sync: Callable[[], None] = lambda: None


_phases: contextvars.ContextVar[Phases | None] = contextvars.ContextVar("phases", default=None)


@contextlib.contextmanager
def measured(phases: Phases) -> Iterator[Phases]:
    """Let `phase` inside this block write into `phases`."""
    token = _phases.set(phases)
    try:
        yield phases
    finally:
        _phases.reset(token)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Time a part of a method, such as "adapt"; free of effect where nobody measures."""
    current = _phases.get()
    if current is None:
        yield
        return
    current.sync()
    start = time.perf_counter()
    try:
        yield
    finally:
        current.sync()
        current.seconds[name] = current.seconds.get(name, 0.0) + time.perf_counter() - start


_progress: contextvars.ContextVar[Callable[[str, int, int], None] | None] = contextvars.ContextVar(
    "progress", default=None
)


@contextlib.contextmanager
def watched(show: Callable[[str, int, int], None]) -> Iterator[None]:
    """Let `tick` inside this block call show(text, done, total)."""
    token = _progress.set(show)
    try:
        yield
    finally:
        _progress.reset(token)


def tick(text: str, done: int, total: int) -> None:
    """Tell whoever watches how far a long fit has come; free of effect where nobody does."""
    show = _progress.get()
    if show is not None:
        show(text, done, total)


@dataclass(frozen=True)
class Cost:
    """What one cell cost. Times are wall-clock; memory is the peak above what the process held at the phase's start."""

    fit_s: float = 0.0
    encode_support_s: float = 0.0
    encode_ms: float = 0.0  # per test picture, its views included, as measured when it was encoded
    adapt_ms: float = 0.0  # per test picture
    predict_ms: float = 0.0  # per test picture
    memory_fit_mib: float = 0.0
    memory_predict_mib: float = 0.0
    memory_how: str = ""
    image_forwards: int = 0  # pictures and views encoded for the test set
    text_forwards: int = 0  # prompts encoded, fit and predict together
    text_backwards: int = 0
    gflop_per_image: float = 0.0  # encode, adapt and predict of one test picture


@dataclass(frozen=True)
class Record:
    """One stored cell: a method on a task with a seed, what it answered and what that cost.

    prediction, label: (n,) positions in `classes`; p_true: (n,) probability of the true class; confidence: (n,)
    probability of the prediction. Where `status` is not "done" there are no arrays and `error` says why in a sentence:
    "failed" keeps the traceback of an exception, "not-runnable" the reason why the method cannot answer this task.
    """

    id: str
    status: Literal["done", "failed", "not-runnable"]
    method: str
    title: str
    family: str
    setting: Setting
    fields: Mapping[str, Any]
    chosen_by: str  # fixed | suite | validation | user
    task: Task
    seed: int
    classes: tuple[str, ...]
    backbone: str
    fingerprint: str
    code: str  # hash of the method's and the harness's code that can change the number
    precision: str
    parameters: int
    support: int  # labelled pictures used, those for choosing a hyper-parameter included
    cost: Cost
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    ids: tuple[str, ...] = ()
    prediction: Any = None
    label: Any = None
    p_true: Any = None
    confidence: Any = None
    error: str = ""
    traceback: str = ""
    online: bool = False  # answers depend on the order of the stream, and seeds are orders
