"""The words of lyrics, transcripts and responses; tables of contractions and of words that count as the same as CSV."""

from __future__ import annotations

import csv
import functools
from importlib.resources import files


def word_table(name: str) -> dict[str, str]:
    """A CSV file of this folder with two columns, as a dict; the header is left out."""
    rows = csv.reader((files(__name__) / name).read_text(encoding="utf-8").splitlines()[1:])
    return dict(rows)


@functools.cache
def zipf(word: str) -> float:
    """Zipf frequency of an English word, about 1 (rare) to 8 (the); 0 where unknown."""
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "en"))
