"""What every method keeps to, one function a promise; its docstring is the sentence that a table prints.

A check takes a form, tries its method on the models of `bench.contract.backbones` with so few steps that it takes
milliseconds, and raises `Broken` with what was found instead. Tolerances: 1e-9 in float64, 5e-3 in float32 on logits
of size 18.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.api import (
    SETTINGS,
    Batch,
    Classes,
    Form,
    NotRunnable,
    Phases,
    Predictor,
    State,
    Support,
    as_fitted,
    measured,
)
from bench.contract import backbones
from bench.contract.data import batch_of, classes_of, still, support_of

NEEDS = frozenset({"features", "views", "pixels", "text", "images"})
SHAPE = {"needs", "setting", "transfers", "online", "selection", "grid"}
BUDGET = 6
"""Points of every search space that has any: equal budgets for all methods."""
BRIEF = {"epochs": 2, "augment": 2}
BRIEF_ON_PIXELS = {"iterations": 1, "batch": 10, "warmup": 1}
"""Fields that methods have in common, and their values here; the second ones where the towers take part in training."""


class Broken(AssertionError):
    """A promise that a method does not keep: one sentence with what was found."""


@dataclass(frozen=True)
class Check:
    """One promise: `name` for pytest's ids and for known failures, `says` for people, `applies` to which forms."""

    name: str
    says: str
    run: Callable[[Form], None]
    applies: Callable[[Form], bool]

    def __call__(self, form: Form) -> None:
        """Broken, or whatever the method itself raised."""
        self.run(form)


CHECKS: dict[str, Check] = {}
"""All checks by name, in the order of a table."""


def everywhere(form: Form) -> bool:
    return True


def learns(form: Form) -> bool:
    """Whether it has labelled pictures to learn from."""
    return form.method.setting.startswith(("few-shot", "fine-tune"))


def declared(check: Callable[[Form], None]) -> Callable[[Form], None]:
    """A check of what a form says of itself."""
    CHECKS[check.__name__] = Check(check.__name__, _sentence(check), check, everywhere)
    return check


def tried(applies: Callable[[Form], bool] = everywhere, *, exact: bool = False):
    """A check of what a form does, on both models (exact: on that in float64 alone)."""

    def decorate(check: Callable[[Trial], None]) -> Callable[[Trial], None]:
        def run(form: Form) -> None:
            for trial in trials(brief(form), exact):
                version = trial.version()
                try:
                    check(trial)
                except Exception as error:
                    error.add_note(f"on the model {trial.backbone.name!r} in {trial.dtype}")
                    raise
                finally:
                    if trial.version() != version:  # the next check shall find the models as they were
                        backbones.exact.cache_clear()
                        backbones.real.cache_clear()

        CHECKS[check.__name__] = Check(check.__name__, _sentence(check), run, applies)
        return check

    return decorate


def _sentence(check: Callable[..., None]) -> str:
    return " ".join((check.__doc__ or "").split("\n\n")[0].split())


def brief(form: Form) -> Form:
    """The form with so few epochs, steps and crops that a fit takes milliseconds."""
    method = form.method
    known = {f.name for f in dataclasses.fields(method)}  # type: ignore[arg-type]
    values: dict[str, Any] = dict(BRIEF)
    if "pixels" in method.needs:
        values |= BRIEF_ON_PIXELS
    elif method.setting == "fine-tune":
        values |= {"batch": 10, "warmup": 1}
    return form.with_fields(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class Trial:
    """A form on one of the models; it is served what it declares to need, as the harness does it."""

    form: Form
    backbone: Any

    @property
    def dtype(self) -> torch.dtype:
        return self.backbone.scale.dtype

    @property
    def tolerance(self) -> float:
        return 1e-9 if self.dtype == torch.float64 else 5e-3

    @property
    def adapts(self) -> bool:
        """Whether it takes steps on test pictures."""
        return "test-time" in self.form.method.setting and self.form.method.parameters(self.backbone, 5) > 0

    def version(self) -> int:
        """A number that grows with every change of the model in place."""
        return sum(tensor._version for tensor in backbones.tensors(self.backbone))

    def support(self, k: int = 5, shots: int = 3, seed: int = 0) -> Support:
        made, needs = support_of(self.backbone, k, shots, seed), self.form.method.needs
        val = made.val and replace(made.val, features=self._features(made.val.features))
        images = made.images if "pixels" in needs else None
        return replace(made, features=self._features(made.features), val=val, images=images)

    def batch(self, k: int = 5, n: int = 6, seed: int = 50) -> Batch:
        made, needs = batch_of(self.backbone, k, n, seed=seed), self.form.method.needs
        views, pixels = (made.views if "views" in needs else None), (made.pixels if "pixels" in needs else None)
        return Batch(made.ids, self._features(made.features), views, pixels)

    def _features(self, features: Tensor) -> Tensor:
        return features if self.form.method.needs & {"features", "views"} else features[:, :0]

    def fit(self, support: Support, seed: int = 0) -> State:
        """What was learnt; nothing where the harness would not ask."""
        return self.form.method.fit(support, self.backbone, seeded(seed)) if learns(self.form) else {}

    def predictor(self, state: State, classes: Classes, seed: int = 1) -> Predictor:
        return self.form.method.predictor(state, classes, self.backbone, seeded(seed))

    def answers(self, support: Support, batch: Batch, classes: Classes | None = None) -> Tensor:
        return self.predictor(self.fit(support), classes or support.classes)(batch)

    def same(self, a: Tensor, b: Tensor, sentence: str, within: float | None = None) -> None:
        """Broken with the sentence and the largest difference, unless a equals b within the tolerance."""
        require(a.shape == b.shape, f"{sentence}: {tuple(a.shape)} and {tuple(b.shape)}")
        within = self.tolerance if within is None else within
        off = float((a - b).detach().abs().max()) if a.numel() else 0.0
        require(off <= within, f"{sentence}: by up to {off:.2g}")

    def answered(self, logits: Tensor, pictures: int, classes: int) -> None:
        """Broken unless these are logits of so many pictures and classes."""
        require(logits.shape == (pictures, classes), f"logits {tuple(logits.shape)} for {pictures} x {classes}")
        require(bool(logits.isfinite().all()), "logits that are not finite")


def trials(form: Form, exact: bool = False) -> Iterator[Trial]:
    yield Trial(form, backbones.exact("pixels" in form.method.needs))
    if not exact:
        yield Trial(form, backbones.real())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Broken(sentence)


def picked(batch: Batch, rows: list[int]) -> Batch:
    """These pictures of the batch."""
    views, pixels = (None if part is None else part[rows] for part in (batch.views, batch.pixels))
    return Batch(tuple(batch.ids[i] for i in rows), batch.features[rows], views, pixels)


# -- what a form says of itself ---------------------------------------------------------------------------------------


@declared
def declarations(form: Form) -> None:
    """A frozen dataclass that declares what the harness asks for"""
    method = form.method
    missing = sorted(name for name in SHAPE if not hasattr(method, name))
    require(not missing, f"{type(method).__name__} does not declare {', '.join(missing)}")
    frozen = dataclasses.is_dataclass(method) and type(method).__dataclass_params__.frozen  # type: ignore[attr-defined]
    require(frozen, f"{type(method).__name__} is no frozen dataclass: decorate it with @dataclass(frozen=True)")
    try:
        hash(method)
    except TypeError as error:
        raise Broken(f"its fields cannot be hashed ({error}): use tuples in place of lists") from error
    try:
        json.dumps(form.hyper_parameters(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Broken(
            f"its fields cannot be stored ({error}): use numbers, strings, booleans, None or tuples"
        ) from error
    require(bool(form.title), "the title is empty")
    require(method.needs <= NEEDS, f"needs names {', '.join(sorted(method.needs - NEEDS))}, of {', '.join(NEEDS)}")
    seen = method.needs & {"features", "views", "pixels"}
    require(bool(seen), "needs names neither features, views nor pixels, so there is nothing to answer by")
    require(method.setting in SETTINGS, f"setting {method.setting!r} is none of {', '.join(SETTINGS)}")
    alone = "views" not in method.needs or "test-time" in method.setting
    require(alone, "views are for test time, whose replicates are draws of views: set setting, or drop views")
    for name in ("transfers", "online"):
        require(isinstance(getattr(method, name), bool), f"{name} is {getattr(method, name)!r}, not True or False")
    require(method.selection in ("fixed", "few-val"), f"selection {method.selection!r} is neither fixed nor few-val")


@declared
def search_space(form: Form) -> None:
    """A search space has six points or none, of fields that exist, the defaults among their values"""
    grid = form.method.grid
    points = list(itertools.product(*grid.values())) if grid else []
    require(len(points) in (0, BUDGET), f"the grid has {len(points)} points: {BUDGET} for everybody, or none")
    for field, values in grid.items():
        require(field in form.hyper_parameters(), f"the grid names {field!r}, which is no field")
        default = form.hyper_parameters()[field]
        require(default in values, f"the grid's values of {field} lack the default {default!r}")
    for values in points:
        form.with_fields(**dict(zip(grid, values, strict=True)))


@declared
def docstring(form: Form) -> None:
    """The module's docstring gives a command that runs the form"""
    text = importlib.import_module(type(form.method).__module__).__doc__ or ""
    commands = [line for line in text.splitlines() if "python -m bench run" in line and " --suite " in line]
    named = {name for line in commands for names in re.findall(r"--methods (\S+)", line) for name in names.split(",")}
    wanted = f"python -m bench run --methods {form.name} --suite NAME"
    require(bool(named & {form.name, form.family}), f"no line of the module's docstring says `{wanted}`")


# -- what a form does -------------------------------------------------------------------------------------------------


@tried()
def finite_logits(trial: Trial) -> None:
    """Finite logits, one row a picture and one column a class, in the model's own type"""
    logits = trial.answers(trial.support(), trial.batch())
    trial.answered(logits, 6, 5)
    require(logits.dtype == trial.dtype, f"logits in {logits.dtype} on a model in {trial.dtype}")
    require(not logits.requires_grad, "logits that carry a gradient")


@tried()
def parameter_count(trial: Trial) -> None:
    """The declared number of parameters is that of the numbers learnt, and nothing else is kept"""
    method = trial.form.method
    state, told = method.fit(trial.support(), trial.backbone, seeded(0)), method.parameters(trial.backbone, 5)
    learnt = sum(tensor.numel() for tensor in state.values())
    if learns(trial.form):
        require(learnt == told, f"{told} parameters are declared and {learnt} were learnt")
    else:
        require(not learnt, f"a {method.setting} method has no support, and its fit keeps {learnt} numbers")
        require(told >= 0 and ("test-time" in method.setting or not told), f"{told} parameters, and nothing learns")
    for name, tensor in state.items():
        require(not tensor.requires_grad, f"the state's {name!r} still carries a gradient: detach it")
        require(tensor.dtype == trial.dtype, f"the state's {name!r} is {tensor.dtype} on a model in {trial.dtype}")


@tried()
def same_seed(trial: Trial) -> None:
    """The same seed gives the same answers, and nobody else's random numbers are touched"""

    def streams() -> str:
        return f"{torch.get_rng_state().tolist()} {random.getstate()} {np.random.get_state()}"

    support, batch, before = trial.support(), trial.batch(), streams()
    first = trial.answers(support, batch)
    require(streams() == before, "it draws from a global random stream: use the generator that is handed in")
    require(torch.equal(first, trial.answers(support, batch)), "two runs with the same seed answer differently")


@tried()
def no_labels(trial: Trial) -> None:
    """Answers come from pictures: no test label is asked for, and what a picture is called does not matter"""
    support, batch, asked = trial.support(), trial.batch(), []

    class Watched(Batch):
        def __getattr__(self, name: str) -> Any:  # called for what a batch does not have
            if not name.startswith("__"):
                asked.append(name)
            raise AttributeError(f"a batch of test pictures has no {name!r}")

    predict = trial.predictor(trial.fit(support), support.classes)
    parts = (batch.features, batch.views, batch.pixels)
    try:
        answered = predict(Watched(batch.ids, *parts))
    finally:
        require(not asked, f"it asks the test batch for {', '.join(dict.fromkeys(asked))}")
    renamed = trial.predictor(trial.fit(support), support.classes)
    names = tuple(f"other-{name}" for name in batch.ids)
    require(torch.equal(answered, renamed(Batch(names, *parts))), "answers depend on the names of the pictures")


@tried(lambda form: learns(form) and form.method.selection == "fixed", exact=True)
def validation(trial: Trial) -> None:
    """Few validation pictures are read only where selection is few-val, so that they are counted"""
    support = trial.support()
    assert support.val is not None
    mine = trial.fit(support)
    wrong = replace(support.val, features=-support.val.features, labels=support.val.labels.flip(0))
    for val in (None, wrong):
        other = trial.fit(replace(support, val=val))
        same = mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)
        require(same, "what is learnt depends on the validation pictures: declare selection = 'few-val'")


@tried(lambda form: not form.method.online)
def picture_order(trial: Trial) -> None:
    """The order of the test pictures does not matter"""
    support, batch, order = trial.support(), trial.batch(), [4, 0, 3, 5, 1, 2]
    state = trial.fit(support)
    whole, permuted = (trial.predictor(state, support.classes)(picked(batch, rows)) for rows in (list(range(6)), order))
    trial.same(permuted, whole[order], "another order of the pictures gives other answers")


@tried(lambda form: not form.method.online)
def batch_of_one(trial: Trial) -> None:
    """A picture alone is answered as it is among others"""
    support, batch = trial.support(), trial.batch()
    state = trial.fit(support)
    alone = [trial.predictor(state, support.classes)(picked(batch, [i])) for i in range(6)]
    whole = trial.predictor(state, support.classes)(batch)
    trial.same(torch.cat(alone), whole, "a picture alone and in a batch is answered differently")


@tried(lambda form: not form.method.online)
def reset(trial: Trial) -> None:
    """Pictures leave nothing behind: the same ones are answered alike again after others"""
    support, batch = trial.support(), trial.batch()
    predict = trial.predictor(trial.fit(support), support.classes)
    first = predict(batch)
    predict(trial.batch(seed=99))
    require(torch.equal(predict(batch), first), "the same pictures are answered differently after others")


@tried(exact=True)
def apart(trial: Trial) -> None:
    """Two predictors do not disturb each other"""
    support, other, batch = trial.support(), trial.support(seed=9), trial.batch()
    predict = trial.predictor(trial.fit(support), support.classes)
    twin = trial.predictor(trial.fit(support), support.classes)
    first = twin(batch)
    classes = support.classes.permuted([4, 3, 2, 1, 0]) if trial.form.method.transfers else other.classes
    trial.predictor(trial.fit(other), classes)(trial.batch(seed=99))
    require(torch.equal(predict(batch), first), "a predictor answers differently once another one has been made")


@tried()
def frozen(trial: Trial) -> None:
    """Whatever was handed in is the same bit for bit afterwards, the model's weights among it"""
    support, batch = trial.support(), trial.batch()
    handed = {"the model": list(backbones.tensors(trial.backbone)), "the support": [support.features, support.labels]}
    handed["the test batch"] = [part for part in (batch.features, batch.views, batch.pixels) if part is not None]
    before = {what: [tensor.clone() for tensor in group] for what, group in handed.items()}
    state = trial.fit(support)
    handed["its own state"] = list(state.values())
    before["its own state"] = [tensor.clone() for tensor in state.values()]
    trial.predictor(state, support.classes)(batch)
    for what, group in handed.items():
        same = all(torch.equal(old, new) for old, new in zip(before[what], group, strict=True))
        require(same, f"it changes {what} in place")
    for tensor in handed["the model"]:
        require(not tensor.requires_grad and tensor.grad is None, "it leaves gradients on the model: train a copy")


@tried()
def classes_permute(trial: Trial) -> None:
    """Another order of the classes only permutes the logits"""
    support, batch, order = trial.support(), trial.batch(), [3, 0, 4, 2, 1]
    straight = trial.answers(support, batch)
    if trial.form.method.transfers:
        permuted = trial.answers(support, batch, support.classes.permuted(order))
    else:
        place, classes = torch.tensor(order).argsort(), support.classes.permuted(order)
        val = support.val and replace(support.val, labels=place[support.val.labels], classes=classes)
        permuted = trial.answers(replace(support, labels=place[support.labels], classes=classes, val=val), batch)
    if trial.form.method.selection == "few-val":
        # rounding may tip a search to a neighbour of equal score, so the answers count and not the digits
        agree = float((permuted.argmax(1) == straight[:, order].argmax(1)).double().mean())
        require(agree >= 0.8, f"only {agree:.0%} of the answers stay when the classes are permuted")
        return
    # in float32 other rounding of a gradient near zero becomes another sign, and AdamW a step in the other direction
    loose = 0.05 if trial.adapts and trial.dtype == torch.float32 else None
    trial.same(permuted, straight[:, order], "the logits of permuted classes are not the permuted logits", loose)


@tried()
def two_classes(trial: Trial) -> None:
    """Two classes, one picture of each and one to answer are enough"""
    trial.answered(trial.answers(trial.support(2, 1), trial.batch(2, 1)), 1, 2)


@tried(exact=True)
def one_class(trial: Trial) -> None:
    """A single class has a logit too"""
    trial.answered(trial.answers(trial.support(1, 1), trial.batch(1, 1)), 1, 1)


@tried(exact=True)
def equal_names(trial: Trial) -> None:
    """Two classes may have the same name: they are told apart by position, and by their pictures alone"""
    support = trial.support(2, 1)
    twins = replace(support.classes, names=("owl", "owl"))
    val = support.val and replace(support.val, classes=twins)
    logits = trial.answers(replace(support, classes=twins, val=val), trial.batch(2, 1))
    trial.answered(logits, 1, 2)
    if not learns(trial.form):
        trial.same(logits[:, 0], logits[:, 1], "two classes of the same name have different logits", 1e-4)


@tried(exact=True)
def grad_mode(trial: Trial) -> None:
    """It switches gradients on where it needs them, whatever surrounds it"""
    support, batch = trial.support(), trial.batch()
    with torch.no_grad():
        inside = trial.answers(support, batch)
    require(torch.equal(inside, trial.answers(support, batch)), "answers differ under torch.no_grad()")


@tried(exact=True)
def adaptation_booked(trial: Trial) -> None:
    """Steps on a test picture are timed as adaptation, by `with phase("adapt")`, and nothing else is"""
    support = trial.support()
    predict = trial.predictor(trial.fit(support), support.classes)
    with measured(Phases()) as phases:
        predict(trial.batch(n=1))
    found, told = set(phases.seconds), {"adapt"} if trial.adapts else set()
    require(found == told, f"the phases {sorted(found)} were timed where {sorted(told)} are expected")


@tried(lambda form: not learns(form))
def no_support(trial: Trial) -> None:
    """Nothing labelled is needed: an empty support teaches nothing, and answers come without one"""
    support = trial.support()
    none = slice(0)
    empty = replace(support, features=support.features[none], labels=support.labels[none], val=None, images=None)
    empty = still(empty)
    state = trial.form.method.fit(empty, trial.backbone, seeded(0))
    require(not state, f"an empty support taught it {', '.join(state)}")
    trial.answered(trial.predictor({}, support.classes)(trial.batch()), 6, 5)


@tried(learns, exact=True)
def no_augmentation(trial: Trial) -> None:
    """A support without augmented views, such as a feature bundle's, serves as well"""
    trial.answered(trial.answers(still(trial.support()), trial.batch()), 6, 5)


@tried(learns, exact=True)
def unseen_class(trial: Trial) -> None:
    """A class that the support does not show still gets a logit"""
    support = trial.support(4)
    val = support.val and replace(support.val, classes=classes_of(5))
    trial.answered(trial.answers(replace(support, classes=classes_of(5), val=val), trial.batch()), 6, 5)


@tried(lambda form: learns(form) and form.method.transfers)
def transfers(trial: Trial) -> None:
    """What was learnt answers with other classes than those of the support"""
    new = classes_of(8).permuted([5, 6, 7])
    trial.answered(trial.answers(trial.support(), trial.batch(), new), 6, 3)


@tried(lambda form: not form.method.transfers, exact=True)
def refuses(trial: Trial) -> None:
    """Tied to its classes, it refuses others with NotRunnable and a reason"""
    state = trial.fit(trial.support())
    try:
        trial.predictor(state, classes_of(8))
    except NotRunnable as refusal:
        require(bool(str(refusal).strip()), "NotRunnable without a reason")
        return
    raise Broken("it is declared not to transfer and takes other classes all the same")


def identity_of(form: Form) -> Mapping[str, Any] | None:
    return getattr(form.method, "identity", None)


@tried(lambda form: identity_of(form) is not None)
def identity(trial: Trial) -> None:
    """With the fields that its `identity` names, it answers as zero-shot CLIP does"""
    start = replace(trial, form=trial.form.with_fields(**identity_of(trial.form) or {}))
    support, batch = trial.support(), trial.batch()
    if "pixels" in trial.form.method.needs:
        assert batch.pixels is not None
        with torch.no_grad():
            image = trial.backbone.encode_images(batch.pixels)
    else:
        image = batch.features
    zero_shot = trial.backbone.scale * normalize(image, dim=-1) @ trial.backbone.text_features(support.classes).T
    trial.same(start.answers(support, batch), zero_shot, "its start is not zero-shot CLIP")


def answering_fields(form: Form) -> dict[str, float]:
    """The numbers among the fields that are said to take no part in `fit`."""
    fields = [f.name for f in dataclasses.fields(form.method) if not f.metadata.get("fit", True)]  # type: ignore[arg-type]
    values = {name: form.hyper_parameters()[name] for name in fields}
    return {name: value for name, value in values.items() if isinstance(value, float)}


@tried(lambda form: learns(form) and bool(answering_fields(form)), exact=True)
def answering(trial: Trial) -> None:
    """A field that only answers leaves what is learnt alone, so that forms which differ in it share one fit"""
    support = trial.support()
    mine = trial.fit(support)
    for field, value in answering_fields(trial.form).items():
        other = replace(trial, form=trial.form.with_fields(**{field: value / 2}))
        require(as_fitted(trial.form.method) == as_fitted(other.form.method), f"{field} takes part in the fit's name")
        theirs = other.fit(support)
        require(all(torch.equal(mine[key], theirs[key]) for key in mine), f"{field} changes what is learnt")
