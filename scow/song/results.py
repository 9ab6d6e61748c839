"""What a prediction says: of a word, of an excerpt at one severity, of an excerpt, of a song. Plain values, no logic.

A score is the share of words, in points of 0-100, that a listener is predicted to write down. ``low`` and ``high`` are
the ends of the interval that holds one listener's score with a probability of `INTERVAL`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

INTERVAL = 0.8


@dataclass(frozen=True)
class WordProbability:
    """A word of the lyrics, normalised, and the probability in 0-1 that a listener writes it down."""

    word: str
    probability: float


@dataclass(frozen=True)
class ChannelTranscript:
    """What one Whisper model heard in one ear; empty where the ear is silent."""

    model: str
    ear: str
    transcript: str

    def shown(self, longest: int = 160) -> str:
        """The transcript for a reader: Whisper can get caught in a loop, which goes on for hundreds of words."""
        text = self.transcript or "(nothing)"
        return text if len(text) <= longest else f"{text[: longest - 1]}…"


@dataclass(frozen=True)
class HearingLossPrediction:
    """What a listener with one hearing loss is predicted to catch of an excerpt.

    Attributes
    ----------
    hearing_loss : str
        Of `scow.data.tables.HEARING_LOSSES`.
    score, low, high : float
        In 0-100.
    words : tuple of WordProbability
    heard : tuple of ChannelTranscript
    """

    hearing_loss: str
    score: float
    low: float
    high: float
    words: tuple[WordProbability, ...]
    heard: tuple[ChannelTranscript, ...]


@dataclass(frozen=True)
class ExcerptPrediction:
    """An excerpt: a whole file of at most 30 s, or a line of a song.

    Attributes
    ----------
    start_s, end_s : float
        Place in the file.
    lyrics : str
        As given.
    severities : tuple of HearingLossPrediction
    """

    start_s: float
    end_s: float
    lyrics: str
    severities: tuple[HearingLossPrediction, ...]

    def at(self, hearing_loss: str) -> HearingLossPrediction:
        """The prediction for one severity."""
        return next(severity for severity in self.severities if severity.hearing_loss == hearing_loss)


@dataclass(frozen=True)
class FailedLine:
    """A line that could not be predicted, and why."""

    start_s: float
    lyrics: str
    reason: str


@dataclass(frozen=True)
class SongPrediction:
    """A song, or a single excerpt, which then is its only line.

    Attributes
    ----------
    name : str
        Of the file.
    duration_s : float
    checkpoint : str
    whisper_models : tuple of str
    hearing_losses : tuple of str
        That were predicted.
    simulated : bool
        Whether the hearing loss was simulated here, rather than being in the file or none.
    level_db_spl : float or None
        At which the song was presented to the simulation.
    approximate : bool
        Whether the times of the lines come from an alignment.
    lines : tuple of ExcerptPrediction
        In the order of their starts; at least one.
    failed : tuple of FailedLine
    notes : tuple of str
        What the reader should know.
    outline : tuple of (float, float)
        Smallest and largest sample of equal stretches of the song, for a picture of it.
    """

    name: str
    duration_s: float
    checkpoint: str
    whisper_models: tuple[str, ...]
    hearing_losses: tuple[str, ...]
    simulated: bool
    level_db_spl: float | None
    approximate: bool
    lines: tuple[ExcerptPrediction, ...]
    failed: tuple[FailedLine, ...]
    notes: tuple[str, ...]
    outline: tuple[tuple[float, float], ...] = dataclasses.field(repr=False)

    def score(self, hearing_loss: str) -> float:
        """Mean score of all lines in 0-100, each weighted by its number of words."""
        words = [word for line in self.lines for word in line.at(hearing_loss).words]
        return 100 * sum(word.probability for word in words) / len(words)

    def hardest(self, hearing_loss: str, n: int = 5) -> tuple[ExcerptPrediction, ...]:
        """The `n` lines with the lowest scores, the lowest first."""
        return tuple(sorted(self.lines, key=lambda line: line.at(hearing_loss).score)[:n])

    def plain(self) -> dict[str, Any]:
        """Everything but the outline, and the song's scores, as values that JSON knows, rounded to 4 decimals."""
        values: dict[str, Any] = _rounded(dataclasses.asdict(self))
        del values["outline"]
        scores = {name: round(self.score(name), 4) for name in self.hearing_losses}
        return {"interval": INTERVAL, "scores": scores, **values}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
