"""A prediction as text for a terminal.

The floor of a score is that of the same words where nothing is heard. Hardest lines are those that are least above it.

Where the terminal takes colours, each word gets the colour of its probability (`scow.reports.plots.heat_colour`: dark
blue is lost, yellow is caught, and lightness follows, for any colour vision). The number is always printed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from scow.cli import aligned
from scow.reports.plots import heat_colour
from scow.song.results import INTERVAL, HearingLossPrediction, SongPrediction, WordProbability, shortened

if TYPE_CHECKING:
    from scow.song.compare import SongComparison

HARDEST = 5


def takes_colours(stream: TextIO) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set (no-color.org) or TERM is dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def song_text(song: SongPrediction, *, colours: bool) -> str:
    """A prediction as lines of text, with a coloured background of words if `colours`."""
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    models = ", ".join(song.whisper_models)
    lines = [f"{song.name}, {clock(song.duration_s)}; checkpoint {song.checkpoint} (Whisper {models})"]
    if song.simulated:
        lines.append(f"Hearing loss simulated (MSBG) at {song.level_db_spl:g} dB SPL.")
    lines += [f"note: {note}" for note in song.notes]
    lines.append("")
    lines += _excerpt(song, width, colours=colours) if len(song.lines) == 1 else _song(song, width, colours=colours)
    return "\n".join(lines)


def comparison_text(comparison: SongComparison) -> str:
    """Mixes of a song: for each hearing loss, scores, differences to the first, and the lines that change most."""
    first, *others = comparison.songs
    n_lines = f"{len(first.lines)} line{'s' * (len(first.lines) > 1)}"
    parts = [f"{n_lines}; checkpoint {first.checkpoint} (Whisper {', '.join(first.whisper_models)})"]
    parts += [f"note: {song.name}: {note}" for song in comparison.songs for note in song.notes]
    for name in first.hearing_losses:
        rows = [("time", "line", first.name, *(song.name for song in others))]
        for i, _ in comparison.changes(name)[:HARDEST]:
            line, before = first.lines[i], first.lines[i].at(name).score
            changes = (f"{song.lines[i].at(name).score - before:+.1f}" for song in others)
            rows.append((clock(line.start_s), line.lyrics, f"{before:.1f}", *changes))
        parts += [f"\n{name}\n", aligned(comparison.table(name)), "\nLines that gain or lose most\n", aligned(rows, 50)]
    return "\n".join(parts)


def clock(seconds: float) -> str:
    """Minutes and seconds: ``1:05.3``."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def _excerpt(song: SongPrediction, width: int, *, colours: bool) -> list[str]:
    """A score per hearing loss, then the transcripts and each word."""
    (line,) = song.lines
    rows = [f"{'':10} {'score':>5}  floor  {INTERVAL:.0%} of listeners"]
    rows += [
        f"{p.hearing_loss:10} {p.score:5.1f}  {p.floor:5.1f}  {p.low:.0f} to {p.high:.0f}" for p in line.severities
    ]
    for prediction in line.severities:
        rows += ["", prediction.hearing_loss, *_details(prediction, width, colours=colours)]
    return rows


def _song(song: SongPrediction, width: int, *, colours: bool) -> list[str]:
    """Scores of the song, of its lines in time, and the hardest lines."""
    names = song.hearing_losses
    rows = [f"{'':10} {'score':>5}  floor  of {sum(len(line.severities[0].words) for line in song.lines)} words"]
    rows += [f"{name:10} {song.score(name):5.1f}  {song.floor(name):5.1f}" for name in names]
    rows += ["", f"{'time':>7} {''.join(f'{name:>10}' for name in names)}  line"]
    for line in song.lines:
        scores = "".join(f"{line.at(name).score:10.1f}" for name in names)
        rows.append(f"{clock(line.start_s):>7} {scores}  {shortened(line.lyrics, width - 10 - 10 * len(names))}")
    rows += ["", f"Hardest lines ({names[-1]}):"]
    for line in song.hardest(names[-1], min(HARDEST, len(song.lines) - 1)):
        p = line.at(names[-1])
        times = f"{clock(line.start_s)} to {clock(line.end_s)}"
        rows += ["", f"{times}  score {p.score:.1f} ({p.low:.0f} to {p.high:.0f}), floor {p.floor:.1f}"]
        rows += _details(p, width, colours=colours)
    return rows


def _details(prediction: HearingLossPrediction, width: int, *, colours: bool) -> list[str]:
    """Transcripts of both channels, and the words."""
    warning = [] if prediction.caught else ["  Whisper caught none of the words: the score is the floor."]
    several = len({heard.model for heard in prediction.heard}) > 1
    names = [f"{heard.ear} channel{f', {heard.model}' if several else ''}" for heard in prediction.heard]
    room = max(map(len, names))
    rows = [f"  {name:{room}}  {heard.shown()}" for name, heard in zip(names, prediction.heard, strict=True)]
    return warning + rows + _words(prediction.words, width, colours=colours)


def _words(words: Sequence[WordProbability], width: int, *, colours: bool) -> list[str]:
    """Words with their probability in percent, broken into lines."""
    rows, room = ["  "], width - 2
    for word in words:
        text = f"{word.word} {100 * word.probability:.0f}"
        if room < len(text) + 3 and rows[-1].strip():
            rows.append("  ")
            room = width - 2
        if colours:  # in 24 bits
            ground, ink = (";".join(map(str, bytes.fromhex(c[1:]))) for c in heat_colour(word.probability))
            rows[-1] += f"\x1b[48;2;{ground}m\x1b[38;2;{ink}m {text} \x1b[0m"
        else:
            rows[-1] += f"{text}  "
        room -= len(text) + 2
    return [row.rstrip() for row in rows]
