from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import clip_logits, cross_entropy, logistic_objective, softmax, train_in_one_batch

import methods.linear_probe
from bench.api import NotRunnable, Support
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, classes_of, still, support_of
from methods.linear_probe import CLAP, LinearProbe, TextProbe, class_prices

BACKBONE = LinearBackbone()
SUPPORT = support_of(BACKBONE)
RNG = torch.Generator()


def plain_support(x: torch.Tensor, y: torch.Tensor, k: int) -> Support:
    return Support(classes_of(k), x, y, lambda copies: x[:, None])


def slopes(weight, bias, x, y, C):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    return torch.autograd.grad(logistic_objective(weight, bias, x, y, C), (weight, bias))


def test_two_points_by_hand():
    # x = -1 and 1: W = (-w, w) with w = 2 C sigma(-2 w); w = 1/2 for C = 1 / (4 sigma(-1)); no intercept, by symmetry
    C = float(0.25 / torch.sigmoid(torch.tensor(-1.0, dtype=torch.float64)))
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    state = LinearProbe(C=C, tolerance=1e-10).fit(plain_support(x, torch.tensor([0, 1]), 2), BACKBONE, RNG)
    assert torch.allclose(state["weight"], torch.tensor([[-0.5], [0.5]], dtype=torch.float64), atol=1e-8)
    assert state["bias"].abs().max() < 1e-8


@settings(deadline=None, max_examples=20)
@given(
    st.integers(2, 5),
    st.integers(1, 6),
    st.sampled_from([2, 7, 40]),
    st.sampled_from([1e-4, 1.0, 1e2]),
    st.integers(0, 99),
)
def test_the_gradient_of_the_literal_objective_vanishes_at_the_solution(k, shots, dim, C, seed):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(k * shots, dim, generator=rng, dtype=torch.float64) + 3
    y = torch.arange(k).repeat_interleave(shots)
    state = LinearProbe(C=C, tolerance=1e-10).fit(plain_support(x, y, k), BACKBONE, RNG)
    for slope in slopes(state["weight"], state["bias"], x, y, C):
        assert slope.abs().max() / (C * len(y)) < 1e-7


def test_the_default_tolerance_is_close_to_the_minimum():
    x, y = SUPPORT.features, SUPPORT.labels
    rough = LinearProbe(C=1.0).fit(SUPPORT, BACKBONE, RNG)
    exact = LinearProbe(C=1.0, tolerance=1e-12).fit(SUPPORT, BACKBONE, RNG)
    gap = logistic_objective(rough["weight"], rough["bias"], x, y, 1.0) - logistic_objective(
        exact["weight"], exact["bias"], x, y, 1.0
    )
    assert -1e-9 <= float(gap) < 1e-4


def test_a_solution_does_not_depend_on_where_the_path_came_from():
    solve = methods.linear_probe.Solver(SUPPORT, 1000, 1e-12)
    solve(1e4)
    warm, cold = solve(1e-2), methods.linear_probe.Solver(SUPPORT, 1000, 1e-12)(1e-2)
    assert torch.allclose(warm[0], cold[0], atol=1e-7)


def literal_search(score) -> float:
    """The search of the release: coarse list, first maximum, then eight bisections that keep the better end."""
    coarse = [1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6]
    scores = [score(C) for C in coarse]
    peak = coarse[scores.index(max(scores))]
    left, right, best = 0.1 * peak, 10 * peak, peak
    for _ in range(8):
        middle = 10 ** ((torch.tensor([left, right], dtype=torch.float64).log10()).mean().item())
        if score(left) < score(right):
            best, left = right, middle
        else:
            best, right = left, middle
    return best


@pytest.mark.parametrize("centre", [-5.3, -0.7, 0.0, 1.5, 3.1, 6.0])
def test_the_search_goes_where_the_released_one_goes(centre, monkeypatch):
    def count(C: float) -> int:
        return int(1000 - 100 * abs(torch.tensor(C, dtype=torch.float64).log10().item() - centre))

    class Fake:
        """Classifies as many of 1000 validation pictures rightly as the score says."""

        def __init__(self, *_):
            pass

        def __call__(self, C):
            return torch.tensor([[0.0], [1.0]]).double(), torch.tensor([0.0, -count(C) - 0.5]).double()

    monkeypatch.setattr(methods.linear_probe, "Solver", Fake)
    points = torch.arange(1.0, 1001.0)[:, None]
    val = plain_support(points, torch.zeros(1000, dtype=torch.int64), 2)
    support = replace(plain_support(points, torch.zeros(1000, dtype=torch.int64), 2), val=val)
    state = LinearProbe().fit(support, BACKBONE, RNG)
    assert state["bias"][1] == -count(literal_search(count)) - 0.5


def test_answers_are_for_features_as_they_come():
    """Not normalised: W and b act on the raw feature."""
    state = LinearProbe().fit(SUPPORT, BACKBONE, RNG)
    batch = batch_of(BACKBONE, n=3)
    logits = LinearProbe().predictor(state, SUPPORT.classes, BACKBONE, RNG)(batch)
    expected = [[float((w * f).sum() + b) for w, b in zip(*state.values(), strict=True)] for f in batch.features]
    assert torch.allclose(logits, torch.tensor(expected, dtype=torch.float64), atol=1e-10)


def test_weak_regularisation_separates_what_is_separable():
    state = LinearProbe(C=1e4).fit(SUPPORT, BACKBONE, RNG)
    logits = SUPPORT.features @ state["weight"].T + state["bias"]
    assert torch.equal(logits.argmax(1), SUPPORT.labels)


def test_without_validation_pictures_it_says_what_to_do():
    with pytest.raises(NotRunnable, match="set the field C"):
        LinearProbe().fit(replace(SUPPORT, val=None), BACKBONE, RNG)
    assert LinearProbe(C=1.0).fit(replace(SUPPORT, val=None), BACKBONE, RNG)["weight"].isfinite().all()
    assert (LinearProbe().selection, LinearProbe(C=1.0).selection) == ("few-val", "fixed")


@pytest.mark.parametrize("method", [LinearProbe(), TextProbe(epochs=1), CLAP(epochs=1)])
def test_other_classes_are_refused(method):
    state = method.fit(SUPPORT, BACKBONE, RNG)
    with pytest.raises(NotRunnable, match="tied to the classes"):
        method.predictor(state, classes_of(4), BACKBONE, RNG)


def test_the_price_of_a_class_by_hand():
    logits = torch.tensor([[0.0, 0.0, -1e9], [0.0, -1e9, 0.0], [-1e9, 0.0, -1e9]])
    prices = class_prices(logits, torch.tensor([0, 0, 1]))  # true-class probabilities 1/2, 1/2 and 1; class 2 unseen
    assert prices.tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("method", [TextProbe(batch=1000, epochs=4, augment=3), CLAP(batch=1000, epochs=4, augment=3)])
def test_training_from_the_text_follows_the_literal_loop(method):
    """One batch holds the pool of all views, so the order of the pictures does not matter."""
    text, s = BACKBONE.text_features(SUPPORT.classes), BACKBONE.scale
    pool, labels = SUPPORT.augment(3).reshape(-1, BACKBONE.dim), SUPPORT.labels.repeat_interleave(3)
    zero_shot = clip_logits(pool, text, s)
    price = [
        torch.stack([softmax(row)[k] for row, y in zip(zero_shot, labels, strict=True) if y == k]).mean()
        for k in range(len(text))
    ]
    weight = text.clone().requires_grad_()

    def loss(x, y):
        penalty = sum(a * (w - t).pow(2).sum() for a, w, t in zip(price, weight, text, strict=True)) / len(text)
        return cross_entropy(clip_logits(x, weight, s), y) + (penalty if isinstance(method, CLAP) else 0)

    optimiser = torch.optim.SGD([weight], lr=method.lr, momentum=0.9)
    train_in_one_batch([weight], optimiser, loss, pool[:, None], labels, 4, method.lr)
    state = method.fit(SUPPORT, BACKBONE, torch.Generator().manual_seed(0))
    assert torch.allclose(state["weight"], weight.detach(), atol=1e-10)
    batch = batch_of(BACKBONE)
    logits = method.predictor(state, SUPPORT.classes, BACKBONE, RNG)(batch)
    assert torch.allclose(logits, clip_logits(batch.features, weight, s), atol=1e-9)


def test_clap_stays_nearer_to_the_text_than_zs_lp():
    text = BACKBONE.text_features(SUPPORT.classes)
    free, held = (m.fit(SUPPORT, BACKBONE, torch.Generator().manual_seed(0))["weight"] for m in (TextProbe(), CLAP()))
    assert (held - text).norm() < 0.7 * (free - text).norm()


def test_a_bundle_without_augmented_views_is_its_own_pool():
    state = TextProbe(epochs=2).fit(still(SUPPORT), BACKBONE, torch.Generator().manual_seed(0))
    other = TextProbe(epochs=2, augment=0).fit(SUPPORT, BACKBONE, torch.Generator().manual_seed(0))
    assert torch.equal(state["weight"], other["weight"])


def test_parameter_counts():
    backbone = LinearBackbone(dim=512)
    assert LinearProbe().parameters(backbone, 59) == 59 * 513
    assert TextProbe().parameters(backbone, 59) == CLAP().parameters(backbone, 59) == 59 * 512
