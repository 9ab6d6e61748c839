"""Audio files and resamplers.

The challenge's signals are stereo files at 44.1 kHz of at most 30 s, and the features are defined on such files. A file
of another form is refused (`SignalError`), because its features would depend on one more resampler.

The resamplers are not interchangeable; each belongs to one definition:

- `resample_sinc`: windowed sinc of torchaudio at its default settings, 44.1 to 16 kHz, before Whisper;
- `resample_poly`: polyphase filter of SciPy at its default settings, 44.1 to 16 kHz, before STOI, eSTOI and PESQ;
- `resample_kaiser`: long Kaiser-windowed sinc, any rate to 44.1 kHz, for songs. It is flat to 0.9 of the lower Nyquist
  frequency and 100 dB down above it, so that what 16 kHz keeps (below 8 kHz) does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from scow.errors import SignalError

FILE_RATE_HZ = 44_100
MODEL_RATE_HZ = 16_000
MIN_DURATION_S = 0.25
MAX_DURATION_S = 30.0
CHANNELS = ("left", "right")
MONO = "mono"  # the mean of both
NO_FRAME_COUNT = 2**62  # libsndfile's "unknown", as encoders that write to a pipe leave it, is above
ONE_BIT = 2.0**-15  # one step of a 16-bit file
SOUND = "changes of more than one 16-bit step to either side"
MAX_PEAK = 8.0  # 18 dB above full scale
BLOCK_SAMPLES = 1 << 18  # resampled at once
ZERO_CROSSINGS = 64
PASS_BAND = 0.9
KAISER_BETA = 10.06  # 100 dB of stop-band attenuation (Kaiser's formula, 0.1102 (A - 8.7))


def is_silent(samples: np.ndarray) -> bool:
    """Whether no channel of samples, shape (..., n), moves more than one 16-bit step to either side, of any offset."""
    return bool(np.ptp(samples, axis=-1).max() <= 2 * ONE_BIT)


@dataclass(frozen=True)
class StereoSignal:
    """Both channels of a file."""

    samples: np.ndarray  # (2, n), float32, in -1 to 1: left, right
    rate_hz: int  # always FILE_RATE_HZ
    notes: tuple[str, ...] = ()  # what is wrong with the file

    def channel(self, name: str) -> np.ndarray:
        """Samples of one channel or of ``mono``, shape (n,), float32; a `SignalError` where it is silent."""
        channel = self.mono if name == MONO else self.samples[CHANNELS.index(name)]
        if is_silent(channel):
            raise SignalError(f"the {name} channel is silent: expected {SOUND}")
        return channel

    @property
    def mono(self) -> np.ndarray:
        """Mean of both channels, shape (n,), float32."""
        return self.samples.mean(axis=0)


def read_stereo(path: Path) -> StereoSignal:
    """Read a whole stereo file at 44.1 kHz, 0.25 to 30 s long; anything else is a `SignalError`."""
    import soundfile  # here: infer.py and train.py read no audio

    most = int(MAX_DURATION_S * FILE_RATE_HZ)
    try:
        _expect(path.is_file(), f"the file {path}", "none; check the dataset's folders and the download")
        with soundfile.SoundFile(path) as handle:
            promised = handle.frames
            _expect(handle.channels == 2, "2 channels", handle.channels)
            _expect(handle.samplerate == FILE_RATE_HZ, f"{FILE_RATE_HZ} Hz", f"{handle.samplerate} Hz")
            samples: np.ndarray = handle.read(most + 1, dtype="float32")
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise SignalError(f"cannot be decoded ({reason}); expected a whole audio file") from error
    n = len(samples)
    _expect(n <= most, f"at most {MAX_DURATION_S:g} s", "more")
    _expect(not n < promised < NO_FRAME_COUNT, f"{promised} frames", f"{n}: the file is truncated")
    _expect(n >= MIN_DURATION_S * FILE_RATE_HZ, f"at least {MIN_DURATION_S} s", f"{n} frames")
    check_samples(samples)
    return StereoSignal(np.ascontiguousarray(samples.T), FILE_RATE_HZ)


def check_samples(samples: np.ndarray) -> None:
    """A `SignalError` for samples that are not finite or on another scale than -1 to 1, such as that of integers."""
    peak = np.abs(samples).max(initial=0)
    _expect(peak <= MAX_PEAK, "finite samples in -1 to 1", f"{peak:g}")


def _expect(holds: object, expected: str, found: object) -> None:
    if not holds:
        raise SignalError(f"expected {expected}, found {found}")


def resample_sinc(samples: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> np.ndarray:
    """Resample to 16 kHz as Whisper's input: (..., n) float32 -> (..., ceil(n * 16000 / rate_hz)) float32."""
    import torch
    from torchaudio.functional import resample

    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    return resample(wave, rate_hz, MODEL_RATE_HZ).numpy()


def resample_poly(samples: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> np.ndarray:
    """Resample to 16 kHz as input of the intrusive metrics: (n,) -> (ceil(n * 16000 / rate_hz),)."""
    import scipy.signal

    common = gcd(rate_hz, MODEL_RATE_HZ)
    return scipy.signal.resample_poly(samples, MODEL_RATE_HZ // common, rate_hz // common)


def resample_kaiser(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """Resample to 44.1 kHz in blocks: (c, n) float32 in sum -> (c, ceil(n * 44100 / rate_hz)) float32 in sum."""
    if rate_hz == FILE_RATE_HZ:
        yield from blocks
        return
    import scipy.signal

    common = gcd(rate_hz, FILE_RATE_HZ)
    up, down = FILE_RATE_HZ // common, rate_hz // common
    slower = max(up, down)
    # The transition band ends at the lower Nyquist frequency; the cutoff is its middle.
    cutoff = (1 + PASS_BAND) / 2 / slower
    window = scipy.signal.firwin(2 * ZERO_CROSSINGS * slower + 1, cutoff, window=("kaiser", KAISER_BETA))
    # What the filter reaches to each side, in whole periods of `down` samples, so that each part begins in phase.
    context = -(-(ZERO_CROSSINGS * slower // up + 1) // down) * down

    def resampled(part: np.ndarray, n: int) -> np.ndarray:
        """Resample the `n` samples of a part that come after its context."""
        skip = context // down * up
        whole = scipy.signal.resample_poly(part, up, down, axis=-1, window=window)
        return whole[:, skip : skip + -(-n * up // down)].astype(np.float32)

    pending = None
    for block in blocks:
        if pending is None:
            pending = np.zeros((len(block), context), dtype=np.float32)
        pending = np.concatenate([pending, block], axis=1)
        ready = (pending.shape[1] - 2 * context) // down * down
        if ready >= BLOCK_SAMPLES:
            yield resampled(pending[:, : ready + 2 * context], ready)
            pending = pending[:, ready:]
    if pending is not None:
        yield resampled(pending, pending.shape[1] - context)


def level_dbfs(samples: np.ndarray) -> float:
    """Root mean square level over all channels, in decibels re full scale; minus infinity for silence."""
    with np.errstate(divide="ignore"):
        return float(20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))))
