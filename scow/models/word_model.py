"""The word model: for each prompt word the probability that a listener writes it down.

A sentence's score is the mean over its words.

A logistic regression on the features of `scow.models.word_features`, among them the logit of a text prior (`scow.models.text_prior`).
It is fitted with the log-loss of words, standardised columns and an L2 penalty of 1/C, a quarter of that for the blocks
`sent`, `prior` and `hinge`, whose few columns carry most of what is known. Labels are `scow.text.labels.word_labels`.

A model that takes DNSMOS also holds a second regression without it, for tables that lack these columns.

In a checkpoint the model is tensors alone: buffers of `WordLogistic` and of the prior, and interval quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scow.data.tables import DNSMOS_COLUMNS, METRIC_COLUMNS, WHISPER_COLUMNS
from scow.errors import UserError, nearest
from scow.models.inputs import ModelInput
from scow.models.intervals import interval
from scow.models.logistic import Standardised, fit_logistic
from scow.models.prediction import Prediction
from scow.models.text_prior import PRIOR_C, TextPrior
from scow.models.transformer import WordLogistic
from scow.models.word_features import BLOCKS, WordTable, prior_texts, word_table
from scow.text.labels import word_labels

FREER_BLOCKS = ("sent", "prior", "hinge")
FREER_PENALTY = 0.25


@dataclass(frozen=True)
class WordModelConfig:
    """Section ``model:`` of a checkpoint's config, for ``name: word``.

    Attributes
    ----------
    c : float
        Inverse strength of the regularisation.
    prior_c : float
        The same, of the text prior.
    ear : str
        ``both``, or ``left`` or ``right`` to listen with one ear only.
    without : tuple of str
        Blocks of features to leave out, for ablations.
    """

    c: float = 0.001
    prior_c: float = PRIOR_C
    ear: str = "both"
    without: tuple[str, ...] = ()

    def validate(self) -> None:
        """Check the values.

        Raises
        ------
        UserError
        """
        for name, value in (("c", self.c), ("prior_c", self.prior_c)):
            if not (value > 0 and np.isfinite(value)):
                raise UserError(f"model.{name}: expected a positive number, found {value:g}; mend it")
        if self.ear not in ("both", "left", "right"):
            raise UserError(f"model.ear: expected both, left or right, found {self.ear!r}; mend it")
        for block in self.without:
            if block not in BLOCKS:
                raise UserError(f"model.without: no block {block!r}; {nearest(block, BLOCKS)}")


@dataclass(frozen=True)
class WordModel:
    """A fitted word model.

    Attributes
    ----------
    options : WordModelConfig
    feature_cols : tuple of str
        Whisper columns, and metric columns if it takes any.
    heads : dict of str to WordLogistic
        ``full``, and ``without_dnsmos`` where `feature_cols` has DNSMOS.
    prior : TextPrior or None
    quantiles : ndarray, shape (3, 99), or None
        For intervals (`scow.models.intervals`).
    """

    options: WordModelConfig
    feature_cols: tuple[str, ...]
    heads: dict[str, WordLogistic]
    prior: TextPrior | None
    quantiles: np.ndarray | None = None

    def predict(self, batch: ModelInput) -> Prediction:
        """Predict the words and sentences of a batch that has all of `feature_cols`, or all but DNSMOS."""
        logits = self.prior.logits(prior_texts(batch)) if self.prior else None
        table = features(batch, logits, self.options)
        head = self.heads["full" if set(self.feature_cols) <= set(batch.feature_cols) else "without_dnsmos"]
        with torch.inference_mode():
            words = head(torch.from_numpy(table.features)).numpy()
        return Prediction(sentence_means(words, table.owner, len(batch)), words)

    def interval(self, correctness: np.ndarray, severity: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the interval for one listener's correctness, each shape (n,), in 0-1."""
        if self.quantiles is None:
            raise UserError("this checkpoint holds no interval calibration; train it again with train.py")
        return interval(correctness, severity, self.quantiles, level)

    def state(self) -> dict[str, Tensor]:
        """The model as a flat state dict."""
        state = {
            f"{name}.{key}": tensor for name, head in self.heads.items() for key, tensor in head.state_dict().items()
        }
        if self.prior is not None:
            state |= {f"prior.{key}": tensor for key, tensor in self.prior.tensors().items()}
        if self.quantiles is not None:
            state["interval.quantiles"] = torch.from_numpy(self.quantiles)
        return state

    @classmethod
    def from_state(cls, options: WordModelConfig, feature_cols: Sequence[str], state: dict[str, Tensor]) -> WordModel:
        """The model that a state dict describes.

        Raises
        ------
        KeyError
            The state dict lacks a part.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            part, _, key = name.partition(".")
            parts.setdefault(part, {})[key] = tensor
        heads = {name: WordLogistic(**part) for name, part in parts.items() if name not in ("prior", "interval")}
        if "full" not in heads:
            raise KeyError("full")
        return cls(
            options=options,
            feature_cols=tuple(feature_cols),
            heads=heads,
            prior=TextPrior.from_tensors(parts["prior"]) if "prior" in parts else None,
            quantiles=parts["interval"]["quantiles"].numpy() if "interval" in parts else None,
        )


def check_word_columns(feature_cols: Sequence[str]) -> None:
    """Refuse columns of which the word model makes nothing.

    Raises
    ------
    UserError
    """
    if not any(column in WHISPER_COLUMNS for column in feature_cols):
        raise UserError(
            "data.feature_cols: expected at least one Whisper column for the word model, found none; add one"
        )
    for column in feature_cols:
        if column not in WHISPER_COLUMNS + METRIC_COLUMNS:
            raise UserError(
                f"data.feature_cols: the word model takes Whisper and metric columns, not {column!r}; drop it"
            )
    some = [column for column in DNSMOS_COLUMNS if column in feature_cols]
    if some and len(some) < len(DNSMOS_COLUMNS):
        raise UserError(
            f"data.feature_cols: expected all of {', '.join(DNSMOS_COLUMNS)} or none, found {', '.join(some)}"
        )


def fit_word_model(
    batch: ModelInput, prior: TextPrior | None, prior_logits: np.ndarray | None, options: WordModelConfig
) -> WordModel:
    """Fit a word model to labelled signals.

    Parameters
    ----------
    batch : ModelInput
        With responses.
    prior : TextPrior or None
        For predictions to come.
    prior_logits : ndarray, shape (n_words,), or None
        Logits of these words by a prior that was not fitted to their responses.
    options : WordModelConfig

    Returns
    -------
    WordModel
        Without interval calibration.
    """
    labels = batch_labels(batch)
    heads = {"full": _fit_head(features(batch, prior_logits, options), labels, options.c)}
    if any(column in DNSMOS_COLUMNS for column in batch.feature_cols):
        fewer = WordModelConfig(**{**vars(options), "without": (*options.without, "dns")})
        heads["without_dnsmos"] = _fit_head(features(batch, prior_logits, fewer), labels, options.c)
    return WordModel(options, batch.feature_cols, heads, prior)


def features(batch: ModelInput, prior_logits: np.ndarray | None, options: WordModelConfig) -> WordTable:
    """The features that a model of these options takes."""
    return word_table(batch, prior_logits, ear=options.ear, without=options.without)


def batch_labels(batch: ModelInput) -> np.ndarray:
    """Word labels of a batch, shape (n_words,), 0 or 1, or between where several listeners answered."""
    pairs = zip(batch.words, batch.responses, strict=True)
    return np.array([label for words, response in pairs for label in word_labels(words, response)], dtype=np.float64)


def sentence_means(values: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Mean of word values per signal, shape (n,)."""
    means: np.ndarray = np.bincount(owner, values, minlength=n) / np.bincount(owner, minlength=n)
    return means


def _fit_head(table: WordTable, labels: np.ndarray, c: float) -> WordLogistic:
    standardised = Standardised.of(table.features)
    penalty = [FREER_PENALTY if name.partition(".")[0] in FREER_BLOCKS else 1.0 for name in table.names]
    weight, bias = fit_logistic(standardised(table.features), labels, c, np.array(penalty))
    arrays = {"mean": standardised.mean, "scale": standardised.scale, "weight": weight, "bias": np.array(bias)}
    return WordLogistic(**{name: torch.from_numpy(array) for name, array in arrays.items()})
