"""MaPLe, PromptSRC, CLIP-LoRA and RAda + Prompt: each against its equations written out, on a CLIP in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import LiteralRAda, clip_logits, coop_rates, cross_entropy, softmax, unit
from torch import Tensor, nn

from bench import tune
from bench.api import METHODS, Batch, Classes, NotRunnable, Part, Support, Task, UserError
from bench.backbone import OpenClip, weights_hash
from bench.cache import Cache
from bench.checkpoints import Checkpoints
from bench.features import Features
from bench.runner import Cell, Runner
from methods.clip_lora import CLIPLoRA
from methods.maple import MaPLe
from methods.prompt_src import PromptSRC
from methods.rada_prompt import RAdaPrompt

NAMES = ("maple", "prompt-src", "clip-lora", "rada-prompt")
CLASSES = Classes(("star", "weather vane", "key"), ("a photo of a {}.", "a drawing of the {}."), (0, 1, 2))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
WORDS = "a photo of a"


@pytest.fixture
def vit(vits: dict[str, OpenClip]) -> OpenClip:
    """Four blocks in the image tower and three in the text tower, in float64."""
    return vits["exact"]


def pictures(like: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(5)).to(like)


def support_of(like: torch.dtype = torch.float64, checkpoints: Checkpoints | None = None, stop: int = -1) -> Support:
    """Six pictures, the same in every epoch; interrupted before step `stop`."""

    def images(steps, scale, flip) -> Iterator[Tensor]:
        assert (scale, flip) == ((0.08, 1.0), 0.5), "the CoOp line's crops"
        for step, (_, rows) in enumerate(steps):
            if step == stop:
                raise KeyboardInterrupt
            yield pictures(like)[rows]

    return Support(CLASSES, torch.empty(6, 0, dtype=like), LABELS, lambda copies: LABELS, None, images, checkpoints)


def batch_of(like: torch.dtype = torch.float64) -> Batch:
    return Batch(tuple("abcdef"), torch.empty(6, 0), None, pictures(like))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start_of(method, backbone: OpenClip) -> dict[str, Tensor]:
    """What `fit` starts from with the seed 0, ready to learn; its first draw is the stream of the batches."""
    rng = seeded()
    torch.randint(2**62, (), generator=rng)
    return {name: weight.clone().requires_grad_() for name, weight in method.start(backbone, rng).items()}


def closely(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor.detach(), rtol=1e-8, atol=1e-12), name


# -- the towers, written out ------------------------------------------------------------------------------------------


def texts_literally(backbone: OpenClip, prompts: Tensor) -> Tensor:
    """Each text on its own, in full; in block i its first m words are `prompts[i]`."""
    tower, tokenizer, m, rows = backbone.model, backbone.tokenizer, prompts.shape[1], []
    for name in CLASSES.names:
        ids = [tokenizer.sot_token_id, *tokenizer.encode(f"{WORDS} {name}."), tokenizer.eot_token_id]
        x = tower.token_embedding(torch.tensor(ids))
        x = torch.cat([x[:1], prompts[0], x[1 + m :]])[None] + tower.positional_embedding[: len(ids)]
        for i, block in enumerate(tower.transformer.resblocks):
            if 1 <= i < len(prompts):
                x = torch.cat([x[:, :1], prompts[i][None], x[:, 1 + m :]], 1)
            x = block(x, attn_mask=tower.attn_mask[: len(ids), : len(ids)])
        rows.append(tower.ln_final(x)[0, -1] @ tower.text_projection)
    return torch.stack(rows)


def images_literally(backbone: OpenClip, pixels: Tensor, tokens: Tensor) -> Tensor:
    """Each picture on its own; in block i the last m tokens are `tokens[i]`."""
    visual, m, rows = backbone.model.visual, tokens.shape[1], []
    for picture in pixels:
        patches = visual.conv1(picture[None]).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), patches], 1) + visual.positional_embedding
        x = visual.ln_pre(torch.cat([x, tokens[:1]], 1))
        for i, block in enumerate(visual.transformer.resblocks):
            if 1 <= i < len(tokens):
                x = torch.cat([x[:, :-m], tokens[i][None]], 1)
            x = block(x)
        rows.append(visual.ln_post(x[0, 0]) @ visual.proj)
    return torch.stack(rows)


def by_coops_schedule(weights: list[Tensor], loss: Callable[[], Tensor], lr: float, epochs: int, after=None) -> None:
    """SGD on all pictures at once, an epoch a step."""
    optimiser = torch.optim.SGD(weights, lr, momentum=0.9, weight_decay=5e-4)
    for epoch, rate in enumerate(coop_rates(lr, epochs)):
        optimiser.param_groups[0]["lr"] = rate
        for weight, slope in zip(weights, torch.autograd.grad(loss(), weights), strict=True):
            weight.grad = slope
        optimiser.step()
        if after is not None:
            after(epoch)


# -- equations --------------------------------------------------------------------------------------------------------


def test_maple_is_its_equations(vit: OpenClip) -> None:
    method = MaPLe(epochs=4, batch=6, lr=0.05)
    w, x, s = start_of(method, vit), pictures(), vit.scale
    assert w["prompts"].shape == (3, 2, 32)
    assert torch.equal(w["prompts"][0], vit.embed("a photo"))
    assert w["weight"].shape == (3, 48, 32)

    def answer() -> Tensor:
        tokens = [w["prompts"][i] @ w["weight"][i].T + w["bias"][i] for i in range(3)]
        return clip_logits(images_literally(vit, x, torch.stack(tokens)), texts_literally(vit, w["prompts"]), s)

    by_coops_schedule(list(w.values()), lambda: cross_entropy(answer(), LABELS), 0.05, 4)
    state = method.fit(support_of(), vit, seeded())
    closely(state, w)
    found = method.predictor(state, CLASSES, vit, seeded())(batch_of())
    assert torch.allclose(found, answer(), atol=1e-8)


@pytest.mark.parametrize("divergence", ["p||p0", "p0||p"])
def test_promptsrc_is_its_equations_and_answers_with_the_average_over_epochs(vit: OpenClip, divergence: str) -> None:
    method = PromptSRC(epochs=4, batch=6, lr=0.05, mean=3.0, deviation=1.5, divergence=divergence)
    w, x, s = start_of(method, vit), pictures(), vit.scale
    assert torch.equal(w["text"][0], vit.embed(WORDS))
    assert (w["text"].shape, w["image"].shape) == ((3, 4, 32), (4, 4, 48))
    f0 = torch.stack([unit(f) for f in vit.model.encode_image(x)])
    sentences = [[f"a photo of a {n}.", f"a drawing of the {n}."] for n in CLASSES.names]
    t0 = torch.stack([unit(vit.model.encode_text(vit.tokenizer(pair)).mean(0)) for pair in sentences])

    def loss() -> Tensor:
        f = torch.stack([unit(row) for row in images_literally(vit, x, w["image"])])
        t = torch.stack([unit(row) for row in texts_literally(vit, w["text"])])
        logits, logits0 = clip_logits(f, t, s), clip_logits(f0, t0, s)
        terms = []
        for row, row0 in zip(logits, logits0, strict=True):
            p, p0 = softmax(row), softmax(row0)
            a, b = (p, p0) if divergence == "p||p0" else (p0, p)
            terms += [a_k * (a_k / b_k).log() for a_k, b_k in zip(a, b, strict=True)]
        away = 25 * (t - t0).abs().mean() + 10 * (f - f0).abs().mean()
        return cross_entropy(logits, LABELS) + away + sum(terms) / (6 * 3)

    gauss = [math.exp(-((e - 3.0) ** 2) / (2 * 1.5**2)) for e in (1, 2, 3, 4)]
    mean = {name: torch.zeros_like(weight) for name, weight in w.items()}

    def after(epoch: int) -> None:
        for name in w:
            mean[name] += gauss[epoch] / sum(gauss) * w[name].detach()

    by_coops_schedule(list(w.values()), loss, 0.05, 4, after)
    state = method.fit(support_of(), vit, seeded())
    closely(state, mean)
    found = method.predictor(state, CLASSES, vit, seeded())(batch_of())
    expected = clip_logits(images_literally(vit, x, mean["image"]), texts_literally(vit, mean["text"]), s)
    assert torch.allclose(found, expected, atol=1e-8)


def test_the_gaussian_average_weighs_the_fifteenth_of_twenty_epochs_most() -> None:
    shares = PromptSRC().shares(20)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[14] / shares[13] == pytest.approx(math.exp(0.5))
    assert shares[14] / shares[16] == pytest.approx(math.exp(2.0))
    assert PromptSRC(mean=60.0).shares(2)[1] == pytest.approx(1.0)  # where exp alone would be zero everywhere


def test_clip_lora_is_its_equations(vit: OpenClip) -> None:
    method = CLIPLoRA(iterations=3, batch=6, lr=0.01, dropout=0.0)
    w, x, s = start_of(method, vit), pictures(), vit.scale
    assert {name: tuple(weight.shape) for name, weight in w.items()} == {
        "image A": (4, 3, 2, 48),
        "image B": (4, 3, 48, 2),
        "text A": (3, 3, 2, 32),
        "text B": (3, 3, 32, 2),
    }
    tokens = vit.tokenizer([f"a photo of a {name}." for name in CLASSES.names])

    def answer() -> Tensor:
        changed = {}
        for tower, prefix in (("image", "visual.transformer"), ("text", "transformer")):
            for i in range(len(w[f"{tower} A"])):
                name = f"{prefix}.resblocks.{i}.attn.in_proj_weight"
                q, k, v = (w[f"{tower} B"][i, j] @ w[f"{tower} A"][i, j] / math.sqrt(2) for j in range(3))
                changed[name] = vit.model.get_parameter(name) + torch.cat([q, k, v])
        f, t, _ = torch.func.functional_call(vit.model, changed, (x, tokens))
        return clip_logits(f, t, s)

    optimiser = torch.optim.AdamW(w.values(), lr=0.01, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 6, eta_min=1e-6)
    for _ in range(6):  # three for each of two shots
        optimiser.zero_grad()
        cross_entropy(answer(), LABELS).backward()
        optimiser.step()
        schedule.step()
    state = method.fit(support_of(), vit, seeded())
    closely(state, w)
    found = method.predictor(state, CLASSES, vit, seeded())(batch_of())
    assert torch.allclose(found, answer(), atol=1e-8)


def test_rada_prompt_is_its_equations(vit: OpenClip) -> None:
    method = RAdaPrompt(epochs=4, batch=6, lr=0.05)
    w, x, s = start_of(method, vit), pictures(), vit.scale
    assert (w["text prompts"].shape, w["image prompts"].shape) == ((3, 2, 32), (4, 2, 48))
    layer = LiteralRAda(24, 8, ("image", "text", "matrix"), 1.0)
    layer.load({name: weight for name, weight in w.items() if not name.endswith("prompts")})
    sentences = [[f"a photo of a {n}.", f"a drawing of the {n}."] for n in CLASSES.names]
    frozen = torch.stack([vit.model.encode_text(vit.tokenizer(pair)).mean(0) for pair in sentences])

    def answer() -> Tensor:
        f = torch.stack([unit(row) for row in images_literally(vit, x, w["image prompts"])])
        h = torch.stack([unit(row) for row in (texts_literally(vit, w["text prompts"]) + frozen) / 2])
        return layer(f, h, s)[0]

    learnt = [w["text prompts"], w["image prompts"], *layer.parameters()]
    by_coops_schedule(learnt, lambda: cross_entropy(answer(), LABELS), 0.05, 4)
    state = method.fit(support_of(), vit, seeded())
    expected = {name.removeprefix("maps."): weight for name, weight in layer.named_parameters()}
    closely(state, expected | {name: w[name] for name in ("text prompts", "image prompts")})
    found = method.predictor(state, CLASSES, vit, seeded())(batch_of())
    assert torch.allclose(found, answer(), atol=1e-8)


# -- what must be exact -----------------------------------------------------------------------------------------------


def zero_shot(backbone: OpenClip, text: Tensor, pixels: Tensor) -> Tensor:
    return backbone.scale * nn.functional.normalize(backbone.model.encode_image(pixels), dim=-1) @ text.T


def test_a_branch_of_zeros_is_clip_bit_for_bit(vits: dict[str, OpenClip]) -> None:
    backbone, method = vits["real"], CLIPLoRA()
    classes = replace(CLASSES, templates=("a photo of a {}.",))
    found = method.predictor(method.start(backbone, seeded()), classes, backbone, seeded())(batch_of(torch.float32))
    assert torch.equal(found, zero_shot(backbone, backbone.text_features(classes), pictures(torch.float32)))


@pytest.mark.parametrize("method", [MaPLe(length=0), PromptSRC(length=0)], ids=["maple", "prompt-src"])
def test_towers_with_prompts_of_no_tokens_are_clip_bit_for_bit(method, vits: dict[str, OpenClip]) -> None:
    backbone = vits["real"]
    found = method.predictor(method.start(backbone, seeded()), CLASSES, backbone, seeded())(batch_of(torch.float32))
    text = nn.functional.normalize(backbone.prompts(CLASSES, 4)(backbone.embed(WORDS)), dim=-1)
    assert torch.equal(found, zero_shot(backbone, text, pictures(torch.float32)))


def test_merged_branches_answer_as_those_beside_the_projections(vit: OpenClip) -> None:
    method = CLIPLoRA(dropout=0.0)
    weights = {name: torch.randn(w.shape, generator=seeded(1)).to(w) for name, w in method.start(vit, seeded()).items()}
    beside, merged = method.beside(vit, weights, torch.Generator()), method.merged(vit, weights)
    for f, g in (
        (beside.encode_images(pictures()), merged.encode_images(pictures())),
        (beside.encode_texts(["a key.", "a star."]), merged.encode_texts(["a key.", "a star."])),
    ):
        assert torch.allclose(f, g, atol=1e-12)
    assert not torch.allclose(merged.encode_images(pictures()), vit.encode_images(pictures()), atol=0.1)


def test_dropout_strikes_a_quarter_of_what_enters_each_branch_and_scales_the_rest(vit: OpenClip) -> None:
    method, step = CLIPLoRA(rank=48, alpha=math.sqrt(48)), torch.Generator()
    eye = torch.eye(48, dtype=torch.float64).expand(4, 3, -1, -1)
    weights = method.start(vit, seeded()) | {"image A": eye, "image B": eye}
    blocks = method.beside(vit, weights, step).model.visual.transformer.resblocks
    h = torch.ones(50, 5, 48, dtype=torch.float64)

    def drawn(block: int, seed: int) -> Tensor:
        step.manual_seed(seed)
        return blocks[block].attn.branch(h)

    first = drawn(0, 7)
    assert first.unique().tolist() == pytest.approx([0.0, 4 / 3])
    q, k, v = (part == 0 for part in first.chunk(3, -1))
    assert q.double().mean() == pytest.approx(0.25, abs=0.02)
    for one, other in ((q, k), (k, v), (first == 0, drawn(1, 7) == 0), (first == 0, drawn(0, 8) == 0)):
        assert (one & other).double().mean() == pytest.approx(1 / 16, abs=0.02)  # independent of each other
    assert torch.equal(first, drawn(0, 7))


@pytest.mark.parametrize("name", NAMES)
def test_recomputation_changes_nothing_that_is_learnt(vit: OpenClip, name: str) -> None:
    form = quick(name)
    plain, again = (form.with_fields(recompute=r).method.fit(support_of(), vit, seeded()) for r in (False, True))
    closely(again, plain)


def test_micro_batches_without_dropout_learn_the_same(vit: OpenClip) -> None:
    form = quick("clip-lora").with_fields(dropout=0.0)
    closely(
        form.with_fields(micro=4).method.fit(support_of(), vit, seeded()), form.method.fit(support_of(), vit, seeded())
    )


def quick(name: str):
    """Two epochs, or two iterations a shot, of batches of three pictures."""
    form = METHODS[name]
    few = {"iterations": 2} if name == "clip-lora" else {"epochs": 2}
    return form.with_fields(batch=3, lr=0.05, **few)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_frozen_and_another_seed_learns_something_else(vit: OpenClip, name: str) -> None:
    before, global_stream = weights_hash(vit.model), torch.get_rng_state()
    with torch.no_grad():
        one, same, other = (quick(name).method.fit(support_of(), vit, seeded(seed)) for seed in (0, 0, 1))
    assert weights_hash(vit.model) == before
    assert torch.equal(torch.get_rng_state(), global_stream)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in vit.model.parameters())
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.allclose(one[key], other[key]) for key in one)
    assert not any(tensor.requires_grad for tensor in one.values())
    assert sum(tensor.numel() for tensor in one.values()) == METHODS[name].method.parameters(vit, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_that_was_interrupted_goes_on_and_ends_with_the_same_bits(
    vit: OpenClip, name: str, tmp_path: Path
) -> None:
    form = quick(name)
    with pytest.raises(KeyboardInterrupt):
        form.method.fit(support_of(checkpoints=Checkpoints(tmp_path, "fit", every=0.0), stop=3), vit, seeded())
    resumed = form.method.fit(support_of(checkpoints=Checkpoints(tmp_path, "fit", every=0.0)), vit, seeded())
    undisturbed = form.method.fit(support_of(), vit, seeded())
    assert all(torch.equal(resumed[key], undisturbed[key]) for key in undisturbed)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_in_bf16_rounds_the_products_of_the_towers_and_keeps_its_weights_in_float32(
    name: str, vits: dict[str, OpenClip]
) -> None:
    backbone, support = vits["real"], support_of(torch.float32)
    exact, rounded = (
        quick(name).with_fields(precision=precision).method.fit(support, backbone, seeded())
        for precision in ("fp32", "bf16")
    )
    assert all(tensor.dtype == torch.float32 for tensor in rounded.values())
    assert not all(torch.equal(exact[key], rounded[key]) for key in exact)
    assert all(tensor.isfinite().all() for tensor in rounded.values())


# -- shapes and refusals ----------------------------------------------------------------------------------------------


class ViTB16:
    """The numbers of CLIP's ViT-B/16, without a weight."""

    dim = 512

    def shape(self, tower: str) -> tuple[int, int]:
        return {"image": (12, 768), "text": (12, 512)}[tower]


def test_parameter_counts_with_vit_b16() -> None:
    counts = {name: METHODS[name].method.parameters(ViTB16(), 1000) for name in NAMES}  # type: ignore[arg-type]
    assert counts == {
        "maple": 3_555_072,
        "prompt-src": 46_080,
        "clip-lora": 184_320,
        "rada-prompt": 1_575_936 + 2 * 9 * (512 + 768),
    }


def test_a_tower_with_fewer_blocks_has_prompts_in_all_of_them_and_maples_couple_both(vit: OpenClip) -> None:
    def depths(method) -> list[int]:
        return [len(weight) for name, weight in method.start(vit, seeded()).items() if "." not in name]

    assert depths(MaPLe()) == [3, 3, 3]
    assert depths(PromptSRC()) == depths(RAdaPrompt()) == [3, 4]
    assert depths(PromptSRC(depth=2)) == [2, 2]
    assert MaPLe().parameters(vit, 3) == 3 * (2 * 32 + 32 * 48 + 48)


@pytest.mark.parametrize("name", NAMES)
def test_a_resnet_is_refused_in_one_sentence(tiny: OpenClip, name: str, tmp_path: Path) -> None:
    part = Part("world-photo", "train")
    cell = Cell(METHODS[name], Task(Part("world-photo", "test"), part, shots=1, limit=3), 1)
    (record,) = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path).run([cell]).records
    assert record.status == "not-runnable"
    assert record.error == (
        "learns inside the image tower's transformer, and this backbone's is a ResNet: take one such as world-vit"
    )


def test_tuning_leaves_out_what_the_backbone_cannot_carry(tiny: OpenClip, tmp_path: Path) -> None:
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path)
    assert tune.tune(runner, [METHODS["maple"]])["forms"] == {}


def test_words_that_are_fewer_than_the_prompts_are_named(vit: OpenClip) -> None:
    with pytest.raises(UserError, match="'a photo of a' are 4 tokens, not 5: lower the field length"):
        PromptSRC(length=5).fit(support_of(), vit, seeded())


@pytest.mark.parametrize(
    ("method", "change", "says"),
    [
        (PromptSRC, {"divergence": "kl"}, "divergence 'kl' is not known"),
        (PromptSRC, {"deviation": 0.0}, "deviation 0.0 .* must be above 0"),
        (MaPLe, {"depth": 0}, "a depth of at least 1"),
        (RAdaPrompt, {"length": -1}, "a length of at least 0"),
        (MaPLe, {"precision": "fp8"}, "precision 'fp8' is not known"),
        (CLIPLoRA, {"batch": 0}, "batch of at least 1"),
        (CLIPLoRA, {"rank": 0}, "a rank of at least 1"),
        (CLIPLoRA, {"dropout": 1.0}, "a dropout of at least 0 and below 1"),
    ],
)
def test_fields_out_of_range_are_named(method: type, change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        method(**change)


def test_features_alone_are_refused(vit: OpenClip) -> None:
    with pytest.raises(UserError, match="use a data set of images"):
        MaPLe().fit(replace(support_of(), images=None), vit, seeded())


def test_a_tower_that_is_not_clips_is_refused(vit: OpenClip) -> None:
    other = vit.copy({})
    other.model.attn_mask = None
    with pytest.raises(NotRunnable, match="text tower carries no prompts or branches"):
        MaPLe().fit(support_of(), other, seeded())
