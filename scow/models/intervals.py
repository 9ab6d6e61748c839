"""Intervals for one listener's score: where the correctness of a single listener lies with a given probability.

The spread of single listeners around a predicted correctness s is taken to be proportional to
``w(s) = s (1 - s) + 0.02``: wide in the middle, narrow at the ends. How many times w it is, is read off predictions
of signals that the model was not fitted to (split conformal prediction; Lei et al., "Distribution-Free Predictive
Inference for Regression", JASA 2018): the quantiles of |correctness - s| / w(s), for each severity by itself.
"""

from __future__ import annotations

import numpy as np

from scow.data.tables import HEARING_LOSSES

FLOOR = 0.02
LEVELS = np.arange(1, 100) / 100


def spread(correctness: np.ndarray) -> np.ndarray:
    """w(s) for predicted correctness in 0-1."""
    width: np.ndarray = correctness * (1.0 - correctness) + FLOOR
    return width


def calibrate(predicted: np.ndarray, truth: np.ndarray, severity: np.ndarray) -> np.ndarray:
    """Quantiles of the scaled distance, from out-of-fold predictions.

    Parameters
    ----------
    predicted, truth : ndarray, shape (n,)
        Correctness in 0-1.
    severity : ndarray, shape (n,), int
        Index into `scow.data.tables.HEARING_LOSSES`.

    Returns
    -------
    ndarray, shape (3, 99)
        Per severity, at the levels 0.01 to 0.99. A severity without signals takes the quantiles of all.
    """
    distance = np.abs(truth - predicted) / spread(predicted)
    rows = []
    for i in range(len(HEARING_LOSSES)):
        mine = distance[severity == i]
        rows.append(np.quantile(mine if len(mine) else distance, LEVELS))
    return np.stack(rows)


def interval(
    predicted: np.ndarray, severity: np.ndarray, quantiles: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval that holds one listener's correctness with probability `level`.

    Parameters
    ----------
    predicted : ndarray, shape (n,)
        Correctness in 0-1.
    severity : ndarray, shape (n,), int
    quantiles : ndarray, shape (3, 99)
        As `calibrate` makes them.
    level : float
        In 0.01 to 0.99.

    Returns
    -------
    low, high : ndarray, shape (n,)
        In 0-1.
    """
    times = np.array([np.interp(level, LEVELS, row) for row in quantiles])[severity]
    half = times * spread(predicted)
    return np.clip(predicted - half, 0.0, 1.0), np.clip(predicted + half, 0.0, 1.0)
