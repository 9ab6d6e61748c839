"""The two songs of the demo, as notes on paper: words, melody and chords.

Words and tunes are in the public domain: "Row, row, row your boat" (United States, nineteenth century) and "The star"
by Jane Taylor (1806) to the French air "Ah! vous dirai-je, maman" (1761). `demo_voice` sings, `demo_mix` plays the
band.

Pitches are MIDI note numbers (60 is C4, 261.6 Hz), lengths of notes are in pulses, of which `Song.pulse_s` gives the
length.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLE_RATE_HZ = 44_100
LEAD_S = 0.3  # before the first beat, for the consonants of the first syllable

MAJOR = (0, 4, 7)
MINOR = (0, 3, 7)


@dataclass(frozen=True)
class Note:
    """A note of the melody: MIDI number, length in pulses. Every syllable of the lyrics has one."""

    midi: int
    pulses: float


@dataclass(frozen=True)
class Chord:
    """A chord of the band: MIDI number of its root, semitones above it, length in pulses."""

    root: int
    intervals: tuple[int, ...]
    pulses: int


@dataclass(frozen=True)
class Song:
    """One phrase of a song.

    Attributes
    ----------
    name : str
        First part of its signals' ids.
    track : str
        Invented track name.
    lyrics : str
        The words as one writes them.
    lines : tuple of (float, str)
        The same words as lines, and the pulse on which each begins.
    melody : tuple of Note
        One note per syllable.
    chords : tuple of Chord
        They last as long as the excerpt.
    pulse_s : float
        Length of a pulse.
    pulses_per_beat : int
        The hi-hat is louder on every so many pulses.
    word_gap_s : float
        Pause between words: without it "your boat" would run together, with it "how I" becomes "how might".
    voice_to_band_db : float
        Level of the voice over that of the band: root mean square over the excerpt, both channels.
    """

    name: str
    track: str
    lyrics: str
    lines: tuple[tuple[float, str], ...]
    melody: tuple[Note, ...]
    chords: tuple[Chord, ...]
    pulse_s: float
    pulses_per_beat: int
    word_gap_s: float
    voice_to_band_db: float

    @property
    def prompt(self) -> str:
        """The lyrics in lower case, without punctuation."""
        return "".join(c for c in self.lyrics.lower() if c.isalpha() or c == " ")

    @property
    def n_samples(self) -> int:
        """Length of the excerpt."""
        return samples(LEAD_S + sum(chord.pulses for chord in self.chords) * self.pulse_s)


SONGS = (
    Song(
        name="row",
        track="demo-row",
        lyrics="Row, row, row your boat, gently down the stream",
        lines=((0, "Row, row, row your boat, gently down the stream"),),
        melody=(
            *(Note(46, 3), Note(46, 3), Note(46, 2), Note(48, 1), Note(50, 3)),
            *(Note(50, 2), Note(48, 1), Note(50, 2), Note(51, 1), Note(53, 2.5)),
        ),
        chords=(Chord(46, MAJOR, 6), Chord(46, MAJOR, 6), Chord(43, MINOR, 6), Chord(46, MAJOR, 6)),
        pulse_s=0.25,
        pulses_per_beat=3,
        word_gap_s=0.04,
        voice_to_band_db=-4.0,
    ),
    Song(
        name="twinkle",
        track="demo-twinkle",
        lyrics="Twinkle, twinkle, little star, how I wonder what you are",
        lines=((0, "Twinkle, twinkle, little star,"), (8, "how I wonder what you are")),
        melody=(
            *(Note(48, 1), Note(48, 1), Note(55, 1), Note(55, 1), Note(57, 1), Note(57, 1), Note(55, 2)),
            *(Note(53, 1), Note(53, 1), Note(52, 1), Note(52, 1), Note(50, 1), Note(50, 1), Note(48, 2)),
        ),
        chords=(
            *(Chord(48, MAJOR, 4), Chord(53, MAJOR, 2), Chord(48, MAJOR, 2)),
            *(Chord(53, MAJOR, 2), Chord(48, MAJOR, 2), Chord(55, MAJOR, 2), Chord(48, MAJOR, 2)),
        ),
        pulse_s=0.36,
        pulses_per_beat=2,
        word_gap_s=0.01,
        voice_to_band_db=-6.0,
    ),
)


def midi_to_hz(midi: int) -> float:
    """Frequency of a MIDI note number in equal temperament, A4 (69) at 440 Hz."""
    return float(440.0 * 2 ** ((midi - 69) / 12))


def samples(length_s: float) -> int:
    """Length in samples at `SAMPLE_RATE_HZ`."""
    return round(length_s * SAMPLE_RATE_HZ)
