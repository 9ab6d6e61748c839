"""Lyrics without times, laid along a song by what Whisper hears in it. All times that come out are approximate.

1. Whisper transcribes the mean of both ears in segments that have times; the words of a segment share its time evenly,
   by their letters.
2. The folded words of the lyrics (`scow.song.lyrics_files.lyric_words`) and of the transcript are aligned by dynamic
   programming (Levenshtein, as for the hit rate). Words that are equal in the alignment are anchors.
3. A run of words between two anchors is laid out at an even pace, 0.6 s per word at most: after the anchor before it as
   far as the same line goes, the rest before the next one. So a solo between two lines stays a gap.
4. A line goes from its first word to its last, with 0.5 s on either side.

Lyrics in one piece, without line breaks, are first broken where the segment changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from scow.errors import UserError
from scow.features.whisper import Segment
from scow.song.lyrics_files import TimedLine, lyric_words
from scow.text.normalize import normalize_text

SLOWEST_S = 0.6
MARGIN_S = 0.5


@dataclass(frozen=True)
class Alignment:
    """Lines with approximate times.

    Attributes
    ----------
    lines : tuple of TimedLine
    anchored : tuple of int
        How many words of each line Whisper heard, and thus placed.
    """

    lines: tuple[TimedLine, ...]
    anchored: tuple[int, ...]

    @property
    def unheard(self) -> int:
        """Number of lines of which Whisper heard no word; where they lie is a guess."""
        return self.anchored.count(0)


@dataclass(frozen=True)
class _Heard:
    """A word of the transcript: when, and in which segment."""

    text: str
    start_s: float
    end_s: float
    segment: int


def align(lines: Sequence[str], segments: Sequence[Segment], duration_s: float) -> Alignment:
    """Lay lines of lyrics along a song.

    Parameters
    ----------
    lines : sequence of str
        At least one, each with a word.
    segments : sequence of Segment
        What Whisper heard in the song.
    duration_s : float
        Of the song.

    Returns
    -------
    Alignment

    Raises
    ------
    UserError
        Whisper heard none of the words.
    """
    heard = _heard_words(segments)
    words = [(word, i) for i, line in enumerate(lines) for word in lyric_words(line)]
    anchors = _anchors([word for word, _ in words], heard)
    if not anchors:
        raise UserError(
            f"expected words of the lyrics in the song, but Whisper heard none of its {len(words)}; "
            "check that they belong together, or give an LRC file with times"
        )
    if len(lines) == 1:
        lines, words = _broken(lines[0], anchors)
    owners = [i for _, i in words]
    spans = _spans(owners, anchors)
    timed = []
    for i, text in enumerate(lines):
        mine = [span for span, owner in zip(spans, owners, strict=True) if owner == i]
        start, end = max(0.0, mine[0][0] - MARGIN_S), min(duration_s, mine[-1][1] + MARGIN_S)
        timed.append(TimedLine(min(start, duration_s), max(end, start), text))
    return Alignment(tuple(timed), tuple(sum(owners[k] == i for k in anchors) for i in range(len(lines))))


def _heard_words(segments: Sequence[Segment]) -> list[_Heard]:
    words = []
    for number, segment in enumerate(segments):
        folded = normalize_text(segment.text)
        letters = sum(map(len, folded))
        before = 0
        for word in folded:
            length_s = (segment.end_s - segment.start_s) / max(1, letters)
            start = segment.start_s + before * length_s
            before += len(word)
            words.append(_Heard(word, start, segment.start_s + before * length_s, number))
    return words


def _anchors(words: Sequence[str], heard: Sequence[_Heard]) -> dict[int, _Heard]:
    """Words of the lyrics that the alignment meets, by their index."""
    import jiwer

    if not words or not heard:
        return {}
    aligned = jiwer.process_words(" ".join(words), " ".join(word.text for word in heard)).alignments[0]
    return {
        chunk.ref_start_idx + k: heard[chunk.hyp_start_idx + k]
        for chunk in aligned
        if chunk.type == "equal"
        for k in range(chunk.ref_end_idx - chunk.ref_start_idx)
    }


def _broken(text: str, anchors: dict[int, _Heard]) -> tuple[list[str], list[tuple[str, int]]]:
    """One long line as several: a new one begins with the first anchor of another segment."""
    lines: list[list[str]] = [[]]
    owners: list[tuple[str, int]] = []
    segment, k = None, 0
    for token in text.split():
        parts = lyric_words(token)
        found = [anchors[i].segment for i in range(k, k + len(parts)) if i in anchors]
        if found and segment is not None and found[0] != segment:
            lines.append([])
        segment = found[-1] if found else segment
        lines[-1].append(token)
        owners += [(part, len(lines) - 1) for part in parts]
        k += len(parts)
    return [" ".join(tokens) for tokens in lines], owners


def _spans(owners: Sequence[int], anchors: dict[int, _Heard]) -> list[tuple[float, float]]:
    """When each word of the lyrics is sung: start and end in seconds."""
    spans = [(0.0, 0.0)] * len(owners)
    for k, word in anchors.items():
        spans[k] = (word.start_s, word.end_s)
    runs = groupby(range(len(owners)), key=lambda k: k in anchors)
    for run in [list(indices) for anchored, indices in runs if not anchored]:
        first, last = run[0], run[-1]
        before, after = anchors.get(first - 1), anchors.get(last + 1)
        pace = SLOWEST_S
        if before and after:
            pace = min(pace, max(0.0, after.start_s - before.end_s) / len(run))
        follows = [k for k in run if before and (not after or owners[k] == owners[first - 1])]
        for k in run:
            if k in follows and before:
                start = before.end_s + (k - first) * pace
            else:
                assert after is not None
                start = max(0.0, after.start_s - (last + 1 - k) * pace)
            spans[k] = (start, start + pace)
    return spans
