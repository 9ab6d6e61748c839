"""An ear of a file: FLAC (or WAV) to float32 samples, at the file's rate and at 16 kHz.

The challenge's signals are stereo at 44.1 kHz and at most 30 s long; the features are defined on such files. A
file of another form is refused with a reason, because a feature of, say, a 48-kHz file would go through another
resampler and mean something else. Each refusal is a `SignalError`: the signal's cells stay empty and the others
go on.

Two resamplers occur in the published definitions, and they are not interchangeable: Whisper hears
``torchaudio.functional.resample`` (windowed sinc, default settings), which is `resample_sinc` here; the quality metrics
have their own (see `scow.features.intrusive` and `scow.features.dnsmos`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scow.errors import SignalError

FILE_RATE_HZ = 44_100
MODEL_RATE_HZ = 16_000
MIN_DURATION_S = 0.25
MAX_DURATION_S = 30.0
CHANNELS = ("left", "right")
NO_FRAME_COUNT = 2**62  # libsndfile's "unknown", as encoders that write to a pipe leave it, is above
ONE_BIT = 2.0**-15  # the smallest step of a 16-bit file; nothing above it is silence


@dataclass(frozen=True)
class StereoSignal:
    """Both ears of a file.

    Attributes
    ----------
    samples : ndarray, shape (2, n), float32
        Left and right ear, in -1 to 1.
    rate_hz : int
        Sampling rate, always `FILE_RATE_HZ`.
    """

    samples: np.ndarray
    rate_hz: int

    def channel(self, name: str) -> np.ndarray:
        """Samples of one channel, shape (n,), float32; a SignalError where it is silent."""
        channel: np.ndarray = self.samples[CHANNELS.index(name)]
        if float(np.abs(channel).max()) <= ONE_BIT:
            raise SignalError(f"the {name} channel is silent: expected some sample above one 16-bit step")
        return channel

    @property
    def mono(self) -> np.ndarray:
        """Mean of both ears, shape (n,), float32."""
        mean: np.ndarray = self.samples.mean(axis=0)
        return mean


def read_stereo(path: Path) -> StereoSignal:
    """Read a stereo file of 44.1 kHz, 0.25 to 30 s long.

    Parameters
    ----------
    path : Path
        Anything libsndfile reads.

    Returns
    -------
    StereoSignal

    Raises
    ------
    SignalError
        The file is missing, unreadable, truncated, not stereo, not at 44.1 kHz, too short, too long, or holds
        samples that are not finite.
    """
    samples, rate_hz = decode(path, longest_s=MAX_DURATION_S, accept=_challenge_form)
    return StereoSignal(samples=np.ascontiguousarray(samples.T), rate_hz=rate_hz)


def decode(path: Path, *, longest_s: float, accept: Callable[[int, int], None]) -> tuple[np.ndarray, int]:
    """Samples of a whole file, at least 0.25 s long, and their rate in hertz.

    Parameters
    ----------
    path : Path
        Anything libsndfile reads.
    longest_s : float
        Longest duration that is taken; no more is decoded.
    accept : callable
        Takes the number of channels and the rate in hertz, raises `SignalError` where they are not wanted.

    Returns
    -------
    samples : ndarray, shape (n, channels), float32
    rate_hz : int

    Raises
    ------
    SignalError
        The file is missing, unreadable, truncated, too short, too long, or holds samples that are not finite.
    """
    import soundfile  # here, not above: infer.py and train.py never touch audio

    try:
        if not path.is_file():
            raise SignalError(f"expected the file {path}, found none; check the dataset's folders and the download")
        with soundfile.SoundFile(path) as handle:
            promised, rate_hz = handle.frames, handle.samplerate
            accept(handle.channels, rate_hz)
            most = int(longest_s * rate_hz)
            samples: np.ndarray = handle.read(most + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise SignalError(f"cannot be decoded ({_one_line(error)}); expected a whole audio file") from error
    if len(samples) > most:
        raise SignalError(f"expected at most {longest_s:g} s ({most} frames), found more")
    if len(samples) < promised < NO_FRAME_COUNT:
        raise SignalError(f"truncated: expected {promised} frames, found {len(samples)}")
    if len(samples) < MIN_DURATION_S * rate_hz:
        raise SignalError(
            f"expected at least {MIN_DURATION_S} s ({int(MIN_DURATION_S * rate_hz)} frames), found {len(samples)} frames"
        )
    if not np.isfinite(samples).all():
        raise SignalError("expected finite samples, found NaN or infinity")
    return samples, rate_hz


def _challenge_form(channels: int, rate_hz: int) -> None:
    if channels != 2:
        raise SignalError(f"expected 2 channels, found {channels}")
    if rate_hz != FILE_RATE_HZ:
        raise SignalError(f"expected {FILE_RATE_HZ} Hz, found {rate_hz} Hz")


def level_dbfs(samples: np.ndarray) -> float:
    """Root mean square level over all channels, in decibels re full scale; minus infinity for silence."""
    with np.errstate(divide="ignore"):
        return float(20 * np.log10(_root_mean_square(samples)))


def at_level(samples: np.ndarray, level: float) -> np.ndarray:
    """Scale samples, not silent, to a root mean square level over all channels, in decibels re full scale."""
    scaled: np.ndarray = samples * (10 ** (level / 20) / _root_mean_square(samples))
    return scaled


def resample_sinc(samples: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> np.ndarray:
    """Resample to 16 kHz with torchaudio's windowed sinc at its default settings.

    Parameters
    ----------
    samples : ndarray, shape (..., n), float32
    rate_hz : int
        Rate of `samples`.

    Returns
    -------
    ndarray, shape (..., ceil(n * 16000 / rate_hz)), float32
    """
    import torch
    from torchaudio.functional import resample

    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    resampled: np.ndarray = resample(wave, rate_hz, MODEL_RATE_HZ).numpy()
    return resampled


def _root_mean_square(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
