"""A song as people have it: any file that libsndfile reads, brought into the form of the challenge's signals.

The features are defined on stereo files of 44.1 kHz (`scow.data.audio`), and so is the hearing-loss simulation. Therefore:

- a mono file is heard by both ears alike; more than two channels are refused, because nobody knows which of them
  reach which ear;
- another rate is first resampled to 44.1 kHz, then goes the way of the challenge's files, to 16 kHz and into Whisper.
  `scow.data.audio.resample_kaiser` leaves what 16 kHz keeps as it is;
- samples beyond full scale, as MP3 decoders give them, stay; a clipped recording is heard as it is, and `clipped`
  tells whether there is reason to say so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scow.data.audio import FILE_RATE_HZ, ONE_BIT, StereoSignal, decode, resample_kaiser
from scow.errors import SignalError

MAX_SONG_S = 1200.0
RATES_HZ = (8_000, 384_000)
CLIPPED_RUN = 4  # neighbouring samples at the same peak: music does not do this by itself


def read_song(path: Path) -> StereoSignal:
    """Read any audio file as stereo at 44.1 kHz.

    Parameters
    ----------
    path : Path
        FLAC, WAV, MP3, OGG or what else libsndfile reads; mono or stereo, 0.25 s to 20 min long.

    Returns
    -------
    StereoSignal

    Raises
    ------
    SignalError
        The file is missing, empty, unreadable, truncated, has more than two channels or an uncommon rate, is too short
        or too long, holds samples that are not finite, or is silent.
    """
    if not path.is_file():
        raise SignalError(f"{path}: expected an audio file, found none; check the path")
    if path.stat().st_size == 0:
        raise SignalError(f"{path}: expected an audio file, found 0 bytes; copy or download it again")
    try:
        samples, rate_hz = decode(path, longest_s=MAX_SONG_S, accept=_one_or_two_channels)
    except SignalError as error:
        raise SignalError(f"{path}: {error}") from error
    stereo = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples
    signal = StereoSignal(np.ascontiguousarray(resample_kaiser(stereo.T, rate_hz)), FILE_RATE_HZ)
    if float(np.abs(signal.samples).max()) <= ONE_BIT:
        raise SignalError(f"{path}: silent; expected some sample above one 16-bit step")
    return signal


def clipped(signal: StereoSignal) -> bool:
    """Whether the peaks of a signal are cut off: runs of equal samples at the largest amplitude, near full scale."""
    for ear in signal.samples:
        peak = float(np.abs(ear).max())
        at_peak = np.abs(ear) >= peak - ONE_BIT
        runs = np.convolve(at_peak, np.ones(CLIPPED_RUN), mode="valid")
        if peak > 0.5 and (runs == CLIPPED_RUN).any():
            return True
    return False


def _one_or_two_channels(channels: int, rate_hz: int) -> None:
    if channels > 2:
        raise SignalError(f"expected 1 or 2 channels, found {channels}; mix the song down to stereo first")
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise SignalError(
            f"expected a rate of {RATES_HZ[0]} to {RATES_HZ[1]} Hz, found {rate_hz} Hz; resample it first"
        )
