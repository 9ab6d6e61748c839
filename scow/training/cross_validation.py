"""Repeated cross-validation by group: figures for a model that was never shown the track that it is asked about.

Each repeat deals the groups into folds anew; each signal is predicted by a model that was fitted to the other folds.
Whatever a model chooses (an epoch, a prior) it chooses inside its own folds.

The coverage of intervals is measured likewise: a fold's intervals are calibrated on the scores of the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scow.data.tables import HEARING_LOSSES
from scow.io import write_json
from scow.metrics import Agreement, agreement, equal_bins, group_standard_error, roc_auc
from scow.models.groups import group_folds
from scow.models.inputs import ModelInput
from scow.models.intervals import calibrate, interval
from scow.models.model import PERCENT, Model, to_scores
from scow.models.word_model import labels_of

# Takes labelled signals, their groups, the groups that are held out, and a seed.
Fitter = Callable[[ModelInput, Sequence[str], frozenset[str], int], Model]


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold scores, each signal predicted by a model that saw nothing of its group.

    Attributes
    ----------
    scores : ndarray, shape (n_repeats, n)
        In points of 0-100, clamped.
    folds : ndarray, shape (n_repeats, n), int
        Fold of each signal.
    words : ndarray, shape (n_repeats, n_words), or None
        Probabilities of the words, where the model gives them.
    truth : ndarray, shape (n,)
        Correctness in points.
    hearing_loss : ndarray, shape (n,), int
    groups : tuple of str, length n
    labels : ndarray, shape (n_words,), or None
        Word labels, where `words` are given and the tables have responses.
    """

    scores: np.ndarray
    folds: np.ndarray
    words: np.ndarray | None
    truth: np.ndarray
    hearing_loss: np.ndarray
    groups: tuple[str, ...]
    labels: np.ndarray | None = None

    @property
    def repeats(self) -> tuple[Agreement, ...]:
        """RMSE and r over all signals, per repeat."""
        return tuple(agreement(row, self.truth) for row in self.scores)

    @property
    def rmse(self) -> float:
        """Mean over repeats, in points."""
        return float(np.mean([repeat.rmse for repeat in self.repeats]))

    @property
    def r(self) -> float | None:
        """Mean over repeats; None where a repeat has none."""
        rs = [repeat.r for repeat in self.repeats]
        return None if None in rs else float(np.mean([r for r in rs if r is not None]))

    @property
    def rmse_error(self) -> float:
        """Standard error of the RMSE, from resampling whole groups; mean over repeats."""
        rng = np.random.default_rng(0)
        return float(np.mean([group_standard_error(row, self.truth, self.groups, rng) for row in self.scores]))

    def by_severity(self) -> dict[str, Agreement]:
        """Agreement per severity, over all repeats together."""
        found = {}
        for i, name in enumerate(HEARING_LOSSES):
            mine = self.hearing_loss == i
            if mine.any():
                found[name] = agreement(self.scores[:, mine].ravel(), np.tile(self.truth[mine], len(self.scores)))
        return found

    @property
    def word_auc(self) -> float | None:
        """Area under the ROC curve of words, mean over repeats; None without words, or where all labels are alike."""
        if self.words is None or self.labels is None or len(np.unique(self.labels > 0.5)) < 2:
            return None
        return float(np.mean([roc_auc(row, self.labels) for row in self.words]))

    def calibration(self, n_bins: int = 10) -> list[dict[str, float]]:
        """Mean predicted and true score of signals in bins of equal size, over all repeats together."""
        predicted, true = self.scores.ravel(), np.tile(self.truth, len(self.scores))
        return [
            {"predicted": float(predicted[i].mean()), "true": float(true[i].mean()), "n": len(i)}
            for i in equal_bins(predicted, n_bins)
        ]

    def coverage(self, level: float = 0.8) -> dict[str, float]:
        """Share of signals inside their interval, in all and per severity, mean over repeats."""
        inside = np.zeros(self.scores.shape, dtype=bool)
        truth = self.truth / PERCENT
        for repeat, (row, folds) in enumerate(zip(self.scores / PERCENT, self.folds, strict=True)):
            for fold in np.unique(folds):
                held, rest = folds == fold, folds != fold
                quantiles = calibrate(row[rest], truth[rest], self.hearing_loss[rest])
                low, high = interval(row[held], self.hearing_loss[held], quantiles, level)
                tolerance = 1e-6  # correctness is float32 in the tables' tensors
                inside[repeat, held] = (truth[held] >= low - tolerance) & (truth[held] <= high + tolerance)
        shares = {"all": float(inside.mean())}
        for i, name in enumerate(HEARING_LOSSES):
            if (self.hearing_loss == i).any():
                shares[name] = float(inside[:, self.hearing_loss == i].mean())
        return shares

    def __str__(self) -> str:
        return f"RMSE {self.rmse:.2f}, r {'undefined' if self.r is None else f'{self.r:.3f}'}"


def cross_validate(
    batch: ModelInput,
    groups: Sequence[str],
    fitter: Fitter,
    *,
    n_folds: int,
    n_repeats: int,
    seed: int,
    device: str = "cpu",
    on_fold: Callable[[int, int], None] | None = None,
) -> CrossValidation:
    """Cross-validate a way of fitting.

    Parameters
    ----------
    batch : ModelInput
        All with a label.
    groups : sequence of str, length n
        Track (or prompt) of each signal.
    fitter : callable
        See `Fitter`.
    n_folds, n_repeats : int
    seed : int
        Repeat k uses seed + k, for the folds and for the fits.
    device : str
    on_fold : callable, optional
        Told of repeat and fold as each ends.

    Returns
    -------
    CrossValidation
    """
    scores = np.zeros((n_repeats, len(batch)))
    folds = np.zeros((n_repeats, len(batch)), dtype=np.int64)
    owner = np.repeat(np.arange(len(batch)), [len(words) for words in batch.words])
    words: np.ndarray | None = np.zeros((n_repeats, len(owner)))
    for repeat in range(n_repeats):
        for number, held in enumerate(group_folds(groups, n_folds, np.random.default_rng(seed + repeat))):
            rest = np.setdiff1d(np.arange(len(batch)), held)
            held_groups = frozenset(groups[i] for i in held)
            fitted = fitter(batch.take(torch.from_numpy(rest)), [groups[i] for i in rest], held_groups, seed + repeat)
            predicted = fitted.predict(batch.take(torch.from_numpy(held)), device)
            scores[repeat, held], folds[repeat, held] = to_scores(predicted.correctness), number
            if predicted.words is None:
                words = None
            elif words is not None:
                words[repeat, np.isin(owner, held)] = predicted.words
            if on_fold is not None:
                on_fold(repeat, number)
    truth = to_scores(batch.target.double().numpy())
    labels = labels_of(batch) if words is not None and any(batch.responses) else None
    return CrossValidation(scores, folds, words, truth, batch.hearing_loss.numpy(), tuple(groups), labels)


def write_cross_validation(path: Path, result: CrossValidation, *, grouped_by: str, seed: int) -> None:
    """Write what was done and found as JSON."""
    content = {
        "n_signals": result.scores.shape[1],
        "grouped_by": grouped_by,
        "folds": int(result.folds.max()) + 1,
        "seeds": [seed + repeat for repeat in range(len(result.scores))],
        "rmse": result.rmse,
        "rmse_standard_error": result.rmse_error,
        "r": result.r,
        "repeats": [{"rmse": repeat.rmse, "r": repeat.r} for repeat in result.repeats],
        "by_severity": {name: {"rmse": found.rmse, "r": found.r} for name, found in result.by_severity().items()},
        "coverage_of_80_percent_intervals": result.coverage(),
        "word_auc": result.word_auc,
        "calibration": result.calibration(),
    }
    write_json(path, content)
