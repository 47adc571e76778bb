"""The procedures of bench.stats against hand-computed and published answers, other packages and simulations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import stats

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


def test_mcnemar_wants_two_vectors_of_the_same_images():
    with pytest.raises(ValueError, match="two vectors"):
        stats.mcnemar([True], [True, False])


# -- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_gives_the_hand_computed_answer_in_the_order_given():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; never below the one before
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([]).tolist() == []
    assert stats.holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_holm_gives_the_answer_of_demsar_2006():
    z = np.array([2.416, 2.342, 0.512])
    raw = np.array([math.erfc(v / math.sqrt(2)) for v in z])
    assert raw == pytest.approx([0.0157, 0.0192, 0.608], abs=1e-3)
    assert stats.holm(raw) == pytest.approx([3 * raw[0], 3 * raw[0], raw[2]])


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


# -- simulations ------------------------------------------------------------------------------------------------------


def differences(rng, seeds: int, seed_sd: float, n: int = 1000, agree: float = 0.9):
    """d (S, n) of two equally good methods: images differ in difficulty, seeds shift one method's accuracy."""
    ability = rng.normal(0, seed_sd, (seeds, 1))
    taste = rng.normal(0, 0.1, (1, n))  # what one method likes about an image
    up = np.clip((1 - agree) / 2 + (ability + taste) / 2, 0, 1)
    down = np.clip((1 - agree) / 2 - (ability + taste) / 2, 0, 1)
    u = rng.random((seeds, n))
    return (u < up).astype(float) - ((u >= up) & (u < up + down))


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.01), (3, 0.024), (5, 0.01), (10, 0.024)])
def test_false_alarms_are_about_as_rare_as_promised(seeds, seed_sd):
    rng, runs = np.random.default_rng(1), 5000
    alarms = np.mean([stats.crossed(differences(rng, seeds, seed_sd)).p < 0.05 for _ in range(runs)])
    assert 0.02 <= alarms <= 0.07
    one_seed = []
    for _ in range(300):
        d = differences(rng, 1, seed_sd)[0]
        one_seed.append(stats.mcnemar(d > 0, d < 0).p < 0.05)
    assert np.mean(one_seed) > 0.1  # what a single seed would have claimed


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 100, 200])
def test_the_interval_of_the_mean_over_tasks_covers(overlap):
    """Two tasks of 200 images, accuracies 0.8 and 0.4, the first `overlap` scenes shown by both, 4 seeds."""
    rng, runs, truth, covered = np.random.default_rng(2), 4000, 0.6, 0
    for _ in range(runs):
        scene, shift = rng.normal(0, 0.15, 400), rng.normal(0, 0.02, (4, 1))
        ids = range(200), range(200 - overlap, 400 - overlap)
        tasks = [
            ((rng.random((4, 200)) < np.clip(base + scene[list(i)] + shift, 0, 1)) * 1.0, i)
            for base, i in zip((0.8, 0.4), ids, strict=True)
        ]
        found = stats.pooled(tasks)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / runs <= 0.98
