"""How far predictions are from what listeners wrote down.

Both measures of the CLIP1 challenge, on scores in points of 0-100:

- RMSE, the root of the mean squared difference, in points;
- NCC, the challenge's name of Pearson's correlation coefficient r, in -1 to 1.

With one listener per signal the target itself is noisy: knowing the shared part of every excerpt perfectly would
still leave an RMSE near 24 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


@dataclass(frozen=True)
class Agreement:
    """How well scores agree with correctness.

    Attributes
    ----------
    rmse : float
        Root mean squared error in points of 0-100.
    r : float or None
        Pearson's r; None where either side is constant, so that there is no correlation to speak of.
    n_signals : int
        Number of signals.
    """

    rmse: float
    r: float | None
    n_signals: int

    def __str__(self) -> str:
        r = "undefined (constant scores)" if self.r is None else f"{self.r:.3f}"
        return f"RMSE {self.rmse:.2f}, r {r}, {self.n_signals} signals"


def validate(scores: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check a pair of score lists and return them as float64 arrays, shape (n,).

    Raises
    ------
    ValueError
        Not one-dimensional, of different length, empty, or holding a value that is not finite.
    """
    predicted, true = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape:
        raise ValueError(f"expected two lists of the same length, found shapes {predicted.shape} and {true.shape}")
    if predicted.size == 0:
        raise ValueError("expected at least one score, found none")
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise ValueError("expected finite scores, found NaN or infinity")
    return predicted, true


def rmse(scores: ArrayLike, truth: ArrayLike) -> float:
    """Root mean squared error, in the unit of the scores."""
    predicted, true = validate(scores, truth)
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def pearson(scores: ArrayLike, truth: ArrayLike) -> float | None:
    """Pearson's correlation coefficient (the challenge's NCC), or None where a side is constant."""
    predicted, true = validate(scores, truth)
    x, y = predicted - predicted.mean(), true - true.mean()
    # Below this the spread is the rounding error of the mean, and the quotient would be noise.
    smallest = 1e-12 * max(1.0, float(np.abs(predicted).max()), float(np.abs(true).max()))
    norm_x, norm_y = np.linalg.norm(x), np.linalg.norm(y)
    if norm_x <= smallest or norm_y <= smallest:
        return None
    return float(np.clip(x @ y / (norm_x * norm_y), -1.0, 1.0))


def agreement(scores: ArrayLike, truth: ArrayLike) -> Agreement:
    """RMSE and r of scores in 0-100 against correctness in 0-100."""
    predicted, true = validate(scores, truth)
    return Agreement(rmse=rmse(predicted, true), r=pearson(predicted, true), n_signals=predicted.size)


def group_standard_error(
    scores: ArrayLike, truth: ArrayLike, groups: Sequence[str], rng: np.random.Generator, n_resamples: int = 1000
) -> float:
    """Standard error of the RMSE by the bootstrap over groups (Efron and Tibshirani, 1993, chapter 6).

    Parameters
    ----------
    scores, truth : array_like, shape (n,)
    groups : sequence of str, length n
        What is drawn as a whole, because it belongs together: tracks or prompts.
    rng : Generator
    n_resamples : int

    Returns
    -------
    float
        In the unit of the scores.
    """
    predicted, true = validate(scores, truth)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    squares, counts = np.bincount(codes, (predicted - true) ** 2), np.bincount(codes)
    drawn = rng.integers(len(counts), size=(n_resamples, len(counts)))
    return float(np.std(np.sqrt(squares[drawn].sum(axis=1) / counts[drawn].sum(axis=1)), ddof=1))


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: how often a hit has a higher probability than a miss, ties counting half.

    Raises
    ------
    ValueError
        As `validate`; or there are no hits or no misses.
    """
    predicted, true = validate(probabilities, labels)
    hits = true > 0.5
    n_hits, n_misses = int(hits.sum()), int((~hits).sum())
    if not (n_hits and n_misses):
        raise ValueError("expected hits and misses, found only one of them")
    ranks = rankdata(predicted)
    return float((ranks[hits].sum() - n_hits * (n_hits + 1) / 2) / (n_hits * n_misses))
