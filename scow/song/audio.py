"""Songs: audio and video files that FFmpeg's libraries read (by PyAV), as stereo at 44.1 kHz, the challenge's form.

1. The main audio stream is decoded to its end, whatever length its header gives. Integers are divided by full scale, so
   that FLAC and WAV give the samples of libsndfile. Encoder delay is removed where the file states it.
2. A mono stream becomes two equal channels; more than two are refused.
3. Another rate is resampled to 44.1 kHz (`scow.data.audio.resample_kaiser`), because the features and the simulation of
   hearing losses are defined there. Steps 1 to 3 run block by block: the memory is that of the result.
4. Samples beyond full scale, which MP3 decoders give, stay; a clipped recording is used as it is (see `clipped`).

A file that is cut off or damaged gets a note: it is shorter than its header promises, lacks the page that ends an Ogg
stream, ends within a frame, or has packets that cannot be decoded. A length that is only estimated from the bit rate is
no promise, nor is that of a WAV header written to a pipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scow.data.audio import (
    FILE_RATE_HZ,
    MIN_DURATION_S,
    ONE_BIT,
    SOUND,
    StereoSignal,
    check_samples,
    is_silent,
    resample_kaiser,
)
from scow.errors import SignalError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

MAX_SONG_S = 1200.0
RATES_HZ = (8_000, 384_000)
BLOCK_SAMPLES = 1 << 17
CLIPPED_RUN = 4  # neighbouring samples at the peak, which music without clipping does not have
# Formats that hold their audio themselves; a playlist could name other files or hosts.
FORMATS = "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31}  # by FFmpeg's name of the sample format
LOSSLESS = ("pcm", "flac", "alac")
TOLERANCE_S = 0.2  # of the length of a lossy stream: encoder delay and padding
TAGS = (b"ID3", b"TAG", b"APE", b"LYR")  # may be between or after the frames of an MP3 file
OGG_PAGE_BYTES = 65_307
STREAMED_BYTES = 0x7FFF_0000  # or more in the size field: a WAV file written to a pipe


def read_song(path: Path) -> StereoSignal:
    """Read a mono or stereo song of 0.25 s to 20 min, with notes if it is cut off; else a `SignalError`."""
    if not path.is_file() or path.stat().st_size == 0:
        raise SignalError(f"{path}: expected an audio file, found {'0 bytes' if path.is_file() else 'none'}")
    notes: list[str] = []
    samples = np.empty((2, int(MAX_SONG_S * FILE_RATE_HZ)), dtype=np.float32)  # takes memory only as it is filled
    n = 0
    try:
        blocks = _decode(path, notes)
        rate_hz, first = next(blocks)
        for block in resample_kaiser(chain([first], (block for _, block in blocks)), rate_hz):
            samples[:, n : n + block.shape[1]] = block
            n += block.shape[1]
        if n < MIN_DURATION_S * FILE_RATE_HZ:
            raise SignalError(f"expected at least {MIN_DURATION_S} s, found {n / FILE_RATE_HZ:.3f} s")
        samples = samples[:, :n]
        if is_silent(samples):
            raise SignalError(f"silent; expected {SOUND}")
    except (SignalError, OSError, ValueError) as error:
        raise SignalError(f"{path}: {error}") from error
    return StereoSignal(samples, FILE_RATE_HZ, tuple(notes))


def _decode(path: Path, notes: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Rate and samples, float32 of shape (channels, n), block by block; after the last one, `notes` are complete."""
    import av

    faults: list[str] = []
    n = rate_hz = 0
    with _captured_log() as log:
        try:  # an absolute path, which is no URL
            source = av.open(path.absolute(), "r", options={"format_whitelist": FORMATS}, metadata_errors="replace")
        except av.FFmpegError as error:
            raise SignalError(f"cannot be decoded ({error.strerror}); expected an audio file") from error
        with source:
            stream = source.streams.best("audio")
            if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
                raise SignalError("expected an audio stream of a known codec, found none")
            if len(source.streams.audio) > 1:
                notes.append(f"One of the {len(source.streams.audio)} audio streams in the file is used.")
            estimated = any("Estimating duration" in text for _, _, text in log)
            promised_s = 0.0 if estimated else float((stream.duration or 0) * (stream.time_base or 0))
            log.clear()
            for rate_hz, block in _blocks(_frames(path, source, stream, faults)):
                check_samples(block)
                n += block.shape[1]
                if n > MAX_SONG_S * rate_hz:
                    raise SignalError(f"expected at most {MAX_SONG_S:g} s, found more")
                yield rate_hz, block
            tolerance_s = 0.0 if stream.codec_context.name.startswith(LOSSLESS) else TOLERANCE_S
            is_ogg = source.format.name == "ogg"
        # The MP3 decoder also calls tags between frames an error.
        has_errors = any(level <= av.logging.ERROR and name != "mp3float" for level, name, _ in log)
    if not n:
        raise SignalError(f"cannot be decoded ({'; '.join(faults) or 'no samples'}); expected a whole audio file")
    if n < (promised_s - tolerance_s) * rate_hz - 0.5:
        faults.insert(0, f"expected {promised_s:.2f} s, found {n / rate_hz:.2f} s")
    if is_ogg and not _ends_with_last_page(path):
        faults.append("the page that ends the stream is missing")
    if has_errors and not faults:
        faults.append("frames differ from their checksums or cannot be decoded")
    if faults:
        notes.append(f"The file is cut off or damaged ({'; '.join(faults)}); the rest of it is used.")


@contextmanager
def _captured_log() -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's messages, which are not printed: level, name, text."""
    import av

    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=False) as log:
            yield log
    finally:
        av.logging.set_level(None)


def _frames(path: Path, source: InputContainer, stream: AudioStream, faults: list[str]) -> Iterator[AudioFrame]:
    """All frames that can be decoded; what is wrong with the others is added to `faults`."""
    import av

    stream.codec_context.options = {"err_detect": "crccheck"}
    stream.codec_context.thread_count = 1  # others would wait for Python's lock to log
    sizes: dict[int, int] = {}  # of the frames of an MP3 file, by the byte of bit rate, sampling rate and padding
    n_packets = n_bad = 0
    is_cut = False
    try:
        for packet in source.demux(stream):
            content = bytes(packet)
            if content.startswith(TAGS):
                continue
            n_packets += bool(content)
            is_cut |= packet.is_corrupt
            if len(content) > 2 and stream.codec_context.name.startswith("mp3"):
                is_cut = len(content) < sizes.setdefault(content[2], len(content))
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                n_bad += 1
    except av.FFmpegError as error:
        faults.append(str(error.strerror))
    if n_bad:
        faults.append(f"{n_bad} of {n_packets} packets cannot be decoded")
    if is_cut and not _is_streamed_wav(path):
        faults.append("it ends within a frame")


def _blocks(frames: Iterator[AudioFrame]) -> Iterator[tuple[int, np.ndarray]]:
    """Rate and samples of frames, joined to blocks of about `BLOCK_SAMPLES`, float32 of shape (channels, n)."""
    forms: set[tuple[int, int]] = set()
    parts: list[np.ndarray] = []
    rate_hz = n = 0
    for frame in frames:
        rate_hz, channels = form = frame.sample_rate, frame.layout.nb_channels
        forms.add(form)
        if len(forms) > 1 or channels > 2 or not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
            expected = f"1 or 2 channels at {RATES_HZ[0]} to {RATES_HZ[1]} Hz, the same in the whole file"
            found = " and ".join(f"{channels} at {rate_hz} Hz" for rate_hz, channels in sorted(forms))
            raise SignalError(f"expected {expected}, found {found}")
        kind = frame.format.name.removesuffix("p")
        with np.errstate(over="ignore", invalid="ignore"):  # such samples are refused
            samples = frame.to_ndarray().astype(np.float32) / FULL_SCALE.get(kind, 1.0) - (kind == "u8")
        parts.append(samples if frame.format.is_planar else samples.reshape(-1, channels).T)
        n += frame.samples
        if n >= BLOCK_SAMPLES:
            yield rate_hz, np.concatenate(parts, axis=1)
            parts, n = [], 0
    if parts:
        yield rate_hz, np.concatenate(parts, axis=1)


def _is_streamed_wav(path: Path) -> bool:
    """Whether the header was written before the length was known: the size field is next to 0 or to its limit."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[:4] == b"RIFF" and not 100 < int.from_bytes(head[4:], "little") < STREAMED_BYTES


def _ends_with_last_page(path: Path) -> bool:
    """Whether the last page of an Ogg file is whole and flagged as the end of its stream."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * OGG_PAGE_BYTES))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) > 26 and bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(lengths)


def clipped(signal: StereoSignal) -> bool:
    """Whether the peaks of a channel are cut off: a run of samples at its peak, which is near full scale."""
    for channel in signal.samples:
        peak = max(channel.max(), -channel.min())
        for start in range(0, len(channel) if peak > 0.5 else 0, BLOCK_SAMPLES):
            at_peak = np.abs(channel[start : start + BLOCK_SAMPLES + CLIPPED_RUN - 1]) >= peak - ONE_BIT
            if (np.convolve(at_peak, np.ones(CLIPPED_RUN)) == CLIPPED_RUN).any():
                return True
    return False
