"""A checkpoint with the Whisper models that it listens with: loaded once, it turns ears and words into predictions.

The way is that of stages 1, 2, 3 and 5, in memory: an ear of an excerpt at 16 kHz, each model's transcript, word and
sentence scores, DNSMOS where the checkpoint takes it, then `scow.models.inputs.input_of` and the word model. A silent ear
has no features, as in the tables, which the model takes for nothing heard.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scow.config import as_section
from scow.data.audio import CHANNELS, FILE_RATE_HZ, StereoSignal, resample_sinc
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.device import resolve_device
from scow.errors import SignalError, UserError, nearest
from scow.features.dnsmos import Dnsmos
from scow.features.extract import transcribe_channels
from scow.features.whisper import Segment, Transcriber, Transcript, load_transcriber, prompt_word_scores, resolve_model
from scow.io import read_yaml
from scow.models.checkpoint import load_checkpoint
from scow.models.config import model_config
from scow.models.inputs import Excerpt, input_of
from scow.models.model import NO_WORDS, PERCENT, Model, to_scores
from scow.song.hearing_loss import Progress
from scow.song.results import INTERVAL, ChannelTranscript, HearingLossPrediction, WordProbability
from scow.text.labels import hit_rate

REPOSITORY = Path(__file__).resolve().parents[2]  # where checkpoints/ and models/ lie, unless the caller says so
EARS_PER_BATCH = 8


@dataclass(frozen=True)
class Clip:
    """An excerpt to be predicted.

    Attributes
    ----------
    signal : StereoSignal
        What the listener hears: 0.25 to 30 s.
    words : tuple of str
        Of its lyrics, normalised.
    hearing_loss : str
        Of `scow.data.tables.HEARING_LOSSES`.
    """

    signal: StereoSignal
    words: tuple[str, ...]
    hearing_loss: str


@dataclass(frozen=True)
class Predictor:
    """A loaded checkpoint and its listeners.

    Attributes
    ----------
    name : str
        Of the checkpoint.
    model : Model
    listeners : mapping of str to Transcriber
        By Whisper column, in the order of the checkpoint's features, the largest model last.
    dnsmos : Dnsmos or None
        Where the checkpoint takes it.
    """

    name: str
    model: Model
    listeners: Mapping[str, Transcriber]
    dnsmos: Dnsmos | None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        model_dir: Path | None = None,
        checkpoint_dir: Path | None = None,
        device: str = "auto",
    ) -> Predictor:
        """Load a checkpoint and its Whisper models.

        Parameters
        ----------
        checkpoint : str or Path, optional
            Name in `checkpoint_dir`, or a folder; by default `best_checkpoint`.
        model_dir : Path, optional
            Folder of Whisper weights, ``models`` beside this package by default. What a named checkpoint lacks there is
            downloaded.
        checkpoint_dir : Path, optional
            ``checkpoints`` beside this package by default.
        device : str
            ``auto``, ``cpu`` or ``cuda``.

        Raises
        ------
        UserError
            There is no such checkpoint, it says nothing of words or needs more than the signal, or weights are missing.
        """
        weights, known = model_dir or REPOSITORY / "models", checkpoint_dir or REPOSITORY / "checkpoints"
        on = resolve_device(device)
        folder = _folder(checkpoint, known) if checkpoint is not None else best_checkpoint(known, weights)
        loaded = _read(folder)
        unusable = _unusable(loaded)
        if unusable:
            raise UserError(f"checkpoint {folder.name}: {unusable}; choose another --checkpoint")
        columns = [column for column in loaded.feature_cols if column in WHISPER_COLUMNS]
        takes_dnsmos = any(column in DNSMOS_COLUMNS for column in loaded.feature_cols)
        return cls(
            name=folder.name,
            model=loaded,
            listeners={name: load_transcriber(resolve_model(name), model_dir=weights, device=on) for name in columns},
            dnsmos=Dnsmos() if takes_dnsmos else None,
        )

    def segments(self, signal: StereoSignal) -> tuple[Segment, ...]:
        """What the largest model hears in the mean of both ears of a whole song, with times."""
        listener = list(self.listeners.values())[-1]
        return listener.segments(resample_sinc(signal.mono))

    def predict(
        self, excerpts: Sequence[Clip], *, progress: Progress | None = None
    ) -> tuple[HearingLossPrediction, ...]:
        """Predict excerpts, each by itself, all their ears in batches.

        Parameters
        ----------
        excerpts : sequence of Clip
            At least one; no ear of them longer than 30 s, none with more words than `scow.models.inputs.MAX_WORDS`.
        progress : callable, optional
            Takes a label, how many ears are done, and of how many.

        Returns
        -------
        tuple of HearingLossPrediction
            In the order given.
        """
        ears = [[_ear(excerpt.signal, ear) for ear in CHANNELS] for excerpt in excerpts]
        transcripts = self._transcripts(ears, progress)
        batch = input_of(
            [
                Excerpt(excerpt.words, excerpt.hearing_loss, self._features(excerpt.words, both, heard))
                for excerpt, both, heard in zip(excerpts, ears, transcripts, strict=True)
            ],
            self.model.feature_cols,
        )
        predicted = self.model.predict(batch)
        assert predicted.words is not None  # a word model's prediction
        low, high = self.model.interval(predicted.correctness, batch.hearing_loss.numpy(), INTERVAL)
        ends = np.cumsum([len(excerpt.words) for excerpt in excerpts])
        by_excerpt = np.split(np.clip(predicted.words, 0.0, 1.0), ends[:-1])
        scores = to_scores(predicted.correctness)
        return tuple(
            HearingLossPrediction(
                hearing_loss=excerpt.hearing_loss,
                score=float(scores[i]),
                low=float(low[i]) * PERCENT,
                high=float(high[i]) * PERCENT,
                words=tuple(
                    WordProbability(word, float(p)) for word, p in zip(excerpt.words, by_excerpt[i], strict=True)
                ),
                heard=tuple(
                    ChannelTranscript(column, ear, text.text if text else "")
                    for column, pair in transcripts[i].items()
                    for ear, text in zip(CHANNELS, pair, strict=True)
                ),
            )
            for i, excerpt in enumerate(excerpts)
        )

    def _transcripts(
        self, ears: Sequence[Sequence[np.ndarray | None]], progress: Progress | None
    ) -> list[dict[str, list[Transcript | None]]]:
        """What each model hears in each ear that is there, by column, for each excerpt."""
        waves = {
            (str(i), name): ear
            for i, both in enumerate(ears)
            for name, ear in zip(CHANNELS, both, strict=True)
            if ear is not None
        }
        places, total, done = list(waves), len(waves) * len(self.listeners), 0
        heard: dict[tuple[str, str, str], Transcript] = {}
        for column, listener in self.listeners.items():
            for i in range(0, len(places), EARS_PER_BATCH):
                some = {place: waves[place] for place in places[i : i + EARS_PER_BATCH]}
                heard |= {
                    (column, *place): transcript for place, transcript in transcribe_channels(listener, some).items()
                }
                done += len(some)
                if progress:
                    progress("listening", done, total)
        return [
            {column: [heard.get((column, str(i), name)) for name in CHANNELS] for column in self.listeners}
            for i in range(len(ears))
        ]

    def _features(
        self,
        words: tuple[str, ...],
        ears: Sequence[np.ndarray | None],
        heard: Mapping[str, Sequence[Transcript | None]],
    ) -> np.ndarray:
        """Features of an excerpt, shape (2, 1 + len(words), n_features), the sentence's row first."""
        features = np.full((2, 1 + len(words), len(self.model.feature_cols)), np.nan, dtype=np.float32)
        for i, ear in enumerate(ears):
            metrics = self.dnsmos(ear) if self.dnsmos and ear is not None else {}
            for k, column in enumerate(self.model.feature_cols):
                transcript = heard[column][i] if column in heard else None
                if transcript is not None:
                    features[i, 0, k] = hit_rate(words, transcript.text)
                    features[i, 1:, k] = prompt_word_scores(words, transcript)
                elif column in metrics:
                    features[i, :, k] = metrics[column]
        return features


def best_checkpoint(checkpoint_dir: Path, model_dir: Path) -> Path:
    """The checkpoint with the lowest cross-validated RMSE among those whose Whisper models are on disk.

    Raises
    ------
    UserError
        There is none.
    """
    found: list[tuple[float, Path]] = []
    wanted: list[tuple[float, list[str]]] = []
    for figures in sorted(checkpoint_dir.glob("*/cross_validation.json")):
        folder = figures.parent
        if not (folder / "model.pt").is_file():
            continue
        rmse = float(json.loads(figures.read_text(encoding="utf-8"))["rmse"])
        checkpoint = _read(folder)
        if _unusable(checkpoint):
            continue
        models = [resolve_model(c).openai_name for c in checkpoint.feature_cols if c in WHISPER_COLUMNS]
        missing = [name for name in models if not (model_dir / f"{name}.pt").is_file()]
        if missing:
            wanted.append((len(missing), missing))
        else:
            found.append((rmse, folder))
    if not found:
        fewest = " ".join(min(wanted)[1]) if wanted else "tiny.en"
        raise UserError(
            f"expected Whisper weights in {model_dir}, found none for any checkpoint of {checkpoint_dir}; "
            f"get them with: python tools/offline_whisper.py {fewest} --official-first"
        )
    return min(found)[1]


def _folder(checkpoint: str | Path, checkpoint_dir: Path) -> Path:
    for folder in (checkpoint_dir / str(checkpoint), Path(checkpoint)):
        if (folder / "config.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in checkpoint_dir.glob("*/config.yaml"))
    raise UserError(f"no checkpoint {str(checkpoint)!r}; {nearest(str(checkpoint), known)}")


def _read(folder: Path) -> Model:
    config = read_yaml(folder / "config.yaml")
    columns = as_section(config.get("data"), "data").get("feature_cols") or ()
    return load_checkpoint(folder / "model.pt", model_config(config.get("model")), columns).model


def _unusable(model: Model) -> str:
    """Why a checkpoint cannot predict a song; empty where it can."""
    if not model.predicts_words:
        return NO_WORDS
    needed = [column for column in model.feature_cols if column in INTRUSIVE_COLUMNS]
    if needed:
        return f"expected features of the signal alone, found {', '.join(needed)}, which need the unprocessed excerpt"
    if model.quantiles is None:
        return "expected an interval calibration, found none"
    return ""


def _ear(signal: StereoSignal, name: str) -> np.ndarray | None:
    """An ear at 44.1 kHz; None where it is silent."""
    assert signal.rate_hz == FILE_RATE_HZ
    try:
        return signal.channel(name)
    except SignalError:
        return None
