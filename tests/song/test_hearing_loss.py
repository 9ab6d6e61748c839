"""scow.song.hearing_loss and msbg: against pyclarity itself and the demo's files, levels, the cache."""

import json

import numpy as np
import pytest
from helpers import DEMO, REFUSALS

from scow.data.audio import FILE_RATE_HZ, StereoSignal, level_dbfs
from scow.errors import UserError
from scow.song.audio import read_song
from scow.song.hearing_loss import read_audiograms, simulate

pytest.importorskip("clarity", reason="no pyclarity; get it with: pip install 'pyclarity<0.10'")
from clarity.evaluator.msbg.msbg import Ear
from clarity.utils import audiogram

from scow.song.msbg import FastEar


def noise(seconds: float = 0.3, gains: tuple[float, float] = (0.05, 0.02), seed: int = 0) -> StereoSignal:
    """Noise that swells and fades."""
    n = int(seconds * FILE_RATE_HZ)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 2 * np.arange(n) / FILE_RATE_HZ)
    samples = np.random.default_rng(seed).standard_normal((2, n)) * swell * np.array(gains)[:, None]
    return StereoSignal(samples.astype(np.float32), FILE_RATE_HZ)


def song_of(*lines: StereoSignal) -> StereoSignal:
    return StereoSignal(np.concatenate([line.samples for line in lines], axis=1), FILE_RATE_HZ)


def processed(line: StereoSignal, gain_db: float) -> np.ndarray:
    """Both channels with a mild loss by pyclarity's own function, in double precision."""
    ear = Ear(src_pos="ff", sample_rate=FILE_RATE_HZ)
    ear.set_audiogram(audiogram.AUDIOGRAM_MILD)
    return np.stack([ear.process(channel * 10 ** (gain_db / 20))[0] for channel in line.samples.astype(np.float64)])


def test_own_audiograms_are_those_of_their_ear(tmp_path):
    """Standard levels give the standard simulation; a flat loss in one ear leaves the other as it is."""
    mild = {
        str(int(hz)): float(db)
        for hz, db in zip(audiogram.AUDIOGRAM_MILD.frequencies, audiogram.AUDIOGRAM_MILD.levels, strict=True)
    }
    path = tmp_path / "audiogram.json"
    path.write_text(json.dumps({"left": mild, "right": dict.fromkeys(mild, 90)}), encoding="utf-8")
    line = noise()
    standard, own = (simulate(line, [line], ["Mild"], audiograms=of)["Mild"][0] for of in (None, read_audiograms(path)))
    # Equal but for the gain, which is common to both ears.
    gain = np.linalg.norm(own.samples[0]) / np.linalg.norm(standard.samples[0])
    assert own.samples[0] == pytest.approx(gain * standard.samples[0], abs=1e-5)
    fall = [level_dbfs(of.samples[1]) - level_dbfs(of.samples[0]) for of in (standard, own)]
    assert fall[1] < fall[0] - 10


@pytest.mark.parametrize("content", REFUSALS["audiograms"])
def test_audiograms_of_another_form_are_refused(tmp_path, content):
    path = tmp_path / "audiogram.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"audiogram\.json: expected left and right"):
        read_audiograms(path)


@pytest.mark.parametrize("hearing_loss", ["MILD", "MODERATE"])
@pytest.mark.parametrize(("equiv_0db_spl", "length"), [(50.0, 44_100), (90.0, 44_099), (90.0, 12_863)])
def test_fast_ear_equals_pyclarity(hearing_loss, equiv_0db_spl, length):
    """On the end of a line of the demo song, near silence, and the start of the next."""
    samples = read_song(DEMO / "song" / "demo_song.flac").samples[0].astype(np.float64)
    channel = samples[: int(6.9 * FILE_RATE_HZ)][-length:] / samples.std()
    plain, fast = (kind(equiv_0db_spl=equiv_0db_spl) for kind in (Ear, FastEar))
    for ear in (plain, fast):
        ear.set_audiogram(getattr(audiogram, f"AUDIOGRAM_{hearing_loss}"))
    (expected,) = plain.process(channel)
    np.testing.assert_allclose(fast.process(channel), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_simulate_equals_pyclarity_with_the_level_of_the_song():
    lines = [noise(0.4), noise(0.3, (0.02, 0.1), seed=1)]
    song = song_of(*lines, noise(0.3, (0.1, 0.1), seed=2))
    ours = simulate(song, lines, ["Mild"], 70.0, jobs=1)["Mild"]
    theirs = [processed(line, 70.0 - 120.0 - level_dbfs(song.samples)) for line in lines]
    back_db = level_dbfs(song_of(*lines).samples) - level_dbfs(np.concatenate(theirs, axis=1))
    for mine, reference in zip(ours, theirs, strict=True):
        # pyclarity has absolute floors, which are lower for a signal that is scaled; samples are up to 0.3.
        np.testing.assert_allclose(mine.samples, reference * 10 ** (back_db / 20), rtol=0, atol=1e-4)
        assert mine.samples.dtype == np.float32


@pytest.mark.slow
def test_simulate_in_processes_equals_simulate_here():
    lines = [noise(0.3), noise(0.3, seed=1)]
    here, there = (simulate(song_of(*lines), lines, ["Mild"], jobs=jobs)["Mild"] for jobs in (1, 2))
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(here, there, strict=True))


def test_simulate_reuses_results_of_the_same_samples_level_and_hearing_loss(tmp_path):
    calls = []

    def run(line: StereoSignal, hearing_loss: str = "Mild", level_db_spl: float = 65.0) -> np.ndarray:
        calls.clear()
        options = {"cache_dir": tmp_path, "jobs": 1, "progress": lambda *state: calls.append(state)}
        return simulate(line, [line], [hearing_loss], level_db_spl, **options)[hearing_loss][0].samples

    line = noise()
    first = run(line)
    assert calls == [("hearing loss", 1, 2), ("hearing loss", 2, 2)]
    assert np.array_equal(run(line), first)
    assert calls == []
    for change in ({"level_db_spl": 66.0}, {"hearing_loss": "Moderate"}, {"line": noise(seed=1)}):
        run(**{"line": line, **change})
        assert len(calls) == 2, change
    for kept in tmp_path.rglob("output.pkl"):
        kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(run(line), first)  # a damaged file is computed again


def test_simulate_computes_equal_channels_once_and_silent_ones_never():
    calls = []
    left = noise().samples[0]
    equal, half = (StereoSignal(np.stack([left, right]), FILE_RATE_HZ) for right in (left, 0 * left))
    song, progress = song_of(equal, half), lambda *state: calls.append(state)
    both, one = simulate(song, [equal, half], ["Mild"], jobs=1, progress=progress)["Mild"]
    assert calls == [("hearing loss", 1, 1)]
    assert np.array_equal(both.samples[0], both.samples[1])
    assert np.array_equal(one.samples[0], both.samples[0])
    assert not one.samples[1].any()


def test_simulate_refuses_a_cache_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file"):
        simulate(noise(), [noise()], ["Mild"], cache_dir=tmp_path / "file" / "cache")
