"""Results of a prediction, as plain values: of a word, of an excerpt with one hearing loss, of an excerpt, of a song.

A score is the share of words, in points of 0-100, that a listener is predicted to write down. ``low`` and ``high`` are
the ends of the interval that holds one listener's score with a probability of `INTERVAL`. The names of the fields are
also the keys of ``predict.py --json``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from scow.data.audio import StereoSignal

INTERVAL = 0.8


@dataclass(frozen=True)
class WordProbability:
    """A word of the lyrics, and how likely a listener writes it down."""

    word: str  # normalized
    probability: float  # 0-1
    start_s: float | None = None  # in the file, as end_s; None unless `PredictOptions.word_times` and Whisper caught it
    end_s: float | None = None


@dataclass(frozen=True)
class ChannelTranscript:
    """Transcript of one channel by one Whisper model."""

    model: str
    ear: str  # left or right channel
    transcript: str  # empty where the channel is silent

    def shown(self, longest: int = 160) -> str:
        """The transcript for a reader, cut: Whisper can repeat itself for hundreds of words."""
        return shortened(self.transcript or "(nothing)", longest)


@dataclass(frozen=True)
class HearingLossPrediction:
    """Prediction of an excerpt for listeners with one hearing loss."""

    hearing_loss: str  # No Loss, Mild or Moderate
    score: float  # 0-100, as low and high
    low: float
    high: float
    floor: float  # the score of the same words where nothing is heard: what the words alone tell the model
    caught: bool  # whether Whisper caught any of the words; if not, only the floor is known
    words: tuple[WordProbability, ...]
    heard: tuple[ChannelTranscript, ...]  # by model, the largest last; left then right

    @property
    def above_floor(self) -> float:
        """What hearing adds to the score; lines and mixes are ranked by it."""
        return self.score - self.floor


@dataclass(frozen=True)
class ExcerptPrediction:
    """An excerpt: a whole file of at most 30 s, or a line of a song."""

    start_s: float  # in the file, as end_s
    end_s: float
    lyrics: str  # as given
    severities: tuple[HearingLossPrediction, ...]  # one per hearing loss

    def at(self, hearing_loss: str) -> HearingLossPrediction:
        """The prediction for one hearing loss."""
        return next(prediction for prediction in self.severities if prediction.hearing_loss == hearing_loss)


@dataclass(frozen=True)
class FailedLine:
    """A line that could not be predicted, and why."""

    start_s: float
    lyrics: str
    reason: str


@dataclass(frozen=True)
class SongPrediction:
    """A song, or a single excerpt, which then is its only line."""

    name: str  # of the file
    duration_s: float
    checkpoint: str
    whisper_models: tuple[str, ...]
    hearing_losses: tuple[str, ...]
    simulated: bool  # whether a hearing loss was simulated here
    level_db_spl: float | None  # of the song, in that simulation
    approximate: bool  # whether the times of the lines come from an alignment
    lines: tuple[ExcerptPrediction, ...]  # in the order of their starts; at least one
    failed: tuple[FailedLine, ...]
    notes: tuple[str, ...]
    outline: tuple[tuple[float, float], ...] = dataclasses.field(repr=False)  # (min, max) of equal parts: the waveform
    # Lines as presented, by hearing loss, and as they are (No Loss); empty unless `PredictOptions.keep_audio`.
    audio: Mapping[str, Sequence[StereoSignal]] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def score(self, hearing_loss: str) -> float:
        """Mean score of all lines in 0-100, each weighted by its number of words."""
        words = [word for line in self.lines for word in line.at(hearing_loss).words]
        return 100 * sum(word.probability for word in words) / len(words)

    def floor(self, hearing_loss: str) -> float:
        """Mean floor of all lines, weighted likewise."""
        found = [line.at(hearing_loss) for line in self.lines]
        return sum(line.floor * len(line.words) for line in found) / sum(len(line.words) for line in found)

    def line_scores(self, hearing_loss: str) -> list[float]:
        """Score of each line."""
        return [line.at(hearing_loss).score for line in self.lines]

    def hardest(self, hearing_loss: str, n: int = 5) -> tuple[ExcerptPrediction, ...]:
        """The `n` lines of which the least is heard, compared with what their words alone tell; the hardest first."""
        return tuple(sorted(self.lines, key=lambda line: line.at(hearing_loss).above_floor)[:n])

    def to_frame(self) -> pd.DataFrame:
        """A row per line and hearing loss: line, start_s, end_s, lyrics, hearing_loss, n_words and the scores."""
        import pandas as pd  # here: slow, and rarely needed

        rows = [
            {
                **{"line": number, "start_s": line.start_s, "end_s": line.end_s, "lyrics": line.lyrics},
                **{"hearing_loss": found.hearing_loss, "n_words": len(found.words)},
                **{name: getattr(found, name) for name in ("score", "low", "high", "floor", "caught")},
            }
            for number, line in enumerate(self.lines, start=1)
            for found in line.severities
        ]
        return pd.DataFrame(rows)

    def plain(self) -> dict[str, Any]:
        """All but outline and audio, and the scores of the song, as values for JSON, rounded to 4 decimals."""
        text = json.dumps(dataclasses.asdict(dataclasses.replace(self, audio={})))
        values: dict[str, Any] = json.loads(text, parse_float=lambda number: round(float(number), 4))
        del values["outline"], values["audio"]
        scores = {name: round(self.score(name), 4) for name in self.hearing_losses}
        return {"interval": INTERVAL, "scores": scores, **values}


def shortened(text: str, room: int) -> str:
    """At most `room` characters of a text."""
    return text if len(text) <= room else f"{text[: max(1, room - 1)]}…"
