"""A song's prediction made by hand, for tests of how it is shown."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scow.data.audio import FILE_RATE_HZ, StereoSignal
from scow.data.tables import HEARING_LOSSES
from scow.song import results

LINES = ("do you know i am truly alone", "the <b>sun</b> & moon", "la la", "gone")
SHARES = {"No Loss": (0.9, 0.8, 0.7, 0.2), "Mild": (0.7, 0.3, 0.6, 0.1), "Moderate": (0.4, 0.1, 0.5, 0.05)}


def severity(name: str, lyrics: str, share: float) -> results.HearingLossPrediction:
    words = tuple(results.WordProbability(word, share) for word in lyrics.split())
    heard = tuple(results.ChannelTranscript("tiny.en", *of) for of in (("left", f"heard {lyrics}"), ("right", "")))
    return results.HearingLossPrediction(name, 100 * share, 50 * share, 50 + 50 * share, 5.0, share > 0.1, words, heard)


def song(
    lines: Sequence[str] = LINES, hearing_losses: Sequence[str] = HEARING_LOSSES, *, failed: bool = False
) -> results.SongPrediction:
    """Lines of 10 s each with 2 s between them; every word of a line has the same probability."""
    return results.SongPrediction(
        name="song & <dance>.flac",
        duration_s=12.0 * len(lines),
        checkpoint="lite",
        whisper_models=("tiny.en",),
        hearing_losses=tuple(hearing_losses),
        simulated="Mild" in hearing_losses,
        level_db_spl=65.0 if "Mild" in hearing_losses else None,
        approximate=False,
        lines=tuple(
            results.ExcerptPrediction(
                12.0 * i, 12.0 * i + 10, text, tuple(severity(name, text, SHARES[name][i]) for name in hearing_losses)
            )
            for i, text in enumerate(lines)
        ),
        failed=(results.FailedLine(99.0, "the <end>", "begins at 99.00 s, but the song ends"),) if failed else (),
        notes=("The recording is clipped.",),
        outline=tuple((-0.1 - 0.001 * (i % 50), 0.1 + 0.002 * (i % 70)) for i in range(200)),
    )


def with_audio(prediction: results.SongPrediction, seconds: float = 10.0) -> results.SongPrediction:
    """The same with a tone for each line and hearing loss, above full scale, and times for every second word."""
    t = np.arange(round(seconds * FILE_RATE_HZ)) / FILE_RATE_HZ
    tones = [np.tile(np.sin(2 * np.pi * f * t), (2, 1)).astype(np.float32) for f in 300.0 + 100 * np.arange(4)]
    signals = [StereoSignal(1.5 * tone, FILE_RATE_HZ) for tone in tones[: len(prediction.lines)]]
    timed = tuple(
        replace(line, severities=tuple(_with_times(line.start_s, found) for found in line.severities))
        for line in prediction.lines
    )
    return replace(prediction, lines=timed, audio=dict.fromkeys(prediction.hearing_losses, signals))


def _with_times(start_s: float, prediction: results.HearingLossPrediction) -> results.HearingLossPrediction:
    starts = [start_s + 0.3 * k if k % 2 == 0 else None for k in range(len(prediction.words))]
    words = [
        replace(word, start_s=start, end_s=None if start is None else start + 0.3)
        for word, start in zip(prediction.words, starts, strict=True)
    ]
    return replace(prediction, words=tuple(words))
