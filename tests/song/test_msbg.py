"""scow.song.msbg: equal to plain pyclarity, on the demo song."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import DEMO

from scow.data.audio import FILE_RATE_HZ
from scow.song.audio import read_song

pytest.importorskip("clarity", reason="no pyclarity; get it with: pip install 'pyclarity<0.10'")
from clarity.evaluator.msbg.msbg import Ear
from clarity.evaluator.msbg.msbg_utils import measure_rms
from clarity.evaluator.msbg.smearing import smear3
from clarity.utils import audiogram

from scow.song.msbg import FastEar, active_frames, smear


@pytest.fixture(scope="module")
def channel() -> np.ndarray:
    """The end of a line, near silence, and the start of the next."""
    samples = read_song(DEMO / "song" / "demo_song.flac").samples[0].astype(np.float64)
    return samples[int(5.9 * FILE_RATE_HZ) : int(6.9 * FILE_RATE_HZ)] / samples.std()


@pytest.mark.parametrize("hearing_loss", ["MILD", "MODERATE"])
@pytest.mark.parametrize("equiv_0db_spl", [50.0, 90.0])
def test_fast_ear_equals_pyclarity(channel, hearing_loss, equiv_0db_spl):
    plain, fast = (kind(equiv_0db_spl=equiv_0db_spl) for kind in (Ear, FastEar))
    for ear in (plain, fast):
        ear.set_audiogram(getattr(audiogram, f"AUDIOGRAM_{hearing_loss}"))
    (expected,) = plain.process(channel)
    np.testing.assert_allclose(fast.process(channel), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("length", [12_800, 12_801, 12_863])
def test_smear_equals_pyclarity(channel, length):
    matrix = np.random.default_rng(0).normal(size=(256, 256))
    expected = smear3(matrix, channel[:length])
    np.testing.assert_allclose(smear(channel[:length], matrix), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("length", [44_100, 44_099, 500])
def test_active_frames_equal_pyclarity(channel, length):
    part = channel[-length:]
    assert np.array_equal(np.flatnonzero(active_frames(part, FILE_RATE_HZ)), measure_rms(part, FILE_RATE_HZ, -12)[1])
