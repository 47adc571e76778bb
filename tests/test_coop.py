import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import clip_logits, coop_rates, cross_entropy, train_in_one_batch

import methods._training
from bench.api import METHODS, NotRunnable, UserError
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, classes_of, support_of
from methods._training import coop_epochs, coop_rate, minibatches, shots_of
from methods.coop import CoOp

BACKBONE = LinearBackbone()
SUPPORT = support_of(BACKBONE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("shots", "epochs"), [(1, 50), (2, 100), (4, 100), (8, 200), (16, 200)])
def test_the_shots_decide_the_epochs(shots, epochs):
    assert coop_epochs(shots) == epochs


def test_the_shots_are_the_pictures_of_the_most_frequent_class():
    assert shots_of(torch.tensor([0, 1, 1, 2, 1])) == 3


def test_the_rate_warms_up_for_one_epoch_and_then_follows_a_cosine():
    rates = [coop_rate(0.002, epoch, 4) for epoch in range(4)]
    assert rates == pytest.approx([1e-5, 0.002, 0.002 * (1 + 0.5**0.5) / 2, 0.001])
    assert [coop_rate(0.1, e, 50) for e in range(50)] == pytest.approx(coop_rates(0.1, 50))


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 99))
def test_minibatches_show_no_picture_twice_and_drop_only_a_smaller_last_batch(n, batch, seed):
    pieces = minibatches(n, batch, seeded(seed))
    rows = torch.cat(pieces)
    assert len(rows) == len(rows.unique()) == (n if n < batch else n - n % batch)
    assert all(len(piece) == min(batch, n) for piece in pieces)


@pytest.mark.parametrize("class_specific", [False, True])
def test_training_follows_the_literal_loop(class_specific):
    """The support fits one batch, so the order of the pictures does not matter."""
    method = CoOp(4, "a photo of a", class_specific=class_specific, lr=0.05, batch=1000, epochs=4, augment=3)
    start = BACKBONE.embed("a photo of a")
    context = (torch.stack([start] * 5) if class_specific else start.clone()).requires_grad_()
    text = BACKBONE.prompts(SUPPORT.classes, 4)
    optimiser = torch.optim.SGD([context], lr=0.05, momentum=0.9, weight_decay=5e-4)
    train_in_one_batch(
        [context],
        optimiser,
        lambda x, y: cross_entropy(clip_logits(x, text(context), BACKBONE.scale), y),
        SUPPORT.augment(3),
        SUPPORT.labels,
        4,
        0.05,
    )
    state = method.fit(SUPPORT, BACKBONE, seeded())
    assert torch.allclose(state["context"], context.detach(), atol=1e-10)
    batch = batch_of(BACKBONE)
    logits = method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch)
    assert torch.allclose(logits, clip_logits(batch.features, text(context), BACKBONE.scale), atol=1e-9)


def test_learning_lowers_the_loss_on_the_support():
    start = "one sketch of my"  # far from the prompt that the pictures are near to
    state = CoOp(4, start, lr=0.05, epochs=10).fit(SUPPORT, BACKBONE, seeded())
    text = BACKBONE.prompts(SUPPORT.classes, 4)
    losses = [
        cross_entropy(clip_logits(SUPPORT.features, text(v), BACKBONE.scale), SUPPORT.labels)
        for v in (BACKBONE.embed(start), state["context"])
    ]
    assert losses[1] < losses[0]


def test_the_random_context_has_the_stated_deviation_and_its_seed(monkeypatch):
    monkeypatch.setattr(methods._training, "train", lambda *_, **__: None)
    backbone = LinearBackbone(width=512)
    first, again, other = (CoOp().fit(SUPPORT, backbone, seeded(s))["context"] for s in (0, 0, 1))
    assert first.shape == (16, 512)
    assert first.std() == pytest.approx(0.02, rel=0.05)
    assert abs(first.mean()) < 1e-3
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("position", ["front", "middle", "end"])
def test_the_position_of_the_name_is_passed_on_in_fit_and_in_predict(position):
    asked = []

    class Asked(LinearBackbone):
        def prompts(self, classes, length, position="end"):
            asked.append((length, position))
            return super().prompts(classes, length, position)

    method, backbone = CoOp(position=position, epochs=1), Asked()
    method.predictor(method.fit(SUPPORT, backbone, seeded()), classes_of(5), backbone, seeded())
    assert asked == [(16, position)] * 2


def test_fresh_views_are_asked_for_only_as_far_as_epochs_use_them():
    asked = []
    support = support_of(BACKBONE)
    object.__setattr__(support, "augment", lambda copies: asked.append(copies) or support.features[:, None])
    for epochs, augment in ((3, 8), (20, 8), (3, 0)):
        CoOp(epochs=epochs, augment=augment).fit(support, BACKBONE, seeded())
    assert asked == [3, 8]


def test_a_class_specific_context_is_refused_for_other_classes():
    method = METHODS["coop-csc"].with_fields(epochs=1).method
    state = method.fit(SUPPORT, BACKBONE, seeded())
    assert state["context"].shape == (5, 16, BACKBONE.width)
    with pytest.raises(NotRunnable, match="tied to the classes"):
        method.predictor(state, classes_of(4), BACKBONE, seeded())
    assert [METHODS[name].method.transfers for name in ("coop-m16", "coop-m4", "coop-csc")] == [True, True, False]


def test_a_context_whose_words_do_not_fit_its_length_is_named():
    with pytest.raises(UserError, match="set the field length"):
        CoOp(5, "a photo of a").fit(SUPPORT, BACKBONE, seeded())


def test_parameter_counts():
    backbone = LinearBackbone(width=512)
    counts = {name: METHODS[name].method.parameters(backbone, 10) for name in ("coop-m16", "coop-m4", "coop-csc")}
    assert counts == {"coop-m16": 8192, "coop-m4": 2048, "coop-csc": 81920}
