"""Fitting the published network: loss, split, selection and cross-validation.

As published: the loss of a batch is MSE + `corr_lambda` * (1 - Pearson), on correctness in 0-1; the optimiser is
AdamW; the signals are split 80/20 into training and validation by prompt, so that no lyrics stand on both sides; the
epoch with the lowest validation RMSE is kept.

Cross-validation (`cross_validate`) is grouped by track, or by prompt where no track is known: the three severities of
an excerpt, and all excerpts of a track, are on the same side. Inside each fold the split and the selection are those
above, so that the held-out fold chooses nothing.

Everything random follows from the seed: a second run on the same machine with the same number of threads is
identical to the bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scow.batches import DataOptions, SignalBatch, data_options, load_batch
from scow.checkpoint import Checkpoint, fingerprint, save_checkpoint
from scow.corpus import read_metadata
from scow.device import resolve_device
from scow.errors import UserError
from scow.files import replacing
from scow.model import NetworkOptions, PublishedNetwork
from scow.options import options_from
from scow.prediction import PERCENT, forward, to_scores
from scow.scoring import Agreement, agreement


@dataclass(frozen=True)
class TrainOptions:
    """Section ``train:`` of a checkpoint's config.

    Attributes
    ----------
    save_dir : Path
        Where model.pt and train_log.csv go.
    batch_size : int
        Signals per step; the correlation in the loss is over a batch.
    epochs : int
    lr : float
        Learning rate of AdamW.
    corr_lambda : float
        Weight of the correlation term.
    val_split : float
        Share of the prompts that are held out for choosing the epoch, in 0 to 1.
    """

    save_dir: Path
    batch_size: int = 1024
    epochs: int = 100
    lr: float = 1e-4
    corr_lambda: float = 0.4
    val_split: float = 0.2

    def validate(self) -> None:
        """Check the ranges.

        Raises
        ------
        UserError
        """
        if self.batch_size < 2:
            raise UserError(f"train.batch_size: expected at least 2 (for a correlation), found {self.batch_size}")
        if self.epochs < 1:
            raise UserError(f"train.epochs: expected at least 1, found {self.epochs}; raise it")
        if not 0 < self.val_split < 1:
            raise UserError(f"train.val_split: expected a share between 0 and 1, found {self.val_split:g}; mend it")
        if self.lr <= 0 or not math.isfinite(self.lr):
            raise UserError(f"train.lr: expected a positive number, found {self.lr:g}; mend it")
        if not (self.corr_lambda >= 0 and math.isfinite(self.corr_lambda)):
            raise UserError(f"train.corr_lambda: expected 0 or a positive number, found {self.corr_lambda:g}; mend it")


@dataclass(frozen=True)
class CvOptions:
    """Section ``cv:`` of a checkpoint's config: repeated cross-validation, grouped by track.

    Attributes
    ----------
    folds, repeats : int
    """

    folds: int = 5
    repeats: int = 4


@dataclass(frozen=True)
class _TopLevel:
    exp_name: str
    seed: int = 42
    device: str = "auto"


@dataclass(frozen=True)
class TrainConfig:
    """A checkpoint's ``config.yaml``, as far as training reads it."""

    exp_name: str
    data: DataOptions
    model: NetworkOptions
    train: TrainOptions
    cv: CvOptions
    seed: int = 42
    device: str = "auto"


@dataclass(frozen=True)
class Epoch:
    """A line of train_log.csv; RMSE in points of 0-100, r None where it is not defined."""

    epoch: int
    train_loss: float
    train_rmse: float
    val_rmse: float
    val_r: float | None


@dataclass(frozen=True)
class Fit:
    """A trained network.

    Attributes
    ----------
    network : PublishedNetwork
        With the weights of the epoch that was kept, in evaluation mode.
    log : tuple of Epoch
    kept : Epoch
        The epoch that was kept.
    """

    network: PublishedNetwork
    log: tuple[Epoch, ...]
    kept: Epoch


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold scores, each signal predicted by a network that saw nothing of its group.

    Attributes
    ----------
    scores : ndarray, shape (n_repeats, n)
        In points of 0-100.
    repeats : tuple of Agreement
        RMSE and r over all signals, per repeat.
    """

    scores: np.ndarray
    repeats: tuple[Agreement, ...]

    @property
    def rmse(self) -> float:
        """Mean over repeats, in points."""
        return float(np.mean([repeat.rmse for repeat in self.repeats]))

    @property
    def r(self) -> float | None:
        """Mean over repeats; None where a repeat has none."""
        rs = [repeat.r for repeat in self.repeats]
        return None if None in rs else float(np.mean([r for r in rs if r is not None]))

    def __str__(self) -> str:
        return f"RMSE {self.rmse:.2f}, r {'undefined' if self.r is None else f'{self.r:.3f}'}"


def train_config(config: Mapping[str, Any]) -> TrainConfig:
    """Read a checkpoint's config, hydra's overrides included.

    Raises
    ------
    UserError
        A section or value that is missing or of the wrong kind.
    """
    sections = {
        "data": data_options(config.get("data")),
        "model": options_from(NetworkOptions, config.get("model"), "model"),
        "train": options_from(TrainOptions, config.get("train"), "train"),
        "cv": options_from(CvOptions, config.get("cv"), "cv"),
    }
    plain = {key: config[key] for key in ("exp_name", "seed", "device") if key in config}
    top = options_from(_TopLevel, plain, "config")
    return TrainConfig(**sections, **vars(top))  # type: ignore[arg-type]


def load_training_batch(config: TrainConfig) -> SignalBatch:
    """The labelled signals of the training tables.

    Raises
    ------
    UserError
        The config names no training tables, they are not to be had, or hold no label.
    """
    if "train" not in config.data.tables:
        raise UserError("expected data.csv_path_l and data.csv_path_r, the training tables, found none; add them")
    left, right = config.data.tables["train"]
    batch = load_batch(left, right, config.data.feature_cols, config.data.target)
    labelled = batch.take(torch.nonzero(batch.labelled).flatten())
    if not len(labelled):
        raise UserError(f"{left}: expected signals with {config.data.target}, found none; train on a labelled split")
    return labelled


def train(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> tuple[Fit, Path]:
    """Stage 4: fit a network to the training tables, write model.pt and train_log.csv.

    Parameters
    ----------
    config : TrainConfig
    on_epoch : callable, optional
        Told of each epoch as it ends.

    Returns
    -------
    Fit
    Path
        The checkpoint's folder.
    """
    batch = load_training_batch(config)
    trained = fit(
        batch, config.model, config.train, seed=config.seed, device=resolve_device(config.device), on_epoch=on_epoch
    )
    folder = config.train.save_dir
    facts = {
        "trained_on": fingerprint(batch.signals),
        "n_signals": len(batch),
        "target": config.data.target,
        "seed": config.seed,
        "train": {**dataclasses.asdict(config.train), "save_dir": str(folder)},
        "kept_epoch": trained.kept.epoch,
        "val_rmse": trained.kept.val_rmse,
        "val_r": trained.kept.val_r,
        "versions": {name: version(name) for name in ("torch", "numpy", "pandas")},
    }
    save_checkpoint(
        folder / "model.pt",
        Checkpoint(config.model, config.data.feature_cols, trained.network.state_dict(), facts),
    )
    with replacing(folder / "train_log.csv") as temporary:
        pd.DataFrame([vars(epoch) for epoch in trained.log]).to_csv(temporary, index=False, lineterminator="\n")
    return trained, folder


def cross_validation(config: TrainConfig, *, on_fold: Callable[[int, int], None] | None = None) -> CrossValidation:
    """Cross-validate a config on its training tables, by track where `data.metadata` tells it, else by prompt."""
    if config.cv.repeats < 1:
        raise UserError(f"cv.repeats: expected at least 1, found {config.cv.repeats}; mend it")
    batch = load_training_batch(config)
    groups: Sequence[str] = batch.prompts
    if config.data.metadata is not None:
        tracks = {record.signal: record.track for record in read_metadata(config.data.metadata)}
        unknown = [signal for signal in batch.signals if not tracks.get(signal)]
        if unknown:
            raise UserError(
                f"{config.data.metadata}: expected the track (fma) of every signal, found none for {unknown[0]}; "
                "set data.metadata=null to group by prompt"
            )
        groups = [tracks[signal] for signal in batch.signals]
    return cross_validate(
        batch,
        groups,
        config.model,
        config.train,
        n_folds=config.cv.folds,
        n_repeats=config.cv.repeats,
        seed=config.seed,
        device=resolve_device(config.device),
        on_fold=on_fold,
    )


def write_cross_validation(config: TrainConfig, result: CrossValidation) -> Path:
    """Write cross_validation.json beside the checkpoint: what was done, and RMSE and r per repeat and on average."""
    path = config.train.save_dir / "cross_validation.json"
    content = {
        "n_signals": result.scores.shape[1],
        "grouped_by": "prompt" if config.data.metadata is None else "track",
        "folds": config.cv.folds,
        "seeds": [config.seed + repeat for repeat in range(config.cv.repeats)],
        "rmse": result.rmse,
        "r": result.r,
        "repeats": [{"rmse": repeat.rmse, "r": repeat.r} for repeat in result.repeats],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def split_by_group(groups: Sequence[str], share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split into (rest, held out) so that each group is on one side.

    Parameters
    ----------
    groups : sequence of str, length n
    share : float
        Share of the groups to hold out; at least one group is on each side.
    rng : Generator

    Returns
    -------
    tuple of ndarray
        Indices, ascending.

    Raises
    ------
    UserError
        Fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise UserError(
            f"expected signals of at least 2 prompts to split for validation, found {len(names)}; add signals"
        )
    n_held = min(max(round(share * len(names)), 1), len(names) - 1)
    held = {names[i] for i in rng.permutation(len(names))[:n_held]}
    outside = np.array([group in held for group in groups])
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def group_folds(groups: Sequence[str], n_folds: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of each fold, every group whole in one of them, folds of about the same number of groups.

    Raises
    ------
    UserError
        Fewer groups than folds.
    """
    names = sorted(set(groups))
    if not 2 <= n_folds <= len(names):
        raise UserError(f"cv.folds: expected 2 to {len(names)} (the number of groups), found {n_folds}; mend it")
    fold_of = {names[i]: place % n_folds for place, i in enumerate(rng.permutation(len(names)))}
    folds = np.array([fold_of[group] for group in groups])
    return [np.flatnonzero(folds == fold) for fold in range(n_folds)]


def correlation_loss(predicted: Tensor, target: Tensor, corr_lambda: float) -> Tensor:
    """MSE + corr_lambda * (1 - Pearson) over a batch; the second term is left out for a batch of one signal."""
    mse = torch.mean((predicted - target) ** 2)
    if len(predicted) < 2:
        return mse
    x, y = predicted - predicted.mean(), target - target.mean()
    pearson = (x * y).sum() / (x.norm() * y.norm()).clamp_min(1e-8)
    return mse + corr_lambda * (1.0 - pearson)


def fit(
    batch: SignalBatch,
    network_options: NetworkOptions,
    options: TrainOptions,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fit:
    """Train a network on labelled signals.

    Parameters
    ----------
    batch : SignalBatch
        All with a label.
    network_options : NetworkOptions
    options : TrainOptions
    seed : int
        Decides the split, the weights at the start, the order of the signals and the dropout.
    device : str
        ``cpu`` or ``cuda``.
    on_epoch : callable
        Told of each epoch as it ends.

    Returns
    -------
    Fit

    Raises
    ------
    UserError
        An option out of range, or fewer than two prompts.
    """
    options.validate()
    network_options.validate()
    if seed < 0:
        raise UserError(f"seed: expected 0 or a positive number, found {seed}; mend it")
    rng = np.random.default_rng(seed)
    train_index, val_index = split_by_group(batch.prompts, options.val_split, rng)
    train, val = batch.take(torch.from_numpy(train_index)), batch.take(torch.from_numpy(val_index))
    cuda = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(
        devices=cuda
    ):  # dropout and weights draw from torch's global state, and nothing else may
        torch.manual_seed(int(rng.integers(2**31)))
        network = PublishedNetwork(batch.features.shape[-1], network_options).to(device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=options.lr)
        log: list[Epoch] = []
        best: dict[str, Tensor] = {}
        kept: Epoch | None = None
        for number in range(1, options.epochs + 1):
            loss, train_rmse = _one_epoch(network, optimiser, train, options, rng, device)
            if not math.isfinite(loss):
                raise UserError(f"training diverged in epoch {number}; expected a finite loss: lower train.lr")
            score = agreement(to_scores(forward(network, val, device)), to_scores(val.target.double().numpy()))
            epoch = Epoch(number, loss, train_rmse, score.rmse, score.r)
            log.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            if kept is None or epoch.val_rmse < kept.val_rmse:
                kept, best = epoch, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert kept is not None  # options.epochs >= 1
    network.load_state_dict(best)
    return Fit(network.eval(), tuple(log), kept)


def cross_validate(
    batch: SignalBatch,
    groups: Sequence[str],
    network_options: NetworkOptions,
    options: TrainOptions,
    *,
    n_folds: int,
    n_repeats: int,
    seed: int,
    device: str = "cpu",
    on_fold: Callable[[int, int], None] | None = None,
) -> CrossValidation:
    """Repeated cross-validation by group.

    Parameters
    ----------
    batch : SignalBatch
        All with a label.
    groups : sequence of str, length n
        Track (or prompt) of each signal.
    network_options, options
        As for `fit`.
    n_folds, n_repeats : int
    seed : int
        Repeat k uses seed + k, for the folds and for the fits.
    device : str
    on_fold : callable
        Told of repeat and fold as each ends.

    Returns
    -------
    CrossValidation
    """
    truth = to_scores(batch.target.double().numpy())
    scores = np.zeros((n_repeats, len(batch)))
    for repeat in range(n_repeats):
        for number, held in enumerate(group_folds(groups, n_folds, np.random.default_rng(seed + repeat))):
            rest = np.setdiff1d(np.arange(len(batch)), held)
            trained = fit(
                batch.take(torch.from_numpy(rest)), network_options, options, seed=seed + repeat, device=device
            )
            held_batch = batch.take(torch.from_numpy(held))
            scores[repeat, held] = to_scores(forward(trained.network, held_batch, device))
            if on_fold is not None:
                on_fold(repeat, number)
    return CrossValidation(scores, tuple(agreement(row, truth) for row in scores))


def _one_epoch(
    network: PublishedNetwork,
    optimiser: torch.optim.Optimizer,
    train: SignalBatch,
    options: TrainOptions,
    rng: np.random.Generator,
    device: str,
) -> tuple[float, float]:
    """One pass over the training signals; mean loss, and RMSE in points as the network was along the way."""
    network.train()
    losses, squares = [], 0.0
    for index in torch.from_numpy(rng.permutation(len(train))).split(options.batch_size):
        part = train.take(index)
        predicted = network(part.features.to(device), part.n_rows.to(device), part.severity.to(device))
        target = part.target.to(device)
        loss = correlation_loss(predicted, target, options.corr_lambda)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        squares += float(((predicted.detach() - target) ** 2).sum())
    return float(np.mean(losses)), PERCENT * math.sqrt(squares / len(train))
