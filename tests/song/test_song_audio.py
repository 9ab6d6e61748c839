"""scow.song.audio: any file as stereo at 44.1 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import write_stereo

from scow.data.audio import FILE_RATE_HZ, StereoSignal, read_stereo, resample_kaiser
from scow.errors import SignalError
from scow.song.audio import clipped, read_song


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def test_a_challenge_file_reads_as_the_strict_reader_reads_it(tmp_path):
    path = write_stereo(tmp_path / "a.flac")
    assert np.array_equal(read_song(path).samples, read_stereo(path).samples)


@pytest.mark.parametrize("suffix", ["wav", "ogg", "mp3"])
def test_common_formats_are_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(440, 44_100), tone(660, 44_100)], axis=1), 44_100)
    signal = read_song(path)
    assert signal.rate_hz == FILE_RATE_HZ
    # Lossy encoders delay by up to some thousand samples; the tones are in their ears all the same.
    for ear, hz in zip(signal.samples, (440, 660), strict=True):
        spectrum = np.abs(np.fft.rfft(ear[5_000:35_000] * np.hanning(30_000)))
        assert np.argmax(spectrum) * FILE_RATE_HZ / 30_000 == pytest.approx(hz, abs=2)


def test_mono_is_heard_by_both_ears(tmp_path):
    path = write_stereo(tmp_path / "mono.flac", channels=1)
    left, right = read_song(path).samples
    assert np.array_equal(left, right)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 22_051, 48_000, 96_000])
def test_a_tone_keeps_its_wave_through_the_resampler(rate_hz):
    resampled = resample_kaiser(tone(3_000, rate_hz)[np.newaxis], rate_hz)[0]
    assert len(resampled) == -(-rate_hz * FILE_RATE_HZ // rate_hz)
    inner = slice(2_000, -2_000)  # the ends have no neighbours
    # 100 dB below the tone; a filter of torchaudio's default width misses it by 40 dB
    assert np.abs(resampled - tone(3_000, FILE_RATE_HZ)[: len(resampled)])[inner].max() < 1e-5


def test_what_lies_above_the_band_is_gone():
    resampled = resample_kaiser(tone(22_200, 96_000)[np.newaxis], 96_000)[0]
    assert np.abs(resampled[2_000:-2_000]).max() < 0.5 * 10 ** (-95 / 20)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, r"expected an audio file, found none"),
        (lambda path: path.write_bytes(b""), r"found 0 bytes"),
        (lambda path: path.write_bytes(b"no audio" * 100), r"cannot be decoded .*expected a whole audio file"),
        (lambda path: write_stereo(path, channels=3), r"expected 1 or 2 channels, found 3; mix"),
        (lambda path: soundfile.write(path, np.zeros((44_100, 2)), 44_100), r"silent; expected some sample"),
        (lambda path: write_stereo(path, seconds=0.1), r"expected at least 0\.25 s"),
        (lambda path: write_stereo(path, rate_hz=4_000), r"expected a rate of 8000 to 384000 Hz, found 4000 Hz"),
    ],
    ids=["missing", "empty", "damaged", "three channels", "silent", "short", "slow"],
)
def test_what_cannot_be_heard_is_refused_in_one_line(tmp_path, make, reason):
    path = tmp_path / "song.flac"
    make(path)
    with pytest.raises(SignalError, match=reason) as caught:
        read_song(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cut_off_file_is_refused(tmp_path):
    path = write_stereo(tmp_path / "song.wav", seconds=2)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    # libsndfile mends the header of a WAV file; then it is just a shorter song
    assert read_song(path).samples.shape[1] < 2 * FILE_RATE_HZ
    flac = write_stereo(tmp_path / "song.flac", seconds=2)
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    with pytest.raises(SignalError, match=r"truncated|cannot be decoded"):
        read_song(flac)


def test_clipping_is_noticed_and_loud_music_is_not():
    loud = tone(200, FILE_RATE_HZ) * 1.98
    assert not clipped(StereoSignal(np.stack([loud, loud]), FILE_RATE_HZ))
    cut = np.clip(loud * 2, -0.99, 0.99)
    assert clipped(StereoSignal(np.stack([loud, cut]), FILE_RATE_HZ))


def test_an_mp3_that_overshoots_keeps_its_peaks(tmp_path: Path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.stack([tone(300, 44_100) * 3] * 2, axis=1), 44_100, subtype="FLOAT")
    assert read_song(path).samples.max() == pytest.approx(1.5, abs=1e-3)
