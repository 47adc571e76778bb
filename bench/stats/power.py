"""What the data could have shown: smallest differences, sample sizes, and what no data of this size can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import special

from bench.stats.arrays import ALPHA, POWER, fraction, matrix
from bench.stats.variance import parts, satterthwaite

LIMIT = 10_000_000
"""Sample sizes above this are no advice."""


@dataclass(frozen=True)
class Needed:
    """How many images, with the seeds as they are, or seeds, with the images as they are; None: no feasible number."""

    images: int | None
    seeds: int | None


def detectable(se: float, df: float = math.inf, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true difference that a two-sided test finds with this power: (t_(1-alpha/2) + t_power) se.

    se and df are those of an `Estimate`; before there are data, sqrt(discordant / n) for n images of which that share
    is expected to be answered differently. (Chow, Shao and Wang, Sample Size Calculations in Clinical Research, 2008.)
    """
    if not se >= 0:
        raise ValueError(f"a standard error is not negative, as {se} is")
    quantiles = special.stdtrit(df, [1 - fraction(alpha, "alpha") / 2, fraction(power, "a power")])
    return float(quantiles.sum()) * se


def needed(d: ArrayLike, distance: float, alpha: float = ALPHA, power: float = POWER, variance: float = 0.0) -> Needed:
    """How many images, or how many seeds, would make `distance` the smallest detectable difference of d (S, n).

    The variance components that d shows are carried over: with a, b and c those of seeds, images and the residual,
    v(S, n) = a/S + b/n + c/(Sn), which is the variance of `crossed` at d's own S and n; degrees of freedom as there.
    Where the seeds' part alone is too large, no number of images helps, and conversely; with one seed the seeds' part
    is not known, and taken as 0. `variance` is the least that b may be: few differences can show too little of it.
    """
    d = matrix(d)
    seeds, n = d.shape
    vs, ve, vi = parts(d)
    shared = min(vi, ve)  # so that the parts sum to the variance of `crossed`, also where ve came out below vi
    a, b, c = seeds * max(vs - vi, 0.0), max(n * (ve - shared), variance), seeds * n * shared

    def shows(seeds: int, n: int) -> bool:
        residual = c / (seeds * n)
        v, df = satterthwaite(a / seeds + residual, b / n + residual, residual, seeds, n)
        return detectable(math.sqrt(v), df, alpha, power) <= distance

    return Needed(_least(lambda m: shows(seeds, m), n), _least(lambda s: shows(s, n), seeds))


def _least(holds: Callable[[int], bool], now: int) -> int | None:
    """The smallest number for which `holds`, up to LIMIT: below `now` if that is enough, else above it."""
    low, high = (1, now) if holds(now) else (now, 2 * now)
    while not holds(high):
        low, high = high, 2 * high
        if high > LIMIT:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def least_p(n: int) -> float:
    """The smallest two-sided p of a sign or signed-rank test of n differences, none of them 0: 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def untestable(n: int, comparisons: int = 1, alpha: float = ALPHA) -> str | None:
    """Why n tasks can never be significant by `wilcoxon`, with Holm over so many comparisons; None where they can."""
    if n < 1 or comparisons < 1:
        raise ValueError(f"at least one task and one comparison, not {n} and {comparisons}")
    p = min(1.0, least_p(n) * comparisons)
    if p <= fraction(alpha, "alpha"):
        return None
    holm = f" with Holm over {comparisons} comparisons" if comparisons > 1 else ""
    enough = next(more for more in range(n, n + 2000) if least_p(more) * comparisons <= alpha)
    return f"not testable (N = {n}): the smallest possible p{holm} is {p:.3g}; N = {enough} would do"
