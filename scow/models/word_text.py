"""What the text of a prompt says about each of its words, before anyone has heard it.

Per word: Zipf frequency in English (wordfreq; log10 of occurrences per billion words, 0 where unknown), length in
characters, whether it is a function word, whether it occurs more than once in the prompt, its position (0 first to
1 last), and whether it is the first or the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TEXT_NAMES = ("zipf", "length", "function", "repeated", "position", "first", "last")
FUNCTION_WORDS = frozenset(
    """
    a an the and or but if so as at by for from in into of off on onto out over to up with about
    i me my you your he him his she her it its we us our they them their this that these those
    is am are was were be been do does did have has had will would can could not no there
    what who how when where all just
    """.split()
)


def word_text(words: Sequence[str]) -> np.ndarray:
    """Text features of each word of one prompt.

    Parameters
    ----------
    words : sequence of str, length n
        Words of the prompt.

    Returns
    -------
    ndarray, shape (n, 7)
        In the order of `TEXT_NAMES`.
    """
    lower = [word.lower() for word in words]
    n = len(lower)
    features = np.zeros((n, len(TEXT_NAMES)))
    for i, word in enumerate(lower):
        position = i / max(1, n - 1)
        features[i] = (
            zipf(word),
            len(word),
            word in FUNCTION_WORDS,
            lower.count(word) > 1,
            position,
            i == 0,
            i == n - 1,
        )
    return features


def zipf(word: str) -> float:
    """Zipf frequency of an English word, about 1 (rare) to 8 (the); 0 where unknown."""
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "en"))
