"""Measures against hand values, SciPy and plain loops; the bootstrap against enumeration and formulas."""

import math

import numpy as np
import pytest
from helpers import golden

from scow import metrics
from scow.metrics import agreement, bias, bootstrap_estimates, kendall, pearson, rmse, roc_auc

CONSTANTS = ([50.0] * 7, [0.1] * 7, [1e9 + 0.1] * 7, [0.0] * 7)  # the mean of seven 0.1 is not 0.1


@pytest.mark.parametrize(("measure", "scores", "truth", "expected"), golden("metrics.yaml"))
def test_measures_on_hand_values(measure, scores, truth, expected):
    assert getattr(metrics, measure)(scores, truth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_correlations_of_constants_are_undefined(constant):
    varied = [1.0, 2, 3, 4, 5, 6, 7]
    assert [pearson(constant, varied), pearson(varied, constant), kendall(constant, varied)] == [None] * 3
    assert agreement([40.0], [50.0]) == metrics.Agreement(rmse=10.0, r=None, n_signals=1)


def test_pearson_stays_in_range():
    rng = np.random.default_rng(1)
    assert all(-1.0 <= pearson(x, 0.1 * x + 7) <= 1.0 for x in (rng.random(n) * 100 for n in range(2, 200)))


@pytest.mark.parametrize("function", [rmse, pearson, kendall, bias, agreement, roc_auc])
@pytest.mark.parametrize(
    ("scores", "truth"),
    [([1, 2], [1]), ([[1, 2]], [[1, 2]]), (3, 4), ([], []), ([1, math.nan], [1, 2]), ([1, 2], [1, math.inf])],
)
def test_unusable_lists_are_refused(function, scores, truth):
    with pytest.raises(ValueError, match="expected"):
        function(scores, truth)


def test_bootstrap_against_plain_loop():
    """Same draws, resamples written out signal by signal."""
    rng = np.random.default_rng(7)
    groups = np.array([f"g{i % 11}" for i in range(60)])
    scores, truth, where = rng.random(60) * 100, rng.random(60) * 100, rng.random(60) < 0.7
    measures = {"rmse": rmse, "ncc": pearson, "tau": kendall, "bias": bias}
    found = bootstrap_estimates(measures, (scores, truth), groups, np.random.default_rng(3), 200, where)
    names = np.unique(groups)
    for name, measure in measures.items():
        values = []
        for drawn in np.random.default_rng(3).integers(len(names), size=(200, len(names))):
            members = [i for g in drawn for i in range(60) if groups[i] == names[g] and where[i]]
            values.append(measure(scores[members], truth[members]))
        assert found[name].value == pytest.approx(measure(scores[where], truth[where]))
        assert found[name].error == pytest.approx(np.std(values, ddof=1))
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))))


def test_standard_error_grows_where_groups_share_their_errors():
    shared = np.repeat(np.random.default_rng(2).normal(scale=20, size=100), 9)
    groups, alone = [f"g{i // 9}" for i in range(900)], [f"s{i}" for i in range(900)]
    by_group, by_signal = (
        bootstrap_estimates({"rmse": rmse}, (shared, np.zeros(900)), of, np.random.default_rng(3))["rmse"].error
        for of in (groups, alone)
    )
    assert by_group / by_signal == pytest.approx(3.0, rel=0.1)  # sqrt(9), each known to 2.2 %


def test_bootstrap_of_undefined_statistics():
    def estimate(scores, truth, groups, where=None):
        measures = {"ncc": pearson, "rmse": rmse}
        return bootstrap_estimates(measures, (scores, truth), groups, np.random.default_rng(0), 1000, where)

    assert estimate([1, 1, 1], [1, 2, 3], list("abc"))["ncc"] == metrics.Estimate(None)
    single = estimate([4, 0, 0], [1, 0, 0], list("abc"), np.array([True, False, False]))
    assert single["ncc"] == metrics.Estimate(None)
    assert single["rmse"].value == 3
    half = estimate([1, 2], [2, 1], ["a", "b"])["ncc"]  # defined where a resample holds both groups: half of them
    assert half == metrics.Estimate(pytest.approx(-1)) or (half.low, half.high) == pytest.approx((-1, -1))
    one_group = estimate([1, 2, 4], [0, 0, 0], ["a"] * 3)["rmse"]
    assert (one_group.error, one_group.low) == pytest.approx((0.0, one_group.value), abs=1e-12)
