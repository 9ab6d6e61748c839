"""scow.song.hearing_loss and scow.song.msbg: the simulation in pieces, against pyclarity's own and against the demo's files."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import DEMO

from scow.data.audio import FILE_RATE_HZ, StereoSignal, at_level, level_dbfs, read_stereo
from scow.errors import UserError
from scow.song import hearing_loss
from scow.song.hearing_loss import simulate, simulate_mix

pyclarity = pytest.mark.skipif(
    not hearing_loss.installed(), reason="no pyclarity; get it with: pip install 'pyclarity<0.10'"
)


def noise(seconds: float = 1.0, seed: int = 0) -> StereoSignal:
    """Noise that swells and fades, louder on the left."""
    n = int(seconds * FILE_RATE_HZ)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 2 * np.arange(n) / FILE_RATE_HZ)
    samples = np.random.default_rng(seed).standard_normal((2, n)) * swell * np.array([[0.05], [0.02]])
    return StereoSignal(samples.astype(np.float32), FILE_RATE_HZ)


def processed_by_pyclarity(signal: StereoSignal, severity: str, level_db_spl: float) -> np.ndarray:
    """The whole signal through pyclarity's own function, with what the demo's generator does around it."""
    from clarity.evaluator.msbg.msbg import Ear
    from clarity.utils import audiogram

    ear = Ear(src_pos="ff", sample_rate=FILE_RATE_HZ)
    ear.set_audiogram(getattr(audiogram, f"AUDIOGRAM_{severity.upper()}"))
    presented = at_level(signal.samples.astype(np.float64), level_db_spl - 120)
    processed = np.stack([ear.process(channel)[0] for channel in presented])
    return at_level(processed, level_dbfs(signal.samples))


@pyclarity
@pytest.mark.parametrize("severity", hearing_loss.SIMULATED)
def test_a_mix_is_simulated_as_pyclarity_does_it(severity):
    signal = noise(0.7)
    ours = at_level(simulate_mix(signal.samples.astype(np.float64), severity, 65.0), level_dbfs(signal.samples))
    assert np.array_equal(ours, processed_by_pyclarity(signal, severity, 65.0))


@pyclarity
def test_pieces_are_the_whole(monkeypatch):
    monkeypatch.setattr(hearing_loss, "PIECE", hearing_loss.HOP * 600)  # 0.87 s
    signal = noise(2.0)
    pieces = simulate(signal, ["Moderate"], 70.0, processes=1)["Moderate"].samples
    whole = processed_by_pyclarity(signal, "Moderate", 70.0)
    assert pieces.shape == whole.shape
    # float32 against float64, of samples up to 0.2: rounding is 1e-8, a seam that can be heard would be 1e-4
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-7)


@pyclarity
def test_several_processes_give_what_one_gives(monkeypatch):
    monkeypatch.setattr(hearing_loss, "PIECE", hearing_loss.HOP * 300)
    signal = noise(0.6)
    alone = simulate(signal, ["Mild"], processes=1)["Mild"].samples
    assert np.array_equal(simulate(signal, ["Mild"], processes=2)["Mild"].samples, alone)


@pyclarity
def test_the_demos_mix_gives_the_demos_signal():
    audio = DEMO / "demo"
    mix = read_stereo(audio / "unprocessed" / "row_none_unproc.flac")
    shipped = read_stereo(audio / "signals" / "row_moderate.flac").samples
    ours = at_level(simulate_mix(mix.samples.astype(np.float64), "Moderate", 65.0), level_dbfs(mix.samples))
    assert ours.shape == shipped.shape
    # The demo was made from the mix before its rounding to 16 bits, and then rounded itself: some steps of 2^-15.
    assert np.abs(ours - shipped).max() < 8 * 2.0**-15


@pyclarity
def test_results_are_kept_by_content_level_and_severity(tmp_path):
    signal, told = noise(0.3), []

    def run(**changes):
        told.clear()
        arguments = {"signal": signal, "hearing_losses": ["Mild"], "level_db_spl": 65.0, **changes}
        return simulate(**arguments, cache_dir=tmp_path, processes=1, progress=lambda *at: told.append(at))

    first = run()["Mild"].samples
    assert told == [("hearing loss", 1, 2), ("hearing loss", 2, 2)]
    (kept,) = tmp_path.iterdir()  # and no temporary file beside it
    assert np.array_equal(run()["Mild"].samples, first)
    assert not told
    for change in ({"level_db_spl": 66.0}, {"hearing_losses": ["Moderate"]}, {"signal": noise(0.3, seed=1)}):
        run(**change)
        assert told, change
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(run()["Mild"].samples, first)
    assert told


@pyclarity
def test_a_softer_presentation_loses_more_of_the_treble():
    """The loss is larger at high frequencies, and loudness recruitment gives it back at high levels."""
    white = StereoSignal(np.tile(0.05 * np.random.default_rng(2).standard_normal(22_050), (2, 1)), FILE_RATE_HZ)
    tilt = []
    for level in (50.0, 85.0):
        heard = simulate(white, ["Moderate"], level, processes=1)["Moderate"].samples
        power = np.abs(np.fft.rfft(heard[0])) ** 2
        hz = np.fft.rfftfreq(heard.shape[1], 1 / FILE_RATE_HZ)
        tilt.append(10 * np.log10(power[(hz > 4_000) & (hz < 8_000)].sum() / power[(hz > 200) & (hz < 1_000)].sum()))
        assert level_dbfs(heard) == pytest.approx(level_dbfs(white.samples), abs=0.01)
    assert tilt[1] - tilt[0] > 6


@pyclarity
def test_ears_that_are_alike_are_simulated_once_and_a_silent_one_not_at_all():
    told = []
    one = noise(0.3).samples[0]
    same = simulate(
        StereoSignal(np.stack([one, one]), FILE_RATE_HZ), ["Mild"], processes=1, progress=lambda *at: told.append(at)
    )["Mild"].samples
    assert told[-1] == ("hearing loss", 1, 1)
    assert np.array_equal(same[0], same[1])
    half = simulate(StereoSignal(np.stack([one, 0 * one]), FILE_RATE_HZ), ["Mild"], processes=1)["Mild"].samples
    assert np.abs(half[0]).max() > 0.01
    assert not half[1].any()


@pytest.mark.parametrize(
    ("severities", "level", "reason"),
    [
        (["Severe"], 65.0, r"expected a hearing loss of Mild, Moderate to simulate, found 'Severe'"),
        (["No Loss"], 65.0, r"found 'No Loss'"),
        (["Mild"], 20.0, r"level: expected 40 to 90 dB SPL, found 20; choose another"),
    ],
)
def test_what_makes_no_sense_is_refused(severities, level, reason):
    with pytest.raises(UserError, match=reason):
        simulate(noise(0.3), severities, level)


def test_without_pyclarity_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(hearing_loss, "installed", lambda: False)
    with pytest.raises(UserError, match=r"expected the package pyclarity, found none; pip install 'pyclarity"):
        simulate(noise(0.3), ["Mild"])
    assert simulate(noise(0.3), []) == {}
