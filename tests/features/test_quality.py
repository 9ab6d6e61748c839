"""STOI, eSTOI and PESQ: known answers, a second resampler, and reasons instead of sentinel numbers."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from pesq import pesq
from pystoi import stoi
from scipy import signal

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ, resample_poly
from scow.errors import SignalError
from scow.features.intrusive import Measured, quality

# ITU-T P.862.2, its mapping of the raw score to MOS-LQO, at the highest raw score, 4.5.
PESQ_CEILING = 0.999 + 4 / (1 + math.exp(-1.3669 * 4.5 + 3.8224))


def speechlike(seconds: float, rate_hz: int = FILE_RATE_HZ, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes five times a second, as syllables do."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return 0.1 * noise * (1 + np.sin(2 * np.pi * 5 * t)) / 2


def measured_at(reference: np.ndarray, degraded: np.ndarray, rate_hz: int = FILE_RATE_HZ) -> Measured:
    return quality(resample_poly(reference, rate_hz), resample_poly(degraded, rate_hz))


def test_identical_signals_reach_the_ceilings() -> None:
    clean = speechlike(3.0)
    measured = measured_at(clean, clean)
    assert not measured.reasons
    assert measured.values["stoi"] == pytest.approx(1, abs=1e-9)
    assert measured.values["estoi"] == pytest.approx(1, abs=1e-9)
    # The package reports float32 of a raw score that misses 4.5 by some 1e-5.
    assert measured.values["pesq"] == pytest.approx(PESQ_CEILING, abs=1e-3)


def test_published_definition_step_by_step() -> None:
    reference = speechlike(2.0)
    degraded = np.concatenate([reference, speechlike(0.5, seed=2)]) + speechlike(2.5, seed=1)
    x = signal.resample_poly(reference, MODEL_RATE_HZ, FILE_RATE_HZ)
    y = signal.resample_poly(degraded, MODEL_RATE_HZ, FILE_RATE_HZ)[: len(x)]
    values = measured_at(reference, degraded).values
    # The same libraries on the same samples; eSTOI adds noise of one float64 epsilon of its own.
    assert values["stoi"] == pytest.approx(stoi(x, y, MODEL_RATE_HZ), abs=1e-9)
    assert values["estoi"] == pytest.approx(stoi(x, y, MODEL_RATE_HZ, extended=True), abs=1e-9)
    assert values["pesq"] == pytest.approx(pesq(MODEL_RATE_HZ, x, y, "wb"), abs=1e-6)
    assert values["estoi"] != pytest.approx(values["stoi"], abs=0.05)


def by_hand_16_khz(samples: np.ndarray) -> np.ndarray:
    """Zeros between the samples, SciPy's published low-pass (Kaiser 5.0, 20 · 441 + 1 taps), every 441st value."""
    up, down = 160, 441
    half = 10 * down
    taps = up * signal.firwin(2 * half + 1, 1 / down, window=("kaiser", 5.0))
    stuffed = np.zeros(len(samples) * up)
    stuffed[::up] = samples
    n_fft = 1 << (len(stuffed) + len(taps)).bit_length()
    filtered = np.fft.irfft(np.fft.rfft(stuffed, n_fft) * np.fft.rfft(taps, n_fft), n_fft)
    return filtered[half : half + len(stuffed) : down]


@pytest.mark.parametrize("n", [4_410, 4_411, 5_000])
def test_resampler_against_zero_stuffing(n: int) -> None:
    samples = np.random.default_rng(n).standard_normal(n)
    resampled = resample_poly(samples, FILE_RATE_HZ)
    assert len(resampled) == math.ceil(n * 160 / 441)
    # Both are float64; the FFT of two million points loses some digits.
    np.testing.assert_allclose(resampled, by_hand_16_khz(samples), rtol=0, atol=1e-9)


def test_resampler_keeps_a_tone() -> None:
    seconds = np.arange(FILE_RATE_HZ) / FILE_RATE_HZ
    resampled = resample_poly(np.sin(2 * np.pi * 440 * seconds), FILE_RATE_HZ)
    expected = np.sin(2 * np.pi * 440 * np.arange(MODEL_RATE_HZ) / MODEL_RATE_HZ)
    # The pass band ripples by less than 0.2 %; the ends, where the filter sees nothing, are left out.
    np.testing.assert_allclose(resampled[200:-200], expected[200:-200], atol=2e-3)


def test_signal_at_16_khz_is_left_alone() -> None:
    samples = speechlike(0.5, MODEL_RATE_HZ)
    np.testing.assert_array_equal(resample_poly(samples, MODEL_RATE_HZ), samples)


def test_both_are_cut_to_the_shorter() -> None:
    clean = speechlike(2.0, MODEL_RATE_HZ)
    noisy = clean + speechlike(2.0, MODEL_RATE_HZ, seed=1)
    longer = np.concatenate([noisy, np.ones(5_000)])
    # 1e-9: eSTOI adds noise of one float64 epsilon of its own.
    plain = pytest.approx(measured_at(clean, noisy, MODEL_RATE_HZ).values, abs=1e-9)
    assert measured_at(clean, longer, MODEL_RATE_HZ).values == plain
    assert measured_at(np.concatenate([clean, np.ones(5_000)]), noisy, MODEL_RATE_HZ).values == plain


def test_same_signals_same_bits_whatever_was_drawn_before() -> None:
    clean = speechlike(2.0, MODEL_RATE_HZ)
    noisy = clean + speechlike(2.0, MODEL_RATE_HZ, seed=1)
    found = []
    for seed in range(5):
        np.random.seed(seed)  # noqa: NPY002 - the legacy global state is what this test is about
        found.append(measured_at(clean, noisy, MODEL_RATE_HZ).values)
    assert found == [found[0]] * 5


def test_random_state_of_the_caller_stays_as_it_is() -> None:
    clean = speechlike(1.0, MODEL_RATE_HZ)
    np.random.seed(7)  # noqa: NPY002
    measured_at(clean, clean, MODEL_RATE_HZ)
    after = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert after == np.random.random()  # noqa: NPY002


def test_signals_are_not_aligned() -> None:
    clean = speechlike(3.0)
    delayed = np.concatenate([np.zeros(int(0.03 * FILE_RATE_HZ)), clean])
    # The published definition: 30 ms of delay, which no ear minds, ruin STOI.
    assert measured_at(clean, delayed).values["stoi"] < 0.6


def test_arrays_of_the_caller_stay_as_they_are() -> None:
    clean, noisy = speechlike(1.0), speechlike(1.0, seed=1)
    copies = clean.copy(), noisy.copy()
    measured_at(clean, noisy)
    np.testing.assert_array_equal(clean, copies[0])
    np.testing.assert_array_equal(noisy, copies[1])


@pytest.mark.parametrize(("n_reference", "n_degraded"), [(3_999, 9_000), (9_000, 3_999), (0, 9_000)])
def test_less_than_a_quarter_second_in_common_raises(n_reference: int, n_degraded: int) -> None:
    long = speechlike(1.0, MODEL_RATE_HZ)
    with pytest.raises(SignalError, match=r"expected at least 0\.25 s common to signal and reference, found 0\."):
        measured_at(long[:n_reference] if n_reference else np.zeros(1), long[:n_degraded], MODEL_RATE_HZ)


def test_a_quarter_second_is_enough_for_pesq() -> None:
    clean = speechlike(1.0, MODEL_RATE_HZ, seed=3)[:4_800]
    assert measured_at(clean, clean, MODEL_RATE_HZ).values["pesq"] == pytest.approx(PESQ_CEILING, abs=1e-3)


@pytest.mark.parametrize(
    "clean",
    [
        pytest.param(speechlike(0.3), id="short"),
        pytest.param(np.concatenate([speechlike(0.25), np.zeros(2 * FILE_RATE_HZ)]), id="mostly silent"),
    ],
)
def test_too_few_frames_for_stoi_is_a_reason_and_pesq_stands(clean: np.ndarray) -> None:
    measured = measured_at(clean, clean)
    assert set(measured.values) == {"pesq"}
    assert set(measured.reasons) == {"stoi", "estoi"}
    assert "30 frames" in measured.reasons["stoi"]


def test_reference_without_utterance_is_a_reason_and_the_others_stand() -> None:
    noise = speechlike(2.0)
    measured = measured_at(np.zeros_like(noise), noise)
    assert set(measured.values) == {"stoi", "estoi"}
    assert measured.reasons == {"pesq": "PESQ: No utterances detected"}


def test_silent_degraded_signal_has_a_reason() -> None:
    clean = speechlike(2.0)
    measured = measured_at(clean, np.zeros_like(clean))
    assert "pesq" not in measured.values
    assert measured.reasons["pesq"].startswith("PESQ")


BURSTS = """
import numpy as np
from scow.data.audio import resample_poly
from scow.features.intrusive import quality
t = np.arange(30 * 44_100) / 44_100
tone = np.sin(2 * np.pi * 300 * t) + 0.5 * np.random.default_rng(1).standard_normal(len(t))
bursts = np.where(t % 0.45 < 0.225, 0.3 * tone, 0)
noisy = bursts + 0.01 * np.random.default_rng(2).standard_normal(len(t))
measured = quality(resample_poly(bursts, 44_100), resample_poly(noisy, 44_100))
print(len(measured.values) + len(measured.reasons))
"""


def test_more_utterances_than_pesq_can_hold_do_not_end_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BURSTS], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
