"""Fitting the published network: loss, split and selection.

As published: the loss of a batch is MSE + `corr_lambda` * (1 - Pearson), on correctness in 0-1; the optimiser is
AdamW; the signals are split 80/20 into training and validation by prompt, so that no lyrics stand on both sides; the
epoch with the lowest validation RMSE is kept.

Everything random follows from the seed: a second run on the same machine with the same number of threads is
identical to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scow.errors import UserError
from scow.metrics import agreement
from scow.models.inputs import ModelInput
from scow.models.prediction import PERCENT, forward, to_scores
from scow.models.transformer import Transformer, TransformerConfig
from scow.training.groups import group_folds, split_by_group


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
    folds : int
        More than 1: an ensemble of as many networks, each with another fold of the prompts held out; their mean counts.
    """

    save_dir: Path
    batch_size: int = 1024
    epochs: int = 100
    lr: float = 1e-4
    corr_lambda: float = 0.4
    val_split: float = 0.2
    folds: int = 1

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
        if self.folds < 1:
            raise UserError(f"train.folds: expected 1, or more for an ensemble, found {self.folds}; mend it")
        if not 0 < self.val_split < 1:
            raise UserError(f"train.val_split: expected a share between 0 and 1, found {self.val_split:g}; mend it")
        if self.lr <= 0 or not math.isfinite(self.lr):
            raise UserError(f"train.lr: expected a positive number, found {self.lr:g}; mend it")
        if not (self.corr_lambda >= 0 and math.isfinite(self.corr_lambda)):
            raise UserError(f"train.corr_lambda: expected 0 or a positive number, found {self.corr_lambda:g}; mend it")


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
    network : Transformer
        With the weights of the epoch that was kept, in evaluation mode.
    log : tuple of Epoch
    kept : Epoch
        The epoch that was kept.
    """

    network: Transformer
    log: tuple[Epoch, ...]
    kept: Epoch


def correlation_loss(predicted: Tensor, target: Tensor, corr_lambda: float) -> Tensor:
    """MSE + corr_lambda * (1 - Pearson) over a batch; the second term is left out for a batch of one signal."""
    mse = torch.mean((predicted - target) ** 2)
    if len(predicted) < 2:
        return mse
    x, y = predicted - predicted.mean(), target - target.mean()
    pearson = (x * y).sum() / (x.norm() * y.norm()).clamp_min(1e-8)
    return mse + corr_lambda * (1.0 - pearson)


def fit(
    batch: ModelInput,
    network_options: TransformerConfig,
    options: TrainOptions,
    *,
    seed: int,
    device: str = "cpu",
    held_out: np.ndarray | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fit:
    """Train a network on labelled signals.

    Parameters
    ----------
    batch : ModelInput
        All with a label.
    network_options : TransformerConfig
    options : TrainOptions
    seed : int
        Decides the split, the weights at the start, the order of the signals and the dropout.
    device : str
        ``cpu`` or ``cuda``.
    held_out : ndarray, optional
        Indices of the signals that choose the epoch; by default `val_split` of the prompts, drawn from the seed.
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
    if held_out is None:
        train_index, val_index = split_by_group(batch.prompts, options.val_split, rng)
    else:
        train_index, val_index = np.setdiff1d(np.arange(len(batch)), held_out), held_out
    train, val = batch.take(torch.from_numpy(train_index)), batch.take(torch.from_numpy(val_index))
    cuda = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(
        devices=cuda
    ):  # dropout and weights draw from torch's global state, and nothing else may
        torch.manual_seed(int(rng.integers(2**31)))
        network = Transformer(batch.features.shape[-1], network_options).to(device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=options.lr)
        log: list[Epoch] = []
        best: dict[str, Tensor] = {}
        kept: Epoch | None = None
        for number in range(1, options.epochs + 1):
            loss, train_rmse = _one_epoch(network, optimiser, train, options, rng, device)
            if not math.isfinite(loss):
                raise UserError(f"training diverged in epoch {number}; expected a finite loss: lower train.lr")
            predicted = forward(network, val, device)
            if not np.isfinite(predicted).all():
                raise UserError(f"training diverged in epoch {number}; expected finite predictions: lower train.lr")
            score = agreement(to_scores(predicted), to_scores(val.target.double().numpy()))
            epoch = Epoch(number, loss, train_rmse, score.rmse, score.r)
            log.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            if kept is None or epoch.val_rmse < kept.val_rmse:
                kept, best = epoch, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert kept is not None  # options.epochs >= 1
    network.load_state_dict(best)
    return Fit(network.eval(), tuple(log), kept)


def fit_ensemble(
    batch: ModelInput,
    network_options: TransformerConfig,
    options: TrainOptions,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Fit]:
    """Train `options.folds` networks, each with another fold of the prompts held out; one, split as published, for 1.

    Parameters and errors as for `fit`; network k uses seed + k.
    """
    options.validate()
    if options.folds == 1:
        return [fit(batch, network_options, options, seed=seed, device=device, on_epoch=on_epoch)]
    folds = group_folds(batch.prompts, options.folds, np.random.default_rng(seed), "train.folds")
    return [
        fit(batch, network_options, options, seed=seed + k, device=device, held_out=held, on_epoch=on_epoch)
        for k, held in enumerate(folds)
    ]


def _one_epoch(
    network: Transformer,
    optimiser: torch.optim.Optimizer,
    train: ModelInput,
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
