"""Mixes of a song: differences by hand, the page, and the script on the demo song."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from browser import assert_clean, browse
from helpers import DEMO, load_whisper, run_script
from songs import song

from scow import compare_songs
from scow.errors import UserError
from scow.song.compare import SongComparison
from scow.song.report import write_comparison_report
from scow.song.song import PredictOptions
from scow.song.terminal import comparison_text

pytestmark = pytest.mark.slow

SONG = DEMO / "song" / "demo_song.flac"


def with_gains(gains, hearing_loss="Mild"):
    """The song of `songs`, and a mix in which each line gains so many points with one hearing loss."""
    first = song()
    lines = [
        replace(
            line,
            severities=tuple(
                replace(p, score=p.score + gain * (p.hearing_loss == hearing_loss)) for p in line.severities
            ),
        )
        for line, gain in zip(first.lines, gains, strict=True)
    ]
    return SongComparison((first, replace(first, name="new.flac", lines=tuple(lines))), ())


def test_difference_is_a_mean_over_words_with_an_interval_over_lines():
    found = with_gains((4, 4, 4, 4))
    same = found.difference(found.songs[1], "Mild")
    assert (same.value, same.low, same.high) == pytest.approx((4, 4, 4))
    found = with_gains((10, 0, 0, -10))  # lines of 7, 4, 2 and 1 words
    mixed = found.difference(found.songs[1], "Mild")
    assert mixed.value == pytest.approx((7 * 10 - 10) / 14)
    assert -10 <= mixed.low < 0 < mixed.value < mixed.high <= 10
    assert found.difference(found.songs[1], "No Loss").value == 0
    assert found.changes("Mild")[:2] == [(0, 10), (3, -10)]


def test_text_and_frame_have_the_differences():
    found = with_gains((10, 0, 0, -10))
    assert "+4.3" in comparison_text(found)
    frame = found.to_frame()
    assert len(frame) == 2 * 4 * 3
    scores = frame[frame["hearing_loss"] == "Mild"].pivot_table("score", "line", "mix")
    assert (scores["new.flac"] - scores[found.songs[0].name]).tolist() == pytest.approx([10, 0, 0, -10])


@pytest.mark.parametrize("width", [390, 1280])
def test_page_of_a_comparison(tmp_path, width):
    write_comparison_report(tmp_path / "page.html", with_gains((10, 0, 0, -10)))
    click = "document.querySelector('nav a[href=\"#mild\"]').click();dispatchEvent(new HashChangeEvent('hashchange'));"
    found = browse(tmp_path / "page.html", tmp_path / "browser", width, script=click)
    assert_clean(found)
    assert "(+10)" in found["text"]
    assert "Mild hearing loss" in found["text"]
    assert "Moderate hearing loss" not in found["text"]


def test_compare_leaves_out_a_line_that_one_mix_lacks(tmp_path):
    load_whisper("tiny.en")
    samples, rate = soundfile.read(SONG)
    soundfile.write(tmp_path / "short.wav", samples[: 9 * rate], rate)  # without the last line
    options = ("--lyrics", SONG.with_suffix(".lrc"), "--cuts", "1", "--html", tmp_path / "page.html")
    done = run_script("predict.py", SONG, tmp_path / "short.wav", *options, code=1)
    assert "short.wav, 0:09.3 how I wonder what you are" in done.stderr
    assert "2 lines" in done.stdout
    assert "left out" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_compare_songs_finds_the_noisy_mix(lite, tmp_path):
    samples, rate = soundfile.read(SONG)
    noise = 0.02 * np.random.default_rng(0).standard_normal(samples.shape)
    soundfile.write(tmp_path / "noisy.wav", samples + noise, rate)
    mixes = (SONG, SONG, tmp_path / "noisy.wav")
    with pytest.raises(UserError, match="each file once"):
        compare_songs(mixes[:2], SONG.with_suffix(".lrc"), predictor=lite)
    found = compare_songs(mixes[1:], SONG.with_suffix(".lrc"), PredictOptions(cuts=1), predictor=lite)
    assert found.difference(found.songs[1], "No Loss").value < -10
    assert [row[0] for row in found.table("No Loss")] == ["mix", SONG.name, "noisy.wav"]
