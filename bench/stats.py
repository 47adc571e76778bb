"""Intervals and tests, as pure functions on arrays: two methods are compared on the same images and the same seeds.

Matrices are (S, n): S seeds (replicates of the whole procedure), n test images. Entries are 1 where the answer was
right and 0 where it was wrong, or the difference of two such matrices. Every interval has 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, degrees of freedom, 95 % interval and p-value of the mean being 0."""

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


@dataclass(frozen=True)
class Paired:
    """Two deterministic predictors on the same images: a's accuracy minus b's; what a gains and loses against b."""

    difference: float
    low: float
    high: float
    p: float
    gained: int
    lost: int


def crossed(d: ArrayLike) -> Estimate:
    """The mean of d (S, n) where both seeds and images are samples: other seeds and other images vary the mean.

    Two-way random effects without replication: with vs, ve and vi the variances of the mean that the row means, the
    column means and the residuals show,

        variance = max(vs - vi, 0) + ve,    df = variance^2 / (vs^2/(S-1) + ve^2/(n-1) + vi^2/((S-1)(n-1))) >= 1

    (Satterthwaite, Biometrics Bulletin 2, 1946; the crossed design as in Owen, Annals of Applied Statistics 1, 2007).
    With one seed the images alone vary, with one image the seeds; with one of each nothing is known and the interval is
    endless. Where nothing varies there is no t: a mean of 0 has p = 1, another one the sign test's p = 2 / 2^n.
    """
    d = _matrix(d)
    (seeds, n), mean = d.shape, float(d.mean())
    if seeds == n == 1:
        return Estimate(mean, math.inf, 1.0, -math.inf, math.inf, 1.0)
    rows, columns = d.mean(1), d.mean(0)
    vs = rows.var(ddof=1) / seeds if seeds > 1 else 0.0
    ve = columns.var(ddof=1) / n if n > 1 else 0.0
    vi = 0.0
    if seeds > 1 and n > 1:
        residual = d - rows[:, None] - columns[None, :] + mean
        vi = float((residual**2).sum()) / ((seeds - 1) * (n - 1)) / (seeds * n)
    variance = max(vs - vi, 0.0) + ve
    if variance <= (1e-12 * np.abs(d).max()) ** 2:  # but for rounding: none
        p = 1.0 if np.abs(mean) <= 1e-12 else min(1.0, 2.0 ** (1 - (n if n > 1 else seeds)))
        return Estimate(mean, 0.0, float(max(seeds, n) - 1), mean, mean, p)
    parts = (vs**2 / (seeds - 1) if seeds > 1 else 0.0) + (ve**2 / (n - 1) if n > 1 else 0.0)
    parts += vi**2 / ((seeds - 1) * (n - 1)) if seeds > 1 and n > 1 else 0.0
    df, se = max(1.0, float(variance**2 / parts)), math.sqrt(variance)
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * se
    return Estimate(mean, se, df, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / se, df)))


def paired(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """a - b, (S, n), of two matrices of the same images; one row (a deterministic method) stands for every seed."""
    a, b = _matrix(a), _matrix(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"not the same images: {a.shape[1]} and {b.shape[1]}")
    if a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0]):
        raise ValueError(f"not the same seeds: {a.shape[0]} and {b.shape[0]}")
    return a - b


def spread(tasks: Sequence[tuple[ArrayLike, Sequence[Hashable]]]) -> NDArray[np.float64]:
    """The matrix (S, N) whose `crossed` mean is the unweighted mean over T tasks, each a matrix (S, n_t) with n_t ids.

    Seeds are paired over tasks, and images with the same id are one of the N clusters, whatever tasks show them: the
    embedded world's shifts show the same scenes. Linearised, as for a ratio in a cluster sample (Cochran, Sampling
    Techniques, 1977, ch. 6 and 9): with x the entries, m_t each task's mean and m the mean over tasks,

        y[s, c] = m + N sum over tasks t and images i in cluster c of (x[s, t, i] - m_t) / (T n_t).

    Where all tasks show the same scenes this is each scene's mean over the tasks. Taking m_t off first keeps the
    differences between tasks out of the variance where they do not: the tasks are the suite's, no sample of tasks.
    """
    if not tasks:
        raise ValueError("a mean over no tasks")
    matrices = [_matrix(x) for x, _ in tasks]
    seeds = max(x.shape[0] for x in matrices)
    clusters: dict[Hashable, int] = {}
    places = [np.array([clusters.setdefault(i, len(clusters)) for i in ids]) for _, ids in tasks]
    means = [float(x.mean()) for x in matrices]
    y = np.zeros((seeds, len(clusters)))
    for x, place, mean in zip(matrices, places, means, strict=True):
        if x.shape != (x.shape[0], len(place)) or x.shape[0] not in (1, seeds):
            raise ValueError(f"a task of shape {x.shape} for {seeds} seeds and {len(place)} ids")
        share = np.broadcast_to((x - mean) / (len(matrices) * len(place)), (seeds, len(place)))
        for row in range(seeds):
            y[row] += np.bincount(place, share[row], len(clusters))
    return float(np.mean(means)) + len(clusters) * y


def pooled(tasks: Sequence[tuple[ArrayLike, Sequence[Hashable]]]) -> Estimate:
    """The unweighted mean over tasks with its interval; `spread` says what varies."""
    return crossed(spread(tasks))


def mcnemar(a: ArrayLike, b: ArrayLike) -> Paired:
    """Exact McNemar test of two deterministic predictors; a, b (n,): 1 where right.

    p: two-sided binomial on the discordant pairs (McNemar, Psychometrika 12, 1947), 1 where there are none. Interval:
    the adjusted Wald interval for a paired difference (Bonett and Price, J. Educ. Behav. Stat. 37, 2012).
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"two vectors of the same images, not {a.shape} and {b.shape}")
    n, gained, lost = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p = min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5))) if gained + lost else 1.0
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Paired((gained - lost) / n, max(-1.0, up - down - half), min(1.0, up - down + half), p, gained, lost)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction of p (m,) (Scandinavian Journal of Statistics 6, 1979), in the order given."""
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values are a vector of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of (n,) answers (Guo et al., ICML 2017): bins of equal width, open on the left.

    The sum over the bins of |B|/n times |accuracy - mean confidence|.
    """
    confidence, correct = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if confidence.shape != correct.shape or confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"two vectors of the same images, not {confidence.shape} and {correct.shape}")
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    return float(np.abs(np.bincount(place, correct - confidence, bins)).sum() / len(confidence))


def _matrix(d: ArrayLike) -> NDArray[np.float64]:
    d = np.asarray(d, dtype=float)
    if d.ndim != 2 or not d.size or not np.isfinite(d).all():
        raise ValueError(f"a matrix (seeds, images) of finite numbers, not shape {d.shape}")
    return d
