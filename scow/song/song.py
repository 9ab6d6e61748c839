"""From an audio file and lyrics to a prediction: of an excerpt (`predict_excerpt`) or of a song (`predict_song`).

    from scow import Predictor, PredictOptions, predict_excerpt, predict_song

    predictor = Predictor.load()                       # stays loaded
    excerpt = predict_excerpt("row.flac", "row row row your boat", predictor=predictor)
    everyone = PredictOptions(hearing_losses=("No Loss", "Mild", "Moderate"))
    song = predict_song("song.mp3", Path("song.lrc"), everyone, predictor=predictor)

A song is read once (`scow.song.audio`), heard once with each hearing loss (`scow.song.hearing_loss`), then cut at the times
of its lines (`scow.song.lyrics_files`, or `scow.song.alignment` where there are none); each line is an excerpt by itself, as in
the challenge. A line that cannot be predicted is listed with its reason and the others go on.

Nothing here prints; `progress` is told how far things are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scow.data.audio import CHANNELS, MAX_DURATION_S, MIN_DURATION_S, ONE_BIT, StereoSignal
from scow.data.tables import HEARING_LOSSES
from scow.errors import SignalError, UserError, nearest
from scow.models.inputs import MAX_WORDS
from scow.song.alignment import align
from scow.song.audio import clipped, read_song
from scow.song.hearing_loss import DEFAULT_LEVEL_DB_SPL, SIMULATED, Progress, check_level, require_installed, simulate
from scow.song.lyrics_files import TimedLine, at_most_30_s, check_words, plain_lines, read_lyrics, timed_lines
from scow.song.predictor import Clip, Predictor
from scow.song.results import ExcerptPrediction, FailedLine, SongPrediction

OUTLINE_PIECES = 600
LONGEST_PATH = 255  # longer text is no path, and asking the file system for it an error
TIMED = (".lrc", ".srt")
SPOKEN_NAMES = {name.split()[0].lower() if name != "No Loss" else "none": (name,) for name in HEARING_LOSSES}


@dataclass(frozen=True)
class PredictOptions:
    """Who listens.

    Attributes
    ----------
    hearing_losses : tuple of str
        Of `scow.data.tables.HEARING_LOSSES`; all but No Loss are simulated, which needs pyclarity.
    already_simulated : bool
        The file is what the listener hears; `hearing_losses` names the one severity.
    level_db_spl : float
        Level at which the song is played to the simulated ears, dB re 20 µPa.
    cache_dir : Path or None
        Where simulations are kept.
    """

    hearing_losses: tuple[str, ...] = ("No Loss",)
    already_simulated: bool = False
    level_db_spl: float = DEFAULT_LEVEL_DB_SPL
    cache_dir: Path | None = None

    def validate(self) -> None:
        """Check the values.

        Raises
        ------
        UserError
        """
        for name in self.hearing_losses:
            if name not in HEARING_LOSSES:
                raise UserError(f"hearing loss: no severity {name!r}; {nearest(name, HEARING_LOSSES)}")
        if not self.hearing_losses or len(set(self.hearing_losses)) < len(self.hearing_losses):
            raise UserError(
                f"hearing loss: expected each severity once, found {', '.join(self.hearing_losses) or 'none'}"
            )
        if self.already_simulated and len(self.hearing_losses) > 1:
            raise UserError(
                "already simulated: expected the one severity that is in the file (none, mild or moderate), "
                f"found {', '.join(self.hearing_losses)}"
            )
        check_level(self.level_db_spl)
        if self.simulated:
            require_installed()

    @property
    def simulated(self) -> tuple[str, ...]:
        """Severities that have to be simulated."""
        return () if self.already_simulated else tuple(name for name in self.hearing_losses if name in SIMULATED)


def hearing_losses_of(name: str) -> tuple[str, ...]:
    """Severities that the command line means by none, mild, moderate or all.

    Raises
    ------
    UserError
        Another name.
    """
    known = {**SPOKEN_NAMES, "all": HEARING_LOSSES}
    if name.lower() not in known:
        raise UserError(f"--hearing-loss: no severity {name!r}; {nearest(name.lower(), known)}")
    return known[name.lower()]


def as_lyrics(text: str) -> Path | str:
    """What the command line means by lyrics: a file, where the text has the name of one, else the words themselves.

    Raises
    ------
    UserError
        The text is the path of a file of another kind.
    """
    named = text.lower().endswith((*TIMED, ".txt")) and "\n" not in text
    if not named and "\n" not in text and len(text) < LONGEST_PATH and Path(text).is_file():
        raise UserError(f"--lyrics: expected a file that ends in .lrc, .srt or .txt, or words, found {text}; rename it")
    return Path(text) if named else text


def predict_excerpt(
    audio: Path | str | StereoSignal,
    lyrics: str,
    options: PredictOptions | None = None,
    *,
    predictor: Predictor | Callable[[], Predictor] = Predictor.load,
    progress: Progress | None = None,
) -> ExcerptPrediction:
    """Predict how many words of one excerpt are caught.

    Parameters
    ----------
    audio : Path, str or StereoSignal
        A file that `scow.song.audio.read_song` reads, or its samples; 0.25 to 30 s.
    lyrics : str
        All words that are sung in it.
    options : PredictOptions, optional
    predictor : Predictor, or callable
        One that stays loaded, or what loads one once the input has proved right; by default `Predictor.load`.
    progress : callable, optional
        Takes a label, how much is done, and of how much.

    Returns
    -------
    ExcerptPrediction

    Raises
    ------
    UserError
        The file, the lyrics or an option is wrong.
    """
    name, signal = _signal(audio)
    duration_s = signal.samples.shape[1] / signal.rate_hz
    if duration_s > MAX_DURATION_S:
        raise UserError(f"{name}: expected at most {MAX_DURATION_S:g} s, found {duration_s:.1f} s; use predict_song")
    line = TimedLine(0.0, duration_s, " ".join(lyrics.split()))
    return predict_song(signal, [line], options, predictor=predictor, progress=progress).lines[0]


def predict_song(
    audio: Path | str | StereoSignal,
    lyrics: Path | str | Sequence[TimedLine],
    options: PredictOptions | None = None,
    *,
    predictor: Predictor | Callable[[], Predictor] = Predictor.load,
    progress: Progress | None = None,
) -> SongPrediction:
    """Predict how many words of each line of a song are caught.

    Parameters
    ----------
    audio : Path, str or StereoSignal
        A file that `scow.song.audio.read_song` reads, or its samples.
    lyrics : Path, str, or sequence of TimedLine
        A file (``.lrc`` and ``.srt`` have times, any other is text), text, or lines with times. Text of one line that
        goes with at most 30 s of audio is taken as one excerpt; other text is aligned with the song.
    options : PredictOptions, optional
    predictor : Predictor, or callable
        One that stays loaded, or what loads one once the input has proved right; by default `Predictor.load`.
    progress : callable, optional
        Takes a label, how much is done, and of how much.

    Returns
    -------
    SongPrediction

    Raises
    ------
    UserError
        The file, the lyrics or an option is wrong, or no line could be predicted.
    """
    options = options or PredictOptions()
    options.validate()
    given = _given_lines(lyrics)  # what is cheap and may be wrong comes first
    name, signal = _signal(audio)
    duration_s = signal.samples.shape[1] / signal.rate_hz
    predictor = predictor if isinstance(predictor, Predictor) else predictor()
    lines, notes = _with_times(given, signal, duration_s, predictor)
    good, failed = _sorted_out(lines, signal, duration_s)
    if not good:
        more = f" (and so for {len(failed)} lines)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0].lyrics[:40]!r}: {failed[0].reason}{more}")

    heard: dict[str, StereoSignal] = dict.fromkeys(options.hearing_losses, signal)
    heard |= simulate(signal, options.simulated, options.level_db_spl, cache_dir=options.cache_dir, progress=progress)
    excerpts = [
        Clip(_cut(heard[severity], line, duration_s), check_words(line.text, "lyrics"), severity)
        for line in good
        for severity in options.hearing_losses
    ]
    predictions = predictor.predict(excerpts, progress=progress)
    n = len(options.hearing_losses)
    return SongPrediction(
        name=name,
        duration_s=duration_s,
        checkpoint=predictor.name,
        whisper_models=tuple(predictor.listeners),
        hearing_losses=options.hearing_losses,
        simulated=bool(options.simulated),
        level_db_spl=options.level_db_spl if options.simulated else None,
        approximate=bool(notes),
        lines=tuple(
            ExcerptPrediction(line.start_s, line.end_s, line.text, predictions[i * n : (i + 1) * n])
            for i, line in enumerate(good)
        ),
        failed=tuple(failed),
        notes=(*notes, *_audio_notes(signal)),
        outline=_outline(signal),
    )


def _signal(audio: Path | str | StereoSignal) -> tuple[str, StereoSignal]:
    if isinstance(audio, StereoSignal):
        return "signal", audio
    return Path(audio).name, read_song(Path(audio))


def _given_lines(lyrics: Path | str | Sequence[TimedLine]) -> tuple[TimedLine, ...] | tuple[str, ...]:
    """Lines with times, or lines of text that have words in Latin script."""
    if isinstance(lyrics, Path) and lyrics.suffix.lower() in TIMED:
        return at_most_30_s(timed_lines(lyrics))
    if not isinstance(lyrics, (str, Path)):
        return at_most_30_s(lyrics)
    text = read_lyrics(lyrics) if isinstance(lyrics, Path) else lyrics
    lines = plain_lines(text)
    check_words(" ".join(lines), str(lyrics) if isinstance(lyrics, Path) else "lyrics")
    return lines


def _with_times(
    given: tuple[TimedLine, ...] | tuple[str, ...], signal: StereoSignal, duration_s: float, predictor: Predictor
) -> tuple[tuple[TimedLine, ...], tuple[str, ...]]:
    """Lines with times, and what to say where these are approximate."""
    timed = [line for line in given if isinstance(line, TimedLine)]
    plain = [line for line in given if isinstance(line, str)]
    if not plain:
        return tuple(timed), ()
    if len(plain) == 1 and duration_s <= MAX_DURATION_S:
        return (TimedLine(0.0, duration_s, plain[0]),), ()
    alignment = align(plain, predictor.segments(signal), duration_s)
    notes = ["The times of the lines are approximate: the lyrics were aligned with what Whisper heard."]
    if alignment.unheard:
        notes.append(
            f"Of {alignment.unheard} of {len(alignment.lines)} lines Whisper heard no word; where they lie is a guess, "
            "and so is their score. An LRC file with times would tell."
        )
    return at_most_30_s(alignment.lines), tuple(notes)


def _sorted_out(
    lines: Sequence[TimedLine], signal: StereoSignal, duration_s: float
) -> tuple[list[TimedLine], list[FailedLine]]:
    """Lines that can be predicted, ends within the song, and those that cannot."""
    good: list[TimedLine] = []
    failed: list[FailedLine] = []
    for line in lines:
        inside = replace(line, end_s=min(line.end_s, duration_s))
        try:
            _check_line(inside, signal, duration_s)
            good.append(inside)
        except UserError as error:
            failed.append(FailedLine(line.start_s, line.text, str(error)))
    return good, failed


def _check_line(line: TimedLine, signal: StereoSignal, duration_s: float) -> None:
    words = check_words(line.text, "lyrics")
    if len(words) > MAX_WORDS:
        raise UserError(f"expected at most {MAX_WORDS} words, found {len(words)}; break the line")
    if line.start_s >= duration_s:
        raise UserError(f"begins at {line.start_s:.2f} s, but the song ends at {duration_s:.2f} s; mend the time")
    if line.end_s - line.start_s < MIN_DURATION_S:
        raise UserError(
            f"lasts {max(0.0, line.end_s - line.start_s):.2f} s; expected at least {MIN_DURATION_S} s before the next line "
            "or the end of the song"
        )
    cut = _cut(signal, line, duration_s).samples
    if float(np.abs(cut).max()) <= ONE_BIT:
        raise SignalError("silent: expected some sample above one 16-bit step")


def _cut(signal: StereoSignal, line: TimedLine, duration_s: float) -> StereoSignal:
    """The part of a song in which a line is sung; to the song's end it includes what a simulation appends."""
    start = round(line.start_s * signal.rate_hz)
    end = None if line.end_s >= duration_s else round(line.end_s * signal.rate_hz)
    longest = start + int(MAX_DURATION_S * signal.rate_hz)
    return StereoSignal(signal.samples[:, start : longest if end is None else min(end, longest)], signal.rate_hz)


def _audio_notes(signal: StereoSignal) -> tuple[str, ...]:
    notes = []
    if clipped(signal):
        notes.append("The recording is clipped: its peaks are cut off. It is heard as it is.")
    silent = [ear for ear, samples in zip(CHANNELS, signal.samples, strict=True) if np.abs(samples).max() <= ONE_BIT]
    if silent:
        notes.append(f"The {silent[0]} ear is silent and hears nothing.")
    return tuple(notes)


def _outline(signal: StereoSignal) -> tuple[tuple[float, float], ...]:
    pieces = np.array_split(signal.samples, min(OUTLINE_PIECES, signal.samples.shape[1]), axis=1)
    return tuple((float(piece.min()), float(piece.max())) for piece in pieces)
