"""What data of a size can show, and the gate's decision, against known figures, hand-made tables and statsmodels."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import stats
from bench.stats.variance import parts


def answers(n: int, gained: int, lost: int) -> np.ndarray:
    """d (1, n) of two deterministic methods."""
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost])[None]


# -- smallest differences and sample sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "points"), [(1000, 2.8), (10_000, 0.89), (50_000, 0.40)])
def test_the_smallest_detectable_difference_of_ten_percent_discordant_pairs_is_the_known_one(n, points):
    assert round(100 * stats.detectable(math.sqrt(0.1 / n)), 2 if points < 1 else 1) == points


def test_the_smallest_detectable_difference_agrees_with_the_power_of_the_t_test():
    power = pytest.importorskip("statsmodels.stats.power").TTestPower().power
    for n in (10, 100, 1000):
        for aim in (0.5, 0.8, 0.95):
            effect = stats.detectable(1 / math.sqrt(n), n - 1, power=aim)  # in standard deviations
            assert power(effect, n, 0.05) == pytest.approx(aim, abs=0.03 if n == 10 else 0.005)


def test_nothing_is_detected_without_a_standard_error_and_everything_where_there_is_none():
    assert stats.detectable(0.0, 5) == 0
    assert stats.detectable(math.inf, 1) == math.inf
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="standard error"):
            stats.detectable(wrong)
    with pytest.raises(ValueError, match="a power lies between"):
        stats.detectable(1.0, power=1.0)


def test_images_needed_with_one_seed_are_the_textbook_number():
    # gains and losses of 5 % each, variance 0.1 (1000 / 999 of it): (1.95996 + 0.84162)^2 0.1 / 0.02^2 = 1962.2
    d = answers(1000, 50, 50)
    assert stats.needed(d, 0.02) == stats.Needed(pytest.approx(1965, abs=3), None)
    assert stats.needed(d, 0.04) == stats.Needed(pytest.approx(492, abs=2), 1)  # fewer than there are


def test_what_the_data_can_show_needs_no_more_of_it():
    rng = np.random.default_rng(0)
    d = rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 0.5, (1, 200)) + rng.normal(0, 0.3, (4, 200))
    found = stats.crossed(d)
    assert stats.needed(d, stats.detectable(found.se, found.df) * (1 + 1e-9)) == stats.Needed(200, 4)


def test_where_seeds_alone_differ_images_do_not_help_and_conversely():
    seeds_differ = np.tile([[0.03], [0.01], [-0.02]], 100) + np.random.default_rng(0).normal(0, 0.001, (3, 100))
    found = stats.needed(seeds_differ, 0.01)
    assert found.images is None
    assert found.seeds > 3
    images_differ = np.tile(np.random.default_rng(0).normal(0, 0.3, (1, 100)), (3, 1))
    found = stats.needed(images_differ, 0.01)
    assert found.images > 100
    assert found.seeds is None


def literal_needed(d, distance, images):
    """Counting up from 2, with the components and Satterthwaite's rule written out."""
    seeds, n = d.shape
    rows, columns, mean = d.mean(1), d.mean(0), d.mean()
    vs, ve = rows.var(ddof=1) / seeds, columns.var(ddof=1) / n
    vi = ((d - rows[:, None] - columns + mean) ** 2).sum() / (seeds - 1) / (n - 1) / seeds / n
    of_seeds, of_images, rest = max(vs - vi, 0), max(ve - vi, 0), min(ve, vi)
    for m in range(2, 3000):
        more_seeds, more_images = (1, m / n) if images else (m / seeds, 1)
        e = rest / more_seeds / more_images
        s, i = of_seeds / more_seeds + e, of_images / more_images + e
        df_seeds, df_images = (seeds - 1, m - 1) if images else (m - 1, n - 1)
        v = max(s - e, 0) + i
        df = max(1, v**2 / (s**2 / df_seeds + i**2 / df_images + e**2 / df_seeds / df_images))
        if stats.detectable(math.sqrt(v), df) <= distance:
            return m
    return None


def test_the_numbers_needed_are_those_found_by_counting():
    rng = np.random.default_rng(3)
    below = []
    for seed_sd, image_sd, noise in ((0.02, 0.3, 0.3), (0.05, 0.1, 0.5), (0.0, 0.4, 0.1), (0.05, 0.0, 0.5)):
        d = rng.normal(0, seed_sd, (4, 1)) + rng.normal(0, image_sd, (1, 60)) + rng.normal(0, noise, (4, 60))
        _, ve, vi = parts(d)
        below.append(ve < vi)
        for distance in (0.05, 0.2):
            found = stats.needed(d, distance)
            for number, images in ((found.images, True), (found.seeds, False)):
                assert (number if (number or 3000) < 3000 else None) == literal_needed(d, distance, images)
    assert {True, False} == set(below)


# -- what cannot be tested --------------------------------------------------------------------------------------------


def test_few_tasks_cannot_be_significant_and_the_reason_says_so():
    assert [stats.least_p(n) for n in (1, 4, 5, 6)] == [1, 0.125, 0.0625, 0.03125]
    assert stats.untestable(4) == "not testable (N = 4): the smallest possible p is 0.125; N = 6 would do"
    assert stats.untestable(5).startswith("not testable (N = 5): the smallest possible p is 0.0625")
    assert stats.untestable(6) is None
    assert "with Holm over 15 comparisons is 0.0586; N = 10 would do" in stats.untestable(9, 15)
    assert stats.untestable(10, 15) is None


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 30))
def test_what_is_untestable_is_never_significant_and_what_is_not_can_be(n, comparisons):
    best = stats.holm([stats.wilcoxon(np.arange(1, n + 1) / 100).p] * comparisons)[0]
    assert (stats.untestable(n, comparisons) is None) == (best <= 0.05)


def test_no_tasks_and_no_comparisons_are_refused():
    for wrong in ((0, 1), (4, 0)):
        with pytest.raises(ValueError, match="at least one"):
            stats.untestable(*wrong)


# -- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 250), (5, 250)])
def test_identical_answers_pass_however_few(shape):
    found = stats.gate(np.zeros(shape))
    assert (found.outcome, found.difference, found.p, found.needed) == ("pass", 0, 1, None)


@pytest.mark.parametrize(
    ("n", "gained", "lost", "outcome"),
    [
        (1000, 5, 40, "regression"),  # -3.5 points, p = 1e-7
        (1000, 40, 5, "pass"),  # better, and nothing worse than -0.5 is left
        (100_000, 100, 200, "pass"),  # p = 9e-9, but -0.1 points with an interval above -0.5
        (10_000, 20, 60, "inconclusive"),  # -0.4 points, p = 8e-6, but perhaps -0.6
        (250, 2, 5, "inconclusive"),  # -1.2 points, p = 0.45
        (250, 0, 1, "inconclusive"),  # -0.4 points: one lost image does not exclude a drop of 0.5
        (1000, 0, 1, "inconclusive"),  # nor of a thousand: the interval reaches -0.56
        (2000, 0, 1, "pass"),
        (1000, 0, 5, "inconclusive"),  # -0.5 points, which is not beyond the margin
        (100_000, 100, 700, "regression"),  # -0.6 points and p = 0
        (5, 0, 5, "inconclusive"),  # all lost, p = 0.0625
    ],
)
def test_the_gate_weighs_effect_and_evidence(n, gained, lost, outcome):
    found = stats.gate(answers(n, gained, lost))
    assert found.outcome == outcome
    assert found.difference == pytest.approx((gained - lost) / n)
    assert (found.needed is None) == (outcome != "inconclusive")


def test_the_gate_weighs_several_seeds_by_crossed_variance():
    rng = np.random.default_rng(0)
    noise = rng.choice([-1.0, 0.0, 1.0], (5, 2000), p=[0.01, 0.98, 0.01])
    found, known = stats.gate(noise), stats.crossed(noise)
    assert (found.outcome, found.low, found.high) == ("pass", known.low, known.high)
    drop = np.minimum(noise, rng.choice([1.0, -1.0], (1, 2000), p=[0.97, 0.03]))  # the same images in every seed
    assert stats.gate(drop).outcome == "regression"
    wild = noise + rng.normal(0, 0.03, (5, 1))  # seeds differ more than the margin
    found = stats.gate(wild)
    assert found.outcome == "inconclusive"
    assert found.needed.seeds > 5
    assert found.needed.images is None
    assert found.detectable > 0.005


def test_the_numbers_that_would_decide_are_the_textbook_ones():
    # -1.2 points, 7 of 250 discordant, variance 0.027968: (2.80159)^2 0.027968 / 0.012^2 = 1524.5
    found = stats.gate(answers(250, 2, 5)).needed
    assert 1524 <= found.images <= 1530
    assert found.seeds is None
    # none is needed at the margin itself, for none decides
    assert stats.gate(answers(1000, 0, 5)).needed == stats.Needed(None, None)
    # one lost of 250 is 0.1 points from the margin; the variance is that of a drop of 0.005, not the sample's 0.004
    assert stats.gate(answers(250, 0, 1)).needed.images == pytest.approx(7.8489 * 0.005 * 0.995 / 0.001**2, rel=1e-3)


def test_where_nothing_varies_it_takes_as_many_images_as_a_sign_test():
    assert stats.gate(np.full((2, 3), -0.5)).needed == stats.Needed(6, None)
    assert stats.gate(np.full((2, 6), -0.5)).outcome == "regression"
    assert stats.gate(np.full((2, 3), -0.5), margin=0.5).outcome == "pass"


@settings(deadline=None, max_examples=50)
@given(st.integers(50, 2000), st.floats(0, 0.1), st.floats(0, 0.1))
def test_as_many_images_as_are_needed_decide_if_the_difference_stays(n, gains, losses):
    d = answers(n, int(gains * n), int(losses * n))
    found = stats.gate(d)
    assume(found.outcome == "inconclusive" and (found.needed.images or 10**9) < 2 * 10**6)
    assert found.needed.images > n
    assert stats.gate(np.tile(d, -(-found.needed.images // n))).outcome != "inconclusive"


@settings(deadline=None)
@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=st.integers(-1, 1)))
def test_the_outcome_follows_from_the_printed_numbers(d):
    found = stats.gate(d, 0.05, 0.1)
    regression, excluded = found.difference < -0.05 and found.p <= 0.1, found.low >= -0.05
    assert not (regression and excluded)
    expected = "pass" if excluded or not d.any() else "regression" if regression else "inconclusive"
    assert found.outcome == expected
    stricter = stats.gate(d, 0.05, 0.01).outcome
    assert stricter in (found.outcome, "inconclusive")  # less error allowed decides less, and nothing otherwise
    if expected == "inconclusive":
        seeds, n = d.shape
        assert (found.needed.images or n + 1) > n
        assert (found.needed.seeds or seeds + 1) > seeds


@pytest.mark.parametrize(
    ("d", "margin", "alpha", "says"),
    [
        ([[math.nan]], 0.005, 0.05, "finite"),
        ([], 0.005, 0.05, "matrix"),
        ([[0]], -0.1, 0.05, "margin"),
        ([[0]], 1, 0.05, "margin"),
        ([[0]], math.nan, 0.05, "margin"),
        ([[0]], 0.005, 0, "alpha"),
        ([[0]], 0.005, 1, "alpha"),
    ],
)
def test_the_gate_refuses_what_it_cannot_weigh(d, margin, alpha, says):
    with pytest.raises(ValueError, match=says):
        stats.gate(d, margin, alpha)
