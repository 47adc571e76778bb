import torch
from reference import clip_logits, cross_entropy, train_in_one_batch

import methods._training
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, support_of
from methods.clip_adapter import ClipAdapter
from methods.zero_shot import ZeroShot

BACKBONE = LinearBackbone()
SUPPORT = support_of(BACKBONE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def literal(features, down, up, ratio):
    """The adapted features, one picture at a time, not normalised."""
    rows = []
    for f in features:
        hidden = torch.clamp(down @ f, min=0)
        rows.append(ratio * torch.clamp(up @ hidden, min=0) + (1 - ratio) * f)
    return torch.stack(rows)


def initial(method, monkeypatch, seed=0):
    """The weights before any training."""
    with monkeypatch.context() as patch:
        patch.setattr(methods._training, "train", lambda *_, **__: None)
        return {name: weight.clone() for name, weight in method.fit(SUPPORT, BACKBONE, seeded(seed)).items()}


def test_a_feature_by_hand():
    # D = 4, one hidden unit: 1 - 2 + 0 + 3 = 2, times (1, -1, 0, 2) and ReLU gives (2, 0, 0, 4); the mean of that and f
    weights = {"down": torch.tensor([[1.0, 1.0, 1.0, 1.0]]), "up": torch.tensor([[1.0], [-1.0], [0.0], [2.0]])}
    f = torch.tensor([[1.0, -2.0, 0.0, 3.0]])
    mixed = torch.tensor([[1.5, -1.0, 0.0, 3.5]])
    assert torch.allclose(ClipAdapter(ratio=0.5).adapted(f, weights), mixed / mixed.norm())


def test_training_follows_the_literal_loop(monkeypatch):
    """The support fits one batch, so the order of the pictures does not matter."""
    method = ClipAdapter(lr=0.05, batch=1000, epochs=4, augment=3)
    weights = [w.requires_grad_() for w in initial(method, monkeypatch).values()]
    text = BACKBONE.text_features(SUPPORT.classes)
    optimiser = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4)
    train_in_one_batch(
        weights,
        optimiser,
        lambda x, y: cross_entropy(clip_logits(literal(x, *weights, 0.2), text, BACKBONE.scale), y),
        SUPPORT.augment(3),
        SUPPORT.labels,
        4,
        0.05,
    )
    state = method.fit(SUPPORT, BACKBONE, seeded())
    assert torch.allclose(state["down"], weights[0].detach(), atol=1e-10)
    assert torch.allclose(state["up"], weights[1].detach(), atol=1e-10)
    batch = batch_of(BACKBONE)
    logits = method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch)
    expected = clip_logits(literal(batch.features, *weights, 0.2), text, BACKBONE.scale)
    assert torch.allclose(logits, expected, atol=1e-9)


def test_the_initial_weights_are_those_of_torchs_linear(monkeypatch):
    state = initial(ClipAdapter(), monkeypatch)
    assert state["down"].shape == (4, 16)
    assert state["up"].shape == (16, 4)
    assert 0.2 < state["down"].abs().max() <= 16**-0.5
    assert 0.4 < state["up"].abs().max() <= 4**-0.5


def test_a_ratio_of_zero_is_zero_shot():
    method = ClipAdapter(ratio=0.0, epochs=2)
    state = method.fit(SUPPORT, BACKBONE, seeded())
    batch = batch_of(BACKBONE)
    logits = method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch)
    assert torch.allclose(logits, ZeroShot().predictor({}, SUPPORT.classes, BACKBONE, seeded())(batch), atol=1e-12)


def test_it_sees_the_length_of_the_raw_feature():
    """ReLU is homogeneous and there is no bias, so scaling f scales f': the length must cancel exactly."""
    method = ClipAdapter(epochs=2)
    state = method.fit(SUPPORT, BACKBONE, seeded())
    f = batch_of(BACKBONE).features
    assert torch.allclose(method.adapted(f, state), method.adapted(5 * f, state), atol=1e-12)


def test_parameter_count():
    assert ClipAdapter().parameters(LinearBackbone(dim=512), 10) == 131_072
