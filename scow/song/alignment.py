"""Approximate times for the lines of lyrics that have none, from a transcript of the song.

1. Whisper transcribes the mean of both channels in segments that have times; the words of a segment share its time in
   proportion to their letters.
2. The normalized words of the lyrics (`scow.song.lyrics_files.lyric_words`) and of the transcript are aligned by
   dynamic programming (Levenshtein, as for the hit rate). Words that are equal in the alignment are anchors.
3. A run of words between two anchors is spaced evenly, at most 0.6 s per word: after the anchor before it as far as
   the same line goes, the rest before the next anchor. So a solo between two lines stays a gap.
4. A line goes from its first word to its last, with 0.5 s on either side.

Lyrics in one piece, without line breaks, are first broken where the segment changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import jiwer

from scow.errors import UserError
from scow.features.whisper import Segment
from scow.song.lyrics_files import TimedLine, lyric_words
from scow.text.normalize import normalize_text

SECONDS_PER_WORD = 0.6
MARGIN_S = 0.5


class _SungWord(NamedTuple):
    """A word of the transcript."""

    text: str
    start_s: float
    end_s: float
    segment: int


def align(
    lines: Sequence[str], segments: Sequence[Segment], duration_s: float
) -> tuple[tuple[TimedLine, ...], tuple[int, ...]]:
    """Give times to lines of lyrics, from the segments that Whisper found in the song.

    Returns the lines, and how many words of each are in the transcript: without any, the time of a line is a guess.
    """
    transcript = _sung_words(segments)
    words = [(word, i) for i, line in enumerate(lines) for word in lyric_words(line)]
    anchors = _anchors([word for word, _ in words], transcript)
    if not anchors:
        raise UserError(
            f"expected words of the lyrics in the song, but Whisper found none of its {len(words)}; "
            "check that they belong together, or give an LRC file with times"
        )
    if len(lines) == 1:
        lines, words = _broken(lines[0], anchors)
    line_of = [i for _, i in words]
    spans = _spans(line_of, anchors)
    timed = []
    for i, text in enumerate(lines):
        sung = [span for span, line in zip(spans, line_of, strict=True) if line == i]
        start, end = max(0.0, sung[0][0] - MARGIN_S), min(duration_s, sung[-1][1] + MARGIN_S)
        timed.append(TimedLine(min(start, duration_s), max(end, start), text))
    return tuple(timed), tuple(sum(line_of[k] == i for k in anchors) for i in range(len(lines)))


def _sung_words(segments: Sequence[Segment]) -> list[_SungWord]:
    words = []
    for number, segment in enumerate(segments):
        texts = normalize_text(segment.text)
        letter_s = (segment.end_s - segment.start_s) / max(1, sum(map(len, texts)))
        start = segment.start_s
        for text in texts:
            end = start + len(text) * letter_s
            words.append(_SungWord(text, start, end, number))
            start = end
    return words


def _anchors(words: Sequence[str], transcript: Sequence[_SungWord]) -> dict[int, _SungWord]:
    """Words of the lyrics that are equal in the alignment, by their index."""
    if not words or not transcript:
        return {}
    aligned = jiwer.process_words(" ".join(words), " ".join(word.text for word in transcript)).alignments[0]
    return {
        chunk.ref_start_idx + k: transcript[chunk.hyp_start_idx + k]
        for chunk in aligned
        if chunk.type == "equal"
        for k in range(chunk.ref_end_idx - chunk.ref_start_idx)
    }


def _broken(text: str, anchors: dict[int, _SungWord]) -> tuple[list[str], list[tuple[str, int]]]:
    """One long line as several: a new one begins with the first anchor of another segment."""
    lines: list[list[str]] = [[]]
    words: list[tuple[str, int]] = []
    segment = None
    for token in text.split():
        parts = lyric_words(token)
        found = [anchors[i].segment for i in range(len(words), len(words) + len(parts)) if i in anchors]
        if found and segment is not None and found[0] != segment:
            lines.append([])
        segment = found[-1] if found else segment
        lines[-1].append(token)
        words += [(part, len(lines) - 1) for part in parts]
    return [" ".join(tokens) for tokens in lines], words


def _spans(line_of: Sequence[int], anchors: dict[int, _SungWord]) -> list[tuple[float, float]]:
    """Start and end in seconds of each word of the lyrics."""
    spans = [(0.0, 0.0)] * len(line_of)
    for k, word in anchors.items():
        spans[k] = (word.start_s, word.end_s)
    runs = groupby(range(len(line_of)), key=lambda k: k in anchors)
    for run in [list(indices) for anchored, indices in runs if not anchored]:
        first, last = run[0], run[-1]
        before, after = anchors.get(first - 1), anchors.get(last + 1)
        pace = SECONDS_PER_WORD
        if before and after:
            pace = min(pace, max(0.0, after.start_s - before.end_s) / len(run))
        for k in run:
            if before and (not after or line_of[k] == line_of[first - 1]):
                start = before.end_s + (k - first) * pace
            else:
                assert after is not None  # there is at least one anchor
                start = max(0.0, after.start_s - (last + 1 - k) * pace)
            spans[k] = (start, start + pace)
    return spans
