"""scow.models.intervals on data whose distribution is known."""

import itertools

import numpy as np
import pytest

from scow.models.intervals import LEVELS, SHARED, calibrate, interval, spread

TIMES = np.array([0.5, 1.0, 2.0])  # the width of the noise, by hearing loss


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


def heard(n: int, listeners: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, mean over listeners, and hearing loss: an error that listeners share, and one of each."""
    predicted, hearing_loss = rng.uniform(0.3, 0.7, n), rng.integers(0, 3, n)
    shared = np.sqrt(SHARED) * rng.normal(size=n)
    own = np.sqrt(1 - SHARED) * rng.normal(size=(listeners, n)).mean(axis=0)
    return predicted, predicted + 0.3 * TIMES[hearing_loss] * spread(predicted) * (shared + own), hearing_loss


@pytest.mark.parametrize(("calibrated_on", "asked_for"), [(1, 3), (3, 1), (1, 1)])
def test_interval_for_the_mean_of_several_listeners(calibrated_on, asked_for):
    """A simulation: intervals from the noise of one number of listeners hold the mean of another."""
    rng = np.random.default_rng(5)
    quantiles = calibrate(*heard(20_000, calibrated_on, rng), np.full(20_000, calibrated_on))
    predicted, truth, hearing_loss = heard(20_000, asked_for, rng)
    for level in (0.1, 0.5, 0.8, 0.95):
        low, high = interval(predicted, hearing_loss, quantiles, level, asked_for)
        assert ((truth >= low) & (truth <= high)).mean() == pytest.approx(level, abs=0.015)


def test_interval_for_the_mean_of_three_listeners_who_get_whole_words():
    """The same with eight words of one probability, which the prediction misses by an error that all share."""
    rng = np.random.default_rng(6)
    n, predicted, losses = 30_000, rng.uniform(0.15, 0.85, 30_000), np.zeros(30_000, dtype=np.int64)
    probability = np.clip(predicted + rng.normal(0, 0.1, n), 0, 1)  # a quarter of the variance of one listener
    shares = rng.binomial(8, probability, size=(3, n)) / 8
    low, high = interval(predicted, losses, calibrate(predicted, shares[0], losses), 0.8, 3)
    truth = shares.mean(axis=0)
    assert ((truth >= low) & (truth <= high)).mean() == pytest.approx(0.8, abs=0.05)
