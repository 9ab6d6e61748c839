"""scow.song.audio: any file as stereo at 44.1 kHz."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.signal
import soundfile
from helpers import DEMO, ROOT, refusal

from scow.data.audio import FILE_RATE_HZ, StereoSignal, level_dbfs
from scow.errors import SignalError
from scow.song.audio import clipped, read_song

# --- kinds of files, written from three seconds of the demo song

SONG, RATE_HZ = soundfile.read(DEMO / "song" / "demo_song.flac", frames=3 * FILE_RATE_HZ, dtype="float32")


class Pipe:
    """Takes bytes as a pipe does: the writer cannot go back to fill in the length."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, part: bytes) -> int:
        self.content += bytes(part)
        return len(part)


def encoded(codec, kind, *, pipe=False, streams=1, layout="stereo", vbr=False, **form) -> bytes:
    """The song, in a container as FFmpeg writes it; several streams are equal. VBR of a song that is quiet at first."""
    file = Pipe() if pipe else io.BytesIO()
    quality = {"flags": "+qscale", "global_quality": "236"} if vbr else {}
    loudness = np.where(vbr & (np.arange(len(SONG)) < len(SONG) * 2 // 3), 0.001, 1).astype(np.float32)
    with av.open(file, "w", format=kind, options=form) as container:
        outputs = [
            container.add_stream(codec, rate=48_000 if codec == "libopus" else RATE_HZ, layout=layout, options=quality)
            for _ in range(streams)
        ]
        for output in outputs:
            samples = (SONG.T * loudness)[np.arange(output.layout.nb_channels) % 2]
            for start in range(0, samples.shape[1], 1024):
                part = np.ascontiguousarray(samples[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = output.rate, start
                container.mux(output.encode(frame))
            container.mux(output.encode(None))
    return file.content if isinstance(file, Pipe) else file.getvalue()


def pcm(samples: np.ndarray = SONG, rate_hz: int = RATE_HZ, **form: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, **{"format": "WAV"} | form)
    return file.getvalue()


def cut(content: bytes, share: float = 0.5) -> bytes:
    return content[: int(share * len(content))]


def without_riff_sizes(content: bytes) -> bytes:
    data = content.index(b"data") + 4
    return content[:4] + b"\xff" * 4 + content[8:data] + b"\xff" * 4 + content[data + 4 :]


def song_from(folder: Path, content: bytes) -> StereoSignal:
    path = folder / "song"
    path.write_bytes(content)
    return read_song(path)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "FLAC"])
def test_flac_and_wav_give_the_samples_of_libsndfile(tmp_path, kind, subtype):
    if not soundfile.check_format(kind, subtype):
        pytest.skip("no such file")
    content = pcm(format=kind, subtype=subtype)
    expected = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    song = song_from(tmp_path, content)
    assert np.array_equal(song.samples, expected.T)
    assert not song.notes


MP3 = encoded("mp3", "mp3")  # with a Xing header
BARE_MP3 = encoded("mp3", "mp3", write_xing="0", id3v2_version="0")
M4A = encoded("aac", "mp4", movflags="frag_keyframe+empty_moov+default_base_moof", frag_duration="500000")
FLAC, PIPED_FLAC = pcm(format="FLAC"), encoded("flac", "flac", pipe=True)
OPUS, MKV = encoded("libopus", "ogg"), encoded("libopus", "matroska")
ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)


# Seconds are those of the song as encoded (Opus takes its samples as 48 kHz), without notes.
@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (MP3, 3), (BARE_MP3, 3), (encoded("mp3", "mp3", write_xing="0", vbr=True), 3.05), (MP3 + MP3, 6),
        (ID3 + MP3 + b"TAG" + bytes(125), 3), (b"\x01garbage\xff" * 500 + MP3, 3), (M4A, 3),
        (encoded("aac", "mp4"), 3), (encoded("aac", "adts"), 3), (encoded("alac", "mp4"), 3), (OPUS, 2.756),
        (OPUS + OPUS, 5.512), (pcm(format="OGG"), 3), (pcm(format="OGG") * 2, 6), (MKV, 2.756), (PIPED_FLAC, 3),
        (encoded("pcm_s16le", "wav", pipe=True), 3), (without_riff_sizes(pcm()), 3), (pcm(format="AIFF"), 3),
        (pcm(format="W64"), 3), (encoded("aac", "mpegts"), 3),
    ],
)  # fmt: skip
def test_song_is_read_whole_without_notes(tmp_path, content, seconds):
    song = song_from(tmp_path, content)
    assert song.samples.shape[1] / song.rate_hz == pytest.approx(seconds, abs=0.12)  # padding of the encoders
    assert not song.notes
    if seconds == 3:  # as the song, after alignment
        middle = SONG[RATE_HZ // 2 : RATE_HZ * 3 // 2, 0]
        at = int(np.argmax(scipy.signal.correlate(song.samples[0], middle, mode="valid")))
        assert np.corrcoef(song.samples[0, at : at + RATE_HZ], middle)[0, 1] > 0.98


@pytest.mark.parametrize(
    "content",
    [
        cut(MP3), cut(BARE_MP3, 0.47), cut(M4A), cut(OPUS), cut(OPUS + OPUS, 0.7), OPUS[: OPUS.rindex(b"OggS")],
        cut(pcm(format="OGG")), cut(MKV), cut(PIPED_FLAC), cut(encoded("aac", "adts")), pcm()[:100_000],
        cut(pcm(format="RF64")), cut(pcm(format="AIFF")), FLAC[:-1], cut(FLAC), FLAC[: FLAC.rindex(b"\xff\xf8")],
        FLAC[:60_000] + b"not a sound" + FLAC[60_011:], OPUS[:20_000] + b"\x55" * 4_000 + OPUS[24_000:],
        *(content[:20_000] + b"\x55" * 4_000 + content[24_000:] for content in (MP3, BARE_MP3)),
    ],
)  # fmt: skip
def test_song_that_is_cut_off_or_damaged_has_a_note(tmp_path, content):
    (note,) = song_from(tmp_path, content).notes
    assert "cut off or damaged" in note


def test_mp3_agrees_with_libsndfile_and_the_first_of_several_streams_is_used(tmp_path):
    expected = soundfile.read(io.BytesIO(MP3), dtype="float32")[0]
    np.testing.assert_allclose(song_from(tmp_path, MP3).samples, expected.T, rtol=0, atol=1e-5)
    assert "2 audio streams" in song_from(tmp_path, encoded("aac", "matroska", streams=2)).notes[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "expected an audio file, found none"),
        (b"", "found 0 bytes"),
        (b"no audio" * 100, "expected an audio stream"),
        (b"#EXTM3U\n#EXTINF:1,\nother.wav\n", "expected an audio stream"),
        (cut(encoded("aac", "mp4")), "cannot be decoded"),
        (pcm()[:44], "cannot be decoded"),
        (encoded("aac", "mp4", layout="5.1"), "1 or 2 channels.*found 6"),
        (MP3 + encoded("mp3", "mp3", layout="mono"), "the same in the whole file"),
        *[(pcm(np.full((44_100, 2), offset)), "silent") for offset in (0.0, 0.5)],
        (pcm(SONG[:10_000]), r"at least 0\.25 s"),
        (pcm(rate_hz=4_000), "8000 to 384000 Hz.*found 2 at 4000 Hz"),
        pytest.param(pcm(np.full(1201 * 8000, 0.1), 8_000), "at most 1200 s", marks=pytest.mark.slow),
        *[(pcm(SONG.astype(float) * factor, subtype="DOUBLE"), "finite") for factor in (32768, 1e20, 1e300, np.nan)],
    ],
)
def test_read_song_refuses_in_one_line(tmp_path, capfd, content, reason):
    path = tmp_path / "song.flac"
    if content is not None:
        path.write_bytes(content)
    with refusal(f"{path}.*{reason}", SignalError):
        read_song(path)
    assert capfd.readouterr() == ("", "")  # nor does FFmpeg print


def tone(hz: float, rate_hz: int = FILE_RATE_HZ) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(rate_hz) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 22_051, 48_000, 96_000])
def test_read_song_resamples_mono_to_two_equal_channels(tmp_path, rate_hz):
    path = tmp_path / "mono.wav"
    soundfile.write(path, tone(3_000, rate_hz), rate_hz, subtype="FLOAT")
    left, right = read_song(path).samples
    assert np.array_equal(left, right)
    assert len(left) == FILE_RATE_HZ
    # 100 dB below the tone; a filter of torchaudio's default width misses it by 40 dB
    assert np.abs(left - tone(3_000))[2_000:-2_000].max() < 1e-5
    if rate_hz > FILE_RATE_HZ:  # what the new rate cannot hold is removed
        soundfile.write(path, tone(22_200, rate_hz), rate_hz, subtype="FLOAT")
        assert level_dbfs(read_song(path).samples[:, 2_000:-2_000]) < -95


def test_clipped_finds_cut_peaks_in_one_channel():
    loud = tone(200) * 1.98
    assert not clipped(StereoSignal(np.stack([loud, loud]), FILE_RATE_HZ))
    assert clipped(StereoSignal(np.stack([loud, np.clip(loud * 2, -0.99, 0.99)]), FILE_RATE_HZ))


FAULTS = ROOT.parent / "shared" / "faults" / "audio"


@pytest.mark.skipif(not FAULTS.is_dir(), reason="no files of faults")
@pytest.mark.parametrize(
    ("name", "seconds", "noted"),
    [("A07_concat.mp3", 6.06, False), ("A08_lameenc_cbr128.mp3", 12.41, False), ("A07_trunc.opus", 1.97, True)],
)
def test_read_song_on_real_faults(name, seconds, noted):
    song = read_song(FAULTS / name)
    assert song.samples.shape[1] / FILE_RATE_HZ == pytest.approx(seconds, abs=0.01)
    assert bool(song.notes) == noted
