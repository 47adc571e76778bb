"""Two methods on one task: who is better, by how much, and whether they are practically the same."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from bench.stats.arrays import LEVEL, MARGIN, fraction, matrix, small_margin, vector
from bench.stats.variance import Estimate, crossed


@dataclass(frozen=True)
class Paired:
    """Two deterministic predictors on the same images: a's accuracy minus b's; what a gains and loses against b."""

    difference: float
    low: float
    high: float
    p: float
    gained: int
    lost: int


def paired(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """a - b, (S, n), of two matrices of the same images; one row (a deterministic method) stands for every seed."""
    a, b = matrix(a), matrix(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"not the same images: {a.shape[1]} and {b.shape[1]}")
    if a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0]):
        raise ValueError(f"not the same seeds: {a.shape[0]} and {b.shape[0]}")
    return a - b


def mcnemar(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Paired:
    """Exact McNemar test of two deterministic predictors and Tango's interval of the difference; a, b (n,): 1 if right.

    p: two-sided binomial on the discordant pairs (McNemar, Psychometrika 12, 1947), 1 where there are none. Interval:
    all differences that the score test does not reject (Tango, Statistics in Medicine 17, 1998), so it stays within
    [-1, 1] and has a width where no pair is discordant. It leaves out 0 where the asymptotic McNemar test rejects: the
    exact test is the stricter one, so with p just above alpha it can leave out 0 by a hair.
    """
    a, b = vector(a, "images"), vector(b, "images")
    if a.shape != b.shape:
        raise ValueError(f"two vectors of the same images are needed, not {len(a)} and {len(b)} images")
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("answers are right (1) or wrong (0)")
    return _mcnemar(int((a > b).sum()), int((a < b).sum()), len(a), level)


def _mcnemar(gained: int, lost: int, n: int, level: float) -> Paired:
    p = min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5))) if gained + lost else 1.0
    return Paired((gained - lost) / n, *_tango(gained, lost, n, level), p, gained, lost)


def score(gained: int, lost: int, n: int, difference: float = 0.0) -> float:
    """Tango's z of the true difference being `difference`, in (-1, 1), where of n pairs so many were gained and lost.

    z = (gained - lost - n difference) / sqrt(n v), with v the variance of one pair's difference under that hypothesis;
    for 0 it is McNemar's asymptotic z, (gained - lost) / sqrt(gained + lost). Standard normal under the hypothesis, and
    positive where the data lie above it. 0 where nothing differs and nothing should (Tango 1998, eq. 2 and 3).
    """
    v = restricted_variance(gained, lost, n, difference)
    return (gained - lost - n * difference) / math.sqrt(n * v) if v > 0 else 0.0


def restricted_variance(gained: int, lost: int, n: int, difference: float) -> float:
    """The variance of one pair's difference, where its mean is `difference` and the losses are as likely as can be."""
    half = (n * 2 - gained + lost) * difference - gained - lost
    root = math.sqrt(max(0.0, half**2 + 8 * n * lost * difference * (1 - difference)))
    q = (root - half) / (4 * n)  # the rate of losses
    return 2 * q + difference * (1 - difference)


def _tango(gained: int, lost: int, n: int, level: float) -> tuple[float, float]:
    z2, estimate = float(special.ndtri((1 + fraction(level, "a level")) / 2)) ** 2, (gained - lost) / n

    def outside(difference: float) -> float:  # positive where the score test rejects
        return (gained - lost - n * difference) ** 2 - z2 * n * restricted_variance(gained, lost, n, difference)

    inside = 1e-9  # at the estimate itself the variance may be 0
    low = optimize.root_scalar(outside, bracket=(-1, estimate - inside)).root if estimate > inside - 1 else -1.0
    high = optimize.root_scalar(outside, bracket=(estimate + inside, 1)).root if estimate < 1 - inside else 1.0
    return float(low), float(high)


def single(d: NDArray[np.float64]) -> tuple[int, int, int] | None:
    """Gained, lost and n where all rows of d (S, n) are one row of -1, 0 and 1: two deterministic predictors."""
    if not (d == d[0]).all() or not np.isin(d[0], (-1, 0, 1)).all():
        return None
    return int((d[0] > 0).sum()), int((d[0] < 0).sum()), d.shape[1]


def difference(d: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean of d = a - b (S, n) by the procedure for its form.

    One row of -1, 0 and 1, or the same in every seed (two deterministic predictors): p is the exact McNemar test's and
    the interval Tango's (`mcnemar`); se and df are those of the paired t. Anything else, seeds that vary or a mean over
    tasks (`spread`): `crossed`.
    """
    d = matrix(d)
    found, counts = crossed(d, level), single(d)
    if counts is None:
        return found
    exact = _mcnemar(*counts, level)
    return replace(found, low=exact.low, high=exact.high, p=exact.p)


def tost(d: ArrayLike, margin: float = MARGIN) -> float:
    """p of two one-sided tests: small where the mean of d (S, n) lies within +- margin, practically no difference.

    The larger p of "the difference is -margin or less" and "margin or more" (Schuirmann, J. Pharmacokinetics and
    Biopharmaceutics 15, 1987); equivalent at alpha where the interval of 1 - 2 alpha by `difference` lies within the
    margins: so two deterministic predictors are tested by Tango's score, since few discordant pairs make the sample
    variance too small, and all others by t with the crossed variance.
    """
    d = matrix(d)
    if not small_margin(margin):
        raise ValueError("two methods are never the same to a margin of 0")
    found, counts = crossed(d), single(d)
    if counts is not None:
        return float(max(special.ndtr(-score(*counts, -margin)), special.ndtr(score(*counts, margin))))
    if found.se == 0:
        return float(abs(found.mean) >= margin)
    return float(special.stdtr(found.df, (abs(found.mean) - margin) / found.se))
