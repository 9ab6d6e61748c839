"""The word model: for each prompt word the probability that a listener writes it down; and the sentence model.

A sentence's score is the mean over its words.

A logistic regression on the features of `scow.models.word_features`, among them the logit of a text prior
(`scow.models.text_prior`). It is fitted with the log-loss of words, standardised columns and an L2 penalty of 1/C, a
quarter of that for the blocks `sent`, `prior` and `knots`, whose few columns carry most of the information. Labels are
`scow.text.labels.word_labels`: with several listeners a mean, which counts as often as listeners answered.

Without the block `hearing_loss`, all signals count as of one hearing loss, for the text prior too: scores do not depend
on it.

A model that takes DNSMOS also holds a second regression without it, for tables that lack these columns.

The **sentence model** needs no word labels, so it can be trained on pseudo-prompts, whose words nobody was asked for.
It is the same regression on the means of the features over each signal, with its correctness as the label. It has no
text prior, and predicts a score and its interval, but no words.

With ``model.embeddings`` both also take embeddings of Whisper's encoder (`scow.models.embedding`), the same for all
words of a signal.

In a checkpoint the model is tensors alone: the regressions under ``full.`` and ``without_dnsmos.``, the text prior
under ``prior.``, the reduction of embeddings under ``embedding.``, and the quantiles of intervals
(`scow.models.intervals`) under ``interval.quantiles``.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from scow.data.tables import DNSMOS_COLUMNS, METRIC_COLUMNS, WHISPER_COLUMNS
from scow.errors import expect
from scow.models.config import WordModelConfig
from scow.models.embedding import Reduction
from scow.models.inputs import ModelInput
from scow.models.model import FitSetup, Model, Prediction, StateDict, seen_by
from scow.models.text_prior import TextPrior, fit_logistic, standardisation
from scow.models.word_features import mean_per_signal, sentence_features, word_features
from scow.text.labels import word_labels

WEAK_PENALTY_BLOCKS = ("sent", "prior", "knots")
WEAK_PENALTY = 0.25
WITHOUT_RESPONSES = (
    "join them with metadata_to_csv.py --responses, or train a model that needs none, model.name=sentence"
)
_word_labels = functools.lru_cache(maxsize=20_000)(word_labels)  # each fold of a cross-validation asks again


@dataclass(frozen=True)
class WordRegression:
    """A logistic regression on standardised word features."""

    mean: np.ndarray  # shape (p,), as scale and weight
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray  # shape ()

    @classmethod
    def fit(cls, features: pd.DataFrame, labels: np.ndarray, weights: np.ndarray, c: float) -> WordRegression:
        """Fit to weighted words; dividing a column by sqrt(penalty) is the same as a penalty of its own."""
        mean, scale = standardisation(features.to_numpy())
        blocks = features.columns.str.partition(".").get_level_values(0)
        root = np.sqrt(np.where(blocks.isin(WEAK_PENALTY_BLOCKS), WEAK_PENALTY, 1.0))
        weight, bias = fit_logistic((features.to_numpy() - mean) / scale / root, labels, c, weights)
        return cls(mean, scale, weight / root, bias)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of each word, shape (n_words,)."""
        return np.asarray(expit((features - self.mean) / self.scale @ self.weight + self.bias))


class WordModel(Model):
    """A fitted word model."""

    predicts_words = True
    has_intervals = True

    def __init__(
        self,
        config: WordModelConfig,
        feature_cols: Sequence[str],
        regressions: dict[str, WordRegression],
        prior: TextPrior | None,
        quantiles: np.ndarray | None = None,
        reduction: Reduction | None = None,
    ) -> None:
        self.config = config
        self.feature_cols = tuple(feature_cols)  # Whisper columns, and metric columns if it takes any
        self.regressions = regressions  # `full`, and `without_dnsmos` where the features have DNSMOS
        self.prior = prior
        self.quantiles = quantiles  # of intervals, shape (3, 99)
        self.reduction = reduction  # of embeddings
        self.embedding_width = 0 if reduction is None else len(reduction.mean)
        self.optional_cols = DNSMOS_COLUMNS if "without_dnsmos" in regressions else ()

    @classmethod
    def fit(cls, inputs: ModelInput, config: WordModelConfig, setup: FitSetup) -> WordModel:
        """Fit to labelled signals with responses; without quantiles for intervals."""
        _check_columns(inputs)
        _check_responses(inputs)
        inputs = seen_by(config, inputs)
        corpus, held = setup.corpus, setup.held_groups
        prior = logits = None
        if corpus.records:
            prior = corpus.prior(config.prior_c, held)
            logits = corpus.unseen_logits(inputs, setup.groups, config.prior_c, held, setup.seed)
        reduction = Reduction.fit(inputs, config, setup.seed) if config.embeddings else None
        features, labels = cls._features(inputs, logits, config, reduction), labels_of(inputs)
        weights = inputs.listeners[inputs.word_signals]
        regressions = _regressions(features, labels, weights, config.c)
        return cls(config, inputs.feature_cols, regressions, prior, reduction=reduction)

    def predict(self, inputs: ModelInput, device: str = "cpu") -> Prediction:  # noqa: ARG002 - too small for a GPU
        """Predict words and sentences."""
        inputs = seen_by(self.config, inputs)
        logits = self.prior.logits(inputs.prior_texts) if self.prior else None
        words = self._probabilities(inputs, logits)
        return Prediction(mean_per_signal(words, inputs), words)

    @staticmethod
    def _features(
        inputs: ModelInput, logits: np.ndarray | None, config: WordModelConfig, reduction: Reduction | None
    ) -> pd.DataFrame:
        of_signals = reduction.features(inputs) if reduction else {}
        of_words = {name: values[inputs.word_signals] for name, values in of_signals.items()}
        return word_features(inputs, logits, config).assign(**of_words)

    def _probabilities(self, inputs: ModelInput, logits: np.ndarray | None) -> np.ndarray:
        """Probability of each row of `_features`."""
        features = self._features(inputs, logits, self.config, self.reduction)
        complete = set(self.feature_cols) <= set(inputs.feature_cols)
        return self.regressions["full" if complete else "without_dnsmos"].probabilities(features.to_numpy())

    def state_dict(self) -> StateDict:
        """The model as tensors; see the module's docstring."""
        parts = {name: vars(regression) for name, regression in self.regressions.items()}
        if self.prior is not None:
            parts["prior"] = vars(self.prior)
        if self.reduction is not None:
            parts["embedding"] = vars(self.reduction)
        if self.quantiles is not None:
            parts["interval"] = {"quantiles": self.quantiles}
        return {
            f"{part}.{key}": torch.from_numpy(np.array(array))
            for part, arrays in parts.items()
            for key, array in arrays.items()
        }

    @classmethod
    def from_state_dict(cls, config: WordModelConfig, feature_cols: Sequence[str], state: StateDict) -> WordModel:
        """The model that a state dict describes."""
        parts: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for name, tensor in state.items():
            part, _, key = name.partition(".")
            parts[part][key] = tensor.numpy()
        prior = TextPrior(**parts.pop("prior")) if "prior" in parts else None
        reduction = Reduction(**parts.pop("embedding")) if "embedding" in parts else None
        quantiles = parts.pop("interval")["quantiles"] if "interval" in parts else None
        regressions = {name: WordRegression(**part) for name, part in parts.items()}
        vectors = [[one.weight, one.mean, one.scale] for one in regressions.values()]
        if prior:
            expect(prior.identities.dtype == np.int64, "prior.identities", "int64", prior.identities.dtype)
            vectors += [[prior.dense_weights, prior.dense_mean, prior.dense_scale]]
            vectors += [[prior.identities, prior.identity_weights]]
            ascending = (prior.identities[1:] > prior.identities[:-1]).all()
            expect(ascending, "prior.identities", "ascending numbers", "another order")
        for arrays in vectors:
            found = [array.shape for array in arrays]
            expect({len(shape) for shape in found} == {1} and len({*found}) == 1, "weights", "vectors of a size", found)
        scales = [one.scale for one in regressions.values()] + ([prior.dense_scale] if prior else [])
        scales += [reduction.scale] if reduction else []
        expect(all((scale > 0).all() for scale in scales), "scale", "positive numbers", "others")
        expect(quantiles is None or quantiles.shape == (3, 99), "interval.quantiles", "shape (3, 99)", "another")
        rising = quantiles is None or ((quantiles >= 0) & (np.diff(quantiles, prepend=0) >= 0)).all()
        expect(rising, "interval.quantiles", "rising from 0", "others")
        expect(config.embeddings == (reduction is not None), "model.embeddings", "those of the config", "others")
        return cls(config, feature_cols, regressions, prior, quantiles, reduction)


class SentenceModel(WordModel):
    """A fitted sentence model."""

    predicts_words = False

    @classmethod
    def fit(cls, inputs: ModelInput, config: WordModelConfig, setup: FitSetup) -> SentenceModel:
        """Fit to labelled signals; without quantiles for intervals."""
        _check_columns(inputs)
        inputs = seen_by(config, inputs)
        reduction = Reduction.fit(inputs, config, setup.seed) if config.embeddings else None
        features, labels = cls._features(inputs, None, config, reduction), inputs.target.numpy().astype(np.float64)
        regressions = _regressions(features, labels, inputs.listeners, config.c)
        return cls(config, inputs.feature_cols, regressions, None, reduction=reduction)

    def predict(self, inputs: ModelInput, device: str = "cpu") -> Prediction:  # noqa: ARG002 - too small for a GPU
        """Predict sentences."""
        return Prediction(self._probabilities(seen_by(self.config, inputs), None))

    @staticmethod
    def _features(
        inputs: ModelInput, logits: np.ndarray | None, config: WordModelConfig, reduction: Reduction | None
    ) -> pd.DataFrame:
        assert logits is None  # there is no text prior
        return sentence_features(inputs, config).assign(**(reduction.features(inputs) if reduction else {}))


def _regressions(
    features: pd.DataFrame, labels: np.ndarray, weights: np.ndarray, c: float
) -> dict[str, WordRegression]:
    """The regression on all features, and one without DNSMOS where they are among them."""
    regressions = {"full": WordRegression.fit(features, labels, weights, c)}
    has_dnsmos = features.columns.str.startswith("dns.")
    if has_dnsmos.any():
        regressions["without_dnsmos"] = WordRegression.fit(features.loc[:, ~has_dnsmos], labels, weights, c)
    return regressions


def labels_of(inputs: ModelInput) -> np.ndarray:
    """Word labels, shape (n_words,), 0 or 1, or between where several listeners answered."""
    pairs = zip(inputs.words, inputs.responses, strict=True)
    return np.array([label for words, response in pairs for label in _word_labels(words, response)], dtype=np.float64)


def _check_columns(inputs: ModelInput) -> None:
    """Refuse features that neither model takes."""
    columns, dnsmos, where = set(inputs.feature_cols), set(DNSMOS_COLUMNS), "data.feature_cols"
    strange = sorted(columns - {*WHISPER_COLUMNS, *METRIC_COLUMNS})
    expect(not strange, where, "Whisper and metric columns for the word model", ", ".join(strange))
    expect(columns & set(WHISPER_COLUMNS), where, "at least one Whisper column for the word model", "none")
    expect(columns & dnsmos in (set(), dnsmos), where, f"all of {', '.join(DNSMOS_COLUMNS)} or none", "some")


def _check_responses(inputs: ModelInput) -> None:
    """Refuse signals without responses, from which the word model cannot learn."""
    signals, some = zip(inputs.signals, inputs.target.tolist(), inputs.responses, strict=True), any(inputs.responses)
    silent = [signal for signal, share, response in signals if not response and (share > 0 or not some)]
    found = f"none for {len(silent)} of {len(inputs)} signals, for instance {', '.join(silent[:1])}"
    expect(not silent, "training tables", "responses", f"{found}; {WITHOUT_RESPONSES}")
