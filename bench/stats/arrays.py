"""What all procedures share: their defaults, and arrays that are what they should be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
"""Coverage of an interval."""
ALPHA = 0.05
"""A test rejects where p <= ALPHA."""
POWER = 0.8
"""Probability of finding a true difference, where a sample size is planned."""
MARGIN = 0.005
"""Differences below half a point are called practically nothing."""


def matrix(x: ArrayLike, axes: str = "seeds, images") -> NDArray[np.float64]:
    """x as a matrix of finite numbers, at least 1 x 1."""
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"a matrix ({axes}) is needed, not an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"a matrix ({axes}) of finite numbers is needed: {(~np.isfinite(x)).sum()} are not")
    return x


def vector(x: ArrayLike, axis: str) -> NDArray[np.float64]:
    """x as a vector of finite numbers, at least one."""
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or not x.size:
        raise ValueError(f"a vector ({axis}) is needed, not an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"a vector ({axis}) of finite numbers is needed: {(~np.isfinite(x)).sum()} are not")
    return x


def fraction(value: float, name: str) -> float:
    """A level, a power or a probability of error: between 0 and 1, neither of them."""
    if not 0 < value < 1:
        raise ValueError(f"{name} lies between 0 and 1, not at {value}")
    return value


def small_margin(margin: float) -> float:
    if not 0 <= margin < 1:
        raise ValueError(f"a margin lies between 0 and 1 (half a point is 0.005), not at {margin}")
    return margin
