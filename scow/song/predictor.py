"""A checkpoint with its Whisper models, one in memory at a time, that turns signals and words into predictions.

It computes in memory what stages 2, 3 and 5 compute by way of tables: the features of `scow.features.extract`, then the
prediction of the model. A silent channel has no features, as in the tables.

Checkpoints and Whisper weights are looked for in ``checkpoints/`` and ``models/`` of the folder that the environment
variable SCOW_HOME names, or else of the clone that this package is in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scow.config import as_section, read_config
from scow.data.audio import CHANNELS, StereoSignal, resample_sinc
from scow.data.tables import DNSMOS_COLUMNS, HEARING_LOSSES, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.device import resolve_device
from scow.errors import SignalError, UserError, expect, nearest
from scow.features.dnsmos import Dnsmos
from scow.features.extract import loaded_transcriber, transcribe_channels, word_and_sentence_scores
from scow.features.whisper import Segment, Transcriber, Transcript, prompt_word_times, resolve_model, weights_path
from scow.io import sha256_of
from scow.models.checkpoint import load_checkpoint
from scow.models.config import model_config
from scow.models.inputs import Excerpt, input_of
from scow.models.model import Model, to_scores
from scow.song.hearing_loss import Progress
from scow.song.results import INTERVAL, ChannelTranscript, HearingLossPrediction, WordProbability

CHANNELS_AT_ONCE = 8
SHIPPED = ("final", "turbo", "small", "lite")  # the lowest cross-validated RMSE first
Key = tuple[int, str]  # index of a cut, channel
Transcripts = dict[tuple[str, int, str], Transcript]  # by Whisper column, index of a cut, channel


@dataclass(frozen=True)
class Predictor:
    """A loaded checkpoint, and which Whisper models it takes."""

    name: str  # of the checkpoint
    sha256: str  # of its model.pt
    model: Model
    whisper_columns: tuple[str, ...]  # in the order of the features, the largest last
    model_dir: Path  # of Whisper weights
    device: str
    dnsmos: Dnsmos | None  # None if the checkpoint does not take it

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        model_dir: Path | None = None,
        checkpoint_dir: Path | None = None,
        device: str = "auto",
    ) -> Predictor:
        """Load a checkpoint, by name in `checkpoint_dir` or as a folder, and the largest of its Whisper models.

        By default it is the best of the shipped checkpoints (`SHIPPED`) whose Whisper weights are in `model_dir`.
        Weights that a named checkpoint lacks are downloaded. The device is ``auto``, ``cpu`` or ``cuda``.
        """
        device = resolve_device(device)
        weights = Path(model_dir or home() / "models")
        if checkpoint is None:
            folder = _best_checkpoint(Path(checkpoint_dir or home() / "checkpoints"), weights)
        else:
            folder = _checkpoint_folder(checkpoint, checkpoint_dir)
        model = _load_model(folder)
        columns = tuple(column for column in model.feature_cols if column in WHISPER_COLUMNS)
        for whisper_model in map(resolve_model, columns):
            if whisper_model.column == columns[-1] or not weights_path(whisper_model, weights).is_file():
                loaded_transcriber(whisper_model, model_dir=weights, device=device)  # others are downloaded
        return cls(
            name=folder.name,
            sha256=sha256_of(folder / "model.pt"),
            model=model,
            whisper_columns=columns,
            model_dir=weights,
            device=device,
            dnsmos=Dnsmos() if set(model.feature_cols) & set(DNSMOS_COLUMNS) else None,
        )

    def _transcriber(self, column: str) -> Transcriber:
        return loaded_transcriber(resolve_model(column), model_dir=self.model_dir, device=self.device)

    def segments(
        self, signal: StereoSignal, *, column: str | None = None, progress: Progress | None = None
    ) -> tuple[Segment, ...]:
        """Transcript of a song, the mean of both channels, with times, by the largest Whisper model or another."""
        show = progress is not None and sys.stderr.isatty()
        transcriber = self._transcriber(column or self.whisper_columns[-1])
        return transcriber.segments(resample_sinc(signal.mono), show_progress=show)

    def predict(
        self,
        excerpts: Sequence[tuple[Sequence[StereoSignal], tuple[str, ...], str]],
        *,
        progress: Progress | None = None,
    ) -> tuple[HearingLossPrediction, ...]:
        """Predict excerpts separately, at least one: cuts of at most 30 s, words of the lyrics, hearing loss.

        All have the same number of cuts, whose predictions are averaged; transcripts and floor are those of the first.
        """
        n_cuts = len(excerpts[0][0])
        channels: dict[Key, np.ndarray] = {}  # that are not silent
        for k, signal in enumerate(signal for cuts, _, _ in excerpts for signal in cuts):
            for name in CHANNELS:
                with suppress(SignalError):
                    channels[k, name] = signal.channel(name)
        transcripts = self._transcribe(channels, progress)
        given = [(words, hearing_loss) for _, words, hearing_loss in excerpts for _ in range(n_cuts)]
        heard = [Excerpt(*one, self._features(k, one[0], channels, transcripts)) for k, one in enumerate(given)]
        is_whisper = np.isin(self.model.feature_cols, WHISPER_COLUMNS)
        unheard = [replace(one, features=np.where(is_whisper, 0, one.features)) for one in heard[::n_cuts]]
        of_cuts, floors = (self.model.predict(input_of(some, self.model.feature_cols)) for some in (heard, unheard))
        assert of_cuts.words is not None  # the model predicts words
        correctness = of_cuts.correctness.reshape(-1, n_cuts).mean(axis=1)
        hearing_losses = np.array([HEARING_LOSSES.index(name) for _, _, name in excerpts])
        ends = self.model.interval(correctness, hearing_losses, INTERVAL)
        points = np.transpose([to_scores(shares) for shares in (correctness, *ends, floors.correctness)]).tolist()
        of_words = np.split(of_cuts.words, np.cumsum([len(one.words) for one in heard[:-1]]))
        predictions = []
        for i, (_, words, hearing_loss) in enumerate(excerpts):
            cuts = slice(i * n_cuts, (i + 1) * n_cuts)
            score, low, high, floor = points[i]
            probabilities = np.mean(of_words[cuts], axis=0).tolist()
            texts = {
                (column, name): transcripts[column, i * n_cuts, name].text if (i * n_cuts, name) in channels else ""
                for column in self.whisper_columns
                for name in CHANNELS
            }
            predictions.append(
                HearingLossPrediction(
                    hearing_loss,
                    score,
                    low,
                    high,
                    floor,
                    caught=any(np.nan_to_num(one.features[..., is_whisper]).any() for one in heard[cuts]),
                    words=tuple(map(WordProbability, words, probabilities)),
                    heard=tuple(ChannelTranscript(*of, text) for of, text in texts.items()),
                )
            )
        return tuple(predictions)

    def word_times(
        self, signal: StereoSignal, prediction: HearingLossPrediction
    ) -> tuple[tuple[float, float] | None, ...]:
        """Start and end of each word of an excerpt in s, None for a word that the largest Whisper model did not catch.

        Times are those of the left channel, or of the right channel for words that only its transcript has.
        """
        words = [word.word for word in prediction.words]
        times: tuple[tuple[float, float] | None, ...] = (None,) * len(words)
        transcriber = self._transcriber(self.whisper_columns[-1])
        left, right = prediction.heard[-len(CHANNELS) :]
        for heard in [left, right] if left.transcript != right.transcript else [left]:
            if heard.transcript and None in times:
                timed = transcriber.word_times(resample_sinc(signal.channel(heard.ear)), heard.transcript)
                found = prompt_word_times(words, timed)
                times = tuple(known or new for known, new in zip(times, found, strict=True))
        return times

    def _transcribe(self, channels: Mapping[Key, np.ndarray], progress: Progress | None) -> Transcripts:
        keys, total = list(channels), len(channels) * len(self.whisper_columns)
        transcripts: Transcripts = {}
        for column in reversed(self.whisper_columns):  # the largest is loaded already
            for start in range(0, len(keys), CHANNELS_AT_ONCE):
                some = {(column, *key): channels[key] for key in keys[start : start + CHANNELS_AT_ONCE]}
                transcripts |= transcribe_channels(self._transcriber(column), some)
                if progress:
                    progress("transcribing", len(transcripts), total)
        return transcripts

    def _features(
        self, i: int, words: tuple[str, ...], channels: Mapping[Key, np.ndarray], transcripts: Transcripts
    ) -> np.ndarray:
        """Features of an excerpt, shape (2, 1 + len(words), n_features), the sentence's row first."""
        features = np.full((2, 1 + len(words), len(self.model.feature_cols)), np.nan, dtype=np.float32)
        for k, name in enumerate(CHANNELS):
            if (i, name) not in channels:
                continue
            columns: dict[str, Any] = dict(self.dnsmos(channels[i, name])) if self.dnsmos else {}
            for column in self.whisper_columns:
                scores, sentence = word_and_sentence_scores(words, transcripts[column, i, name])
                columns[column] = [sentence, *scores]
            for f, column in enumerate(self.model.feature_cols):
                features[k, :, f] = columns[column]
        return features


def home() -> Path:
    """The folder with ``checkpoints/`` and ``models/``."""
    chosen = os.environ.get("SCOW_HOME")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2]
    if not (folder / "checkpoints").is_dir():
        raise UserError(
            f"expected checkpoints in {folder / 'checkpoints'}, found none; set SCOW_HOME to a clone of this project, "
            "or give checkpoint_dir and model_dir"
        )
    return folder


def _checkpoint_folder(checkpoint: str | Path, checkpoint_dir: Path | None) -> Path:
    path = Path(checkpoint)
    if len(path.parts) > 1 and (path / "config.yaml").is_file():
        return path
    known = Path(checkpoint_dir or home() / "checkpoints")
    for folder in (known / path, path):
        if (folder / "config.yaml").is_file():
            return folder
    names = sorted(found.parent.name for found in known.glob("*/config.yaml"))
    raise UserError(f"no checkpoint {str(checkpoint)!r} in {known}; {nearest(str(checkpoint), names)}")


def _load_model(folder: Path) -> Model:
    """The model of a checkpoint that can predict the words of a song."""
    config = read_config(folder / "config.yaml")
    columns = as_section(config.get("data"), "data").get("feature_cols") or ()
    model, _ = load_checkpoint(folder / "model.pt", model_config(config.get("model")), columns)
    needed = set(model.feature_cols) & set(INTRUSIVE_COLUMNS)
    where = f"--checkpoint {folder.name}"
    expect(model.predicts_words, where, "a word model, for words and intervals", "another")
    expect(not model.embedding_width, where, "features of this script", "embeddings, for which infer.py is")
    expect(not needed, where, "features of the signal alone", ", ".join(sorted(needed)))
    expect(model.quantiles is not None, where, "an interval calibration", "none")
    return model


def _best_checkpoint(checkpoint_dir: Path, model_dir: Path) -> Path:
    """The best of the shipped checkpoints whose Whisper weights are in `model_dir`."""
    fewest = ["tiny.en"]
    for name in SHIPPED:
        config = checkpoint_dir / name / "config.yaml"
        columns = as_section(read_config(config).get("data"), "data")["feature_cols"] if config.is_file() else ()
        models = [resolve_model(column) for column in columns if column in WHISPER_COLUMNS]
        missing = [model.openai_name for model in models if not weights_path(model, model_dir).is_file()]
        if models and not missing:
            return checkpoint_dir / name
        fewest = missing or fewest
    raise UserError(
        f"expected Whisper weights in {model_dir}, found none for any checkpoint of {checkpoint_dir}; "
        f"get them with: python tools/offline_whisper.py {' '.join(fewest)} --official-first"
    )
