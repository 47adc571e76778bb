"""Aggregates over runs and tasks: x (R, M) holds R runs (seeds) of one method by M tasks.

The procedures of Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice (NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.stats.arrays import LEVEL, fraction, matrix, vector

AXES = "runs, tasks"


def interquartile_mean(x: ArrayLike) -> float:
    """The mean of the middle half of all R M scores; a quarter of them, rounded down, is left out at either end."""
    ordered = np.sort(matrix(x, AXES), axis=None)
    return float(ordered[ordered.size // 4 : ordered.size - ordered.size // 4].mean())


def performance_profile(x: ArrayLike, thresholds: ArrayLike) -> NDArray[np.float64]:
    """For each of (T,) thresholds the share (T,) of all runs and tasks that score above it."""
    ordered = np.sort(matrix(x, AXES), axis=None)
    return 1 - np.searchsorted(ordered, vector(thresholds, "thresholds"), side="right") / ordered.size


def improvement(x: ArrayLike, y: ArrayLike) -> float:
    """P(X > Y) + P(X = Y) / 2, a run of x (R, M) against a run of y (R', M) on the same task, averaged over tasks."""
    x, y = matrix(x, AXES), matrix(y, AXES)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"not the same tasks: {x.shape[1]} and {y.shape[1]}")
    return float(((np.sign(x[:, None] - y[None]) + 1) / 2).mean())  # (R, R', M)


def bootstrap(
    statistic: Callable[..., float | NDArray[np.float64]],
    *scores: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = LEVEL,
) -> NDArray[np.float64]:
    """The percentile interval (2, ...) of statistic(*scores), low and high, by a bootstrap stratified by task.

    In each resample every task's runs are drawn anew with replacement, apart from other tasks' and other methods' runs:
    it is seeds that vary, while images and tasks stay. A single run, or runs that are all alike, give no width.
    """
    matrices = [matrix(x, AXES) for x in scores]
    if not matrices or resamples < 1:
        raise ValueError("a bootstrap needs scores and at least one resample")
    draws = [
        statistic(*(np.take_along_axis(x, rng.integers(len(x), size=x.shape), axis=0) for x in matrices))
        for _ in range(resamples)
    ]
    tail = (1 - fraction(level, "a level")) / 2
    return np.quantile(np.asarray(draws, dtype=float), [tail, 1 - tail], axis=0)
