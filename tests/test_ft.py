"""FT, L2-SP, LP, LP-FT, FLYP, WiSE-FT, RAda and RAda-FT on all pictures: each against its equations written out.

A fit is watched through its checkpoints: they hold the weights after each step and AdamW's first moments, from which
the gradient of that step follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from reference import LiteralRAda, cross_entropy, logistic_objective, rada_penalty, softmax, unit
from torch import Tensor

from bench import cards, records
from bench.__main__ import main
from bench.api import METHODS, Batch, Classes, Form, Part, Support, Task, UserError
from bench.backbone import OpenClip, load, weights_hash
from bench.backbone.towers import weights_of
from bench.cache import Cache
from bench.checkpoints import Checkpoints
from bench.features import Features
from bench.runner import Cell, Runner, places
from methods._finetune import Recipe, finetune, learning
from methods._head import classifier, text_head
from methods._training import fork
from methods.flyp import FLYP
from methods.ft import FT
from methods.l2_sp import L2SP
from methods.lp_all import LPAll
from methods.lp_ft import LPFT
from methods.rada_fft import RAdaFrozen
from methods.rada_ft import RAdaFT
from methods.wise_ft import WiSEFT

NAMES = ("lp-all", "ft", "l2-sp", "lp-ft", "flyp", "wise-ft", "rada-fft", "rada-ft")
CLASSES = Classes(("star", "weather vane", "key"), ("a photo of a {}.", "a drawing of the {}."), (0, 1, 2))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
LR = 1e-3
SHORT: dict[str, Any] = {"epochs": 3, "batch": 6, "lr": LR, "warmup": 0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def vit(vits: dict[str, OpenClip]) -> OpenClip:
    return vits["exact"]


@pytest.fixture(scope="module")
def resnet(make_backbone: Callable[[int], OpenClip]) -> OpenClip:
    """The embedded architecture, whose image tower has BatchNorm and attention pooling, in float64."""
    backbone = make_backbone(3)
    backbone.model.double()
    return backbone


@dataclass
class Kept:
    """Checkpoints in memory, after each step."""

    steps: list[dict[str, Tensor]] = field(default_factory=list)

    def due(self) -> bool:
        return True

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        self.steps.append({name: tensor.detach().clone() for name, tensor in tensors.items()})

    def load(self) -> None:
        return None

    def weights(self, step: int) -> dict[str, Tensor]:
        return {key.removeprefix("weight/"): t for key, t in self.steps[step].items() if key.startswith("weight/")}

    def gradients(self, step: int) -> dict[str, Tensor]:
        """AdamW's first moment after a step is 0.9 of the one before and 0.1 of the gradient."""
        found = {}
        for name in self.weights(step):
            if (moment := self.steps[step].get(f"exp_avg/{name}")) is not None:
                before = self.steps[step - 1].get(f"exp_avg/{name}") if step else None
                found[name] = (moment - 0.9 * (torch.zeros_like(moment) if before is None else before)) / 0.1
        return found


def pixels_for(backbone: OpenClip, n: int = 6) -> Tensor:
    size = backbone.transform.size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(5)).to(backbone.scale.dtype)


@dataclass
class Shown:
    """A support of six pictures that remembers which rows each step was given."""

    backbone: OpenClip
    rows: list[Tensor] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)

    @property
    def support(self) -> Support:
        pixels = pixels_for(self.backbone)

        def images(steps, scale, flip) -> Iterator[Tensor]:
            assert (scale, flip) == ((0.9, 1.0), 0.0), "the crops of FLYP's and WiSE-FT's code"
            for _, rows in steps:
                self.rows.append(rows)
                yield pixels[rows]

        features = self.backbone.encode_images(pixels).detach()
        return Support(CLASSES, features, LABELS, lambda copies: features[:, None], None, images, self.kept)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trainers_draws(rng: torch.Generator) -> tuple[int, int]:
    """The seeds of the batches and of the steps' chance, which the trainer takes from a fit's stream."""
    return tuple(int(torch.randint(2**40, (), generator=rng)) for _ in range(2))  # type: ignore[return-value]


def batch_of(backbone: OpenClip) -> Batch:
    pixels = pixels_for(backbone)
    return Batch(tuple("abcdef"), backbone.encode_images(pixels).detach(), None, pixels)


def answers(method, state, backbone: OpenClip, classes: Classes = CLASSES) -> Tensor:
    return method.predictor(state, classes, backbone, seeded(1))(batch_of(backbone))


def closely(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor.detach(), rtol=1e-7, atol=1e-11), name


def slopes(loss: Callable[[dict[str, Tensor]], Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    return dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))


# -- equations, written out -------------------------------------------------------------------------------------------


def literal_text(backbone: OpenClip, templates=CLASSES.templates) -> Tensor:
    """h (K, D): each prompt's unit feature, averaged over the templates, normalised again."""
    rows = []
    for name in CLASSES.names:
        prompts = [backbone.encode_texts([template.replace("{}", name)])[0] for template in templates]
        rows.append(unit(sum(unit(prompt) for prompt in prompts)))
    return torch.stack(rows)


def literal_start(backbone: OpenClip) -> dict[str, Tensor]:
    text = literal_text(backbone)
    head = {"head.weight": backbone.scale * text, "head.bias": torch.zeros(3).double()}
    return backbone.weights("image") | head


def literal_head(weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
    w, b = weights["head.weight"], weights["head.bias"]
    return torch.stack([torch.stack([(unit(f) * w[k]).sum() + b[k] for k in range(len(w))]) for f in features])


def with_towers(backbone: OpenClip, weights: Mapping[str, Tensor]) -> OpenClip:
    return backbone.copy({name: weight for name, weight in weights.items() if name in dict(named(backbone))})


def named(backbone: OpenClip):
    return backbone.model.named_parameters()


def literal_ft(backbone: OpenClip, weights: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    features = with_towers(backbone, weights).encode_images(pixels_for(backbone)[rows])
    return cross_entropy(literal_head(weights, features), LABELS[rows].tolist())


def literal_contrast(logits: Tensor) -> Tensor:
    """Each picture among the captions and each caption among the pictures; the partner has the same place."""
    n = len(logits)
    pictures = sum(-softmax(logits[i])[i].log() for i in range(n)) / n
    captions = sum(-softmax(logits[:, i])[i].log() for i in range(n)) / n
    return (pictures + captions) / 2  # type: ignore[operator]


def drawn(labels: list[int], chance: int, step: int) -> list[str]:
    """The captions of a step: for each label a template by the step's stream."""
    places = torch.randint(2, (len(labels),), generator=torch.Generator().manual_seed(chance + step)).tolist()
    return [CLASSES.templates[t].replace("{}", CLASSES.names[k]) for t, k in zip(places, labels, strict=True)]


# -- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["vit", "resnet"])
def test_the_head_starts_as_zero_shot(architecture: str, request) -> None:
    backbone = request.getfixturevalue(architecture)
    weights = {**backbone.weights("image"), **text_head(backbone, CLASSES, None)}
    found = classifier(backbone, weights)(pixels_for(backbone))
    zero_shot = METHODS["zero-shot"].method.predictor({}, CLASSES, backbone, seeded())(batch_of(backbone))
    assert torch.allclose(found, zero_shot, rtol=1e-10)
    closely({name: weights[name] for name in literal_start(backbone)}, literal_start(backbone))


@pytest.mark.parametrize("architecture", ["vit", "resnet"])
@pytest.mark.parametrize("method", [FT(**SHORT), WiSEFT(**SHORT, clip=None)], ids=["ft", "wise-ft"])
def test_ft_follows_the_gradient_of_its_cross_entropy(architecture: str, method, request) -> None:
    backbone = request.getfixturevalue(architecture)
    shown = Shown(backbone)
    method.fit(shown.support, backbone, seeded())
    closely(shown.kept.gradients(0), slopes(lambda w: literal_ft(backbone, w, shown.rows[0]), literal_start(backbone)))
    after = shown.kept.weights(0)
    closely(shown.kept.gradients(1), slopes(lambda w: literal_ft(backbone, w, shown.rows[1]), after))


def test_l2_sp_adds_half_of_lambda_times_the_squared_way_from_the_start(vit: OpenClip) -> None:
    shown, start = Shown(vit), literal_start(vit)
    L2SP(lam=3.0, **SHORT).fit(shown.support, vit, seeded())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        way = sum(((w - start[name].detach()) ** 2).sum() for name, w in weights.items())
        return literal_ft(vit, weights, shown.rows[1]) + 3.0 / 2 * way

    closely(shown.kept.gradients(1), slopes(loss, shown.kept.weights(0)))


def test_wise_ft_clips_the_norm_of_all_gradients_together(vit: OpenClip) -> None:
    shown = Shown(vit)
    WiSEFT(clip=0.01, **SHORT).fit(shown.support, vit, seeded())
    expected = slopes(lambda w: literal_ft(vit, w, shown.rows[0]), literal_start(vit))
    norm = sum(float((slope**2).sum()) for slope in expected.values()) ** 0.5
    assert norm > 0.01
    for name, slope in shown.kept.gradients(0).items():
        assert torch.allclose(slope, expected[name] * 0.01 / (norm + 1e-6), rtol=1e-5, atol=1e-12)


def test_the_probe_follows_the_gradient_of_its_cross_entropy_on_frozen_features(vit: OpenClip) -> None:
    shown = Shown(vit)
    support = shown.support
    LPAll(**SHORT).fit(support, vit, seeded())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return cross_entropy(literal_head(weights, support.features), LABELS.tolist())

    assert not shown.rows, "no picture was opened"
    start = {name: tensor for name, tensor in literal_start(vit).items() if name.startswith("head")}
    closely(shown.kept.gradients(0), slopes(loss, start))
    closely(shown.kept.gradients(1), slopes(loss, shown.kept.weights(0)))


def test_by_l_bfgs_the_probe_is_at_the_minimum_of_the_regularised_sum(vit: OpenClip) -> None:
    support = Shown(vit).support
    state = LPAll(solver="l-bfgs", C=2.0).fit(support, vit, seeded())
    weight, bias = (state[name].clone().requires_grad_() for name in ("head.weight", "head.bias"))
    x = torch.stack([unit(f) for f in support.features])
    found = torch.autograd.grad(logistic_objective(weight, bias, x, LABELS, 2.0), [weight, bias])
    assert max(float(slope.abs().max()) for slope in found) < 1e-4 * 2.0 * len(LABELS)


def test_lp_ft_begins_with_the_probes_head_and_goes_on_as_ft(vit: OpenClip) -> None:
    shown, rng = Shown(vit), seeded()
    method = LPFT(probe_lr=0.1, **SHORT)
    method.fit(shown.support, vit, rng)
    probed = LPAll(**{**SHORT, "lr": 0.1}).fit(Shown(vit).support, vit, fork(seeded()))
    assert not torch.allclose(probed["head.weight"], literal_start(vit)["head.weight"], atol=0.01)
    start = vit.weights("image") | probed
    closely(shown.kept.gradients(0), slopes(lambda w: literal_ft(vit, w, shown.rows[0]), start))


@pytest.mark.parametrize("architecture", ["vit", "resnet"])
def test_flyp_contrasts_pictures_with_drawn_captions_of_their_classes(architecture: str, request) -> None:
    backbone = request.getfixturevalue(architecture)
    shown, (_, chance) = Shown(backbone), trainers_draws(seeded())
    FLYP(**SHORT).fit(shown.support, backbone, seeded())

    def loss(weights: dict[str, Tensor], step: int) -> Tensor:
        own, rows = with_towers(backbone, weights), shown.rows[step]
        f = own.encode_images(pixels_for(backbone)[rows])
        g = own.encode_texts(drawn(LABELS[rows].tolist(), chance, step))
        s = weights["logit_scale"].exp()
        return literal_contrast(torch.stack([torch.stack([s * (unit(a) * unit(b)).sum() for b in g]) for a in f]))

    start = {name: weight for part in ("image", "text", "scale") for name, weight in backbone.weights(part).items()}
    closely(shown.kept.gradients(0), slopes(lambda w: loss(w, 0), start))
    closely(shown.kept.gradients(1), slopes(lambda w: loss(w, 1), shown.kept.weights(0)))


def test_flyp_answers_with_all_templates_of_the_tuned_text_tower_and_the_tuned_scale(vit: OpenClip) -> None:
    method = FLYP(**SHORT)
    state = method.fit(Shown(vit).support, vit, seeded())
    own = vit.copy(state)
    f, h = own.encode_images(pixels_for(vit)), literal_text(own)
    s = state["logit_scale"].exp()
    expected = torch.stack([torch.stack([s * (unit(a) * b).sum() for b in h]) for a in f]).detach()
    assert torch.allclose(answers(method, state, vit), expected, rtol=1e-10)
    assert float((s - vit.scale).abs()) > 0


def literal_rada(layer: Mapping[str, Tensor], f: Tensor, h: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and mask by the layer as written out, whose maps take these weights with their gradients."""
    literal = LiteralRAda(f.shape[1], 2, ("image", "text", "matrix"), 1.0)
    maps = {f"maps.{name}": weight for name, weight in layer.items()}
    units = tuple(torch.stack([unit(row) for row in x]) for x in (f, h))
    return torch.func.functional_call(literal, maps, (*units, s.detach()))


@pytest.mark.parametrize("reg", ["none", "linf", "mse", "l1"])
def test_rada_on_frozen_encoders_follows_the_gradient_of_its_masked_logits(vit: OpenClip, reg: str) -> None:
    shown = Shown(vit)
    support = shown.support
    RAdaFrozen(heads=2, reg=reg, alpha=5.0, **SHORT).fit(support, vit, seeded())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        logits, mask = literal_rada(weights, support.features, literal_text(vit), vit.scale)
        return cross_entropy(logits, LABELS.tolist()) + 5 * rada_penalty(mask, reg)

    for step in (1, 2):
        closely(shown.kept.gradients(step), slopes(loss, shown.kept.weights(step - 1)))
    assert not shown.rows, "no picture was opened"


@pytest.mark.parametrize("loss", ["ce", "contrast"])
def test_rada_ft_follows_the_gradient_of_its_loss_into_both_towers_and_the_layer(vit: OpenClip, loss: str) -> None:
    rng = seeded()
    fork(rng)
    shown, (_, chance) = Shown(vit), trainers_draws(rng)
    RAdaFT(loss=loss, heads=2, reg="mse", alpha=5.0, **SHORT).fit(shown.support, vit, seeded())

    def literal(weights: dict[str, Tensor], step: int) -> Tensor:
        own, rows = with_towers(vit, weights), shown.rows[step]
        labels = LABELS[rows].tolist()
        layer = {name.removeprefix("layer."): w for name, w in weights.items() if name.startswith("layer.")}
        texts = drawn(labels if loss == "contrast" else [0, 1, 2], chance, step)
        f, h = own.encode_images(pixels_for(vit)[rows]), own.encode_texts(texts)
        logits, mask = literal_rada(layer, f, h, vit.scale)
        value = literal_contrast(logits) if loss == "contrast" else cross_entropy(logits, labels)
        return value + 5 * rada_penalty(mask, "mse")

    closely(shown.kept.gradients(1), slopes(lambda w: literal(w, 1), shown.kept.weights(0)))


# -- what learns and what does not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refresh", "learnt"), [(1, [True, True, True]), (2, [True, False, True]), (0, [False, False, False])]
)
def test_rada_fts_text_tower_learns_in_the_steps_that_refresh_names(vit, refresh: int, learnt: list[bool]) -> None:
    shown = Shown(vit)
    RAdaFT(refresh=refresh, heads=2, **SHORT).fit(shown.support, vit, seeded())
    text = vit.weights("text")
    states = [text] + [{**text, **shown.kept.weights(step)} for step in range(3)]
    moved = [any(not torch.equal(now[name], then[name]) for name in text) for then, now in pairwise(states)]
    assert moved == learnt


def test_between_refreshes_rada_ft_sees_all_templates_of_the_tower_as_it_is(vit: OpenClip) -> None:
    shown = Shown(vit)
    RAdaFT(refresh=2, heads=2, **SHORT).fit(shown.support, vit, seeded())
    weights, rows = shown.kept.weights(0), shown.rows[1]
    own = with_towers(vit, weights)
    text = literal_text(own).detach()

    def literal(weights: dict[str, Tensor]) -> Tensor:
        f = with_towers(vit, weights).encode_images(pixels_for(vit)[rows])
        layer = {name.removeprefix("layer."): w for name, w in weights.items() if name.startswith("layer.")}
        return cross_entropy(literal_rada(layer, f, text, vit.scale)[0], LABELS[rows].tolist())

    learning_now = {name: w for name, w in weights.items() if name not in vit.weights("text")}
    found = shown.kept.gradients(1)
    closely({name: found[name] for name in learning_now}, slopes(literal, learning_now))


def test_rada_fts_layer_may_have_a_learning_rate_of_its_own(vit: OpenClip) -> None:
    shown = Shown(vit)
    RAdaFT(layer_lr=0.0, heads=2, **SHORT).fit(shown.support, vit, seeded())
    first, last = shown.kept.weights(0), shown.kept.weights(2)
    still = {name for name in first if torch.equal(first[name], last[name])}
    assert {name for name in first if name.startswith("layer.")} <= still
    assert not {name for name in first if name.startswith("visual.")} <= still


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("architecture", ["vit", "resnet"])
def test_the_shared_model_stays_bit_for_bit_what_it_was_and_what_learns_is_what_is_counted(
    name: str, architecture: str, request
) -> None:
    backbone = request.getfixturevalue(architecture)
    before = weights_hash(backbone.model)
    form = METHODS[name].with_fields(**{**SHORT, "epochs": 1})
    state = form.method.fit(Shown(backbone).support, backbone, seeded())
    answers(form.method, state, backbone)
    assert weights_hash(backbone.model) == before
    assert not any(weight.requires_grad for weight in backbone.model.parameters())
    assert sum(tensor.numel() for tensor in state.values()) == form.method.parameters(backbone, 3)
    learnt = {part_of(backbone, name) for name in state}
    assert learnt == {
        "lp-all": {"head"},
        "rada-fft": {"layer"},
        "flyp": {"image", "text", "scale"},
        "rada-ft": {"image", "text", "layer"},
    }.get(name, {"image", "head"})


def part_of(backbone: OpenClip, name: str) -> str:
    if name.startswith("head."):
        return "head"
    return next((part for part in ("image", "text", "scale") if name in backbone.weights(part)), "layer")


class ViTB16:
    """The shapes of CLIP's ViT-B/16, without a weight."""

    dim = 512

    def __init__(self) -> None:
        with torch.device("meta"):
            self.model = CLIP(**open_clip.get_model_config("ViT-B-16"))  # type: ignore[arg-type]

    def weights(self, part) -> dict[str, Tensor]:
        return weights_of(self.model, part)


def test_parameter_counts_with_vit_b16() -> None:
    image, text, layer = 86_192_640, 63_428_096, 1_575_936
    head = 1000 * 513
    assert {name: METHODS[name].method.parameters(ViTB16(), 1000) for name in NAMES} == {  # type: ignore[arg-type]
        "lp-all": head,
        "ft": image + head,
        "l2-sp": image + head,
        "lp-ft": image + head,
        "wise-ft": image + head,
        "flyp": image + text + 1,
        "rada-fft": layer,
        "rada-ft": image + text + layer,
    }
    assert RAdaFT(refresh=0).parameters(ViTB16(), 1000) == image + layer  # type: ignore[arg-type]


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["vit", "resnet"])
def test_wise_ft_is_zero_shot_at_0_and_ft_at_1_exactly(architecture: str, request) -> None:
    backbone = request.getfixturevalue(architecture)
    fine = FT(**SHORT, clip=1.0)
    tuned = fine.fit(Shown(backbone).support, backbone, seeded())
    state = WiSEFT(**SHORT).fit(Shown(backbone).support, backbone, seeded())
    start = {**backbone.weights("image"), **text_head(backbone, CLASSES, None)}
    assert torch.equal(answers(WiSEFT(alpha=1.0), state, backbone), answers(fine, tuned, backbone))
    assert torch.equal(answers(WiSEFT(alpha=0.0), state, backbone), answers(fine, start, backbone))


def test_between_them_wise_ft_answers_with_the_mean_of_the_weights(vit: OpenClip) -> None:
    state = WiSEFT(**SHORT).fit(Shown(vit).support, vit, seeded())
    start = literal_start(vit)
    mixed = {name: ((1 - 0.3) * start[name] + 0.3 * weight).detach() for name, weight in state.items()}
    assert torch.allclose(answers(WiSEFT(alpha=0.3), state, vit), answers(FT(), mixed, vit), rtol=1e-9)


def test_l2_sp_stays_at_its_start_as_lambda_grows(vit: OpenClip) -> None:
    long = {**SHORT, "epochs": 25}
    start = literal_start(vit)

    def way(state: Mapping[str, Tensor]) -> float:
        return max(float((weight - start[name]).abs().max()) for name, weight in state.items())

    ways = [way(L2SP(lam=lam, **long).fit(Shown(vit).support, vit, seeded())) for lam in (0.0, 1.0, 1e8)]
    assert ways[0] == way(FT(**long).fit(Shown(vit).support, vit, seeded()))
    assert ways == sorted(ways, reverse=True)
    assert ways[0] > 5 * LR
    assert ways[-1] < LR, "less than one step of AdamW, however many there are"


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_larger_than_the_support_is_the_whole_support(vit: OpenClip, name: str) -> None:
    shown = Shown(vit)
    METHODS[name].with_fields(**{**SHORT, "batch": 1000}).method.fit(shown.support, vit, seeded())
    assert len(shown.kept.steps) == 3
    assert all(sorted(rows.tolist()) == list(range(6)) for rows in shown.rows)


class Stopping(Checkpoints):
    """Interrupts the fit when its second step is saved."""

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        super().save(step, tensors)
        if step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_fit_goes_on_and_ends_with_the_bits_of_an_undisturbed_one(
    vit, name: str, tmp_path: Path
) -> None:
    fields = {**SHORT, "epochs": 5} | ({"refresh": 2} if name == "rada-ft" else {})
    method, support = METHODS[name].with_fields(**fields).method, Shown(vit).support
    undisturbed = method.fit(support, vit, seeded())
    with pytest.raises(KeyboardInterrupt):
        method.fit(replace(support, checkpoints=Stopping(tmp_path, "fit", every=0.0)), vit, seeded())
    resumed = method.fit(replace(support, checkpoints=Checkpoints(tmp_path, "fit")), vit, seeded())
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in undisturbed)


@pytest.mark.parametrize("name", ["ft", "l2-sp", "lp-ft", "wise-ft", "rada-fft", "rada-ft"])
def test_micro_batches_add_up_to_the_same_answers(vit: OpenClip, name: str) -> None:
    """The weights may differ where they mean nothing: a bias of the keys has no gradient but rounding."""

    def answered(micro: int) -> Tensor:
        method = METHODS[name].with_fields(**SHORT, micro=micro).method
        return answers(method, method.fit(Shown(vit).support, vit, seeded()), vit)

    assert torch.allclose(answered(4), answered(0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in NAMES if "pixels" in METHODS[name].method.needs])
def test_keeping_less_for_the_way_back_changes_nothing_and_a_lower_precision_little(vits, name: str) -> None:
    def way(backbone: OpenClip, **change: Any) -> float:
        methods = (METHODS[name].with_fields(**SHORT, **more).method for more in ({}, change))
        plain, other = (method.fit(Shown(backbone).support, backbone, seeded()) for method in methods)
        return max(float((plain[key] - other[key]).abs().max()) for key in plain)

    assert way(vits["exact"], recompute=True) < 1e-9
    assert 0 < way(vits["real"], precision="bf16") < 6 * LR, "three steps of AdamW each lead no further apart"


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("ft", {"precision": "fp8"}, "precision 'fp8' is not known"),
        ("ft", {"batch": 0}, "batch of at least 1"),
        ("lp-all", {"solver": "sgd"}, "lp-all has no solver 'sgd': known are: adamw, l-bfgs"),
        ("lp-ft", {"solver": "sgd"}, "no solver 'sgd'"),
        ("l2-sp", {"lam": -1.0}, "set lam to 0 or more"),
        ("flyp", {"micro": 4}, "flyp contrasts a batch as a whole and cannot pass 4 pictures at a time"),
        ("wise-ft", {"alpha": 1.5}, "set alpha between 0 and 1"),
        ("rada-fft", {"reg": "l3"}, "rada-fft has no reg 'l3'"),
        ("rada-ft", {"loss": "mse"}, "rada-ft has no loss 'mse'"),
        ("rada-ft", {"refresh": -1}, "set refresh to 0 or more"),
        ("rada-ft", {"loss": "contrast", "micro": 2}, "contrasts a batch as a whole"),
    ],
)
def test_a_field_that_cannot_be_is_refused_with_the_remedy(name: str, fields: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        METHODS[name].with_fields(**fields)


# -- in the runner ----------------------------------------------------------------------------------------------------

SIX = Part("world-pattern", "train")
TASK = Task(Part("world-pattern", "test"), SIX, shots=2, limit=6)


@pytest.fixture
def runner(tiny: OpenClip, tmp_path: Path) -> Runner:
    return Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path / "results", checkpoint_every=0.0)


@pytest.mark.slow
def test_every_form_runs_from_drawn_pictures_to_its_row_of_the_table(tmp_path: Path, capsys) -> None:
    command = ["run", "--methods", "finetune,rada", "--suite", "finetune-smoke", "--results", str(tmp_path)]
    assert main([*command, "--workers", "0"]) == 0
    table = capsys.readouterr().out
    found = records.scan(tmp_path, predictions=True).records
    backbone = load("world-rn")
    for name in NAMES:
        mine = [record for record in found if record.method == name]
        assert {record.task.test.name for record in mine} == {"world-photo", "world-sketch:3", "world-noise:3"}
        assert {(record.status, record.support, len(record.ids)) for record in mine} == {("done", 100, 40)}
        assert {record.parameters for record in mine} == {METHODS[name].method.parameters(backbone, 50)}
        assert METHODS[name].title in table


def test_a_fit_whose_loss_is_no_number_is_a_failed_cell_with_the_step_and_its_last_checkpoint(runner: Runner) -> None:
    form = METHODS["ft"].with_fields(epochs=3, batch=4, warmup=0, lr=1e30)
    cell = Cell(form, TASK, 1)
    (record,) = runner.run([cell]).records
    assert record.status == "failed"
    assert record.error.startswith("FloatingPointError: the loss is nan at step 2 of 9: lower lr")
    found = Checkpoints(runner.results / "checkpoints", runner.fit_id(cell)).load()
    assert found is not None
    assert int(found["step"]) == 1


@dataclass(frozen=True)
class Hungry:
    """A method whose loss asks for more memory than there is, or fails for another reason."""

    kind: str = "torch"
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})
    setting: ClassVar[Any] = "fine-tune"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[Any] = "fixed"
    grid: ClassVar[dict] = {}

    def fit(self, support: Support, backbone, rng) -> dict[str, Tensor]:
        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            if self.kind == "python":
                return torch.tensor(len(bytearray(2**60)))
            if self.kind == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            if self.kind == "other":
                return torch.zeros(2) @ torch.zeros(3)
            return torch.empty(2**56).sum()

        finetune(loss, learning({"w": torch.zeros(1)}), support, Recipe(batch=4, micro=2, epochs=1), rng)
        return {}

    def predictor(self, state, classes, backbone, rng):
        raise AssertionError("the fit fails")

    def parameters(self, backbone, classes) -> int:
        return 1


@pytest.mark.parametrize("kind", ["torch", "python", "cuda"])
def test_a_fit_without_room_is_a_failed_cell_that_names_what_lowers_the_need(runner: Runner, kind: str) -> None:
    (record,) = runner.run([Cell(Form("hungry", "Hungry", "hungry", Hungry(kind)), TASK, 1)]).records
    assert record.status == "failed"
    assert record.error == (
        "MemoryError: 2 pictures at once in fp32 do not fit into memory: "
        "lower batch or micro, set recompute to True, or precision to bf16"
    )


def test_another_error_of_torch_is_told_as_it_is(runner: Runner) -> None:
    (record,) = runner.run([Cell(Form("hungry", "Hungry", "hungry", Hungry("other")), TASK, 1)]).records
    assert record.error.startswith("RuntimeError: ")
    assert "memory" not in record.error


def test_the_points_of_wise_fts_curve_share_one_fit(runner: Runner) -> None:
    form = METHODS["wise-ft"].with_fields(epochs=1, batch=6, warmup=0, lr=1e-2)
    cells = [Cell(form.with_fields(alpha=a), TASK, 1) for a in (0.0, 0.5, 1.0)]
    found = runner.run(cells).records
    assert len({record.id for record in found}) == 3
    assert len({record.cost.fit_s for record in found}) == 1
    alone = replace(runner, results=runner.results.parent / "alone").run(cells[1:2]).records[0]
    assert alone.id == found[1].id
    assert alone.p_true.tolist() == found[1].p_true.tolist()
    assert found[0].p_true.tolist() != found[2].p_true.tolist()


def test_heads_for_imagenet_are_masked_to_its_renditions_by_wordnet_ids(runner: Runner, tmp_path: Path) -> None:
    """One of the 200 classes shares its name, missile, with another of the 1000."""
    for name, parent in (("imagenet", "train"), ("imagenet-r", ".")):
        card = cards.card(name)
        for folder in card.options["folders"]:
            (tmp_path / card.folder / parent / folder).mkdir(parents=True)
            (tmp_path / card.folder / parent / folder / "0.jpg").touch()
    runner.data_root = tmp_path
    asked, known = (runner._classes(part) for part in (Part("imagenet-r", "test"), Part("imagenet", "train")))
    groups = places(asked, known)
    assert {len(group) for group in groups} == {1}  # each stands for one class
    columns = [column for (column,) in groups]
    assert [known.keys[column] for column in columns] == list(asked.keys)
    assert [known.names[column] for column in columns] == list(asked.names)
    assert known.names.count("missile") == 2
    assert "missile" in asked.names
