"""Methods over several tasks: signed ranks, all pairs with Holm's correction, shared ranks, mean ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bench.stats.arrays import ALPHA, fraction, matrix, vector
from bench.stats.power import least_p

EXACT = 20
"""Signed ranks of up to so many differences are enumerated."""
DECIMALS = 10
"""Differences and accuracies are rounded to so many places before they are ranked: float noise breaks ties."""

T = TypeVar("T")


@dataclass(frozen=True)
class SignedRanks:
    """The sums of the ranks of positive and of negative differences, p, and the smallest p that these data allow."""

    plus: float
    minus: float
    p: float
    least: float


def wilcoxon(d: ArrayLike, zeros: Literal["ranked", "dropped"] = "ranked") -> SignedRanks:
    """Wilcoxon's signed-rank test that d (N,), one difference per task, is symmetric around 0; two-sided.

    Ties share their mean rank. Zeros are ranked, and their ranks split evenly between the two sums; of an odd number of
    zeros one is left out (Demsar, JMLR 7, 2006). Or all are dropped (Wilcoxon, Biometrics Bulletin 1, 1945). p is exact
    for up to 20 differences other than 0: the share of all their 2^N signs, each as likely as any other, that put the
    two sums at least as far apart; zeros have no sign. Beyond, normal with the variance of these same sums,
    sum of r^2 / 4, which corrects for ties and zeros, without a continuity correction. All zeros: p = 1.
    """
    d = np.round(vector(d, "tasks"), DECIMALS)
    if zeros not in ("ranked", "dropped"):
        raise ValueError(f"zeros are 'ranked' or 'dropped', not {zeros!r}")
    moving = d[d != 0]
    still = 2 * ((len(d) - len(moving)) // 2) if zeros == "ranked" else 0
    ranks = still + stats.rankdata(np.abs(moving))  # zeros have the lowest ranks, 1 to `still`
    plus, minus = float(ranks[moving > 0].sum()), float(ranks[moving < 0].sum())
    split = still * (still + 1) / 4
    p = _sign_flips(ranks, plus, minus) if len(moving) <= EXACT else _normal(ranks, plus, minus)
    return SignedRanks(plus + split, minus + split, p, least_p(len(moving)))


def _sign_flips(ranks: NDArray[np.float64], plus: float, minus: float) -> float:
    """The share of sign vectors whose larger sum is at least the one seen; sums are counted one rank at a time."""
    doubled = np.rint(2 * ranks).astype(int)  # mean ranks are halves
    ways = np.zeros(doubled.sum() + 1)  # ways[s]: sign vectors whose positive ranks sum to s / 2
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    return min(1.0, float(2 * ways[round(2 * max(plus, minus)) :].sum() / 2 ** len(ranks)))


def _normal(ranks: NDArray[np.float64], plus: float, minus: float) -> float:
    return float(2 * stats.norm.sf(abs(plus - minus) / math.sqrt((ranks**2).sum())))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction of p (m,) (Scandinavian Journal of Statistics 6, 1979), in the order given."""
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values are a vector of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def all_pairs(methods: Iterable[T], p: Callable[[T, T], float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The p of every pair of k methods, (k, k) symmetric with 1 on the diagonal, as it is and with Holm's correction.

    p(a, b) sees the two alone, so no third method changes it: tests on mean ranks lack that (Benavoli et al., JMLR 17,
    2016). Over tasks, for the columns of x (N, k): all_pairs(x.T, lambda a, b: wilcoxon(a - b).p).
    """
    methods = list(methods)
    k = len(methods)
    places = np.triu_indices(k, 1)
    raw, corrected = np.ones((k, k)), np.ones((k, k))
    raw[places] = [p(a, b) for a, b in combinations(methods, 2)]
    corrected[places] = holm(raw[places])
    return np.minimum(raw, raw.T), np.minimum(corrected, corrected.T)


def tie_groups(mean: ArrayLike, p: ArrayLike, alpha: float = ALPHA) -> NDArray[np.int64]:
    """Shared ranks (k,) of methods with these means (k,) and corrected p-values (k, k); 1 is best.

    The method with the best mean leads the first group, which holds all methods with p > alpha against it. Of the rest
    the best leads the next group, and so on; a group's rank is 1 more than the number of methods in the groups before.
    "Not separated" is not transitive, so the leader decides: members of a group may be separated from each other, one
    with wide intervals may share a rank above its mean's place, and methods of two groups may not be separated. Of
    equal means the first given leads.
    """
    mean, p = vector(mean, "methods"), matrix(p, "methods, methods")
    if p.shape != (len(mean), len(mean)) or not np.array_equal(p, p.T) or p.min() < 0 or p.max() > 1:
        raise ValueError(f"a symmetric matrix of p-values of {len(mean)} methods is needed, not shape {p.shape}")
    ranks, rest, place = np.zeros(len(mean), dtype=np.int64), np.argsort(-mean, kind="stable"), 1
    while len(rest):
        together = p[rest[0], rest] > fraction(alpha, "alpha")
        together[0] = True
        ranks[rest[together]] = place
        rest, place = rest[~together], place + int(together.sum())
    return ranks


@dataclass(frozen=True)
class Friedman:
    """Mean ranks (k,), 1 for the best; Friedman's chi-squared and Iman and Davenport's F with their p-values."""

    ranks: NDArray[np.float64]
    chi2: float
    p: float
    f: float
    p_f: float


def friedman(x: ArrayLike, ties: bool = True) -> Friedman:
    """Whether k methods rank alike over N tasks, x (N, k) of accuracies; descriptive, beside the pairwise procedure.

    chi2 = (k-1) N^2 sum over methods of (R - (k+1)/2)^2 / sum over all ranks of (r - (k+1)/2)^2, k-1 degrees of freedom
    (Friedman, JASA 32, 1937); with `ties` the divisor is that of the ranks as they are (Conover, Practical
    Nonparametric Statistics, 1999, 5.8), without it N k (k^2-1)/12, as in Demsar's text (JMLR 7, 2006).
    F = (N-1) chi2 / (N(k-1) - chi2) with k-1 and (k-1)(N-1) (Iman and Davenport, Comm. Stat. A 9, 1980). Where all
    tasks rank alike F is infinite and p_f = k!^(1-N) (Conover). All equal: chi2 = F = 0 and p = 1.
    """
    x = np.round(matrix(x, "tasks, methods"), DECIMALS)
    n, k = x.shape
    if n < 2 or k < 2:
        raise ValueError(f"at least 2 tasks and 2 methods are needed, not {n} and {k}")
    ranks, middle = stats.rankdata(-x, axis=1), (k + 1) / 2  # (N, k)
    mean = ranks.mean(0)
    divisor = float(((ranks - middle) ** 2).sum()) if ties else n * k * (k**2 - 1) / 12
    chi2 = (k - 1) * n**2 * float(((mean - middle) ** 2).sum()) / divisor if divisor else 0.0
    p, room = float(stats.chi2.sf(chi2, k - 1)), n * (k - 1) - chi2
    if room < 1e-9:
        return Friedman(mean, chi2, p, math.inf, math.factorial(k) ** (1.0 - n))
    f = (n - 1) * chi2 / room
    return Friedman(mean, chi2, p, f, float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))))


def nemenyi(k: int, n: int, alpha: float = ALPHA, df: float = math.inf) -> float:
    """The critical difference of the mean ranks of k methods over N tasks: q sqrt(k (k+1) / (6 N)).

    q is the quantile of the studentized range over sqrt(2). Infinite degrees of freedom as in Demsar (JMLR 7, 2006) and
    in Nemenyi's thesis (1963); df = (N-1) k gives the larger figure of R's scmamp. Descriptive: it depends on the pool.
    """
    if k < 2 or n < 1:
        raise ValueError(f"at least 2 methods and 1 task are needed, not {k} and {n}")
    q = stats.studentized_range.ppf(1 - fraction(alpha, "alpha"), k, df) / math.sqrt(2)
    return float(q) * math.sqrt(k * (k + 1) / (6 * n))


def cliques(ranks: ArrayLike, difference: float) -> list[list[int]]:
    """The bars of a critical-difference diagram: each longest run of methods whose mean ranks (k,) differ by no more.

    Methods by their place in `ranks`, best first; runs of one are left out, and none lies within another.
    """
    ranks = vector(ranks, "methods")
    order = np.argsort(ranks, kind="stable")
    ends = np.searchsorted(ranks[order], ranks[order] + difference * (1 + 1e-12), side="right")
    before = np.concatenate([[0], ends[:-1]])
    return [order[i:end].tolist() for i, end in enumerate(ends) if end - i > 1 and end > before[i]]
