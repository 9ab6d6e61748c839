"""Real audio files: what is read, what is refused, and the three resamplers against their definitions."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import scipy.signal
import soundfile
from helpers import refusal, write_stereo

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ, read_stereo, resample_poly, resample_sinc
from scow.errors import SignalError


def test_read_stereo_reads_16_bits_exactly_with_the_left_channel_first(tmp_path):
    samples = np.tile(np.int16([[1000, 3], [-32768, 32767], [0, -5]]), (11_025, 1))
    soundfile.write(tmp_path / "s.flac", samples, FILE_RATE_HZ, subtype="PCM_16")
    signal = read_stereo(tmp_path / "s.flac")
    assert (signal.rate_hz, signal.samples.dtype, signal.samples.shape) == (FILE_RATE_HZ, np.float32, (2, len(samples)))
    for i, name in enumerate(("left", "right")):
        assert np.array_equal(signal.channel(name), samples[:, i] / 32768)
    assert np.array_equal(signal.mono, samples.mean(axis=1) / 32768)


@pytest.mark.parametrize(
    ("form", "spoil", "reason"),
    [
        ({"channels": 1}, bytes, "expected 2 channels, found 1"),
        ({"channels": 3}, bytes, "expected 2 channels, found 3"),
        ({"rate_hz": 48_000}, bytes, "expected 44100 Hz, found 48000 Hz"),
        ({"seconds": 11_024 / 44_100}, bytes, "at least 0.25 s, found 11024 frames"),
        ({"seconds": 1_323_001 / 44_100}, bytes, "at most 30 s"),
        *[
            ({}, spoil, "cannot be decoded|truncated")
            for spoil in (
                lambda content: content[:0],
                lambda content: content[:60],
                lambda content: content[:-1],
                lambda content: content[: content.rindex(b"\xff\xf8")],  # without the last frame
                lambda content: content[:25_000] + b"not a sound" + content[25_011:],
            )
        ],
    ],
)
def test_read_stereo_refuses_other_forms_and_damaged_files_in_one_line(tmp_path, form, spoil, reason):
    path = write_stereo(tmp_path / "s.flac", **form)
    path.write_bytes(spoil(path.read_bytes()))
    for wrong, expected in ((path, reason), (tmp_path / "0001.flac", "found none"), (tmp_path, "found none")):
        with refusal(expected, SignalError):
            read_stereo(wrong)


@pytest.mark.parametrize("value", [0.1, 7.9, math.nan, -math.inf, 1e20, -8.1])
def test_read_stereo_takes_finite_samples(tmp_path, value):
    samples = np.full((30 * FILE_RATE_HZ, 2), 0.1, dtype=np.float32)
    samples[-1, 1] = value
    soundfile.write(tmp_path / "s.wav", samples, FILE_RATE_HZ, subtype="FLOAT")
    with nullcontext() if abs(value) < 8 else pytest.raises(SignalError, match="finite"):
        assert np.array_equal(read_stereo(tmp_path / "s.wav").samples, samples.T)


# --- resamplers


def sinc_by_hand(samples: np.ndarray) -> np.ndarray:
    """Sinc with its first zero at 0.99 of the new rate, six zeros to each side, Hann window; in float64."""
    cutoff_hz = 0.99 * MODEL_RATE_HZ
    times_out = np.arange(math.ceil(len(samples) * MODEL_RATE_HZ / FILE_RATE_HZ)) / MODEL_RATE_HZ
    t = np.clip((np.arange(len(samples)) / FILE_RATE_HZ - times_out[:, None]) * cutoff_hz, -6, 6)
    kernel = np.sinc(t) * np.cos(np.pi * t / 12) ** 2 * cutoff_hz / FILE_RATE_HZ
    return kernel @ samples


def poly_by_hand(samples: np.ndarray) -> np.ndarray:
    """Zeros between the samples, SciPy's published low-pass (Kaiser 5.0, 20 · 441 + 1 taps), every 441st value."""
    taps = 160 * scipy.signal.firwin(20 * 441 + 1, 1 / 441, window=("kaiser", 5.0))
    return scipy.signal.upfirdn(taps, np.append(samples, 0), 160, 441)[10 : 10 + math.ceil(len(samples) * 160 / 441)]


# torchaudio makes its kernel in float32: 7e-6 measured. The two methods are 0.07 apart.
@pytest.mark.parametrize(
    ("resample", "by_hand", "tolerance"), [(resample_sinc, sinc_by_hand, 2e-5), (resample_poly, poly_by_hand, 1e-6)]
)
@pytest.mark.parametrize("n", [441, 2205, 2206])
def test_resamplers_to_16_khz_equal_their_definition(resample, by_hand, tolerance, n):
    noise = np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32)
    before = noise.copy()
    np.testing.assert_allclose(resample(noise), by_hand(noise), rtol=0, atol=tolerance)
    assert np.array_equal(noise, before)
    assert np.array_equal(resample(noise, MODEL_RATE_HZ), noise)
