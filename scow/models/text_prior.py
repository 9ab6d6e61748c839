"""The text prior: how likely a word is written down, from the prompt and the severity alone.

A word-level logistic model fitted to the prompts and responses of many labelled signals, of which no audio is needed.
Its features are

- dense, standardised: the word's own text (`scow.models.word_text`), the number of words, the prompt's mean Zipf frequency,
  length and share of function words, the severity (one-hot), the Zipf frequency of the neighbours, the prompt's
  smallest Zipf frequency, log of the number of words, the prompt's length in characters, (position - 1/2)^2, Zipf^2;
- identities, 0/1 columns: the word, the previous and the next word, both bigrams, and the word's character bi- and
  trigrams with its ends marked; only those that occur in at least three tracks.

An identity is known by a 64-bit hash, so that the model consists of tensors alone. Its logit per word, and the logit's
mean over the sentence, are two features of the word model.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, hstack
from torch import Tensor

from scow.data.tables import HEARING_LOSSES
from scow.models.logistic import Standardised, fit_logistic
from scow.models.word_text import FUNCTION_WORDS, word_text
from scow.text.normalize import prompt_words

EDGE_ZIPF = 7.0  # stands for the neighbour beyond either end of a prompt; about as common as "the"
MIN_TRACKS = 3
PRIOR_C = 0.02


@dataclass(frozen=True)
class PriorText:
    """A prompt and the severity at which it is heard."""

    prompt: str
    hearing_loss: str


@dataclass(frozen=True)
class TextPrior:
    """A fitted text prior.

    Attributes
    ----------
    identities : ndarray, shape (k,), int64
        Hashes, ascending.
    identity_weights : ndarray, shape (k,)
    dense : Standardised
    dense_weights : ndarray, shape (p,)
    intercept : float
    """

    identities: np.ndarray
    identity_weights: np.ndarray
    dense: Standardised
    dense_weights: np.ndarray
    intercept: float

    def logits(self, texts: Sequence[PriorText]) -> np.ndarray:
        """Logit of each word of each prompt, in order, shape (n_words,)."""
        dense, hashes = _features(texts)
        found = _columns(hashes, self.identities)
        logits: np.ndarray = self.dense(dense) @ self.dense_weights + found @ self.identity_weights + self.intercept
        return logits

    def tensors(self) -> dict[str, Tensor]:
        """The prior as tensors, for a checkpoint."""
        import torch

        arrays = {
            "identities": self.identities,
            "identity_weights": self.identity_weights,
            "dense_mean": self.dense.mean,
            "dense_scale": self.dense.scale,
            "dense_weights": self.dense_weights,
            "intercept": np.array(self.intercept),
        }
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> TextPrior:
        """The prior that `tensors` describes."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(
            identities=arrays["identities"],
            identity_weights=arrays["identity_weights"],
            dense=Standardised(arrays["dense_mean"], arrays["dense_scale"]),
            dense_weights=arrays["dense_weights"],
            intercept=float(arrays["intercept"]),
        )


def fit_text_prior(
    texts: Sequence[PriorText], labels: np.ndarray, groups: Sequence[str], c: float = PRIOR_C
) -> TextPrior:
    """Fit a text prior.

    Parameters
    ----------
    texts : sequence of PriorText, length n
    labels : ndarray, shape (n_words,)
        1 for a word that was written down, in the order of the prompts.
    groups : sequence of str, length n
        Track of each text: an identity that fewer than three of them share says nothing of others.
    c : float
        Inverse strength of the regularisation.

    Returns
    -------
    TextPrior
    """
    dense, hashes = _features(texts)
    tracks: dict[int, set[str]] = defaultdict(set)
    owner = [group for text, group in zip(texts, groups, strict=True) for _ in prompt_words(text.prompt)]
    for group, of_word in zip(owner, hashes, strict=True):
        for identity in of_word:
            tracks[identity].add(group)
    known = np.array(sorted(key for key, seen in tracks.items() if len(seen) >= MIN_TRACKS), dtype=np.int64)
    standardised = Standardised.of(dense)
    features = hstack([csr_matrix(standardised(dense)), _columns(hashes, known)]).tocsr()
    weights, intercept = fit_logistic(features, labels, c)
    n_dense = dense.shape[1]
    return TextPrior(known, weights[n_dense:], standardised, weights[:n_dense], intercept)


def _features(texts: Sequence[PriorText]) -> tuple[np.ndarray, list[list[int]]]:
    """Dense features, shape (n_words, p), and hashed identities of each word."""
    dense: list[np.ndarray] = []
    hashes: list[list[int]] = []
    for text in texts:
        words = [word.lower() for word in prompt_words(text.prompt)]
        dense.append(_dense(words, text))
        hashes += [[_hash(name) for name in _identities(words, i)] for i in range(len(words))]
    return np.concatenate(dense), hashes


def _dense(words: Sequence[str], text: PriorText) -> np.ndarray:
    own = word_text(words)
    n = len(words)
    frequency, length, position = own[:, 0], own[:, 1], own[:, 4]
    function = np.mean([word in FUNCTION_WORDS for word in words])
    severity = [float(text.hearing_loss == name) for name in HEARING_LOSSES]
    sentence = [n, frequency.mean(), length.mean(), function, *severity]
    last = [frequency.min(), np.log(n), len(text.prompt)]
    neighbours = np.stack(
        [np.append(EDGE_ZIPF, frequency[:-1]), np.append(frequency[1:], EDGE_ZIPF)],
        axis=1,
    )
    squares = np.stack([(position - 0.5) ** 2, frequency**2], axis=1)
    return np.concatenate([own, np.tile(sentence, (n, 1)), neighbours, np.tile(last, (n, 1)), squares], axis=1)


def _identities(words: Sequence[str], i: int) -> Iterable[str]:
    word = words[i]
    previous = words[i - 1] if i else "<s>"
    following = words[i + 1] if i + 1 < len(words) else "</s>"
    yield from (f"w={word}", f"p={previous}", f"n={following}", f"b={previous} {word}", f"c={word} {following}")
    marked = f"^{word}$"
    for size in (2, 3):
        for start in range(len(marked) - size + 1):
            yield f"ch={marked[start : start + size]}"


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _columns(hashes: Sequence[Sequence[int]], known: np.ndarray) -> csr_matrix:
    """How often each known identity is one of each word's, shape (n_words, k)."""
    flat = np.fromiter((identity for of_word in hashes for identity in of_word), dtype=np.int64)
    rows = np.repeat(np.arange(len(hashes)), [len(of_word) for of_word in hashes])
    at = np.searchsorted(known, flat)
    hit = (at < len(known)) & (known[np.minimum(at, max(len(known) - 1, 0))] == flat if len(known) else False)
    return csr_matrix((np.ones(int(hit.sum())), (rows[hit], at[hit])), shape=(len(hashes), len(known)))
