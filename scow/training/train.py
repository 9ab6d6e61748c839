"""Stage 4: labelled feature tables to a checkpoint, for either model, and cross-validated figures of a config.

The word model (`scow.training.fit_word_model`) is fitted to all labelled signals; five folds of cross-validation by track then
calibrate its intervals and say how well it does on signals that it was not fitted to. The published network
(`scow.training.fit_transformer`) holds out a fifth of the prompts to choose the epoch.
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
from scow.models.checkpoint import Checkpoint, ModelOptions, fingerprint, model_options, save_checkpoint
from scow.models.inputs import DataOptions, ModelInput, data_options, join_inputs, load_input
from scow.models.intervals import calibrate
from scow.models.prediction import PERCENT
from scow.models.transformer import TransformerConfig
from scow.models.word_model import WordModelConfig
from scow.training.cross_validation import CrossValidation, Fitter, cross_validate
from scow.training.fit_transformer import Epoch, Fit, TrainOptions, fit_ensemble
from scow.training.fit_word_model import WordFitter

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
    model: ModelOptions
    train: TrainOptions
    cv: CvOptions
    seed: int = 42
    device: str = "auto"


@dataclass(frozen=True)
class Trained:
    """What stage 4 made.

    Attributes
    ----------
    folder : Path
        The checkpoint's folder.
    checkpoint : Checkpoint
    fits : tuple of Fit
        Of the networks; empty for the word model.
    out_of_fold : CrossValidation or None
        Of the word model; None for networks.
    """

    folder: Path
    checkpoint: Checkpoint
    fits: tuple[Fit, ...]
    out_of_fold: CrossValidation | None


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
        model=model_options(config.get("model")),
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
    """The way of fitting that a config describes.

    Raises
    ------
    UserError
        The prior's metadata cannot be read, or holds no responses.
    """
    options, device = config.model, resolve_device(config.device)
    if isinstance(options, WordModelConfig):
        return WordFitter(_prior_corpus(config), options)

    def fit_network(batch: ModelInput, _groups: Sequence[str], _held: frozenset[str], seed: int) -> Checkpoint:
        fits = fit_ensemble(batch, options, config.train, seed=seed, device=device, on_epoch=on_epoch)
        return network_checkpoint(options, batch.feature_cols, fits)

    return fit_network


def network_checkpoint(options: TransformerConfig, feature_cols: tuple[str, ...], fits: Sequence[Fit]) -> Checkpoint:
    """Networks as a checkpoint; a single one under the published names."""
    states = [fitted.network.state_dict() for fitted in fits]
    if len(states) == 1:
        return Checkpoint(options, feature_cols, states[0])
    members = {f"{i}.{name}": tensor for i, state in enumerate(states) for name, tensor in state.items()}
    return Checkpoint(options, feature_cols, members)


def train(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> Trained:
    """Stage 4: fit a model to the training tables, write model.pt, and train_log.csv for a network.

    Parameters
    ----------
    config : TrainConfig
    on_epoch : callable, optional
        Told of each epoch as it ends.

    Returns
    -------
    Trained

    Raises
    ------
    UserError
        Whatever is wrong with config, tables or metadata.
    """
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
    fits: list[Fit] = []
    out_of_fold: CrossValidation | None = None
    if isinstance(config.model, TransformerConfig):
        device = resolve_device(config.device)
        fits = fit_ensemble(batch, config.model, config.train, seed=config.seed, device=device, on_epoch=on_epoch)
        checkpoint = network_checkpoint(config.model, config.data.feature_cols, fits)
        facts["train"] = {**dataclasses.asdict(config.train), "save_dir": str(folder)}
        facts["kept_epochs"] = [fitted.kept.epoch for fitted in fits]
        facts["val_rmse"] = [fitted.kept.val_rmse for fitted in fits]
        facts["val_r"] = [fitted.kept.val_r for fitted in fits]
    else:
        groups, facts["grouped_by"] = training_groups(config, batch)
        if len(set(groups)) < 2:
            raise UserError(f"expected training signals of at least 2 {facts['grouped_by']}s, found 1; add tables")
        fit_words = fitter(config)
        out_of_fold = cross_validate(
            batch, groups, fit_words, n_folds=min(CALIBRATION_FOLDS, len(set(groups))), n_repeats=1, seed=config.seed
        )
        quantiles = calibrate(out_of_fold.scores[0] / PERCENT, out_of_fold.truth / PERCENT, out_of_fold.severity)
        fitted_words = fit_words(batch, groups, frozenset(), config.seed)
        state = {**fitted_words.state, "interval.quantiles": torch.from_numpy(quantiles)}
        checkpoint = dataclasses.replace(fitted_words, state=state)
        facts["out_of_fold"] = {"rmse": out_of_fold.rmse, "r": out_of_fold.r}
    checkpoint = dataclasses.replace(checkpoint, facts=facts)
    save_checkpoint(folder / "model.pt", checkpoint)
    if fits:
        lines = [{"member": i, **vars(epoch)} for i, fitted in enumerate(fits) for epoch in fitted.log]
        log = pd.DataFrame(lines) if len(fits) > 1 else pd.DataFrame(lines).drop(columns="member")
        with atomic_write(folder / "train_log.csv") as temporary:
            log.to_csv(temporary, index=False, lineterminator="\n")
    return Trained(folder, checkpoint, tuple(fits), out_of_fold)


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


def _prior_corpus(config: TrainConfig) -> list[SignalRecord]:
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
