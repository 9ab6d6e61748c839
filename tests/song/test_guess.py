"""scow.song.guess: lyrics that Whisper writes, and LRC files to correct."""

import shutil
import sys

import numpy as np
import pytest
from helpers import DEMO, MODELS, assert_user_error, load_whisper, run_script
from hypothesis import given
from hypothesis import strategies as st

from scow.data.audio import FILE_RATE_HZ, StereoSignal
from scow.errors import UserError
from scow.song.guess import write_lrc
from scow.song.lyrics_files import read_lyrics
from scow.song.results import ExcerptPrediction
from scow.song.song import PredictOptions, predict_song

pytestmark = pytest.mark.slow

SONG = DEMO / "song" / "demo_song.flac"


@given(st.lists(st.integers(50, 3000), min_size=2, max_size=12, unique=True))
def test_lrc_gives_the_same_lines_again(tmp_path_factory, hundredths):
    times = sorted(hundredths)
    lines = [
        ExcerptPrediction(0.01 * start, 0.01 * end, f"line {start} it's sung", ())
        for start, end in zip(times[::2], times[1::2], strict=False)
        if end - start < 450  # longer ones are cut, as 1.5 s per word
    ]
    path = tmp_path_factory.mktemp("lrc") / "song.lrc"
    write_lrc(path, lines)
    again = read_lyrics(path).lines if lines else ()
    assert [line.text for line in again] == [line.lyrics for line in lines]
    spans = [time for line in lines for time in (line.start_s, line.end_s)]
    assert [time for line in again for time in (line.start_s, line.end_s)] == pytest.approx(spans)


def test_predict_without_lyrics_says_that_they_are_a_guess_and_writes_them(tmp_path):
    load_whisper("base")
    written, page = tmp_path / "song.lrc", tmp_path / "song.html"
    command = ("predict.py", SONG, "--lyrics-out", written, "--model-dir", MODELS, "--cuts=1")
    done = run_script(*command, "--html", page, "--no-audio", code=0)
    for text in (done.stdout, done.stderr, page.read_text(encoding="utf-8")):
        assert "These lyrics are a guess: Whisper base" in text
    lines = read_lyrics(written).lines
    assert any("wonder what you are" in line.text for line in lines)
    assert all(f"{line.text}\n" in done.stdout for line in lines)
    assert_user_error(run_script(*command), "corrected by hand")


def test_guess_takes_the_largest_model_on_disk_and_lists_repeats(lite, tmp_path, monkeypatch, capsys):
    load_whisper("base")
    mild = DEMO / "demo" / "signals" / "twinkle_mild.flac"  # in which base finds one word, 111 times
    with pytest.raises(UserError, match="Whisper repeats itself"):
        predict_song(mild, predictor=lite)
    shutil.copy(MODELS / "tiny.en.pt", tmp_path)
    alone = type(lite).load("lite", model_dir=tmp_path, device="cpu")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    song = predict_song(mild, options=PredictOptions(cuts=1), predictor=alone, progress=lambda *_: None)
    assert "100%" in capsys.readouterr().err
    assert song.approximate
    assert "Whisper tiny.en" in song.notes[0]


def test_guess_refuses_a_song_without_words(lite):
    hum = np.tile(np.sin(np.arange(3 * FILE_RATE_HZ) / 50), (2, 1)).astype(np.float32)
    with pytest.raises(UserError, match="Whisper"):
        predict_song(StereoSignal(hum, FILE_RATE_HZ), predictor=lite)
