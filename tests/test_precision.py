"""Devices and precision: the image tower may compute in less, the text tower never does, and mistakes are named."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from bench import backbone
from bench.api import Classes, UserError
from bench.backbone import OpenClip, architectures, text_path
from bench.backbone.text import path_of_model

NAMES = ("star", "weather vane", "key")
CLASSES = Classes(NAMES, ("a photo of a {}.",), (0, 1, 2))
LOW = ["bf16", "fp16"]


def in_precision(like: OpenClip, precision: str, model: nn.Module | None = None) -> OpenClip:
    return OpenClip(model or like.model, like.tokenizer, like.name, like.transform, "weights", precision=precision)


def pictures(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_full_precision_is_the_model_itself_bit_for_bit(tiny: OpenClip) -> None:
    with torch.no_grad():
        assert torch.equal(in_precision(tiny, "fp32").encode_images(pictures()), tiny.model.encode_image(pictures()))


@pytest.mark.parametrize("precision", LOW)
def test_low_precision_is_close_and_comes_back_in_float32(tiny: OpenClip, precision: str) -> None:
    exact, low = tiny.encode_images(pictures()), in_precision(tiny, precision).encode_images(pictures())
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    assert cosine_similarity(low, exact).min() > 0.999


@pytest.mark.parametrize("precision", LOW)
def test_the_text_tower_computes_in_float32_whatever_the_image_tower_does(tiny: OpenClip, precision: str) -> None:
    low = in_precision(tiny, precision)
    assert torch.equal(low.text_features(CLASSES), tiny.text_features(CLASSES))
    gradients = []
    for model in (tiny, low):
        context = model.embed("a photo of a").requires_grad_()
        model.prompts(CLASSES, 4)(context).square().sum().backward()
        gradients.append(context.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("precision", LOW)
def test_gradients_reach_the_pixels_in_float32(tiny: OpenClip, precision: str) -> None:
    pixels = pictures(1).requires_grad_()
    in_precision(tiny, precision).encode_images(pixels).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.dtype == torch.float32
    assert pixels.grad.abs().sum() > 0


def test_precision_transform_and_weights_are_part_of_the_fingerprint(tiny: OpenClip) -> None:
    models = [in_precision(tiny, precision) for precision in ("fp32", *LOW)]
    models.append(OpenClip(tiny.model, tiny.tokenizer, tiny.name, tiny.transform, "other weights"))
    bilinear = replace(tiny.transform, interpolation="bilinear")
    models.append(OpenClip(tiny.model, tiny.tokenizer, tiny.name, bilinear, "weights"))
    assert len({model.fingerprint for model in models}) == 5


def test_an_unknown_precision_is_refused(tiny: OpenClip) -> None:
    with pytest.raises(UserError, match="unknown precision 'fp8': did you mean fp32 or fp16"):
        in_precision(tiny, "fp8")


class Bessel(nn.Module):
    """An image tower with an operation that torch has in full precision alone."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.tower(pixels))


def test_a_tower_that_lacks_an_operation_in_this_precision_is_one_sentence_when_it_is_loaded(tiny: OpenClip) -> None:
    model = copy.deepcopy(tiny.model)
    model.visual = Bessel(model.visual)
    assert in_precision(tiny, "fp32", model).dim == tiny.dim
    with pytest.raises(UserError, match=r"image tower of 'random-0' cannot compute in fp16 on cpu .*--precision fp32"):
        in_precision(tiny, "fp16", model)


# -- devices ----------------------------------------------------------------------------------------------------------


def test_auto_is_cuda_where_there_is_one_and_else_the_processor() -> None:
    assert backbone.load("world-rn", "auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["tpu9", "mps", "meta", "cuda:x", "cpu:1", ""])
def test_what_is_no_device_of_ours_is_answered_with_those_that_are(device: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{device}': use auto, cpu, cuda or cuda:N"):
        backbone.load("world-rn", device)


def test_a_cuda_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"'cuda:77' was asked for but .*CUDA devices? (is|are) available.*cpu"):
        backbone.load("world-rn", "cuda:77")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", *LOW])
def test_cuda_gives_the_features_of_the_processor(precision: str) -> None:
    there, here = backbone.load("world-rn", "cuda", precision), backbone.load("world-rn")
    found, expected = there.encode_images(pictures()).cpu(), here.encode_images(pictures())
    assert cosine_similarity(found, expected).min() > (0.99999 if precision == "fp32" else 0.999)
    assert torch.allclose(there.text_features(CLASSES).cpu(), here.text_features(CLASSES), atol=1e-5)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


# -- which text path serves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("world-rn", "packed"),
        ("ViT-B-16", "packed"),
        ("RN50-quickgelu", "packed"),
        ("ViT-B-16-SigLIP", "full"),  # looks both ways
        ("ViT-L-14-CLIPA", "full"),  # pools the last position
        ("coca_ViT-B-32", "full"),  # has a token of its own behind the text
        ("roberta-ViT-B-32", "none"),  # another library's tower
    ],
)
def test_the_text_path_of_an_architecture_is_known_without_its_weights(name: str, path: str) -> None:
    assert text_path(name) == path


def test_every_architecture_of_open_clip_has_a_known_text_path() -> None:
    found = {name: text_path(name) for name in architectures()}
    assert set(found.values()) == {"packed", "full", "none"}, found


def test_the_path_of_a_part_built_for_it_is_that_of_the_whole_model() -> None:
    import open_clip

    model = open_clip.create_model("ViT-S-32-alt", pretrained=None)
    assert text_path("ViT-S-32-alt") == path_of_model(model) == "packed"


def test_what_cannot_be_built_says_why() -> None:
    assert text_path("nonsense").startswith("unknown: KeyError")
