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
the standard deviation over the resamples, the 95 % interval the range between their 2.5th and 97.5th percentiles.

With one listener per signal the target itself is noisy (docs/NOISE.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import DegenerateDataWarning, bootstrap, kendalltau, mannwhitneyu

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
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    inside = np.flatnonzero(np.ones(len(codes), dtype=bool) if where is None else where)
    arrays, codes = [np.asarray(values)[inside] for values in data], codes[inside]
    tau = _kendall_by_groups(arrays, codes, len(names)) if kendall in statistics.values() else None

    def values_of(drawn: np.ndarray) -> np.ndarray:
        times = np.bincount(drawn, minlength=len(names))
        index = np.repeat(np.arange(len(codes)), times[codes])
        resample = [values[index] for values in arrays]
        if not len(index):
            return np.full(len(statistics), np.nan)
        found = [tau(times) if tau and of is kendall else of(*resample) for of in statistics.values()]
        return np.array(found, dtype=np.float64)

    everything = np.arange(len(names))
    values = values_of(everything)
    if len(names) == 1:  # all resamples are the same
        drawn = np.tile(values[:, None], n_resamples)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)  # undefined in some resamples
            drawn = bootstrap((everything,), values_of, n_resamples=n_resamples, vectorized=False, method="percentile",
                              rng=rng).bootstrap_distribution  # fmt: skip
    return {name: _estimate(*found) for name, *found in zip(statistics, values, drawn, strict=True)}


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value):
        return Estimate(None)
    if len(defined) < max(2, len(drawn) / 2):
        return Estimate(float(value))
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(float(value), float(np.std(defined, ddof=1)), float(low), float(high))


def _kendall_by_groups(
    data: Sequence[np.ndarray], groups: np.ndarray, n_groups: int
) -> Callable[[np.ndarray], float | None]:
    """Kendall's tau-b of two arrays as a function of how often each group is drawn, shape (n_groups,).

    With draws w, a sum over pairs of signals is w' S w, where S holds the sums over the pairs of two groups.
    """
    members = np.equal.outer(groups, np.arange(n_groups)).astype(np.float64)
    x, y = (np.sign(np.subtract.outer(values, values)) for values in data)
    sums = np.stack([members.T @ pairs @ members for pairs in (x * y, x * x, y * y)])

    def tau(times: np.ndarray) -> float | None:
        agreeing, untied_x, untied_y = sums @ times.astype(np.float64) @ times
        return float(agreeing / np.sqrt(untied_x) / np.sqrt(untied_y)) if untied_x and untied_y else None

    return tau


def group_standard_error(
    scores: ArrayLike, truth: ArrayLike, groups: ArrayLike, rng: np.random.Generator, n_resamples: int = 1000
) -> float:
    """Standard error of the RMSE by the bootstrap over groups, in the unit of the scores."""
    return bootstrap_estimates({"rmse": rmse}, (scores, truth), groups, rng, n_resamples)["rmse"].error or 0.0


def equal_bins(values: ArrayLike, n_bins: int = 10) -> list[np.ndarray]:
    """Indices in ascending bins of equal size (to one); fewer bins where there are fewer values."""
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
    return [index for index in np.array_split(order, n_bins) if len(index)]


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve; a label above 0.5 is a hit, so that the majority of listeners decides."""
    predicted, true = _checked(probabilities, labels)
    hits, misses = predicted[true > 0.5], predicted[true <= 0.5]
    if not len(hits) or not len(misses):
        raise ValueError("expected hits and misses, found only one of them")
    return float(mannwhitneyu(hits, misses).statistic / (len(hits) * len(misses)))


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays of shape (n,); ValueError where they differ in length, are empty or not finite."""
    predicted, true = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape or predicted.size == 0:
        raise ValueError(f"expected two lists of one length, found shapes {predicted.shape} and {true.shape}")
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise ValueError("expected finite scores, found NaN or infinity")
    return predicted, true
