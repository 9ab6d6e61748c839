"""The text prior: how likely a word is written down, from the prompt and the hearing loss alone.

A word-level logistic regression fitted to the prompts and responses of many labelled signals; no audio is needed.
Its features are

- dense, standardised: the word's text features (`scow.models.word_features`), the number of words, the prompt's mean
  Zipf frequency, length and share of function words, the hearing loss (one-hot), the Zipf frequency of the neighbours,
  the prompt's smallest Zipf frequency, log of the number of words, the prompt's length in characters,
  (position - 1/2)^2, Zipf^2;
- identities, 0/1 columns: the word, the previous and the next word, both bigrams, and the word's character bi- and
  trigrams (of its first 16 letters) with its ends marked; only those that occur in at least three tracks.

An identity is known by a 64-bit hash, so that the model consists of tensors alone. Its logit per word, and the logit's
mean over the sentence, are two features of the word model.

A word counts as often as listeners answered.

The word model is fitted with logits of priors that did not see the responses to these words (`PriorCorpus`): where
its signals are in the corpus, their logits come from priors of other folds, by group. Where a cross-validation holds
out groups, no prior sees them either.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack

from scow.data.metadata import SignalRecord
from scow.data.tables import HEARING_LOSSES
from scow.errors import expect
from scow.models.groups import group_folds
from scow.models.inputs import ModelInput
from scow.models.word_features import FUNCTION_WORDS, MAX_LETTERS, word_text
from scow.text.labels import split_responses, word_labels
from scow.text.normalize import prompt_words

EDGE_ZIPF = 7.0  # stands for the neighbour beyond either end of a prompt; about as common as "the"
MIN_TRACKS = 3
PRIOR_FOLDS = 5
ONE_HOT = slice(11, 14)  # columns of the hearing loss among the dense features
CACHED_PROMPTS = 10_000  # the same prompts come again, at each hearing loss and in each fold

Text = tuple[str, str]  # a prompt and a hearing loss


@dataclass(frozen=True)
class TextPrior:
    """A fitted text prior."""

    identities: np.ndarray  # shape (k,), int64, hashes in ascending order
    identity_weights: np.ndarray  # shape (k,)
    dense_mean: np.ndarray  # shape (p,)
    dense_scale: np.ndarray  # shape (p,)
    dense_weights: np.ndarray  # shape (p,)
    intercept: np.ndarray  # shape ()

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Logit of each word of each prompt, in order, shape (n_words,)."""
        dense, identities, n_identities = _features(texts)
        standardised = (dense - self.dense_mean) / self.dense_scale
        found = _columns(identities, n_identities, self.identities)
        logits: np.ndarray = standardised @ self.dense_weights + found @ self.identity_weights + self.intercept
        return logits


class PriorCorpus:
    """Prompts with responses, and the text priors fitted to parts of them, each fitted once."""

    def __init__(self, records: Iterable[SignalRecord] = ()) -> None:
        self.records = tuple(records)
        self._labels = [word_labels(prompt_words(record.prompt), record.response) for record in self.records]
        self._listeners = [len(split_responses(record.response)) for record in self.records]
        self._priors: dict[tuple[frozenset[int], float], TextPrior] = {}

    def prior(self, c: float, held: frozenset[str] = frozenset()) -> TextPrior:
        """The prior of all records but those of the tracks, prompts or signals `held`."""
        kept = [i for i, r in enumerate(self.records) if held.isdisjoint((r.track, r.prompt, r.signal))]
        key = (frozenset(kept), c)
        if key not in self._priors:
            expect(kept, "data.prior_metadata", "prompts beyond the held-out groups", "none")
            labels = np.array([label for i in kept for label in self._labels[i]], dtype=np.float64)
            listeners = np.repeat([self._listeners[i] for i in kept], [len(self._labels[i]) for i in kept])
            self._priors[key] = fit_text_prior([self.records[i] for i in kept], labels, c, listeners)
        return self._priors[key]

    def unseen_logits(
        self, inputs: ModelInput, groups: Sequence[str], c: float, held: frozenset[str], seed: int
    ) -> np.ndarray:
        """Logits of the words of `inputs`, shape (n_words,), of priors that saw none of the responses to them."""
        logits = self.prior(c, held).logits(inputs.prior_texts)
        known = {record.signal for record in self.records}
        inside = np.array([i for i, signal in enumerate(inputs.signals) if signal in known], dtype=np.int64)
        groups_inside = [groups[i] for i in inside]
        n_folds, rng = min(PRIOR_FOLDS, len(set(groups_inside))), np.random.default_rng(seed)
        folds = group_folds(groups_inside, n_folds, rng) if n_folds > 1 else [np.arange(len(inside))]
        for index in (inside[fold] for fold in folds if len(fold)):
            own = {name for i in index for name in (groups[i], inputs.prompts[i], inputs.signals[i])}
            part = inputs.take(torch.from_numpy(index))
            logits[np.isin(inputs.word_signals, index)] = self.prior(c, held | own).logits(part.prior_texts)
        return logits


def fit_text_prior(
    records: Sequence[SignalRecord], labels: np.ndarray, c: float, weights: np.ndarray | float = 1.0
) -> TextPrior:
    """Fit to the words of the records' prompts, whose labels and weights have shape (n_words,)."""
    dense, identities, n_identities = _features([(record.prompt, record.hearing_loss) for record in records])
    of_track: dict[str, set[int]] = defaultdict(set)
    for record in records:
        of_track[record.track or record.prompt].update(_prompt_features(record.prompt)[1].tolist())
    n_tracks = Counter(itertools.chain.from_iterable(of_track.values()))
    known = np.array(sorted(identity for identity, n in n_tracks.items() if n >= MIN_TRACKS), dtype=np.int64)
    mean, scale = standardisation(dense)
    features = hstack([csr_matrix((dense - mean) / scale), _columns(identities, n_identities, known)]).tocsr()
    weights, intercept = fit_logistic(features, labels, c, weights)
    n_dense = dense.shape[1]
    return TextPrior(known, weights[n_dense:], mean, scale, weights[:n_dense], intercept)


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; a constant column has the scale 1."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    return scaler.mean_, scaler.scale_


def fit_logistic(
    features: np.ndarray | csr_matrix, labels: np.ndarray, c: float, weights: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Weights w, shape (p,), and intercept that minimise ``sum_i weights_i log-loss_i + sum_j w_j^2 / (2 c)``.

    Labels are 0 or 1, or a share between: such a row counts as a hit and as a miss, weighted.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    hits, misses = labels > 0, labels < 1
    hits[0] = misses[0] = True  # scikit-learn wants both classes, even if one has no weight
    rows = np.concatenate([np.flatnonzero(hits), np.flatnonzero(misses)])
    classes = np.repeat([1, 0], [hits.sum(), misses.sum()])
    of_rows = np.concatenate([labels[hits], 1.0 - labels[misses]]) * np.broadcast_to(weights, labels.shape)[rows]
    regression = LogisticRegression(C=c, tol=1e-8, max_iter=2000)
    with threadpool_limits(1):  # on a busy machine, several threads take many times as long
        regression.fit(features[rows], classes, sample_weight=of_rows)
    return regression.coef_[0], regression.intercept_[0]


def _features(texts: Sequence[Text]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense features of all words, shape (n_words, p), hashed identities, and how many of them each word has."""
    parts = [_prompt_features(prompt) for prompt, _ in texts]
    dense, identities, n_identities = (np.concatenate(part) for part in zip(*parts, strict=True))
    losses = np.repeat([HEARING_LOSSES.index(loss) for _, loss in texts], [len(part[0]) for part in parts])
    dense[:, ONE_HOT] = np.eye(len(HEARING_LOSSES))[losses]
    return dense, identities, n_identities


@functools.lru_cache(maxsize=CACHED_PROMPTS)
def _prompt_features(prompt: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_features` of one prompt, with zeros for the hearing loss."""
    words = tuple(word.lower() for word in prompt_words(prompt))
    text, n = word_text(words), len(words)
    frequency, length, position = text[:, 0], text[:, 1], text[:, 4]
    function = np.mean([word in FUNCTION_WORDS for word in words])
    sentence = [n, frequency.mean(), length.mean(), function, *(0.0 for _ in HEARING_LOSSES)]
    neighbours = np.stack([np.append(EDGE_ZIPF, frequency[:-1]), np.append(frequency[1:], EDGE_ZIPF)], axis=1)
    last = [frequency.min(), np.log(n), min(len(prompt), n * (MAX_LETTERS + 1))]
    squares = np.stack([(position - 0.5) ** 2, frequency**2], axis=1)
    dense = np.concatenate([text, np.tile(sentence, (n, 1)), neighbours, np.tile(last, (n, 1)), squares], axis=1)
    of_word = [_identities(*three) for three in zip(("<s>", *words), words, (*words[1:], "</s>"), strict=False)]
    hashes = np.array([identity for identities in of_word for identity in identities], dtype=np.int64)
    return dense, hashes, np.array([len(identities) for identities in of_word])


def _identities(previous: str, word: str, following: str) -> list[int]:
    marked = f"^{word[:MAX_LETTERS]}$"
    pieces = [marked[start : start + size] for size in (2, 3) for start in range(len(marked) - size + 1)]
    names = (f"w={word}", f"p={previous}", f"n={following}", f"b={previous} {word}", f"c={word} {following}")
    return [_hash(name) for name in (*names, *(f"ch={piece}" for piece in pieces))]


@functools.cache
def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _columns(identities: np.ndarray, n_identities: np.ndarray, known: np.ndarray) -> csr_matrix:
    """How often each known identity is one of each word's, shape (n_words, k)."""
    rows = np.repeat(np.arange(len(n_identities)), n_identities)
    columns = np.searchsorted(known, identities)
    hit = np.append(known, np.iinfo(np.int64).min)[columns] == identities
    return csr_matrix((np.ones(hit.sum()), (rows[hit], columns[hit])), shape=(len(n_identities), len(known)))
