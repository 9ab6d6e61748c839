"""Words of lyrics and transcripts: how they are split, folded, and counted as heard.

Three things are said here once, for all stages:

1. **The words of a prompt** (`prompt_words`): ``*`` and ``,`` are removed, the curly apostrophe becomes a straight
   one, and the rest is split at white space. A ``?`` stands for a word that nobody could make out; it is a word of
   the prompt that no transcript can hit.
2. **Folding** (`normalize_word`, `normalize_text`): lower case, contractions expanded, numbers spelt out, punctuation
   removed. Contractions follow the challenge's own normalised prompts, counted over the train metadata, because that
   is what a transcript has to meet: ``can't`` is one word (cannot), ``gotta`` is "go to", ``i'd`` "i had", 's is "is"
   after it, that, there, he, she, what and who alone (``seattle's`` and ``where's`` stay). A hyphen separates words.
3. **The hit rate** (`hit_rate`): hits / (hits + substitutions + deletions) of the Levenshtein alignment of the folded
   transcript with the folded prompt, as jiwer counts them.

4. **Word labels** (`word_labels`): which words of a prompt the listener wrote down, from the normalised response. The
   words are compared as they stand, but for spellings and homophones that the challenge counts as hits (`too` for `to`,
   `cos` for `because`, `here` for `hear`), and for rewritings of the metadata that it undoes: `your`, which stands as
   "you are" in every response, and `its`. Of these readings of a response the one with most hits counts. The mean
   over a sentence equals the official correctness for 99 % of the CLIP1 signals. Where several listeners answered,
   their responses stand in one text with ``|`` between them, and a label is the share of them who wrote the word down.

Two faults of the published code are mended on purpose: it removed digits before numbers were spelt ("99 problems"
became "problems"), and it removed the curly apostrophe before contractions were expanded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scow.errors import SignalError

if TYPE_CHECKING:
    import inflect

RESPONSE_SEPARATOR = " | "
APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")

_WHOLE = {
    "can't": "cannot",
    "cant": "cannot",
    "won't": "will not",
    "wont": "will not",
    "shan't": "shall not",
    "let's": "let us",
    "y'all": "you all",
    "ya'll": "you all",
    "'tis": "it is",
    "tis": "it is",
    "'twas": "it was",
    "i'ma": "i am going to",
    "imma": "i am going to",
    "wanna": "want to",
    "gonna": "going to",
    "gotta": "go to",
    "tryna": "trying to",
    "gimme": "give me",
    "lemme": "let me",
    "sorta": "sort of",
    "outta": "out of",
    "why'd": "why did",
    "how'd": "how did",
    "where'd": "where did",
}
# Who takes 's for "is" rather than a possessive, 'd for "had" rather than "would".
_TAKES_IS = frozenset(("it", "that", "there", "he", "she", "what", "who"))
_TAKES_HAD = frozenset(("i", "he", "she"))
_SUFFIXES = {"'m": "am", "'re": "are", "'ve": "have", "'ll": "will"}
# Written without the apostrophe, and no word of their own ("were", "well", "id" and "shell" are).
_BARE = {
    bare.replace("'", ""): bare
    for bare in [
        "i'm",
        "i've",
        "you're",
        "you've",
        "they're",
        "they've",
        "we've",
        "don't",
        "didn't",
        "doesn't",
        "isn't",
        "wasn't",
        "aren't",
        "weren't",
        "haven't",
        "hasn't",
        "hadn't",
        "couldn't",
        "wouldn't",
        "shouldn't",
        "mustn't",
        "he's",
        "she's",
        "that's",
        "there's",
        "what's",
        "who's",
        "you'll",
        "they'll",
        "you'd",
        "they'd",
    ]
}


# What the challenge's own word counts take for the same word, found by comparing them with responses (train metadata).
_SAME_WORD = {
    spelling: group.split()[0]
    for group in [
        "to too two",
        "because cause 'cause cos coz cuz cus",
        "until till til 'til",
        "know no",
        "knew new",
        "hear here",
        "son sun",
        "see sea",
        "there their they're theyre",
        "sonny sunny",
        "write right",
        "tire tyre",
        "programs programmes",
        "planes plains",
        "some sum",
        "way weigh",
        "beat beet",
        "fare fair",
        "t tea",
        "for four",
        "threw through",
        "pharaoh faro",
        "oh owe",
        "by buy bye",
        "would wood",
        "one won",
        "our hour",
        "cannot can't",
        "its it's",
    ]
    for spelling in group.split()
}


def prompt_words(prompt: str) -> tuple[str, ...]:
    """Words of a prompt, as the rows of a feature table hold them."""
    return tuple(prompt.replace("*", "").replace(",", "").translate(APOSTROPHES).split())


def bare_word(text: str) -> str:
    """Lower-cased, with everything but word characters and apostrophes removed; may be empty."""
    return re.sub(r"[^\w']", "", text.lower().translate(APOSTROPHES)).replace("_", "")


def expand_contraction(word: str) -> tuple[str, ...]:
    """Parts of a contraction: ``i'm`` is i, am; a word that is none comes back alone.

    Parameters
    ----------
    word : str
        As `bare_word` makes it.
    """
    word = _BARE.get(word, word)
    if word in _WHOLE:
        return tuple(_WHOLE[word].split())
    if word.endswith("n't") and word != "ain't" and len(word) > 3:
        return (word[:-3], "not")
    for suffix, part in _SUFFIXES.items():
        if word.endswith(suffix) and len(word) > len(suffix):
            return (word[: -len(suffix)], part)
    if word.endswith("'s") and word[:-2] in _TAKES_IS:
        return (word[:-2], "is")
    if word.endswith("'d") and len(word) > 2:
        return (word[:-2], "had" if word[:-2] in _TAKES_HAD else "would")
    return (word,)


def normalize_word(word: str) -> tuple[str, ...]:
    """Folded words of one white-space-free piece of text; none where it is only punctuation."""
    folded: list[str] = []
    for piece in re.split(r"[-‐‑–—/]", word.translate(APOSTROPHES)):
        for spelt in _spell_numbers(piece).split():
            folded.extend(part for part in expand_contraction(bare_word(spelt)) if part.strip("'"))
    return tuple(folded)


def normalize_text(text: str) -> tuple[str, ...]:
    """Folded words of a transcript."""
    return tuple(part for word in text.split() for part in normalize_word(word))


def normalize_prompt(words: Sequence[str]) -> tuple[str, ...]:
    """Folded words of a prompt; a word of only punctuation stays, as one that no transcript hits.

    The published sentence scores count such words: "feel our ?" has three.
    """
    return tuple(part for word in words for part in (normalize_word(word) or (word,)))


def hit_rate(words: Sequence[str], transcript: str) -> float:
    """Share of the prompt's words that a transcript hits.

    Parameters
    ----------
    words : sequence of str
        Words of the prompt.
    transcript : str
        What was heard, as text.

    Returns
    -------
    float
        hits / (hits + substitutions + deletions), in 0 to 1. An empty transcript hits nothing: 0.

    Raises
    ------
    SignalError
        The prompt has no word, so there is no rate.
    """
    import jiwer

    reference, heard = normalize_prompt(words), normalize_text(transcript)
    if not reference:
        raise SignalError("expected a prompt with at least one word, found none")
    if not heard:
        return 0.0
    # Words are given as they stand: a transform that split at white space would change nothing.
    counts = jiwer.process_words(" ".join(reference), " ".join(heard))
    return counts.hits / (counts.hits + counts.substitutions + counts.deletions)


def join_responses(responses: Sequence[str]) -> str:
    """Responses of several listeners as one text, as a table's cell holds them."""
    return RESPONSE_SEPARATOR.join(response.replace("|", " ") for response in responses)


def split_responses(text: str) -> tuple[str, ...]:
    """Responses of such a text; at least one, which may be empty."""
    return tuple(response.strip() for response in text.split("|"))


def word_labels(words: Sequence[str], response: str) -> tuple[float, ...]:
    """Which words of a prompt the listeners wrote down.

    Parameters
    ----------
    words : sequence of str
        Words of the prompt, as `prompt_words` makes them.
    response : str
        What a listener wrote, normalised as in the challenge's metadata; or several listeners, see `join_responses`.

    Returns
    -------
    tuple of float
        1 for a word that was written down, else 0; with several listeners the mean over them.
    """
    labels = [_labels(words, one) for one in split_responses(response)]
    if len(labels) == 1:
        return labels[0]
    return tuple(sum(of_word) / len(labels) for of_word in zip(*labels, strict=True))


def _labels(words: Sequence[str], response: str) -> tuple[int, ...]:
    """Labels by one listener, 1 or 0."""
    reference = [_spelling(word) for word in words]
    readings = [response, response.replace("you are", "your")]
    readings += [reading.replace("it is", "its") for reading in readings]
    return max((_hits(reference, [_spelling(word) for word in reading.split()]) for reading in readings), key=sum)


def _hits(reference: Sequence[str], heard: Sequence[str]) -> tuple[int, ...]:
    """Reference words that the Levenshtein alignment of jiwer meets."""
    import jiwer

    hits = [0] * len(reference)
    if reference and heard:
        for chunk in jiwer.process_words(" ".join(reference), " ".join(heard)).alignments[0]:
            if chunk.type == "equal":
                hits[chunk.ref_start_idx : chunk.ref_end_idx] = [1] * (chunk.ref_end_idx - chunk.ref_start_idx)
    return tuple(hits)


def _spelling(word: str) -> str:
    """One spelling for all that the challenge takes for the same word."""
    lower = word.lower().translate(APOSTROPHES)
    return _SAME_WORD.get(lower, lower.replace("'", "") or lower)


def _spell_numbers(piece: str) -> str:
    """``99`` becomes "ninety nine", ``1st`` "first", ``1999`` "nineteen ninety nine"; other text is left alone."""
    match = re.fullmatch(r"\W*(\d[\d,]*)(st|nd|rd|th)?\W*", piece.lower())
    if match is None:
        return piece
    digits, ordinal = match[1].replace(",", ""), match[2] or ""
    if len(digits) > 12:
        return piece  # no sung number, and no name for it either
    speller = _inflect()
    if not ordinal and "," not in match[1] and 1100 <= int(digits) <= 1999:  # a year: nineteen oh five
        century, rest = str(speller.number_to_words(digits[:2])), digits[2:]
        spelt = f"{century} {'hundred' if rest == '00' else speller.number_to_words(rest, group=2, zero='oh')}"
    else:
        spelt = str(speller.number_to_words(digits + ordinal, andword=""))
    return re.sub(r"[^a-z]+", " ", spelt)


@functools.lru_cache(maxsize=1)
def _inflect() -> inflect.engine:
    """The number speller; made once, because that takes long."""
    import inflect

    return inflect.engine()
