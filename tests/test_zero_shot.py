import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import clip_logits, mean_softmax, surest

from bench.api import METHODS, Batch, Classes
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, classes_of
from methods._training import confident, entropy_of_mean, log_mean
from methods.zero_shot import SHORT_LIST, ViewMean, ZeroShot

BACKBONE = LinearBackbone()
RNG = torch.Generator()


class Axes:
    """Two classes whose texts are the two axes; scale 10."""

    dim, scale = 2, torch.tensor(10.0)

    def text_features(self, classes, templates=None):
        return torch.eye(2)


def test_logits_are_the_scaled_cosines():
    batch = Batch(("a", "b"), torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
    logits = ZeroShot().predictor({}, classes_of(2), Axes(), RNG)(batch)
    assert torch.allclose(logits, torch.tensor([[6.0, 8.0], [0.0, -10.0]]))


@pytest.mark.parametrize("templates", [None, SHORT_LIST])
def test_logits_follow_the_equation_for_one_template_and_for_the_ensemble(templates):
    classes, batch = classes_of(5), batch_of(BACKBONE)
    text = BACKBONE.text_features(classes, templates)
    logits = ZeroShot(templates).predictor({}, classes, BACKBONE, RNG)(batch)
    assert torch.allclose(logits, clip_logits(batch.features, text, BACKBONE.scale), atol=1e-12)


def test_the_ensemble_differs_from_the_single_template_and_needs_the_text_tower():
    one, seven = METHODS["zero-shot"].method, METHODS["zero-shot-ensemble"].method
    answers = [form.predictor({}, classes_of(5), BACKBONE, RNG)(batch_of(BACKBONE)) for form in (one, seven)]
    assert not torch.allclose(*answers)
    assert len(SHORT_LIST) == 7
    assert (one.needs, seven.needs) == ({"features"}, {"features", "text"})


def test_the_templates_of_the_card_are_the_default():
    other = Classes(classes_of(5).names, ("an owl beside a {}.",), classes_of(5).rows)
    answers = [ZeroShot().predictor({}, c, BACKBONE, RNG)(batch_of(BACKBONE)) for c in (classes_of(5), other)]
    assert not torch.allclose(*answers)


def test_the_mean_of_two_views_by_hand():
    # cosines (1, 0) and (0.6, 0.8) at scale 10: softmax of (10, 0) and of (6, 8)
    views = torch.tensor([[[2.0, 0.0], [3.0, 4.0]]])
    first, second = 1 / (1 + torch.e**-10), 1 / (1 + torch.e**2)
    logits = ViewMean().predictor({}, classes_of(2), Axes(), RNG)(Batch(("a",), views[:, 0], views))
    assert torch.allclose(logits.exp(), torch.tensor([[(first + second) / 2, 1 - (first + second) / 2]]))
    surest_only = ViewMean(keep=0.5).predictor({}, classes_of(2), Axes(), RNG)(Batch(("a",), views[:, 0], views))
    assert torch.allclose(surest_only.exp(), torch.tensor([[first, 1 - first]]))


@pytest.mark.parametrize("keep", [1.0, 0.1, 0.35])
def test_logits_are_the_logarithm_of_the_mean_probability_of_the_kept_views(keep):
    classes, batch = classes_of(5), batch_of(BACKBONE)
    text = BACKBONE.text_features(classes)
    logits = ViewMean(keep).predictor({}, classes, BACKBONE, RNG)(batch)
    for row, views in zip(logits, batch.views, strict=True):
        seen = clip_logits(views, text, BACKBONE.scale)
        assert torch.allclose(row.exp(), mean_softmax(seen[surest(seen, keep)]), atol=1e-12)


def test_one_view_averaged_is_zero_shot():
    classes, batch = classes_of(5), batch_of(BACKBONE, views=1)
    mean = ViewMean(0.1).predictor({}, classes, BACKBONE, RNG)(batch)
    plain = ZeroShot().predictor({}, classes, BACKBONE, RNG)(batch)
    assert torch.allclose(mean, plain.log_softmax(1), atol=1e-12)


def test_six_of_sixty_four_views_are_a_tenth():
    assert len(confident(torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), 0.1)) == 6


@given(st.integers(1, 70), st.integers(2, 6), st.floats(0.01, 1.0), st.integers(0, 1000))
def test_the_kept_views_are_those_of_least_entropy(views, k, keep, seed):
    logits = 5 * torch.randn(views, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    kept = confident(logits, keep)
    assert len(kept) == max(1, int(views * keep))
    assert entropy[kept].max() <= entropy.sort().values[len(kept) - 1] + 1e-12


@given(st.integers(1, 9), st.integers(2, 6), st.floats(0.0, 300.0), st.integers(0, 1000))
def test_the_entropy_of_the_mean_is_exact_and_finite_for_any_confidence(views, k, size, seed):
    logits = size * torch.randn(views, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits.requires_grad_()
    p = logits.softmax(1).mean(0)
    expected = -(p * p.clamp(min=1e-300).log()).sum()
    assert torch.allclose(entropy_of_mean(logits), expected, atol=1e-10)
    assert torch.allclose(log_mean(logits).exp(), p, atol=1e-12)
    (slope,) = torch.autograd.grad(entropy_of_mean(logits), logits)
    assert slope.isfinite().all()
