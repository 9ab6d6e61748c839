"""A prediction as text for a terminal.

Words stand on the colour of their probability (`scow.reports.plots.heat_colour`: dark blue is lost, yellow is caught, which
differ in lightness too, for any colour vision), where the terminal takes colours. The number is always there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TextIO

from scow.reports.plots import heat_colour
from scow.song.results import INTERVAL, ExcerptPrediction, HearingLossPrediction, SongPrediction, WordProbability

HARDEST = 5


def takes_colours(stream: TextIO) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def song_text(song: SongPrediction, *, colours: bool) -> str:
    """All that a prediction says, in lines.

    Parameters
    ----------
    song : SongPrediction
    colours : bool
        Whether words get a coloured background.
    """
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    models = ", ".join(song.whisper_models)
    lines = [f"{song.name}, {clock(song.duration_s)}; checkpoint {song.checkpoint} (Whisper {models})"]
    if song.simulated:
        lines.append(f"Hearing loss simulated (MSBG) at {song.level_db_spl:g} dB SPL.")
    lines += [f"note: {note}" for note in song.notes]
    lines.append("")
    lines += _excerpt(song, width, colours=colours) if len(song.lines) == 1 else _song(song, width, colours=colours)
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Minutes and seconds: ``1:05.3``."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def _excerpt(song: SongPrediction, width: int, *, colours: bool) -> list[str]:
    """One excerpt: a score per severity, then what was heard and each word."""
    line = song.lines[0]
    rows = [f"{'':10} {'score':>5}  {INTERVAL:.0%} of listeners"]
    rows += [f"{s.hearing_loss:10} {s.score:5.1f}  {s.low:.0f} to {s.high:.0f}" for s in line.severities]
    for severity in line.severities:
        rows += ["", severity.hearing_loss, *_heard(severity), *_words(severity.words, width, colours=colours)]
    return rows


def _song(song: SongPrediction, width: int, *, colours: bool) -> list[str]:
    """A song: overall scores, the lines in time, the hardest of them."""
    names = song.hearing_losses
    rows = [f"{'':10} {'score':>5}  of {sum(len(line.severities[0].words) for line in song.lines)} words"]
    rows += [f"{name:10} {song.score(name):5.1f}" for name in names]
    rows += ["", f"{'time':>7} {''.join(f'{name:>10}' for name in names)}  line"]
    for line in song.lines:
        scores = "".join(f"{line.at(name).score:10.1f}" for name in names)
        rows.append(f"{clock(line.start_s):>7} {scores}  {_shortened(line.lyrics, width - 10 - 10 * len(names))}")
    worst = names[-1]
    rows += ["", f"Hardest lines ({worst}):"]
    for line in song.hardest(worst, min(HARDEST, len(song.lines) - 1)):
        rows += ["", *_hard_line(line, worst, width, colours=colours)]
    return rows


def _hard_line(line: ExcerptPrediction, hearing_loss: str, width: int, *, colours: bool) -> list[str]:
    severity = line.at(hearing_loss)
    place = f"{clock(line.start_s)} to {clock(line.end_s)}"
    head = f"{place}  score {severity.score:.1f} ({severity.low:.0f} to {severity.high:.0f})"
    return [head, *_heard(severity), *_words(severity.words, width, colours=colours)]


def _heard(severity: HearingLossPrediction) -> list[str]:
    several = len({heard.model for heard in severity.heard}) > 1
    names = [f"{heard.ear} ear{f', {heard.model}' if several else ''}" for heard in severity.heard]
    room = max(map(len, names), default=0)
    return [f"  {name:{room}}  {heard.shown()}" for name, heard in zip(names, severity.heard, strict=True)]


def _words(words: Sequence[WordProbability], width: int, *, colours: bool) -> list[str]:
    """Words with their probability in percent, broken into lines."""
    rows, room = ["  "], width - 2
    for word in words:
        text = f"{word.word} {100 * word.probability:.0f}"
        if room < len(text) + 3 and rows[-1].strip():
            rows.append("  ")
            room = width - 2
        rows[-1] += _coloured(f" {text} ", word.probability) if colours else f"{text}  "
        room -= len(text) + 2
    return [row.rstrip() for row in rows]


def _coloured(text: str, share: float) -> str:
    """Text on the background of a share, in 24-bit colours."""
    ground, ink = (";".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) for colour in heat_colour(share))
    return f"\x1b[48;2;{ground}m\x1b[38;2;{ink}m{text}\x1b[0m"


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(1, room - 1)]}…"
