"""scow.song.audio: any file as stereo at 44.1 kHz."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from helpers import write_stereo

from scow.data.audio import FILE_RATE_HZ, StereoSignal, read_stereo
from scow.errors import SignalError
from scow.song.audio import clipped, read_song


def tone(hz: float, rate_hz: int = FILE_RATE_HZ, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def test_read_song_equals_read_stereo_on_a_challenge_file(tmp_path):
    path = write_stereo(tmp_path / "a.flac")
    assert np.array_equal(read_song(path).samples, read_stereo(path).samples)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_read_song_decodes_common_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(440), tone(660)], axis=1), 44_100)
    signal = read_song(path)
    assert signal.rate_hz == FILE_RATE_HZ
    # Lossy encoders delay by up to some thousand samples; the tones stay in their channels.
    for channel, hz in zip(signal.samples, (440, 660), strict=True):
        spectrum = np.abs(np.fft.rfft(channel[5_000:35_000] * np.hanning(30_000)))
        assert np.argmax(spectrum) * FILE_RATE_HZ / 30_000 == pytest.approx(hz, abs=2)


@pytest.mark.parametrize("rate_hz", [8_000, 22_051, 48_000, 96_000])
def test_read_song_resamples_mono_to_two_equal_channels(tmp_path, rate_hz):
    path = tmp_path / "mono.wav"
    soundfile.write(path, tone(3_000, rate_hz), rate_hz, subtype="FLOAT")
    left, right = read_song(path).samples
    assert np.array_equal(left, right)
    assert len(left) == FILE_RATE_HZ
    # 100 dB below the tone; a filter of torchaudio's default width misses it by 40 dB
    assert np.abs(left - tone(3_000))[2_000:-2_000].max() < 1e-5


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "expected an audio file, found none"),
        (lambda path: path.write_bytes(b"no audio" * 100), "cannot be decoded"),
        (lambda path: write_stereo(path, channels=3), "expected 1 or 2 channels, found 3"),
        (lambda path: soundfile.write(path, np.zeros((44_100, 2)), 44_100), "silent"),
        (lambda path: write_stereo(path, rate_hz=4_000), "8000 to 384000 Hz, found 4000 Hz"),
    ],
    ids=["missing", "damaged", "three channels", "silent", "slow"],
)
def test_read_song_refuses_in_one_line(tmp_path, make, reason):
    path = tmp_path / "song.flac"
    make(path)
    with pytest.raises(SignalError, match=reason) as caught:
        read_song(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_clipped_finds_cut_peaks_in_one_channel():
    loud = tone(200) * 1.98
    assert not clipped(StereoSignal(np.stack([loud, loud]), FILE_RATE_HZ))
    assert clipped(StereoSignal(np.stack([loud, np.clip(loud * 2, -0.99, 0.99)]), FILE_RATE_HZ))
