"""scow.song.msbg: equal to plain pyclarity, on the demo song."""

import numpy as np
import pytest
from helpers import DEMO

from scow.data.audio import FILE_RATE_HZ
from scow.song.audio import read_song

pytest.importorskip("clarity", reason="no pyclarity; get it with: pip install 'pyclarity<0.10'")
from clarity.evaluator.msbg.msbg import Ear
from clarity.utils import audiogram

from scow.song.msbg import FastEar


@pytest.fixture(scope="module")
def channel() -> np.ndarray:
    """The end of a line, near silence, and the start of the next."""
    samples = read_song(DEMO / "song" / "demo_song.flac").samples[0].astype(np.float64)
    return samples[int(5.9 * FILE_RATE_HZ) : int(6.9 * FILE_RATE_HZ)] / samples.std()


@pytest.mark.parametrize("hearing_loss", ["MILD", "MODERATE"])
@pytest.mark.parametrize(("equiv_0db_spl", "length"), [(50.0, 44_100), (90.0, 44_099), (90.0, 12_863)])
def test_fast_ear_equals_pyclarity(channel, hearing_loss, equiv_0db_spl, length):
    plain, fast = (kind(equiv_0db_spl=equiv_0db_spl) for kind in (Ear, FastEar))
    for ear in (plain, fast):
        ear.set_audiogram(getattr(audiogram, f"AUDIOGRAM_{hearing_loss}"))
    (expected,) = plain.process(channel[-length:])
    np.testing.assert_allclose(fast.process(channel[-length:]), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
