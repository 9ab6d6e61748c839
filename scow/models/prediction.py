"""From a network and signals to scores; what training and inference share, so that they cannot disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scow.models.inputs import ModelInput
from scow.models.transformer import Transformer


@dataclass(frozen=True)
class Prediction:
    """What a model says of many signals.

    Attributes
    ----------
    correctness : ndarray, shape (n,), float64
        Share of words, about 0-1, not clamped.
    words : ndarray, shape (n_words,), float64, or None
        Probability of each prompt word, signal after signal; None where the model says nothing of words.
    """

    correctness: np.ndarray
    words: np.ndarray | None = None


PERCENT = 100.0
SIGNALS_PER_FORWARD = 1024


def forward(network: Transformer, batch: ModelInput, device: str = "cpu") -> np.ndarray:
    """Predicted correctness as a share, not clamped, shape (n,), float64."""
    network.eval()
    pieces = []
    with torch.inference_mode():
        for index in torch.arange(len(batch)).split(SIGNALS_PER_FORWARD):
            part = batch.take(index)
            predicted = network(part.features.to(device), part.n_rows.to(device), part.severity.to(device))
            pieces.append(predicted.cpu().numpy().astype(np.float64))
    return np.concatenate(pieces)


def to_scores(correctness: np.ndarray, *, clamp: bool = True, percentage: bool = True) -> np.ndarray:
    """Scores from predicted correctness: clamped to 0-1, then in points of 0-100."""
    clamped = np.clip(correctness, 0.0, 1.0) if clamp else correctness
    return clamped * PERCENT if percentage else clamped
