"""scow.models.intervals on data whose distribution is known."""

import itertools

import numpy as np
import pytest

from scow.models.intervals import LEVELS, calibrate, interval

TIMES = np.array([0.5, 1.0, 2.0])  # the width of the noise, by hearing loss


def invented(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth at a distance of U(0, times w) from the prediction, on either side."""
    rng = np.random.default_rng(seed)
    predicted, hearing_loss = rng.random(n), rng.integers(0, 3, n)
    width = TIMES[hearing_loss] * (predicted * (1 - predicted) + 0.02)
    return predicted, predicted + rng.uniform(-1, 1, n) * width, hearing_loss


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.95])
def test_interval_coverage(level):
    quantiles = calibrate(*invented(9_000, 1))
    predicted, truth, hearing_loss = invented(30_000, 2)
    low, high = interval(predicted, hearing_loss, quantiles, level)
    inside = (truth.clip(0, 1) >= low) & (truth.clip(0, 1) <= high)  # ends are clipped to 0-1, as a correctness is
    assert inside.mean() >= level - 0.02


def test_interval_by_hand():
    quantiles = np.outer([1.0, 2.0, 3.0], LEVELS)
    predicted, hearing_loss = np.array([0.5, 0.5, 0.1, 1.0]), np.array([0, 1, 2, 2])
    low, high = interval(predicted, hearing_loss, quantiles, 0.5)
    # times w: 0.5 * 0.27, 1.0 * 0.27, 1.5 * 0.11, 1.5 * 0.02
    assert low.tolist() == pytest.approx([0.365, 0.23, 0.0, 0.97])
    assert high.tolist() == pytest.approx([0.635, 0.77, 0.265, 1.0])
    ends = [interval(predicted, hearing_loss, quantiles, level) for level in (0.01, 0.3, 0.555, 0.8, 0.99)]
    assert ends[2][1][0] == pytest.approx(0.5 + 0.555 * 0.27)
    for (low, high), (lower, higher) in itertools.pairwise(ends):
        assert ((lower <= low) & (low <= predicted) & (predicted <= high) & (high <= higher)).all()
