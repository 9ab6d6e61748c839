"""What one ear with a hearing loss hears: the Cambridge simulation (MSBG), as published in pyclarity.

Spectral smearing (Baer and Moore 1993), then loudness recruitment in a gammatone filterbank (Moore and Glasberg 1993),
between the corrections from the free field to the cochlea and back, with pyclarity's audiograms AUDIOGRAM_MILD and
AUDIOGRAM_MODERATE. `simulate_ear` gives, sample for sample, what ``clarity.evaluator.msbg.msbg.Ear.process`` gives for
the same ear; the steps are called one by one so that a long channel can be cut into pieces. A piece that begins a
multiple of `HOP` samples into the channel, where a frame of the smearing begins, and that is given its neighbours
for a second, differs from the whole by rounding alone: by then the filters have forgotten that anything was cut.

The module imports little, because a process per core starts with it.

References: T. Baer and B. C. J. Moore, "Effects of spectral smearing on the intelligibility of sentences in noise",
JASA 94, 1993. B. C. J. Moore and B. R. Glasberg, "Simulation of the effects of loudness recruitment and threshold
elevation on the intelligibility of speech in quiet and in a background of speech", JASA 94, 1993.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scow.data.audio import FILE_RATE_HZ

if TYPE_CHECKING:
    from clarity.evaluator.msbg.msbg import Ear
    from clarity.utils.audiogram import Audiogram

HOP = 64  # samples between the frames of pyclarity's smearing
ACTIVE_DB = -12.0  # pyclarity sets an ear's level by its parts above this, re its root mean square
UPPER_CUTOFF_HZ = 18_000


def simulate_ear(ear: Ear, channel: np.ndarray, gain: float | None = None) -> np.ndarray:
    """Let one ear hear a channel.

    Parameters
    ----------
    ear : clarity.evaluator.msbg.msbg.Ear
        With its audiogram set.
    channel : ndarray, shape (n,), float64
        Full scale is 120 dB SPL.
    gain : float, optional
        What `active_gain` says of the whole channel, where this is a piece of it.

    Returns
    -------
    ndarray, shape (n + at most 3 `HOP`,), float64
    """
    from scipy.signal import firwin, lfilter

    presented = channel * (active_gain(ear, channel) if gain is None else gain)
    at_cochlea = ear.src_to_cochlea_filt(presented, ear.src_correction, FILE_RATE_HZ)
    assert ear.cochlea is not None
    heard = ear.cochlea.simulate(at_cochlea, full_scale_db_spl(ear))
    outside = ear.src_to_cochlea_filt(heard, ear.src_correction, FILE_RATE_HZ, backward=True)
    taps = 2 * int(0.0015 * FILE_RATE_HZ) + 1
    low_pass = firwin(taps, UPPER_CUTOFF_HZ / (FILE_RATE_HZ // 2), window=("kaiser", 8))
    result: np.ndarray = lfilter(low_pass, 1, outside)
    return result


def active_gain(ear: Ear, channel: np.ndarray) -> float:
    """Gain by which pyclarity brings the active parts of a channel to the root mean square level of all of it."""
    from clarity.evaluator.msbg.msbg_utils import measure_rms

    full_scale = full_scale_db_spl(ear)
    active_rms = measure_rms(channel, FILE_RATE_HZ, ACTIVE_DB)[0]
    target = full_scale + 10 * np.log10(np.mean(channel**2))
    return float(np.power(10, 0.05 * (target - (full_scale + 20 * np.log10(active_rms)))))


def simulate_piece(hearing_loss: str, channel: np.ndarray, gain: float) -> np.ndarray:
    """One task of a pool of processes: what `simulate_ear` gives for a piece of a channel, on one core."""
    from threadpoolctl import threadpool_limits  # scikit-learn's, which pyclarity brings

    with threadpool_limits(1):  # there is a process per core already
        return simulate_ear(ear_with(hearing_loss), channel, gain)


def ear_with(hearing_loss: str) -> Ear:
    """An ear of pyclarity with the audiogram of a severity."""
    from clarity.evaluator.msbg.msbg import Ear

    ear = Ear(src_pos="ff", sample_rate=FILE_RATE_HZ)
    ear.set_audiogram(audiogram_of(hearing_loss))
    return ear


def audiogram_of(hearing_loss: str) -> Audiogram:
    """The audiogram of a severity, the same in both ears."""
    from clarity.utils.audiogram import AUDIOGRAM_MILD, AUDIOGRAM_MODERATE

    audiograms: dict[str, Any] = {"Mild": AUDIOGRAM_MILD, "Moderate": AUDIOGRAM_MODERATE}
    return audiograms[hearing_loss]


def full_scale_db_spl(ear: Ear) -> float:
    """Level of a root mean square of 1 to the simulator: its reference and its headroom."""
    return float(ear.equiv_0db_spl + ear.ahr)
