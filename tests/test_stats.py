"""Intervals and tests over seeds and images against hand-computed and published answers, and other packages."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import stats
from bench.stats.pairs import restricted_variance

# -- crossed ----------------------------------------------------------------------------------------------------------

HAND = np.array([[1, 0, 0, -1], [1, 1, 0, 0]])
"""Row means 0, 1/2; column means 1, 1/2, 0, -1/2; grand mean 1/4. Residuals +-1/4 in a sum of squares of 8/16."""


def test_crossed_gives_the_hand_computed_variance():
    # vs = (1/8) / 2 = 1/16;  ve = (5/12) / 4 = 5/48;  residuals: each +-1/4, so SS = 8/16 and
    # vi = (1/2) / (1 * 3) / 8 = 1/48;  v = 1/16 - 1/48 + 5/48 = 7/48
    # df = (7/48)^2 / ((1/16)^2 / 1 + (5/48)^2 / 3 + (1/48)^2 / 3) = 49 / (9 + 25/3 + 1/3) = 147/53
    residual = HAND - HAND.mean(1, keepdims=True) - HAND.mean(0, keepdims=True) + HAND.mean()
    assert np.allclose(np.abs(residual), 0.25)
    found = stats.crossed(HAND)
    assert found.mean == 0.25
    assert found.se == pytest.approx(math.sqrt(7 / 48))
    assert found.df == pytest.approx(147 / 53)
    assert found.p == pytest.approx(0.56288, abs=1e-5)  # t = 0.65465, its density integrated numerically
    assert found.high - found.mean == pytest.approx(found.mean - found.low) == pytest.approx(found.half)


def test_with_one_seed_crossed_is_the_one_sample_t_test():
    scipy_stats = pytest.importorskip("scipy.stats")
    d = np.array([[1, 0, 0, -1, 1, 1, 0]])
    found, known = stats.crossed(d), scipy_stats.ttest_1samp(d[0], 0)
    assert found.p == pytest.approx(known.pvalue)
    assert found.df == 6
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_seeds_that_all_say_the_same_are_one_seed():
    d = np.array([[1, 0, 0, -1, 1, 1, 0]])
    assert stats.crossed(np.repeat(d, 5, axis=0)) == pytest.approx(stats.crossed(d))


def test_with_one_image_only_the_seeds_vary():
    found = stats.crossed([[1.0], [0.0], [1.0]])
    assert found.df == 2
    assert found.se == pytest.approx(1 / 3)


def test_one_answer_of_one_seed_says_nothing():
    found = stats.crossed([[1.0]])
    assert (found.mean, found.low, found.high, found.p) == (1.0, -math.inf, math.inf, 1.0)


@pytest.mark.parametrize("shape", [(1, 2), (3, 1), (4, 50)])
def test_identical_predictions_differ_by_0_with_p_1(shape):
    found = stats.crossed(np.zeros(shape))
    assert (found.mean, found.se, found.low, found.high, found.p) == (0, 0, 0, 0, 1)


def test_where_nothing_varies_p_is_that_of_the_sign_test():
    assert stats.crossed(np.ones((2, 6))).p == 2 / 2**6
    assert stats.crossed(np.full((5, 1), -1)).p == 2 / 2**5
    assert stats.crossed(np.full((3, 3000), 0.1)).p == 0


@pytest.mark.parametrize("wrong", [[1, 0], np.zeros((0, 3)), np.zeros((2, 0)), [[math.nan, 1.0]]])
def test_what_is_no_matrix_of_numbers_is_refused(wrong):
    with pytest.raises(ValueError, match="a matrix"):
        stats.crossed(wrong)


matrices = hnp.arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.integers(-1, 1))


@settings(deadline=None)
@given(matrices, st.randoms(use_true_random=False))
def test_swapping_flips_the_sign_and_no_order_matters(d, random):
    one, swapped = stats.crossed(d), stats.crossed(-d.astype(int))
    rows, columns = list(range(d.shape[0])), list(range(d.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = stats.crossed(d[rows][:, columns])
    assert swapped.mean == pytest.approx(-one.mean)
    assert swapped.p == pytest.approx(one.p)
    assert (swapped.low, swapped.high) == pytest.approx((-one.high, -one.low))
    for name in ("mean", "se", "df", "low", "high", "p"):
        assert getattr(shuffled, name) == pytest.approx(getattr(one, name), abs=1e-9)
    assert 0 <= one.p <= 1
    assert one.low <= one.mean <= one.high
    assert one.df >= 1


def test_entries_that_vary_have_a_width_where_all_means_agree():
    # rows and columns all have mean 1/2; residuals +-1/2, so vi = 1 / 1 / 4 and the variance is theirs
    found = stats.crossed([[1, 0], [0, 1]])
    assert (found.mean, found.se, found.df) == (0.5, 0.5, 1)


# -- the accuracy of one method ---------------------------------------------------------------------------------------


def test_an_accuracy_has_the_crossed_interval_cut_to_what_is_possible():
    # 8 of 10 right: se^2 = 0.16 / 9, t_9 = 2.26216, half = 0.301621
    found = stats.accuracy([[1] * 8 + [0] * 2])
    assert (found.mean, found.low, found.high) == (0.8, pytest.approx(0.498379, abs=1e-6), 1.0)
    wider = stats.accuracy([[1] * 8 + [0] * 2, [1, 0, 1, 1, 1, 1, 0, 1, 1, 1]], level=0.99)
    assert wider.low == stats.crossed([[1] * 8 + [0] * 2, [1, 0, 1, 1, 1, 1, 0, 1, 1, 1]], level=0.99).low


@pytest.mark.parametrize("seeds", [1, 3])
def test_all_right_or_all_wrong_has_the_exact_binomial_interval_of_its_images(seeds):
    known = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    for right in (1, 0):
        found = stats.accuracy(np.full((seeds, 10), right))
        assert (found.low, found.high) == pytest.approx(known(10 * right, 10, method="beta"))
    assert stats.accuracy(np.ones((seeds, 10))).low == pytest.approx(0.6915, abs=5e-5)


def test_one_answer_may_have_any_accuracy():
    found = stats.accuracy([[1]])
    assert (found.low, found.high) == (0, 1)


def test_an_accuracy_is_made_of_right_and_wrong():
    with pytest.raises(ValueError, match="right"):
        stats.accuracy([[1, -1]])


# -- pairs ------------------------------------------------------------------------------------------------------------


def test_a_deterministic_method_stands_for_every_seed():
    assert stats.paired([[1, 1, 0], [1, 0, 0]], [[1, 0, 0]]).tolist() == [[0, 1, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="not the same seeds: 2 and 3"):
        stats.paired(np.zeros((2, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="not the same images: 4 and 1"):
        stats.paired(np.zeros((2, 4)), np.zeros((2, 1)))


def discordant(gained: int, lost: int, right: int = 0, wrong: int = 0):
    a = np.repeat([True, False, True, False], [gained, lost, right, wrong])
    b = np.repeat([False, True, True, False], [gained, lost, right, wrong])
    return a, b


MCNEMAR = [
    (150, 86, 3.7159e-5),  # Agresti 1990
    (121, 59, 4.4345e-06),
    (70, 59, 0.378688),
    (80, 59, 0.089452),
    (30, 60, 0.00206),
    (10, 30, 0.002221),
    (10, 10, 1.0),
    (0, 0, 1.0),
]


@pytest.mark.parametrize(("gained", "lost", "p"), MCNEMAR)
def test_mcnemar_gives_the_published_exact_p(gained, lost, p):
    a, b = discordant(gained, lost, 101, 33)
    found, swapped = stats.mcnemar(a, b), stats.mcnemar(b, a)
    assert found.p == pytest.approx(p, rel=2e-4) == swapped.p
    assert (found.gained, found.lost) == (gained, lost) == (swapped.lost, swapped.gained)
    assert found.difference == pytest.approx((gained - lost) / len(a)) == -swapped.difference
    assert (found.low, found.high) == pytest.approx((-swapped.high, -swapped.low))


TANGO = [
    (6, 16, 161, -0.1240, -0.0054),  # complete response (Cavo 2012) in Fagerland, Lydersen and Laake 2017, ch. 8
    (1, 7, 21, -0.517, -0.026),  # airway hyper-responsiveness (Bentur 2009), ibid.
]


@pytest.mark.parametrize(("gained", "lost", "n", "low", "high"), TANGO)
def test_the_paired_interval_is_the_published_one_of_tango(gained, lost, n, low, high):
    found = stats.mcnemar(*discordant(gained, lost, n - gained - lost))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4 if n < 100 else 5e-5)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_the_paired_interval_holds_the_difference(gained, lost, right, wrong):
    found = stats.mcnemar(*discordant(gained, lost, right, wrong))
    assert -1 <= found.low <= found.difference <= found.high <= 1


def test_mcnemar_agrees_with_statsmodels():
    known = pytest.importorskip("statsmodels.stats.contingency_tables")
    for gained, lost in np.random.default_rng(0).integers(0, 60, (40, 2)).tolist():
        expected = known.mcnemar([[5, gained], [lost, 3]], exact=True).pvalue
        assert stats.mcnemar(*discordant(gained, lost, 5, 3)).p == pytest.approx(min(1, expected))


ZSCORES = [
    (150, 86, 17.3559, 16.8178, 3.0993e-5, 4.115e-5),  # Agresti 1990
    (121, 59, 21.35556, 20.67222, 3.815136e-06, 5.450095e-06),
]


@pytest.mark.parametrize(("gained", "lost", "chi2", "corrected", "p", "p_corrected"), ZSCORES)
def test_the_score_of_no_difference_is_that_of_mcnemar(gained, lost, chi2, corrected, p, p_corrected):
    z = stats.score(gained, lost, 794 + 570 + gained + lost)
    assert z**2 == pytest.approx(chi2, abs=5e-5)
    assert math.erfc(z / math.sqrt(2)) == pytest.approx(p, rel=1e-4)
    z -= 1 / math.sqrt(gained + lost)  # the continuity correction: |gained - lost| - 1
    assert z**2 == pytest.approx(corrected, abs=5e-5)
    assert math.erfc(z / math.sqrt(2)) == pytest.approx(p_corrected, rel=2e-4)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60), st.floats(-0.9, 0.9))
def test_the_restricted_variance_is_that_of_the_likeliest_rates(gained, lost, rest, difference):
    """The log likelihood of rates (q + difference, q) of gains and losses, looked through on a fine grid of q."""
    n = gained + lost + rest
    q = np.linspace(max(0, -difference), (1 - difference) / 2, 20001)[1:-1]
    likelihood = gained * np.log(q + difference) + lost * np.log(q) + rest * np.log(1 - 2 * q - difference)
    best = q[likelihood.argmax()]
    assert restricted_variance(gained, lost, n, difference) == pytest.approx(
        2 * best + difference - difference**2, abs=5e-4
    )


def test_the_interval_of_no_discordant_pair_has_a_width():
    # z^2 = 3.841459: the root of n x = z^2 (1 - x), here 3.841459 / 253.841459
    found = stats.mcnemar(*discordant(0, 0, 200, 50))
    assert (found.low, found.high) == pytest.approx((-0.0151333, 0.0151333), abs=1e-7)


@pytest.mark.parametrize("wrong", [([True], [True, False]), ([], []), ([0.5], [1]), ([math.nan], [1]), ([[1]], [[1]])])
def test_mcnemar_wants_two_vectors_of_right_and_wrong(wrong):
    with pytest.raises(ValueError, match=r"vector|right"):
        stats.mcnemar(*wrong)


# -- the difference by the form of the data ---------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 3])
def test_deterministic_methods_are_compared_exactly_however_many_seeds(seeds):
    a, b = discordant(30, 12, 101, 33)
    d = stats.paired(np.tile(a, (seeds, 1)), b[None])
    found, known = stats.difference(d), stats.mcnemar(a, b)
    assert (found.mean, found.low, found.high, found.p) == (
        pytest.approx(known.difference),
        known.low,
        known.high,
        known.p,
    )
    assert found.se == stats.crossed(d).se


@pytest.mark.parametrize("d", [HAND, [[0.5, 0.25, -0.5]], [[1.0, 0.0, 0.5]] * 2])
def test_seeds_that_vary_or_means_over_tasks_have_crossed_variance(d):
    assert stats.difference(d, 0.9) == stats.crossed(d, 0.9)


@settings(deadline=None)
@given(matrices, st.floats(0.5, 0.98))
def test_a_higher_level_has_a_wider_interval(d, level):
    narrow, wide = stats.difference(d, level), stats.difference(d, level + 0.01)
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


# -- practical equivalence --------------------------------------------------------------------------------------------


def test_equivalence_agrees_with_statsmodels():
    known = pytest.importorskip("statsmodels.stats.weightstats").ttost_paired
    rng = np.random.default_rng(0)
    for n, margin in itertools.product((5, 50, 500), (0.005, 0.05)):
        a, b = rng.random(n), rng.random(n)
        assert stats.tost([a - b], margin) == pytest.approx(known(a, b, -margin, margin)[0])


def test_equivalence_of_deterministic_methods_is_by_the_score_of_the_margins():
    # none of 1000 differs; were the difference 0.005, a pair's variance would be 0.005 * 0.995: z = 5 / sqrt(4.975)
    assert stats.tost(np.zeros((1, 1000))) == pytest.approx(0.0125, abs=5e-5)
    one = np.zeros((1, 1000))
    one[0, 0] = 1
    assert stats.tost(one) == pytest.approx(math.erfc(stats.score(1, 0, 1000, 0.005) / -math.sqrt(2)) / 2)
    assert stats.tost(one) > stats.tost(np.zeros((1, 1000)))
    assert stats.tost(one) == pytest.approx(stats.tost(-one))


def test_identical_answers_are_equivalent_only_where_there_are_enough_of_them():
    for seeds in (1, 3):
        assert stats.tost(np.zeros((seeds, 1000))) == pytest.approx(0.0125, abs=5e-5)
        assert stats.tost(np.zeros((seeds, 10))) > 0.4
    assert stats.tost([[1] * 10]) > 0.99


def test_where_nothing_else_is_known_the_mean_speaks():
    assert stats.tost(np.full((3, 10), 0.5), 0.6) == 0
    assert stats.tost(np.full((3, 10), 0.5), 0.5) == 1
    assert stats.tost([[0.5]], 0.9) == 0.5  # one answer of one seed: the interval is endless


@settings(deadline=None)
@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(2, 30)), elements=st.integers(-1, 1)))
def test_equivalent_is_what_has_its_interval_within_the_margins(d):
    found = stats.difference(d, 1 - 2 * 0.05)
    for margin in (0.1, 0.3, 0.9):
        gap = margin - max(-found.low, found.high)
        if abs(gap) > 1e-6:
            assert (stats.tost(d, margin) <= 0.05) == (gap > 0)
    assert stats.tost(d, 0.2) == pytest.approx(stats.tost(-d.astype(int), 0.2))
    assert stats.tost(d, 0.3) <= stats.tost(d, 0.2)


@pytest.mark.parametrize("margin", [0, -0.1, 1, math.nan])
def test_a_margin_is_a_share(margin):
    with pytest.raises(ValueError, match="margin"):
        stats.tost(HAND, margin)


# -- calibration ------------------------------------------------------------------------------------------------------


def test_ece_gives_the_hand_computed_answers():
    # two bins: (0, 0.5] holds 0.2, 0.5 with accuracy 1/2 and confidence 0.35; (0.5, 1] holds 0.6, 0.8, 1.0: 2/3, 0.8
    assert stats.ece([0.2, 0.6, 0.5, 0.8, 1.0], [0, 1, 1, 0, 1], bins=2) == pytest.approx(
        2 / 5 * 0.15 + 3 / 5 * (0.8 - 2 / 3)
    )
    assert stats.ece([0.9] * 10, [1] * 9 + [0]) == pytest.approx(0)
    assert stats.ece([1.0] * 4, [0] * 4) == 1
    assert stats.ece([0.0, 1.0], [0, 1]) == 0


def test_an_edge_belongs_to_the_bin_below_as_in_the_paper():
    # 1/3 falls into (4/15, 5/15], together with 0.3: |(1 - 1/3) + (0 - 0.3)| / 2
    assert stats.ece([1 / 3, 0.3], [1, 0]) == pytest.approx(abs(1 - 1 / 3 - 0.3) / 2)
    assert stats.ece([1 / 3, 0.34], [1, 0]) == pytest.approx((2 / 3 + 0.34) / 2)


def test_ece_takes_confidences_that_rounding_lifted_above_one():
    assert stats.ece(np.array([1.0000001, 1.0], np.float32), [1, 1]) == pytest.approx(0, abs=1e-6)


def literal_ece(confidence, correct, bins):
    """The published code's loop (github.com/gpleiss/temperature_scaling, temperature_scaling.py)."""
    total, edges = 0.0, np.linspace(0, 1, bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += abs(confidence[inside].mean() - correct[inside].mean()) * inside.mean()
    return total


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-6, 1), st.booleans()), min_size=1, max_size=50),
    st.integers(1, 30),
)
def test_ece_agrees_with_the_published_loop(answers, bins):
    confidence, correct = np.array([c for c, _ in answers]), np.array([float(r) for _, r in answers])
    assert stats.ece(confidence, correct, bins) == pytest.approx(literal_ece(confidence, correct, bins), abs=1e-9)


# -- the mean over tasks ----------------------------------------------------------------------------------------------


def test_tasks_that_show_the_same_scenes_are_averaged_scene_by_scene():
    one, two = np.array([[1, 0, 1], [1, 1, 0]]), np.array([[0, 0, 1], [1, 0, 1]])
    order = [2, 0, 1]
    y = stats.spread([(one, "abc"), (two[:, order], [("abc")[i] for i in order])])
    assert y == pytest.approx((one + two) / 2)
    assert stats.pooled([(one, "abc"), (two, "abc")]) == pytest.approx(stats.crossed((one + two) / 2))


def test_the_mean_over_tasks_does_not_weigh_by_size():
    found = stats.pooled([(np.ones((1, 2)), "ab"), (np.zeros((1, 6)), "cdefgh")])
    assert found.mean == pytest.approx(0.5)
    assert found.se == pytest.approx(0)


def test_tasks_without_common_images_add_their_variances():
    rng = np.random.default_rng(0)
    one, two = (rng.random((1, 400)) < 0.9) * 1.0, (rng.random((1, 100)) < 0.3) * 1.0
    found = stats.pooled([(one, range(400)), (two, range(400, 500))])
    assert found.se == pytest.approx(math.hypot(stats.crossed(one).se, stats.crossed(two).se) / 2, rel=0.01)


def test_a_single_row_stands_for_every_seed_and_seeds_are_paired_over_tasks():
    one, two = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert stats.spread([(one, "ab"), (two, "ab")]) == pytest.approx((one + two) / 2)
    with pytest.raises(ValueError, match="for 3 seeds"):
        stats.spread([(np.zeros((2, 2)), "ab"), (two, "ab")])


def test_ids_must_match_the_matrix():
    with pytest.raises(ValueError, match="2 ids"):
        stats.pooled([(np.zeros((1, 3)), "ab")])
    with pytest.raises(ValueError, match="no tasks"):
        stats.pooled([])


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_mean_over_tasks_is_the_mean_of_the_means_and_tasks_have_no_order(sizes, seeds, random):
    tasks = [
        (np.array([[random.random() for _ in range(n)] for _ in range(seeds)]), random.sample(range(8), n))
        for n in sizes
    ]
    found = stats.pooled(tasks)
    assert found.mean == pytest.approx(np.mean([x.mean() for x, _ in tasks]))
    again = stats.pooled(tasks[::-1])
    assert (again.mean, again.p) == pytest.approx((found.mean, found.p), abs=1e-6)
    if math.isfinite(found.se):
        assert again.se == pytest.approx(found.se, abs=1e-9)


# -- H, the harmonic mean of base and new -----------------------------------------------------------------------------


def test_the_interval_of_h_is_the_hand_computed_one():
    # B = 3/4, M = 1/2: H = 0.6, dH/dB = 2/4 / (5/4)^2 = 0.32, dH/dM = 2 * 9/16 / (5/4)^2 = 0.72
    # y = 0.6 + 6 * 0.32 (x - 3/4) / 4: 0.72 three times, 0.24;  0.6 + 6 * 0.72 (x - 1/2) / 2: 1.68, -0.48
    # variance: (3 * 0.0144 + 0.1296 + 2 * 1.1664) / 5 / 6 = 0.08352
    base, new = [([[1, 1, 1, 0]], "abcd")], [([[1, 0]], "ef")]
    assert stats.harmonic_spread(base, new)[0] == pytest.approx([0.72, 0.72, 0.72, 0.24, 1.68, -0.48])
    found = stats.harmonic(base, new)
    assert (found.mean, found.se, found.df) == (pytest.approx(0.6), pytest.approx(math.sqrt(0.08352)), pytest.approx(5))


def test_the_delta_method_agrees_with_the_jackknife():
    """H without each image in turn, base and new apart (Efron and Stein, Annals of Statistics 9, 1981)."""
    rng = np.random.default_rng(0)
    base, new = (rng.random(300) < 0.8) * 1.0, (rng.random(200) < 0.4) * 1.0

    def h(b, m):
        return 2 * b.mean() * m.mean() / (b.mean() + m.mean())

    over_base = np.array([h(np.delete(base, i), new) for i in range(300)])
    over_new = np.array([h(base, np.delete(new, i)) for i in range(200)])
    variance = 299 * over_base.var() + 199 * over_new.var()
    found = stats.harmonic([(base[None], range(300))], [(new[None], range(300, 500))])
    assert found.mean == pytest.approx(h(base, new))
    assert found.se == pytest.approx(math.sqrt(variance), rel=0.01)


accuracies = hnp.arrays(np.int8, st.tuples(st.just(2), st.integers(1, 6)), elements=st.integers(0, 1))


@settings(deadline=None)
@given(st.lists(accuracies, min_size=2, max_size=5), st.data())
def test_h_is_the_harmonic_mean_of_averages_whatever_the_order(answers, data):
    tasks = [(x, [f"{t}/{i}" for i in range(x.shape[1])]) for t, x in enumerate(answers)]
    cut = data.draw(st.integers(1, len(tasks) - 1))
    base, new = tasks[:cut], tasks[cut:]
    b, m = (np.mean([x.mean() for x, _ in part]) for part in (base, new))
    found = stats.harmonic(base, new)
    assert found.mean == pytest.approx(2 * b * m / (b + m) if b + m else 0)
    assert stats.harmonic(new, base).mean == pytest.approx(found.mean)
    assert stats.harmonic(new[::-1], base[::-1]).se == pytest.approx(found.se, abs=1e-9)


def test_two_methods_differ_in_h_by_their_linearised_answers():
    rng = np.random.default_rng(1)
    one, other = ((rng.random((3, 50)) < p) * 1.0 for p in (0.8, 0.5))
    base, new = range(30), range(30, 50)
    a = stats.harmonic_spread([(one[:, :30], base)], [(one[:, 30:], new)])
    b = stats.harmonic_spread([(other[:, :30], base)], [(other[:, 30:], new)])
    found = stats.difference(stats.paired(a, b))
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert stats.difference(stats.paired(a, a)).p == 1


def test_h_needs_accuracies_of_both_kinds():
    with pytest.raises(ValueError, match="base and new"):
        stats.harmonic([], [([[1]], "a")])
    with pytest.raises(ValueError, match="accuracies"):
        stats.harmonic([([[-1]], "b")], [([[1]], "a")])
    assert stats.harmonic([([[0, 0]], "ab")], [([[0, 0]], "cd")]).high == 0
