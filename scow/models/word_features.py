"""Features of each prompt word for the word model.

With W the word scores of a signal (channel, word, Whisper column) and S its sentence scores (channel, column), in this
order:

- `agg`: mean of W over channels and columns; mean of the better ear; standard deviation over channels and columns;
  share of hits (scores above 0);
- `nb`: mean and hit share of the neighbours, the word itself left out, within one word and within two;
- `sent`: mean of S, mean of the better ear, standard deviation, largest, smallest; the sentence's mean word score and
  hit share;
- `n`: number of words; `hearing_loss`: one-hot;
- `text`: Zipf frequency in English (wordfreq; log10 of occurrences per billion words, 0 where unknown), length in
  characters (at most 16, as in the train prompts), whether it is a function word, whether it occurs more than once in
  the prompt, its position (0 first to 1 last), and whether it is the first or the last;
- `prior`: the text prior's logit, and its mean over the sentence (`scow.models.text_prior`);
- `dns` and `quality`, where the input has their columns: DNSMOS and STOI, eSTOI, PESQ, mean over channels, then
  largest;
- `knots`: max(0, x - knot) of the sentence's mean word score at 0.3 and of the word's at 0.5 and 0.7: intelligibility
  rises with the scores, but not all the way.

The sentence model takes their means over the words of each signal, without `prior`, and of the prompt

- `pseudo`: its length in characters, and its compression ratio by zlib, as openai-whisper computes it to notice loops.

Features of single Whisper columns are not among them: with the aggregates they gain nothing in cross-validation.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np
import pandas as pd

from scow.data.audio import CHANNELS
from scow.data.tables import DNSMOS_COLUMNS, HEARING_LOSSES, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.models.config import WordModelConfig
from scow.models.inputs import ModelInput
from scow.text import zipf

SENTENCE_KNOT = 0.3
WORD_KNOTS = (0.5, 0.7)
MAX_LETTERS = 16  # a stretched word (yeeeeeah) is no easier to understand than the longest one of the train prompts
TEXT_NAMES = ("zipf", "length", "function", "repeated", "position", "first", "last")
FUNCTION_WORDS = frozenset(
    """
    a an the and or but if so as at by for from in into of off on onto out over to up with about
    i me my you your he him his she her it its we us our they them their this that these those
    is am are was were be been do does did have has had will would can could not no there
    what who how when where all just
    """.split()
)


def word_features(inputs: ModelInput, prior_logits: np.ndarray | None, config: WordModelConfig) -> pd.DataFrame:
    """Features of every word of the signals, float64, columns named ``<block>.<feature>``.

    All Whisper columns of `inputs` are used, and its metric columns where it has them. `prior_logits` of the words,
    shape (n_words,), are those of the text prior; None leaves the block out.
    """
    signal, n = inputs.word_signals, len(inputs)  # of each word, and how many signals
    counts = np.bincount(signal, minlength=n)
    row = 1 + np.arange(len(signal)) - np.repeat(np.cumsum(counts) - counts, counts)  # row 0 is the sentence
    channels = [0, 1] if config.ear == "both" else [CHANNELS.index(config.ear)]
    values = inputs.features.numpy()[:, channels].astype(np.float64)
    whisper = [i for i, name in enumerate(inputs.feature_cols) if name in WHISPER_COLUMNS]
    scores = values[signal, :, row][:, :, whisper]  # W by word, channel, column
    sentence = values[:, :, 0][:, :, whisper]  # S by signal, channel, column

    def sentence_mean(of_words: np.ndarray) -> np.ndarray:
        return mean_per_signal(of_words, inputs)[signal]

    mean, hit = scores.mean(axis=(1, 2)), (scores > 0).mean(axis=(1, 2))
    words_mean = sentence_mean(mean)
    flat = sentence.reshape(n, -1)
    text = np.concatenate([word_text(words) for words in inputs.words]).T
    features: dict[str, np.ndarray] = {
        "agg.mean": mean,
        "agg.better_ear": scores.mean(axis=2).max(axis=1),
        "agg.sd": scores.reshape(len(signal), -1).std(axis=1),
        "agg.hit": hit,
        "nb.mean_1": _neighbours(mean, signal, 1),
        "nb.hit_1": _neighbours(hit, signal, 1),
        "nb.mean_2": _neighbours(mean, signal, 2),
        "nb.hit_2": _neighbours(hit, signal, 2),
        "sent.mean": flat.mean(axis=1)[signal],
        "sent.better_ear": sentence.mean(axis=2).max(axis=1)[signal],
        "sent.sd": flat.std(axis=1)[signal],
        "sent.max": flat.max(axis=1)[signal],
        "sent.min": flat.min(axis=1)[signal],
        "sent.words_mean": words_mean,
        "sent.words_hit": sentence_mean(hit),
        "n.words": counts[signal].astype(np.float64),
    }
    for i, name in enumerate(HEARING_LOSSES):
        has_loss = (inputs.hearing_loss.numpy() == i)[signal]
        features[f"hearing_loss.{name.lower().replace(' ', '_')}"] = has_loss.astype(np.float64)
    features |= {f"text.{name}": of_words for name, of_words in zip(TEXT_NAMES, text, strict=True)}
    if prior_logits is not None:
        features |= {"prior.logit": prior_logits, "prior.sentence": sentence_mean(prior_logits)}
    for block, columns in (("dns", DNSMOS_COLUMNS), ("quality", INTRUSIVE_COLUMNS)):
        present = [name for name in columns if name in inputs.feature_cols]
        of_signals = {name: values[:, :, 0, inputs.feature_cols.index(name)] for name in present}
        features |= {f"{block}.{name}_mean": of_signals[name].mean(axis=1)[signal] for name in present}
        features |= {f"{block}.{name}_max": of_signals[name].max(axis=1)[signal] for name in present}
    features[f"knots.sentence_{SENTENCE_KNOT}"] = np.maximum(words_mean - SENTENCE_KNOT, 0.0)
    features |= {f"knots.word_{knot}": np.maximum(mean - knot, 0.0) for knot in WORD_KNOTS}
    return pd.DataFrame({name: v for name, v in features.items() if name.partition(".")[0] not in config.without})


def sentence_features(inputs: ModelInput, config: WordModelConfig) -> pd.DataFrame:
    """Features of every signal: means of those of its words, and what is to say of its prompt."""
    of_words = word_features(inputs, None, config)
    features = {name: mean_per_signal(of_words[name].to_numpy(), inputs) for name in of_words}
    if "pseudo" not in config.without:
        prompts = [" ".join(words).encode() for words in inputs.words]
        features["pseudo.characters"] = np.array([float(len(prompt)) for prompt in prompts])
        features["pseudo.compression"] = np.array([len(prompt) / len(zlib.compress(prompt)) for prompt in prompts])
    return pd.DataFrame(features)


def mean_per_signal(of_words: np.ndarray, inputs: ModelInput) -> np.ndarray:
    """Mean of word values over each signal, shape (n,)."""
    signal, n = inputs.word_signals, len(inputs)
    return np.asarray(np.bincount(signal, of_words, minlength=n) / np.bincount(signal, minlength=n))


@functools.lru_cache(maxsize=10_000)  # in cross-validation, the same prompts come again in each fold
def word_text(words: tuple[str, ...]) -> np.ndarray:
    """Text features of each word of one prompt, shape (n_words, 7), in the order of `TEXT_NAMES`."""
    lower = [word.lower() for word in words]
    lengths = [min(len(word), MAX_LETTERS) for word in lower]
    last = len(lower) - 1
    return np.array(
        [
            (zipf(word), length, word in FUNCTION_WORDS, lower.count(word) > 1, i / max(1, last), i == 0, i == last)
            for i, (word, length) in enumerate(zip(lower, lengths, strict=True))
        ],
        dtype=np.float64,
    )


def _neighbours(values: np.ndarray, signal: np.ndarray, reach: int) -> np.ndarray:
    """Mean over the words of the same signal within `reach`, the word itself left out; itself where it is alone."""
    total, count = np.zeros(len(values)), np.zeros(len(values))
    index = np.arange(len(values))
    for offset in (*range(-reach, 0), *range(1, reach + 1)):
        other = np.clip(index + offset, 0, len(values) - 1)
        same = (other == index + offset) & (signal[other] == signal)
        total += np.where(same, values[other], 0.0)
        count += same
    return np.where(count > 0, total / np.maximum(count, 1), values)
