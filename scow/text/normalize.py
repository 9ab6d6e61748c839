"""Words of prompts and transcripts, and their normalisation.

1. **Words of a prompt** (`prompt_words`): ``*`` and ``,`` are removed, every kind of apostrophe becomes a straight one,
   and the rest is split at white space. A ``?`` stands for a word that nobody could make out; it is a word of the
   prompt that no transcript can hit.
2. **Normalisation** (`normalize_word`, `normalize_text`): lower case, contractions expanded, numbers spelt out,
   punctuation removed. A hyphen or dash separates words.
3. **Contractions** follow the challenge's normalised prompts, counted over the train metadata, because a transcript is
   compared with those: ``can't`` is one word (cannot), ``gotta`` is "go to", ``i'd`` "i had"; 's is "is" only after it,
   that, there, he, she, what and who (``seattle's`` and ``where's`` stay). ``contractions.csv`` lists the irregular
   ones and those written without an apostrophe; the regular endings are rules. Words that mean something else without
   an apostrophe (were, well, id, shell) are left alone.

Two errors of the published code are corrected: it removed digits before numbers were spelt ("99 problems" became
"problems"), and it removed the curly apostrophe before contractions were expanded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scow.text import word_table

if TYPE_CHECKING:
    import inflect

APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")
CONTRACTIONS = word_table("contractions.csv")
ENDINGS = {"'m": "am", "'re": "are", "'ve": "have", "'ll": "will"}
BEFORE_IS = ("it", "that", "there", "he", "she", "what", "who")  # elsewhere 's is a possessive
BEFORE_HAD = ("i", "he", "she")  # elsewhere 'd is "would"
MAX_DIGITS = 12  # nobody sings a longer number


def prompt_words(prompt: str) -> tuple[str, ...]:
    """Words of a prompt, as the rows of a feature table hold them."""
    return tuple(prompt.replace("*", "").replace(",", "").translate(APOSTROPHES).split())


def bare_word(text: str) -> str:
    """Lower-cased, with everything but word characters and apostrophes removed; may be empty."""
    return re.sub(r"[^\w']", "", text.lower().translate(APOSTROPHES)).replace("_", "")


def expand_contraction(word: str) -> tuple[str, ...]:
    """Parts of a contraction (``i'm`` is i, am), given as `bare_word` makes it; another word is returned alone."""
    if word in CONTRACTIONS:
        return tuple(CONTRACTIONS[word].split())
    if word.endswith("n't") and word != "ain't" and len(word) > 3:
        return (word[:-3], "not")
    for ending, part in ENDINGS.items():
        if word.endswith(ending) and word != ending:
            return (word.removesuffix(ending), part)
    if word.endswith("'s") and word[:-2] in BEFORE_IS:
        return (word[:-2], "is")
    if word.endswith("'d") and len(word) > 2:
        return (word[:-2], "had" if word[:-2] in BEFORE_HAD else "would")
    return (word,)


def normalize_word(word: str) -> tuple[str, ...]:
    """Normalised words of a piece of text without white space; none where it is only punctuation."""
    parts: list[str] = []
    for piece in re.split(r"[-‐‑–—/]", word.translate(APOSTROPHES)):
        for spelt in _spell_number(piece).split():
            parts.extend(part for part in expand_contraction(bare_word(spelt)) if part.strip("'"))
    return tuple(parts)


def normalize_text(text: str) -> tuple[str, ...]:
    """Normalised words of a transcript."""
    return tuple(part for word in text.split() for part in normalize_word(word))


def normalize_prompt(words: Sequence[str]) -> tuple[str, ...]:
    """Normalised words of a prompt; a word of only punctuation stays, as one that no transcript hits.

    The published sentence scores count such words: "feel our ?" has three.
    """
    return tuple(part for word in words for part in (normalize_word(word) or (word,)))


def _spell_number(piece: str) -> str:
    """``99`` becomes "ninety nine", ``1st`` "first", ``1999`` "nineteen ninety nine"; other text is left alone."""
    match = re.fullmatch(r"\W*(\d[\d,]*)(st|nd|rd|th)?\W*", piece.lower())
    if match is None:
        return piece
    digits, ordinal = match[1].replace(",", ""), match[2] or ""
    if len(digits) > MAX_DIGITS:
        return piece
    speller = _inflect()
    if not ordinal and "," not in match[1] and 1100 <= int(digits) <= 1999:  # a year: nineteen oh five
        century, rest = str(speller.number_to_words(digits[:2])), digits[2:]
        spelt = f"{century} {'hundred' if rest == '00' else speller.number_to_words(rest, group=2, zero='oh')}"
    else:
        spelt = str(speller.number_to_words(digits + ordinal, andword=""))
    return re.sub(r"[^a-z]+", " ", spelt)


@functools.lru_cache(maxsize=1)
def _inflect() -> inflect.engine:
    import inflect  # here, and once: it takes long

    return inflect.engine()
