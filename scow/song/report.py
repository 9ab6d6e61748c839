"""A song's prediction as a page: the waveform with its lines, the words, the hardest lines, for each hearing loss.

A switch shows one hearing loss at a time. Its links carry the hearing loss in the address of the page
(``report.html#moderate``, ``#all`` for all at once; ``#moderate-line-3`` is a line), so that a view can be sent to
someone else. Without scripts, and in print, all hearing losses are shown one below another.

If the prediction kept the audio of its lines, the page plays them, as they are and as presented for each hearing loss.
The audio is MP3 inside the file: 96 kbit/s, which as base64 is 1 MB per minute and hearing loss.

The colours are those of `scow.reports.plots.heat_colour`; every number is also there as text.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from scow.data.audio import StereoSignal
from scow.io import atomic_write
from scow.reports.plots import Interval, Plot, intervals, lines, waveform
from scow.reports.render import render, write_figures, write_text
from scow.song.compare import SongComparison
from scow.song.results import INTERVAL, SongPrediction
from scow.song.terminal import HARDEST, clock

WAVE_WIDTH = 1000.0  # units of the waveform's picture, which is stretched to the page; its height is 100
TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300)
KBIT_PER_S = 96
HEAD_BYTES = 2_000  # of a page, in which what it was made with comes before the styles


def write_song_report(path: Path, song: SongPrediction, made_with: str = "") -> None:
    """Write the page of a song or of a single excerpt as one HTML file; `made_with` is for `is_made_with`."""
    page = render(
        "song.html.j2",
        song=song,
        made_with=made_with,
        plots=song_plots(song),
        score_table=_score_table(song),
        percent=f"{INTERVAL:.0%}",
        n_hardest=min(HARDEST, len(song.lines) - 1) if len(song.lines) > 2 else 0,
        wave=_wave(song),
        sounds=_sounds(song),
        clock=clock,
        anchor=anchor,
    )
    write_text(path, page)


def is_made_with(path: Path, made_with: str) -> bool:
    """Whether a page is there, and was written with this `made_with`."""
    if not path.is_file():
        return False
    with path.open("rb") as page:
        return f'content="{made_with}"'.encode() in page.read(HEAD_BYTES)


def write_comparison_report(path: Path, comparison: SongComparison) -> None:
    """Write the page of several mixes of a song as one HTML file."""
    page = render(
        "comparison.html.j2",
        comparison=comparison,
        first=comparison.songs[0],
        tables={name: comparison.table(name) for name in comparison.songs[0].hearing_losses},
        clock=clock,
        anchor=anchor,
    )
    write_text(path, page)


def write_audio(folder: Path, song: SongPrediction) -> None:
    """Write the lines of a song that kept its audio, as they are and as presented: ``<line>-<hearing loss>.wav``.

    Samples are 32-bit floats at 44.1 kHz, which are not clipped.
    """
    for name, signals in song.audio.items():
        for number, signal in enumerate(signals, start=1):
            with atomic_write(folder / f"{number:03d}-{anchor(name)}.wav") as temporary:
                soundfile.write(temporary, signal.samples.T, signal.rate_hz, format="WAV", subtype="FLOAT")


def write_song_figures(folder: Path, song: SongPrediction) -> list[Path]:
    """Write scores, and a waveform for each hearing loss, as PDF and SVG; returns the paths of the former."""
    plots = song_plots(song)
    for name in song.hearing_losses:
        spans = [(line.start_s, line.end_s, line.at(name).score / 100) for line in song.lines]
        figure = waveform(song.outline, song.duration_s, spans)
        plots[f"waveform-{anchor(name)}"] = Plot(figure, f"Waveform of {song.name}, {name}", "Colours are scores.")
    return write_figures(folder, plots)


def anchor(hearing_loss: str) -> str:
    """Name of a hearing loss in addresses and file names."""
    return hearing_loss.lower().replace(" ", "-")


def song_plots(song: SongPrediction) -> dict[str, Plot]:
    """The score of each hearing loss of an excerpt, or of each line of a song over time."""
    names = song.hearing_losses
    if len(song.lines) == 1:
        rows = [Interval(s.hearing_loss, s.score, s.low, s.high, i) for i, s in enumerate(song.lines[0].severities)]
        figure, title = intervals(rows, "words written down (%)", (0.0, 100.0)), "Score by hearing loss"
        shown = "; ".join(f"{row.name} {row.value:.0f}, from {row.low:.0f} to {row.high:.0f}" for row in rows)
    else:
        starts, scores = [line.start_s for line in song.lines], {name: song.line_scores(name) for name in names}
        figure = lines({name: (starts, of) for name, of in scores.items()}, "time (s)", "score", 100.0)
        title = "Score of each line over time"
        ranges = "; ".join(f"{name} from {min(of):.0f} to {max(of):.0f}" for name, of in scores.items())
        shown = f"{len(song.lines)} lines. {ranges}."
    return {"scores": Plot(figure, title, shown)}


def _score_table(song: SongPrediction) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]]
    if len(song.lines) == 1:
        header = ("score", "floor", f"{INTERVAL:.0%} of listeners")
        found = song.lines[0].severities
        rows = [(s.hearing_loss, f"{s.score:.1f}", f"{s.floor:.1f}", f"{s.low:.0f} to {s.high:.0f}") for s in found]
        return [("hearing loss", *header), *rows]
    of = {name: song.line_scores(name) for name in song.hearing_losses}
    scores = [(name, song.score(name), song.floor(name), min(of[name]), max(of[name])) for name in of]
    rows = [(name, *(f"{score:.1f}" for score in of_song)) for name, *of_song in scores]
    return [("hearing loss", "score", "floor", "lowest line", "highest line"), *rows]


def _sounds(song: SongPrediction) -> dict[str, list[str]]:
    """Each line as base64 MP3, by name of the hearing loss; one gain for all, so that none is clipped."""
    signals = [signal for lines in song.audio.values() for signal in lines]
    gain = 1 / max([1.0, *(float(np.abs(signal.samples).max()) for signal in signals)])
    return {name: [_mp3(signal, gain) for signal in lines] for name, lines in song.audio.items()}


def _mp3(signal: StereoSignal, gain: float) -> str:
    buffer = io.BytesIO()
    level = (320 - KBIT_PER_S) / (320 - 32)  # libsndfile's scale between the bit rates of MP3
    samples = gain * signal.samples.T
    soundfile.write(buffer, samples, signal.rate_hz, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    return base64.b64encode(buffer.getvalue()).decode()


def _wave(song: SongPrediction) -> dict[str, Any]:
    """Geometry of the waveform: a place and an outline for each line, the outline between lines, ticks."""
    pieces = [(k + 0.5) * song.duration_s / len(song.outline) for k in range(len(song.outline))]
    largest = max(max(-low, high) for low, high in song.outline) or 1.0
    strokes = [
        f"M{WAVE_WIDTH * at / song.duration_s:.1f} {50 - 46 * high / largest:.1f}V{50.3 - 46 * low / largest:.1f}"
        for at, (low, high) in zip(pieces, song.outline, strict=True)
    ]
    covers = [[line.start_s <= at < line.end_s for at in pieces] for line in song.lines]
    step = next((s for s in TICK_STEPS_S if song.duration_s / s <= 5), 600)
    return {
        "width": WAVE_WIDTH,
        "stroke": 1.05 * WAVE_WIDTH / len(strokes),
        "gaps": "".join(stroke for stroke, *inside in zip(strokes, *covers, strict=True) if not any(inside)),
        "lines": [
            {
                "line": line,
                "x": WAVE_WIDTH * line.start_s / song.duration_s,
                "width": WAVE_WIDTH * (line.end_s - line.start_s) / song.duration_s,
                "path": "".join(stroke for stroke, inside in zip(strokes, cover, strict=True) if inside),
            }
            for line, cover in zip(song.lines, covers, strict=True)
        ],
        "ticks": range(0, int(0.9 * song.duration_s) + 1, step),
    }
