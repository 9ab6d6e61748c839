"""Embeddings of Whisper's encoder as a few features of a signal: standardised, then reduced by PCA.

1. The embedding of a signal is the mean over its channels (`scow.data.embeddings`; one channel where the model takes
   only that, or the other has none), the layers and models side by side.
2. Each of its numbers is standardised, and they are projected on the first principal components, with unit variance.
   Both are fitted to the training signals alone.
3. A signal without embedding gets zeros, the mean of the training signals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scow.data.audio import CHANNELS
from scow.errors import expect
from scow.models.config import WordModelConfig
from scow.models.inputs import ModelInput


@dataclass(frozen=True)
class Reduction:
    """A fitted reduction."""

    mean: np.ndarray  # shape (width,), float32, as scale
    scale: np.ndarray
    components: np.ndarray  # shape (k, width), float32
    channels: np.ndarray  # shape (1,) or (2,), int64, index into scow.data.audio.CHANNELS

    @classmethod
    def fit(cls, inputs: ModelInput, config: WordModelConfig, seed: int) -> Reduction:
        """Fit to signals, at least two of which have embeddings."""
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        channels = np.array([0, 1] if config.ear == "both" else [CHANNELS.index(config.ear)])
        values = _of_signals(inputs, channels)
        values = values[np.isfinite(values).all(axis=1)]
        expect(len(values) > 1, "model.embeddings", "embeddings of at least two training signals", len(values))
        scaler = StandardScaler().fit(values)
        n_components = min(config.components, *values.shape)
        with threadpool_limits(1):  # the same sums with any number of cores
            pca = PCA(n_components, svd_solver="randomized", random_state=seed).fit(scaler.transform(values))
        spread = np.sqrt(np.maximum(pca.explained_variance_, np.finfo(np.float32).eps))
        components = pca.components_ / spread[:, None]
        mean, scale, components = (array.astype(np.float32) for array in (scaler.mean_, scaler.scale_, components))
        return cls(mean, scale, components, channels)

    def features(self, inputs: ModelInput) -> dict[str, np.ndarray]:
        """Features ``emb.<number>`` of the signals, each shape (n,)."""
        values = _of_signals(inputs, self.channels)
        expect(values.shape[1] == len(self.mean), "model.embeddings", f"{len(self.mean)} numbers", values.shape[1])
        standardised = (values - self.mean) / self.scale
        reduced = np.nan_to_num(standardised).astype(np.float64) @ self.components.T
        return {f"emb.{i}": values for i, values in enumerate(reduced.T, start=1)}


def _of_signals(inputs: ModelInput, channels: np.ndarray) -> np.ndarray:
    """Embedding of each signal, shape (n, width); NaN where it has none."""
    expect(len(inputs.embeddings) == len(inputs), "model.embeddings", "tables with embeddings", "none")
    values = inputs.embeddings.numpy()[:, channels]
    n_known = np.isfinite(values).sum(axis=1)
    return np.where(n_known > 0, np.nansum(values, axis=1) / np.maximum(n_known, 1), np.nan)
