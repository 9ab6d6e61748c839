"""scow.song.song: an excerpt or a song in one call, with a real Whisper, on the demo song."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import DEMO, refusal

from scow.data.audio import FILE_RATE_HZ, StereoSignal
from scow.errors import UserError
from scow.song.audio import read_song
from scow.song.lyrics_files import TimedLine, read_lyrics
from scow.song.song import PredictOptions, predict_excerpt, predict_song
from scow.text.normalize import normalize_text

pytestmark = pytest.mark.slow

SONG = DEMO / "song" / "demo_song.flac"
TIMED = SONG.with_suffix(".lrc")


def no_predictor():
    pytest.fail("a model was loaded before the input was checked")


@pytest.fixture(scope="module")
def predicted(lite, tmp_path_factory):
    """The demo song with its three lines, and three more that cannot be predicted."""
    path = tmp_path_factory.mktemp("song") / "song.lrc"
    more = "[00:06.50]shortly after\n[00:05.00]звезда\n[02:00.00]past the end\n"
    path.write_text(TIMED.read_text(encoding="utf-8") + more, encoding="utf-8")
    return predict_song(SONG, path, PredictOptions(cuts=1), predictor=lite)


def test_predict_song_lists_lines_that_fail_and_predicts_the_others(predicted):
    assert [line.lyrics for line in predicted.lines][1:] == ["shortly after", "how I wonder what you are"]
    assert (predicted.checkpoint, predicted.approximate, predicted.level_db_spl) == ("lite", False, None)
    reasons = {line.lyrics: line.reason for line in predicted.failed}
    assert "Latin script" in reasons["звезда"]
    assert reasons["past the end"] == "begins at 120.00 s, but the song ends at 12.36 s"
    assert "lasts 0.10 s" in reasons["Twinkle, twinkle, little star,"]


def test_predict_song_takes_a_line_as_an_excerpt(predicted, lite):
    line = predicted.lines[-1]
    samples = read_song(SONG).samples[:, round(line.start_s * FILE_RATE_HZ) :]
    alone = predict_excerpt(StereoSignal(samples, FILE_RATE_HZ), "how i wonder what you are", predictor=lite)
    ours, theirs = line.at("No Loss"), alone.at("No Loss")
    assert [heard.transcript for heard in ours.heard] == [heard.transcript for heard in theirs.heard]
    # Channels that go through the encoder together are rounded a little differently.
    assert ours.score == pytest.approx(theirs.score, abs=0.01)
    assert line.end_s == pytest.approx(read_song(SONG).samples.shape[1] / FILE_RATE_HZ)


def test_predict_song_aligns_text_and_notes_it(lite):
    lines = ("row row row your boat gently down the stream", "twinkle twinkle little star", "how i wonder what you are")
    song = predict_song(SONG, "\n".join(["[Chorus]", lines[0], "", *lines[1:]]), PredictOptions(cuts=1), predictor=lite)
    assert song.approximate
    assert "approximate" in song.notes[0]
    true = read_lyrics(TIMED).lines
    # Whisper times segments to within a second or so on singing, and lines get half a second on either side.
    assert [line.start_s for line in song.lines] == pytest.approx([line.start_s for line in true], abs=1.5)
    assert song.lines[0].end_s == pytest.approx(true[0].end_s, abs=1.5)


def test_predict_song_times_the_words_that_whisper_caught(lite):
    song = predict_song(SONG, TIMED, PredictOptions(cuts=1, word_times=True), predictor=lite)
    for line in song.lines:
        (prediction,) = line.severities
        caught = set(normalize_text(" ".join(heard.transcript for heard in prediction.heard)))
        timed = [word for word in prediction.words if word.start_s is not None]
        assert len(timed) > len(prediction.words) / 2
        assert {word.word for word in timed} <= caught
        assert all(line.start_s <= word.start_s <= word.end_s <= line.end_s for word in timed)


def test_predict_song_averages_shifted_cuts(lite):
    """The mean of five predictions of one cut each, of lines that begin and end up to 40 ms earlier or later."""
    (line,) = read_lyrics(TIMED).lines[1:2]
    options = PredictOptions(cuts=1)
    shifted = [replace(line, start_s=line.start_s + s, end_s=line.end_s + s) for s in (-0.04, -0.02, 0, 0.02, 0.04)]
    alone = [predict_song(SONG, [one], options, predictor=lite).score("No Loss") for one in shifted]
    found = predict_song(SONG, [line], predictor=lite).lines[0].at("No Loss")
    assert max(alone) > min(alone)
    assert found.score == pytest.approx(np.mean(alone), abs=0.01)
    assert found.floor < found.score
    assert found.caught


def test_floor_is_the_score_where_nothing_is_heard(lite):
    tone = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(3 * FILE_RATE_HZ) / FILE_RATE_HZ)
    found = predict_excerpt(StereoSignal(np.float32([tone, tone]), FILE_RATE_HZ), "a golden river", predictor=lite)
    prediction = found.at("No Loss")
    assert not prediction.caught
    assert prediction.score == pytest.approx(prediction.floor, abs=1e-6)


SILENT_END = StereoSignal(np.repeat([[0.1] * FILE_RATE_HZ + [0.0] * 2 * FILE_RATE_HZ], 2, 0), FILE_RATE_HZ)
PLAIN = PredictOptions()


@pytest.mark.parametrize(
    ("audio", "lyrics", "options", "reason"),
    [
        (SONG, [], PLAIN, r"^'lyrics': expected at least one line"),
        (SONG, [TimedLine(60.0, 62.0, "late")], PLAIN, r"^'late': begins at 60\.00 s, but the song ends at 12\.36 s$"),
        (SONG, [TimedLine(0, 1, "да"), TimedLine(1, 2, "нет")], PLAIN, r"^'да': .*Latin.* \(and so for 2 lines\)$"),
        (SILENT_END, [TimedLine(1.5, 2.5, "words")], PLAIN, r"^'words': silent"),
        (SONG, "words", PredictOptions(("Severe",)), r"found 'Severe'; .*Moderate"),
        (SONG, "words", PredictOptions(("Mild", "Mild")), r"expected each once, found Mild, Mild"),
        (SONG, "words", PredictOptions(("Mild", "No Loss"), already_simulated=True), r"the one hearing loss"),
        (SONG, "words", PredictOptions(level_db_spl=120), r"expected 40 to 90 dB SPL, found 120"),
    ],
)
def test_predict_song_refuses_in_one_line(audio, lyrics, options, reason):
    with refusal(reason):
        predict_song(audio, lyrics, options, predictor=no_predictor if lyrics == "words" else lambda: None)


def test_predict_excerpt_refuses_a_song():
    signal = StereoSignal(np.full((2, 31 * FILE_RATE_HZ), 0.1, np.float32), FILE_RATE_HZ)
    with pytest.raises(UserError, match=r"expected at most 30 s, found 31\.0 s; use predict_song"):
        predict_excerpt(signal, "words", predictor=no_predictor)
