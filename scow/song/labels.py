"""Labels of hard lines and words, in the text format of Audacity, which other editors and workstations import too.

A row is a label: start and end in seconds, and a text, with tabs between them. With several hearing losses, each has
its own labels, which begin with its name.

- A word with a probability below the limit, at the time at which it is sung: ``12: star``.
- A line with a score below the limit, or in which no word was caught: ``33: twinkle twinkle little star``. The words
  below the limit that have no time, because Whisper did not catch them, are added: ``(star 12)``. Such words alone
  give their line a label, too.
"""

from __future__ import annotations

from pathlib import Path

from scow.reports.render import write_text
from scow.song.results import SongPrediction


def write_labels(path: Path, song: SongPrediction, below: float) -> None:
    """Write the labels of lines and words below a limit in percent."""
    rows = [f"{start:.6f}\t{end:.6f}\t{' '.join(text.split())}\n" for start, end, text in sorted(_labels(song, below))]
    write_text(path, "".join(rows))


def _labels(song: SongPrediction, below: float) -> list[tuple[float, float, str]]:
    labels = []
    for line in song.lines:
        for found in line.severities:
            name = f"{found.hearing_loss} " if len(song.hearing_losses) > 1 else ""
            untimed = []
            for word in found.words:
                percent = 100 * word.probability
                if percent < below and word.start_s is not None and word.end_s is not None:
                    labels.append((word.start_s, word.end_s, f"{name}{percent:.0f}: {word.word}"))
                elif percent < below:
                    untimed.append(f"{word.word} {percent:.0f}")
            if untimed or found.score < below or not found.caught:
                score = f"{found.score:.0f}" if found.caught else "no word caught"
                words = f" ({', '.join(untimed)})" if untimed else ""
                labels.append((line.start_s, line.end_s, f"{name}{score}: {line.lyrics}{words}"))
    return labels
