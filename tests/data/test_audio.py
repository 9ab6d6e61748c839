"""Ears of real files: what is read, what is refused and why, and the resampler against a second implementation."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from helpers import write_stereo
from torchaudio.functional import resample

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ, StereoSignal, read_stereo, resample_sinc
from scow.errors import SignalError


def sine(frequency_hz: float, rate_hz: int, seconds: float = 0.5) -> np.ndarray:
    t = np.arange(math.ceil(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * t)


def windowed_sinc(samples: np.ndarray) -> np.ndarray:
    """Resample 44.1 to 16 kHz by the definition, sample by sample in float64.

    Sinc with its first zero at 0.99 of the new rate, six zeros to each side, Hann window.
    """
    cutoff_hz = 0.99 * MODEL_RATE_HZ
    times_out = np.arange(math.ceil(len(samples) * MODEL_RATE_HZ / FILE_RATE_HZ)) / MODEL_RATE_HZ
    t = np.clip((np.arange(len(samples)) / FILE_RATE_HZ - times_out[:, None]) * cutoff_hz, -6, 6)
    kernel = np.sinc(t) * np.cos(np.pi * t / 12) ** 2 * cutoff_hz / FILE_RATE_HZ
    return kernel @ samples


def steps(left: list[int], right: list[int], repeat: int = 4410) -> np.ndarray:
    """16-bit samples of both channels, shape (n, 2)."""
    return np.tile(np.array([left, right], dtype=np.int16).T, (repeat, 1))


def test_a_16_bit_stereo_file_is_read_exactly_with_the_left_ear_first(tmp_path):
    path = tmp_path / "s.flac"
    samples = steps([1000, -32768, 0], [3, 32767, -5])
    soundfile.write(path, samples, FILE_RATE_HZ, subtype="PCM_16")
    signal = read_stereo(path)
    assert signal.rate_hz == FILE_RATE_HZ
    assert signal.samples.dtype == np.float32
    assert signal.samples.shape == (2, len(samples))
    assert np.array_equal(signal.channel("left"), samples[:, 0] / 32768)  # 16 bits fit into float32 exactly
    assert np.array_equal(signal.channel("right"), samples[:, 1] / 32768)


def test_mono_is_the_mean_of_both_ears():
    signal = StereoSignal(np.array([[0.5, 0.0, -1.0], [0.25, 0.5, 1.0]], dtype=np.float32), FILE_RATE_HZ)
    assert signal.mono.tolist() == [0.375, 0.25, 0.0]
    assert signal.mono.dtype == np.float32


@pytest.mark.parametrize("n_frames", [11_025, 1_323_000])
def test_the_shortest_and_the_longest_file_allowed_are_read(tmp_path, n_frames):
    path = tmp_path / "s.flac"
    soundfile.write(path, np.full((n_frames, 2), 0.1), FILE_RATE_HZ, subtype="PCM_16")
    assert read_stereo(path).samples.shape == (2, n_frames)  # 0.25 s and 30 s


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"channels": 1}, "expected 2 channels, found 1"),
        ({"channels": 3}, "expected 2 channels, found 3"),
        ({"rate_hz": 8000}, "expected 44100 Hz, found 8000 Hz"),
        ({"rate_hz": 48_000}, "expected 44100 Hz, found 48000 Hz"),
        ({"seconds": 0.1}, "expected at least 0.25 s (11025 frames), found 4410 frames"),
        ({"seconds": 30.5}, "expected at most 30 s (1323000 frames), found more"),
    ],
)
def test_a_file_of_another_form_is_refused_with_what_was_found(tmp_path, form, reason):
    path = write_stereo(tmp_path / "s.flac", **form)
    with pytest.raises(SignalError, match=f"^{re.escape(reason)}$"):
        read_stereo(path)


@pytest.mark.parametrize("n_frames", [11_024, 1_323_001])
def test_one_frame_beyond_the_limits_is_refused(tmp_path, n_frames):
    path = tmp_path / "s.flac"
    soundfile.write(path, np.full((n_frames, 2), 0.1), FILE_RATE_HZ, subtype="PCM_16")
    with pytest.raises(SignalError, match=r"^expected at (least 0\.25|most 30) s \(.* frames\), found "):
        read_stereo(path)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["nothing", "folder"])
def test_a_missing_file_is_named(tmp_path, make):
    path = tmp_path / "0001.flac"
    make(path)
    with pytest.raises(SignalError, match=rf"^expected the file {re.escape(str(path))}, found none; check "):
        read_stereo(path)


@pytest.mark.parametrize("content", [b"", b"not a sound\n" * 500, b"fLaC"], ids=["empty", "text", "four bytes"])
def test_what_is_no_sound_file_cannot_be_decoded(tmp_path, content):
    path = tmp_path / "s.flac"
    path.write_bytes(content)
    with pytest.raises(SignalError, match=r"^cannot be decoded \(.+\); expected a whole audio file$") as caught:
        read_stereo(path)
    assert "\n" not in str(caught.value)


def flac_frame_starts(content: bytes) -> list[int]:
    """Where FLAC frames begin: at a 14-bit sync code and a fixed block size."""
    return [found.start() for found in re.finditer(b"\xff\xf8", content)]


@pytest.mark.parametrize("part", ["header", "half", "last byte", "last frame"])
def test_a_truncated_flac_is_refused_wherever_it_is_cut(tmp_path, part):
    path = write_stereo(tmp_path / "s.flac", seconds=2.0)
    whole = path.read_bytes()
    ends = {"header": 60, "half": len(whole) // 2, "last byte": -1, "last frame": flac_frame_starts(whole)[-1]}
    path.write_bytes(whole[: ends[part]])
    with pytest.raises(SignalError, match=r"^(cannot be decoded \(.+\); expected a whole audio file|truncated: .*)$"):
        read_stereo(path)


def test_a_flac_damaged_in_the_middle_is_refused(tmp_path):
    path = write_stereo(tmp_path / "s.flac", seconds=2.0)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(byte ^ 0x55 for byte in content[middle : middle + 500])
    path.write_bytes(content)
    with pytest.raises(SignalError, match=r"^cannot be decoded \(.+\); expected a whole audio file$"):
        read_stereo(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_sample_that_is_not_finite_is_refused(tmp_path, value):
    path = tmp_path / "s.wav"
    samples = np.full((FILE_RATE_HZ, 2), 0.1, dtype=np.float32)
    samples[-1, 1] = value
    soundfile.write(path, samples, FILE_RATE_HZ, subtype="FLOAT")
    with pytest.raises(SignalError, match=r"^expected finite samples, found NaN or infinity$"):
        read_stereo(path)


@pytest.mark.parametrize(("silent", "loud"), [("left", "right"), ("right", "left")])
@pytest.mark.parametrize("dither", [[0, 0], [1, -1]], ids=["zeros", "one-bit dither"])
def test_a_silent_ear_is_refused_and_the_other_is_not(tmp_path, silent, loud, dither):
    path = tmp_path / "s.flac"
    channels = {silent: dither, loud: [2, -2]}  # two steps are the quietest sound there is
    soundfile.write(path, steps(channels["left"], channels["right"], 11_025), FILE_RATE_HZ, subtype="PCM_16")
    signal = read_stereo(path)
    assert np.abs(signal.channel(loud)).max() == 2 / 32768
    with pytest.raises(
        SignalError, match=rf"^the {silent} channel is silent: expected some sample above one 16-bit step$"
    ):
        signal.channel(silent)


@pytest.mark.parametrize("n_samples", [1, 2, 441, 11_025, 12_345, 44_100, 44_101])
def test_the_length_at_16_khz_is_rounded_up(n_samples):
    resampled = resample_sinc(np.ones(n_samples, dtype=np.float32))
    assert resampled.shape == (math.ceil(n_samples * 16_000 / 44_100),)
    assert resampled.dtype == np.float32


@pytest.mark.parametrize("frequency_hz", [100, 1000, 4000])
def test_a_sine_keeps_its_frequency_amplitude_and_phase(frequency_hz):
    resampled = resample_sinc(0.5 * sine(frequency_hz, FILE_RATE_HZ))
    expected = 0.5 * sine(frequency_hz, MODEL_RATE_HZ)
    middle = slice(100, -100)  # at the ends the filter sees the silence around the signal
    # Six zeros of a Hann-windowed sinc leave a gentle slope before the cutoff: 0.2 % of the amplitude at 4 kHz.
    assert np.abs(resampled - expected)[middle].max() < 0.5 * 0.003


def test_what_16_khz_cannot_hold_is_filtered_out_rather_than_folded_back():
    resampled = resample_sinc(sine(12_000, FILE_RATE_HZ))
    # Folded back it would be a tone of 4 kHz at full amplitude; the filter leaves less than -40 dB of it.
    assert np.abs(resampled[100:-100]).max() < 0.01


def test_the_resampler_is_the_windowed_sinc_of_its_definition():
    noise = np.random.default_rng(0).uniform(-1, 1, 2205).astype(np.float32)
    # torchaudio makes its kernel in float32, this is float64: 7e-6 measured. Other resamplers are 0.07 away.
    assert np.abs(resample_sinc(noise) - windowed_sinc(noise)).max() < 2e-5


def test_other_resamplers_give_other_samples():
    noise = np.random.default_rng(0).uniform(-1, 1, 2205).astype(np.float32)
    kaiser = resample(torch.from_numpy(noise), 44_100, 16_000, resampling_method="sinc_interp_kaiser").numpy()
    poly = scipy.signal.resample_poly(noise, 160, 441)
    for other in (kaiser, poly):
        assert np.abs(resample_sinc(noise) - other[: len(resample_sinc(noise))]).max() > 0.01


def test_resampling_leaves_the_callers_array_alone_and_takes_views():
    stereo = np.random.default_rng(0).uniform(-1, 1, (4410, 2)).astype(np.float32)
    before = stereo.copy()
    ears = resample_sinc(stereo.T)  # not contiguous
    assert np.array_equal(stereo, before)
    assert ears.shape == (2, 1600)
    # The same sums of float32, perhaps in another order.
    assert np.allclose(ears[1], resample_sinc(stereo[:, 1]), rtol=0, atol=1e-6)


def test_a_signal_already_at_16_khz_stays_as_it_is():
    samples = np.random.default_rng(0).uniform(-1, 1, 1600).astype(np.float32)
    assert np.array_equal(resample_sinc(samples, MODEL_RATE_HZ), samples)


def test_real_challenge_excerpts_are_read(clip1):
    paths = sorted(clip1.glob("cadenza_data_*/*/signals/*.flac"))
    assert paths
    for path in paths:
        signal = read_stereo(path)
        info = soundfile.info(path)
        assert signal.samples.shape == (2, info.frames)
