"""STOI, eSTOI and PESQ: the definition step by step, and reasons where one is not defined."""

import numpy as np
import pytest
from helpers import run_python
from pesq import pesq
from pystoi import stoi

from scow.data.audio import MODEL_RATE_HZ
from scow.errors import SignalError
from scow.features.intrusive import intrusive_metrics
from scow.features.stoi import stoi_and_estoi

SILENT_REFERENCE = {"stoi": "silent", "estoi": "silent", "pesq": "PESQ: No utterances detected"}


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes five times a second, as syllables do, at 16 kHz."""
    t = np.arange(int(seconds * MODEL_RATE_HZ)) / MODEL_RATE_HZ
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return 0.1 * noise * (1 + np.sin(2 * np.pi * 5 * t)) / 2


def test_pesq_by_its_library_and_signals_are_cut_to_the_shorter() -> None:
    clean = speechlike(2.0)
    noisy = clean + speechlike(2.0, seed=1)
    found = intrusive_metrics(clean, np.concatenate([noisy, np.ones(5_000)]))
    assert found == pytest.approx(intrusive_metrics(clean, noisy))
    assert found["pesq"] == pytest.approx(pesq(MODEL_RATE_HZ, clean, noisy, "wb"), abs=1e-6)


@pytest.mark.parametrize("n", [7_000, 16_000, 16_001, 47_999])
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_stoi_and_estoi_equal_pystoi(n: int, pause: float) -> None:
    clean = speechlike(3.0)[:n]
    clean[n // 2 : n // 2 + int(pause * n)] = 0  # frames that are silent are left out
    noisy = clean + speechlike(3.0, seed=1)[:n]
    if n == 7_000 and pause:
        with pytest.raises(SignalError, match="30 frames"):
            stoi_and_estoi(clean, noisy)
        return
    expected = [stoi(clean, noisy, MODEL_RATE_HZ, extended=extended) for extended in (False, True)]
    # Sums in another order, and other noise of one float64 epsilon.
    assert stoi_and_estoi(clean, noisy) == pytest.approx(expected, abs=1e-13)
    assert stoi_and_estoi(clean, noisy) == stoi_and_estoi(clean, noisy)


@pytest.mark.parametrize(
    ("reference", "degraded", "reasons"),
    [
        pytest.param(speechlike(0.3), speechlike(0.3), {"stoi": "30 frames", "estoi": "30 frames"}, id="short"),
        pytest.param(0 * speechlike(2.0), speechlike(2.0), SILENT_REFERENCE, id="reference"),
        pytest.param(speechlike(2.0), 0 * speechlike(2.0), {"pesq": "PESQ needs a signal"}, id="silent"),
    ],
)
def test_undefined_metric_is_a_reason_and_the_others_are_numbers(
    reference: np.ndarray, degraded: np.ndarray, reasons: dict[str, str]
) -> None:
    found = intrusive_metrics(reference, degraded)
    assert {column for column, value in found.items() if isinstance(value, str)} == set(reasons)
    assert all(reason in str(found[column]) for column, reason in reasons.items())


BURSTS = """
import numpy as np
from scow.errors import SignalError
from scow.features.intrusive import intrusive_metrics
t = np.arange(30 * 16_000) / 16_000
tone = np.sin(2 * np.pi * 300 * t) + 0.5 * np.random.default_rng(1).standard_normal(len(t))
bursts = np.where(t % 0.45 < 0.225, 0.3 * tone, 0)
print(intrusive_metrics(bursts, bursts + 0.01 * np.random.default_rng(2).standard_normal(len(t)), ("pesq",))["pesq"])
"""


@pytest.mark.slow
def test_too_many_utterances_for_pesq_do_not_end_the_process() -> None:
    done = run_python(BURSTS)
    assert "at most 50 utterances" in done.stdout, done.stderr
