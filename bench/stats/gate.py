"""Better or worse than a baseline: effect and evidence, with three outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from bench.stats.arrays import ALPHA, MARGIN, POWER, fraction, matrix, small_margin
from bench.stats.pairs import difference, restricted_variance, single
from bench.stats.power import Needed, detectable, least_p, needed


@dataclass(frozen=True)
class Verdict:
    """An outcome, the difference now - baseline with its interval of 1 - alpha and p, and what the data could show.

    detectable: the smallest true difference that these data would have found (80 % power by default). needed: where the
    outcome is inconclusive, and only there, the number of images or of seeds that would decide it.
    """

    outcome: Literal["pass", "regression", "inconclusive"]
    difference: float
    low: float
    high: float
    p: float
    detectable: float
    needed: Needed | None = None


def gate(d: ArrayLike, margin: float = MARGIN, alpha: float = ALPHA, power: float = POWER) -> Verdict:
    """Whether d = now - baseline (S, n) shows a drop of accuracy beyond the margin.

    With the difference, its interval of 1 - alpha and its two-sided p by `difference`:

        pass           every entry of d is 0, or low >= -margin: a drop beyond the margin is excluded
        regression     difference < -margin and p <= alpha: the drop is larger than the margin, and significant
        inconclusive   otherwise: the drop may lie on either side of the margin, or may be chance

    The first two exclude each other, and a significant drop within the margin passes where the interval excludes more.
    (Non-inferiority by the two-sided interval: Piaggio et al., JAMA 308, 2012.) For one verdict over m cells use
    alpha / m in each: then all of their intervals hold together (Bonferroni).

    What would decide: the numbers at which, should the difference stay as it is, its distance to what it must exclude
    (-margin where the drop is smaller than that, else 0) is the smallest detectable one. A difference at -margin is
    decided by no number. Between deterministic predictors the variance is that of a true drop of the margin.
    """
    d, margin = matrix(d), small_margin(margin)
    found, counts = difference(d, 1 - fraction(alpha, "alpha")), single(d)
    shown = found.mean, found.low, found.high, found.p, detectable(found.se, found.df, alpha, power)
    if not d.any() or found.low >= -margin:
        return Verdict("pass", *shown)
    if found.mean < -margin and found.p <= alpha:
        return Verdict("regression", *shown)
    beyond, (seeds, n) = found.mean < -margin, d.shape
    variance = restricted_variance(*counts, 0.0 if beyond else -margin) if counts else 0.0
    more = needed(d, -found.mean if beyond else found.mean + margin, alpha, power, variance)
    fewest = next(m for m in range(n + 1, n + 2000) if least_p(m) <= alpha)
    images = more.images and max(more.images, fewest)
    return Verdict("inconclusive", *shown, Needed(images, more.seeds if (more.seeds or 0) > seeds else None))
