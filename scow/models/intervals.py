"""Intervals for one listener's score: where the correctness of a single listener is with a given probability.

Where the mean of k listeners is scored, its interval is derived from that of one listener. A share `SHARED` of the
variance around a prediction is the model's error, the same for all listeners of an excerpt. The rest is theirs and
falls as 1 / k, so that the interval narrows by ``sqrt(SHARED + (1 - SHARED) / k)``.

The spread of single listeners around a predicted correctness s is taken to be proportional to
``w(s) = s (1 - s) + 0.02``: wide in the middle, narrow at the ends. The factor comes from predictions of signals that
the model was not fitted to (split conformal prediction; Lei et al., "Distribution-Free Predictive Inference for
Regression", JASA 2018): the quantiles of |correctness - s| / w(s), separately for each hearing loss.
"""

from __future__ import annotations

import numpy as np

from scow.data.tables import HEARING_LOSSES

FLOOR = 0.02
# Of checkpoints/lite it is 0.24, of checkpoints/final 0.13, on CLIP1 valid, where three listeners had each excerpt
# (`shared_error` in cross_validation.json of train.py cv=true). The larger one gives the wider intervals.
SHARED = 0.25
LEVELS = np.arange(1, 100) / 100


def spread(correctness: np.ndarray) -> np.ndarray:
    """w(s) for predicted correctness in 0-1."""
    return np.asarray(correctness * (1.0 - correctness) + FLOOR)


def narrowing(listeners: np.ndarray | int) -> np.ndarray:
    """Width of the interval of a mean of so many listeners, over that of one."""
    return np.sqrt(SHARED + (1.0 - SHARED) / np.asarray(listeners))


def calibrate(
    predicted: np.ndarray, truth: np.ndarray, hearing_loss: np.ndarray, listeners: np.ndarray | int = 1
) -> np.ndarray:
    """Quantiles of the scaled distance, shape (3, 99): per hearing loss, at the levels 0.01 to 0.99.

    `predicted` (out of fold) and `truth` are correctness in 0-1, `hearing_loss` indices into
    `scow.data.tables.HEARING_LOSSES`, all of shape (n,). A hearing loss without signals takes the quantiles of all.
    `truth` is a mean over `listeners`, shape (n,); the quantiles are of one.
    """
    distance = np.abs(truth - predicted) / spread(predicted) / narrowing(listeners)
    groups = [distance[hearing_loss == i] for i in range(len(HEARING_LOSSES))]
    return np.stack([np.quantile(group if len(group) else distance, LEVELS) for group in groups])


def interval(
    predicted: np.ndarray,
    hearing_loss: np.ndarray,
    quantiles: np.ndarray,
    level: float,
    listeners: np.ndarray | int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Ends, in 0-1, of the interval that holds the mean of `listeners` with probability `level`, 0.01 to 0.99.

    `predicted` and `hearing_loss` have shape (n,), as have the ends; `quantiles` are those of `calibrate`.
    """
    factor = np.array([np.interp(level, LEVELS, row) for row in quantiles])[hearing_loss]
    half = factor * spread(predicted) * narrowing(listeners)
    return np.clip(predicted - half, 0.0, 1.0), np.clip(predicted + half, 0.0, 1.0)
