"""RMSE and r against answers known by hand and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from scow.scoring import Agreement, agreement, pearson, rmse, validate


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
