"""What the word model knows of each prompt word.

With W the word scores of a signal (ear, word, Whisper column) and S its sentence scores (ear, column), in this order:

- `agg`: mean of W over ears and columns; mean of the better ear; standard deviation over ears and columns; share of
  hits (scores above 0);
- `nb`: mean and hit share of the neighbours, the word itself left out, within one word and within two;
- `sent`: mean of S, mean of the better ear, standard deviation, largest, smallest; the sentence's mean word score and
  hit share;
- `n`: number of words; `severity`: one-hot;
- `text`: see `scow.models.word_text`;
- `prior`: the text prior's logit, and its mean over the sentence (`scow.models.text_prior`);
- `dns` and `quality`, where the batch has their columns: DNSMOS and STOI, eSTOI, PESQ, mean over ears, then largest;
- `hinge`: max(0, x - knot) of the sentence's mean word score at 0.3 and of the word's at 0.5 and 0.7: hearing rises
  with the scores, but not all the way.

Features of single Whisper columns are not among them: with the aggregates they gain nothing in cross-validation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from scow.data.audio import CHANNELS
from scow.data.tables import DNSMOS_COLUMNS, HEARING_LOSSES, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.models.inputs import ModelInput
from scow.models.text_prior import PriorText
from scow.models.word_text import TEXT_NAMES, word_text

BLOCKS = ("agg", "nb", "sent", "n", "severity", "text", "prior", "dns", "quality", "hinge")
SENTENCE_KNOT = 0.3
WORD_KNOTS = (0.5, 0.7)


@dataclass(frozen=True)
class WordTable:
    """Features of the words of many signals.

    Attributes
    ----------
    features : ndarray, shape (n_words, p), float64
    owner : ndarray, shape (n_words,), int64
        Index of each word's signal.
    names : tuple of str, length p
        ``<block>.<feature>``.
    """

    features: np.ndarray
    owner: np.ndarray
    names: tuple[str, ...]


def prior_texts(batch: ModelInput) -> list[PriorText]:
    """Prompts and severities of a batch, as the text prior takes them."""
    return [
        PriorText(" ".join(words), HEARING_LOSSES[severity])
        for words, severity in zip(batch.words, batch.severity.tolist(), strict=True)
    ]


def word_table(
    batch: ModelInput, prior_logits: np.ndarray | None, *, ear: str = "both", without: Collection[str] = ()
) -> WordTable:
    """Features of every word of a batch.

    Parameters
    ----------
    batch : ModelInput
        All its Whisper columns are used, and its metric columns where it has them.
    prior_logits : ndarray, shape (n_words,), or None
        Logits of the text prior; None leaves the block out.
    ear : str
        ``both``, or the one ear to listen with.
    without : collection of str
        Blocks to leave out.

    Returns
    -------
    WordTable
    """
    columns = [i for i, name in enumerate(batch.feature_cols) if name in WHISPER_COLUMNS]
    counts = np.array([len(words) for words in batch.words])
    owner = np.repeat(np.arange(len(batch)), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    ears = [0, 1] if ear == "both" else [CHANNELS.index(ear)]
    everything = batch.features.numpy()[:, ears].astype(np.float64)
    scores = everything[owner, :, place + 1][:, :, columns]  # word, ear, column; row 0 is the sentence
    sentence = everything[:, :, 0][:, :, columns]  # signal, ear, column

    def mean_of_sentence(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, values, minlength=len(batch)) / counts

    mean, hit = scores.mean(axis=(1, 2)), (scores > 0).mean(axis=(1, 2))
    sentence_mean = mean_of_sentence(mean)[owner]
    flat = sentence.reshape(len(batch), -1)
    blocks: dict[str, dict[str, np.ndarray]] = {
        "agg": {
            "mean": mean,
            "better_ear": scores.mean(axis=2).max(axis=1),
            "sd": scores.reshape(len(owner), -1).std(axis=1),
            "hit": hit,
        },
        "nb": {
            f"{name}_{reach}": _neighbours(values, owner, reach)
            for reach in (1, 2)
            for name, values in (("mean", mean), ("hit", hit))
        },
        "sent": {
            "mean": flat.mean(axis=1)[owner],
            "better_ear": sentence.mean(axis=2).max(axis=1)[owner],
            "sd": flat.std(axis=1)[owner],
            "max": flat.max(axis=1)[owner],
            "min": flat.min(axis=1)[owner],
            "words_mean": sentence_mean,
            "words_hit": mean_of_sentence(hit)[owner],
        },
        "n": {"words": counts[owner].astype(np.float64)},
        "severity": {
            name.lower().replace(" ", "_"): (batch.severity.numpy() == i)[owner].astype(np.float64)
            for i, name in enumerate(HEARING_LOSSES)
        },
        "text": dict(zip(TEXT_NAMES, np.concatenate([word_text(words) for words in batch.words]).T, strict=True)),
    }
    if prior_logits is not None:
        blocks["prior"] = {"logit": prior_logits, "sentence": mean_of_sentence(prior_logits)[owner]}
    for block, metrics in (("dns", DNSMOS_COLUMNS), ("quality", INTRUSIVE_COLUMNS)):
        present = [column for column in metrics if column in batch.feature_cols]
        values = everything[:, :, 0][:, :, [batch.feature_cols.index(column) for column in present]]
        over_ears = {"mean": values.mean(axis=1), "max": values.max(axis=1)}
        blocks[block] = {
            f"{column}_{name}": of_ears[owner, i]
            for name, of_ears in over_ears.items()
            for i, column in enumerate(present)
        }
    blocks["hinge"] = {f"sentence_{SENTENCE_KNOT}": np.maximum(sentence_mean - SENTENCE_KNOT, 0.0)} | {
        f"word_{knot}": np.maximum(mean - knot, 0.0) for knot in WORD_KNOTS
    }
    named = {
        f"{block}.{name}": values
        for block, features in blocks.items()
        if block not in without
        for name, values in features.items()
    }
    return WordTable(np.stack(list(named.values()), axis=1), owner, tuple(named))


def _neighbours(values: np.ndarray, owner: np.ndarray, reach: int) -> np.ndarray:
    """Mean over the words of the same signal within `reach`, the word itself left out; itself where it is alone."""
    total, count = np.zeros(len(values)), np.zeros(len(values))
    index = np.arange(len(values))
    for offset in (*range(-reach, 0), *range(1, reach + 1)):
        other = np.clip(index + offset, 0, len(values) - 1)
        same = (other == index + offset) & (owner[other] == owner)
        total += np.where(same, values[other], 0.0)
        count += same
    return np.where(count > 0, total / np.maximum(count, 1), values)
