"""Aggregates over runs and tasks against hand-computed answers and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats

from bench import stats

X = np.array([[0, 1], [2, 3], [4, 5], [6, 100]]) / 100
"""4 runs of 2 tasks: the middle half is 2, 3, 4, 5."""

scores = hnp.arrays(float, st.tuples(st.integers(1, 6), st.just(3)), elements=st.integers(0, 10).map(lambda v: v / 10))


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert stats.interquartile_mean(X) == pytest.approx(0.035)
    assert stats.interquartile_mean([[0.1, 0.2, 0.9]]) == pytest.approx(0.4)  # a quarter of 3 is none
    assert stats.interquartile_mean([[0.5]]) == 0.5


@settings(deadline=None)
@given(scores)
def test_the_interquartile_mean_is_scipys_trimmed_mean(x):
    assert stats.interquartile_mean(x) == pytest.approx(scipy_stats.trim_mean(x.ravel(), 0.25))


def test_the_profile_is_the_share_of_scores_above_each_threshold():
    assert stats.performance_profile(X, [-1, 0, 0.025, 0.06, 1]).tolist() == [1, 7 / 8, 5 / 8, 1 / 8, 0]


@settings(deadline=None)
@given(scores, st.lists(st.floats(-0.1, 1.1), min_size=2, max_size=9).map(sorted))
def test_the_profile_falls_and_averages_to_the_mean(x, thresholds):
    assert (np.diff(stats.performance_profile(x, thresholds)) <= 0).all()
    grid = (np.arange(1000) + 0.5) / 1000  # its integral from 0 to 1
    assert stats.performance_profile(x, grid).mean() == pytest.approx(x.mean())


def test_the_probability_of_improvement_counts_pairs_of_runs_and_halves_ties():
    # 1 against 1: 1/2, 1 against 2: 0, 3 against 1 and 2: 1; the second task 0
    assert stats.improvement([[1, 0], [3, 0]], [[1, 5], [2, 5]]) == pytest.approx((2.5 / 4 + 0) / 2)


@settings(deadline=None)
@given(scores, scores)
def test_the_probability_of_improvement_is_mann_and_whitneys(x, y):
    u = [scipy_stats.mannwhitneyu(x[:, m], y[:, m]).statistic / (len(x) * len(y)) for m in range(3)]
    assert stats.improvement(x, y) == pytest.approx(np.mean(u))
    assert stats.improvement(y, x) == pytest.approx(1 - np.mean(u))
    assert stats.improvement(x, x) == pytest.approx(0.5)


def test_the_bootstrap_of_two_runs_has_the_quantiles_of_its_three_outcomes():
    # the mean of two draws of 0 and 1 is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4
    low, high = stats.bootstrap(np.mean, [[0.0], [1.0]], rng=np.random.default_rng(0))
    assert (low, high) == (0, 1)
    low, high = stats.bootstrap(np.mean, [[0.0], [1.0]], rng=np.random.default_rng(0), level=0.4)
    assert (low, high) == (0.5, 0.5)


def test_the_bootstrap_draws_runs_within_their_task():
    apart = [[0.0, 1.0], [0.0, 1.0]]
    assert stats.bootstrap(np.mean, apart, rng=np.random.default_rng(0)).tolist() == [0.5, 0.5]
    alike = stats.bootstrap(lambda x: x.mean(0), apart, rng=np.random.default_rng(0))
    assert alike.tolist() == [[0, 1], [0, 1]]


def test_the_bootstrap_draws_each_task_by_itself():
    # both tasks 0 and 1 in the same runs: drawn together the mean would be 0 or 1 half of the time, apart 1/8
    extremes = []
    x = np.array([[0.0, 0.0], [1.0, 1.0]])
    stats.bootstrap(lambda drawn: extremes.append(drawn.mean() in (0, 1)) or 0.0, x, rng=np.random.default_rng(0))
    assert np.mean(extremes) == pytest.approx(1 / 8, abs=0.03)


def test_the_bootstrap_depends_on_its_generator_alone():
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 4)), rng.random((6, 4))

    def interval(seed):
        return stats.bootstrap(stats.improvement, x, y, rng=np.random.default_rng(seed), resamples=200).tolist()

    assert interval(1) == interval(1) != interval(2)
    low, high = interval(1)
    assert low < stats.improvement(x, y) < high


def test_the_bootstrap_agrees_with_scipy_on_one_task():
    x = np.random.default_rng(0).random((40, 1))
    found = stats.bootstrap(stats.interquartile_mean, x, rng=np.random.default_rng(1), resamples=3000)
    known = scipy_stats.bootstrap(
        (x[:, 0],),
        lambda v: scipy_stats.trim_mean(v, 0.25),
        method="percentile",
        n_resamples=3000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert found == pytest.approx([known.low, known.high], abs=0.01)


def test_constant_scores_have_a_defined_interval():
    x = np.full((3, 2), 0.7)
    assert stats.bootstrap(stats.interquartile_mean, x, rng=np.random.default_rng(0), resamples=10) == pytest.approx(
        [0.7, 0.7]
    )


def test_what_is_no_table_of_scores_is_refused():
    rng = np.random.default_rng(0)
    for wrong in ([[]], [0.5], [[np.nan]]):
        with pytest.raises(ValueError, match=r"a matrix \(runs, tasks\)"):
            stats.interquartile_mean(wrong)
    with pytest.raises(ValueError, match="not the same tasks: 2 and 1"):
        stats.improvement([[1, 2]], [[1]])
    with pytest.raises(ValueError, match="needs scores"):
        stats.bootstrap(np.mean, rng=rng)
    with pytest.raises(ValueError, match=r"a vector \(thresholds\)"):
        stats.performance_profile([[0.5]], [])
