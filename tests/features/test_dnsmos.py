"""DNSMOS with the real model, against a loop written out by hand over onnxruntime."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ
from scow.errors import UserError
from scow.features.dnsmos import CHUNK_SAMPLES, Dnsmos, installed_model


@pytest.fixture(scope="module")
def dnsmos() -> Dnsmos:
    return Dnsmos()


def ear_of(n_samples_at_16_khz: int, rate_hz: int = FILE_RATE_HZ, seed: int = 0) -> np.ndarray:
    n = round(n_samples_at_16_khz * rate_hz / MODEL_RATE_HZ)
    t = np.arange(n) / rate_hz
    rng = np.random.default_rng(seed)
    return (0.3 * np.sin(2 * np.pi * 200 * t * (1 + t / 10)) + 0.05 * rng.standard_normal(n)).astype(np.float32)


def by_hand(ear: np.ndarray, rate_hz: int) -> list[float]:
    """Resampling by cutting the spectrum, chunks of 9.01 s one after the other, zeros behind the last."""
    n = int(len(ear) * MODEL_RATE_HZ / rate_hz)
    spectrum = np.fft.rfft(ear.astype(np.float64))[: n // 2 + 1].copy()
    if n % 2 == 0 and n != len(ear):
        spectrum[-1] *= 2  # the new Nyquist bin takes both signs of its frequency
    samples = np.fft.irfft(spectrum, n) * (n / len(ear))
    session = onnxruntime.InferenceSession(str(installed_model()), providers=["CPUExecutionProvider"])
    total, chunks = np.zeros(3), 0
    while len(samples):
        chunk = np.pad(samples[:144_160], (0, max(0, 144_160 - len(samples)))).astype(np.float32)
        (output,) = session.run(None, {"input_1": chunk[None]})
        total += output[0]
        chunks += 1
        samples = samples[144_160:]
    return list(total / chunks)


def test_installed_model_is_the_published_one() -> None:
    digest = hashlib.sha256(installed_model().read_bytes()).hexdigest()
    assert (digest[:8], digest[-7:]) == ("269fbebd", "78f6edd")


@pytest.mark.parametrize("n_samples", [8_000, CHUNK_SAMPLES - 2, CHUNK_SAMPLES + 2, 2 * CHUNK_SAMPLES + 30_000])
@pytest.mark.parametrize("rate_hz", [FILE_RATE_HZ, MODEL_RATE_HZ])
def test_raw_outputs_as_by_hand(dnsmos: Dnsmos, n_samples: int, rate_hz: int) -> None:
    ear = ear_of(n_samples, rate_hz)
    found = dnsmos(ear, rate_hz)
    assert list(found) == ["dns_sig", "dns_bak", "dns_ovrl"]
    # The resampler works in float32 here and in float64 by hand; the network amplifies that to about 1e-4.
    assert list(found.values()) == pytest.approx(by_hand(ear, rate_hz), abs=5e-4)


def test_exactly_one_chunk_is_not_followed_by_an_empty_one(dnsmos: Dnsmos) -> None:
    one = ear_of(CHUNK_SAMPLES, MODEL_RATE_HZ)
    found = list(dnsmos(one, MODEL_RATE_HZ).values())
    assert found == pytest.approx(by_hand(one, MODEL_RATE_HZ), abs=1e-5)
    # Twice the same chunk has the same mean; a chunk of zeros would pull it away.
    assert list(dnsmos(np.tile(one, 2), MODEL_RATE_HZ).values()) == pytest.approx(found, abs=1e-5)


def test_same_ear_same_numbers_and_ear_untouched(dnsmos: Dnsmos) -> None:
    ear = ear_of(20_000)
    copy = ear.copy()
    assert dnsmos(ear) == dnsmos(ear)
    np.testing.assert_array_equal(ear, copy)


def test_model_of_a_path_is_the_same(dnsmos: Dnsmos, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(installed_model().read_bytes())
    ear = ear_of(20_000)
    assert Dnsmos(path)(ear) == dnsmos(ear)


def test_missing_model_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(UserError, match=r"metrics\.dnsmos_model: expected an ONNX file at .*, found none"):
            Dnsmos(path)


def test_file_that_is_no_onnx_is_said(tmp_path: Path) -> None:
    for name, content in (("text.onnx", b"not a model"), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: cannot be loaded as an ONNX model"):
            Dnsmos(tmp_path / name)


def test_truncated_model_is_said(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(installed_model().read_bytes()[:100_000])
    with pytest.raises(UserError, match="cannot be loaded as an ONNX model"):
        Dnsmos(path)
