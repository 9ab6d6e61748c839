"""Lyrics as people have them, and the lines of a song that they make.

**Files.** LRC, as music players use it: ``[mm:ss.xx]words``, several time stamps on a line for words that return,
metadata tags (``[ar:...]``), ``[offset:+ms]`` (positive: the words come earlier), and the word times of the enhanced
form (``<mm:ss.xx>``), which are removed. SRT: numbered blocks of ``hh:mm:ss,mmm --> hh:mm:ss,mmm`` and text. Any other
text has no times. UTF-8, with or without byte-order mark; Windows-1252 where it is not UTF-8.

**Words.** `lyric_words` normalises as the challenge's prompts are: lower case, contractions expanded, numbers spelt
out, punctuation removed (`scow.text.normalize`); ``?`` by itself stands for a word that nobody could make out. A line that is
wholly in square brackets (``[Chorus]``) and a line without letters or digits is no line.

**When a line ends.** Where its SRT block says so; in LRC, where the next line begins (one without words is there to say
where the one before it ends), or 1.5 s per word after its start, 4 s at least, whichever is earlier: what lies
between is a gap. A line of more than 30 s is split into equal parts, each with its share of the words, because
Whisper hears 30 s at a time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scow.data.audio import MAX_DURATION_S
from scow.errors import UserError
from scow.text.normalize import normalize_prompt, prompt_words

SECONDS_PER_WORD = 1.5
LEAST_LINE_S = 4.0

_LRC_TIME = re.compile(r"\[(\d+):(\d{1,2}(?:[.:]\d{1,3})?)\]")
_LRC_TAG = re.compile(r"\[([a-zA-Z#]+):([^\]]*)\]")
_WORD_TIME = re.compile(r"<\d+:\d{1,2}(?:[.:]\d{1,3})?>")
_SRT_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")


@dataclass(frozen=True)
class TimedLine:
    """A line of a song.

    Attributes
    ----------
    start_s, end_s : float
        From the beginning of the song.
    text : str
        As the lyrics have it.
    """

    start_s: float
    end_s: float
    text: str


def lyric_words(text: str) -> tuple[str, ...]:
    """Words of lyrics in the form of the challenge's prompts."""
    return tuple(word for word in normalize_prompt(prompt_words(text)) if word == "?" or any(map(str.isalnum, word)))


def check_words(text: str, where: str) -> tuple[str, ...]:
    """Words of lyrics that can be predicted.

    Parameters
    ----------
    text : str
    where : str
        What the lyrics are, for the message.

    Raises
    ------
    UserError
        There are none, or they are not in Latin script.
    """
    words = lyric_words(text)
    if not any(word != "?" for word in words):
        raise UserError(f"{where}: expected lyrics with at least one word, found none; give the words that are sung")
    if not any(unicodedata.name(char, "").startswith("LATIN") for word in words for char in word):
        raise UserError(
            f"{where}: expected English lyrics in Latin script, found {words[0]!r}; the model knows no other"
        )
    return words


def read_lyrics(path: Path) -> str:
    """Text of a lyrics file.

    Raises
    ------
    UserError
        The file is missing, cannot be read or is empty.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a lyrics file, found none ({error.strerror}); check the path") from error
    if not raw.strip():
        raise UserError(f"{path}: expected lyrics, found an empty file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def timed_lines(path: Path) -> tuple[TimedLine, ...]:
    """Lines of an LRC or SRT file, in the order of their starts.

    Raises
    ------
    UserError
        The file cannot be read, or holds no line with a time.
    """
    text = read_lyrics(path)
    lines = parse_srt(text) if path.suffix.lower() == ".srt" else parse_lrc(text)
    if not lines:
        form = "hh:mm:ss,mmm --> hh:mm:ss,mmm" if path.suffix.lower() == ".srt" else "[mm:ss.xx] before each line"
        raise UserError(f"{path}: expected times ({form}) and words, found none; name it .txt to have it aligned")
    return lines


def parse_lrc(text: str) -> tuple[TimedLine, ...]:
    """Lines of LRC text, in the order of their starts; empty where nothing has both a time and words."""
    offset_s = 0.0
    marks: list[tuple[float, str]] = []
    for raw in text.splitlines():
        rest, starts = raw.strip(), []
        while match := _LRC_TIME.match(rest):
            starts.append(60 * int(match[1]) + float(match[2].replace(":", ".")))
            rest = rest[match.end() :].lstrip()
        if not starts:
            tag = _LRC_TAG.match(rest)
            if tag and tag[1].lower() == "offset" and re.fullmatch(r"[+-]?\d+", tag[2].strip()):
                offset_s = int(tag[2]) / 1000
            continue
        words = " ".join(_WORD_TIME.sub(" ", rest).split())
        marks += [(start, words) for start in starts]
    marks = sorted(((max(0.0, start - offset_s), words) for start, words in marks), key=lambda mark: mark[0])
    lines = []
    for (start, words), (following, _) in pairwise([*marks, (float("inf"), "")]):
        if is_line(words):
            longest = max(LEAST_LINE_S, SECONDS_PER_WORD * len(lyric_words(words)))
            lines.append(TimedLine(start, min(following, start + longest), words))
    return tuple(lines)


def parse_srt(text: str) -> tuple[TimedLine, ...]:
    """Lines of SRT text, in the order of their starts; empty where nothing has both a time and words."""
    lines = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n").strip()):
        rows = block.split("\n")
        at = next((i for i, row in enumerate(rows) if "-->" in row), None)
        times = _SRT_TIME.findall(rows[at]) if at is not None else []
        if at is None or len(times) < 2:
            continue
        start, end = (
            3600 * int(h or 0) + 60 * int(m) + int(s) + int(fraction) / 10 ** len(fraction)
            for h, m, s, fraction in times[:2]
        )
        words = " ".join(_MARKUP.sub(" ", " ".join(rows[at + 1 :])).split())
        if is_line(words):
            lines.append(TimedLine(start, end, words))
    return tuple(sorted(lines, key=lambda line: line.start_s))


def plain_lines(text: str) -> tuple[str, ...]:
    """Lines of text without times."""
    return tuple(line for raw in text.splitlines() if is_line(line := " ".join(raw.split())))


def is_line(text: str) -> bool:
    """Whether a line of lyrics is sung, rather than a heading, a note or nothing."""
    return not re.fullmatch(r"\[[^\]]*\]", text) and any(map(str.isalnum, text))


def at_most_30_s(lines: Sequence[TimedLine]) -> tuple[TimedLine, ...]:
    """The same lines, longer ones split into equal parts with equal shares of the words."""
    split: list[TimedLine] = []
    for line in lines:
        length_s = line.end_s - line.start_s
        parts = max(1, int(-(-length_s // MAX_DURATION_S)))
        words = line.text.split()
        for i in range(parts):
            share = words[len(words) * i // parts : len(words) * (i + 1) // parts]
            if share:
                start = line.start_s + length_s * i / parts
                split.append(TimedLine(start, start + length_s / parts, " ".join(share)))
    return tuple(split)
