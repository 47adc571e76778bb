from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import LiteralRAda, clip_logits, cross_entropy, rada_answer, rada_penalty, train_in_one_batch, unit
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import methods._attention
import methods._training
import methods.rada
from bench.api import METHODS, NotRunnable, Phases, UserError, measured
from bench.contract.backbones import LinearBackbone
from bench.contract.data import batch_of, classes_of, support_of
from methods.rada import QUERIES, REGULARISERS, RAda, RAdaDagger, RAdaTTT, new_layer, rational_logits
from methods.zero_shot import ZeroShot

BACKBONE = LinearBackbone()
SUPPORT = support_of(BACKBONE)
SUBSETS = [QUERIES, ("image",), ("text",), ("matrix",), ("image", "matrix"), ("text", "matrix")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(dim: int, queries=QUERIES, seed: int = 0, out: float = 0.3) -> dict[str, torch.Tensor]:
    """A layer in the middle of its training: the output map is not zero."""
    rng, like = seeded(seed), torch.zeros((), dtype=torch.float64)
    weights = new_layer(dim, queries, rng, like)
    for name in ("out.weight", "out.bias"):
        weights[name] = out * torch.randn(weights[name].shape, generator=rng, dtype=torch.float64)
    return weights


def units(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.stack([unit(x) for x in torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64)])


def compare(weights, f, h, s, heads, queries, tau, reg="linf", alpha=0.7):
    """Values and gradients of the fast layer against the literal one, the loss of few-shot training included."""
    literal = LiteralRAda(f.shape[1], heads, queries, tau).load(weights)
    labels = torch.arange(len(f)) % len(h)
    logits, mask = literal(f, h, s)
    (cross_entropy(logits, labels) + alpha * rada_penalty(mask, reg)).backward()
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    fast, fast_mask = rational_logits(leaves, f, h, s, heads, queries, tau)
    loss = torch.nn.functional.cross_entropy(fast, labels) + alpha * REGULARISERS[reg](fast_mask - 1)
    slopes = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    assert torch.allclose(fast, logits, rtol=1e-10, atol=1e-10)
    assert torch.allclose(fast_mask, mask, rtol=1e-10, atol=1e-10)
    for name, parameter in literal.named_parameters():
        atol = 1e-10 * max(1, 1 / tau)  # that of the literal one, where the softmax leaves none
        assert torch.allclose(slopes[name.removeprefix("maps.")], parameter.grad, rtol=1e-9, atol=atol), name


@pytest.mark.parametrize("queries", SUBSETS)
def test_values_and_gradients_equal_the_literal_attention(queries):
    compare(layer(16, queries), units(3, 16, 1), units(5, 16, 2), torch.tensor(18.0).double(), 4, queries, 1.0)


@pytest.mark.parametrize("reg", ["linf", "mse", "l1", "none"])
def test_the_loss_equals_the_literal_one_for_every_regulariser(reg):
    compare(layer(8), units(4, 8, 1), units(3, 8, 2), torch.tensor(100.0).double(), 2, QUERIES, 1.0, reg)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 4),
    st.integers(2, 6),
    st.sampled_from([(8, 1), (8, 8), (12, 3)]),
    st.floats(0.2, 3.0),
    st.floats(1.0, 100.0),
    st.integers(0, 99),
)
def test_values_and_gradients_equal_the_literal_attention_whatever_the_shape(b, k, shape, tau, scale, seed):
    (dim, heads), s = shape, torch.tensor(scale, dtype=torch.float64)
    compare(layer(dim, seed=seed), units(b, dim, seed + 1), units(k, dim, seed + 2), s, heads, QUERIES, tau)


@pytest.mark.parametrize("queries", SUBSETS)
@pytest.mark.parametrize(
    "limits", [{"ENTRIES": 5}, {"ENTRIES": 12}, {"ENTRIES": 300, "RATIONAL": 80}, {"PROJECTED": 0}]
)
def test_blocks_pieces_and_recomputation_change_nothing(queries, limits, monkeypatch):
    """One row at a time, two, several heads; two pictures at a time; projections that are made anew."""
    for name, limit in limits.items():
        monkeypatch.setitem(getattr(methods._attention, name), "cpu", limit)
    compare(layer(8, queries), units(3, 8, 1), units(5, 8, 2), torch.tensor(18.0).double(), 2, queries, 1.0)


@pytest.mark.parametrize("tau", [1e-6, 1e-2, 1e6])
def test_values_and_gradients_equal_the_literal_attention_however_sharp_or_flat_the_softmax(tau):
    compare(layer(8), units(2, 8, 1), units(4, 8, 2), torch.tensor(100.0).double(), 2, QUERIES, tau)


@pytest.mark.parametrize("twins", [False, True])
def test_one_class_and_equal_classes_are_classes_like_others(twins):
    text = units(1, 8, 2).expand(4 if twins else 1, 8)
    compare(layer(8), units(2, 8, 1), text, torch.tensor(100.0).double(), 2, QUERIES, 1.0)
    logits, _ = rational_logits(layer(8), units(2, 8, 1), text, torch.tensor(100.0).double(), 2, QUERIES, 1.0)
    assert torch.allclose(logits, logits[:, :1].expand_as(logits))


def test_without_classes_the_remedy_is_named():
    with pytest.raises(UserError, match="no classes to answer with"):
        rational_logits(layer(8), units(2, 8, 1), torch.zeros(0, 8), torch.tensor(100.0), 2, QUERIES, 1.0)
    for method in (RAda(), RAdaTTT(), RAdaDagger()):
        with pytest.raises(UserError, match="no classes to answer with"):
            method.predictor(layer(BACKBONE.dim), classes_of(0), BACKBONE, seeded())


@pytest.mark.parametrize("queries", SUBSETS)
@pytest.mark.parametrize("room", [40, 2**20])
def test_features_get_the_gradients_of_the_literal_attention(queries, room, monkeypatch):
    """What stands before the layer may learn too: adapters, prompts, encoders."""
    monkeypatch.setitem(methods._attention.RATIONAL, "cpu", room)
    weights, s = layer(8, queries), torch.tensor(18.0).double()
    literal, slopes = LiteralRAda(8, 2, queries, 1.0).load(weights), []
    for answer in (literal, lambda f, h, s: rational_logits(weights, f, h, s, 2, queries, 1.0)):
        f, h, scale = (x.clone().requires_grad_() for x in (units(3, 8, 1), units(5, 8, 2), s))
        logits, mask = answer(f, h, scale)
        slopes.append(torch.autograd.grad(logits.square().sum() + mask.pow(3).mean(), (f, h, scale)))
    for ours, expected in zip(*slopes, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_in_float32_logits_and_gradients_are_those_of_float64_up_to_rounding():
    """At CLIP's scale of 100: logits within 5e-5, gradients within 2e-5 of the largest."""
    weights, f, h = layer(64, out=0.02), units(3, 64, 1), units(100, 64, 2)
    literal = LiteralRAda(64, 8, QUERIES, 1.0).load(weights)
    leaves = {name: weight.float().requires_grad_() for name, weight in weights.items()}
    expected, _ = literal(f, h, torch.tensor(100.0).double())
    logits, _ = rational_logits(leaves, f.float(), h.float(), torch.tensor(100.0), 8, QUERIES, 1.0)
    assert (logits.double() - expected).abs().max() < 5e-5
    labels = torch.tensor([0, 50, 99])
    cross_entropy(expected, labels).backward()
    torch.nn.functional.cross_entropy(logits, labels).backward()
    slopes = {name.removeprefix("maps."): parameter.grad for name, parameter in literal.named_parameters()}
    largest = max(slope.abs().max() for slope in slopes.values())
    assert all((leaves[name].grad.double() - slope).abs().max() < 2e-5 * largest for name, slope in slopes.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    given = [{name: weight.to(dtype) for name, weight in layer(16).items()}]
    given += [x.to(dtype) for x in (units(3, 16, 1), units(5, 16, 2), torch.tensor(18.0))]
    float32 = [{name: weight.float() for name, weight in given[0].items()}, *(x.float() for x in given[1:])]
    expected, _ = rational_logits(*float32, 4, QUERIES, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = rational_logits(*float32, 4, QUERIES, 1.0)
    logits, _ = rational_logits(*given, 4, QUERIES, 1.0)
    assert logits.dtype == mixed.dtype == torch.float32
    assert torch.equal(logits, expected)
    assert torch.equal(mixed, expected)


def test_under_autocast_the_gradients_are_float32_as_well():
    slopes = []
    for enabled in (False, True):
        leaves = {name: weight.float().requires_grad_() for name, weight in layer(16).items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            image, text = units(3, 16, 1).float(), units(5, 16, 2).float()
            logits, _ = rational_logits(leaves, image, text, torch.tensor(18.0), 4, QUERIES, 1.0)
            logits.square().sum().backward()
        slopes.append(leaves)
    assert all(torch.equal(slopes[0][name].grad, slopes[1][name].grad) for name in slopes[0])


# -- episodes, memory, cost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [("out",), (*QUERIES, "key", "value", "out")])
def test_episodes_together_are_each_episode_alone(own):
    """Three episodes of two pictures: the maps in `own` are each episode's, the others are common to all."""
    alone = [layer(8, seed=seed) for seed in range(3)]
    alone = [{**alone[0], **{k: v for k, v in each.items() if k.split(".")[0] in own}} for each in alone]
    f, h, s = units(6, 8, 5).view(3, 2, 8), units(5, 8, 6), torch.tensor(18.0).double()

    def loss(weights, image):
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        logits, mask = rational_logits(leaves, image, h, s, 2, QUERIES, 0.7)
        (logits.square().sum() + mask.pow(3).sum()).backward()
        return logits, mask, {name: leaf.grad for name, leaf in leaves.items()}

    every = [loss(weights, image) for weights, image in zip(alone, f, strict=True)]
    together = {k: torch.stack([e[k] for e in alone]) if k.split(".")[0] in own else v for k, v in alone[0].items()}
    logits, mask, slopes = loss(together, f)
    assert torch.allclose(logits, torch.stack([each[0] for each in every]), atol=1e-10)
    assert torch.allclose(mask, torch.stack([each[1] for each in every]), atol=1e-10)
    for name, slope in slopes.items():
        parts = torch.stack([each[2][name] for each in every])
        assert torch.allclose(slope, parts if name.split(".")[0] in own else parts.sum(0), atol=1e-8), name


class Largest(TorchDispatchMode):
    """The largest array that any operation made, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_with_a_thousand_classes_no_k_by_k_array_is_kept_or_made(monkeypatch):
    """R has 4 x 1000 x 16 numbers, its two heads' attention 4 x 2 x 1000 x 1000 for each query."""
    b, k, dim = 4, 1000, 16
    weights = {name: weight.requires_grad_() for name, weight in layer(dim).items()}
    f, h, s = units(b, dim, 1), units(k, dim, 2), torch.tensor(18.0).double()
    slopes = []
    for entries in (2**20, 2**16):
        monkeypatch.setitem(methods._attention.ENTRIES, "cpu", entries)
        kept: dict[int, int] = {}

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
            return tensor

        with Largest() as largest:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                logits, mask = rational_logits(weights, f, h, s, 2, QUERIES, 1.0)
            slopes.append(torch.autograd.grad(logits.square().sum() + mask.sum(), list(weights.values())))
        # mask, mixed values and the three projections of R; features, weights and a few numbers a head
        assert sum(kept.values()) <= 5 * b * k * dim + 2 * k * dim + 6 * (dim * dim + dim)
        assert largest.numbers <= 4 * entries  # both queries' softmaxes, a gradient and the scores, a block each
    for one, many in zip(*slopes, strict=True):
        assert torch.allclose(one, many, rtol=1e-9, atol=1e-9)


def test_the_layers_operations_are_counted():
    """3 pictures, 7 classes, D = 8, two heads: maps of R, of the texts, of the pictures; scores and mixing by hand."""
    weights = layer(8)
    with FlopCounterMode(display=False) as counter:
        rational_logits(weights, units(3, 8, 1), units(7, 8, 2), torch.tensor(18.0).double(), 2, QUERIES, 1.0)
    maps = 3 * 7 * 4 * 8 * 8 + 7 * 8 * 8 + 3 * 8 * 8
    attention = 3 * 2 * (2 * 7 * 7 + 7 * 7 + 7) * 4  # scores of two queries, one product with the values, one row
    assert counter.get_total_flops() == 2 * (maps + attention)


def test_the_mask_by_hand():
    # D = 2, one head, equal scores: every row of K A is the mean over classes; Wo = I passes 1 + the mean value
    zero, eye = torch.zeros(2, 2), torch.eye(2)
    weights = {f"{n}.weight": zero for n in (*QUERIES, "key")} | {
        f"{n}.bias": zero[0] for n in (*QUERIES, "key", "value")
    }
    weights |= {"value.weight": eye, "out.weight": eye, "out.bias": torch.tensor([0.0, -5.0])}
    f, h = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # R = [[.6, 0], [0, .8]], s R = 2 R, the mean over classes [.6, .8], so M = relu([1.6, 1.8 - 5]) = [1.6, 0]
    logits, mask = rational_logits(weights, f, h, torch.tensor(2.0), 1, QUERIES, 1.0)
    assert torch.allclose(mask, torch.tensor([1.6, 0.0]).expand(1, 2, 2))
    assert torch.allclose(logits, torch.tensor([[2 * 1.6 * 0.6, 0.0]]))


def test_the_regularisers_by_hand():
    off = torch.tensor([[[0.0, -2.0], [1.0, 1.0]], [[0.5, 0.0], [0.0, 0.0]]])
    values = {name: float(reg(off)) for name, reg in REGULARISERS.items()}
    assert values == {"linf": 1.25, "mse": 6.25 / 8, "l1": 4.5 / 8, "none": 0.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_new_layer_gives_clips_logits(dtype):
    backbone = LinearBackbone(dtype=dtype)
    batch, classes = batch_of(backbone), classes_of(5)
    weights = new_layer(backbone.dim, QUERIES, seeded(), batch.features)
    answers = RAda().predictor(weights, classes, backbone, seeded())(batch)
    assert torch.allclose(answers, ZeroShot().predictor({}, classes, backbone, seeded())(batch), atol=1e-5)


def test_only_the_output_map_has_a_gradient_at_the_start():
    weights = layer(16, out=0.0)
    leaves = {name: tensor.requires_grad_() for name, tensor in weights.items()}
    logits, mask = rational_logits(leaves, units(3, 16, 1), units(5, 16, 2), BACKBONE.scale, 4, QUERIES, 1.0)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])) + (mask - 1).square().mean()
    slopes = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    assert {name for name, slope in slopes.items() if slope.any()} == {"out.weight", "out.bias"}


def test_the_initial_weights_are_those_of_torchs_linear():
    weights = new_layer(64, QUERIES, seeded(), torch.zeros(()))
    for name, tensor in weights.items():
        if name.startswith("out"):
            assert not tensor.any()
        else:
            assert 0.1 < tensor.abs().max() <= 64**-0.5
    assert [tuple(weights[f"{n}.weight"].shape) for n in (*QUERIES, "key", "value", "out")] == [(64, 64)] * 6


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(6)), st.integers(0, 99))
def test_the_order_of_the_classes_only_permutes_the_logits(order, seed):
    weights, f, h = layer(8, seed=seed), units(3, 8, seed + 1), units(6, 8, seed + 2)
    straight, _ = rational_logits(weights, f, h, BACKBONE.scale, 2, QUERIES, 1.0)
    permuted, _ = rational_logits(weights, f, h[order], BACKBONE.scale, 2, QUERIES, 1.0)
    assert torch.allclose(permuted, straight[:, order], atol=1e-10)


def test_every_logit_depends_on_all_candidate_classes():
    weights, f, h = layer(8), units(1, 8, 1), units(4, 8, 2)
    whole, _ = rational_logits(weights, f, h, BACKBONE.scale, 2, QUERIES, 1.0)
    fewer, _ = rational_logits(weights, f, h[:3], BACKBONE.scale, 2, QUERIES, 1.0)
    assert not torch.allclose(whole[:, :3], fewer, atol=1e-3)


# -- few-shot ---------------------------------------------------------------------------------------------------------


def initial(method, monkeypatch) -> dict[str, torch.Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(methods.rada, "train", lambda *_, **__: None)
        return {name: weight.clone() for name, weight in method.fit(SUPPORT, BACKBONE, seeded()).items()}


@pytest.mark.parametrize("reg", ["linf", "mse"])
def test_few_shot_training_follows_the_literal_loop(reg, monkeypatch):
    """The support fits one batch, so the order of the pictures does not matter."""
    method = RAda(reg=reg, alpha=0.5, tau=0.8, heads=4, lr=2e-3, batch=1000, epochs=4, augment=3)
    literal = LiteralRAda(BACKBONE.dim, 4, QUERIES, 0.8).load(initial(method, monkeypatch))
    text, s = BACKBONE.text_features(SUPPORT.classes, ("a photo of a {}.",)), BACKBONE.scale

    def loss(x, y):
        logits, mask = literal(torch.stack([unit(f) for f in x]), text, s)
        return cross_entropy(logits, y) + 0.5 * rada_penalty(mask, reg)

    parameters = list(literal.parameters())
    optimiser = torch.optim.Adam(parameters, lr=2e-3, weight_decay=5e-4)
    train_in_one_batch(parameters, optimiser, loss, SUPPORT.augment(3), SUPPORT.labels, 4, 2e-3)
    state = method.fit(SUPPORT, BACKBONE, seeded())
    # Adam divides by the size of a gradient, so what rounding does to one near zero can show in the ninth digit
    for name, parameter in literal.named_parameters():
        assert torch.allclose(state[name.removeprefix("maps.")], parameter.detach(), atol=1e-7), name
    batch = batch_of(BACKBONE)
    expected, _ = literal(torch.stack([unit(f) for f in batch.features]), text, s)
    assert torch.allclose(method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["rada-eft", "rada-adapter"])
@pytest.mark.parametrize("reg", ["linf", "mse", "l1", "none"])
def test_training_and_answering_in_micro_batches_is_the_same(name, reg, monkeypatch):
    method = METHODS[name].with_fields(reg=reg, lr=2e-3, batch=8, epochs=3).method
    batch, states, answers = batch_of(BACKBONE), [], []
    for room in (methods.rada.ROOM, 3 * 5 * BACKBONE.dim):  # all at once, three pictures at once
        monkeypatch.setattr(methods.rada, "ROOM", room)
        states.append(method.fit(SUPPORT, BACKBONE, seeded()))
        answers.append(method.predictor(states[0], SUPPORT.classes, BACKBONE, seeded())(batch))
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-8) for name in states[0])
    assert torch.allclose(*answers, atol=1e-9)


def test_training_lowers_the_loss_on_the_support():
    method = RAda(lr=5e-3, epochs=60, alpha=0.0, augment=0)
    state = method.fit(SUPPORT, BACKBONE, seeded())
    seen = replace(batch_of(BACKBONE), features=SUPPORT.features)
    logits = method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(seen)
    plain = clip_logits(SUPPORT.features, BACKBONE.text_features(SUPPORT.classes), BACKBONE.scale)
    assert cross_entropy(logits, SUPPORT.labels) < 0.8 * cross_entropy(plain, SUPPORT.labels)


def test_a_heavy_regulariser_keeps_the_mask_near_one():
    answers = {}
    for alpha in (0.0, 100.0):
        method = RAda(lr=5e-3, epochs=20, alpha=alpha, reg="mse")
        state = method.fit(SUPPORT, BACKBONE, seeded())
        f = torch.stack([unit(x) for x in SUPPORT.features])
        _, mask = method.logits(state, f, BACKBONE.text_features(SUPPORT.classes), BACKBONE.scale)
        answers[alpha] = float((mask - 1).abs().max())
    assert answers[100.0] < 0.3 * answers[0.0]


def test_the_prompt_is_the_same_on_every_data_set():
    classes = replace(SUPPORT.classes, templates=("an owl beside a {}.",))
    state = RAda(epochs=1).fit(SUPPORT, BACKBONE, seeded())
    answers = [RAda().predictor(state, c, BACKBONE, seeded())(batch_of(BACKBONE)) for c in (SUPPORT.classes, classes)]
    assert torch.equal(*answers)


def test_the_released_adapter_form_never_learns_its_adapters_and_equals_rada_with_mse():
    fields = {"lr": 2e-3, "epochs": 6, "batch": 7}
    released = METHODS["rada-adapter-released"].with_fields(**fields).method
    plain = METHODS["rada-eft"].with_fields(reg="mse", **fields).method
    states = [form.fit(SUPPORT, BACKBONE, seeded(4)) for form in (released, plain)]
    assert not states[0]["image.up"].any()
    assert not states[0]["text.up"].any()
    batch = batch_of(BACKBONE)
    answers = [
        form.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch)
        for form, state in zip((released, plain), states, strict=True)
    ]
    assert torch.allclose(*answers, atol=1e-9)
    assert not torch.allclose(
        answers[0], ZeroShot().predictor({}, SUPPORT.classes, BACKBONE, seeded())(batch), atol=1e-3
    )


def test_the_working_adapter_form_learns_its_adapters_and_starts_at_zero_shot(monkeypatch):
    method = METHODS["rada-adapter"].with_fields(lr=2e-3, epochs=6).method
    state = method.fit(SUPPORT, BACKBONE, seeded())
    assert state["image.up"].any()
    assert state["text.up"].any()
    batch = batch_of(BACKBONE)
    answers = method.predictor(initial(method, monkeypatch), SUPPORT.classes, BACKBONE, seeded())(batch)
    assert torch.allclose(answers, ZeroShot().predictor({}, SUPPORT.classes, BACKBONE, seeded())(batch), atol=1e-9)


def test_the_adapters_by_their_equation():
    method = RAda(adapter="working", ratio=0.3, heads=4)
    weights = layer(16)
    for side, seed in (("image", 5), ("text", 6)):
        weights[f"{side}.down"] = torch.randn(4, 16, generator=seeded(seed), dtype=torch.float64)
        weights[f"{side}.up"] = torch.randn(16, 4, generator=seeded(seed + 2), dtype=torch.float64)
    f, h = units(3, 16, 1), units(5, 16, 2)

    def adapted(x, side):
        bent = weights[f"{side}.up"] @ torch.clamp(weights[f"{side}.down"] @ x, min=0)
        return unit(0.3 * bent + 0.7 * x)

    own = {name: tensor for name, tensor in weights.items() if name.split(".")[1] in ("weight", "bias")}
    literal = LiteralRAda(16, 4, QUERIES, 1.0).load(own)
    expected, _ = literal(
        torch.stack([adapted(x, "image") for x in f]), torch.stack([adapted(x, "text") for x in h]), BACKBONE.scale
    )
    assert torch.allclose(method.logits(weights, f, h, BACKBONE.scale)[0], expected, atol=1e-10)


# -- test time --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("queries", [QUERIES, ("text",)])
def test_an_episode_is_a_plain_adamw_step_on_all_parameters_of_the_literal_layer(steps, queries):
    """Only the kept views pass through the fast layer and only its output map is differentiated in the first step."""
    method = RAdaTTT(queries=queries, heads=4, steps=steps, keep=0.2, lr=2e-2)
    batch, classes = batch_of(BACKBONE, n=3, views=12), classes_of(5)
    text = BACKBONE.text_features(classes, ("a photo of a {}.",))
    answers = method.predictor({}, classes, BACKBONE, seeded(9))(batch)
    start = new_layer(BACKBONE.dim, queries, seeded(9), text)
    for answer, views in zip(answers, batch.views, strict=True):
        literal = LiteralRAda(BACKBONE.dim, 4, queries, 1.0).load(start)
        expected = rada_answer(literal, views, text, BACKBONE.scale, 0.2, steps, 2e-2, 1e-2)
        assert torch.allclose(answer, expected, atol=1e-6)


def test_dagger_is_few_shot_training_and_then_the_literal_episode_from_that_layer():
    method = RAdaDagger(heads=4, fit_lr=2e-3, epochs=4, keep=0.2, lr=5e-3)
    state = method.fit(SUPPORT, BACKBONE, seeded())
    plain = RAda(heads=4, lr=2e-3, epochs=4).fit(SUPPORT, BACKBONE, seeded())
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    batch = batch_of(BACKBONE, n=3, views=12)
    text = BACKBONE.text_features(SUPPORT.classes, ("a photo of a {}.",))
    answers = method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch)
    for answer, views in zip(answers, batch.views, strict=True):
        literal = LiteralRAda(BACKBONE.dim, 4, QUERIES, 1.0).load(state)
        expected = rada_answer(literal, views, text, BACKBONE.scale, 0.2, 1, 5e-3, 1e-2)
        assert torch.allclose(answer, expected, atol=1e-6)


def test_daggers_views_are_chosen_by_the_trained_layer():
    """A layer that turns the logits round prefers other views than CLIP would; the literal episode sees the same."""
    state = layer(BACKBONE.dim, out=0.5, seed=3)
    method = RAdaDagger(heads=4, keep=0.1)
    batch = batch_of(BACKBONE, n=4, views=20)
    text = BACKBONE.text_features(SUPPORT.classes)
    views = torch.stack([unit(v) for v in batch.views[0]])
    own = rational_logits(state, views, text, BACKBONE.scale, 4, QUERIES, 1.0)[0]
    assert set(methods._training.confident(own, 0.1).tolist()) != set(
        methods._training.confident(BACKBONE.scale * views @ text.T, 0.1).tolist()
    )
    answers = method.predictor(state, SUPPORT.classes, BACKBONE, seeded())(batch)
    for answer, seen in zip(answers, batch.views, strict=True):
        literal = LiteralRAda(BACKBONE.dim, 4, QUERIES, 1.0).load(state)
        expected = rada_answer(literal, seen, text, BACKBONE.scale, 0.1, 1, 5e-3, 1e-2)
        assert torch.allclose(answer, expected, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("trained", [False, True])
def test_pictures_adapt_alike_alone_and_together_and_know_nothing_of_each_other(steps, trained, monkeypatch):
    batch, classes = batch_of(BACKBONE, n=5, views=12), classes_of(5)
    state = layer(BACKBONE.dim) if trained else {}
    predict = RAdaTTT(heads=4, steps=steps, keep=0.2).predictor(state, classes, BACKBONE, seeded())
    together = predict(batch)
    other = batch.views.clone()
    other[1] = other[1].flip(-1)
    changed = predict(replace(batch, views=other))
    assert torch.allclose(changed[[0, 2, 3, 4]], together[[0, 2, 3, 4]], atol=1e-9)
    assert not torch.allclose(changed[1], together[1], atol=1e-3)
    monkeypatch.setattr(methods.rada, "ROOM", 1)
    assert torch.allclose(predict(batch), together, atol=1e-9)


def test_the_seed_decides_the_initial_layer_of_all_pictures():
    batch, classes = batch_of(BACKBONE), classes_of(5)
    first, again, other = (RAdaTTT().predictor({}, classes, BACKBONE, seeded(s))(batch) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_only_the_steps_count_as_adaptation():
    phases = Phases()
    predict = RAdaTTT().predictor({}, classes_of(5), BACKBONE, seeded())
    with measured(phases):
        predict(batch_of(BACKBONE, n=2))
    assert set(phases.seconds) == {"adapt"}


def test_dagger_without_a_trained_layer_is_not_runnable():
    with pytest.raises(NotRunnable, match="labelled pictures"):
        RAdaDagger().predictor({}, classes_of(5), BACKBONE, seeded())


# -- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reg": "linff"}, "did you mean linf"),
        ({"adapter": "worked"}, "did you mean working"),
        ({"queries": ("images",)}, "did you mean image"),
        ({"queries": ()}, "out of image, text, matrix"),
        ({"queries": ("text", "text")}, "each once"),
        ({"tau": 0.0}, "cannot be 0.0: set it above 0"),
        ({"tau": float("nan")}, "cannot be nan"),
    ],
)
def test_a_wrong_field_is_answered_with_the_right_ones(fields, message):
    with pytest.raises(UserError, match=message):
        METHODS["rada-eft"].with_fields(**fields)
    if "queries" in fields or "tau" in fields:
        with pytest.raises(UserError, match=message):
            METHODS["rada-ttt"].with_fields(**fields)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_that_do_not_divide_the_dimensions_are_named(heads):
    with pytest.raises(NotRunnable, match=f"{heads} heads do not divide the 16 dimensions"):
        RAda(heads=heads).fit(SUPPORT, BACKBONE, seeded())


def test_parameter_counts():
    backbone = LinearBackbone(dim=512)
    layer_alone, adapters = 1_575_936, 2 * 131_072
    for name in ("rada-eft", "rada-ttt", "rada-dagger"):
        assert METHODS[name].method.parameters(backbone, 10) == layer_alone
    for name in ("rada-adapter", "rada-adapter-released"):
        assert METHODS[name].method.parameters(backbone, 10) == layer_alone + adapters
    assert RAda(queries=("text",)).parameters(backbone, 10) == layer_alone - 2 * (512**2 + 512)
