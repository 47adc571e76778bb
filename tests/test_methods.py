"""The contract of `bench.contract` over every registered form, and what else is true of the project's own methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import methods
from bench.api import METHODS, UserError, register
from bench.contract import brief, parametrize_with_checks
from bench.contract.checks import Trial, answering_fields, learns, seeded, trials

FORMS = sorted(METHODS)
EXPECTED = {
    ("coop-csc", "classes_permute"): "its random start belongs to the position of a class: another order, another start"
}
LEADERBOARD = ["zero-shot", "linear-probe", "coop", "clip-adapter", "maple", "prompt-src", "clip-lora"]
LEADERBOARD += ["tpt", "rada", "finetune"]
RANDOM = ["coop-m16", "coop-csc", "clip-adapter", "rada-eft", "rada-adapter", "rada-ttt", "rada-dagger"]
RANDOM += [name for name in FORMS if METHODS[name].method.setting == "fine-tune"]
ZERO_SHOT_AT_FIRST = {"zs-lp", "clap", "coop-m4", "tpt", "coop-tpt", "clip-lora", "rada-eft", "rada-adapter"}
ZERO_SHOT_AT_FIRST |= {"rada-adapter-released", "rada-ttt", "rada-dagger", "rada-fft", "rada-ft"}
ZERO_SHOT_AT_FIRST |= {"lp-all", "ft", "l2-sp", "lp-ft", "flyp", "wise-ft"}


@parametrize_with_checks(METHODS.values(), expected=EXPECTED)
def test_every_form_keeps_the_contract(form, check) -> None:
    check(form)


def exact(name: str) -> Trial:
    return next(trials(brief(METHODS[name])))


def test_the_files_of_the_folder_are_the_methods_registered() -> None:
    files = {f"methods.{p.stem}" for p in Path(methods.__file__).parent.glob("*.py") if not p.stem.startswith("_")}
    assert files == {type(form.method).__module__ for form in METHODS.values()}, (
        "name the new file in methods/__init__.py"
    )


def test_the_families_stand_in_leaderboard_order() -> None:
    assert list(dict.fromkeys(form.family for form in METHODS.values())) == LEADERBOARD


def test_the_forms_that_begin_as_zero_shot_are_those_whose_papers_say_so() -> None:
    assert {name for name in FORMS if getattr(METHODS[name].method, "identity", None)} == ZERO_SHOT_AT_FIRST


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_episodic_and_test_time_methods_look_at_views(name: str) -> None:
    method = METHODS[name].method
    assert method.online is False
    assert ("views" in method.needs) == method.setting.endswith("test-time")


@pytest.mark.parametrize("name", [name for name in FORMS if not learns(METHODS[name])])
def test_what_learns_at_test_time_has_as_many_parameters_for_any_number_of_classes(name: str) -> None:
    trial = exact(name)
    assert trial.form.method.parameters(trial.backbone, 5) == trial.form.method.parameters(trial.backbone, 7)


def test_two_methods_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="two methods"):
        register("tpt", title="another")(type(METHODS["tpt"].method))


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_other_answers_where_something_is_random(name: str) -> None:
    trial = exact(name)
    trial = dataclasses.replace(trial, form=trial.form.with_fields(lr=0.05))
    support, batch = trial.support(), trial.batch()

    def answers(seed: int) -> torch.Tensor:
        return trial.predictor(trial.fit(support, seed), support.classes, seed + 1)(batch)

    assert not torch.equal(answers(0), answers(10))


@pytest.mark.parametrize(("name", "field"), [(n, f) for n in FORMS for f in answering_fields(METHODS[n])])
def test_a_field_that_only_answers_does_answer(name: str, field: str) -> None:
    trial = exact(name)
    state = trial.fit(trial.support())
    other = trial.form.with_fields(**{field: answering_fields(trial.form)[field] / 2})
    mine, theirs = (
        form.method.predictor(state, trial.support().classes, trial.backbone, seeded(1))(trial.batch())
        for form in (trial.form, other)
    )
    assert not torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["coop-m16", "tpt", "coop-tpt"])
def test_an_unknown_field_is_refused(name: str) -> None:
    with pytest.raises((TypeError, UserError)):
        METHODS[name].with_fields(learning_rate=1.0)
