"""A song as a stereo mix: the voice in a small room, and a small band of additive synthesis.

The band is a bass, plucked chords and a hi-hat. Bass and most of the chords stand to the left, the hi-hat to the
right, and the voice's echo differs between the channels, so that the two ears get different problems. Stereo signals
are arrays of shape (samples, 2), mono signals (samples,).
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

from demo_song import LEAD_S, SAMPLE_RATE_HZ, Song, midi_to_hz, samples
from demo_voice import VoiceOptions, sing
from scipy.signal import butter, fftconvolve, sosfilt

from scow.data.audio import at_level

MIX_LEVEL_DBFS = -25.0  # root mean square; the challenge's excerpts lie there too


def make_mix(song: Song, voice: VoiceOptions, rng: np.random.Generator) -> np.ndarray:
    """Sing a song with its band.

    Parameters
    ----------
    song : Song
        What to sing.
    voice : VoiceOptions
        Who sings.
    rng : numpy.random.Generator
        Source of all that is random: in Praat's resynthesis, the hi-hat and the echo.

    Returns
    -------
    numpy.ndarray
        The mix, shape (samples, 2), of root mean square level `MIX_LEVEL_DBFS`.
    """
    seed = int(rng.integers(1, 2**31))
    # eSpeak NG goes on from where its last sentence left it, so that a second one sounds different: it gets a process
    # of its own, and the same song sounds the same whatever was sung before.
    with multiprocessing.get_context("spawn").Pool(1) as process:
        sung = process.apply(sing, (song, voice, seed))
    singer = add_echo(sung, rng)
    band = play_band(song, rng)
    mix = at_level(singer, song.voice_to_band_db) + at_level(band, 0.0)
    return at_level(mix, MIX_LEVEL_DBFS)


def add_echo(voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put a voice into a small room.

    Parameters
    ----------
    voice : numpy.ndarray
        Shape (samples,).
    rng : numpy.random.Generator
        Source of the echo's noise.

    Returns
    -------
    numpy.ndarray
        Shape (samples, 2): the voice in the middle, with an echo of its own in each channel.
    """
    time_s = np.arange(samples(0.25)) / SAMPLE_RATE_HZ
    room = rng.standard_normal((len(time_s), 2)) * np.exp(-time_s / 0.06)[:, None]
    room *= 0.35 / np.sqrt(np.sum(room**2, axis=0))  # the echo is 9 dB below the voice
    echo = fftconvolve(voice[:, None], room, axes=0)[: len(voice)]
    return voice[:, None] + echo


def play_band(song: Song, rng: np.random.Generator) -> np.ndarray:
    """Play a song's bass, chords and hi-hat.

    Parameters
    ----------
    song : Song
        Its chords and pulse.
    rng : numpy.random.Generator
        Source of the hi-hat's noise.

    Returns
    -------
    numpy.ndarray
        Shape (song.n_samples, 2).
    """
    band = np.zeros((song.n_samples, 2))
    pulse = 0
    for chord in song.chords:
        start_s = LEAD_S + pulse * song.pulse_s
        _add(band, _pluck(chord.root - 12, chord.pulses * song.pulse_s, decay_s=0.6), start_s, (0.7, 0.5))
        for k in range(chord.pulses):  # one note of the chord a pulse, an octave above its root
            midi = chord.root + 12 + chord.intervals[k % len(chord.intervals)]
            gains = (0.5, 0.25) if k % 2 == 0 else (0.3, 0.4)
            _add(band, _pluck(midi, 2 * song.pulse_s, decay_s=0.25), start_s + k * song.pulse_s, gains)
        pulse += chord.pulses
    high_pass = butter(2, 6000.0, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    envelope = np.exp(-np.arange(samples(0.08)) / samples(0.015))
    for k in range(pulse):
        burst = sosfilt(high_pass, rng.standard_normal(len(envelope))) * envelope
        stress = 1.0 if k % song.pulses_per_beat == 0 else 0.5
        _add(band, burst, LEAD_S + k * song.pulse_s, (0.05 * stress, 0.15 * stress))
    return band


def _pluck(midi: int, length_s: float, decay_s: float) -> np.ndarray:
    """Make a plucked string: eight partials, the higher the sooner gone."""
    time_s = np.arange(samples(length_s)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * midi_to_hz(midi) * time_s
    string = sum(np.sin(k * phase) * np.exp(-time_s * k**0.7 / decay_s) / k for k in range(1, 9))
    return string * np.clip((length_s - time_s) / 0.01, 0.0, 1.0)


def _add(mix: np.ndarray, sound: np.ndarray, start_s: float, gains: tuple[float, float]) -> None:
    """Add a mono sound to a stereo mix, in place, with a gain per channel; what goes past the end is dropped."""
    start = samples(start_s)
    sound = sound[: len(mix) - start]
    mix[start : start + len(sound)] += sound[:, None] * np.array(gains)
