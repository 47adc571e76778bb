"""Every method on every kind of architecture, with random weights: answered, or refused with its reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, folder
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn.functional import cross_entropy, normalize

import methods  # noqa: F401
from bench import backbone, records
from bench.api import METHODS, Classes, Form, NotRunnable, Suite
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.contract.data import batch_of, support_of
from bench.features import Features
from bench.runner import Runner, plan

CLASSES = Classes(("star", "weather vane", "key"), ("a photo of a {}.",), (0, 1, 2))
SUITE = Suite(
    name="families",
    title="Six pictures of the fine-grained world",
    setting="domain-shift",
    tests=("world-fine",),
    admits=("zero-shot", "few-shot", "test-time", "few-shot+test-time"),
    backbone="world-rn",
    source="world-fine",
    shots=(1,),
    seeds=1,
    view_seeds=1,
    views=3,
    limit=6,
)
SIX = ("zero-shot", "lp", "zs-lp", "coop-m16", "coop-csc", "clip-adapter", "tpt", "rada-eft", "rada-ttt", "rada-dagger")
INSIDE = ("maple", "prompt-src", "clip-lora", "rada-prompt")
"""Methods that learn inside both towers' transformers."""
CARRY = {"vit", "openai-vit", "worldwide"}
"""Families whose towers can be learnt inside of: open_clip's own transformers, read at the class and end tokens."""
TEXT = "this backbone's text tower carries no prompts or branches inside: its blocks are not CLIP's"
REASONS = {
    "coca": TEXT,
    "clipa": TEXT,
    "resnet": "this backbone's is a ResNet",
    "siglip": "this backbone's is a VisionTransformer",  # timm's, not open_clip's
    "eva": "this backbone's is a Eva",
    "convnext": "this backbone's is a ConvNeXt",
    "mobileclip": "this backbone's is a FastVit",
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str, tmp_path_factory: pytest.TempPathFactory) -> OpenClip:
    place = folder(family, tmp_path_factory.mktemp("families"))
    return backbone.load(backbone.find(f"local-dir:{place}", random_weights=True))


def quick(name: str) -> Form:
    """The form with one short epoch."""
    form = METHODS[name]
    known = {f.name for f in dataclasses.fields(form.method)}  # type: ignore[arg-type]
    short = {"epochs": 1, "augment": 1, "batch": 25, "iterations": 1, "warmup": 1, "micro": 0}
    return form.with_fields(**{key: value for key, value in short.items() if key in known})


# -- texts and pictures -----------------------------------------------------------------------------------------------


def test_the_text_features_are_those_of_the_model_itself(model: OpenClip) -> None:
    tokens = model.tokenizer([f"a photo of a {name}." for name in CLASSES.names])
    with torch.no_grad():
        expected = model.model.encode_text(tokens, normalize=True)
    assert torch.allclose(model.text_features(CLASSES), expected, atol=2e-6)
    assert torch.allclose(normalize(model.encode_texts(["a photo of a key."]), dim=-1), expected[2:], atol=2e-6)


@pytest.mark.parametrize("position", ["end", "front", "middle"])
def test_context_vectors_that_are_words_give_the_logits_of_the_written_prompt(model: OpenClip, position: str) -> None:
    written = {"end": "a photo of a {}.", "front": "{} a photo of a.", "middle": "a photo {} of a."}[position]
    tokens = model.tokenizer([written.format(name) for name in CLASSES.names])
    images = normalize(torch.randn(5, model.dim, generator=torch.Generator().manual_seed(0)), dim=-1)
    with torch.no_grad():
        expected = model.model.encode_text(tokens, normalize=True)
        found = normalize(model.prompts(CLASSES, 4, position)(model.embed("a photo of a")), dim=-1)
    assert torch.allclose(100 * images @ found.T, 100 * images @ expected.T, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 512])
def test_the_gradient_of_a_context_vector_is_that_of_the_models_own_token_embedding(
    model: OpenClip, chunk: int
) -> None:
    """Through open_clip's encode_text: the embedding row of a word that stands once in every prompt."""
    word, twin = model.tokenizer.encode("zebra")[0], model.copy({})
    twin.text_chunk = chunk
    own = [n for n in model.weights("text") if n.endswith("token_embedding.weight")]
    table = model.weights("text")[own[0]].detach().clone().requires_grad_()
    whole = model.copy({own[0]: table})
    tokens = model.tokenizer([f"zebra {name}." for name in CLASSES.names])
    target = torch.arange(3)
    loss = cross_entropy(whole.model.encode_text(tokens, normalize=True)[:, :3] * 10, target)
    (expected,) = torch.autograd.grad(loss, table)
    context = model.embed("zebra")[:1].requires_grad_()
    features = normalize(twin.prompts(CLASSES, 1)(context), dim=-1)
    (found,) = torch.autograd.grad(cross_entropy(features[:, :3] * 10, target), context)
    assert torch.allclose(found[0], expected[word], atol=1e-5 * float(expected[word].abs().max()) + 1e-7)


def test_features_come_as_the_tower_gives_them_and_are_not_normalised(model: OpenClip) -> None:
    size = model.transform.size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.model.encode_image(pixels, normalize=False)
        found = model.encode_images(pixels)
        texts = model.encode_texts(["a key."])
    assert torch.equal(found, expected)
    assert not torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-3)
    assert not torch.allclose(texts.norm(dim=1), torch.ones(1), atol=1e-3)


def test_the_test_transform_is_open_clips(model: OpenClip) -> None:
    rng = np.random.default_rng(0)
    looks = PreprocessCfg(
        size=model.transform.size,
        mean=model.transform.mean,
        std=model.transform.std,
        interpolation=model.transform.interpolation,
        resize_mode="squash" if model.transform.squash else "shortest",
    )
    theirs = image_transform_v2(looks, is_train=False)
    for shape in ((50, 70), (301, 200), (64, 64)):
        picture = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert torch.allclose(model.transform.test([picture])[0], theirs(picture), atol=2e-6, rtol=0)


def test_the_bias_of_sigmoid_training_changes_no_probability(family: str, model: OpenClip) -> None:
    bias = model.model.logit_bias
    assert (bias is not None) == (family == "siglip")
    assert not any(name == "logit_bias" for part in ("image", "text", "scale") for name in model.weights(part))
    logits = model.scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    if bias is not None:
        assert torch.allclose((logits + bias).softmax(1), logits.softmax(1), atol=1e-6)
        assert torch.equal((logits + bias).sigmoid().argmax(1), logits.argmax(1))


# -- methods ----------------------------------------------------------------------------------------------------------


def test_the_six_methods_run_from_end_to_end_and_those_inside_the_towers_say_why_they_cannot(
    family: str, model: OpenClip, tmp_path: Path
) -> None:
    runner = Runner(Features(model, Cache(tmp_path / "cache")), tmp_path, views=SUITE.views)
    outcome = runner.run(plan(SUITE, [quick(name) for name in (*SIX, *INSIDE)]))
    found = {record.method: record for record in outcome.records}
    assert {name: found[name].error for name in SIX if found[name].status != "done"} == {}
    assert all(len(found[name].ids) == 6 for name in SIX)
    assert all(np.isfinite(found[name].p_true).all() for name in SIX)
    for name in INSIDE:
        if family in CARRY:
            assert found[name].status == "done", found[name].error
        else:
            assert found[name].status == "not-runnable", found[name].traceback
            assert any(reason in found[name].error for reason in (REASONS[family], TEXT)), found[name].error
    stored = records.scan(tmp_path).records
    assert all(record.provenance["weights"] == {"random": 0} for record in stored)
    assert all(record.backbone == f"{family}:random-weights" for record in stored)


@pytest.mark.parametrize("name", ["flyp", "rada-ft"])
def test_encoders_learn_and_every_weight_that_answers_gets_a_gradient(family: str, model: OpenClip, name: str) -> None:
    form = quick(name).with_fields(batch=4, lr=1e-3)
    support, rng = support_of(model, k=3, shots=2), torch.Generator().manual_seed(0)
    state = form.method.fit(support, model, rng)
    logits = form.method.predictor(state, support.classes, model, rng)(batch_of(model, k=3, n=2, views=2))
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
    before = model.weights("image") | model.weights("text")
    learnt = [key for key in state if key in before and not torch.equal(state[key], before[key])]
    assert sum("visual." in key for key in learnt) > 0.5 * len(model.weights("image"))


# -- what a family cannot carry ---------------------------------------------------------------------------------------


def test_a_tower_without_a_class_token_says_so_for_prompts_in_pictures(tmp_path: Path) -> None:
    clipa = backbone.load(backbone.find(f"local-dir:{folder('clipa', tmp_path)}", random_weights=True))
    with pytest.raises(NotRunnable, match="answers at its class token, and this one pools others"):
        clipa.encode_images(torch.zeros(1, 3, 32, 32), torch.zeros(1, 2, 48))


def test_two_random_models_are_equal_to_the_bit_and_leave_the_global_stream_alone(tmp_path: Path) -> None:
    source = backbone.find(f"local-dir:{folder('vit', tmp_path)}", random_weights=True)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = backbone.load(source)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = backbone.load(source)
    assert first.fingerprint == second.fingerprint
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    )


def test_a_configuration_with_a_wrong_key_is_answered_with_a_sentence(tmp_path: Path) -> None:
    place = folder("vit", tmp_path) / "open_clip_config.json"
    content = json.loads(place.read_text())
    content["model_cfg"]["text_cfg"]["widht"] = 3
    place.write_text(json.dumps(content))
    with pytest.raises(backbone.UserError, match=r"cannot be built .*widht"):
        backbone.load(backbone.find(f"local-dir:{place.parent}", random_weights=True))
    del content["model_cfg"]["vision_cfg"]
    place.write_text(json.dumps(content))
    with pytest.raises(backbone.UserError, match="no configuration of open_clip"):
        backbone.find(f"local-dir:{place.parent}", random_weights=True)
