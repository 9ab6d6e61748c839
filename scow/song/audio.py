"""Songs: any file that libsndfile reads, as stereo at 44.1 kHz, the form of the challenge's signals.

- A mono file becomes two equal channels; more than two channels are refused.
- Another rate is resampled to 44.1 kHz (`scow.data.audio.resample_kaiser`), because the features and the simulation of
  hearing losses are defined there.
- Samples beyond full scale, which MP3 decoders give, stay; a clipped recording is used as it is (see `clipped`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scow.data.audio import FILE_RATE_HZ, ONE_BIT, StereoSignal, decode, resample_kaiser
from scow.errors import SignalError

MAX_SONG_S = 1200.0
RATES_HZ = (8_000, 384_000)
CLIPPED_RUN = 4  # neighbouring samples at the peak, which music without clipping does not have


def read_song(path: Path) -> StereoSignal:
    """Read FLAC, WAV, MP3, OGG and the like, mono or stereo, 0.25 s to 20 min; anything else is a `SignalError`."""
    if not path.is_file() or path.stat().st_size == 0:
        raise SignalError(f"{path}: expected an audio file, found {'0 bytes' if path.is_file() else 'none'}")
    try:
        samples, rate_hz = decode(path, max_s=MAX_SONG_S, channels=(1, 2), rates_hz=RATES_HZ)
    except SignalError as error:
        raise SignalError(f"{path}: {error}") from error
    stereo = np.broadcast_to(samples, (len(samples), 2)).T
    signal = StereoSignal(np.ascontiguousarray(resample_kaiser(stereo, rate_hz)), FILE_RATE_HZ)
    if np.abs(signal.samples).max() <= ONE_BIT:
        raise SignalError(f"{path}: silent; expected some sample above one 16-bit step")
    return signal


def clipped(signal: StereoSignal) -> bool:
    """Whether the peaks of a channel are cut off: a run of samples at its peak, which is near full scale."""
    for channel in np.abs(signal.samples):
        at_peak = channel >= channel.max() - ONE_BIT
        runs = np.convolve(at_peak, np.ones(CLIPPED_RUN), mode="valid")
        if channel.max() > 0.5 and (runs == CLIPPED_RUN).any():
            return True
    return False
