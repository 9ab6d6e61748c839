"""The interface that both models share: what they predict, how they are fitted, saved and loaded.

The models are the transformer (`scow.models.transformer`), the word model and the sentence model
(`scow.models.word_model`).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from scow.errors import expect
from scow.models.config import ModelConfig, TrainOptions
from scow.models.inputs import ModelInput
from scow.models.intervals import interval
from scow.models.text_prior import PriorCorpus

PERCENT = 100.0
StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for many signals."""

    correctness: np.ndarray  # shape (n,), share of words, about 0-1, not clamped
    words: np.ndarray | None = None  # shape (n_words,), probability of each prompt word; None where it predicts none


@dataclass(frozen=True)
class Epoch:
    """A line of train_log.csv; RMSE in points of 0-100, r None where it is not defined."""

    epoch: int
    train_loss: float
    train_rmse: float
    val_rmse: float
    val_r: float | None


@dataclass(frozen=True)
class FitSetup:
    """What a fit may use beside the labelled signals and the model's config; each model uses its part."""

    groups: Sequence[str]  # track or prompt of each signal
    seed: int
    held_groups: frozenset[str] = frozenset()  # groups to be predicted later, which no part of the model may see
    corpus: PriorCorpus = field(default_factory=PriorCorpus)  # what the text prior learns from; may be empty
    train: TrainOptions | None = None
    device: str = "cpu"
    on_epoch: Callable[[Epoch], None] | None = None  # called after each epoch


class Model(ABC):
    """A fitted model."""

    predicts_words: ClassVar[bool] = False
    has_intervals: ClassVar[bool] = False
    config: Any  # section ``model:`` that it was made with
    feature_cols: tuple[str, ...]  # features in the order that the model takes
    optional_cols: tuple[str, ...] = ()  # those of them that it can do without
    embedding_width: int = 0  # numbers of an embedding that it takes
    quantiles: np.ndarray | None = None  # of intervals, shape (3, 99), see scow.models.intervals
    log: tuple[Epoch, ...] = ()  # of a model that was just fitted in epochs

    @classmethod
    @abstractmethod
    def fit(cls, inputs: ModelInput, config: Any, setup: FitSetup) -> Model:
        """Fit to labelled signals."""

    @abstractmethod
    def predict(self, inputs: ModelInput, device: str = "cpu") -> Prediction:
        """Predict signals that have `feature_cols`, or all of them but `optional_cols`."""

    @abstractmethod
    def state_dict(self) -> StateDict:
        """The fitted values, for a checkpoint."""

    @classmethod
    @abstractmethod
    def from_state_dict(cls, config: Any, feature_cols: Sequence[str], state: StateDict) -> Model:
        """The model with these values; any exception means that they do not fit the config."""

    def interval(
        self, correctness: np.ndarray, hearing_loss: np.ndarray, level: float, listeners: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval for the mean correctness of so many listeners, each shape (n,), in 0-1."""
        assert self.quantiles is not None
        return interval(correctness, hearing_loss, self.quantiles, level, listeners)


def seen_by(config: ModelConfig, inputs: ModelInput) -> ModelInput:
    """The inputs, with one hearing loss for all where the model leaves it out."""
    if "hearing_loss" not in config.without:
        return inputs
    return dataclasses.replace(inputs, hearing_loss=torch.zeros_like(inputs.hearing_loss))


def to_scores(correctness: np.ndarray, *, clamp: bool = True, percentage: bool = True) -> np.ndarray:
    """Scores from predicted correctness: clamped to 0-1, then in points of 0-100; UserError where one is not finite."""
    finite = np.isfinite(correctness).all()
    expect(
        finite, "model", "finite predictions", "NaN or infinity; its weights are damaged, or made for other features"
    )
    clamped = np.clip(correctness, 0.0, 1.0) if clamp else correctness
    return clamped * PERCENT if percentage else clamped
