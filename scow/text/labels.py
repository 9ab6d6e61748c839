"""Which words of a prompt a transcript or a response contains.

1. **Hit rate** (`hit_rate`): hits / (hits + substitutions + deletions) of the Levenshtein alignment of the normalised
   transcript with the normalised prompt, as jiwer counts them.
2. **Word labels** (`word_labels`): which words of a prompt a listener wrote down, from the response as the metadata
   normalise it. Words are compared as they are written, with two exceptions that the challenge's own counts make:
   spellings and homophones of ``same_words.csv`` are the same word (`too` and `to`, `cos` and `because`), and two
   rewritings in the metadata are undone: `your`, which is "you are" in every response, and `its`. Of these readings of
   a response the one with most hits counts. The mean over a sentence equals the official correctness for 99 % of the
   CLIP1 signals.
3. **Several listeners** (CLIP2): their responses are one text with ``|`` between them, and a label is the share of the
   listeners who wrote the word down.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from scow.errors import SignalError
from scow.text import word_table
from scow.text.normalize import APOSTROPHES, normalize_prompt, normalize_text

RESPONSE_SEPARATOR = " | "
SAME_WORDS = word_table("same_words.csv")  # found by comparing the challenge's word counts with responses (train)


def hit_rate(words: Sequence[str], transcript: str) -> float:
    """Share of the words of a prompt that a transcript hits, in 0 to 1; an empty transcript hits none."""
    reference = normalize_prompt(words)
    if not reference:
        raise SignalError("expected a prompt with at least one word, found none")
    return sum(_hits(reference, normalize_text(transcript))) / len(reference)


def word_labels(words: Sequence[str], response: str) -> tuple[float, ...]:
    """Label of each word of a prompt: 1 where it was written down, else 0; the mean over several listeners."""
    labels = [_labels(words, one) for one in split_responses(response)]
    if len(labels) == 1:
        return labels[0]
    return tuple(sum(of_word) / len(labels) for of_word in zip(*labels, strict=True))


def join_responses(responses: Sequence[str]) -> str:
    """Responses of several listeners as one text, as a cell of a table holds them."""
    return RESPONSE_SEPARATOR.join(response.replace("|", " ") for response in responses)


def split_responses(text: str) -> tuple[str, ...]:
    """Responses of such a text; at least one, which may be empty."""
    return tuple(response.strip() for response in text.split("|"))


def _labels(words: Sequence[str], response: str) -> tuple[int, ...]:
    """Labels by one listener, from the reading of the response with most hits."""
    reference = [_spelling(word) for word in words]
    readings = [response, response.replace("you are", "your")]
    readings += [reading.replace("it is", "its") for reading in readings]
    return max(
        (_hits(reference, [_spelling(word) for word in reading.split()]) for reading in dict.fromkeys(readings)),
        key=sum,
    )


@functools.cache
def _spelling(word: str) -> str:
    """One spelling for all words that count as the same."""
    lower = word.lower().translate(APOSTROPHES)
    return SAME_WORDS.get(lower, lower.replace("'", "") or lower)


def _hits(reference: Sequence[str], words: Sequence[str]) -> tuple[int, ...]:
    """1 for each word of the reference that the alignment hits, else 0; jiwer aligns by this function too."""
    hits = [0] * len(reference)
    for block in Levenshtein.opcodes(reference, words):
        if block.tag == "equal":
            hits[block.src_start : block.src_end] = [1] * (block.src_end - block.src_start)
    return tuple(hits)
