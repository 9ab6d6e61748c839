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

import base64
import datetime
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scow import __version__
from scow.data.audio import SOUND, StereoSignal, is_silent, read_stereo, resample_poly, resample_sinc
from scow.data.feature_config import Dataset
from scow.data.metadata import signal_file, unprocessed_file
from scow.data.tables import DNSMOS_COLUMNS, INTRUSIVE_COLUMNS, WHISPER_COLUMNS
from scow.device import resolve_device
from scow.errors import SignalError
from scow.features.dnsmos import Dnsmos
from scow.features.intrusive import intrusive_metrics
from scow.features.partial import ChannelResult
from scow.features.whisper import Transcriber, Transcript, WhisperModel, load_transcriber, prompt_word_scores
from scow.text.labels import hit_rate

WHISPER_LIBRARIES = ("openai-whisper", "torch", "torchaudio", "soundfile", "jiwer")
METRIC_LIBRARIES = ("pystoi", "pesq", "onnxruntime", "scipy", "numpy", "soundfile")
Key = TypeVar("Key")
loaded_dnsmos = functools.lru_cache(maxsize=1)(Dnsmos)
Audio = dict[str, StereoSignal | SignalError]  # files of a signal by their use, or why one has no features


@dataclass(frozen=True)
class Task:
    """What is to be computed of one signal; dicts are by channel."""

    signal: str
    columns: dict[str, tuple[str, ...]]
    words: dict[str, tuple[str, ...]]  # of the prompt
    folders: Dataset  # of its files, the same for both channels


_loaded: dict[Any, Transcriber] = {}  # at most one: a process has memory for one model


def loaded_transcriber(
    model: WhisperModel, *, model_dir: Path | None, device: str, engine: str = "auto"
) -> Transcriber:
    """The transcriber of a model: the last one loaded, or a new one, before which the last one is freed."""
    key = model, model_dir, device, engine
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_transcriber(model, model_dir=model_dir, device=device, engine=engine)
    return _loaded[key]


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
    model: WhisperModel,
    model_dir: Path | None,
    device: str,
    engine: str,
    with_embeddings: bool,
    chunk: Sequence[tuple[Task, Audio]],
) -> list[ChannelResult]:
    """Stage 2: scores of the words and the sentence of a chunk of signals, all their channels at once."""
    results: dict[tuple[str, str], ChannelResult] = {}
    words = {(task.signal, channel): words for task, _ in chunk for channel, words in task.words.items()}
    channels: dict[tuple[str, str], np.ndarray] = {}
    for task, audio in chunk:
        for channel in task.columns:
            key = task.signal, channel
            results[key] = ChannelResult(*key)
            try:
                channels[key] = _samples(audio["signal"], channel)
            except SignalError as error:
                results[key].failures[model.column] = str(error)
    if channels:
        transcriber = loaded_transcriber(model, model_dir=model_dir, device=resolve_device(device), engine=engine)
        libraries = (*WHISPER_LIBRARIES, *["openvino"] * (transcriber.engine == "openvino"))
        for key, transcript in transcribe_channels(transcriber, channels).items():
            scores, sentence = word_and_sentence_scores(words[key], transcript)
            results[key].values[model.column] = {"scores": [*scores, sentence], "transcript": transcript.text}
            if with_embeddings:
                text = base64.b64encode(np.asarray(transcript.embedding).tobytes()).decode()
                results[key].values[model.column]["embedding"] = text
            results[key].made_with = _made_with(transcriber.device.type, transcriber.dtype, libraries)
    return list(results.values())


def metric_results(dnsmos_model: Path | None, chunk: Sequence[tuple[Task, Audio]]) -> list[ChannelResult]:
    """Stage 3: metrics of a chunk of signals."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return [result for task, audio in chunk for result in _metrics_of_signal(task, audio, dnsmos_model)]


def _metrics_of_signal(task: Task, audio: Audio, dnsmos_model: Path | None) -> Iterator[ChannelResult]:
    reference = functools.cache(lambda: resample_poly(_samples(audio["reference"])))
    measured: dict[tuple[bytes, tuple[str, ...]], Mapping[str, float | str]] = {}  # by samples and columns
    for channel, columns in task.columns.items():
        found: dict[str, float | str] = {}  # a value or a reason
        for group, use in ((INTRUSIVE_COLUMNS, "degraded"), (DNSMOS_COLUMNS, "audio")):
            wanted = tuple(column for column in group if column in columns)
            if not wanted:
                continue
            try:
                samples = _samples(audio[use], channel)
                key = _digest(samples), wanted
                if key not in measured and group == DNSMOS_COLUMNS:
                    measured[key] = loaded_dnsmos(dnsmos_model)(samples)
                elif key not in measured:
                    measured[key] = intrusive_metrics(reference(), resample_poly(samples), wanted)
                found |= {column: measured[key][column] for column in wanted}
            except SignalError as error:
                found |= dict.fromkeys(wanted, str(error))
        failures = {column: reason for column, reason in found.items() if isinstance(reason, str)}
        values = {column: value for column, value in found.items() if column not in failures}
        made_with = _made_with("cpu", "float32", METRIC_LIBRARIES)
        yield ChannelResult(task.signal, channel, values, failures, made_with)


def _files_of(task: Task) -> Audio:
    wanted = {column for columns in task.columns.values() for column in columns}
    folders = {
        "signal": (WHISPER_COLUMNS, task.folders.signal_dir),
        "degraded": (INTRUSIVE_COLUMNS, task.folders.degraded_dir or task.folders.signal_dir),
        "reference": (INTRUSIVE_COLUMNS, task.folders.reference_dir),
        "audio": (DNSMOS_COLUMNS, task.folders.audio_dir or task.folders.signal_dir),
    }
    read = functools.cache(read_stereo)
    audio: Audio = {}
    for use, (columns, folder) in folders.items():
        if folder and wanted & set(columns):
            try:
                audio[use] = read((unprocessed_file if use == "reference" else signal_file)(folder, task.signal))
            except SignalError as error:
                audio[use] = error
    return audio


def _samples(signal: StereoSignal | SignalError, channel: str | None = None) -> np.ndarray:
    """Samples of a channel, or of the mean of both; a SignalError where they are silent."""
    if isinstance(signal, SignalError):
        raise signal
    if channel:
        return signal.channel(channel)
    if is_silent(signal.mono):
        raise SignalError(f"the mean of both channels of the reference is silent: expected {SOUND}")
    return signal.mono


def _digest(samples: np.ndarray) -> bytes:
    return hashlib.sha256(samples.tobytes()).digest()


def _made_with(device: str, dtype: str, libraries: tuple[str, ...]) -> dict[str, Any]:
    """How values that are computed now are made, for their provenance."""
    today = datetime.date.today().isoformat()  # not cached: a run may take days
    return {"date": today, "device": device, "dtype": dtype, "versions": _versions(libraries)}


@functools.cache  # they are read from files
def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    return {"scow": __version__, **{name: version(name) for name in libraries}}
