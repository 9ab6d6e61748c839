"""scow.models.word_text: what each word's text says of it."""

from __future__ import annotations

import numpy as np
import pytest

from scow.models.word_text import FUNCTION_WORDS, TEXT_NAMES, word_text, zipf


def columns(*words: str) -> dict[str, list[float]]:
    return dict(zip(TEXT_NAMES, word_text(words).T.tolist(), strict=True))


def test_a_prompt_by_hand():
    found = columns("The", "hills", "the", "nightingale", "rides")
    assert found["length"] == [3, 5, 3, 11, 5]
    assert found["function"] == [1, 0, 1, 0, 0]
    assert found["repeated"] == [1, 0, 1, 0, 0]  # whatever the case
    assert found["position"] == [0, 0.25, 0.5, 0.75, 1]
    assert found["first"] == [1, 0, 0, 0, 0]
    assert found["last"] == [0, 0, 0, 0, 1]
    assert found["zipf"] == [zipf(word) for word in ("the", "hills", "the", "nightingale", "rides")]


def test_a_single_word_is_first_and_last():
    found = columns("sing")
    assert (found["position"], found["first"], found["last"], found["repeated"]) == ([0], [1], [1], [0])


def test_no_word():
    assert word_text(()).shape == (0, len(TEXT_NAMES))


def test_frequencies():
    # The docstring's scale: "the" is some 5 % of English, 10**7.7 per billion; the others in their order.
    assert zipf("the") == pytest.approx(7.7, abs=0.1)
    assert zipf("the") > zipf("love") > zipf("nightingale") > 1
    assert zipf("zxqvbn") == zipf("?") == 0.0


def test_function_words_are_words():
    assert {"the", "i", "not", "just"} <= FUNCTION_WORDS
    assert not {"love", "baby", ""} & FUNCTION_WORDS
    assert all(word == word.lower().strip() for word in FUNCTION_WORDS)


def test_values_are_finite_for_odd_words():
    assert np.isfinite(word_text(("?", "'", "ärger", "99", "nan", "x" * 200))).all()
