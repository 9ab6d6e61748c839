"""Stage 4: labelled feature tables to a checkpoint, for either model, and cross-validated figures of a config.

The word model (`scow.models.word_model`) is fitted to all labelled signals; five folds of cross-validation by track then
calibrate its intervals and say how well it does on signals that it was not fitted to. The transformer
(`scow.models.transformer`) holds out a fifth of the prompts to choose the epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from scow.config import as_section, options_from
from scow.data.metadata import SignalRecord, read_metadata
from scow.data.provenance import sources_of
from scow.device import resolve_device
from scow.errors import UserError
from scow.io import atomic_write
from scow.models.checkpoint import MODELS, fingerprint, save_checkpoint
from scow.models.config import DataOptions, ModelConfig, TrainOptions, data_options, model_config
from scow.models.inputs import ModelInput, join_inputs, load_input
from scow.models.intervals import calibrate
from scow.models.model import PERCENT, Epoch, FitSetup, Model
from scow.models.text_prior import PriorCorpus
from scow.training.cross_validation import CrossValidation, Fitter, cross_validate

CALIBRATION_FOLDS = 5


@dataclass(frozen=True)
class CvOptions:
    """Section ``cross_validation:`` of a checkpoint's config.

    Attributes
    ----------
    folds, repeats : int
    """

    folds: int = 5
    repeats: int = 4


@dataclass(frozen=True)
class TrainConfig:
    """A checkpoint's ``config.yaml``, as far as training reads it."""

    exp_name: str
    data: DataOptions
    model: ModelConfig
    train: TrainOptions
    cv: CvOptions
    seed: int = 42
    device: str = "auto"


@dataclass(frozen=True)
class Trained:
    """What stage 4 made."""

    folder: Path  # the checkpoint's folder
    model: Model
    facts: dict[str, Any]  # of the checkpoint
    out_of_fold: CrossValidation | None  # of a model that predicts words, which calibrates its intervals


@dataclass(frozen=True)
class _TopLevel:
    exp_name: str
    seed: int = 42
    device: str = "auto"


def train_config(config: Mapping[str, Any]) -> TrainConfig:
    """Read a checkpoint's config, hydra's overrides included.

    Raises
    ------
    UserError
        A section or value that is missing or of the wrong kind.
    """
    plain = {key: config[key] for key in ("exp_name", "seed", "device") if key in config}
    top = options_from(_TopLevel, plain, "config")
    if top.seed < 0:
        raise UserError(f"seed: expected 0 or a positive number, found {top.seed}; mend it")
    return TrainConfig(
        exp_name=top.exp_name,
        data=data_options(config.get("data")),
        model=model_config(config.get("model")),
        train=options_from(TrainOptions, config.get("train"), "train"),
        cv=options_from(CvOptions, as_section(config.get("cross_validation"), "cross_validation"), "cross_validation"),
        seed=top.seed,
        device=top.device,
    )


def load_training_batch(config: TrainConfig) -> ModelInput:
    """The labelled signals of all training tables.

    Raises
    ------
    UserError
        The config names no training tables, they are not to be had, or hold no label.
    """
    pairs = config.data.train_tables
    if not pairs:
        raise UserError("expected data.csv_path_l and data.csv_path_r, the training tables, found none; add them")
    batch = join_inputs([load_input(*pair, config.data.feature_cols, config.data.target) for pair in pairs])
    labelled = batch.take(torch.nonzero(batch.labelled).flatten())
    if not len(labelled):
        raise UserError(f"{pairs[0][0]}: expected signals with {config.data.target}, found none; use a labelled split")
    return labelled


def training_groups(config: TrainConfig, batch: ModelInput) -> tuple[list[str], str]:
    """Group of each signal for cross-validation, and what the groups are: tracks where all are known, else prompts."""
    tracks = {record.signal: record.track for path in config.data.metadata for record in read_metadata(path)}
    if all(tracks.get(signal) for signal in batch.signals):
        return [tracks[signal] for signal in batch.signals], "track"
    return list(batch.prompts), "prompt"


def fitter(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> Fitter:
    """The way of fitting that a config describes."""
    model, device = MODELS[config.model.name], resolve_device(config.device)
    corpus = PriorCorpus(_prior_records(config) if model.predicts_words else ())

    def fit(inputs: ModelInput, groups: Sequence[str], held_groups: frozenset[str], seed: int) -> Model:
        setup = FitSetup(groups, seed, held_groups, corpus, config.train, device, on_epoch)
        return model.fit(inputs, config.model, setup)

    return fit


def train(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> Trained:
    """Stage 4: fit a model to the training tables, write model.pt, and train_log.csv of a model fitted in epochs."""
    batch = load_training_batch(config)
    folder = config.train.save_dir
    tables = [path for pair in config.data.train_tables for path in pair]
    facts: dict[str, Any] = {
        "features": sources_of(tables, config.data.feature_cols),
        "trained_on": fingerprint(batch.signals),
        "n_signals": len(batch),
        "target": config.data.target,
        "seed": config.seed,
        "versions": {name: version(name) for name in ("torch", "numpy", "pandas")},
    }
    fit = fitter(config, on_epoch=on_epoch)
    groups: Sequence[str] = batch.prompts
    out_of_fold: CrossValidation | None = None
    if MODELS[config.model.name].predicts_words:
        groups, grouped_by = training_groups(config, batch)
        n_groups = len(set(groups))
        if n_groups < 2:
            raise UserError(f"expected training signals of at least 2 {grouped_by}s, found 1; add tables")
        n_folds = min(CALIBRATION_FOLDS, n_groups)
        out_of_fold = cross_validate(batch, groups, fit, n_folds=n_folds, n_repeats=1, seed=config.seed)
        facts["grouped_by"] = grouped_by
        facts["out_of_fold"] = {"rmse": out_of_fold.rmse, "r": out_of_fold.r}
    model = fit(batch, groups, frozenset(), config.seed)
    if out_of_fold is not None:
        predicted, truth = out_of_fold.scores[0] / PERCENT, out_of_fold.truth / PERCENT
        model.quantiles = calibrate(predicted, truth, out_of_fold.hearing_loss)
    if model.log:
        best = best_epoch(model.log)
        facts["train"] = {**dataclasses.asdict(config.train), "save_dir": str(folder)}
        facts |= {"kept_epochs": [best.epoch], "val_rmse": [best.val_rmse], "val_r": [best.val_r]}
    save_checkpoint(folder / "model.pt", model, facts)
    if model.log:
        with atomic_write(folder / "train_log.csv") as temporary:
            pd.DataFrame([vars(epoch) for epoch in model.log]).to_csv(temporary, index=False, lineterminator="\n")
    return Trained(folder, model, facts, out_of_fold)


def best_epoch(log: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights a model has."""
    return min(log, key=lambda epoch: epoch.val_rmse)


def cross_validation(
    config: TrainConfig, *, on_fold: Callable[[int, int], None] | None = None
) -> tuple[CrossValidation, str]:
    """Cross-validate a config on its training tables; also says whether tracks or prompts were kept whole.

    Raises
    ------
    UserError
        As `train`.
    """
    if config.cv.repeats < 1:
        raise UserError(f"cross_validation.repeats: expected at least 1, found {config.cv.repeats}; mend it")
    batch = load_training_batch(config)
    groups, grouped_by = training_groups(config, batch)
    result = cross_validate(
        batch,
        groups,
        fitter(config),
        n_folds=config.cv.folds,
        n_repeats=config.cv.repeats,
        seed=config.seed,
        device=resolve_device(config.device),
        on_fold=on_fold,
    )
    return result, grouped_by


def _prior_records(config: TrainConfig) -> list[SignalRecord]:
    """Labelled records of the prior's metadata whose response is known; it is empty where a listener got nothing."""
    paths = config.data.prior_metadata
    joined = zip(paths, config.data.prior_responses or [None] * len(paths), strict=True)
    corpus = [record for path, responses in joined for record in read_metadata(path, responses)]
    labelled = [record for record in corpus if record.correctness == 0 or (record.correctness > 0 and record.response)]
    if corpus and not any(record.response for record in labelled):
        raise UserError(
            f"{config.data.prior_metadata[0]}: expected responses for the text prior, found none; "
            "join them with data.prior_responses, or set data.prior_metadata=null"
        )
    return labelled
