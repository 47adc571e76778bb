"""Pictures, supports and batches for the models of `bench.contract.backbones`: functions of their seeds alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.api import Batch, Classes, Support

ANIMALS = ("cat", "dog", "wild horse", "owl", "hen", "newt", "sea bass", "yak", "ibex", "mole")
TEMPLATE = "a photo of a {}."


def classes_of(k: int) -> Classes:
    """The first k animals."""
    return Classes(ANIMALS[:k], (TEMPLATE,), tuple(range(k)))


def pictures(backbone: Any, labels: Tensor, seed: int, *shape: int) -> Tensor:
    """Features (n, *shape, D), not normalised, near the text of their class."""
    rng = torch.Generator().manual_seed(seed)
    text = backbone.text_features(classes_of(int(labels.max()) + 1))[labels]
    noise = torch.randn(len(labels), *shape, backbone.dim, generator=rng).to(text)
    return 3 * (text.view(len(labels), *[1] * len(shape), -1) + 0.7 * noise / backbone.dim**0.5)


def pixels_of(backbone: Any, n: int, seed: int) -> Tensor | None:
    """Noise (n, 3, H, W) where the model has an image tower."""
    if "pixels" not in backbone.offers:
        return None
    size = backbone.transform.size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(backbone.scale.dtype)


def support_of(backbone: Any, k: int = 5, shots: int = 4, seed: int = 0) -> Support:
    """k classes, `shots` training and min(shots, 4) validation pictures of each, three augmented views."""
    labels, held = torch.arange(k).repeat_interleave(shots), torch.arange(k).repeat_interleave(min(shots, 4))
    views = pictures(backbone, labels, seed + 1, 3)

    def augment(copies: int) -> Tensor:
        return views[:, torch.arange(copies) % 3]

    val = pictures(backbone, held, seed + 2)
    pixels = pixels_of(backbone, len(labels), seed + 3)

    def images(steps, scale, flip):
        assert pixels is not None
        return (pixels[rows] for _, rows in steps)

    return Support(
        classes_of(k),
        pictures(backbone, labels, seed),
        labels,
        augment,
        Support(classes_of(k), val, held, lambda copies: val[:, None]),
        None if pixels is None else images,
    )


def still(support: Support) -> Support:
    """The same support where no augmented views can be made, as in a feature bundle."""
    return replace(support, augment=lambda copies: support.features[:, None])


def batch_of(backbone: Any, k: int = 5, n: int = 6, views: int = 20, seed: int = 50) -> Batch:
    """n test pictures of k classes in turn, with their views."""
    seen = pictures(backbone, torch.arange(n) % k, seed, views)
    return Batch(tuple(f"picture-{i}" for i in range(n)), seen[:, 0].clone(), seen, pixels_of(backbone, n, seed + 1))
