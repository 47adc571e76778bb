"""Copies whose weights learn, prompts and branches inside the towers, each against the model's own parts."""

from __future__ import annotations

import math

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn.functional import linear

from bench.api import Classes, NotRunnable
from bench.backbone import OpenClip, Transform, embedded, weights_hash

CLASSES = Classes(("star", "weather vane", "key"), ("a photo of a {}.",), (0, 1, 2))
PIXELS = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def vit() -> OpenClip:
    """A random CLIP with a ViT of four blocks, on the embedded tokenizer."""
    vision = {"image_size": 64, "layers": 4, "width": 48, "patch_size": 16, "head_width": 16}
    text = {"context_length": 20, "vocab_size": 1054, "width": 32, "heads": 2, "layers": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(24, vision, text, output_dict=False)
    transform = Transform(64, (0.5,) * 3, (0.3,) * 3)
    return OpenClip(model, embedded.tokenizer(), "vit", transform, weights_hash(model))


def parameters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: nn.Parameter(weight.detach().clone()) for name, weight in weights.items()}


# -- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_answers_bit_for_bit_as_the_original_and_shares_what_does_not_learn(vit: OpenClip) -> None:
    own = vit.copy({name: weight.clone() for name, weight in vit.weights("image").items()})
    assert torch.equal(own.encode_images(PIXELS), vit.encode_images(PIXELS))
    assert torch.equal(own.text_features(CLASSES), vit.text_features(CLASSES))
    mine, theirs = dict(own.model.named_parameters()), dict(vit.model.named_parameters())
    assert {name for name in mine if mine[name] is not theirs[name]} == set(vit.weights("image"))


def test_training_a_copy_leaves_the_original_bit_for_bit_alone(vit: OpenClip) -> None:
    before = weights_hash(vit.model)
    weights = parameters(vit.weights("image") | vit.weights("text") | vit.weights("scale"))
    own = vit.copy(weights)
    loss = own.scale * (own.encode_images(PIXELS) @ own.encode_texts(["a star.", "a key."]).T).square().mean()
    loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values())
    torch.optim.SGD(weights.values(), lr=0.1).step()
    assert weights_hash(vit.model) == before != weights_hash(own.model)
    assert not any(weight.requires_grad for weight in vit.model.parameters())


def test_the_three_parts_are_all_weights_each_once(vit: OpenClip) -> None:
    parts = [vit.weights(part) for part in ("image", "text", "scale")]
    names = [name for part in parts for name in part]
    assert sorted(names) == sorted(name for name, _ in vit.model.named_parameters())
    assert list(vit.weights("scale")) == ["logit_scale"]


def test_recomputation_changes_no_gradient(vit: OpenClip, tiny: OpenClip) -> None:
    for backbone in (vit, tiny):
        gradients = []
        for recompute in (False, True):
            weights = parameters(backbone.weights("image"))
            backbone.copy(weights, recompute).encode_images(PIXELS).sum().backward()
            gradients.append([weight.grad for weight in weights.values()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # type: ignore[arg-type]


def test_texts_are_encoded_as_the_model_does_it(vit: OpenClip) -> None:
    texts = ["a photo of a key.", "a star.", "a drawing of a weather vane in the rain."]
    assert torch.allclose(vit.encode_texts(texts), vit.model.encode_text(vit.tokenizer(texts)), atol=1e-6)


def test_weights_of_another_shape_are_refused_by_name(vit: OpenClip) -> None:
    with pytest.raises(NotRunnable, match=r"visual\.proj has shape \(2, 2\)"):
        vit.copy({"visual.proj": torch.zeros(2, 2)})


# -- prompts inside the image tower -----------------------------------------------------------------------------------


def with_tokens_literally(model, pixels: Tensor, tokens: Tensor) -> Tensor:
    """Patches, class token, positions; prompts appended; block by block the prompts' rows written over."""
    visual, m = model.visual, tokens.shape[1]
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(pixels), 1, -1), patches], 1) + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, torch.stack([tokens[0]] * len(pixels))], 1))
    for i, block in enumerate(visual.transformer.resblocks):
        if 1 <= i < len(tokens):
            x = x.clone()
            x[:, -m:] = tokens[i]
        x = block(x)
    return visual.ln_post(x[:, 0]) @ visual.proj


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_visual_prompts_stand_behind_the_patches_and_are_replaced_block_by_block(vit: OpenClip, depth: int) -> None:
    tokens = torch.randn(depth, 2, 48, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found, expected = vit.encode_images(PIXELS, tokens), with_tokens_literally(vit.model, PIXELS, tokens)
    assert torch.allclose(found, expected, atol=1e-6)
    a, b = (torch.autograd.grad(features.square().sum(), tokens)[0] for features in (found, expected))
    assert (a - b).abs().max() < 2e-5 * b.abs().max()
    recomputed = vit.copy({}, recompute=True).encode_images(PIXELS, tokens)
    (c,) = torch.autograd.grad(recomputed.square().sum(), tokens)
    assert torch.allclose(c, a)
    assert torch.equal(vit.encode_images(PIXELS), vit.model.encode_image(PIXELS))  # nothing stays behind


@pytest.mark.parametrize("depth", [1, 2])
def test_deep_text_prompts_take_the_place_of_the_first_context_vectors(vit: OpenClip, depth: int) -> None:
    rng = torch.Generator().manual_seed(2)
    context, deep = torch.randn(4, 32, generator=rng), torch.randn(depth, 2, 32, generator=rng).requires_grad_()
    path = vit.prompts(CLASSES, 4)
    found, tower, expected = path(context, deep), vit.model, []
    for name in CLASSES.names:
        words = torch.tensor([*vit.tokenizer.encode(name + "."), vit.tokenizer.eot_token_id])
        start = tower.token_embedding(torch.tensor([vit.tokenizer.sot_token_id]))
        x = torch.cat([start, context, tower.token_embedding(words)])[None]
        length = x.shape[1]
        x = x + tower.positional_embedding[:length]
        for i, block in enumerate(tower.transformer.resblocks):
            if 1 <= i <= depth:
                x = torch.cat([x[:, :1], deep[i - 1][None], x[:, 3:]], 1)
            x = block(x, attn_mask=tower.attn_mask[:length, :length])
        expected.append(tower.ln_final(x)[0, -1] @ tower.text_projection)
    assert torch.allclose(found, torch.stack(expected), atol=2e-6)
    a, b = (torch.autograd.grad(f.square().sum(), deep)[0] for f in (found, torch.stack(expected)))
    assert (a - b).abs().max() < 2e-5 * b.abs().max()


def test_what_a_tower_cannot_carry_is_refused_in_a_sentence(vit: OpenClip, tiny: OpenClip) -> None:
    with pytest.raises(NotRunnable, match=r"image tower's transformer.*ResNet"):
        tiny.encode_images(PIXELS, torch.zeros(1, 2, 16))
    with pytest.raises(NotRunnable, match=r"image tower's transformer.*ResNet"):
        tiny.shape("image")
    with pytest.raises(NotRunnable, match="5 blocks were asked for, and the image tower has 4"):
        vit.encode_images(PIXELS, torch.zeros(5, 2, 48))
    with pytest.raises(NotRunnable, match="deep prompts of 2 tokens in 3 further blocks do not fit"):
        vit.prompts(CLASSES, 4)(torch.zeros(4, 32), torch.zeros(3, 2, 32))
    with pytest.raises(NotRunnable, match="do not fit 0 context vectors"):
        vit.prompts(CLASSES, 4, "front")(torch.zeros(4, 32), torch.zeros(1, 2, 32))
    assert vit.shape("image") == (4, 48)
    assert vit.shape("text") == (3, 32)


# -- low-rank branches ------------------------------------------------------------------------------------------------


def low_rank(blocks: int, width: int, zero: bool) -> list[tuple[Tensor, Tensor]]:
    """(A (2, W), B (3 W, 2)) of every block."""
    rng = torch.Generator().manual_seed(3)
    pairs = [(torch.randn(2, width, generator=rng), torch.randn(3 * width, 2, generator=rng)) for _ in range(blocks)]
    return [(a / math.sqrt(width), b * (not zero)) for a, b in pairs]


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("zero", [False, True])
def test_a_branch_beside_the_projections_equals_the_merged_weights(vit: OpenClip, tower: str, zero: bool) -> None:
    def answer(backbone: OpenClip) -> Tensor:
        if tower == "image":
            return backbone.encode_images(PIXELS)
        with torch.no_grad():
            return backbone.prompts(CLASSES, 4)(vit.embed("a photo of a"))

    pairs = low_rank(*vit.shape(tower), zero)
    beside = vit.copy({})
    beside.add_branches(tower, [lambda h, a=a, b=b: linear(linear(h, a), b) for a, b in pairs])
    names = vit.in_projections(tower)
    weights = vit.weights(tower)
    merged = vit.copy({name: weights[name] + b @ a for name, (a, b) in zip(names, pairs, strict=True)})
    assert torch.allclose(answer(beside), answer(merged), atol=1e-5)
    if zero:
        assert torch.equal(answer(merged), answer(vit))
    else:
        assert not torch.allclose(answer(merged), answer(vit), atol=1e-2)


def test_branches_leave_the_original_model_alone(vit: OpenClip) -> None:
    before = vit.encode_images(PIXELS)
    vit.copy({}).add_branches("image", [lambda h: torch.ones_like(h).repeat(1, 1, 3)] * 4)
    assert torch.equal(vit.encode_images(PIXELS), before)
