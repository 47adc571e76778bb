"""Means with intervals where both seeds and images are samples: of one task, over tasks, and of the harmonic mean."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bench.stats.arrays import LEVEL, fraction, matrix

Tasks = Sequence[tuple[ArrayLike, Sequence[Hashable]]]
"""For each task its matrix (S, n_t) and the n_t ids of its images."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, degrees of freedom, interval (95 % by default) and p-value of a mean of 0."""

    mean: float
    se: float
    df: float
    low: float
    high: float
    p: float

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def crossed(d: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean of d (S, n) where both seeds and images are samples: other seeds and other images vary the mean.

    Two-way random effects without replication: with vs, ve and vi the variances of the mean that the row means, the
    column means and the residuals show,

        variance = max(vs - vi, 0) + ve,    df = variance^2 / (vs^2/(S-1) + ve^2/(n-1) + vi^2/((S-1)(n-1))) >= 1

    (Satterthwaite, Biometrics Bulletin 2, 1946; the crossed design as in Owen, Annals of Applied Statistics 1, 2007).
    With one seed the images alone vary, with one image the seeds; with one of each nothing is known and the interval is
    endless. Where nothing varies there is no t: a mean of 0 has p = 1, another one the sign test's p = 2 / 2^n.
    """
    d, level = matrix(d), fraction(level, "a level")
    (seeds, n), mean = d.shape, float(d.mean())
    if seeds == n == 1:
        return Estimate(mean, math.inf, 1.0, -math.inf, math.inf, 1.0)
    variance, df = satterthwaite(*parts(d), seeds, n)
    if variance <= (1e-12 * np.abs(d).max()) ** 2:  # but for rounding: none
        p = 1.0 if abs(mean) <= 1e-12 else min(1.0, 2.0 ** (1 - (n if n > 1 else seeds)))
        return Estimate(mean, 0.0, float(max(seeds, n) - 1), mean, mean, p)
    se = math.sqrt(variance)
    half = float(special.stdtrit(df, (1 + level) / 2)) * se
    return Estimate(mean, se, df, mean - half, mean + half, float(2 * special.stdtr(df, -abs(mean) / se)))


def parts(d: NDArray[np.float64]) -> tuple[float, float, float]:
    """vs, ve, vi: the variance of the mean of d (S, n) that row means, column means and residuals show."""
    (seeds, n), mean = d.shape, d.mean()
    rows, columns = d.mean(1), d.mean(0)
    vs = float(rows.var(ddof=1)) / seeds if seeds > 1 else 0.0
    ve = float(columns.var(ddof=1)) / n if n > 1 else 0.0
    if seeds == 1 or n == 1:
        return vs, ve, 0.0
    residual = d - rows[:, None] - columns[None, :] + mean  # (S, n)
    return vs, ve, float((residual**2).sum()) / ((seeds - 1) * (n - 1)) / (seeds * n)


def satterthwaite(vs: float, ve: float, vi: float, seeds: int, n: int) -> tuple[float, float]:
    """The variance of the mean and its degrees of freedom, as `crossed` says.

    In tables of a few entries rows and columns can agree, but for rounding, though entries vary: the residuals speak.
    """
    variance = max(vs - vi, 0.0) + ve
    if variance < 1e-12 * vi:
        variance = vi
    below = (vs**2 / (seeds - 1) if seeds > 1 else 0.0) + (ve**2 / (n - 1) if n > 1 else 0.0)
    below += vi**2 / ((seeds - 1) * (n - 1)) if seeds > 1 and n > 1 else 0.0
    return variance, max(1.0, variance**2 / below) if below else 1.0


def accuracy(x: ArrayLike, level: float = LEVEL) -> Estimate:
    """The accuracy of one method on one task, x (S, n) of 0 and 1, with the interval of `crossed` cut to [0, 1].

    Where every answer of every seed is right (or wrong) the interval is that of Clopper and Pearson (Biometrika 26,
    1934) for n images: seeds that all agree on an image are one answer.
    """
    x = matrix(x)
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"answers are right (1) or wrong (0), not {x.min():g} to {x.max():g}")
    found, units = crossed(x, level), x.shape[1] if x.shape[1] > 1 else x.shape[0]
    rest = ((1 - level) / 2) ** (1 / units)
    if found.se == 0 and found.mean in (0, 1):
        return replace(found, low=rest if found.mean else 0.0, high=1.0 if found.mean else 1 - rest)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def spread(tasks: Tasks, weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """The matrix (S, N) whose `crossed` mean is the weighted sum of the means of T tasks: by default their plain mean.

    Seeds are paired over tasks, and images with the same id are one of the N clusters, whatever tasks show them: the
    embedded world's shifts show the same scenes. Linearised, as for a ratio in a cluster sample (Cochran, Sampling
    Techniques, 1977, ch. 6 and 9): with x the entries, w_t the weights, m_t each task's mean and m the weighted sum,

        y[s, c] = m + N sum over tasks t and images i in cluster c of w_t (x[s, t, i] - m_t) / n_t.

    Where all tasks show the same scenes this is each scene's mean over the tasks. Taking m_t off first keeps the
    differences between tasks out of the variance where they do not: the tasks are the suite's, no sample of tasks.
    """
    if not tasks:
        raise ValueError("a mean over no tasks")
    weights = [1 / len(tasks)] * len(tasks) if weights is None else weights
    matrices = [matrix(x) for x, _ in tasks]
    seeds = max(x.shape[0] for x in matrices)
    clusters: dict[Hashable, int] = {}
    places = [np.array([clusters.setdefault(i, len(clusters)) for i in ids]) for _, ids in tasks]
    means = [float(x.mean()) for x in matrices]
    y = np.zeros((seeds, len(clusters)))
    for x, place, mean, weight in zip(matrices, places, means, weights, strict=True):
        if x.shape != (x.shape[0], len(place)) or x.shape[0] not in (1, seeds):
            raise ValueError(f"a task of shape {x.shape} for {seeds} seeds and {len(place)} ids")
        share = np.broadcast_to(weight * (x - mean) / len(place), (seeds, len(place)))
        for row in range(seeds):
            y[row] += np.bincount(place, share[row], len(clusters))
    return float(np.dot(weights, means)) + len(clusters) * y


def pooled(tasks: Tasks, level: float = LEVEL) -> Estimate:
    """The unweighted mean over tasks with its interval; `spread` says what varies."""
    return crossed(spread(tasks), level)


def harmonic_spread(base: Tasks, new: Tasks) -> NDArray[np.float64]:
    """The matrix (S, N) whose `crossed` mean is H = 2BM/(B + M), B and M the mean accuracies over base and new tasks.

    The delta method: H moves by its derivatives 2M^2/(B+M)^2 and 2B^2/(B+M)^2 times the moves of B and M, and since H
    is homogeneous these weights also sum B and M to H itself. So base and new classes that share seeds, or images, vary
    together, and the difference of two methods' H is `crossed` of the difference of their two matrices. Where B and M
    are both 0, H is 0 and has no width. (H of averages: Xian et al., CVPR 2017; Zhou et al., CVPR 2022.)
    """
    if not base or not new:
        raise ValueError("H needs base and new tasks")
    b = float(np.mean([matrix(x).mean() for x, _ in base]))
    m = float(np.mean([matrix(x).mean() for x, _ in new]))
    if b < 0 or m < 0:
        raise ValueError(f"H is a mean of accuracies, not of {b:g} and {m:g}")
    total = b + m or 1.0
    weights = [2 * (m / total) ** 2 / len(base)] * len(base) + [2 * (b / total) ** 2 / len(new)] * len(new)
    return spread([*base, *new], weights)


def harmonic(base: Tasks, new: Tasks, level: float = LEVEL) -> Estimate:
    """H, the harmonic mean of the averaged base and new accuracies, with its interval (`harmonic_spread`)."""
    return crossed(harmonic_spread(base, new), level)
