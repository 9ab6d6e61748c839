"""Real audio files: what is read, what is refused, and the three resamplers against their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from helpers import write_stereo

from scow.data.audio import (
    FILE_RATE_HZ,
    MODEL_RATE_HZ,
    StereoSignal,
    level_dbfs,
    read_stereo,
    resample_kaiser,
    resample_poly,
    resample_sinc,
)
from scow.errors import SignalError


def steps(left: list[int], right: list[int]) -> np.ndarray:
    """16-bit samples of both channels, shape (n, 2)."""
    return np.tile(np.array([left, right], dtype=np.int16).T, (11_025, 1))


def test_read_stereo_reads_16_bits_exactly_with_the_left_channel_first(tmp_path):
    samples = steps([1000, -32768, 0], [3, 32767, -5])
    soundfile.write(tmp_path / "s.flac", samples, FILE_RATE_HZ, subtype="PCM_16")
    signal = read_stereo(tmp_path / "s.flac")
    assert (signal.rate_hz, signal.samples.dtype, signal.samples.shape) == (FILE_RATE_HZ, np.float32, (2, len(samples)))
    for i, name in enumerate(("left", "right")):
        assert np.array_equal(signal.channel(name), samples[:, i] / 32768)
    assert np.array_equal(signal.mono, samples.mean(axis=1) / 32768)


@pytest.mark.parametrize("silent", ["left", "right"])
def test_silent_channel_is_refused_and_the_other_is_not(silent):
    channels = {"left": [2, -2], "right": [2, -2]} | {silent: [1, -1]}  # two steps are the quietest sound there is
    signal = StereoSignal(steps(**channels).T / np.float32(32768), FILE_RATE_HZ)
    with pytest.raises(SignalError, match=f"{silent} channel is silent"):
        signal.channel(silent)
    assert signal.channel("left" if silent == "right" else "right").max() == 2 / 32768


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({}, None),
        ({"channels": 1}, "expected 2 channels, found 1"),
        ({"channels": 3}, "expected 2 channels, found 3"),
        ({"rate_hz": 48_000}, "expected 44100 Hz, found 48000 Hz"),
        ({"seconds": 0.25}, None),
        ({"seconds": 30.0}, None),
        ({"seconds": 11_024 / 44_100}, "at least 0.25 s, found 11024 frames"),
        ({"seconds": 1_323_001 / 44_100}, "at most 30 s"),
    ],
)
def test_read_stereo_takes_only_files_of_the_challenges_form(tmp_path, form, reason):
    path = write_stereo(tmp_path / "s.flac", **form)
    if reason is None:
        assert read_stereo(path).samples.shape == (2, soundfile.info(path).frames)
    else:
        with pytest.raises(SignalError, match=reason):
            read_stereo(path)


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0x55 for byte in content[middle : middle + 500]) + content[middle + 500 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"not a sound\n" * 500,
        *(lambda content, end=end: content[:end] for end in (60, 50_000, -1)),
        lambda content: content[: content.rindex(b"\xff\xf8")],  # without the last frame
        damaged,
    ],
    ids=["empty", "text", "header", "half", "last byte", "last frame", "damaged"],
)
def test_read_stereo_refuses_a_damaged_flac_in_one_line(tmp_path, spoil):
    path = write_stereo(tmp_path / "s.flac", seconds=2.0)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SignalError, match=r"cannot be decoded|truncated") as caught:
        read_stereo(path)
    assert "\n" not in str(caught.value)


def test_read_stereo_names_a_missing_file_and_samples_that_are_not_finite(tmp_path: Path):
    for missing in (tmp_path, tmp_path / "0001.flac"):
        with pytest.raises(SignalError, match=f"{missing}, found none"):
            read_stereo(missing)
    for value in (math.nan, -math.inf):
        samples = np.full((FILE_RATE_HZ, 2), 0.1, dtype=np.float32)
        samples[-1, 1] = value
        soundfile.write(tmp_path / "s.wav", samples, FILE_RATE_HZ, subtype="FLOAT")
        with pytest.raises(SignalError, match="finite"):
            read_stereo(tmp_path / "s.wav")


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
    up, down, half = 160, 441, 10 * 441
    taps = up * scipy.signal.firwin(2 * half + 1, 1 / down, window=("kaiser", 5.0))
    stuffed = np.zeros(len(samples) * up)
    stuffed[::up] = samples
    return scipy.signal.oaconvolve(stuffed, taps)[half : half + len(stuffed) : down]


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
    stereo = resample_sinc(np.stack([noise, -noise], axis=1).T)
    np.testing.assert_allclose(stereo, [resample_sinc(noise), resample_sinc(-noise)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000, 96_000])
def test_resample_kaiser_keeps_a_tone_and_removes_what_the_new_rate_cannot_hold(rate_hz):
    def tone(frequency_hz: float, at_hz: int) -> np.ndarray:
        return np.sin(2 * np.pi * frequency_hz * np.arange(at_hz) / at_hz).astype(np.float32)

    middle = slice(2000, -2000)  # at the ends the filter meets the silence around the signal
    kept = resample_kaiser(tone(3_000, rate_hz), rate_hz)
    np.testing.assert_allclose(kept[middle], tone(3_000, FILE_RATE_HZ)[middle], rtol=0, atol=1e-4)
    if rate_hz > FILE_RATE_HZ:
        assert level_dbfs(resample_kaiser(tone(22_200, rate_hz), rate_hz)[middle]) < -95
