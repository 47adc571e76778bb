"""The contract over every registered form: what an author of a new method gets checked without writing a test.

A form fails here with its name in the test's id. Each check runs on a small exact backbone (float64) and on a real,
random open_clip model (float32); for methods that look at pixels both are a CLIP of small transformers.
"""

import dataclasses
import importlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import LinearBackbone, batch_of, classes_of, still, support_of

import methods
from bench.api import (
    METHODS,
    SETTINGS,
    Backbone,
    Batch,
    Form,
    NotRunnable,
    Phases,
    State,
    UserError,
    as_fitted,
    measured,
    register,
)

FORMS = sorted(METHODS)
LEARNING = [name for name in FORMS if METHODS[name].method.setting.startswith(("few-shot", "fine-tune"))]
ADAPTING = [name for name in FORMS if METHODS[name].family in ("tpt", "rada") and "views" in METHODS[name].method.needs]
NEEDS = {"features", "views", "pixels", "text", "images"}
EXPECTED_ORDER = ["zero-shot", "linear-probe", "coop", "clip-adapter", "maple", "prompt-src", "clip-lora"]
EXPECTED_ORDER += ["tpt", "rada", "finetune"]


def backbone_for(kind: str, request: pytest.FixtureRequest) -> Backbone:
    """What the form in the test's parameters is tried on."""
    if "pixels" in METHODS[request.node.callspec.params["name"]].method.needs:
        return request.getfixturevalue("vits")[kind]
    return LinearBackbone() if kind == "exact" else request.getfixturevalue("tiny")


@pytest.fixture(params=["exact", "real"])
def backbone(request) -> Backbone:
    return backbone_for(request.param, request)


@pytest.fixture
def exact(request) -> Backbone:
    return backbone_for("exact", request)


def quick(name: str) -> Form:
    """The form with so few epochs and so short a context that it takes milliseconds here."""
    form = METHODS[name]
    known = {f.name for f in dataclasses.fields(form.method)}  # type: ignore[arg-type]
    short = {"epochs": 2, "augment": 2} | ({"length": 6} if name in ("coop-m16", "coop-csc") else {})
    if form.method.setting == "fine-tune" or "pixels" in form.method.needs:
        short |= {"batch": 10, "warmup": 1}
    if name == "clip-lora":
        short |= {"iterations": 1}
    return form.with_fields(**{key: value for key, value in short.items() if key in known})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(form: Form, support, backbone, seed: int = 0) -> State:
    return form.method.fit(support, backbone, seeded(seed)) if form.name in LEARNING else {}


def answers(form: Form, backbone, support, batch: Batch, classes=None, seed: int = 0) -> torch.Tensor:
    state = fitted(form, support, backbone, seed)
    return form.method.predictor(state, classes or support.classes, backbone, seeded(seed + 1))(batch)


def tolerance(batch: Batch) -> float:
    return 1e-9 if batch.features.dtype == torch.float64 else 5e-3


# -- what a form says of itself ---------------------------------------------------------------------------------------


def test_the_files_of_the_folder_are_the_methods_registered():
    files = {f"methods.{p.stem}" for p in Path(methods.__file__).parent.glob("*.py") if not p.stem.startswith("_")}
    assert files == {type(form.method).__module__ for form in METHODS.values()}, (
        "name the new file in methods/__init__.py"
    )


def test_the_families_stand_in_leaderboard_order():
    assert list(dict.fromkeys(form.family for form in METHODS.values())) == EXPECTED_ORDER


@pytest.mark.parametrize("name", FORMS)
def test_a_form_declares_what_the_harness_asks(name):
    form = METHODS[name]
    method = form.method
    assert dataclasses.is_dataclass(method)
    assert type(method).__dataclass_params__.frozen, "declare the dataclass with frozen=True"
    hash(method)
    assert form.title
    assert method.needs <= NEEDS
    assert method.needs & {"features", "pixels"}
    assert method.setting in SETTINGS
    assert isinstance(method.transfers, bool)
    assert method.online is False
    assert method.selection in ("fixed", "few-val")
    assert ("views" in method.needs) == method.setting.endswith("test-time")


@pytest.mark.parametrize("name", FORMS)
def test_the_docstring_gives_the_command(name):
    form = METHODS[name]
    text = importlib.import_module(type(form.method).__module__).__doc__ or ""
    commands = [f"python -m bench run --methods {word} --suite " for word in (form.family, form.name)]
    assert any(command in text for command in commands), "a method's docstring ends with its command"


@pytest.mark.parametrize("name", FORMS)
def test_every_search_space_has_the_same_size_and_holds_valid_fields(name):
    form = METHODS[name]
    grid = form.method.grid
    combinations = list(itertools.product(*grid.values())) if grid else []
    assert len(combinations) in (0, 6), "equal budgets: 6 combinations, or none where nothing is chosen"
    for values in combinations:
        form.with_fields(**dict(zip(grid, values, strict=True)))
    for field, values in grid.items():
        assert form.hyper_parameters()[field] in values, f"the published {field} belongs in its own search space"


def test_two_methods_cannot_share_a_name():
    with pytest.raises(ValueError, match="two methods"):
        register("tpt", title="another")(type(METHODS["tpt"].method))


# -- what a form does -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_logits_are_finite_one_row_a_picture_and_one_column_a_class(name, backbone):
    batch = batch_of(backbone)
    logits = answers(quick(name), backbone, support_of(backbone), batch)
    assert logits.shape == (6, 5)
    assert logits.isfinite().all()
    assert logits.dtype == batch.features.dtype
    assert not logits.requires_grad


@pytest.mark.parametrize("name", FORMS)
def test_the_state_is_what_was_learnt_and_nothing_else(name, backbone):
    form = quick(name)
    support = support_of(backbone)
    state = form.method.fit(support, backbone, seeded())
    assert not any(tensor.requires_grad for tensor in state.values())
    assert all(tensor.dtype == support.features.dtype for tensor in state.values())
    learnt = sum(tensor.numel() for tensor in state.values())
    if name in LEARNING:
        assert learnt == form.method.parameters(backbone, 5)
    else:
        assert learnt == 0
        assert form.method.parameters(backbone, 5) == form.method.parameters(backbone, 7)


@pytest.mark.parametrize("name", FORMS)
def test_the_same_seed_gives_the_same_answers_and_the_global_stream_is_untouched(name, backbone):
    form, support, batch = quick(name), support_of(backbone), batch_of(backbone)
    before = torch.get_rng_state()
    first = answers(form, backbone, support, batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, answers(form, backbone, support, batch))


@pytest.mark.parametrize(
    "name",
    ["coop-m16", "coop-csc", "clip-adapter", "rada-eft", "rada-adapter", "rada-ttt", "rada-dagger"]
    + [name for name in FORMS if METHODS[name].method.setting == "fine-tune"],
)
def test_another_seed_gives_other_answers_where_something_is_random(name, exact):
    support, batch, form = support_of(exact), batch_of(exact), quick(name)
    form = form.with_fields(lr=0.05)
    assert not torch.equal(answers(form, exact, support, batch), answers(form, exact, support, batch, seed=10))


@pytest.mark.parametrize("name", FORMS)
def test_a_picture_is_answered_alike_alone_in_a_batch_and_in_any_order(name, backbone):
    form, support, batch = quick(name), support_of(backbone), batch_of(backbone)
    state = fitted(form, support, backbone)

    def ask(rows: list[int]) -> torch.Tensor:
        predict = form.method.predictor(state, support.classes, backbone, seeded(1))
        pixels = None if batch.pixels is None else batch.pixels[rows]
        return predict(Batch(tuple(batch.ids[i] for i in rows), batch.features[rows], batch.views[rows], pixels))

    whole, order = ask(list(range(6))), [4, 0, 3, 5, 1, 2]
    permuted, alone = ask(order), torch.cat([ask([i]) for i in range(6)])
    assert torch.allclose(permuted, whole[order], atol=tolerance(batch))
    assert torch.allclose(alone, whole, atol=tolerance(batch))


@pytest.mark.parametrize("name", FORMS)
def test_two_predictors_do_not_disturb_each_other(name, backbone):
    form, support, batch = quick(name), support_of(backbone), batch_of(backbone)
    state = fitted(form, support, backbone)
    predict = form.method.predictor(state, support.classes, backbone, seeded(1))
    first = predict(batch)
    form.method.predictor(state, support.classes, backbone, seeded(1))(batch_of(backbone, seed=99))
    assert torch.equal(predict(batch), first)


@pytest.mark.parametrize("name", FORMS)
def test_the_order_of_the_classes_only_permutes_the_logits(name, backbone):
    form, support, batch = quick(name), support_of(backbone), batch_of(backbone)
    order = [3, 0, 4, 2, 1]
    straight = answers(form, backbone, support, batch)
    if form.method.transfers:
        permuted = answers(form, backbone, support, batch, support.classes.permuted(order))
    elif name == "coop-csc":
        pytest.skip("its random start belongs to the position of a class, so another order is another start")
    else:
        place = torch.tensor(order).argsort()
        val = replace(support.val, labels=place[support.val.labels], classes=support.classes.permuted(order))
        other = replace(support, labels=place[support.labels], classes=val.classes, val=val)
        permuted = answers(form, backbone, other, batch)
    if form.method.selection == "few-val":
        # rounding may tip the search for C to a neighbour of equal score, so the answers count and not the digits
        assert (permuted.argmax(1) == straight[:, order].argmax(1)).double().mean() >= 0.8
        return
    # in float32 other rounding of a gradient near zero becomes another sign, and AdamW a step in the other direction
    loose = 0.05 if name in ADAPTING and batch.features.dtype == torch.float32 else tolerance(batch)
    assert torch.allclose(permuted, straight[:, order], atol=loose)


@pytest.mark.parametrize("name", FORMS)
def test_one_picture_two_classes_and_equal_names_are_fine(name, backbone):
    support = support_of(backbone, k=2, shots=1)
    twins = replace(support.classes, names=("owl", "owl"))
    for classes in (support.classes, twins):
        logits = answers(quick(name), backbone, replace(support, classes=classes), batch_of(backbone, k=2, n=1))
        assert logits.shape == (1, 2)
        assert logits.isfinite().all()
    if quick(name).method.setting in ("zero-shot", "test-time"):
        assert torch.allclose(logits[:, 0], logits[:, 1], atol=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_nothing_that_was_handed_in_is_changed(name, backbone):
    """Frozen parameters, features, views and labels are the same bit for bit after fitting and answering."""
    form, support, batch = quick(name), support_of(backbone), batch_of(backbone)
    handed = [support.features, support.labels, batch.features, batch.views, backbone.scale]
    handed += list(backbone.model.state_dict().values()) if hasattr(backbone, "model") else [backbone.layer]
    before = [tensor.clone() for tensor in handed]
    state = fitted(form, support, backbone)
    kept = {key: tensor.clone() for key, tensor in state.items()}
    form.method.predictor(state, support.classes, backbone, seeded())(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, handed, strict=True))
    assert all(torch.equal(kept[key], state[key]) for key in kept)
    assert (
        all(parameter.grad is None for parameter in backbone.model.parameters()) if hasattr(backbone, "model") else True
    )


@pytest.mark.parametrize("name", FORMS)
def test_no_gradients_need_to_be_switched_on_around_it(name, exact):
    form, support, batch = quick(name), support_of(exact), batch_of(exact)
    with torch.no_grad():
        inside = answers(form, exact, support, batch)
    assert torch.equal(inside, answers(form, exact, support, batch))


@pytest.mark.parametrize("name", FORMS)
def test_the_steps_on_a_test_picture_are_booked_as_adaptation(name, exact):
    form, support = quick(name), support_of(exact)
    predict = form.method.predictor(fitted(form, support, exact), support.classes, exact, seeded())
    with measured(Phases()) as phases:
        predict(batch_of(exact, n=1))
    assert set(phases.seconds) == ({"adapt"} if name in ADAPTING else set())


@pytest.mark.parametrize("name", LEARNING)
def test_a_support_without_augmented_views_serves_as_well(name, exact):
    logits = answers(quick(name), exact, still(support_of(exact)), batch_of(exact))
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", LEARNING)
def test_a_class_that_the_support_does_not_show_still_gets_a_logit(name, exact):
    support = replace(support_of(exact, k=4), classes=classes_of(5))
    support = replace(support, val=replace(support.val, classes=classes_of(5)))
    logits = answers(quick(name), exact, support, batch_of(exact))
    assert logits.shape == (6, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", [name for name in LEARNING if METHODS[name].method.transfers])
def test_a_form_that_transfers_answers_with_classes_it_has_not_seen(name, backbone):
    form = quick(name)
    state = fitted(form, support_of(backbone), backbone)
    new = classes_of(8).permuted([5, 6, 7])
    logits = form.method.predictor(state, new, backbone, seeded())(batch_of(backbone))
    assert logits.shape == (6, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", [name for name in FORMS if not METHODS[name].method.transfers])
def test_a_form_that_does_not_transfer_says_so(name, exact):
    form = quick(name)
    state = fitted(form, support_of(exact), exact)
    with pytest.raises(NotRunnable, match="tied to the classes"):
        form.method.predictor(state, classes_of(8), exact, seeded())


ANSWERING = [
    (name, f.name)
    for name in FORMS
    for f in dataclasses.fields(METHODS[name].method)  # type: ignore[arg-type]
    if not f.metadata.get("fit", True)
]


@pytest.mark.parametrize(("name", "field"), ANSWERING)
def test_a_field_that_only_answers_leaves_what_is_learnt_alone(name, field, exact):
    """So that forms which differ in it can share one fit."""
    form, support = quick(name), support_of(exact)
    other = form.with_fields(**{field: form.hyper_parameters()[field] / 2})
    assert as_fitted(form.method) == as_fitted(other.method)
    mine, theirs = (fitted(one, support, exact) for one in (form, other))
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    first, second = (one.method.predictor(mine, support.classes, exact, seeded()) for one in (form, other))
    assert not torch.equal(first(batch_of(exact)), second(batch_of(exact)))


def test_a_batch_holds_nothing_but_pictures():
    """No label can reach a method: there is no field for one."""
    assert [f.name for f in dataclasses.fields(Batch)] == ["ids", "features", "views", "pixels"]


@pytest.mark.parametrize("name", ["coop-m16", "tpt", "coop-tpt"])
def test_an_unknown_field_is_refused(name):
    with pytest.raises((TypeError, UserError)):
        METHODS[name].with_fields(learning_rate=1.0)
