"""What happens to a picture before the image tower: the test transform, and the random views.

Pictures are RGB PIL images, or one uint8 tensor (n, 3, H, W) from the world. Views are functions of a generator that
the caller derives from (seed, data set, image id), so they are the same for every method and in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision.transforms.v2.functional as F
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode

Pictures = Sequence[Image] | Tensor
DRAWN = 63
"""Crops are drawn so many at a time (TPT's number), whatever is asked for: fewer are then the first of more."""


@dataclass(frozen=True)
class Crops:
    """RandomResizedCrop and a horizontal flip: the views of one picture.

    TPT's recipe is the default (area 8-100 %, bilinear); the CoOp line trains on the same crops with bicubic.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Transform:
    """The backbone's own preprocessing: size, how to get there, mean and deviation."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    squash: bool = False  # SigLIP and its kin resize without keeping the aspect

    def test(self, pictures: Pictures) -> Tensor:
        """Resize the short side and crop the centre -> (n, 3, size, size), normalised float32."""
        if isinstance(pictures, Tensor):
            return self._normalise(self._resize(pictures))
        return torch.stack([self._normalise(F.pil_to_tensor(self._resize(p))) for p in pictures])

    def crops(self, picture: Any, count: int, recipe: Crops, rng: torch.Generator) -> Tensor:
        """`count` random views of one picture (PIL, or uint8 (3, H, W)) -> (count, 3, size, size), normalised.

        View j is a function of the generator's seed and j alone.
        """
        height, width = picture.shape[-2:] if isinstance(picture, Tensor) else (picture.height, picture.width)
        mode = InterpolationMode(recipe.interpolation)
        drawn: list[tuple[list[int], bool]] = []
        while len(drawn) < count:
            boxes = crop_boxes(DRAWN, int(height), int(width), recipe, rng)
            flips = torch.rand(DRAWN, generator=rng) < recipe.flip
            drawn += zip(boxes.tolist(), flips.tolist(), strict=True)
        views = []
        for (top, left, h, w), flip in drawn[:count]:
            view = F.resized_crop(picture, top, left, h, w, [self.size, self.size], mode, antialias=True)
            view = F.hflip(view) if flip else view
            views.append(view if isinstance(view, Tensor) else F.pil_to_tensor(view))
        return self._normalise(torch.stack(views))

    def _resize(self, picture):
        size = [self.size, self.size] if self.squash else [self.size]
        resized = F.resize(picture, size, InterpolationMode(self.interpolation), antialias=True)
        return resized if self.squash else F.center_crop(resized, [self.size, self.size])

    def _normalise(self, picture: Tensor) -> Tensor:
        return F.normalize(F.to_dtype(picture, torch.float32, scale=True), list(self.mean), list(self.std))


def crop_boxes(count: int, height: int, width: int, recipe: Crops, rng: torch.Generator) -> Tensor:
    """RandomResizedCrop's boxes (count, 4) as top, left, height, width, drawn from `rng`.

    As in torchvision: the first of ten candidates that fits, else the largest centred box of an allowed aspect. All
    candidates are drawn at once, so one picture costs a handful of tensor operations and no global random state.
    """
    tries = 10
    u = torch.rand(2, count, tries, generator=rng)
    place = torch.rand(2, count, generator=rng)
    area = height * width * (recipe.scale[0] + (recipe.scale[1] - recipe.scale[0]) * u[0])
    low, high = math.log(recipe.ratio[0]), math.log(recipe.ratio[1])
    aspect = torch.exp(low + (high - low) * u[1])
    w = (area * aspect).sqrt().round().long()
    h = (area / aspect).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    top = (place[0] * (height - h + 1)).floor().long()
    left = (place[1] * (width - w + 1)).floor().long()
    boxes = torch.stack([top, left, h, w], 1)
    clipped = min(max(width / height, recipe.ratio[0]), recipe.ratio[1])
    fallback_h = min(height, round(width / clipped))
    fallback_w = min(width, round(height * clipped))
    centre = torch.tensor([(height - fallback_h) // 2, (width - fallback_w) // 2, fallback_h, fallback_w])
    return torch.where(fits.any(1, keepdim=True), boxes, centre)
