"""scow.song.song: an excerpt or a song in one call, with a real Whisper, on the demo song."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import DEMO, ROOT

from scow.data.audio import FILE_RATE_HZ, StereoSignal
from scow.errors import UserError
from scow.song import hearing_loss
from scow.song.audio import read_song
from scow.song.lyrics_files import TimedLine, timed_lines
from scow.song.song import PredictOptions, as_lyrics, hearing_losses_of, predict_excerpt, predict_song

SONG = DEMO / "song" / "demo_song.flac"
TIMED = SONG.with_suffix(".lrc")


def no_predictor():
    pytest.fail("a model was loaded before the input was checked")


@pytest.fixture(scope="module")
def predicted(lite, tmp_path_factory):
    """The demo song with its three lines, and three more that cannot be predicted."""
    path = tmp_path_factory.mktemp("song") / "song.lrc"
    more = "[00:06.40]twice at once\n[00:05.00]звезда\n[02:00.00]past the end\n"
    path.write_text(TIMED.read_text(encoding="utf-8") + more, encoding="utf-8")
    return predict_song(SONG, path, predictor=lite)


def test_lines_that_can_be_predicted_are(predicted):
    assert [line.lyrics for line in predicted.lines][1:] == [
        "twice at once",
        "how I wonder what you are",
    ]
    assert not predicted.approximate
    assert predicted.checkpoint == "lite"
    assert predicted.level_db_spl is None


def test_lines_that_cannot_are_listed_with_their_reasons(predicted):
    reasons = {line.lyrics: line.reason for line in predicted.failed}
    assert "Latin script" in reasons["звезда"]
    assert reasons["past the end"] == "begins at 120.00 s, but the song ends at 12.36 s; mend the time"
    assert reasons["Twinkle, twinkle, little star,"].startswith("lasts 0.00 s; expected at least 0.25 s")


def test_a_line_is_an_excerpt_by_itself(predicted, lite):
    line = predicted.lines[-1]
    samples = read_song(SONG).samples[:, round(line.start_s * FILE_RATE_HZ) :]
    alone = predict_excerpt(StereoSignal(samples, FILE_RATE_HZ), "how i wonder what you are", predictor=lite)
    (ours,), (theirs,) = line.severities, alone.severities
    assert [heard.transcript for heard in ours.heard] == [heard.transcript for heard in theirs.heard]
    # Ears that go through the encoder together are rounded a little differently.
    assert ours.score == pytest.approx(theirs.score, abs=0.01)
    assert line.end_s == pytest.approx(read_song(SONG).samples.shape[1] / FILE_RATE_HZ)


def test_text_without_times_is_aligned_and_says_so(lite):
    lines = ("row row row your boat gently down the stream", "twinkle twinkle little star", "how i wonder what you are")
    text = "\n".join(["[Chorus]", lines[0], "", *lines[1:]])
    song = predict_song(SONG, text, predictor=lite)
    assert song.approximate
    assert "approximate" in song.notes[0]
    true = timed_lines(TIMED)
    # Whisper times segments to within a second or so on singing, and lines get half a second on either side.
    assert [line.start_s for line in song.lines] == pytest.approx([line.start_s for line in true], abs=1.5)
    assert song.lines[0].end_s == pytest.approx(true[0].end_s, abs=1.5)


@pytest.mark.skipif(not hearing_loss.installed(), reason="no pyclarity")
def test_a_simulated_loss_is_heard_as_the_demo_has_it(lite, tmp_path):
    mix = DEMO / "demo" / "unprocessed" / "twinkle_none_unproc.flac"
    shipped = DEMO / "demo" / "signals" / "twinkle_moderate.flac"
    lyrics = "Twinkle, twinkle, little star, how I wonder what you are"
    ours = predict_song(mix, lyrics, PredictOptions(("Moderate",), cache_dir=tmp_path), predictor=lite)
    theirs = predict_excerpt(shipped, lyrics, PredictOptions(("Moderate",), already_simulated=True), predictor=lite)
    # The shipped file is rounded to 16 bits; that moves token probabilities in the third decimal.
    assert ours.score("Moderate") == pytest.approx(theirs.severities[0].score, abs=0.5)
    assert ours.simulated
    assert ours.level_db_spl == 65.0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("lyrics", "reason"),
    [
        ("", r"^lyrics: expected lyrics with at least one word, found none"),
        ("   \n[Chorus]\n", r"^lyrics: expected lyrics with at least one word"),
        ("привет мир", r"^lyrics: expected English lyrics in Latin script"),
        (Path("nowhere.lrc"), r"^nowhere\.lrc: expected a lyrics file, found none"),
        (
            [TimedLine(60.0, 62.0, "late")],
            r"^'late': begins at 60\.00 s, but the song ends at 12\.36 s; mend the time$",
        ),
        ([TimedLine(0, 1, "да"), TimedLine(1, 2, "нет")], r"^'да': lyrics: .*Latin script.* \(and so for 2 lines\)$"),
    ],
)
def test_lyrics_that_cannot_be_predicted_are_one_line(lyrics, reason):
    predictor = no_predictor if not isinstance(lyrics, list) else lambda: None
    with pytest.raises(UserError, match=reason) as caught:
        predict_song(SONG, lyrics, predictor=predictor)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (PredictOptions(("Severe",)), r"no severity 'Severe'; .*Moderate"),
        (PredictOptions(()), r"expected each severity once, found none"),
        (PredictOptions(("Mild", "Mild")), r"expected each severity once, found Mild, Mild"),
        (PredictOptions(("Mild", "No Loss"), already_simulated=True), r"the one severity that is in the file"),
        (PredictOptions(level_db_spl=120), r"expected 40 to 90 dB SPL, found 120"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        predict_song(SONG, "words", options, predictor=no_predictor)


def test_a_long_excerpt_is_sent_to_predict_song():
    signal = StereoSignal(np.full((2, 31 * FILE_RATE_HZ), 0.1, np.float32), FILE_RATE_HZ)
    with pytest.raises(UserError, match=r"expected at most 30 s, found 31\.0 s; use predict_song"):
        predict_excerpt(signal, "words", predictor=no_predictor)


def test_a_line_in_silence_is_told_apart_from_one_that_nobody_understands():
    samples = np.zeros((2, 3 * FILE_RATE_HZ), np.float32)
    samples[:, :FILE_RATE_HZ] = 0.1
    with pytest.raises(UserError, match=r"^'words': silent: expected some sample above one 16-bit step$"):
        predict_song(StereoSignal(samples, FILE_RATE_HZ), [TimedLine(1.5, 2.5, "words")], predictor=lambda: None)


def test_names_of_the_command_line():
    assert hearing_losses_of("none") == ("No Loss",)
    assert hearing_losses_of("Moderate") == ("Moderate",)
    assert hearing_losses_of("all") == ("No Loss", "Mild", "Moderate")
    with pytest.raises(UserError, match="--hearing-loss: no severity 'mlid'; did you mean mild"):
        hearing_losses_of("mlid")
    assert as_lyrics("a song.LRC") == Path("a song.LRC")
    assert as_lyrics("do you know") == "do you know"


def test_importing_the_package_costs_nothing():
    code = (
        "import sys, scow\n"
        "assert not {'torch', 'whisper', 'numpy', 'pandas'} & set(sys.modules), 'heavy imports'\n"
        "from scow import predict_song, Predictor\n"
        "assert predict_song.__module__ == 'scow.song.song' and 'torch' in sys.modules\n"
        "try:\n    scow.nonsense\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'scow' has no attribute 'nonsense'\n"
