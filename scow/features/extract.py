"""From audio and words to features: the one way, for the tables of stages 2 and 3 and for songs.

1. A stereo file at 44.1 kHz is decoded once; each channel is a signal of its own. A silent channel has no features.
2. Whisper: a channel is resampled to 16 kHz and transcribed (`transcribe_channels`); the transcript gives a score per
   prompt word and one for the sentence (`word_and_sentence_scores`).
3. Metrics: STOI, eSTOI and PESQ against the unprocessed file (`scow.features.intrusive`), DNSMOS of the channel alone
   (`scow.features.dnsmos`), each with a resampler of its own.

Channels that are identical, sample for sample, are computed once. Metrics run on one thread, so that as many processes
as there are cores share them evenly, and every sum is the same wherever it is computed.

The stages compute chunks of signals: `read_audio`, then `whisper_results` or `metric_results`.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scow import __version__
from scow.data.audio import StereoSignal, read_stereo, resample_poly, resample_sinc
from scow.data.feature_config import Dataset
from scow.data.metadata import signal_file, unprocessed_file
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, METRIC_COLUMNS
from scow.device import resolve_device
from scow.errors import SignalError
from scow.features.dnsmos import Dnsmos
from scow.features.intrusive import intrusive_metrics
from scow.features.partial import SignalResult
from scow.features.whisper import Transcriber, Transcript, WhisperModel, load_transcriber, prompt_word_scores
from scow.text.labels import hit_rate

WHISPER_LIBRARIES = ("openai-whisper", "torch", "torchaudio", "soundfile", "jiwer")
METRIC_LIBRARIES = ("pystoi", "pesq", "onnxruntime", "scipy", "numpy", "soundfile")
Key = TypeVar("Key")
Audio = dict[str, StereoSignal | SignalError]  # files of a signal by their use, or why one cannot be used


@dataclass(frozen=True)
class Task:
    """What is to be computed of one signal; dicts are by channel."""

    signal: str
    columns: dict[str, tuple[str, ...]]
    words: dict[str, tuple[str, ...]]  # of the prompt
    folders: Dataset  # of its files, the same for both channels


def transcribe_channels(transcriber: Transcriber, channels: Mapping[Key, np.ndarray]) -> dict[Key, Transcript]:
    """Transcripts of channels, each float32 of shape (n,), at 44.1 kHz and at most 30 s long."""
    digests = {key: _digest(samples) for key, samples in channels.items()}
    distinct = {digests[key]: samples for key, samples in channels.items()}
    found = transcriber.transcribe([resample_sinc(samples) for samples in distinct.values()])
    transcripts = dict(zip(distinct, found, strict=True))
    return {key: transcripts[digest] for key, digest in digests.items()}


def word_and_sentence_scores(words: Sequence[str], transcript: Transcript) -> tuple[tuple[float, ...], float]:
    """Score of each prompt word in a transcript, and of the sentence, all in 0 to 1."""
    return prompt_word_scores(words, transcript), hit_rate(words, transcript.text)


def read_audio(tasks: Sequence[Task]) -> list[tuple[Task, Audio]]:
    """Decode the files that a chunk of signals needs, each once."""
    return [(task, _files_of(task)) for task in tasks]


def whisper_results(
    model: WhisperModel, model_dir: Path | None, device: str, chunk: Sequence[tuple[Task, Audio]]
) -> list[SignalResult]:
    """Stage 2: scores of the words and the sentence of a chunk of signals, all their channels at once."""
    channels: dict[tuple[str, str], np.ndarray] = {}
    failures: dict[str, dict[str, dict[str, str]]] = {task.signal: {} for task, _ in chunk}
    for task, audio in chunk:
        for channel in task.columns:
            try:
                channels[task.signal, channel] = _channel(audio["signal"], channel)
            except SignalError as error:
                failures[task.signal][channel] = {model.column: str(error)}
    transcripts, made_with = {}, {}
    if channels:
        transcriber = loaded_transcriber(model, model_dir, resolve_device(device))
        transcripts = transcribe_channels(transcriber, channels)
        made_with = _made_with(transcriber.device.type, transcriber.dtype, WHISPER_LIBRARIES)
    values: dict[str, dict[str, Any]] = {task.signal: {} for task, _ in chunk}
    for task, _ in chunk:
        for channel, words in task.words.items():
            if (task.signal, channel) in transcripts:
                transcript = transcripts[task.signal, channel]
                scores, sentence = word_and_sentence_scores(words, transcript)
                cell = {"scores": [*scores, sentence], "transcript": transcript.text}
                values[task.signal][channel] = {model.column: cell}
    return [SignalResult(task.signal, values[task.signal], failures[task.signal], made_with) for task, _ in chunk]


def metric_results(dnsmos_model: Path | None, chunk: Sequence[tuple[Task, Audio]]) -> list[SignalResult]:
    """Stage 3: metrics of a chunk of signals."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return [_metric_result(task, audio, dnsmos_model) for task, audio in chunk]


def _metric_result(task: Task, audio: Audio, dnsmos_model: Path | None) -> SignalResult:
    values: dict[str, dict[str, float]] = {channel: {} for channel in task.columns}
    failures: dict[str, dict[str, str]] = {channel: {} for channel in task.columns}
    reference = functools.cache(lambda: resample_poly(_loaded(audio["reference"]).mono))
    known: dict[tuple[bytes, tuple[str, ...]], Mapping[str, float | str]] = {}
    for channel, columns in task.columns.items():
        for group, use in ((INTRUSIVE_COLUMNS, "degraded"), (DNSMOS_COLUMNS, "audio")):
            wanted = tuple(column for column in group if column in columns)
            if not wanted:
                continue
            measured: Mapping[str, float | str]
            try:
                samples = _channel(audio[use], channel)
                key = _digest(samples), wanted
                if key not in known and group == DNSMOS_COLUMNS:
                    known[key] = loaded_dnsmos(dnsmos_model)(samples)
                elif key not in known:
                    known[key] = intrusive_metrics(reference(), resample_poly(samples), wanted)
                measured = known[key]
            except SignalError as error:
                measured = dict.fromkeys(wanted, str(error))
            for column in wanted:
                value = measured[column]
                if isinstance(value, str):
                    failures[channel][column] = value
                else:
                    values[channel][column] = value
    return SignalResult(task.signal, values, failures, _made_with("cpu", "float32", METRIC_LIBRARIES))


@functools.lru_cache(maxsize=1)  # a process has memory for one model
def loaded_transcriber(model: WhisperModel, model_dir: Path | None, device: str) -> Transcriber:
    """The model, loaded at its first use in a process."""
    return load_transcriber(model, model_dir=model_dir, device=device)


@functools.lru_cache(maxsize=1)
def loaded_dnsmos(path: Path | None) -> Dnsmos:
    """The DNSMOS network, loaded at its first use in a process."""
    return Dnsmos(path)


def _files_of(task: Task) -> Audio:
    folders, wanted = task.folders, {column for columns in task.columns.values() for column in columns}
    places: dict[str, Path | None] = {}
    if wanted - set(METRIC_COLUMNS):
        places["signal"] = folders.signal_dir
    if wanted & set(INTRUSIVE_COLUMNS):
        places |= {"degraded": folders.degraded_dir or folders.signal_dir, "reference": folders.reference_dir}
    if wanted & set(DNSMOS_COLUMNS):
        places["audio"] = folders.audio_dir or folders.signal_dir
    read = functools.cache(read_stereo)
    audio: Audio = {}
    for use, folder in places.items():
        assert folder is not None  # fill_metrics has checked reference_dir
        try:
            audio[use] = read((unprocessed_file if use == "reference" else signal_file)(folder, task.signal))
        except SignalError as error:
            audio[use] = error
    return audio


def _loaded(signal: StereoSignal | SignalError) -> StereoSignal:
    if isinstance(signal, SignalError):
        raise signal
    return signal


def _channel(signal: StereoSignal | SignalError, channel: str) -> np.ndarray:
    return _loaded(signal).channel(channel)


def _digest(samples: np.ndarray) -> bytes:
    return hashlib.sha256(samples.tobytes()).digest()


@functools.lru_cache  # versions are read from files
def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    return {"scow": __version__, **{name: version(name) for name in libraries}}


def _made_with(device: str, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
    """How values that are computed here and now are made, for their provenance."""
    today = datetime.date.today().isoformat()
    return {"date": today, "device": device, "dtype": dtype, "versions": _versions(libraries)}
