"""scow.song.terminal and scow.song.results: a prediction on a terminal, and as values."""

import io
import json
import re

import pytest
from songs import LINES, SHARES, song

from scow.reports.plots import heat_colour
from scow.song.terminal import song_text, takes_colours


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_score_weighs_lines_by_their_words():
    counts = [len(line.split()) for line in LINES]
    expected = sum(n * share for n, share in zip(counts, SHARES["Mild"], strict=True)) / sum(counts)
    assert song().score("Mild") == pytest.approx(100 * expected)
    assert [line.lyrics for line in song().hardest("Mild", 2)] == ["gone", LINES[1]]


def test_plain_holds_all_but_the_outline():
    plain = json.loads(json.dumps(song(failed=True).plain()))
    assert "outline" not in plain
    assert plain["scores"]["Moderate"] == pytest.approx(song().score("Moderate"), abs=1e-4)
    word = {"word": "the", "probability": 0.1, "start_s": None, "end_s": None}
    assert plain["lines"][1]["severities"][2]["words"][0] == word
    assert plain["failed"][0]["reason"].startswith("begins at")


def test_song_text_of_a_song(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = song_text(song(), colours=False)
    assert re.search(r"^ 0:12\.0 +80\.0 +30\.0 +10\.0  the <b>sun</b> & moon$", text, re.MULTILINE)
    assert "Hearing loss simulated (MSBG) at 65 dB SPL." in text
    assert "note: The recording is clipped." in text
    hardest = text.split("Hardest lines (Moderate):")[1]
    assert [float(score) for score in re.findall(r"score (\S+) \(", hardest)] == [5.0, 10.0, 40.0]
    assert "right channel  (nothing)" in hardest
    assert "\x1b" not in text


def test_song_text_in_colours_keeps_the_numbers():
    text = song_text(song(LINES[:1], ("Moderate",)), colours=True)
    ground, ink = (tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in heat_colour(0.4))
    assert f"\x1b[48;2;{ground[0]};{ground[1]};{ground[2]}m\x1b[38;2;{ink[0]};{ink[1]};{ink[2]}m do 40 \x1b[0m" in text


@pytest.mark.parametrize(("no_color", "term"), [("", "xterm"), ("1", "xterm"), ("", "dumb")])
def test_colours_are_for_terminals_that_have_them(monkeypatch, no_color, term):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    assert takes_colours(Terminal()) == (not no_color and term != "dumb")
    assert not takes_colours(io.StringIO())
