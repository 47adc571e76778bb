"""The contract for methods: two small methods that keep it, and one for each check that breaks that promise alone.

python -m bench run --methods good --suite few-shot
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.nn.functional import normalize

from bench.api import Batch, Form, NotRunnable, UserError, answering, phase
from bench.contract import CHECKS, Broken, check_method, checks_of, findings, parametrize_with_checks
from bench.contract.backbones import LinearBackbone
from bench.contract.checks import brief, trials

HERE = Path(__file__).parent.parent


def form(method: Any, name: str = "good") -> Form:
    return Form(name, "Good", name, method)


def failing(method: Any, name: str = "good") -> list[str]:
    return [finding.check.name for finding in findings(form(method, name)) if finding.error]


@dataclass(frozen=True)
class Good:
    """Moves pictures by the mean gap between them and their texts; transfers, and begins as zero-shot."""

    strength: float = answering(0.1)

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar[str] = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[str] = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"strength": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)}
    identity: ClassVar[dict[str, Any]] = {"strength": 0.0}

    def fit(self, support, backbone, rng):
        text = backbone.text_features(support.classes)
        return {"gap": (support.features - text[support.labels]).mean(0)}

    def predictor(self, state, classes, backbone, rng):
        text = backbone.text_features(classes)
        return lambda batch: self.logits(batch, state, text, backbone.scale)

    def logits(self, batch, state, text, scale):
        return scale * normalize(batch.features - self.strength * state["gap"], dim=-1) @ text.T

    def parameters(self, backbone, classes):
        return backbone.dim


@dataclass(frozen=True)
class Tied(Good):
    """The nearest mean of each class, or its text where no picture shows it."""

    transfers: ClassVar[bool] = False
    identity: ClassVar[Any] = None

    def fit(self, support, backbone, rng):
        means = backbone.text_features(support.classes).clone()
        for k in support.labels.unique():
            means[k] = normalize(support.features[support.labels == k], dim=-1).mean(0)
        return {"means": means}

    def predictor(self, state, classes, backbone, rng):
        if len(classes) != len(state["means"]):
            raise NotRunnable("means belong to the classes they were taken of")
        return lambda batch: (1 + self.strength) * normalize(batch.features, dim=-1) @ state["means"].T

    def parameters(self, backbone, classes):
        return classes * backbone.dim


@dataclass(frozen=True)
class Plain:
    """Zero-shot CLIP at half its temperature."""

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar[str] = "zero-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[str] = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def fit(self, support, backbone, rng):
        return {}

    def predictor(self, state, classes, backbone, rng):
        text = backbone.text_features(classes)
        return lambda batch: 2 * backbone.scale * normalize(batch.features, dim=-1) @ text.T

    def parameters(self, backbone, classes):
        return 0


# -- one for each promise, as an author might break it ----------------------------------------------------------------


@dataclass
class Melting:
    """Not frozen, so two runs of one form could differ."""

    strength: float = 0.1
    needs, setting, transfers, online = Good.needs, Good.setting, Good.transfers, Good.online
    selection, grid, fit, predictor, parameters = Good.selection, Good.grid, Good.fit, Good.predictor, Good.parameters


class SmallGrid(Good):
    grid = {"strength": (0.1, 0.2)}  # noqa: RUF012


class KeepsGraph(Good):
    def logits(self, batch, state, text, scale):
        return super().logits(batch, state, text.clone().requires_grad_(), scale)


class Understated(Good):
    def parameters(self, backbone, classes):
        return 1


class GlobalChance(Good):
    def fit(self, support, backbone, rng):
        torch.rand(1)
        return super().fit(support, backbone, rng)


class Peeking(Good):
    def logits(self, batch, state, text, scale):
        getattr(batch, "labels", None)
        return super().logits(batch, state, text, scale)


class ReadsNames(Good):
    def logits(self, batch, state, text, scale):
        told = torch.tensor([zlib.crc32(name.encode()) % 5 for name in batch.ids]).to(scale)
        return (1 + self.strength * told[:, None]) * super().logits(batch, state, text, scale)


class Validated(Good):
    def fit(self, support, backbone, rng):
        state = super().fit(support, backbone, rng)
        return state if support.val is None else {"gap": state["gap"] + support.val.features.mean(0)}


class Sorted(Good):
    def logits(self, batch, state, text, scale):
        return super().logits(batch, state, text, scale) * (1.0 if list(batch.ids) == sorted(batch.ids) else 1.1)


class BatchNorm(Good):
    """Statistics of the batch, whatever its order."""

    def logits(self, batch, state, text, scale):
        moved = replace(batch, features=batch.features - self.strength * batch.features.mean(0))
        return super().logits(moved, state, text, scale)


class Remembers(Good):
    def predictor(self, state, classes, backbone, rng):
        answer, seen = super().predictor(state, classes, backbone, rng), []

        def predict(batch):
            seen.append(batch)
            return answer(batch) * len(seen)

        return predict


class SharedText(Good):
    def predictor(self, state, classes, backbone, rng):
        shared["text"] = backbone.text_features(classes)
        return lambda batch: self.logits(batch, state, shared["text"], backbone.scale)


shared: dict[str, torch.Tensor] = {}


class InPlace(Good):
    def fit(self, support, backbone, rng):
        support.features[0] = 0.0
        return super().fit(support, backbone, rng)


class FirstComes(Good):
    def logits(self, batch, state, text, scale):
        return super().logits(batch, state, text, scale) - self.strength * torch.arange(len(text))


class NeedsThree(Good):
    def predictor(self, state, classes, backbone, rng):
        assert len(set(classes.names)) != 2, "the margin to the third class is undefined"
        return super().predictor(state, classes, backbone, rng)


class NeedsTwo(Good):
    def logits(self, batch, state, text, scale):
        answers = super().logits(batch, state, text, scale)
        return answers + 0 * answers.topk(2).values[:, 1:]


class ByName(Good):
    def predictor(self, state, classes, backbone, rng):
        place = {name: i for i, name in enumerate(classes.names)}
        text = backbone.text_features(classes)[list(place.values())]
        return lambda batch: self.logits(batch, state, text, backbone.scale)


class NeedsGradients(Good):
    def fit(self, support, backbone, rng):
        gap = torch.zeros_like(support.features[0]).requires_grad_()
        target = super().fit(support, backbone, rng)["gap"]
        return {"gap": -torch.autograd.grad(((gap - target) ** 2 / 2).sum(), gap)[0]}


class BooksTraining(Good):
    def logits(self, batch, state, text, scale):
        with phase("adapt"):
            return super().logits(batch, state, text, scale)


class CountsSupport(Plain):
    def fit(self, support, backbone, rng):
        assert support.labels.max() < len(support.classes)
        return {}


class NeedsCrops(Good):
    def fit(self, support, backbone, rng):
        return super().fit(replace(support, features=support.augment(2)[:, 1]), backbone, rng)


class MeanOfMeans(Good):
    def fit(self, support, backbone, rng):
        gaps = support.features - backbone.text_features(support.classes)[support.labels]
        return {"gap": torch.stack([gaps[support.labels == k].mean(0) for k in range(len(support.classes))]).mean(0)}


class ClassBias(Good):
    def fit(self, support, backbone, rng):
        return {**super().fit(support, backbone, rng), "bias": support.features.new_zeros(len(support.classes))}

    def predictor(self, state, classes, backbone, rng):
        answer = super().predictor(state, classes, backbone, rng)
        return lambda batch: answer(batch) + state["bias"]

    def parameters(self, backbone, classes):
        return backbone.dim + classes


class TakesAll(Tied):
    def predictor(self, state, classes, backbone, rng):
        return lambda batch: (1 + self.strength) * normalize(batch.features, dim=-1) @ state["means"].T


class StartsElsewhere(Good):
    identity = {}  # noqa: RUF012


class FitsByIt(Good):
    def fit(self, support, backbone, rng):
        return {"gap": (1 + self.strength) * super().fit(support, backbone, rng)["gap"]}


BROKEN: list[tuple[str, Any]] = [
    ("declarations", Melting()),
    ("search_space", SmallGrid()),
    ("finite_logits", KeepsGraph()),
    ("parameter_count", Understated()),
    ("same_seed", GlobalChance()),
    ("no_labels", Peeking()),
    ("no_labels", ReadsNames()),
    ("validation", Validated()),
    ("picture_order", Sorted()),
    ("batch_of_one", BatchNorm()),
    ("reset", Remembers()),
    ("apart", SharedText()),
    ("frozen", InPlace()),
    ("classes_permute", FirstComes()),
    ("two_classes", NeedsThree()),
    ("one_class", NeedsTwo()),
    ("equal_names", ByName()),
    ("grad_mode", NeedsGradients()),
    ("adaptation_booked", BooksTraining()),
    ("no_support", CountsSupport()),
    ("no_augmentation", NeedsCrops()),
    ("unseen_class", MeanOfMeans()),
    ("transfers", ClassBias()),
    ("refuses", TakesAll()),
    ("identity", StartsElsewhere()),
    ("answering", FitsByIt()),
]


@pytest.mark.parametrize("method", [Good(), Tied(), Plain()], ids=lambda method: type(method).__name__)
def test_a_method_that_keeps_every_promise_passes(method) -> None:
    check_method(form(method))


@pytest.mark.parametrize(
    ("check", "method"), BROKEN, ids=lambda value: value if isinstance(value, str) else type(value).__name__
)
def test_a_method_that_breaks_one_promise_fails_that_check_alone(check: str, method: Any) -> None:
    assert failing(method) == [check]


def test_a_module_whose_docstring_does_not_name_the_form_fails_that_check_alone() -> None:
    assert failing(Good(), "nobody") == ["docstring"]


def test_every_check_has_a_method_that_breaks_it() -> None:
    assert {check for check, _ in BROKEN} | {"docstring"} == set(CHECKS)


def test_every_check_applies_to_a_method_that_keeps_it() -> None:
    kept = (Good(), Tied(), Plain())
    assert {check.name for method in kept for check in checks_of(form(method))} == set(CHECKS)


def test_a_batch_holds_nothing_but_pictures() -> None:
    """No label can reach a method: there is no field for one."""
    assert [f.name for f in dataclasses.fields(Batch)] == ["ids", "features", "views", "pixels"]


def test_a_method_is_served_what_it_declares_and_no_more() -> None:
    class Pixels(Good):
        needs = frozenset({"pixels", "images"})

    trial = next(trials(form(Pixels())))
    assert trial.batch().pixels is not None
    assert trial.batch().views is None
    assert trial.batch().features.shape == (6, 0)
    trial = next(trials(form(Good())))
    assert (trial.batch().views, trial.batch().pixels, trial.support().images) == (None, None, None)


class WrongWays:
    """Declarations that are none, each with the word that its sentence has to hold."""

    cases: ClassVar = [
        ({"needs": frozenset({"feature"})}, "feature"),
        ({"needs": frozenset({"text"})}, "nothing to answer by"),
        ({"needs": frozenset({"features", "views"})}, "test time"),
        ({"setting": "one-shot"}, "'one-shot'"),
        ({"transfers": None}, "transfers"),
        ({"online": 1}, "online"),
        ({"selection": "oracle"}, "'oracle'"),
    ]


@pytest.mark.parametrize(("values", "word"), WrongWays.cases)
def test_a_wrong_declaration_is_named(values: dict[str, Any], word: str) -> None:
    with pytest.raises(Broken, match="breaks declarations") as error:
        check_method(form(type("Wrong", (Good,), values)()))
    assert word in str(error.value)


@pytest.mark.parametrize(("value", "word"), [([1], "hashed"), (object(), "stored"), (float("nan"), "stored")])
def test_a_field_that_no_record_could_hold_is_named(value: Any, word: str) -> None:
    with pytest.raises(Broken, match=f"cannot be {word}"):
        check_method(form(Good(strength=value)))


@pytest.mark.parametrize(
    ("grid", "word"),
    [({"sterngth": (0, 1, 2, 3, 4, 5)}, "'sterngth'"), ({"strength": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)}, "default 0.1")],
)
def test_a_wrong_search_space_is_named(grid: dict[str, tuple], word: str) -> None:
    with pytest.raises(Broken, match="breaks search_space") as error:
        check_method(form(type("Wrong", (Good,), {"grid": grid})()))
    assert word in str(error.value)


def test_a_failing_check_is_told_in_a_sentence_with_its_promise_and_the_model() -> None:
    with pytest.raises(Broken) as error:
        check_method(form(FirstComes()))
    assert str(error.value) == (
        "good breaks classes_permute (Another order of the classes only permutes the logits): the logits of permuted "
        "classes are not the permuted logits: by up to 0.3, on the model 'linear' in torch.float64."
    )


def test_what_a_method_raises_itself_is_told_as_its_failure() -> None:
    with pytest.raises(Broken, match="AssertionError: the margin to the third class is undefined"):
        check_method(form(NeedsThree()))


def test_a_known_failure_needs_its_reason_and_has_to_fail() -> None:
    check_method(form(FirstComes()), expected={"classes_permute": "the first class comes first"})
    with pytest.raises(Broken, match="good keeps classes_permute, though it is expected not to"):
        check_method(form(Good()), expected={"classes_permute": "the first class comes first"})


def test_expectations_of_no_check_or_no_form_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean classes_permute"):
        check_method(form(Good()), expected={"clases_permute": "typo"})
    with pytest.raises(UserError, match="'tied', which is none of these forms"):
        parametrize_with_checks([form(Good())], expected={("tied", "refuses"): "not here"})
    with pytest.raises(UserError, match="not checked so"):
        parametrize_with_checks([form(Good())], expected={("good", "refuses"): "it transfers"})


def test_a_method_that_changes_the_model_does_not_spoil_it_for_the_next() -> None:
    class Vandal(Good):
        def fit(self, support, backbone, rng):
            if isinstance(backbone, LinearBackbone):
                backbone.layer.mul_(2)
            return super().fit(support, backbone, rng)

    assert "frozen" in failing(Vandal())
    assert failing(Good()) == []


def test_a_brief_form_keeps_the_fields_that_are_not_about_length() -> None:
    @dataclass(frozen=True)
    class Long(Good):
        epochs: int = 300
        batch: int = 7
        iterations: int = 1000

    assert brief(form(Long())).hyper_parameters() == {"strength": 0.1, "epochs": 2, "batch": 7, "iterations": 1000}


# -- as an author uses it ---------------------------------------------------------------------------------------------

OUTSIDE = """
from methods import coop, zero_shot
from bench.api import METHODS
from bench.contract import parametrize_with_checks

FORMS = [METHODS["zero-shot"], METHODS["coop-csc"]]
EXPECTED = {
    ("coop-csc", "classes_permute"): "another order is another start",
    ("zero-shot", "reset"): "it was so once",
}


@parametrize_with_checks(FORMS, expected=EXPECTED)
def test_the_contract(form, check):
    check(form)
"""


def test_pytest_gets_a_case_for_each_form_and_check_and_known_failures_have_to_fail(tmp_path: Path) -> None:
    (tmp_path / "test_outside.py").write_text(OUTSIDE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rx", "test_outside.py"]
    command += ["-k", "permute or search_space or zero-shot-reset"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 1
    assert "1 failed, 3 passed" in done.stdout
    assert "1 xfailed" in done.stdout
    assert "test_the_contract[coop-csc-classes_permute] - another order is another start" in done.stdout
    assert "[XPASS(strict)] it was so once" in done.stdout


def test_the_contract_can_be_used_where_there_is_no_pytest() -> None:
    code = "import sys, bench.contract; sys.exit('pytest' in sys.modules or 'methods' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE, timeout=120).returncode == 0
