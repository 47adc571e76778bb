"""What both sides are given: a random CLIP, classes, pictures, features."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from bench.api import Classes
from bench.backbone import OpenClip, Stored, Transform, weights_hash
from benchmarks import names
from benchmarks.measure import alternate

ARCHITECTURE = "ViT-B-32-quickgelu"  # as OpenAI trained it
TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Setup:
    """quick: a tiny model of two layers and at most five classes, to see that everything works."""

    quick: bool = False

    def count(self, full: int, quick: int) -> int:
        """A number of classes, views or pictures."""
        return min(full, quick) if self.quick else full

    def clock(self, blocks: Sequence[Callable[[], object]], samples: int) -> list[float]:
        """`measure.alternate`, once each if quick."""
        return alternate(blocks, 1, 0.0) if self.quick else alternate(blocks, samples)

    @functools.cached_property
    def backbone(self) -> OpenClip:
        """Random weights, and the logit scale that CLIP was trained to, 100."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CLIP(**(open_clip.get_model_config(ARCHITECTURE) or {}) | (TINY if self.quick else {}))
        with torch.no_grad():
            model.logit_scale.fill_(math.log(100))
        size = TINY["vision_cfg"]["image_size"] if self.quick else 224
        transform = Transform(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return OpenClip(model, open_clip.get_tokenizer(ARCHITECTURE), "random", transform, weights_hash(model))

    def classes(self, k: int, kind: str = "imagenet") -> Classes:
        return (names.cars if kind == "cars" else names.imagenet)(self.count(k, 5))

    def pictures(self, n: int, seed: int = 0) -> Tensor:
        """(n, 3, H, W): smooth random colours of different contrast, so that features differ."""
        rng, size = generator(seed), self.backbone.transform.size
        coarse = torch.randn(n, 3, 7, 7, generator=rng) * (0.3 + 2 * torch.rand(n, 1, 1, 1, generator=rng))
        return interpolate(coarse, (size, size), mode="bicubic")

    def features_only(self, k: int) -> Stored:
        """K random unit texts of CLIP's dimension that resemble each other, as texts do."""
        rng, dim = generator(1), self.dim
        text = torch.randn(dim, generator=rng) + 0.7 * torch.randn(self.count(k, 5), dim, generator=rng)
        return Stored("random", text.numpy(), 100.0, "random")

    def features(self, text: Tensor, *shape: int, seed: int = 2) -> Tensor:
        """Unit image features (*shape, D), each with a cosine of about 0.3 to one of the texts (K, D)."""
        rng = generator(seed)
        near = text[torch.randint(len(text), shape, generator=rng)]
        return normalize(0.3 * near + torch.randn(*shape, self.dim, generator=rng) / self.dim**0.5, dim=-1)

    @property
    def dim(self) -> int:
        return TINY["embed_dim"] if self.quick else 512
