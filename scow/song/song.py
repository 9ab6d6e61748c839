"""From an audio file and lyrics to a prediction: of an excerpt (`predict_excerpt`) or of a song (`predict_song`).

1. The audio is read (`scow.song.audio`).
2. Lines with times come from the lyrics file (`scow.song.lyrics_files`) or, without times, from an alignment with a
   transcript of the song (`scow.song.alignment`); without lyrics, from the transcript alone (`scow.song.guess`).
3. The song is cut into its lines. Each is an excerpt by itself, as in the challenge.
4. Each line is simulated with each hearing loss (`scow.song.hearing_loss`).
5. Each result is predicted (`scow.song.predictor`). Transcripts, and so scores, change with where a line is cut: by
   default five cuts, up to 40 ms earlier or later, are predicted and averaged. An excerpt, whose cut is given, is one.
6. If asked, words get the times at which they are sung, from the attention of the largest Whisper model, for each line
   as it is, or, where that is not predicted, with the first hearing loss. Words that Whisper did not catch have none.

A line that cannot be predicted is listed with its reason and the others are computed. Nothing here prints.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from scow.data.audio import (
    CHANNELS,
    FILE_RATE_HZ,
    MAX_DURATION_S,
    MIN_DURATION_S,
    SOUND,
    StereoSignal,
    is_silent,
    resample_kaiser,
)
from scow.data.tables import HEARING_LOSSES, MAX_WORDS
from scow.errors import UserError, expect, nearest
from scow.song.alignment import align
from scow.song.audio import clipped, read_song
from scow.song.guess import guess_lyrics
from scow.song.hearing_loss import DEFAULT_LEVEL_DB_SPL, INSTALL, SIMULATED, Audiogram, Progress, simulate
from scow.song.lyrics_files import (
    MAX_LINES,
    Lyrics,
    TimedLine,
    check_words,
    lyric_words,
    parse_lyrics,
    read_lyrics,
    split_long,
)
from scow.song.predictor import Predictor
from scow.song.results import ExcerptPrediction, FailedLine, HearingLossPrediction, SongPrediction

LEVEL_RANGE_DB_SPL = (40.0, 90.0)
OUTLINE_PARTS = 600
MAX_SAMPLES = int(MAX_DURATION_S * FILE_RATE_HZ)
SHIFT = int(0.04 * FILE_RATE_HZ)  # of cuts, at most, in samples
MAX_CUTS = 25
FILE_NAME = re.compile(r".*\.[a-z][a-z0-9]{1,3}", re.IGNORECASE)


@dataclass(frozen=True)
class PredictOptions:
    """Whose hearing is predicted, and how a hearing loss is simulated (which needs pyclarity)."""

    hearing_losses: tuple[str, ...] = ("No Loss",)  # of No Loss, Mild, Moderate
    already_simulated: bool = False  # the one hearing loss is in the file already
    audiograms: tuple[Audiogram, Audiogram] | None = None  # own ones, left and right, for one simulated hearing loss
    level_db_spl: float = DEFAULT_LEVEL_DB_SPL  # of the song, as it is played to the simulation
    cache_dir: Path | None = None  # folder that keeps simulations; None keeps nothing
    jobs: int | None = None  # processes that simulate; None: one per core, fewer for short songs
    cuts: int = 5  # of each line of a song, to average over
    keep_audio: bool = False  # whether the result holds the audio of its lines
    word_times: bool = False  # whether the words that Whisper caught get times

    def validate(self) -> None:
        """A `UserError` for values that make no sense."""
        named = ", ".join(self.hearing_losses)
        unknown = [name for name in self.hearing_losses if name not in HEARING_LOSSES]
        low, high = LEVEL_RANGE_DB_SPL
        if unknown:
            raise UserError(f"hearing loss: found {unknown[0]!r}; {nearest(unknown[0], HEARING_LOSSES)}")
        n, own_fit = len(self.hearing_losses), (len(self.simulated), len(self.hearing_losses)) == (1, 1)
        expect(named and len(set(self.hearing_losses)) == n, "hearing loss", "each once", named or "none")
        one = "the one hearing loss that is in the file"
        expect(n == 1 or not self.already_simulated, "already simulated", one, named)
        nearest_class = "the hearing loss Mild or Moderate, of the nearest listeners"
        expect(own_fit or not self.audiograms, "own audiograms", nearest_class, named)
        level_fits = low <= self.level_db_spl <= high
        expect(level_fits, "level", f"{low:g} to {high:g} dB SPL", f"{self.level_db_spl:g}")
        expect(1 <= self.cuts <= MAX_CUTS, "cuts", f"1 to {MAX_CUTS}", self.cuts)
        is_there = not self.simulated or importlib.util.find_spec("clarity")
        expect(is_there, "simulating a hearing loss", "the package pyclarity", f"none; {INSTALL}")

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of these options."""
        (name, *_) = self.hearing_losses
        own = f"The hearing loss was simulated with own audiograms; the model predicts listeners of the class {name}."
        return (own,) if self.audiograms else ()

    @property
    def simulated(self) -> tuple[str, ...]:
        """Hearing losses to simulate."""
        return () if self.already_simulated else tuple(name for name in self.hearing_losses if name in SIMULATED)


def predict_excerpt(
    audio: Path | str | StereoSignal,
    lyrics: str,
    options: PredictOptions | None = None,
    *,
    predictor: Predictor | Callable[[], Predictor] = Predictor.load,
    progress: Progress | None = None,
) -> ExcerptPrediction:
    """Predict one excerpt of 0.25 to 30 s from all words that are sung in it; parameters as in `predict_song`."""
    name, signal = _signal(audio)
    duration_s = signal.samples.shape[1] / signal.rate_hz
    if duration_s > MAX_DURATION_S:
        raise UserError(f"{name}: expected at most {MAX_DURATION_S:g} s, found {duration_s:.1f} s; use predict_song")
    line = TimedLine(0.0, duration_s, " ".join(lyrics.split()))
    return predict_song(signal, [line], options, predictor=predictor, progress=progress).lines[0]


def predict_song(
    audio: Path | str | StereoSignal,
    lyrics: Path | str | Sequence[TimedLine] | None = None,
    options: PredictOptions | None = None,
    *,
    predictor: Predictor | Callable[[], Predictor] = Predictor.load,
    progress: Progress | None = None,
) -> SongPrediction:
    """Predict each line of a song.

    The audio is a file that `scow.song.audio.read_song` reads, or stereo samples at 44.1 kHz. The lyrics are a file or
    text, with or without times (`scow.song.lyrics_files`), or lines with times. Text of one line with at most 30 s
    of audio is one excerpt; other text is aligned with the song. Without lyrics, they are guessed
    (`scow.song.guess`). A function as `predictor` is called after the input was checked. `progress` takes a label, how
    much is done, and of how much.
    """
    options = options or PredictOptions()
    options.validate()
    read = Lyrics(()) if lyrics is None else _lyrics(lyrics)
    name, signal = _signal(audio)
    duration_s = signal.samples.shape[1] / signal.rate_hz
    predictor = predictor if isinstance(predictor, Predictor) else predictor()
    if lyrics is None:
        read = guess_lyrics(signal, predictor, progress)
    timed, notes = _with_times(read.text, signal, duration_s, predictor, progress) if read.text else (read.lines, ())
    within = [replace(line, end_s=max(line.start_s, min(line.end_s, duration_s))) for line in timed]
    checked = [(line, _problem(line, signal)) for line in split_long(within)]
    lines = [line for line, problem in checked if not problem]
    unfit = [FailedLine(line.start_s, line.text, problem) for line, problem in checked if problem]
    failed = sorted([*read.failed, *unfit], key=attrgetter("start_s"))
    if not lines:
        first = failed[0] if failed else FailedLine(0.0, "lyrics", "expected at least one line, found none")
        more = f" (and so for {len(failed)} lines)" if len(failed) > 1 else ""
        raise UserError(f"{first.lyrics[:40]!r}: {first.reason}{more}")

    n_cuts = 1 if lines[0].start_s == 0 and lines[0].end_s == duration_s else options.cuts  # an excerpt
    wider = [_cut(signal, line, SHIFT if n_cuts > 1 else 0) for line in lines]
    simulated = simulate(
        signal,
        wider,
        options.simulated,
        options.level_db_spl,
        options.cache_dir,
        options.jobs,
        progress,
        options.audiograms,
    )
    presented = ({} if options.already_simulated else {"No Loss": wider}) | dict.fromkeys(options.hearing_losses, wider)
    cuts = {
        name: [_shifted(line, wide, one, n_cuts) for line, wide, one in zip(lines, wider, signals, strict=True)]
        for name, signals in (presented | simulated).items()
    }
    excerpts = [
        (cuts[hearing_loss][i], lyric_words(line.text), hearing_loss)
        for i, line in enumerate(lines)
        for hearing_loss in options.hearing_losses
    ]
    predictions = predictor.predict(excerpts, progress=progress)
    n = len(options.hearing_losses)
    by_line = [predictions[i * n : (i + 1) * n] for i in range(len(lines))]
    for i, line in enumerate(lines if options.word_times else ()):
        signals = {name: cuts[name][i][0] for name in options.hearing_losses}
        by_line[i] = _with_word_times(line, signals, by_line[i], predictor)
        if progress:
            progress("timing words", i + 1, len(lines))
    return SongPrediction(
        name=name,
        duration_s=duration_s,
        checkpoint=predictor.name,
        whisper_models=predictor.whisper_columns,
        hearing_losses=options.hearing_losses,
        simulated=bool(options.simulated),
        level_db_spl=options.level_db_spl if options.simulated else None,
        approximate=bool(notes) or lyrics is None,
        lines=tuple(
            ExcerptPrediction(line.start_s, line.end_s, line.text, severities)
            for line, severities in zip(lines, by_line, strict=True)
        ),
        failed=tuple(failed),
        notes=(*read.notes, *notes, *_audio_notes(signal), *options.notes),
        outline=_outline(signal),
        audio={name: [of_line[0] for of_line in cuts[name]] for name in cuts if options.keep_audio},
    )


def _signal(audio: Path | str | StereoSignal) -> tuple[str, StereoSignal]:
    if isinstance(audio, StereoSignal):
        blocks = list(resample_kaiser([audio.samples], audio.rate_hz))
        return "signal", StereoSignal(np.concatenate(blocks, axis=1), FILE_RATE_HZ, audio.notes)
    return Path(audio).name, read_song(Path(audio))


def _lyrics(given: Path | str | Sequence[TimedLine]) -> Lyrics:
    """Lyrics from a file, a text, or lines; text has some word in Latin script."""
    if not isinstance(given, (str, Path)):
        return Lyrics(tuple(given))
    path = Path(given) if isinstance(given, Path) or FILE_NAME.fullmatch(given) else None
    lyrics = read_lyrics(path) if path else parse_lyrics(str(given))
    n_lines = len(lyrics.lines) + len(lyrics.text)
    expect(n_lines <= MAX_LINES, path or "lyrics", f"at most {MAX_LINES} lines", n_lines)
    if not lyrics.lines and not lyrics.failed:
        check_words(" ".join(lyrics.text), str(path or "lyrics"))
    return lyrics


def _with_times(
    lines: tuple[str, ...], signal: StereoSignal, duration_s: float, predictor: Predictor, progress: Progress | None
) -> tuple[tuple[TimedLine, ...], tuple[str, ...]]:
    """Lines of text with times, and notes if the times are approximate."""
    if len(lines) == 1 and duration_s <= MAX_DURATION_S:
        return (TimedLine(0.0, duration_s, lines[0]),), ()
    timed, matched = align(lines, predictor.segments(signal, progress=progress), duration_s)
    notes = ["The times of the lines are approximate: the lyrics were aligned with a Whisper transcript."]
    if 0 in matched:
        notes.append(
            f"Of {matched.count(0)} of {len(timed)} lines no word is in the transcript; their times, and so "
            "their scores, are a guess. An LRC file has exact times."
        )
    return timed, tuple(notes)


def _problem(line: TimedLine, signal: StereoSignal) -> str:
    """Why a line cannot be predicted; empty where it can."""
    duration_s = signal.samples.shape[1] / signal.rate_hz
    length_s = line.end_s - line.start_s
    try:
        n_words = len(check_words(line.text, "lyrics"))
    except UserError as error:
        return str(error)
    if n_words > MAX_WORDS:
        return f"expected at most {MAX_WORDS} words, found {n_words}; break the line"
    if line.start_s >= duration_s:
        return f"begins at {line.start_s:.2f} s, but the song ends at {duration_s:.2f} s"
    if length_s < MIN_DURATION_S:
        until = "the next line or the end of the song"
        return f"lasts {length_s:.2f} s; expected at least {MIN_DURATION_S} s before {until}"
    return f"silent: expected {SOUND}" if is_silent(_cut(signal, line).samples) else ""


def _cut(signal: StereoSignal, line: TimedLine, margin: int = 0) -> StereoSignal:
    """A line, and `margin` samples before and after it, where the song has them."""
    start, end = (round(at * signal.rate_hz) for at in (line.start_s, line.end_s))
    return StereoSignal(signal.samples[:, max(0, start - margin) : end + margin], signal.rate_hz)


def _shifted(line: TimedLine, wide: StereoSignal, presented: StereoSignal, n_cuts: int) -> list[StereoSignal]:
    """Cuts of a line from `presented`, which is `wide` or its simulation, some samples longer; the middle one first."""
    start, end = (round(at * wide.rate_hz) for at in (line.start_s, line.end_s))
    n_wide, n = wide.samples.shape[1], presented.samples.shape[1]
    lead, late = min(start, SHIFT) if n_cuts > 1 else 0, n_wide - (end - start)
    shifts = sorted(np.linspace(-SHIFT, SHIFT, n_cuts) if n_cuts > 1 else [0.0], key=abs)
    begins = [int(np.clip(lead + shift, 0, late)) for shift in shifts]
    return [StereoSignal(presented.samples[:, at : at + n - late][:, :MAX_SAMPLES], wide.rate_hz) for at in begins]


def _with_word_times(
    line: TimedLine,
    signals: Mapping[str, StereoSignal],
    predictions: tuple[HearingLossPrediction, ...],
    predictor: Predictor,
) -> tuple[HearingLossPrediction, ...]:
    """Predictions of a line, for each hearing loss, with the times of its words."""
    chosen = min(predictions, key=lambda prediction: prediction.hearing_loss != "No Loss")
    spans = predictor.word_times(signals[chosen.hearing_loss], chosen)
    times = [(line.start_s + span[0], line.start_s + span[1]) if span else (None, None) for span in spans]
    return tuple(
        replace(
            prediction,
            words=tuple(
                replace(word, start_s=start, end_s=end)
                for word, (start, end) in zip(prediction.words, times, strict=True)
            ),
        )
        for prediction in predictions
    )


def _audio_notes(signal: StereoSignal) -> list[str]:
    clips = ["The recording is clipped: its peaks are cut off. It is used as it is."] if clipped(signal) else []
    channels = zip(CHANNELS, signal.samples, strict=True)
    return [*signal.notes, *clips, *(f"The {name} channel is silent." for name, one in channels if is_silent(one))]


def _outline(signal: StereoSignal) -> tuple[tuple[float, float], ...]:
    parts = np.array_split(signal.samples, min(OUTLINE_PARTS, signal.samples.shape[1]), axis=1)
    return tuple((float(part.min()), float(part.max())) for part in parts)
