"""scow.models.intervals on data whose distribution is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scow.models.intervals import FLOOR, LEVELS, calibrate, interval, spread

TIMES = np.array([0.5, 1.0, 2.0])  # the width of the noise, by severity


def invented(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth at a distance of U(0, times w) from the prediction, on either side."""
    rng = np.random.default_rng(seed)
    predicted, severity = rng.random(n), rng.integers(0, 3, n)
    width = TIMES[severity] * (predicted * (1 - predicted) + 0.02)
    return predicted, predicted + rng.uniform(-1, 1, n) * width, severity


def test_spread():
    assert spread(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.02, 0.27, 0.02])
    assert FLOOR == 0.02


def test_quantiles_are_those_of_the_distribution():
    quantiles = calibrate(*invented(60_000, 0))
    assert quantiles.shape == (3, 99)
    # A quantile of 20,000 draws of U(0, 1) is known to 0.0035 at worst: four times that.
    np.testing.assert_allclose(quantiles / TIMES[:, None], np.tile(LEVELS, (3, 1)), rtol=0, atol=0.015)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.95])
def test_coverage_is_the_level(level):
    quantiles = calibrate(*invented(9_000, 1))
    predicted, truth, severity = invented(30_000, 2)
    low, high = interval(predicted, severity, quantiles, level)
    # Ends are clipped to 0-1, and so is a correctness.
    inside = (truth.clip(0, 1) >= low) & (truth.clip(0, 1) <= high)
    assert inside.mean() >= level - 0.02
    middle = (predicted > 0.3) & (predicted < 0.7) & (severity < 2)  # where nothing is clipped
    for i in (0, 1):
        # 4,000 new signals know a share to 0.008, 3,000 calibrating ones to 0.009: three of both together.
        assert inside[middle & (severity == i)].mean() == pytest.approx(level, abs=0.036)


def test_interval_by_hand():
    quantiles = np.outer([1.0, 2.0, 3.0], LEVELS)
    low, high = interval(np.array([0.5, 0.5, 0.1, 1.0]), np.array([0, 1, 2, 2]), quantiles, 0.5)
    # times w: 0.5 * 0.27, 1.0 * 0.27, 1.5 * 0.11, 1.5 * 0.02
    assert low.tolist() == pytest.approx([0.365, 0.23, 0.0, 0.97])
    assert high.tolist() == pytest.approx([0.635, 0.77, 0.265, 1.0])
    between = interval(np.array([0.5]), np.array([0]), quantiles, 0.555)
    assert between[1][0] == pytest.approx(0.5 + 0.555 * 0.27)


def test_higher_levels_are_wider_and_hold_the_prediction():
    quantiles = calibrate(*invented(500, 3))
    predicted, _, severity = invented(200, 4)
    ends = [interval(predicted, severity, quantiles, level) for level in (0.01, 0.3, 0.555, 0.8, 0.99)]
    for low, high in ends:
        assert (low >= 0).all()
        assert (high <= 1).all()
        assert (low <= predicted).all()
        assert (predicted <= high).all()
    for (low, high), (lower, higher) in itertools.pairwise(ends):
        assert (lower <= low).all()
        assert (higher >= high).all()
    assert (ends[-1][1] - ends[-1][0] > ends[0][1] - ends[0][0]).all()


def test_severity_without_signals_takes_the_quantiles_of_all():
    predicted, truth, severity = invented(900, 5)
    known = severity < 2
    quantiles = calibrate(predicted[known], truth[known], severity[known])
    distance = np.abs(truth - predicted)[known] / (predicted * (1 - predicted) + 0.02)[known]
    np.testing.assert_allclose(quantiles[2], np.quantile(distance, LEVELS), rtol=1e-12)
    assert not np.allclose(quantiles[0], quantiles[2])


def test_order_does_not_matter_and_nothing_is_changed():
    predicted, truth, severity = invented(90, 6)
    before = predicted.copy(), truth.copy(), severity.copy()
    quantiles = calibrate(predicted, truth, severity)
    np.testing.assert_array_equal(calibrate(predicted[::-1], truth[::-1], severity[::-1]), quantiles)
    interval(predicted, severity, quantiles, 0.8)
    for array, old in zip((predicted, truth, severity), before, strict=True):
        np.testing.assert_array_equal(array, old)
