"""Lyrics files, and the lines and words of a song that they give.

**Files.** LRC, as music players use it: ``[mm:ss.xx]words``, several time stamps on a line for words that return,
metadata tags (``[ar:...]``), ``[offset:+ms]`` (positive: the words come earlier), and the word times of the enhanced
form (``<mm:ss.xx>``), which are removed. SRT: subtitles, read by the package srt. Any other text has no times. UTF-8,
with or without byte-order mark; Windows-1252 where it is not UTF-8.

**Words.** `lyric_words` normalizes as the challenge's prompts are: lower case, contractions expanded, numbers spelt
out, punctuation removed (`scow.text.normalize`); a single ``?`` is an unintelligible word. A line that is wholly in
square brackets (``[Chorus]``) and a line without letters or digits are left out.

**End of a line.** In SRT, the end of its block. In LRC, the start of the next line (which may be empty), or 1.5 s per
word and at least 4 s after its start, whichever is earlier; the rest is a gap. A line of more than 30 s is split into
equal parts, each with its share of the words, because Whisper takes 30 s at a time.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

import srt

from scow.data.audio import MAX_DURATION_S
from scow.errors import UserError
from scow.text.normalize import normalize_prompt, prompt_words

TIMED = (".lrc", ".srt")
SECONDS_PER_WORD = 1.5
MIN_LINE_S = 4.0

logging.getLogger("srt").addHandler(logging.NullHandler())  # it warns of each block that it cannot parse

_LRC_TIME = re.compile(r"\[(\d+):(\d{1,2}(?:[.:]\d{1,3})?)\]")
_LRC_OFFSET = re.compile(r"\[offset:\s*([+-]?\d+)\s*\]", re.IGNORECASE)
_WORD_TIME = re.compile(r"<\d+:\d{1,2}(?:[.:]\d{1,3})?>")
_SRT_TIME = re.compile(r"(?<![\d:])(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})(?!\d)")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")


@dataclass(frozen=True)
class TimedLine:
    """A line of a song."""

    start_s: float  # from the beginning of the song
    end_s: float
    text: str  # as the lyrics have it


def lyric_words(text: str) -> tuple[str, ...]:
    """Words of lyrics in the form of the challenge's prompts."""
    return tuple(word for word in normalize_prompt(prompt_words(text)) if word == "?" or any(map(str.isalnum, word)))


def check_words(text: str, where: str) -> tuple[str, ...]:
    """Words of lyrics that can be predicted; UserError, which begins with `where`, if none is in Latin script."""
    words = lyric_words(text)
    if not any(word != "?" for word in words):
        raise UserError(f"{where}: expected lyrics with at least one word, found none")
    if not any(unicodedata.name(char, "").startswith("LATIN") for word in words for char in word):
        raise UserError(f"{where}: expected English lyrics in Latin script, found {words[0]!r}")
    return words


def read_lyrics(path: Path) -> str:
    """Text of a lyrics file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a lyrics file, found none ({error.strerror})") from error
    if not raw.strip():
        raise UserError(f"{path}: expected lyrics, found an empty file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def timed_lines(path: Path) -> tuple[TimedLine, ...]:
    """Lines of an LRC or SRT file, in the order of their starts."""
    parse, form = parse_lrc, "[mm:ss.xx] before each line"
    if path.suffix.lower() == ".srt":
        parse, form = parse_srt, "hh:mm:ss,mmm --> hh:mm:ss,mmm"
    lines = parse(read_lyrics(path))
    if not lines:
        raise UserError(f"{path}: expected times ({form}) and words, found none; without times, name it .txt")
    return lines


def parse_lrc(text: str) -> tuple[TimedLine, ...]:
    """Lines of LRC text, in the order of their starts; empty if no line has both a time and words."""
    offset = _LRC_OFFSET.search(text)
    offset_s = int(offset[1]) / 1000 if offset else 0.0
    marks: list[tuple[float, str]] = []
    for line in text.splitlines():
        rest, starts = line.strip(), []
        while match := _LRC_TIME.match(rest):
            starts.append(60 * int(match[1]) + float(match[2].replace(":", ".")))
            rest = rest[match.end() :].lstrip()
        words = " ".join(_WORD_TIME.sub(" ", rest).split())
        marks += [(max(0.0, start - offset_s), words) for start in starts]
    marks.sort(key=lambda mark: mark[0])
    lines = []
    for (start, words), (following, _) in pairwise([*marks, (float("inf"), "")]):
        if is_line(words):
            longest = max(MIN_LINE_S, SECONDS_PER_WORD * len(lyric_words(words)))
            lines.append(TimedLine(start, min(following, start + longest), words))
    return tuple(lines)


def parse_srt(text: str) -> tuple[TimedLine, ...]:
    """Lines of SRT text, in the order of their starts; empty if no block has both times and words."""

    def in_full(time: re.Match[str]) -> str:  # srt would read 00:01,5 as 1 min 5 s
        return f"{time[1] or 0}:{time[2]}:{time[3]},{time[4]:0<3}"

    text = "\n".join(_SRT_TIME.sub(in_full, row) if "-->" in row else row for row in text.splitlines())
    lines = []
    for block in srt.parse(text, ignore_errors=True):
        words = " ".join(plain_lines(_MARKUP.sub(" ", block.content)))
        if words:
            lines.append(TimedLine(block.start.total_seconds(), block.end.total_seconds(), words))
    return tuple(sorted(lines, key=lambda line: line.start_s))


def plain_lines(text: str) -> tuple[str, ...]:
    """Lines of text without times."""
    return tuple(line for raw in text.splitlines() if is_line(line := " ".join(raw.split())))


def is_line(text: str) -> bool:
    """Whether a line of lyrics is sung, rather than a heading, a note or nothing."""
    return not re.fullmatch(r"\[[^\]]*\]", text) and any(map(str.isalnum, text))


def split_long(lines: Sequence[TimedLine]) -> tuple[TimedLine, ...]:
    """The same lines; those of more than 30 s in equal parts with equal shares of the words."""
    split: list[TimedLine] = []
    for line in lines:
        length_s = line.end_s - line.start_s
        n_parts = max(1, ceil(length_s / MAX_DURATION_S))
        words = line.text.split()
        for i in range(n_parts):
            share = words[len(words) * i // n_parts : len(words) * (i + 1) // n_parts]
            if share:
                start = line.start_s + length_s * i / n_parts
                split.append(TimedLine(start, start + length_s / n_parts, " ".join(share)))
    return tuple(split)
