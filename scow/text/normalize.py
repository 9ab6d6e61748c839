"""Words of prompts and transcripts, and their normalisation.

1. **Words of a prompt** (`prompt_words`): ``*`` and ``,`` are removed, every kind of apostrophe becomes a straight one,
   and the rest is split at white space. A ``?`` stands for a word that nobody could make out; it is a word of the
   prompt that no transcript can hit.
2. **Normalisation** (`normalize_word`, `normalize_text`): lower case, contractions expanded, numbers spelt out as they
   are sung (years, decades, decimals, clock times, money), punctuation removed. A hyphen or dash separates words.
3. **Contractions** follow the challenge's normalised prompts, counted over the train metadata, because a transcript is
   compared with those: ``can't`` is one word (cannot), ``gotta`` is "go to", ``i'd`` "i had"; 's is "is" only after it,
   that, there, he, she, what and who (``seattle's`` and ``where's`` stay). A dropped g returns (``livin'``), unless the
   word without it is the more frequent one, in quotes (``'come again'``). ``contractions.csv`` lists the irregular ones
   and those written without an apostrophe; the regular endings are rules. Words that mean something else without an
   apostrophe (were, well, id, shell) are left alone.

Two errors of the published code are corrected: it removed digits before numbers were spelt ("99 problems" became
"problems"), and it removed the curly apostrophe before contractions were expanded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scow.text import word_table, zipf

if TYPE_CHECKING:
    import inflect

APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")
CONTRACTIONS = word_table("contractions.csv")
ENDINGS = {"'m": "am", "'re": "are", "'ve": "have", "'ll": "will"}
BEFORE_IS = ("it", "that", "there", "he", "she", "what", "who")  # elsewhere 's is a possessive
BEFORE_HAD = ("i", "he", "she")  # elsewhere 'd is "would"
MAX_DIGITS = 12  # nobody sings a longer number
ORDINALS = ("st", "nd", "rd", "th")
UNITS = {"$": "dollar", "£": "pound", "€": "euro", "¢": "cent", "%": "percent"}
HALF = re.compile(r"((?<=\d)|\b(?=[ap]\.))([ap])\.?m\b(?!')")  # of the day: 6pm, p.m.; the challenge writes "six p m"
CLOCK = re.compile(r"\W*([01]?\d|2[0-3]):([0-5]\d)( [ap] m)?\W*")
NUMBER = re.compile(
    r"[^\w$£€]*(?P<before>[$£€]?)(?P<digits>\d[\d,]*)(?:\.(?P<decimals>\d+))?"
    r"(?P<ending>st|nd|rd|th|'?s|[$£€¢%]| [ap] m)?\W*"
)


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
    if word.endswith("in'") and len(word) > 3 and zipf(f"{word[:-1]}g") >= zipf(word[:-1]):
        return (f"{word[:-1]}g",)
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
    """Numbers in words, other text unchanged.

    ``99`` becomes "ninety nine", ``1st`` "first", ``1999`` "nineteen ninety nine", ``'90s`` "nineties", ``3.5`` "three
    point five", ``7:05`` "seven oh five", ``$5`` "five dollars", ``6pm`` "six p m".
    """
    text = HALF.sub(r" \2 m", piece.lower())
    if not re.search(r"\d", text):
        return text
    if clock := CLOCK.fullmatch(text):
        hours, minutes, half = clock.groups(default="")
        return f"{_in_words(hours)} {_pair(minutes) if int(minutes) else ''}{half}"
    number = NUMBER.fullmatch(text) or NUMBER.fullmatch(bare_word(text))
    if number is None or max(map(len, number.groups(default=""))) > MAX_DIGITS:
        return text
    before, digits, decimals, ending = number.groups(default="")
    unit, whole, is_ordinal = UNITS.get(before or ending), digits.replace(",", ""), ending in ORDINALS
    if unit and not decimals.strip("0"):
        decimals = ""
    if 1100 <= int(whole) <= 1999 and not (unit or is_ordinal or decimals or "," in digits):  # a year: nineteen oh five
        spelt = f"{_in_words(whole[:2])} {'hundred' if whole.endswith('00') else _pair(whole[2:])}"
    elif before and len(decimals) == 2:  # a price: four ninety nine
        return f"{_in_words(whole)} {_pair(decimals)}"
    else:
        spelt = _in_words(whole + f".{decimals}" * bool(decimals) + ending * is_ordinal)
    if ending.endswith("s"):  # a decade
        return str(_inflect().plural_noun(spelt.removeprefix("one ")))
    if unit:
        return f"{spelt} {unit if spelt == 'one' or unit == 'percent' else f'{unit}s'}"
    return spelt if is_ordinal else spelt + ending


def _in_words(digits: str) -> str:
    return re.sub(r"[^a-z]+", " ", str(_inflect().number_to_words(digits, andword=""))).strip()


def _pair(digits: str) -> str:
    """Two digits as the end of a year, a clock time or a price: thirty, oh five."""
    return f"oh {_in_words(digits[1])}" if digits[0] == "0" else _in_words(digits)


@functools.lru_cache(maxsize=1)
def _inflect() -> inflect.engine:
    import inflect  # here, and once: it takes long

    return inflect.engine()
