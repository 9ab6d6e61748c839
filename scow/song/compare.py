"""Several mixes of a song, compared line by line.

All mixes are predicted with the same lines, so that differences are due to the mix. Lyrics without times are aligned
with the first mix. A line that cannot be predicted in one of the mixes is left out of all.

The difference of a mix is its score minus that of the first one, over the same words. Its 95 % interval comes from
drawing lines with replacement, each with all its words (`scow.metrics`): it is narrow where most lines change alike. It
does not tell how single listeners differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scow.data.audio import StereoSignal
from scow.errors import UserError, expect
from scow.metrics import Estimate, bootstrap_estimates
from scow.song.hearing_loss import Progress
from scow.song.lyrics_files import TimedLine
from scow.song.predictor import Predictor
from scow.song.results import FailedLine, SongPrediction
from scow.song.song import PredictOptions, predict_song


@dataclass(frozen=True)
class SongComparison:
    """Mixes of a song with the same lines."""

    songs: tuple[SongPrediction, ...]  # at least two; the others are compared with the first
    failed: tuple[tuple[str, FailedLine], ...]  # name of a mix, and a line that is left out

    def difference(self, song: SongPrediction, hearing_loss: str, seed: int = 0) -> Estimate:
        """Score of a mix minus that of the first, in points; without an interval where there is one line."""
        first = self.songs[0]
        n_words = [len(line.at(hearing_loss).words) for line in song.lines]
        changes = [b - a for a, b in zip(first.line_scores(hearing_loss), song.line_scores(hearing_loss), strict=True)]
        if len(changes) == 1:
            return Estimate(changes[0])
        mean = {"difference": lambda change, n: float(np.average(change, weights=n))}
        rng = np.random.default_rng(seed)
        return bootstrap_estimates(mean, (changes, n_words), np.arange(len(changes)), rng)["difference"]

    def table(self, hearing_loss: str) -> list[tuple[str, ...]]:
        """A header, and a row per mix as text, the highest score first."""
        first = self.songs[0]
        rows: list[tuple[str, ...]] = [("mix", "score", "floor", f"difference to {first.name}", "95 % interval")]
        for song in sorted(self.songs, key=lambda song: -song.score(hearing_loss)):
            found = self.difference(song, hearing_loss)
            change = "" if song is first else f"{found.value:+.1f}"
            between = "" if song is first or found.low is None else f"{found.low:+.1f} to {found.high:+.1f}"
            scores = (f"{of(hearing_loss):.1f}" for of in (song.score, song.floor))
            rows.append((song.name, *scores, change, between))
        return rows

    def changes(self, hearing_loss: str) -> list[tuple[int, float]]:
        """Index of each line, and the largest of its changes from the first mix, the greatest gain or loss first."""
        scores = np.array([song.line_scores(hearing_loss) for song in self.songs])
        change = scores[1:] - scores[0]
        largest = change[np.abs(change).argmax(axis=0), range(change.shape[1])].tolist()
        return sorted(enumerate(largest), key=lambda pair: -abs(pair[1]))

    def to_frame(self) -> pd.DataFrame:
        """A row per mix, line and hearing loss: ``mix`` and the columns of `SongPrediction.to_frame`."""
        return pd.concat({song.name: song.to_frame() for song in self.songs}, names=["mix", None]).reset_index("mix")


def compare_songs(
    audios: Sequence[Path | str | StereoSignal],
    lyrics: Path | str | Sequence[TimedLine],
    options: PredictOptions | None = None,
    *,
    predictor: Predictor | Callable[[], Predictor] = Predictor.load,
    progress: Progress | None = None,
) -> SongComparison:
    """Predict the same lines in several mixes of a song; parameters as in `predict_song`."""
    expect(len(audios) > 1, "mixes", "at least two", len(audios))
    names = [str(audio) if isinstance(audio, (Path, str)) else f"signal {i}" for i, audio in enumerate(audios, start=1)]
    short = [Path(name).name for name in names]
    names = short if len(set(short)) == len(short) else names
    expect(len(set(names)) == len(names), "mixes", "each file once", ", ".join(names))
    for audio in audios:
        if not isinstance(audio, StereoSignal):  # before the first is predicted
            expect(Path(audio).is_file(), audio, "an audio file", "none")
    loaded = predictor if isinstance(predictor, Predictor) else predictor()
    first = predict_song(audios[0], lyrics, options, predictor=loaded, progress=progress)
    if first.approximate:
        lyrics = [TimedLine(line.start_s, line.end_s, line.lyrics) for line in first.lines]
    others = [predict_song(audio, lyrics, options, predictor=loaded, progress=progress) for audio in audios[1:]]
    songs = [first, *others]
    places = [{(line.start_s, line.lyrics) for line in song.lines} for song in songs]
    common = set.intersection(*places)
    if not common:
        raise UserError(f"mixes: expected lines that can be predicted in all of {', '.join(names)}, found none")
    kept = [
        replace(song, name=name, lines=tuple(line for line in song.lines if (line.start_s, line.lyrics) in common))
        for song, name in zip(songs, names, strict=True)
    ]
    return SongComparison(tuple(kept), tuple((song.name, line) for song in kept for line in song.failed))
