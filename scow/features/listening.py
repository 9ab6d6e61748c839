"""The job of stage 2: Whisper listens to both ears of a batch of signals.

A file is decoded once for both ears, each ear resampled once; ears that are identical, sample for sample, are heard
once. Each process keeps the model of its last batch loaded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scow.data.audio import StereoSignal, read_stereo, resample_sinc
from scow.data.metadata import signal_file
from scow.device import resolve_device
from scow.errors import SignalError
from scow.features.partial import Done, Failure, Outcome
from scow.features.tasks import SignalTask, lost, made_by
from scow.features.whisper import Transcriber, Transcript, WhisperModel, load_transcriber, prompt_word_scores
from scow.text.labels import hit_rate

LIBRARIES = ("openai-whisper", "torch", "torchaudio", "soundfile", "jiwer")
Place = tuple[str, str]  # signal, ear


@dataclass(frozen=True)
class Ears:
    """Ears of a batch at 16 kHz, and why others are not there; both by signal and ear."""

    samples: dict[Place, np.ndarray]
    reasons: dict[Place, str]


@dataclass(frozen=True)
class Listening:
    """Let one model listen.

    Attributes
    ----------
    model : WhisperModel
    model_dir : Path or None
        Folder of weights, which are there by now.
    device : str
        ``auto``, ``cpu`` or ``cuda``, of the process that computes.
    """

    model: WhisperModel
    model_dir: Path | None
    device: str

    def prepare(self, batch: Sequence[SignalTask]) -> Ears:
        """Decode and resample the ears of a batch."""
        samples: dict[Place, np.ndarray] = {}
        reasons: dict[Place, str] = {}
        for task in batch:
            files: dict[Path, StereoSignal] = {}
            for name, dataset in task.ears.items():
                try:
                    path = signal_file(dataset.signal_dir, task.signal)
                    if path not in files:
                        files[path] = read_stereo(path)
                    samples[task.signal, name] = resample_sinc(files[path].channel(name))
                except SignalError as error:
                    reasons[task.signal, name] = str(error)
        return Ears(samples, reasons)

    def compute(self, batch: Sequence[SignalTask], prepared: Ears) -> Done:
        """Word and sentence scores of a batch of signals, all their ears at once."""
        transcripts: Mapping[Place, Transcript] = {}
        by: dict[str, Any] = {}
        if prepared.samples:
            listener = loaded_transcriber(self.model, self.model_dir, resolve_device(self.device))
            transcripts = hear(listener, prepared.samples)
            by = made_by(listener.device.type, listener.dtype, LIBRARIES)
        return Done(tuple(self._outcome(task, transcripts, prepared.reasons) for task in batch), by)

    def lost(self, batch: Sequence[SignalTask], reason: str) -> Done:
        """Outcomes that say why there is none."""
        return lost(batch, reason)

    def _outcome(
        self, task: SignalTask, transcripts: Mapping[Place, Transcript], reasons: Mapping[Place, str]
    ) -> Outcome:
        values: dict[str, Any] = {}
        failures: tuple[Failure, ...] = ()
        for ear in task.ears:
            place = task.signal, ear
            try:
                if place in reasons:
                    raise SignalError(reasons[place])
                values[ear] = {self.model.column: _scores(task.words[ear], transcripts[place])}
            except SignalError as error:
                failures += task.failures(ear, (self.model.column,), error)
        return Outcome(task.signal, values, failures)


@functools.lru_cache(maxsize=1)  # a process has memory for one model, and its batches are mostly of one
def loaded_transcriber(model: WhisperModel, model_dir: Path | None, device: str) -> Transcriber:
    """The model, loaded at its first use in a process."""
    return load_transcriber(model, model_dir=model_dir, device=device)


def hear(listener: Transcriber, ears: Mapping[Place, np.ndarray]) -> dict[Place, Transcript]:
    """What a model hears in many ears; those that are identical are heard once."""
    keys = {place: hashlib.sha256(ear.tobytes()).digest() for place, ear in ears.items()}
    distinct = {keys[place]: ear for place, ear in ears.items()}
    heard = dict(zip(distinct, listener.listen(list(distinct.values())), strict=True))
    return {place: heard[key] for place, key in keys.items()}


def _scores(words: Sequence[str], transcript: Transcript) -> dict[str, Any]:
    return {
        "words": list(prompt_word_scores(words, transcript)),
        "sentence": hit_rate(words, transcript.text),
        "transcript": transcript.text,
    }
