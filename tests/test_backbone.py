"""The text path against the whole tower, views as functions of a generator, counting, fingerprints."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2 import RandomResizedCrop

from bench import backbone
from bench.api import Classes, NotRunnable, UserError
from bench.backbone import OpenClip, Stored, counted, embedded
from bench.backbone.transforms import Crops, Transform, crop_boxes

NAMES = ("star", "weather vane", "key", "umbrella")


def classes(names: tuple[str, ...] = NAMES) -> Classes:
    return Classes(names, ("a photo of a {}.",), tuple(range(len(names))))


def test_prompts_with_the_words_own_vectors_equal_the_encoded_text(tiny: OpenClip) -> None:
    path = tiny.prompts(classes(), length=4)
    found = F.normalize(path(tiny.embed("a photo of a")), dim=-1)
    expected = tiny.text_features(classes())
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_name_stands_where_the_position_says(tiny: OpenClip) -> None:
    words = {"end": "a photo of a key.", "front": "key a photo of a.", "middle": "a photo key of a."}
    for position, text in words.items():
        path = tiny.prompts(classes(("key",)), 4, position)
        with torch.no_grad():
            expected = tiny.model.encode_text(tiny.tokenizer([text]))
        assert torch.allclose(path(tiny.embed("a photo of a")), expected, atol=1e-6), position


def test_class_specific_context_equals_one_path_for_each_class(tiny: OpenClip) -> None:
    context = torch.randn(4, 3, 128, generator=torch.Generator().manual_seed(4)) * 0.02
    together = tiny.prompts(classes(), 3)(context)
    for k, name in enumerate(NAMES):
        alone = tiny.prompts(classes((name,)), 3)(context[k])
        assert torch.allclose(together[k], alone[0], atol=5e-6)


def test_gradients_reach_the_context_and_nothing_else(tiny: OpenClip) -> None:
    context = tiny.embed("a photo of a").requires_grad_()
    tiny.prompts(classes(), 4)(context).sum().backward()
    assert context.grad is not None
    assert context.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_an_ensemble_is_the_normalised_mean_of_normalised_features(tiny: OpenClip) -> None:
    one, two = "a photo of a {}.", "a sketch of a {}."
    expected = F.normalize(tiny.text_features(classes(), [one]) + tiny.text_features(classes(), [two]), dim=-1)
    assert torch.allclose(tiny.text_features(classes(), [one, two]), expected, atol=1e-6)


def test_a_name_too_long_for_the_tower_is_a_reason_and_no_crash(tiny: OpenClip) -> None:
    with pytest.raises(NotRunnable, match=r"xylophone.*holds 20"):
        tiny.prompts(classes(("xylophone " * 12,)), 16)


def test_an_unknown_position_is_refused(tiny: OpenClip) -> None:
    with pytest.raises(UserError, match="end, middle, front"):
        tiny.prompts(classes(), 4, "top")


def test_forwards_and_backwards_are_counted(tiny: OpenClip) -> None:
    with counted(tiny) as counts:
        context = tiny.embed("a photo of a").requires_grad_()
        tiny.prompts(classes(), 4)(context).sum().backward()
        tiny.text_features(classes(), ["a {}", "the {}"])
        tiny.encode_images(torch.zeros(3, 3, 64, 64))
    assert (counts.texts, counts.text_backwards, counts.images) == (4 + 8, 4, 3)


def test_the_fingerprint_follows_the_weights(make_backbone: Callable[[int], OpenClip]) -> None:
    assert make_backbone(0).fingerprint == make_backbone(0).fingerprint != make_backbone(1).fingerprint


def test_the_backbone_is_frozen_and_in_evaluation_mode(tiny: OpenClip) -> None:
    assert not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())


def test_a_bundle_backbone_gives_its_texts_by_row_and_refuses_the_rest() -> None:
    text = np.eye(3, 4, dtype=np.float16) * 2
    stored = Stored("features:x", text, 100.0, "abc")
    new = Classes(("c", "a"), ("{}",), (2, 0))
    assert torch.equal(stored.text_features(new), torch.eye(3, 4)[[2, 0]])
    for call in (
        lambda: stored.prompts(new, 4),
        lambda: stored.embed("a"),
        lambda: stored.encode_images(torch.zeros(1)),
    ):
        with pytest.raises(NotRunnable, match="a feature bundle holds none"):
            call()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("world-rm", "did you mean world-rn"),
        ("world-vt", "did you mean world-vit"),
        ("ViT-B-61:openai", "did you mean ViT-B-16"),
        ("ViT-B-16", "names no weights"),
        ("ViT-B-16:opnai", "did you mean openai"),
        ("ViT-B-16:opnai=weights.pt", "did you mean openai"),
        ("RN50:/nowhere/weights.pt", "there is no weights file"),
        ("ViT-B-16:openai=/nowhere/weights.pt", "there is no weights file"),
        ("hf-hub:nothing", "must look like hf-hub:OWNER/NAME"),
        ("local-dir:/nowhere", "holds no open_clip_config.json"),
    ],
)
def test_a_wrong_backbone_is_answered_with_the_remedy(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        backbone.load(name)


def test_unknown_and_absent_devices_are_refused() -> None:
    with pytest.raises(UserError, match="unknown device"):
        backbone.load("world-rn", "tpu9")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device"):
            backbone.load("world-rn", "cuda")


def test_the_repositorys_weights_are_checked_by_their_hash(tmp_path, monkeypatch) -> None:
    shutil.copytree(embedded.folder("world-rn"), tmp_path / "world_rn")
    damaged = tmp_path / "world_rn" / "weights.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(embedded, "HERE", tmp_path)
    with pytest.raises(UserError, match=r"world-rn.*damaged"):
        backbone.load("world-rn")


def test_the_embedded_vision_transformer_is_open_clips_own_and_speaks_as_its_teacher_does() -> None:
    student, teacher = backbone.load("world-vit"), backbone.load("world-rn")
    assert type(student.model) is CLIP
    assert type(student.model.visual) is VisionTransformer
    assert len(student.model.visual.transformer.resblocks) == 6
    assert student.scale == teacher.scale
    assert torch.equal(student.text_features(classes()), teacher.text_features(classes()))
    assert student.fingerprint != teacher.fingerprint


TRANSFORM = Transform(64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def test_the_test_transform_is_the_same_for_pil_pictures_and_tensors_of_its_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    from_pil = TRANSFORM.test([Image.fromarray(p) for p in pixels])
    from_tensor = TRANSFORM.test(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert torch.equal(from_pil, from_tensor)
    expected = (pixels[0, 0, 0] / 255 - np.array(TRANSFORM.mean)) / np.array(TRANSFORM.std)
    assert np.allclose(from_pil[0, :, 0, 0].numpy(), expected, atol=1e-6)


def test_a_wide_picture_is_resized_by_its_short_side_and_cropped_in_the_centre() -> None:
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 255
    out = Transform(64, (0.0,) * 3, (1.0,) * 3).test([Image.fromarray(picture)])
    assert out.shape == (1, 3, 64, 64)
    assert out[:, :, :, 4:60].min() > 0.99


def test_views_depend_on_their_generator_alone() -> None:
    picture = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = [TRANSFORM.crops(picture, 5, Crops(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    torch.manual_seed(5)
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert views[0].shape == (5, 3, 64, 64)


def test_crops_stay_inside_and_keep_area_and_aspect() -> None:
    height, width = 120, 80
    boxes = crop_boxes(4000, height, width, Crops(), torch.Generator().manual_seed(0)).double()
    top, left, h, w = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    share = h * w / (height * width)
    assert share.min() > 0.07  # rounding to whole pixels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        oracle = [RandomResizedCrop(64).make_params([torch.empty(3, height, width)]) for _ in range(4000)]
    areas = torch.tensor([o["height"] * o["width"] / (height * width) for o in oracle], dtype=torch.float64)
    for quantile in (0.1, 0.5, 0.9):
        assert abs(share.quantile(quantile) - areas.quantile(quantile)) < 0.03
    aspect = w / h
    assert aspect.min() > 0.7
    assert aspect.max() < 1.4
    assert (top == 0).any()
    assert (top + h == height).any()


def test_a_picture_too_narrow_for_any_candidate_gets_the_largest_centred_crop() -> None:
    boxes = crop_boxes(3, 200, 1, Crops(), torch.Generator().manual_seed(0))
    assert boxes.tolist() == [[99, 0, 1, 1]] * 3
