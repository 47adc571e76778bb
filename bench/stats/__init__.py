"""Intervals, tests and decisions, as pure functions on arrays: methods are compared on the same images and seeds.

Conventions. A matrix (S, n) holds S seeds (replicates of the whole procedure) by n test images; an entry is 1 where the
answer was right and 0 where it was wrong, or the difference a - b of two such matrices, in -1, 0 and 1. A matrix (N, k)
holds N tasks by k methods and a matrix (R, M) R runs by M tasks, of accuracies from 0 to 1; more is better. Differences
and margins are in these units: half a point is 0.005. Intervals have 95 % and tests 5 % unless asked otherwise; a test
rejects where p <= alpha.

Which procedure answers a question is fixed by its form, never chosen by the data:

    one method, one task                  accuracy        crossed variance (seeds x images), Satterthwaite
    two methods, one task                 difference      deterministic: exact McNemar; else crossed variance
    one or two methods, mean over tasks   pooled, harmonic
    two methods, N tasks as a sample      wilcoxon        exact signed ranks
    all pairs                             all_pairs       any of these, Holm's correction
    shared ranks                          tie_groups
    practically the same                  tost
    a picture, descriptive                friedman, nemenyi, cliques
    an aggregate over tasks               interquartile_mean, performance_profile, improvement, bootstrap
    what the data could have shown        detectable, needed, untestable
    better or worse than a baseline       gate

Numbers that are not finite, empty or unequal sets raise ValueError with one sentence; what a single seed, a single
image or constant answers mean is said by each function. `rng` is always an argument.
"""

from bench.stats.aggregate import bootstrap, improvement, interquartile_mean, performance_profile
from bench.stats.arrays import ALPHA, LEVEL, MARGIN, POWER
from bench.stats.calibration import ece
from bench.stats.gate import Verdict, gate
from bench.stats.pairs import Paired, difference, mcnemar, paired, score, tost
from bench.stats.power import Needed, detectable, least_p, needed, untestable
from bench.stats.ranks import (
    Friedman,
    SignedRanks,
    all_pairs,
    cliques,
    friedman,
    holm,
    nemenyi,
    tie_groups,
    wilcoxon,
)
from bench.stats.variance import Estimate, accuracy, crossed, harmonic, harmonic_spread, pooled, spread

__all__ = [
    "ALPHA",
    "LEVEL",
    "MARGIN",
    "POWER",
    "Estimate",
    "Friedman",
    "Needed",
    "Paired",
    "SignedRanks",
    "Verdict",
    "accuracy",
    "all_pairs",
    "bootstrap",
    "cliques",
    "crossed",
    "detectable",
    "difference",
    "ece",
    "friedman",
    "gate",
    "harmonic",
    "harmonic_spread",
    "holm",
    "improvement",
    "interquartile_mean",
    "least_p",
    "mcnemar",
    "needed",
    "nemenyi",
    "paired",
    "performance_profile",
    "pooled",
    "score",
    "spread",
    "tie_groups",
    "tost",
    "untestable",
    "wilcoxon",
]
