import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import tpt_answer

from bench.api import METHODS, Batch, NotRunnable, Phases, measured
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, classes_of, support_of
from methods import tpt
from methods._training import adamw
from methods.coop import CoOp
from methods.tpt import TPT, CoOpTPT

BACKBONE = LinearBackbone()
RNG = torch.Generator()


class Watched(LinearBackbone):
    """Keeps every context whose texts were encoded, one by one."""

    def prompts(self, classes, length, position="end"):
        seen, text = [], super().prompts(classes, length, position)
        self.seen = seen

        class Prompts:
            def __call__(self, contexts):
                seen.extend(context[0] for context in contexts.detach().clone())
                return text(contexts)

            def vjp(self, context):
                seen.append(context)
                return text.vjp(context)

        return Prompts()


@settings(deadline=None)
@given(st.integers(1, 5), st.floats(1e-4, 0.5), st.floats(0.0, 0.2), st.floats(-12, 2), st.integers(0, 99))
def test_adamw_as_a_function_is_torchs(steps, lr, decay, size, seed):
    rng = torch.Generator().manual_seed(seed)
    gradients = 10**size * torch.randn(steps, 4, 3, generator=rng, dtype=torch.float64)
    start = torch.randn(4, 3, generator=rng, dtype=torch.float64)
    parameter = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([parameter], lr=lr, weight_decay=decay)
    values, moments = {"v": start}, {}
    for step, gradient in enumerate(gradients, 1):
        parameter.grad = gradient.clone()
        optimiser.step()
        values = adamw(values, {"v": gradient}, moments, step, lr, decay)
    assert torch.allclose(values["v"], parameter.detach(), rtol=1e-10, atol=1e-12)


def test_a_value_without_a_gradient_decays_as_one_whose_gradient_is_zero():
    start = {"v": torch.tensor([1.0, -2.0])}
    left_out = adamw(start, {}, {}, 1, 0.1, 0.5)["v"]
    assert torch.equal(left_out, adamw(start, {"v": torch.zeros(2)}, {}, 1, 0.1, 0.5)["v"])
    assert torch.allclose(left_out, torch.tensor([0.95, -1.9]))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("keep", "lr"), [(0.1, 5e-3), (0.5, 5e-2)])
def test_an_episode_follows_the_literal_one(steps, keep, lr):
    batch, classes = batch_of(BACKBONE), classes_of(5)
    answers = TPT(keep=keep, steps=steps, lr=lr).predictor({}, classes, BACKBONE, RNG)(batch)
    start = BACKBONE.embed("a photo of a")
    for answer, views in zip(answers, batch.views, strict=True):
        expected = tpt_answer(BACKBONE, classes, start, views, keep, steps, lr, 1e-2)
        assert torch.allclose(answer, expected, atol=1e-9)


@pytest.mark.parametrize("lr", [5e-3, 5e-2])
def test_the_first_step_moves_every_coordinate_of_the_context_by_lr(lr):
    backbone = Watched()
    TPT(lr=lr).predictor({}, classes_of(5), backbone, RNG)(batch_of(backbone, n=3))
    start, *tuned = backbone.seen
    assert len(tuned) == 3
    for context in tuned:
        moved = context - start * (1 - lr * 1e-2)  # the decay apart
        assert torch.allclose(moved.abs(), torch.full_like(moved, lr), rtol=1e-3)


def test_the_text_is_encoded_once_for_all_pictures_and_once_for_each():
    backbone = Watched()
    TPT().predictor({}, classes_of(5), backbone, RNG)(batch_of(backbone, n=4))
    assert len(backbone.seen) == 1 + 4


@pytest.mark.parametrize("steps", [1, 3])
def test_pictures_that_are_tuned_together_get_the_answers_they_get_alone(steps, monkeypatch):
    batch, classes = batch_of(BACKBONE, n=7), classes_of(5)
    alone, together = [], []
    for most, answers in ((1, alone), (15, together)):  # one picture, three pictures of five classes
        monkeypatch.setattr(tpt, "TOGETHER", most)
        answers.append(TPT(steps=steps, lr=2e-2).predictor({}, classes, BACKBONE, RNG)(batch))
    assert torch.allclose(alone[0], together[0], atol=1e-9)


@pytest.mark.parametrize("chunk", [2, 512])
def test_the_kept_forward_pass_gives_every_slope_its_gradient(tiny, chunk):
    tiny.text_chunk = chunk
    context = tiny.embed("a photo of a")
    text = tiny.prompts(classes_of(5), 4)
    features, back = text.vjp(context)
    slopes = torch.randn(3, *features.shape, generator=torch.Generator().manual_seed(0))
    found, first = back(slopes), back(slopes[:1])
    for slope, gradient in zip(slopes, found, strict=True):
        leaf = context.clone().requires_grad_()
        (expected,) = torch.autograd.grad(text(leaf), leaf, slope)
        assert (gradient - expected).abs().max() < 2e-5 * expected.abs().max()
    assert torch.allclose(first[0], found[0], rtol=1e-4, atol=1e-5)
    assert not features.requires_grad


def test_the_answer_is_for_view_zero():
    batch, classes = batch_of(BACKBONE, n=2), classes_of(5)
    predict = TPT(lr=1e-9, weight_decay=0.0).predictor({}, classes, BACKBONE, RNG)
    zero_shot = METHODS["zero-shot"].method.predictor({}, classes, BACKBONE, RNG)
    # "a photo of a" and the name and a point is also the card's template, apart from its first vectors being learnt
    text = BACKBONE.prompts(classes, 4)(BACKBONE.embed("a photo of a"))
    f = torch.nn.functional.normalize(batch.views[:, 0], dim=-1)
    assert torch.allclose(predict(batch), BACKBONE.scale * f @ torch.nn.functional.normalize(text, dim=-1).T, atol=1e-5)
    assert predict(batch).shape == zero_shot(batch).shape


def test_coop_tpt_is_coops_fit_and_then_tpts_episode():
    support, batch = support_of(BACKBONE), batch_of(BACKBONE)
    form = CoOpTPT(fit_lr=0.05, epochs=3, lr=2e-2)
    state = form.fit(support, BACKBONE, torch.Generator().manual_seed(3))
    coop = CoOp(4, "a photo of a", lr=0.05, epochs=3).fit(support, BACKBONE, torch.Generator().manual_seed(3))
    assert torch.equal(state["context"], coop["context"])
    answers = form.predictor(state, support.classes, BACKBONE, RNG)(batch)
    expected = tpt_answer(BACKBONE, support.classes, state["context"], batch.views[0], 0.1, 1, 2e-2, 1e-2)
    assert torch.allclose(answers[0], expected, atol=1e-9)


def test_coop_tpt_without_a_learnt_context_is_not_runnable():
    with pytest.raises(NotRunnable, match="labelled pictures"):
        CoOpTPT().predictor({}, classes_of(5), BACKBONE, RNG)


def test_only_the_steps_count_as_adaptation():
    phases = Phases()
    predict = TPT().predictor({}, classes_of(5), BACKBONE, RNG)
    with measured(phases):
        predict(batch_of(BACKBONE, n=2))
    assert set(phases.seconds) == {"adapt"}


def test_on_a_real_text_tower_the_kept_graph_gives_the_literal_episode(tiny):
    """Float32: the sign of a near-zero gradient may differ, so the logits agree to what a few coordinates move them."""
    classes = classes_of(3)
    rng = torch.Generator().manual_seed(0)
    views = torch.randn(2, 20, tiny.dim, generator=rng)
    before = tiny.counts
    tiny.counts = type(before)()
    answers = TPT().predictor({}, classes, tiny, RNG)(Batch(("a", "b"), views[:, 0], views))
    assert tiny.counts.texts == 3 + 2 * 3  # the classes once for all, then once for each picture
    assert tiny.counts.text_backwards == 2 * 3
    tiny.counts = before
    for answer, seen in zip(answers, views, strict=True):
        expected = tpt_answer(tiny, classes, tiny.embed("a photo of a"), seen, 0.1, 1, 5e-3, 1e-2)
        assert torch.allclose(answer, expected, atol=2e-3)


def test_parameter_count():
    backbone = LinearBackbone(width=512)
    assert TPT().parameters(backbone, 10) == CoOpTPT().parameters(backbone, 10) == 2048
