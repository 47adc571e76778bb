"""Signed ranks, Holm's correction, tie groups and mean ranks against published answers, enumeration and other packages.

DEMSAR is table 6 of Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets (JMLR 7, 2006): the AUC of
C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets. The paper's text ranks the row "voting" 4, 1, 2, 3 instead of its
printed tie.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats

from bench import stats

DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],  # adult (sample)
        [0.599, 0.591, 0.590, 0.569],  # breast cancer
        [0.954, 0.971, 0.968, 0.967],  # breast cancer wisconsin
        [0.628, 0.661, 0.654, 0.657],  # cmc
        [0.882, 0.888, 0.886, 0.898],  # ionosphere
        [0.936, 0.931, 0.916, 0.931],  # iris
        [0.661, 0.668, 0.609, 0.685],  # liver disorders
        [0.583, 0.583, 0.563, 0.625],  # lung cancer
        [0.775, 0.838, 0.866, 0.875],  # lymphography
        [1.000, 1.000, 1.000, 1.000],  # mushroom
        [0.940, 0.962, 0.965, 0.962],  # primary tumor
        [0.619, 0.666, 0.614, 0.669],  # rheum
        [0.972, 0.981, 0.975, 0.975],  # voting
        [0.957, 0.978, 0.946, 0.970],  # wine
    ]
)
VOTING = DEMSAR.copy()
VOTING[12] = [0.1, 0.4, 0.3, 0.2]

# -- signed ranks -----------------------------------------------------------------------------------------------------


def test_signed_ranks_of_a_few_differences_are_enumerated_by_hand():
    # all three positive: 2 of 8 sign vectors are as extreme; one small one negative: sums 5 and 1, 4 of 8
    assert stats.wilcoxon([0.01, 0.02, 0.03]).p == 2 / 8
    found = stats.wilcoxon([-0.01, 0.02, 0.03])
    assert (found.plus, found.minus, found.p, found.least) == (5, 1, 4 / 8, 2 / 8)
    # a tie: ranks 1.5, 1.5, 3; sums 4.5 and 1.5: 4.5 or more are {3, 1.5}, {3, 1.5}, {3, 1.5, 1.5}, and their mirrors
    found = stats.wilcoxon([-0.01, 0.01, 0.03])
    assert (found.plus, found.minus, found.p) == (4.5, 1.5, 6 / 8)


def test_zeros_are_ranked_and_split_or_dropped():
    # two zeros have ranks 1.5 each, split 1.5 to 1.5; then 3, 4, 5: 9 or more are {4, 5}, {3, 4, 5}, and their mirrors
    assert stats.wilcoxon([0, 0, -0.1, 0.2, 0.3]) == stats.SignedRanks(4 + 5 + 1.5, 3 + 1.5, 4 / 8, 2 / 8)
    # of three zeros one is left out
    assert stats.wilcoxon([0, 0, 0, -0.1, 0.2, 0.3]) == stats.wilcoxon([0, 0, -0.1, 0.2, 0.3])
    assert stats.wilcoxon([0, 0, -0.1, 0.2, 0.3], "dropped") == stats.SignedRanks(5, 1, 4 / 8, 2 / 8)
    # one zero is left out: as if dropped
    assert stats.wilcoxon([0, -0.1, 0.2, 0.3]) == stats.wilcoxon([-0.1, 0.2, 0.3])
    assert stats.wilcoxon([0.0, 0.0]) == stats.SignedRanks(1.5, 1.5, 1, 1)


def test_signed_ranks_give_the_answer_of_demsar_2006():
    d = DEMSAR[:, 1] - DEMSAR[:, 0]
    ranked, dropped = stats.wilcoxon(d), stats.wilcoxon(d, "dropped")
    assert (ranked.plus, ranked.minus) == (93, 12)
    assert ranked.p == pytest.approx(0.0078125, abs=1e-12)
    assert dropped.p == pytest.approx(0.0073242, abs=5e-8)
    assert ranked.least == dropped.least == 2 / 2**12


def test_float_noise_breaks_no_tie_and_makes_no_sign():
    noisy = [0.3 - 0.2, 0.1, 0.7 - 0.8, 0.8 - 0.7 - 0.1]
    assert len(set(np.abs(noisy))) == 4
    assert stats.wilcoxon(noisy) == stats.wilcoxon([0.1, 0.1, -0.1, 0.0])


def enumerated(d, zeros):
    """All sign vectors of the differences that are not 0, one by one; zeros' ranks stay half on either side."""
    d = [v for v in d if v != 0] if zeros == "dropped" else list(d)
    if zeros == "ranked" and sum(v == 0 for v in d) % 2:
        d.remove(0)
    ranks = [
        sum(abs(w) < abs(v) for w in d) + (sum(abs(w) == abs(v) for w in d) + 1) / 2 for v in d
    ]  # the mean of the places that the tied ones take
    plus = sum(r if v > 0 else r / 2 for r, v in zip(ranks, d, strict=True) if v >= 0)
    minus = sum(r if v < 0 else r / 2 for r, v in zip(ranks, d, strict=True) if v <= 0)
    moving = [r for r, v in zip(ranks, d, strict=True) if v != 0]
    extreme = 0
    for signs in itertools.product((1, -1), repeat=len(moving)):
        extreme += abs(sum(s * r for s, r in zip(signs, moving, strict=True))) >= abs(plus - minus)
    return plus, minus, extreme / 2 ** len(moving)


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.sampled_from(["ranked", "dropped"]))
def test_signed_ranks_agree_with_enumeration_whatever_ties_and_zeros(points, zeros):
    found = stats.wilcoxon(np.array(points) / 100, zeros)
    assert (found.plus, found.minus, found.p) == enumerated(points, zeros)


def test_signed_ranks_agree_with_scipy_where_scipy_is_right():
    rng = np.random.default_rng(0)
    for n in range(1, 21):  # neither ties nor zeros
        d = rng.normal(0.3, 1, n)
        known = scipy_stats.wilcoxon(d, method="exact")
        assert stats.wilcoxon(d).p == pytest.approx(known.pvalue)
    for n in range(24, 60):  # beyond the exact ones: ties, and an even number of zeros
        d = rng.integers(-5, 8, n)
        d = np.concatenate([d[d != 0], [0, 0, 0, 0]])
        assert (d != 0).sum() > 20
        for zeros, name in (("ranked", "pratt"), ("dropped", "wilcox")):
            known = scipy_stats.wilcoxon(d, zero_method=name, correction=False, method="asymptotic")
            assert stats.wilcoxon(d / 100, zeros).p == pytest.approx(known.pvalue)


def test_the_normal_approximation_takes_over_smoothly():
    d = np.random.default_rng(0).normal(0.6, 1, 21)
    exact = scipy_stats.wilcoxon(d, method="exact").pvalue
    assert 0.01 < exact < 0.2
    assert stats.wilcoxon(d).p == pytest.approx(exact, abs=0.005)


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_swapping_methods_swaps_the_rank_sums_and_no_order_of_tasks_matters(points, random):
    d = np.array(points) / 100
    found, swapped = stats.wilcoxon(d), stats.wilcoxon(-d)
    assert (swapped.plus, swapped.minus, swapped.p) == (found.minus, found.plus, pytest.approx(found.p))
    random.shuffle(points)
    again = stats.wilcoxon(np.array(points) / 100)
    assert (again.plus, again.minus, again.p) == (found.plus, found.minus, pytest.approx(found.p))
    assert found.least <= found.p <= 1 or len(points) > 20


@pytest.mark.parametrize(("d", "says"), [([], "vector"), ([[0.1]], "vector"), ([math.nan, 0.1], "1 are not")])
def test_signed_ranks_need_finite_differences(d, says):
    with pytest.raises(ValueError, match=says):
        stats.wilcoxon(d)
    with pytest.raises(ValueError, match="'ranked' or 'dropped'"):
        stats.wilcoxon([0.1], "split")


# -- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_gives_the_hand_computed_answer_in_the_order_given():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; never below the one before
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([]).tolist() == []
    assert stats.holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_holm_gives_the_answer_of_demsar_2006():
    ranks = stats.friedman(VOTING).ranks  # C4.5 is compared with the three others
    z = (ranks[0] - ranks[[3, 1, 2]]) / math.sqrt(4 * 5 / (6 * 14))
    assert z == pytest.approx([2.416, 2.342, 0.512], abs=1e-3)  # from rounded ranks
    p = np.array([math.erfc(v / math.sqrt(2)) for v in z])
    assert p == pytest.approx([0.0157, 0.0192, 0.608], abs=5e-4)
    assert stats.holm(p) == pytest.approx([3 * p[0], 3 * p[0], p[2]])


vectors = hnp.arrays(float, st.integers(1, 20), elements=st.floats(0, 1))


@settings(deadline=None)
@given(vectors)
def test_holm_is_monotone_and_never_below_the_raw_p(p):
    adjusted = stats.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_agrees_with_statsmodels():
    known = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(0)
    for m in range(1, 21):
        p = np.round(rng.random(m) ** 3, 2)  # small ones and ties among them
        assert stats.holm(p) == pytest.approx(known.multipletests(p, method="holm")[1])


@pytest.mark.parametrize("wrong", [[math.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(wrong):
    with pytest.raises(ValueError, match="p-values"):
        stats.holm(wrong)


# -- all pairs --------------------------------------------------------------------------------------------------------


def signed(a, b):
    return stats.wilcoxon(a - b).p


def test_all_pairs_are_tested_apart_and_corrected_together():
    p = {(0, 1): 0.01, (0, 2): 0.04, (1, 2): 0.03}
    raw, corrected = stats.all_pairs(range(3), lambda a, b: p[a, b])
    assert raw.tolist() == [[1, 0.01, 0.04], [0.01, 1, 0.03], [0.04, 0.03, 1]]
    assert corrected == pytest.approx(np.array([[1, 0.03, 0.06], [0.03, 1, 0.06], [0.06, 0.06, 1]]))
    assert [m.tolist() for m in stats.all_pairs(["alone"], lambda a, b: 0.0)] == [[[1]], [[1]]]


def test_all_pairs_agree_with_scikit_posthocs():
    known = pytest.importorskip("scikit_posthocs")
    x = np.random.default_rng(0).normal(0, 0.1, (12, 5)) + np.arange(5) / 20
    corrected = stats.all_pairs(x.T, signed)[1]
    assert corrected == pytest.approx(known.posthoc_wilcoxon(list(x.T), p_adjust="holm").to_numpy())
    assert (corrected < 0.05).any()


tables = hnp.arrays(np.int8, st.tuples(st.integers(2, 8), st.integers(2, 5)), elements=st.integers(0, 9))


@settings(deadline=None)
@given(tables)
def test_another_method_changes_no_pairwise_p(x):
    x = x.T / 10
    raw, corrected = stats.all_pairs(x, signed)
    assert (raw[:-1, :-1] == stats.all_pairs(x[:-1], signed)[0]).all()
    assert (corrected >= raw).all()
    assert (corrected == corrected.T).all()
    assert (np.diag(corrected) == 1).all()


# -- tie groups -------------------------------------------------------------------------------------------------------


def symmetric(k, **p):
    """A (k, k) matrix of p-values from pairs named like AB=0.3."""
    found = np.ones((k, k))
    for pair, value in p.items():
        i, j = ("ABCDEF".index(letter) for letter in pair)
        found[i, j] = found[j, i] = value
    return found


def test_methods_that_cannot_be_separated_share_a_rank():
    p = symmetric(4, AB=0.3, AC=0.001, AD=0.001, BC=0.01, BD=0.001, CD=0.2)
    assert stats.tie_groups([0.8, 0.79, 0.7, 0.69], p).tolist() == [1, 1, 3, 3]
    assert stats.tie_groups([0.69, 0.7, 0.79, 0.8], p[::-1, ::-1]).tolist() == [3, 3, 1, 1]
    assert stats.tie_groups([0.8, 0.79, 0.7, 0.69], np.ones((4, 4))).tolist() == [1] * 4
    assert stats.tie_groups([0.8, 0.79, 0.7, 0.69], np.zeros((4, 4))).tolist() == [1, 2, 3, 4]
    assert stats.tie_groups([0.5], [[1]]).tolist() == [1]


def test_where_not_separated_is_not_transitive_the_leader_decides():
    # a chain: A like B, B like C, but not A like C; C leads the second group, though B is not separated from it
    p = symmetric(3, AB=0.3, BC=0.4, AC=0.01)
    assert stats.tie_groups([0.8, 0.78, 0.75], p).tolist() == [1, 1, 3]
    # the wide interval of D reaches A, past C whose narrow one does not
    p = symmetric(4, AB=0.3, AC=0.01, AD=0.2, BC=0.4, BD=0.01, CD=0.6)
    assert stats.tie_groups([0.80, 0.78, 0.75, 0.70], p).tolist() == [1, 1, 4, 1]


def test_p_at_alpha_separates_and_of_equal_means_the_first_leads():
    p = symmetric(2, AB=0.05)
    assert stats.tie_groups([0.8, 0.7], p).tolist() == [1, 2]
    assert stats.tie_groups([0.8, 0.7], p, alpha=0.01).tolist() == [1, 1]
    assert stats.tie_groups([0.7, 0.7], p).tolist() == [1, 2]


@settings(deadline=None)
@given(st.integers(1, 6), st.randoms(use_true_random=False), st.floats(0.01, 0.99))
def test_tie_groups_follow_the_methods_and_each_has_one_leader(k, random, alpha):
    p, mean = np.ones((k, k)), np.array(random.sample(range(20), k)) / 20
    for i, j in itertools.combinations(range(k), 2):
        p[i, j] = p[j, i] = random.random()
    ranks = stats.tie_groups(mean, p, alpha)
    order = random.sample(range(k), k)
    assert stats.tie_groups(mean[order], p[np.ix_(order, order)], alpha).tolist() == ranks[order].tolist()
    for rank in set(ranks):
        group = np.flatnonzero(ranks == rank)
        leader = group[mean[group].argmax()]
        assert rank == 1 + (ranks < rank).sum()
        assert all(p[leader, j] > alpha or j == leader for j in group)
        assert all(p[leader, j] <= alpha for j in np.flatnonzero(ranks > rank))


@pytest.mark.parametrize("p", [np.ones((2, 2)), [[1, 0.1, 1], [0.2, 1, 1], [1, 1, 1]], np.full((3, 3), 2.0)])
def test_tie_groups_need_a_p_for_every_pair(p):
    with pytest.raises(ValueError, match="3 methods"):
        stats.tie_groups([0.1, 0.2, 0.3], p)
    with pytest.raises(ValueError, match="finite"):
        stats.tie_groups([0.1, math.nan], np.ones((2, 2)))


# -- mean ranks -------------------------------------------------------------------------------------------------------


def test_friedman_gives_the_answers_of_demsar_2006():
    printed, ties = stats.friedman(DEMSAR, ties=False), stats.friedman(DEMSAR)
    assert printed.ranks == pytest.approx([3.143, 2.000, 2.929, 1.929], abs=5e-4)
    assert (printed.chi2, ties.chi2, printed.f) == pytest.approx((9.857, 10.952, 3.987), abs=5e-4)
    paper = stats.friedman(VOTING, ties=False)
    assert paper.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert (paper.chi2, paper.f) == pytest.approx((9.2786, 3.6863), abs=5e-5)


@settings(deadline=None)
@given(tables)
def test_friedman_agrees_with_scipy(x):
    assume(x.shape[1] > 2 and (np.ptp(x, axis=1) > 0).any())
    found, known = stats.friedman(x / 10), scipy_stats.friedmanchisquare(*x.T)
    assert (found.chi2, found.p) == pytest.approx((known.statistic, known.pvalue))


@settings(deadline=None)
@given(tables)
def test_iman_and_davenport_is_the_analysis_of_variance_of_the_ranks(x):
    """F of a two-way layout of the ranks: mean square of methods over mean square of the residual."""
    found, ranks = stats.friedman(x), scipy_stats.rankdata(-x, axis=1)
    n, k = x.shape
    methods = n * ((ranks.mean(0) - (k + 1) / 2) ** 2).sum()
    residual = ((ranks - ranks.mean(0)) ** 2).sum()  # every task has the same mean rank
    assume(residual > 1e-9)
    assert found.f == pytest.approx((methods / (k - 1)) / (residual / ((k - 1) * (n - 1))))
    assert found.p_f == pytest.approx(scipy_stats.f.sf(found.f, k - 1, (k - 1) * (n - 1)))


def test_tasks_that_all_rank_alike_or_not_at_all():
    alike = stats.friedman([[0.1, 0.2, 0.3]] * 4)
    assert alike.ranks.tolist() == [3, 2, 1]
    assert (alike.chi2, alike.f, alike.p_f) == (pytest.approx(8), math.inf, 6.0**-3)
    equal = stats.friedman(np.ones((4, 3)))
    assert (equal.chi2, equal.p, equal.f, equal.p_f) == (0, 1, 0, 1)


def test_float_noise_breaks_no_tie_between_methods():
    assert stats.friedman([[0.1 + 0.2, 0.3], [0.3, 0.2]]).ranks.tolist() == [1.25, 1.75]


@pytest.mark.parametrize("x", [[[0.1, 0.2]], [[0.1], [0.2]]])
def test_friedman_needs_two_tasks_and_two_methods(x):
    with pytest.raises(ValueError, match="at least 2 tasks and 2 methods"):
        stats.friedman(x)


def test_the_critical_difference_is_the_published_one():
    assert stats.nemenyi(4, 14) == pytest.approx(1.2536, abs=5e-5)
    assert stats.nemenyi(4, 14, alpha=0.1) == pytest.approx(1.118, abs=5e-4)
    assert stats.nemenyi(4, 14) / math.sqrt(20 / 84) == pytest.approx(2.569, abs=5e-4)
    assert stats.nemenyi(4, 14, alpha=0.1) / math.sqrt(20 / 84) == pytest.approx(2.2913, abs=5e-4)
    assert stats.nemenyi(5, 30, alpha=0.1) == pytest.approx(1.00409, abs=5e-6)  # Demsar: infinite
    assert stats.nemenyi(5, 30, alpha=0.1, df=145) == pytest.approx(1.01400, abs=5e-6)  # scmamp


def test_the_critical_difference_is_where_scikit_posthocs_has_alpha():
    known = pytest.importorskip("scikit_posthocs")
    x = np.random.default_rng(0).random((20, 6)) + np.arange(6) / 10
    ranks, p = stats.friedman(x).ranks, known.posthoc_nemenyi_friedman(x).to_numpy()
    apart = np.abs(ranks[:, None] - ranks) > stats.nemenyi(6, 20)
    assert (apart == (p < 0.05)).all()
    assert apart.any()


def test_the_bars_of_the_diagram_join_what_is_closer_than_the_critical_difference():
    assert stats.cliques([1.0, 2.4, 1.5, 3.9], 1.0) == [[0, 2], [2, 1]]
    assert stats.cliques([1.4, 1.0, 1.2], 1.0) == [[1, 2, 0]]
    assert stats.cliques([1, 2, 3, 4], 1) == [[0, 1], [1, 2], [2, 3]]
    assert stats.cliques([1, 2, 3, 4], 0.9) == []


@settings(deadline=None)
@given(st.lists(st.integers(10, 50), min_size=1, max_size=7), st.integers(0, 30))
def test_the_bars_are_the_longest_ones(tenths, difference):
    ranks = np.array(tenths) / 10
    found = [set(c) for c in stats.cliques(ranks, difference / 10)]
    close = {
        (i, j) for i, j in itertools.combinations(range(len(ranks)), 2) if abs(tenths[i] - tenths[j]) <= difference
    }
    assert {pair for c in found for pair in itertools.combinations(sorted(c), 2)} == close
    assert not any(a < b for a in found for b in found)
