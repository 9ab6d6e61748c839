"""Lyrics of a song without any: what Whisper recognises, and lines as an LRC file to correct.

1. The largest Whisper model on disk, by the size of its weights, transcribes the mean of both channels.
2. Each of its segments with words in Latin script is a line, from the segment's start to its end. A segment with more
   words than can be sung in its time, in which Whisper repeats itself, is listed.

The words that listeners lose are those that Whisper misses too. Where it left them out, the score is too high; where it
wrote others instead, too low. docs/USING.md has by how much.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from scow.data.audio import StereoSignal
from scow.data.tables import WHISPER_COLUMNS
from scow.errors import UserError
from scow.features.whisper import resolve_model, weights_path
from scow.io import atomic_write
from scow.song.hearing_loss import Progress
from scow.song.lyrics_files import Lyrics, TimedLine, clean_row, is_latin, lyric_words
from scow.song.predictor import Predictor
from scow.song.results import ExcerptPrediction, FailedLine, shortened

MAX_WORDS_PER_S = 8.0


def guess_lyrics(signal: StereoSignal, predictor: Predictor, progress: Progress | None = None) -> Lyrics:
    """Lines of a song, with a note that they are a guess."""
    weights = {column: weights_path(resolve_model(column), predictor.model_dir) for column in WHISPER_COLUMNS}
    on_disk = {column: path.stat().st_size for column, path in weights.items() if path.is_file()}
    largest = max(on_disk, key=lambda column: on_disk[column])
    segments = predictor.segments(signal, column=largest, progress=progress)
    lines, failed = [], []
    for segment in segments:
        text, length_s = clean_row(segment.text, capitals=True), segment.end_s - segment.start_s
        n_words = len(lyric_words(text))
        if n_words > MAX_WORDS_PER_S * length_s:
            reason = f"{n_words} words in {length_s:.1f} s: Whisper repeats itself"
            failed.append(FailedLine(segment.start_s, shortened(text, 80), reason))
        elif is_latin(text):
            lines.append(TimedLine(segment.start_s, segment.end_s, text))
    if not lines and not failed:
        raise UserError(f"expected words in the song, but Whisper {largest} found none; give its lyrics")
    note = (
        f"These lyrics are a guess: Whisper {largest} transcribed the song. So the score is not that of the "
        "song: too high where Whisper left out words that are hard to catch, too low where it misheard. Write the "
        "lyrics with --lyrics-out FILE, correct them, and predict again."
    )
    return Lyrics(tuple(lines), failed=tuple(failed), notes=(note,))


def write_lrc(path: Path, lines: Iterable[ExcerptPrediction]) -> None:
    """Write lines, in the order of their starts, as LRC in UTF-8; an empty line ends one before a gap."""
    stamps = [(round(100 * line.start_s), round(100 * line.end_s), line.lyrics) for line in lines]
    rows = []
    for (start, end, text), (following, _, _) in pairwise([*stamps, (10**9, 0, "")]):
        rows += [_stamp(start) + text, *([_stamp(end)] if start < end < following else [])]
    with atomic_write(path) as temporary:
        temporary.write_bytes("".join(f"{row}\n" for row in rows).encode("utf-8", errors="replace"))


def _stamp(hundredths: int) -> str:
    return f"[{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}]"
