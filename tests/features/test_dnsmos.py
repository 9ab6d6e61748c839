"""DNSMOS with the real model, against values of a loop written out by hand over onnxruntime."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from scow.data.audio import FILE_RATE_HZ, MODEL_RATE_HZ
from scow.errors import UserError
from scow.features.dnsmos import PIECE_SAMPLES, Dnsmos, installed_model


def channel_of(n_samples_at_16_khz: int, rate_hz: int) -> np.ndarray:
    n = round(n_samples_at_16_khz * rate_hz / MODEL_RATE_HZ)
    t = np.arange(n) / rate_hz
    noise = 0.05 * np.random.default_rng(0).standard_normal(n)
    return (0.3 * np.sin(2 * np.pi * 200 * t * (1 + t / 10)) + noise).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_samples", "rate_hz", "expected"),
    [
        (8_000, FILE_RATE_HZ, [2.093338, 2.661928, 1.65356]),
        (PIECE_SAMPLES, MODEL_RATE_HZ, [0.986547, 0.96489, 0.938221]),
        (PIECE_SAMPLES + 2, FILE_RATE_HZ, [1.728718, 2.117842, 1.36825]),
    ],
)
def test_raw_outputs_as_by_hand(n_samples: int, rate_hz: int, expected: list[float]) -> None:
    """By hand: the spectrum is cut, pieces of 9.01 s go one after the other, zeros are behind the last."""
    found = Dnsmos()(channel_of(n_samples, rate_hz), rate_hz)
    assert list(found) == ["dns_sig", "dns_bak", "dns_ovrl"]
    assert list(found.values()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_shorter_pieces_give_the_same_bits_as_padded_ones():
    model, noise = Dnsmos(), channel_of(PIECE_SAMPLES, MODEL_RATE_HZ)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # with more, sums have another order
    session = onnxruntime.InferenceSession(str(installed_model()), options, providers=["CPUExecutionProvider"])
    # around a hop, around eight frames, and around where a piece is not shortened any more
    for n in (1, 159, 160, 161, 8_000, 8_160, 8_161, 84_959, 84_960, 84_961, 132_479, 132_480, 132_481, PIECE_SAMPLES):
        padded = np.pad(noise[:n], (0, PIECE_SAMPLES - n))[None]
        expected = session.run(None, {"input_1": padded})[0][0].tolist()
        assert list(model(noise[:n], MODEL_RATE_HZ).values()) == expected, n


def test_model_file_that_is_damaged_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(installed_model().read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"half\.onnx: cannot be loaded as an ONNX model"):
        Dnsmos(path)
