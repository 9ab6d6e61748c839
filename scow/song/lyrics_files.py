r"""Lyrics as people have them, and the lines and words of a song that they give.

**Encoding.** UTF-8 and UTF-16, by byte-order mark or without; else Windows-1252 or Mac Roman where these give no other
letters than English lyrics hold, with a note. Anything else is refused: guesses on short texts are often wrong.

**Form**, found by what the text holds, whatever the name of the file:

- Cues (SRT, WebVTT): a row ``start --> end`` and the rows after it. Blank rows inside a cue are allowed. A counter or
  identifier just before the next cue, and NOTE, STYLE and REGION of WebVTT, are no lyrics.
- LRC: ``[mm:ss.xx]words``; several stamps before words that return; tags (``[ar:...]``); ``[offset:+ms]`` (positive:
  the words come earlier). Stamps of words (``<mm:ss.xx>``, ``[mm:ss.xx]``) are removed; one after the last word ends
  the line. A row without a stamp continues the row before it.
- Rows that begin with bare times (``0:12 words``) are read as LRC.
- Any other text has no times.

Stamps may have hours, a comma or colon before the fraction, or no fraction. ``[a:b:c]`` of LRC is minutes, seconds and
hundredths unless there is a fraction as well.

**Rows** (`clean_row`). Entities are decoded, and Unicode is composed (NFC; ligatures and full-width letters resolved).
Removed are tags, ``\N``, invisible characters, notes (♪), what is in square brackets or braces, repeats (``(x2)``),
headings (``Verse 2:``), a speaker in capitals (``MAN:``) or of a duet (``F:``), dashes before a speaker's words, and
stage directions in brackets and capitals, unless the lyrics are all in capitals.

**Words** (`lyric_words`) are normalized as the challenge's prompts are (`scow.text.normalize`); a single ``?`` is an
unintelligible word. Punctuation between letters separates words (``boat,gently``), and ``&`` is "and".

**End of a line.** In cues, the end of the cue. In LRC, the next later stamp, or 1.5 s per word and at least 4 s after
its start, whichever is earlier; the rest is a gap. A line of more than 30 s is split into equal parts, each with its
share of the words, because Whisper takes 30 s at a time.

Every row with words becomes a line or is listed with a reason.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import NamedTuple

from scow.data.audio import MAX_DURATION_S
from scow.errors import UserError, expect
from scow.song.results import FailedLine
from scow.text.normalize import normalize_prompt, prompt_words

TIMED = {
    ".lrc": "[mm:ss.xx] before each line",
    ".srt": "hh:mm:ss,mmm --> hh:mm:ss,mmm",
    ".vtt": "mm:ss.mmm --> mm:ss.mmm",
}
OTHER_FORMATS = {b"{\\rtf": "RTF", b"%PDF": "PDF", b"PK\3\4": "a Word or ZIP file", b"[Script Info]": "ASS subtitles"}
MAX_BYTES = 1_000_000
MAX_LINES = 1_000  # of a song of 20 min; each is transcribed
SECONDS_PER_WORD = 1.5
MIN_LINE_S = 4.0
MAX_DAMAGED = 3  # characters that a whole file in UTF-8 may lack
WESTERN = set("’‘“”–—…´«»¿¡éèêëàâäáåçñóòôöøúùûüíìîïæœßÉ\xa0")  # beyond ASCII, in English lyrics of 8-bit encodings

_STAMP = r"-?\d{1,4}(?::\d{1,3}){1,3}(?:[.,]\d{1,9})?"
_CUE = re.compile(rf"\s*\[?(?:({_STAMP})|\d\S{{0,40}})\s*-{{1,3}}>\s*({_STAMP})?")
_LRC_STAMP = re.compile(rf"\[\s*({_STAMP})\s*\]")
_BARE_STAMP = re.compile(rf"\s*\(?({_STAMP})\)?\s*(?:[-–—|:>](?=\s))?(?=\s|$)")
_WORD_STAMP = re.compile(rf"[\[<]\s*({_STAMP})\s*[>\]]")
_LRC_TAG = re.compile(r"\[[a-z#][\w# ]*:[^\]]*\]", re.IGNORECASE)
_BACKGROUND = re.compile(r"\[bg:([^\]]*)\]", re.IGNORECASE)  # sung, other than what tags hold
_OFFSET = re.compile(r"\[offset:\s*([+-]?\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)?\s*\]", re.IGNORECASE)
_NO_TEXT = re.compile(r"(NOTE|STYLE|REGION|WEBVTT)\b")
_BLANK = re.compile(r"<br\s*/?>|\\[Nnh]|\[[^\[\]]*\]|[♩-♯�]|\((?:x ?\d+|\d+ ?x)\)", re.IGNORECASE)
_TAGS = "a|b|big|c|center|div|em|font|i|lang|p|rt|ruby|s|small|span|strike|strong|sub|sup|u|v"  # SRT, WebVTT, web pages
_MARKUP = re.compile(rf"</?(?:{_TAGS})(?:[\s./][^<>]*)?>|\{{[^{{}}]*\}}", re.IGNORECASE)
_COMPATIBLE = re.compile("[ﬀ-\ufb06\uff01-\uff5e]+")  # ligatures, full-width letters
_SPEAKER = re.compile(r"^(?:[-–—] ?)?(?:(?:[MFD]|v\d|bg|[A-Z][A-Z0-9 .'&-]{1,29}): )?(?=.*[a-z])")
_DIRECTION = re.compile(r"\([^()a-z]{0,60}[A-Z]{2}[^()a-z]{0,60}\)")
_HEADING = re.compile(
    r"(?:verse|(?:pre-?|post-?)?chorus|bridge|hook|refrain|intro|outro|interlude) ?(?:\d+ ?:?|:)", re.IGNORECASE
)
_GLUE = re.compile(r"(?<=[^\W_])(?:[,;:!?…_()\[\]\"“”|~+=]+|\.{2,}|(?<=\w\w)\.(?=\w\w))(?=[^\W\d_])")


@dataclass(frozen=True)
class TimedLine:
    """A line of a song."""

    start_s: float  # from the beginning of the song
    end_s: float
    text: str  # as the lyrics have it, without markup


@dataclass(frozen=True)
class Lyrics:
    """What lyrics hold: lines with times, or else text without."""

    lines: tuple[TimedLine, ...]  # in the order of their starts
    text: tuple[str, ...] = ()  # lines without times, if no line has one
    failed: tuple[FailedLine, ...] = ()
    notes: tuple[str, ...] = ()


class _Row(NamedTuple):
    """Rows of a file with their times."""

    starts: list[float]
    parts: list[str]
    end: float | None


def lyric_words(text: str) -> tuple[str, ...]:
    """Words of lyrics in the form of the challenge's prompts."""
    apart = _GLUE.sub(" ", text).replace("&", " and ")
    return tuple(word for word in normalize_prompt(prompt_words(apart)) if word == "?" or any(map(str.isalnum, word)))


def check_words(text: str, where: str) -> tuple[str, ...]:
    """Words of lyrics that can be predicted; UserError, which begins with `where`, if none is in Latin script."""
    words = lyric_words(text)
    if not any(word != "?" for word in words):
        raise UserError(f"{where}: expected lyrics with at least one word, found none")
    if not is_latin(" ".join(words)):
        raise UserError(f"{where}: expected English lyrics in Latin script, found {words[0]!r}")
    return words


def is_latin(text: str) -> bool:
    """Whether a text has some letter in Latin script."""
    return any(unicodedata.name(char, "").startswith("LATIN") for char in text)


def read_lyrics(path: Path) -> Lyrics:
    """Lyrics of a file; UserError where it cannot be read, or has no times though its name promises them."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a lyrics file, found none ({error.strerror})") from error
    text, notes = decode(raw, path)
    lyrics = parse_lyrics(text)
    form = TIMED.get(path.suffix.lower())
    if form and not lyrics.lines and not lyrics.failed:
        raise UserError(f"{path}: expected times ({form}) and words, found none; without times, name it .txt")
    return Lyrics(lyrics.lines, lyrics.text, lyrics.failed, notes)


def decode(raw: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """Text of a file, and notes on its encoding."""
    if not raw.strip() or len(raw) > MAX_BYTES:
        found = f"{len(raw):,} bytes" if raw.strip() else "an empty file"
        raise UserError(f"{path}: expected lyrics of at most {MAX_BYTES:,} bytes, found {found}")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace"), ()
    if raw.count(0) > len(raw) / 4:
        return raw.decode("utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be", errors="replace"), ()
    text = raw.decode("utf-8-sig", errors="replace")
    for beginning, what in OTHER_FORMATS.items():
        expect(not raw.removeprefix(BOM_UTF8).startswith(beginning), path, f"lyrics ({', '.join(TIMED)}, .txt)", what)
    damaged, letters = text.count("�"), sum(not char.isascii() for char in text)
    if damaged == 0 and "\0" not in text:
        return text, ()
    for encoding, name in (("cp1252", "Windows-1252"), ("mac_roman", "Mac Roman")):
        text_8_bit = raw.decode(encoding, errors="replace")
        if {char for char in text_8_bit if not char.isascii()} <= WESTERN and "\0" not in text_8_bit:
            return text_8_bit, (f"The lyrics are no UTF-8; they were read as {name}.",)
    if damaged <= MAX_DAMAGED and letters > damaged:
        return text, (f"The lyrics have {damaged} damaged character{'s' * (damaged > 1)}, which were left out.",)
    raise UserError(f"{path}: expected a text file in UTF-8, found another encoding or no text; save it as UTF-8")


def parse_lyrics(text: str) -> Lyrics:
    """Lyrics in any of the forms above."""
    rows = re.split(r"\r\n|\r|\n", _composed(text))
    capitals = not any(map(str.islower, _MARKUP.sub("", _BLANK.sub("", text))))
    bare = [_BARE_STAMP.match(row) for row in rows if row.strip()]
    if any(match and match[1] for match in map(_CUE.match, rows)):
        found, untimed = _cues(rows)
    elif any(map(_LRC_STAMP.search, rows)):
        found, untimed = _lrc(rows)
    elif sum(map(bool, bare)) >= max(2, len(bare) / 2):
        found, untimed = _lrc([_BARE_STAMP.sub(r"[\1]", row, count=1) for row in rows])
    else:
        return Lyrics((), tuple(line for row in rows if (line := clean_row(row, capitals=capitals))))
    failed = [FailedLine(0.0, words, "has no time") for row in untimed if (words := clean_row(row, capitals=capitals))]
    offset = _OFFSET.search(text)
    offset_s = float(offset[1]) / (1 if (offset[2] or "").lower() == "s" else 1000) if offset else 0.0

    marks: list[tuple[float, float | None, str]] = []
    for row in found:
        words = ""
        for part in row.parts:
            own, foreign = _by_script(clean_row(part, capitals=capitals))
            words = f"{words} {own}".strip()
            if foreign:
                failed.append(FailedLine(max(0.0, row.starts[0]), foreign, "expected English lyrics in Latin script"))
        for start in row.starts:
            if start < 0 and words:
                failed.append(FailedLine(0.0, words, f"begins {-start:g} s before the song"))
            else:
                marks.append((max(0.0, start - offset_s), None if row.end is None else row.end - offset_s, words))
    starts = [*sorted({start for start, _, _ in marks}), float("inf")]
    lines = []
    for start, end, words in sorted(marks, key=lambda mark: mark[0]):
        if words:
            longest = max(MIN_LINE_S, SECONDS_PER_WORD * len(lyric_words(words)))
            before_next = min(starts[bisect_right(starts, start)], start + longest)
            lines.append(TimedLine(start, before_next if end is None else end, words))
    return Lyrics(tuple(lines), failed=tuple(failed))


def _cues(rows: Sequence[str]) -> tuple[list[_Row], list[str]]:
    """Cues of SRT and WebVTT, and rows that belong to none."""
    web = rows[0].lstrip().startswith("WEBVTT")
    cues: list[_Row] = []
    untimed: list[str] = []
    for i, following in pairwise([-1, *(i for i, row in enumerate(rows) if _CUE.match(row)), len(rows)]):
        block = list(rows[i + 1 : following])
        if following < len(rows) and block:  # a counter or identifier of the next cue
            alone = len(block) == 1 or not block[-2].strip()
            block = block[:-1] if block[-1].strip().isdigit() or (web and alone) else block
        kept, comment = [], False
        for row in block:
            comment = bool(row.strip()) and (comment or (web and _NO_TEXT.match(row) is not None))
            kept += [] if comment else [row]
        match = _CUE.match(rows[i]) if i >= 0 else None
        if match and match[1]:
            if rows[i].lstrip().startswith("["):  # Whisper's own form: the words are in the same row
                kept.insert(0, rows[i][match.end() :].lstrip("]"))
            cues.append(_Row([_seconds(match[1], 3)], kept, _seconds(match[2], 3) if match[2] else None))
        else:
            untimed += kept
    return cues, untimed


def _lrc(rows: Sequence[str]) -> tuple[list[_Row], list[str]]:
    """Rows of LRC, and those before the first stamp."""
    found: list[_Row] = []
    untimed: list[str] = []
    for row in rows:
        rest, starts = _BACKGROUND.sub(r"\1", row.strip()), []
        while match := _LRC_STAMP.match(rest) or _LRC_TAG.match(rest):
            if match.re is _LRC_STAMP:
                starts.append(_seconds(match[1], 2))
            rest = rest[match.end() :].lstrip()
        if starts:
            *_, last = [None, *_WORD_STAMP.finditer(rest)]
            end = _seconds(last[1], 2) if last and last.end() == len(rest) and len(starts) == 1 else None
            found.append(_Row(starts, [rest], end if end is None or end > starts[0] else None))
        elif rest:
            (found[-1].parts if found else untimed).append(rest)
    return found, untimed


def _seconds(stamp: str, colons: int) -> float:
    """Seconds of a stamp; without a dot, what follows the colon number `colons`, or has 3 digits, is the fraction."""
    digits = stamp.lstrip("-").replace(",", ".")
    if "." not in digits and (digits.count(":") >= colons or digits[-4:-3] == ":"):
        digits = ".".join(digits.rsplit(":", 1))
    seconds = sum(float(part) * 60**i for i, part in enumerate(reversed(digits.split(":"))))
    return -seconds if stamp.startswith("-") else seconds


def _composed(text: str) -> str:
    """A text without invisible characters, ligatures, full-width letters and combining accents."""
    visible = "".join(char for char in text if char.isascii() or unicodedata.category(char) != "Cf")
    compatible = _COMPATIBLE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), visible)
    return unicodedata.normalize("NFC", compatible)


def _by_script(text: str) -> tuple[str, str]:
    """The words of a cleaned row that are in Latin script or no letters, and the others: a translation."""
    foreign = [word for word in text.split() if any(map(str.isalpha, word)) and not is_latin(word)]
    own = [word for word in text.split() if word not in foreign]
    return " ".join(own) if any(map(str.isalnum, "".join(own))) else "", " ".join(foreign)


def clean_row(row: str, *, capitals: bool) -> str:
    """What is sung of a row of lyrics, empty if nothing is; `capitals`: the lyrics are all in capitals."""
    text = _WORD_STAMP.sub("", row).strip()
    if " " not in text:  # the stamps are all that separates words
        text = _WORD_STAMP.sub(" ", row)
    text = _MARKUP.sub("", _BLANK.sub(" ", _composed(html.unescape(html.unescape(text)))))
    text = " ".join((text if capitals else _DIRECTION.sub(" ", text)).split())
    text = _SPEAKER.sub("", text)
    return "" if _HEADING.fullmatch(text) or not any(map(str.isalnum, text)) else text


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
