"""How often the procedures err, by simulation: false alarms, coverage, power, and what the gate lets pass.

The model: method m, trained with seed s, answers image i rightly with probability expit(easiness_i + ability_ms).
Easiness has a wide spread, so most images are answered alike by everyone, 8 to 9 % differently by two equal methods.
Tolerances are binomial: both the figure that is reproduced and the reproduction come from about RUNS runs.
"""

import math

import numpy as np
import pytest
from scipy import special
from scipy import stats as scipy_stats

from bench import stats

RUNS, IMAGES = 2000, 1000
pytestmark = pytest.mark.slow


def answers(rng, runs, seeds, ability_sd, gap=0.0):
    """Two methods' answers, (runs, S, n) each, on the same images; the first is abler by `gap`, in logits."""
    easiness = 4 + 8 * rng.standard_normal((runs, 1, IMAGES), dtype=np.float32)
    for mean in (gap, 0.0):
        ability = np.float32(mean) + np.float32(ability_sd) * rng.standard_normal((runs, seeds, 1), dtype=np.float32)
        yield rng.random((runs, seeds, IMAGES), dtype=np.float32) < special.expit(easiness + ability)


def tolerance(share, runs=RUNS):
    return 3.5 * math.sqrt(2 * share * (1 - share) / runs)


def crossed_bootstrap(rng, d, resamples=1000):
    """Whether the percentile interval of resampled seeds and resampled images leaves out 0, for each d (runs, S, n)."""
    runs, seeds, n = d.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).astype(np.float32) / seeds
    of_images = rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float32) / n
    over_images = (d.reshape(-1, n).astype(np.float32) @ of_images.T).reshape(runs, seeds, resamples)
    means = np.einsum("bs,rsb->rb", of_seeds, over_images)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return (low > 0) | (high < 0)


FALSE_ALARMS = [
    # seeds, ability SD in logits, seed SD in points, alarms of: McNemar on one seed, t over seeds, bootstrap, crossed
    (3, 0.00, 0.6, 0.037, 0.048, 0.007, 0.020),
    (3, 0.18, 1.0, 0.198, 0.055, 0.053, 0.051),
    (3, 0.53, 2.4, 0.595, 0.056, 0.196, 0.061),
    (5, 0.18, 1.0, 0.191, 0.055, 0.037, 0.047),
    (10, 0.53, 2.4, 0.601, 0.053, 0.074, 0.053),
]


@pytest.mark.parametrize(("seeds", "ability", "points", "mcnemar", "t", "bootstrap", "crossed"), FALSE_ALARMS)
def test_the_table_of_false_alarms_is_reproduced(seeds, ability, points, mcnemar, t, bootstrap, crossed):
    rng = np.random.default_rng(1)
    chunks, spread = [], []
    for _ in range(4):
        a, b = answers(rng, RUNS // 4, seeds, ability)
        chunks.append(a.astype(np.int8) - b)
        spread.append(a.mean(2).var(1, ddof=1).mean())
    d = np.concatenate(chunks)
    assert 100 * math.sqrt(np.mean(spread)) == pytest.approx(points, abs=0.06)

    def alarms(p):
        return np.mean(np.asarray(p) <= 0.05)

    assert alarms([stats.difference(run[:1]).p for run in d]) == pytest.approx(mcnemar, abs=tolerance(mcnemar))
    over_seeds = scipy_stats.ttest_1samp(d.mean(2, dtype=float) + 1e-12 * rng.random((RUNS, seeds)), 0, axis=1).pvalue
    assert alarms(over_seeds) == pytest.approx(t, abs=tolerance(t))
    assert crossed_bootstrap(rng, d).mean() == pytest.approx(bootstrap, abs=tolerance(bootstrap))
    assert alarms([stats.crossed(run).p for run in d]) == pytest.approx(crossed, abs=tolerance(crossed))
    if points >= 1:  # images alone, averaged over the seeds: as wrong as one seed
        assert alarms([stats.crossed(run.mean(0, keepdims=True)).p for run in d]) > 0.15


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.40), (5, 0.78), (10, 0.996)])
def test_the_power_for_two_and_a_half_points_is_the_known_one(seeds, power):
    rng, runs = np.random.default_rng(2), RUNS // 2
    a, b = answers(rng, runs, seeds, 0.18, gap=0.59)
    d = a.astype(np.int8) - b
    assert d.mean() == pytest.approx(0.025, abs=0.001)
    assert np.mean([stats.crossed(run).p <= 0.05 for run in d]) == pytest.approx(power, abs=tolerance(power, runs))


def test_as_many_images_as_are_needed_find_the_difference_four_times_in_five():
    rng, distance = np.random.default_rng(3), 0.02

    def draw(runs, n, mean):
        u = rng.random((runs, 1, n))
        return (u < 0.06 + mean) * 1.0 - (u > 0.94)  # losses of 6 %

    found = stats.needed(draw(1, 500_000, distance)[0], distance).images
    power = np.mean([stats.difference(d).p <= 0.05 for d in draw(RUNS, found, distance)])
    assert power == pytest.approx(0.8, abs=0.02 + tolerance(0.8))  # the exact test is a little stricter than t


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("ability", [0.0, 0.18])
def test_the_interval_of_an_accuracy_covers(seeds, ability):
    rng = np.random.default_rng(4)
    truth = np.mean([next(answers(rng, 2000, 1, ability)).mean() for _ in range(5)])
    x = np.concatenate([next(answers(rng, RUNS // 4, seeds, ability)) for _ in range(4)])
    found = [stats.accuracy(run) for run in x]
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert covered >= 0.95 - tolerance(0.05) - (0.1 if seeds == 1 and ability else 0)  # one seed knows its images alone
    assert covered <= 0.99


@pytest.mark.parametrize("shared", [False, True])
def test_the_interval_of_h_covers(shared):
    """300 base and 200 new images, 4 seeds that shift both alike (or each), accuracies 0.8 and 0.4."""
    rng = np.random.default_rng(5)
    truth, covered = 2 * 0.8 * 0.4 / 1.2, 0
    for _ in range(RUNS):
        shift = rng.normal(0, 0.02, (4, 2))
        easy = rng.uniform(-0.1, 0.1, 500)
        base, new = (
            (rng.random((4, n)) < level + part + shift[:, [0 if shared else column]]) * 1.0
            for n, level, part, column in ((300, 0.8, easy[:300], 0), (200, 0.4, easy[300:], 1))
        )
        found = stats.harmonic([(base, range(300))], [(new, range(300, 500))])
        covered += found.low <= truth <= found.high
    assert 0.95 - tolerance(0.05) <= covered / RUNS <= 0.985


@pytest.mark.parametrize("overlap", [0, 100, 200])
def test_the_interval_of_the_mean_over_tasks_covers(overlap):
    """Two tasks of 200 images, accuracies 0.8 and 0.4, the first `overlap` scenes shown by both, 4 seeds."""
    rng, truth, covered = np.random.default_rng(6), 0.6, 0
    for _ in range(RUNS):
        scene, shift = rng.uniform(-0.2, 0.2, 400), rng.normal(0, 0.02, (4, 1))
        ids = range(200), range(200 - overlap, 400 - overlap)
        tasks = [
            ((rng.random((4, 200)) < np.clip(base + scene[list(i)] + shift, 0, 1)) * 1.0, i)
            for base, i in zip((0.79, 0.41), ids, strict=True)
        ]
        found = stats.pooled(tasks)
        covered += found.low <= truth <= found.high
    assert 0.95 - tolerance(0.05) <= covered / RUNS <= 0.985


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.03])
def test_the_gate_passes_a_drop_of_the_margin_as_seldom_as_promised(rate):
    """Deterministic methods: losses at `rate` + 0.005, gains at `rate`; the margin is 0.005."""
    rng = np.random.default_rng(7)
    for n in (300, 2000):
        counts = rng.multinomial(n, [rate, rate + 0.005, 1 - 2 * rate - 0.005], RUNS)
        passes = [stats.gate(np.repeat([[1.0, -1.0, 0.0]], c, axis=1)).outcome == "pass" for c in counts]
        none = (1 - 2 * rate - 0.005) ** n  # identical answers pass by definition
        assert np.mean(passes) <= 0.025 + none + tolerance(0.025)


@pytest.mark.parametrize("seeds", [1, 5])
def test_the_gate_calls_chance_a_regression_as_seldom_as_promised(seeds):
    rng = np.random.default_rng(8)
    a, b = answers(rng, RUNS // 2, seeds, 0.0 if seeds == 1 else 0.18)
    outcomes = [stats.gate(run).outcome for run in a.astype(np.int8) - b]
    assert np.mean([o == "regression" for o in outcomes]) <= 0.025 + tolerance(0.025, RUNS // 2)
