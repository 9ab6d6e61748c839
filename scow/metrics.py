"""How far predictions are from what listeners wrote down.

On scores in points of 0-100; the first two are the measures of the CLIP1 challenge:

- RMSE, the root of the mean squared difference, in points;
- NCC, the challenge's name of Pearson's correlation coefficient r, in -1 to 1;
- Kendall's tau-b, how far the order agrees, ties allowed for, in -1 to 1 (Kendall, "The treatment of ties in ranking
  problems", Biometrika 1945);
- bias, the mean of score minus truth, in points: above 0 where listeners got less than was predicted.

How sure these are is said by the bootstrap over groups (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapters 6 and 13): tracks, or prompts, are drawn with replacement, each with all its signals, since the
severities of an excerpt belong together. The standard error is the standard deviation over the resamples, the interval
lies between their percentiles.

With one listener per signal the target itself is noisy (docs/NOISE.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, rankdata

# Takes scores and truth; None where it is undefined.
Measure = Callable[[ArrayLike, ArrayLike], "float | None"]


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


def kendall(scores: ArrayLike, truth: ArrayLike) -> float | None:
    """Kendall's tau-b, or None where a side is constant."""
    predicted, true = validate(scores, truth)
    if predicted.min() == predicted.max() or true.min() == true.max():
        return None
    return float(kendalltau(predicted, true).statistic)


def bias(scores: ArrayLike, truth: ArrayLike) -> float:
    """Mean of score minus truth, in the unit of the scores."""
    predicted, true = validate(scores, truth)
    return float(np.mean(predicted - true))


@dataclass(frozen=True)
class Estimate:
    """A measure and how sure it is.

    Attributes
    ----------
    value : float or None
        Of the signals themselves; None where it is undefined.
    error : float or None
        Standard error; None where `value` is, and where too few resamples define the measure.
    low, high : float or None
        Ends of the interval; None where `error` is.
    """

    value: float | None
    error: float | None
    low: float | None
    high: float | None


class GroupResamples:
    """Resamples of signals by whole groups; the same ones for everything that is to be compared.

    Parameters
    ----------
    groups : sequence of str, length n
        What is drawn as a whole, because it belongs together: tracks or prompts.
    rng : Generator
    n_resamples : int
    """

    def __init__(self, groups: Sequence[str], rng: np.random.Generator, n_resamples: int = 1000) -> None:
        names, self._codes = np.unique(np.asarray(groups), return_inverse=True)
        self._drawn = rng.integers(len(names), size=(n_resamples, len(names)))
        self.n_groups = len(names)

    def __iter__(self) -> Iterator[np.ndarray]:
        """How often each resample holds each signal, shape (n,), int."""
        for drawn in self._drawn:
            yield np.bincount(drawn, minlength=self.n_groups)[self._codes]

    def estimate(self, statistic: Callable[[np.ndarray], float | None], level: float = 0.95) -> Estimate:
        """A statistic of the signals with its error and interval.

        Parameters
        ----------
        statistic : callable
            Takes indices of signals, some of them more than once; None where it is undefined.
        level : float
            Of the interval.
        """
        value = statistic(np.arange(len(self._codes)))
        if value is None:
            return Estimate(None, None, None, None)
        drawn = [statistic(np.repeat(np.arange(len(times)), times)) for times in self]
        found = np.array([one for one in drawn if one is not None])
        if 2 * len(found) < len(drawn) or len(found) < 2:
            return Estimate(value, None, None, None)
        low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
        return Estimate(value, float(np.std(found, ddof=1)), float(low), float(high))

    def measure(
        self, measure: Measure, scores: ArrayLike, truth: ArrayLike, where: np.ndarray | None = None
    ) -> Estimate:
        """A measure with its error and interval.

        Parameters
        ----------
        measure : callable
            `rmse`, `pearson`, `kendall`, `bias` or alike.
        scores, truth : array_like, shape (n,)
        where : ndarray, shape (n,), bool, optional
            The signals that count, for instance those of a severity; all by default.
        """
        predicted, true = validate(scores, truth)
        inside = np.ones(len(predicted), dtype=bool) if where is None else where

        def of(index: np.ndarray) -> float | None:
            mine = index[inside[index]]
            return measure(predicted[mine], true[mine]) if len(mine) else None

        return self.estimate(of)


def group_standard_error(
    scores: ArrayLike, truth: ArrayLike, groups: Sequence[str], rng: np.random.Generator, n_resamples: int = 1000
) -> float:
    """Standard error of the RMSE by the bootstrap over groups.

    Parameters
    ----------
    scores, truth : array_like, shape (n,)
    groups : sequence of str, length n
        As for `GroupResamples`.
    rng : Generator
    n_resamples : int

    Returns
    -------
    float
        In the unit of the scores.
    """
    error = GroupResamples(groups, rng, n_resamples).measure(rmse, scores, truth).error
    assert error is not None  # an RMSE is always defined
    return error


def equal_bins(values: ArrayLike, n_bins: int = 10) -> list[np.ndarray]:
    """Indices in bins of equal size (to one), ascending; fewer bins where there are fewer values."""
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
    return [index for index in np.array_split(order, n_bins) if len(index)]


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: how often a hit has a higher probability than a miss, ties counting half.

    A label above 0.5 is a hit, so that of several listeners the majority decides.

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
