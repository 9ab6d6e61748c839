"""How well predicted scores agree with the scores of listeners.

For scores s and true scores t in points of 0-100:

- RMSE = sqrt(mean((s - t)^2)), in points;
- NCC, the challenge's name for Pearson's correlation coefficient r, in -1 to 1;
- Kendall's tau-b, the rank correlation with a correction for ties, in -1 to 1 (Kendall, "The treatment of ties in
  ranking problems", Biometrika 1945);
- bias = mean(s - t), in points: above 0 where listeners understood less than predicted.

RMSE and NCC are the measures of the CLIP1 challenge. Standard errors and intervals come from the cluster bootstrap
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13): tracks, or prompts, are drawn with
replacement, each with all its signals, because the hearing losses of an excerpt belong together. The standard error is
the standard deviation over the resamples, the 95 % interval the range between their 2.5th and 97.5th percentiles. The
draws are those of ``scipy.stats.bootstrap``, which is not called: its import
would take half as long again as all of evaluate.py.

With one listener per signal the target itself is noisy (docs/NOISE.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class Agreement:
    """How well scores agree with correctness, both in points of 0-100."""

    rmse: float
    r: float | None  # Pearson's r; None where scores or correctness are constant
    n_signals: int

    def __str__(self) -> str:
        r = "undefined (constant scores)" if self.r is None else f"{self.r:.3f}"
        return f"RMSE {self.rmse:.2f}, r {r}, {self.n_signals} signals"


@dataclass(frozen=True)
class Estimate:
    """A statistic with its uncertainty."""

    value: float | None  # of the signals as they are; None where undefined
    error: float | None = None  # standard error; None where fewer than half of the resamples define the statistic
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None


def rmse(scores: ArrayLike, truth: ArrayLike) -> float:
    """Root mean squared error, in the unit of the scores."""
    predicted, true = _checked(scores, truth)
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def pearson(scores: ArrayLike, truth: ArrayLike) -> float | None:
    """Pearson's correlation coefficient (NCC), or None where scores or truth are constant."""
    predicted, true = _checked(scores, truth)
    x, y = predicted - predicted.mean(), true - true.mean()
    # A smaller spread is the rounding error of the mean.
    smallest = 1e-12 * max(1.0, float(np.abs(predicted).max()), float(np.abs(true).max()))
    norm_x, norm_y = np.linalg.norm(x), np.linalg.norm(y)
    if norm_x <= smallest or norm_y <= smallest:
        return None
    return float(np.clip(x @ y / (norm_x * norm_y), -1.0, 1.0))


def kendall(scores: ArrayLike, truth: ArrayLike) -> float | None:
    """Kendall's tau-b, or None where scores or truth are constant."""
    from scipy.stats import kendalltau  # here: the bootstrap needs no scipy, whose import is slow

    predicted, true = _checked(scores, truth)
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return None
    return float(kendalltau(predicted, true).statistic)


def bias(scores: ArrayLike, truth: ArrayLike) -> float:
    """Mean of score minus truth, in the unit of the scores."""
    predicted, true = _checked(scores, truth)
    return float(np.mean(predicted - true))


def agreement(scores: ArrayLike, truth: ArrayLike) -> Agreement:
    """RMSE and r of scores against correctness, both in points of 0-100."""
    return Agreement(rmse(scores, truth), pearson(scores, truth), np.size(scores))


def bootstrap_estimates(
    statistics: Mapping[str, Callable[..., float | None]],
    data: Sequence[ArrayLike],
    groups: ArrayLike,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    where: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Statistics of n signals with standard errors and 95 % intervals by the bootstrap over groups.

    A statistic takes the arrays of `data`, each of shape (n,), at the same m indices; None where it is undefined.
    `groups` holds track or prompt of each signal. With `where`, groups are drawn from all signals, but only those
    inside count. Generators of the same seed give the same resamples, for paired comparisons.
    """
    arrays = [np.asarray(values) for values in data]
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    inside = np.flatnonzero(np.ones(len(codes), dtype=bool) if where is None else where)
    arrays, codes = [values[inside] for values in arrays], codes[inside]
    tau = group_kendall(arrays[0], arrays[1], codes, len(names)) if kendall in statistics.values() else None

    def values_of(times: np.ndarray) -> list[float | None]:
        index = np.repeat(np.arange(len(codes)), times[codes])
        resample = [values[index] for values in arrays]
        if not len(index):
            return [None] * len(statistics)
        return [tau(times) if tau and of is kendall else of(*resample) for of in statistics.values()]

    draws = (rng.integers(len(names), size=len(names)) for _ in range(n_resamples))
    drawn = np.array([values_of(np.bincount(draw, minlength=len(names))) for draw in draws], dtype=np.float64)
    values = values_of(np.ones(len(names), dtype=np.int64))
    return {name: _estimate(*found) for name, *found in zip(statistics, values, drawn.T, strict=True)}


def group_kendall(
    scores: np.ndarray, truth: np.ndarray, codes: np.ndarray, n_groups: int
) -> Callable[[np.ndarray], float | None]:
    """Kendall's tau-b of a resample, as a function of how often each group was drawn.

    With the signs x and y of the differences of two signals in scores and in truth, tau-b is
    ``sum(x y) / sqrt(sum(x^2) sum(y^2))`` over all pairs. The sums over the pairs of two groups (`codes` numbers them)
    are computed once; a resample weighs them.
    """
    sums = np.empty((3, n_groups, n_groups))
    for group in range(n_groups):
        x, y = (np.sign(values[codes == group, None] - values) for values in (scores, truth))
        for of, signs in zip(sums, (x * y, x * x, y * y), strict=True):
            of[group] = np.bincount(codes, weights=signs.sum(axis=0), minlength=n_groups)

    def tau(times: np.ndarray) -> float | None:
        both, in_scores, in_truth = times @ sums @ times
        return float(both / np.sqrt(in_scores * in_truth)) if in_scores and in_truth else None

    return tau


def _estimate(value: float | None, drawn: np.ndarray) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if value is None or len(defined) < max(2, len(drawn) / 2):
        return Estimate(value)
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, float(np.std(defined, ddof=1)), float(low), float(high))


def equal_bins(values: ArrayLike, n_bins: int = 10) -> list[np.ndarray]:
    """Indices in ascending bins of equal size (to one); fewer bins where there are fewer values."""
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
    return [index for index in np.array_split(order, n_bins) if len(index)]


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> float | None:
    """Area under the ROC curve, or None without hits or misses; a label above 0.5 is a hit: the majority decides."""
    from sklearn.metrics import roc_auc_score  # here: only scores with words beside them need it

    predicted, true = _checked(probabilities, labels)
    hits = true > 0.5
    return None if hits.all() or not hits.any() else float(roc_auc_score(hits, predicted))


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays of shape (n,); ValueError where they differ in length, are empty or not finite."""
    predicted, true = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape or predicted.size == 0:
        raise ValueError(f"expected two lists of one length, found shapes {predicted.shape} and {true.shape}")
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise ValueError("expected finite scores, found NaN or infinity")
    return predicted, true
