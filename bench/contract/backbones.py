"""What methods are tried on: an exact model in a few lines, and a small random CLIP.

`LinearBackbone` computes in float64, so that what should be equal is equal to 1e-9; a method that looks at pixels is
tried on the CLIP in float64 instead. Every method is tried on the CLIP in float32, where it is to run in earnest.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.api import Backbone, Classes, NotRunnable, Tower
from bench.backbone import OpenClip
from bench.backbone.untrained import small_vit


class LinearBackbone:
    """A text tower in a few lines: words by name, positions, one tanh layer, the mean, a projection."""

    name, fingerprint, precision = "linear", "linear", "exact"
    offers = frozenset({"features", "views", "text"})

    def __init__(self, dim: int = 16, width: int = 12, scale: float = 18.0, dtype: torch.dtype = torch.float64) -> None:
        rng = torch.Generator().manual_seed(7)
        self.dim, self.width, self.dtype = dim, width, dtype
        self.scale = torch.tensor(scale, dtype=dtype)
        self.places = torch.randn(32, width, generator=rng).to(dtype)
        self.layer = torch.randn(width, width, generator=rng).to(dtype) / width**0.5
        self.projection = torch.randn(width, dim, generator=rng).to(dtype) / width**0.5

    def embed(self, text: str) -> Tensor:
        """(L, W); a full stop is a word of its own."""
        rows = [
            torch.randn(self.width, generator=torch.Generator().manual_seed(zlib.crc32(word.encode()))) * 0.5
            for word in re.findall(r"\.|[^\s.]+", text)
        ]
        return torch.stack(rows).to(self.dtype)

    def tower(self, tokens: Tensor) -> Tensor:
        """Token embeddings (L, W) of one prompt -> its feature (D)."""
        return torch.tanh((tokens + self.places[: len(tokens)]) @ self.layer).mean(0) @ self.projection

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.tower(self.embed(text)) for text in texts])

    def text_features(self, classes: Classes, templates: Sequence[str] | None = None) -> Tensor:
        each = [
            normalize(self.encode_texts([template.replace("{}", name) for name in classes.names]), dim=-1)
            for template in templates or classes.templates
        ]
        return normalize(torch.stack(each).mean(0), dim=-1)

    def prompts(self, classes: Classes, length: int, position: str = "end") -> LinearPrompts:
        return LinearPrompts(self, classes, length, position)

    def encode_images(self, pixels: Tensor, tokens: Tensor | None = None) -> Tensor:
        raise NotRunnable("a method that encodes pictures names 'pixels' among its needs")

    def shape(self, tower: Tower) -> tuple[int, int]:
        raise NotRunnable("a method that changes a tower names 'pixels' among its needs")


class LinearPrompts:
    """One text after the other; implements `bench.api.Prompts`, but for `deep`."""

    def __init__(self, backbone: LinearBackbone, classes: Classes, length: int, position: str) -> None:
        self.before = {"end": length, "middle": length // 2, "front": 0}[position]
        self.tower, self.names = backbone.tower, [backbone.embed(name) for name in classes.names]
        self.dot = backbone.embed(".")

    def __call__(self, context: Tensor) -> Tensor:
        if context.dim() == 4:
            return torch.stack([self(one if len(one) > 1 else one[0]) for one in context])
        contexts = context if context.dim() == 3 else [context] * len(self.names)
        parts = [(v[: self.before], n, v[self.before :]) for v, n in zip(contexts, self.names, strict=True)]
        return torch.stack([self.tower(torch.cat([*part, self.dot])) for part in parts])

    def vjp(self, context: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def back(slopes: Tensor) -> Tensor:
            leaf = context.detach().requires_grad_()
            with torch.enable_grad():
                return torch.stack([torch.autograd.grad(self(leaf), leaf, slope)[0] for slope in slopes])

        return self(context.detach()), back


@functools.cache
def exact(pixels: bool) -> Backbone:
    """In float64; with an image tower where one is needed."""
    return small_vit(torch.float64) if pixels else LinearBackbone()  # type: ignore[return-value]


@functools.cache
def real() -> Backbone:
    """An open_clip model in float32."""
    return small_vit()


def tensors(backbone: Backbone) -> Iterator[Tensor]:
    """All numbers of one of these models, which no method may change."""
    if isinstance(backbone, OpenClip):
        yield from backbone.model.state_dict(keep_vars=True).values()
    else:
        yield from (value for value in vars(backbone).values() if isinstance(value, Tensor))
