"""Random numbers from counters: the n-th draw is a hash, so nothing depends on what was drawn before it.

A picture has a key, made from (seed, stream name, index). A draw has a name. `uniform(keys, "scale", 2)`
hashes (key, name, 0..1) with the finaliser of splitmix64, so adding a draw, reordering draws or changing the
batch leaves all other numbers alone. int64 arithmetic wraps in torch on every device, and so the numbers are
the same everywhere.
"""

from __future__ import annotations

import hashlib
from functools import cache

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # the constants are written as signed 64-bit numbers
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own one copies the sign bit."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z: Tensor) -> Tensor:
    """splitmix64's finaliser, elementwise on int64."""
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)


@cache
def number(name: str) -> int:
    """A signed 64-bit number for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def keys(seed: int, stream: str, indices: Tensor) -> Tensor:
    """(n,) int64 -> (n,) int64, one key a picture."""
    root = mix(torch.tensor(seed, dtype=torch.int64) + number(stream))
    return mix(indices.to(torch.int64) * GOLDEN + root)


def raw(key: Tensor, name: str, count: int) -> Tensor:
    """(n,) -> (n, count) int64, all 64 bits random."""
    step = torch.arange(1, count + 1, dtype=torch.int64, device=key.device) * GOLDEN
    return mix((key ^ number(name))[:, None] + step)


def uniform(key: Tensor, name: str, count: int = 1) -> Tensor:
    """(n,) -> (n, count) float32 in [0, 1)."""
    return _shifted(raw(key, name, count), 40).to(torch.float32) * 2.0**-24


def lanes(key: Tensor, name: str, count: int) -> Tensor:
    """(n,) -> (n, 3, count) float32, flat, of mean 0 and variance 1: three numbers from each hash, thrice as fast."""
    bits = raw(key, name, count)
    parts = [(_shifted(bits, shift) & 0x1FFFFF).to(torch.float32) for shift in (1, 22, 43)]
    return (torch.stack(parts, 1) * 2.0**-21 - 0.5) * 12.0**0.5


def normal(key: Tensor, name: str, count: int) -> Tensor:
    """(n,) -> (n, count) float32, the sum of four 16-bit uniforms: within 1 % of a normal up to two deviations."""
    bits = raw(key, name, count)
    total = sum((_shifted(bits, shift) & 0xFFFF).to(torch.float32) for shift in (0, 16, 32, 48))
    return (total - 2 * 65535.0) * (3.0**0.5 / 65536.0)


def integer(key: Tensor, name: str, high: int) -> Tensor:
    """(n,) -> (n,) int64 in [0, high)."""
    return (uniform(key, name)[:, 0] * high).to(torch.int64).clamp(max=high - 1)


def choice(key: Tensor, name: str, weights: tuple[float, ...]) -> Tensor:
    """(n,) -> (n,) int64 index drawn with the given weights."""
    edges = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    where = uniform(key, name)[:, 0].to(torch.float64) * edges[-1]
    return torch.searchsorted(edges, where, right=True).clamp(max=len(weights) - 1)
