"""Repeated cross-validation by group: how well a recipe predicts tracks that the model has not seen.

In each repeat the groups are dealt into folds anew, and each signal is predicted by a model fitted to the other folds.
Whatever a model chooses (an epoch, a text prior) is chosen without the held-out fold.

The coverage of intervals is measured likewise: the intervals of a fold are calibrated on the scores of the other folds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from scow.data.tables import HEARING_LOSSES
from scow.metrics import Agreement, agreement, bootstrap_estimates, equal_bins, rmse, roc_auc
from scow.models.groups import group_folds
from scow.models.inputs import ModelInput
from scow.models.intervals import calibrate, interval, spread
from scow.models.model import PERCENT, FitSetup, Model, to_scores
from scow.models.word_model import labels_of


@dataclass(frozen=True)
class CrossValidation:
    """Scores and word probabilities of models that saw nothing of a signal's group."""

    scores: np.ndarray  # shape (n_repeats, n), points of 0-100, clamped
    folds: np.ndarray  # shape (n_repeats, n), fold of each signal
    words: np.ndarray | None  # shape (n_repeats, n_words), probabilities; None where the model predicts no words
    truth: np.ndarray  # shape (n,), correctness in points
    hearing_loss: np.ndarray  # shape (n,), index into scow.data.tables.HEARING_LOSSES
    groups: tuple[str, ...]  # track or prompt of each signal
    signals: tuple[str, ...] = ()  # their ids
    prompts: tuple[str, ...] = ()  # of each signal
    listeners: np.ndarray | None = None  # shape (n,), whose mean the truth is; None: one
    labels: np.ndarray | None = None  # shape (n_words,), where there are words and responses

    @property
    def repeats(self) -> list[Agreement]:
        """Scores of each repeat against the truth."""
        return [agreement(row, self.truth) for row in self.scores]

    @property
    def rmse(self) -> float:
        """Mean over repeats."""
        return float(np.mean([repeat.rmse for repeat in self.repeats]))

    @property
    def r(self) -> float | None:
        """Mean over repeats; None where it is undefined in one of them."""
        return _mean([repeat.r for repeat in self.repeats])

    def __str__(self) -> str:
        return f"RMSE {self.rmse:.2f}, r {'undefined' if self.r is None else f'{self.r:.3f}'}"


def cross_validate(
    inputs: ModelInput,
    model_class: type[Model],
    config: Any,
    setup: FitSetup,
    n_folds: int,
    n_repeats: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> CrossValidation:
    """Cross-validate models of `config` on labelled signals.

    Folds keep the groups of `setup` whole. Repeat k uses the seed of `setup` + k, for the folds and for the fits.
    `progress` is called after each fit, with a label, the number of fits done, and of all fits.
    """
    scores = np.zeros((n_repeats, len(inputs)))
    folds = np.zeros((n_repeats, len(inputs)), dtype=np.int64)
    words = np.zeros((n_repeats, len(inputs.word_signals))) if model_class.predicts_words else None
    for repeat in range(n_repeats):
        seed = setup.seed + repeat
        for fold, held in enumerate(group_folds(setup.groups, n_folds, np.random.default_rng(seed))):
            rest = np.setdiff1d(np.arange(len(inputs)), held)
            held_groups = frozenset(setup.groups[i] for i in held)
            groups = [setup.groups[i] for i in rest]
            fold_setup = dataclasses.replace(setup, groups=groups, seed=seed, held_groups=held_groups, on_epoch=None)
            model = model_class.fit(inputs.take(torch.from_numpy(rest)), config, fold_setup)
            predicted = model.predict(inputs.take(torch.from_numpy(held)), setup.device)
            scores[repeat, held], folds[repeat, held] = to_scores(predicted.correctness), fold
            if words is not None:
                words[repeat, np.isin(inputs.word_signals, held)] = predicted.words
            if progress is not None:
                progress("cross-validation", repeat * n_folds + fold + 1, n_repeats * n_folds)
    truth = to_scores(inputs.target.double().numpy())
    labels = labels_of(inputs) if words is not None and any(inputs.responses) else None
    of_signals = inputs.hearing_loss.numpy(), tuple(setup.groups), inputs.signals, inputs.prompts, inputs.listeners
    return CrossValidation(scores, folds, words, truth, *of_signals, labels)


def figures(result: CrossValidation, *, grouped_by: str, seed: int) -> dict[str, Any]:
    """The content of cross_validation.json."""
    predicted, true = result.scores.ravel(), np.tile(result.truth, len(result.scores))
    hearing_loss = np.tile(result.hearing_loss, len(result.scores))
    present = {name: hearing_loss == i for i, name in enumerate(HEARING_LOSSES) if (hearing_loss == i).any()}
    by_loss = {name: agreement(predicted[of], true[of]) for name, of in present.items()}
    rng = np.random.default_rng(0)
    statistics = {"rmse": rmse}
    found = [bootstrap_estimates(statistics, (row, result.truth), result.groups, rng) for row in result.scores]
    return {
        "n_signals": result.scores.shape[1],
        "grouped_by": grouped_by,
        "folds": int(result.folds.max()) + 1,
        "seeds": [seed + repeat for repeat in range(len(result.scores))],
        "rmse": result.rmse,
        "rmse_standard_error": float(np.mean([of["rmse"].error or 0.0 for of in found])),
        "r": result.r,
        "repeats": [{"rmse": repeat.rmse, "r": repeat.r} for repeat in result.repeats],
        "by_severity": {name: {"rmse": found.rmse, "r": found.r} for name, found in by_loss.items()},
        "coverage_of_80_percent_intervals": coverage(result),
        "shared_error": shared_error(result),
        "word_auc": word_auc(result),
        "calibration": [
            {"predicted": float(predicted[i].mean()), "true": float(true[i].mean()), "n": len(i)}
            for i in equal_bins(predicted, 10)
        ],
    }


def word_auc(result: CrossValidation) -> float | None:
    """Area under the ROC curve of words, mean over repeats; None without words, or where all labels are equal."""
    if result.words is None or result.labels is None:
        return None
    return _mean([roc_auc(row, result.labels) for row in result.words])


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one of the values is undefined."""
    return None if None in values else float(np.mean([value for value in values if value is not None]))


def shared_error(result: CrossValidation) -> float | None:
    """Share of the variance of scaled errors that signals of a prompt have in common (`scow.models.intervals`).

    Mean over repeats; None where no prompt has two signals.
    """
    counts = pd.Series(result.prompts).value_counts()
    n_pairs = (counts * (counts - 1)).sum()
    if not n_pairs:
        return None
    scores = result.scores.T / PERCENT
    errors = pd.DataFrame((result.truth[:, None] / PERCENT - scores) / spread(scores))
    by = np.asarray(result.prompts)
    products = (errors.groupby(by).sum() ** 2 - (errors**2).groupby(by).sum()).sum()
    return float((products / n_pairs / (errors**2).mean()).mean())


def coverage(result: CrossValidation, level: float = 0.8) -> dict[str, float]:
    """Share of signals inside their interval, of all and per hearing loss, mean over repeats."""
    listeners = np.ones(len(result.truth)) if result.listeners is None else result.listeners
    inside = np.zeros(result.scores.shape, dtype=bool)
    truth, hearing_loss = result.truth / PERCENT, result.hearing_loss
    for repeat, (row, folds) in enumerate(zip(result.scores / PERCENT, result.folds, strict=True)):
        for fold in np.unique(folds):
            held, rest = folds == fold, folds != fold
            quantiles = calibrate(row[rest], truth[rest], hearing_loss[rest], listeners[rest])
            low, high = interval(row[held], hearing_loss[held], quantiles, level, listeners[held])
            tolerance = 1e-6  # correctness is float32 in the tensors
            inside[repeat, held] = (truth[held] >= low - tolerance) & (truth[held] <= high + tolerance)
    present = {name: hearing_loss == i for i, name in enumerate(HEARING_LOSSES) if (hearing_loss == i).any()}
    return {"all": float(inside.mean()), **{name: float(inside[:, of].mean()) for name, of in present.items()}}
