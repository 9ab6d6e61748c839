"""A synthetic voice that sings a song.

The words are spoken by eSpeak NG, of which Praat carries a copy that also tells when each phoneme begins and ends.
Praat's overlap-add resynthesis (Moulines and Charpentier, 1990) then puts each syllable onto its note: the vowel
begins on the beat, has the note's pitch and is stretched to its length. Consonants keep their length, as they do when
people sing; stretching them too makes such a voice hard to understand.

Reference: E. Moulines and F. Charpentier, "Pitch-synchronous waveform processing techniques for text-to-speech
synthesis using diphones", Speech Communication 9, 1990.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import parselmouth
from demo_song import LEAD_S, SAMPLE_RATE_HZ, Song, midi_to_hz, samples
from parselmouth.praat import call

from scow.errors import UserError

PITCH_STEP_S = 0.005
PITCH_RANGE_HZ = (70.0, 300.0)  # where Praat looks for the pitch of the spoken words
SHORTEST_VOWEL = 0.6  # share of its spoken length that a vowel keeps on a short note
PHONEME_TIER = 4  # Praat's text grid has the tiers sentence, clause, word, phoneme
VOWELS = frozenset("aeiouæɐɑɒɔəɚɛɜɪʊʌ")


@dataclass(frozen=True)
class VoiceOptions:
    """How the words are spoken before they are sung.

    Attributes
    ----------
    language, voice : str
        Names that Praat gives to eSpeak NG's languages and voices.
    words_per_minute : int
        A slow voice leaves the consonants time to be heard.
    """

    language: str = "English (America)"
    voice: str = "Male1"
    words_per_minute: int = 128


@dataclass(frozen=True)
class Phoneme:
    """A phoneme of the spoken lyrics, in the International Phonetic Alphabet; a pause is an empty symbol."""

    symbol: str
    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """How long it is spoken."""
        return self.end_s - self.start_s

    @property
    def is_vowel(self) -> bool:
        """Whether a syllable can be sung on it; eSpeak NG joins "ɑː" and "ɹ" in one, which counts as a vowel."""
        return any(c in VOWELS for c in self.symbol)


def sing(song: Song, voice: VoiceOptions, seed: int) -> np.ndarray:
    """Sing a song's words, without the band.

    Parameters
    ----------
    song : Song
        What to sing.
    voice : VoiceOptions
        Who sings.
    seed : int
        Of Praat's random numbers, which are global to the process and on which its resynthesis draws.

    Returns
    -------
    numpy.ndarray
        The voice, shape (song.n_samples,). The first vowel begins at `LEAD_S`, on the first beat.

    Raises
    ------
    UserError
        Where the voice does not exist, or says more or fewer syllables than the melody has notes.
    """
    parselmouth.praat.run(f"random_initializeWithSeedUnsafelyButPredictably: {seed}")
    spoken, phonemes = speak(song.prompt, song.word_gap_s, voice)
    vowels = [i for i, phoneme in enumerate(phonemes) if phoneme.is_vowel]
    if len(vowels) != len(song.melody):
        said = " ".join(phoneme.symbol for phoneme in phonemes if phoneme.symbol)
        raise UserError(
            f"the melody of {song.name} has {len(song.melody)} notes, {voice.language} {voice.voice} says "
            f"{len(vowels)} syllables ({said}): take another voice or change the melody"
        )
    stretch = _stretches(phonemes, vowels, [note.pulses * song.pulse_s for note in song.melody])

    manipulation = call(spoken, "To Manipulation", PITCH_STEP_S, *PITCH_RANGE_HZ)
    melody = call("Create PitchTier", "melody", 0.0, spoken.duration)
    for note, i in zip(song.melody, vowels, strict=True):
        phoneme = phonemes[i]
        # Between two vowels Praat glides from the one pitch to the other, as a singer does.
        for time_s in np.arange(phoneme.start_s, phoneme.end_s, PITCH_STEP_S):
            sung_s = stretch[i] * (time_s - phoneme.start_s)
            call(melody, "Add point", time_s, midi_to_hz(note.midi) * _vibrato(sung_s))
    rhythm = call("Create DurationTier", "rhythm", 0.0, spoken.duration)
    for phoneme, factor in zip(phonemes, stretch, strict=True):
        # Two points each, or Praat would slide from the stretch of one phoneme to that of the next.
        call(rhythm, "Add point", phoneme.start_s + 1e-4, factor)
        call(rhythm, "Add point", phoneme.end_s - 1e-4, factor)
    call([melody, manipulation], "Replace pitch tier")
    call([rhythm, manipulation], "Replace duration tier")
    sung = call(manipulation, "Get resynthesis (overlap-add)").values[0]

    first_vowel_s = sum(p.length_s * f for p, f in zip(phonemes[: vowels[0]], stretch, strict=False))
    start = samples(LEAD_S - first_vowel_s)
    if start < 0:  # more consonants than the lead has room for
        sung, start = sung[-start:], 0
    sung = sung[: song.n_samples - start]
    return np.pad(sung, (start, song.n_samples - start - len(sung)))


def speak(words: str, word_gap_s: float, voice: VoiceOptions) -> tuple[parselmouth.Sound, list[Phoneme]]:
    """Let Praat's eSpeak NG say words.

    Parameters
    ----------
    words : str
        What to say.
    word_gap_s : float
        Pause between words.
    voice : VoiceOptions
        Who says it.

    Returns
    -------
    parselmouth.Sound
        The words as spoken, mono.
    list of Phoneme
        All phonemes and pauses, without holes in time.

    Raises
    ------
    UserError
        Where the voice does not exist.
    """
    try:
        synthesiser = call("Create SpeechSynthesizer", voice.language, voice.voice)
    except parselmouth.PraatError as error:
        raise UserError(
            f"Praat knows no language {voice.language!r} with voice {voice.voice!r}; use its SpeechSynthesizer's names"
        ) from error
    pitch, pitch_range = 1.0, 1.0  # the melody replaces both
    settings = (SAMPLE_RATE_HZ, word_gap_s, pitch, pitch_range, voice.words_per_minute, "IPA")
    call(synthesiser, "Speech output settings...", *settings)
    text_grid, spoken = call(synthesiser, "To Sound", words, "yes")
    n_phonemes = call(text_grid, "Get number of intervals", PHONEME_TIER)
    phonemes = [
        Phoneme(
            call(text_grid, "Get label of interval", PHONEME_TIER, i),
            call(text_grid, "Get start time of interval", PHONEME_TIER, i),
            call(text_grid, "Get end time of interval", PHONEME_TIER, i),
        )
        for i in range(1, n_phonemes + 1)  # Praat counts from 1
    ]
    return spoken, phonemes


def _stretches(phonemes: list[Phoneme], vowels: list[int], note_lengths_s: list[float]) -> list[float]:
    """Stretch per phoneme that makes each vowel begin on its note.

    From one vowel's onset to the next lie the vowel and the consonants that follow it. The vowel alone is stretched,
    unless the note is so short that less than `SHORTEST_VOWEL` of it would be left: then all are hurried alike.
    """
    stretch = [1.0] * len(phonemes)
    for vowel, following, note_s in zip(vowels, [*vowels[1:], len(phonemes)], note_lengths_s, strict=True):
        vowel_s = phonemes[vowel].length_s
        consonants_s = sum(p.length_s for p in phonemes[vowel + 1 : following])
        if note_s - consonants_s >= SHORTEST_VOWEL * vowel_s:
            stretch[vowel] = (note_s - consonants_s) / vowel_s
        else:
            stretch[vowel:following] = [note_s / (vowel_s + consonants_s)] * (following - vowel)
    return stretch


def _vibrato(sung_s: float) -> float:
    """Pitch factor within a note: a third of a semitone at 5.5 Hz, which sets in after a quarter of a second."""
    depth = (2 ** (1 / 36) - 1) * min(max((sung_s - 0.25) / 0.2, 0.0), 1.0)
    return float(1.0 + depth * np.sin(2 * np.pi * 5.5 * sung_s))
