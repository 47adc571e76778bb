"""What a suite's recipe says of a method's fields, and rows that differ in one field."""

from __future__ import annotations

from dataclasses import replace

import pytest

import methods  # noqa: F401
from bench import cards, tune
from bench.api import METHODS, UserError
from bench.commands.forms import sweeps

SUITE = cards.suite("finetune")


def test_a_recipe_takes_the_place_of_defaults_in_methods_that_fine_tune() -> None:
    stated = tune.recipe(METHODS["ft"], SUITE)
    assert {key: stated[key] for key in ("epochs", "batch", "warmup")} == {"epochs": 3, "batch": 128, "warmup": 50}
    assert stated["templates"] == tuple(SUITE.fields["templates"]), "a list of the file as the tuple that fields hold"
    assert tune.recipe(METHODS["clip-adapter"], SUITE) == {}


def test_zero_shot_beside_them_is_asked_in_the_same_prompts() -> None:
    assert tune.recipe(METHODS["zero-shot"], SUITE) == {"templates": tuple(SUITE.fields["templates"])}


def test_a_field_that_tells_a_form_from_its_method_stays() -> None:
    assert tune.recipe(METHODS["zero-shot-ensemble"], SUITE) == {}
    assert "clip" not in tune.recipe(METHODS["ft"].with_fields(clip=2.0), replace(SUITE, fields={"clip": 1.0}))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"epoch": 3}, "no method that fine-tunes has the field 'epoch'; did you mean epochs?"),
        ({"batch": 12.5}, "fields.batch must be of type int, not 12.5"),
    ],
)
def test_a_recipe_that_no_method_understands_is_refused(fields: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        tune.recipe(METHODS["ft"], replace(SUITE, fields=fields))


def test_a_sweep_is_a_row_for_each_value_and_every_combination_of_two() -> None:
    wanted = [METHODS["wise-ft"], METHODS["ft"]]
    assert sweeps(["wise-ft.alpha=0,0.5"], wanted) == {"wise-ft": [{"alpha": 0.0}, {"alpha": 0.5}]}
    both = sweeps(["wise-ft.alpha=0,1", "finetune.lr=1e-4,1e-3"], wanted)
    assert both["wise-ft"] == [{"alpha": a, "lr": lr} for a in (0.0, 1.0) for lr in (1e-4, 1e-3)]
    assert both["ft"] == [{"lr": 1e-4}, {"lr": 1e-3}]


def test_a_sweep_that_means_nothing_is_refused_as_the_option_it_is() -> None:
    with pytest.raises(UserError, match=r"--sweep 'ft\.alpha=0': 'ft' has no field 'alpha'"):
        sweeps(["ft.alpha=0,1"], [METHODS["ft"]])


def test_a_form_is_tuned_on_the_first_validation_suite_that_admits_it() -> None:
    where = {
        form.name: next(name for name in tune.SUITES if form.method.setting in cards.suite(name).admits)
        for form in METHODS.values()
    }
    assert {where[name] for name in ("lp-all", "ft", "rada-ft")} == {"validation-finetune"}
    assert {where[name] for name in ("zs-lp", "tpt", "rada-dagger")} == {"validation"}
