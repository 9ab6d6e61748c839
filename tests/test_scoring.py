"""RMSE and r against answers known by hand and against SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from scow.metrics import (
    Agreement,
    Estimate,
    GroupResamples,
    agreement,
    bias,
    equal_bins,
    group_standard_error,
    kendall,
    pearson,
    rmse,
    roc_auc,
    validate,
)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([50.0], [50.0], 0.0),
        ([0, 100], [100, 0], 100.0),
        ([10, 20], [13, 16], math.sqrt(12.5)),  # (9 + 16) / 2
        ([1, 2, 3, 4], [1, 2, 3, 10], 3.0),  # 36 / 4
    ],
)
def test_rmse_of_small_lists_known_by_hand(scores, truth, expected):
    assert rmse(scores, truth) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 0.5),  # deviations -1 0 1 and -1 1 0: 1 / sqrt(2 * 2)
        ([1, 2, 1, 2], [1, 1, 2, 2], 0.0),
    ],
)
def test_pearson_of_small_lists_known_by_hand(scores, truth, expected):
    assert pearson(scores, truth) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_pearson_is_scipys(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 9, 300) / 8 * 100
    scores = np.clip(0.5 * truth + 30 + 20 * rng.standard_normal(300), 0, 100)
    # Both sum 300 products in float64; 1e-12 is some hundred times their rounding error.
    assert pearson(scores, truth) == pytest.approx(scipy.stats.pearsonr(scores, truth).statistic, abs=1e-12)
    # r does not see a change of unit; RMSE is in the unit of the scores.
    assert pearson(scores / 100, truth) == pytest.approx(pearson(scores, truth), abs=1e-12)
    assert rmse(scores / 100, truth / 100) == pytest.approx(rmse(scores, truth) / 100, rel=1e-12)


def test_pearson_never_leaves_its_range_by_rounding():
    rng = np.random.default_rng(1)
    lists = [rng.random(n) * 100 for n in range(2, 200)]
    assert all(-1.0 <= pearson(x, 0.1 * x + 7) <= 1.0 for x in lists)


@pytest.mark.parametrize(
    "constant",
    [
        [50.0] * 7,
        [0.1] * 7,  # the mean of seven 0.1 is not 0.1: what remains is rounding, not spread
        [1e9 + 0.1] * 7,
        [0.0] * 7,
    ],
)
def test_a_constant_side_has_no_correlation(constant):
    varied = [1.0, 2, 3, 4, 5, 6, 7]
    assert pearson(constant, varied) is None
    assert pearson(varied, constant) is None


def test_a_single_signal_has_no_correlation():
    assert agreement([40.0], [50.0]) == Agreement(rmse=10.0, r=None, n_signals=1)


def test_a_small_spread_is_still_a_spread():
    assert pearson([50.0, 50.0 + 1e-6], [0.0, 100.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("function", [validate, rmse, pearson, agreement])
@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1, 2], [1], r"^expected two lists of the same length, found shapes \(2,\) and \(1,\)$"),
        ([[1, 2]], [[1, 2]], r"^expected two lists of the same length, found shapes \(1, 2\) and \(1, 2\)$"),
        (3, 4, r"^expected two lists of the same length, found shapes \(\) and \(\)$"),
        ([], [], r"^expected at least one score, found none$"),
        ([1, float("nan")], [1, 2], r"^expected finite scores, found NaN or infinity$"),
        ([1, 2], [1, float("inf")], r"^expected finite scores, found NaN or infinity$"),
    ],
)
def test_lists_that_cannot_be_compared_are_refused(function, scores, truth, message):
    with pytest.raises(ValueError, match=message):
        function(scores, truth)


def test_the_callers_lists_are_left_as_they_were():
    scores, truth = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 3.0])
    agreement(scores, truth)
    assert scores.tolist() == [1, 2, 4]
    assert truth.tolist() == [2, 3, 3]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Agreement(26.444, 0.6666, 1095), "RMSE 26.44, r 0.667, 1095 signals"),
        (Agreement(0.0, None, 1), "RMSE 0.00, r undefined (constant scores), 1 signals"),
    ],
)
def test_an_agreement_prints_as_one_line(found, line):
    assert str(found) == line


# --- standard error by group


def test_standard_error_of_single_signals_is_the_analytic_one():
    """The mean square m of n squares s_i has the error sd(s) / sqrt(n); its root, by the delta method, 1 / (2 sqrt(m))
    of that."""
    rng = np.random.default_rng(0)
    truth = rng.random(2000) * 100
    scores = truth + rng.normal(scale=25, size=2000)
    squares = (scores - truth) ** 2
    expected = squares.std(ddof=1) / math.sqrt(2000) / (2 * math.sqrt(squares.mean()))
    found = group_standard_error(scores, truth, [str(i) for i in range(2000)], np.random.default_rng(1), 4000)
    # 4,000 resamples know a standard deviation to 1 / sqrt(8000) = 1.1 %: five times that.
    assert found == pytest.approx(expected, rel=0.056)


def test_standard_error_is_larger_where_groups_share_their_errors():
    rng = np.random.default_rng(2)
    truth = np.full(900, 50.0)
    groups = [f"g{i // 9}" for i in range(900)]
    shared = truth + np.repeat(rng.normal(scale=20, size=100), 9)
    alone = [f"s{i}" for i in range(900)]
    by_group = group_standard_error(shared, truth, groups, np.random.default_rng(3))
    by_signal = group_standard_error(shared, truth, alone, np.random.default_rng(3))
    assert by_group / by_signal == pytest.approx(3.0, rel=0.1)  # sqrt(9), each known to 2.2 %
    independent = truth + rng.normal(scale=20, size=900)
    by_group = group_standard_error(independent, truth, groups, np.random.default_rng(3))
    by_signal = group_standard_error(independent, truth, alone, np.random.default_rng(3))
    assert by_group / by_signal == pytest.approx(1.0, rel=0.3)  # a hundred groups know their own spread to 7 %


def test_standard_error_of_groups_of_unlike_size_by_brute_force():
    rng = np.random.default_rng(4)
    groups = [name for name, n in (("a", 1), ("b", 5), ("c", 2), ("d", 9)) for _ in range(n)]
    truth, scores = np.zeros(17), rng.normal(scale=10, size=17)
    found = []
    for drawn in np.stack(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T:  # all 256 ways to draw four of four
        members = [scores[i] for g in drawn for i in range(17) if groups[i] == "abcd"[g]]
        found.append(math.sqrt(np.mean(np.square(members))))
    estimate = group_standard_error(scores, truth, groups, np.random.default_rng(5), 20_000)
    assert estimate == pytest.approx(np.std(found), rel=0.03)  # 20,000 resamples: 0.5 %, times five


def test_standard_error_draws_from_its_own_generator_alone():
    scores, truth, groups = [1.0, 2, 4, 9], [2.0, 2, 2, 2], ["a", "a", "b", "c"]
    first, again, other = (group_standard_error(scores, truth, groups, np.random.default_rng(s)) for s in (0, 0, 1))
    assert first == again != other
    assert group_standard_error([1.0, 2, 4], [0.0, 0, 0], ["a"] * 3, np.random.default_rng(0)) < 1e-12


# --- Kendall's tau-b and bias


def tau_by_pairs(x, y):
    """Tau-b over all pairs, by its definition."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    untied = [sum(sign[side] != 0 for sign in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])


@pytest.mark.parametrize("seed", range(4))
def test_kendall_is_tau_b_with_many_ties(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, 60), rng.integers(0, 9, 60)
    assert kendall(x, y) == pytest.approx(tau_by_pairs(x, y), abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2], [3, 4]), ([1, 2], [4, 3]), ([1, 1, 2], [3, 4, 4]), ([1, 2, 2], [5, 6, 7])]
)
def test_kendall_of_very_few(x, y):
    assert kendall(x, y) == pytest.approx(tau_by_pairs(x, y), abs=1e-12)


def test_kendall_of_a_constant_is_undefined():
    assert kendall([1, 1, 1], [1, 2, 3]) is None
    assert kendall([1, 2, 3], [5, 5, 5]) is None


def test_bias_is_above_zero_where_too_much_was_predicted():
    assert bias([50, 70], [40, 60]) == 10
    assert bias([40], [60]) == -20


# --- resamples by group


def test_a_resample_draws_whole_groups():
    groups = ["a", "b", "a", "c", "b", "a"]
    for times in GroupResamples(groups, np.random.default_rng(0), 50):
        assert times[0] == times[2] == times[5]
        assert times[1] == times[4]
        assert times[0] + times[1] + times[3] == 3  # as many groups as there are


def test_estimates_against_all_resamples_of_three_groups():
    """Of three groups there are 27 equally likely resamples: mean, spread and percentiles can be had by counting."""
    groups, values = ["a", "a", "b", "c"], np.array([0.0, 4.0, 10.0, 50.0])
    found = GroupResamples(groups, np.random.default_rng(1), 20_000).estimate(
        lambda index: float(values[index].mean()), 0.8
    )
    members = {"a": [0.0, 4.0], "b": [10.0], "c": [50.0]}
    means = [np.mean([v for g in drawn for v in members[g]]) for drawn in itertools.product("abc", repeat=3)]
    assert found.value == 16.0
    assert found.error == pytest.approx(np.std(means), rel=0.03)  # 20,000 resamples: 0.5 %, times five
    # The percentiles fall on steps of 1/27 in probability, which 20,000 resamples (0.3 % each) cannot miss.
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, (0.1, 0.9), method="inverted_cdf")))


def test_interval_of_a_bias_is_the_normal_one():
    rng = np.random.default_rng(3)
    residuals = rng.normal(5, 20, 900)
    groups = [str(i) for i in range(900)]
    found = GroupResamples(groups, np.random.default_rng(4), 4000).measure(bias, 50 + residuals, np.full(900, 50.0))
    expected = residuals.std(ddof=1) / 30
    assert found.error == pytest.approx(expected, rel=0.056)  # as above
    # A percentile at 2.5 % of 4,000 resamples has an error of 0.04 standard errors: five times that.
    assert found.low == pytest.approx(residuals.mean() - 1.96 * expected, abs=0.2 * expected)
    assert found.high == pytest.approx(residuals.mean() + 1.96 * expected, abs=0.2 * expected)


def test_only_the_signals_of_the_mask_count():
    scores, truth = np.array([1.0, 2, 90, 4, 5, 80]), np.zeros(6)
    mask = scores < 10
    groups = ["a", "b", "c", "d", "e", "f"]
    found = GroupResamples(groups, np.random.default_rng(0)).measure(rmse, scores, truth, mask)
    assert found.value == rmse(scores[mask], truth[mask])
    assert 1 <= found.low < found.value < found.high <= 5


def test_undefined_is_none():
    groups = ["a", "b", "c"]
    resamples = GroupResamples(groups, np.random.default_rng(0), 100)
    assert resamples.measure(pearson, [1, 1, 1], [1, 2, 3]) == Estimate(None, None, None, None)
    single = np.array([True, False, False])  # a correlation of one signal is never defined, its RMSE is
    assert resamples.measure(rmse, [4, 0, 0], [1, 0, 0], single).value == 3
    # Only resamples that hold both of two groups define a correlation: half of them, of groups of one signal.
    two = GroupResamples(["a", "b"], np.random.default_rng(0), 1000).measure(pearson, [1, 2], [2, 1])
    assert two.value == pytest.approx(-1)
    assert two.low is None or (two.low, two.high) == pytest.approx((-1, -1))


# --- bins


def test_bins_hold_the_same_number_in_order():
    values = np.random.default_rng(0).random(47)
    bins = equal_bins(values)
    assert sorted(i for members in bins for i in members) == list(range(47))
    assert {len(members) for members in bins} == {4, 5}
    assert all(values[one].max() <= values[other].min() for one, other in itertools.pairwise(bins))
    assert [members.tolist() for members in equal_bins([3, 1], 10)] == [[1], [0]]


# --- area under the ROC curve


@pytest.mark.parametrize(
    ("probabilities", "labels", "expected"),
    [
        ([0.1, 0.9], [0, 1], 1.0),
        ([0.9, 0.1], [0, 1], 0.0),
        ([0.5, 0.5], [0, 1], 0.5),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),  # of four pairs only 0.4 above 0.35 is wrong
    ],
)
def test_roc_auc_by_hand(probabilities, labels, expected):
    assert roc_auc(probabilities, labels) == expected


@pytest.mark.parametrize("seed", range(5))
def test_roc_auc_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random(120) < 0.3
    probabilities = rng.integers(0, 8, 120) / 8 + 0.1 * labels * (seed % 2)  # many ties
    pairs = [(p > q) + 0.5 * (p == q) for p in probabilities[labels] for q in probabilities[~labels]]
    assert roc_auc(probabilities, labels.astype(float)) == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_roc_auc_of_one_kind_is_refused(labels):
    with pytest.raises(ValueError, match=r"^expected hits and misses, found only one of them$"):
        roc_auc([0.2, 0.3], labels)
