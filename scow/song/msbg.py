"""pyclarity's simulation of a hearing loss (MSBG), the same numbers in a third of the time.

`FastEar` is pyclarity's ``Ear`` for one channel, with these steps written anew. All filters and parameters are
pyclarity's; results differ by rounding, more than 200 dB below the peak. This holds in silence as well, where the
phases of empty bins are rounding errors: so what comes before the smearing is computed exactly as in pyclarity.

- Level (`active_frames`): pyclarity's loop takes time that grows with the square of the length.
- Smearing (`smear`): blocks of frames, where pyclarity takes one at a time. It continues the first frame of 256 samples
  with sample 64, which this frame holds already, so that 192 samples are repeated.
- Gammatone filters, envelopes and recruitment (`FastCochlea.simulate`): one pass for each cochlear channel, its four
  equal filters in one call. The FIR filters after the cochlea are one, by FFT.
"""

from __future__ import annotations

import math

import numpy as np
from clarity.evaluator.msbg import smearing
from clarity.evaluator.msbg.cochlea import Cochlea
from clarity.evaluator.msbg.msbg import UPPER_CUTOFF_HZ, Ear
from clarity.evaluator.msbg.msbg_utils import WIN_SECS
from clarity.utils.audiogram import Audiogram
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import ellip, firwin, lfilter, lfilter_zi, oaconvolve, sosfilt

THRESHOLD_DB = -12.0  # of a frame, relative to the whole
FLOOR_DB = -80.0
ENVELOPE_FLOOR = 1e-9
FRAMES_AT_ONCE = 1024
IMPULSE_SAMPLES = 1024  # more than the filter of outer and middle ear has


class FastEar(Ear):
    """pyclarity's ear; `process` takes one channel."""

    def set_audiogram(self, audiogram: Audiogram) -> None:
        """Choose the hearing loss."""
        self.cochlea = FastCochlea(audiogram)

    def process(self, signal: np.ndarray) -> np.ndarray:
        """Simulate the hearing loss: (n,) -> (n + 192 up to a multiple of 64,), both float64."""
        rate = self.sample_rate
        full_scale_db = self.equiv_0db_spl + self.ahr
        level_db, active = 10 * np.log10(np.mean(signal**2)), signal[active_frames(signal, rate)]
        change_db = full_scale_db + level_db - (full_scale_db + 20 * np.log10(np.sqrt(np.sum(active**2) / len(active))))
        scaled = signal * 10 ** (0.05 * change_db)
        smeared = self.cochlea.simulate(self.src_to_cochlea_filt(scaled, self.src_correction, rate), full_scale_db)
        impulse = np.eye(1, IMPULSE_SAMPLES)[0]
        outward = self.src_to_cochlea_filt(impulse, self.src_correction, rate, backward=True)
        low_pass = firwin(2 * math.floor(0.0015 * rate) + 1, UPPER_CUTOFF_HZ / int(rate / 2), window=("kaiser", 8))
        return oaconvolve(smeared, np.convolve(outward, low_pass))[: len(smeared)]


def active_frames(signal: np.ndarray, rate: float) -> np.ndarray:
    """Mask of the samples in frames of 10 ms that are not more than 12 dB below the mean level: (n,) -> (n,)."""
    length = round(WIN_SECS * rate)
    frames = signal[: len(signal) // length * length].reshape(-1, length)
    threshold_db = max(10 * np.log10(np.mean(signal**2)) + THRESHOLD_DB, FLOOR_DB)
    floor = 10 ** ((threshold_db - 30) / 10)
    active = 10 * np.log10(floor + np.mean(frames**2, axis=1)) >= threshold_db
    return np.pad(np.repeat(active, length), (0, len(signal) - frames.size))


def smear(signal: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Spectral smearing by a matrix of power spectra, as ``smear3``: (n,) -> (n + 192 up to a multiple of 64,)."""
    size, shift, half = smearing.FRAME_SIZE, smearing.SHIFT, smearing.FFT_SIZE // 2
    window = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)) / math.sqrt(1.5)
    n_frames, overlaps = math.ceil(len(signal) / shift), size // shift
    repeated = np.concatenate([signal[:size], signal[shift:], np.zeros(size)])
    frames = sliding_window_view(repeated, size)[::shift][:n_frames]
    waves = np.empty((n_frames, overlaps, shift))
    for some in (slice(start, start + FRAMES_AT_ONCE) for start in range(0, n_frames, FRAMES_AT_ONCE)):
        spectra = np.fft.fft(frames[some] * window, smearing.FFT_SIZE)[:, :half]
        magnitudes = np.abs(spectra)
        spectra /= magnitudes + (magnitudes == 0)
        # The matrix has negative entries, and so may have its result; its root is then imaginary.
        spectra *= np.emath.sqrt(magnitudes**2 @ matrix.T)
        wave = np.fft.irfft(spectra, smearing.FFT_SIZE)[:, :size] * window  # irfft adds a zero at the Nyquist frequency
        waves[some] = wave.reshape(-1, overlaps, shift)
    smeared = np.zeros((n_frames + overlaps - 1, shift))
    for k in range(overlaps):
        smeared[k : k + n_frames] += waves[:, k]
    for k in range(overlaps - 1):  # at the end pyclarity takes a part of an older frame for that of a last one
        kept = sum(waves[-m, k + m] for m in range(1, overlaps - 1 - k))
        smeared[n_frames + k] = waves[-overlaps, k] + kept
    return smeared.ravel()


class FastCochlea(Cochlea):
    """pyclarity's cochlea, one pass for each of its channels."""

    def simulate(self, coch_sig: np.ndarray, equiv_0dB_file_SPL: float) -> np.ndarray:  # noqa: N803
        """Smear, filter, and expand the envelope of each filter's output: (n,) -> (as `smear`,)."""
        bank = self.gtfbank_params
        smeared = smear(coch_sig, self.smearer.f_smear)
        total = np.zeros_like(smeared)
        for i, centre_hz in enumerate(bank["ERBn_CentFrq"]):
            filters = np.concatenate([bank["GTn_nums"][i], bank["GTn_denoms"][i]])
            delay, high_pass = bank["GTnDelays"][i], i + 1 - bank["Start2PoleHP"]
            channel = np.pad(sosfilt(np.tile(filters, (bank["NGAMMA"], 1)), smeared)[delay:], (0, delay))
            if high_pass >= 0:
                channel = lfilter(bank["HP_nums"][high_pass], bank["HP_denoms"][high_pass], channel)
            ceiling = 10 ** ((self.eq_loud_db_catch_up[i] - equiv_0dB_file_SPL) / 20)
            envelope = _smoothed(np.abs(channel), 0.75 * min(100.0, centre_hz), self.fs)
            gain = np.clip(envelope, ENVELOPE_FLOOR, ceiling) / ceiling
            total += channel * gain ** (self.cf_expansion[i] - 1)
        return total * 10 ** (-bank["Recombination_dB"] / 20)


def _smoothed(values: np.ndarray, cutoff_hz: float, rate: float) -> np.ndarray:
    """An elliptic low-pass filter forwards and backwards, as ``scipy.signal.filtfilt`` with 8 samples of padding."""
    b, a = ellip(2, 0.25, 35, cutoff_hz / (rate / 2))
    state, edge = lfilter_zi(b, a), 3 * max(len(a), len(b)) - 1
    before, after = 2 * values[0] - values[edge:0:-1], 2 * values[-1] - values[-2 : -edge - 2 : -1]
    extended = np.concatenate([before, values, after])
    for _ in range(2):
        extended = lfilter(b, a, extended, zi=state * extended[0])[0][::-1]
    return extended[edge:-edge]
