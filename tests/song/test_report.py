"""The page of a song, as HTML and in a browser."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import assert_clean, browse, listen
from songs import LINES, song, with_audio

from scow.reports.plots import heat_colour
from scow.song.report import write_audio, write_song_report

TITLES = {
    "no-loss": "No hearing loss: 79.3",
    "mild": "Mild hearing loss: 52.9",
    "moderate": "Moderate hearing loss: 30.4",
}
PLAYS, SUNG = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("plays.js", "sung.js"))
CHANGED = "dispatchEvent(new HashChangeEvent('hashchange'));"  # at once, because the page is looked at on load


def page_of(prediction, path: Path) -> str:
    write_song_report(path, prediction)
    return path.read_text(encoding="utf-8")


def test_audio_of_lines_is_written_as_it_is(tmp_path):
    prediction = with_audio(song(hearing_losses=("Moderate",)), 0.5)
    write_audio(tmp_path / "lines", prediction)
    paths = sorted((tmp_path / "lines").iterdir())
    assert [path.name for path in paths] == [f"00{number}-moderate.wav" for number in (1, 2, 3, 4)]
    for path, signal in zip(paths, prediction.audio["Moderate"], strict=True):
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == signal.rate_hz
        assert np.array_equal(samples.T, signal.samples)  # also above full scale


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "script", "visible"),
    [
        (390, f"document.querySelector('nav a[href=\"#moderate\"]').click();{CHANGED}", ["moderate"]),
        (1200, f"document.querySelector('nav a[href=\"#all\"]').click();{CHANGED}", list(TITLES)),
        (1200, f"location.hash = '#mild-line-3';{CHANGED}", ["mild"]),
        (1200, f"location.hash = '#<none>';{CHANGED}", ["no-loss"]),
    ],
)
def test_switch_of_the_hearing_loss(tmp_path: Path, width: int, script: str, visible: list[str]) -> None:
    page_of(with_audio(song(failed=True), 0.5), tmp_path / "report.html")
    found = browse(tmp_path / "report.html", tmp_path / "browser", width, script=script)
    assert_clean(found)
    assert found["title"] == "What a listener catches of song & <dance>.flac"
    assert "the <end>" in found["text"]
    assert [name for name, title in TITLES.items() if title in found["text"]] == visible


def test_page_without_scripts_has_all_hearing_losses_and_working_links(tmp_path: Path) -> None:
    page = page_of(song(), tmp_path / "report.html")
    assert all(title in page for title in TITLES.values())
    assert not re.search(r"<div[^>]* hidden", page)
    targets = set(re.findall(r'<a href="#([^"]*)"', page)) - {"all"}
    assert targets == set(re.findall(r' id="((?:no-loss|mild|moderate)[^"]*)"', page))
    assert "hidden] { display: block; }" in page[page.index("@media print", page.index("nav {")) :]


def test_lines_have_the_colour_of_their_score_at_their_time(tmp_path: Path) -> None:
    page = page_of(song(hearing_losses=("Moderate",)), tmp_path / "report.html")
    blocks = re.findall(r'<rect x="([\d.]+)" width="([\d.]+)" height="100" fill="([^"]+)"', page)
    assert [fill for _, _, fill in blocks] == [heat_colour(share)[0] for share in (0.4, 0.1, 0.5, 0.05)]
    # 10 s of 48 s each, 12 s apart, on a width of 1000
    assert [float(x) for x, _, _ in blocks] == pytest.approx([0, 250, 500, 750])
    assert [float(width) for _, width, _ in blocks] == pytest.approx([1000 * 10 / 48] * 4)
    assert "<script>" not in page  # there is nothing to switch


def test_page_escapes_lyrics(tmp_path: Path) -> None:
    page = page_of(song(("the <b>sun</b> & moon \x00\udc80",)), tmp_path / "report.html")
    assert "<b>sun" not in page
    assert "the &lt;b&gt;sun&lt;/b&gt; &amp; moon \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in page


@pytest.mark.slow
def test_click_plays_a_line_and_space_stops(tmp_path: Path) -> None:
    """On its words, in the waveform, and on a button of another hearing loss."""
    page_of(with_audio(song()), tmp_path / "report.html")
    places = ["#no-loss-line-2 .heat", '.wave a[href="#mild-line-3"] rect', "#no-loss-line-1 [data-sound=Moderate]"]
    script = PLAYS.replace("PLACES", json.dumps(places))
    messages = listen(tmp_path / "report.html", tmp_path / "browser", script)
    lines = ["no-loss-line-2 ▶ No Loss", "mild-line-3 ▶ Mild", "no-loss-line-1 ▶ Moderate"]
    assert messages == [*lines, "stopped true ", "the end"]


def test_audio_of_the_page_is_small_and_unclipped(tmp_path: Path) -> None:
    plain = song(LINES[:2], ("No Loss",))
    prediction = with_audio(plain)
    page, silent = page_of(prediction, tmp_path / "a.html"), page_of(plain, tmp_path / "b.html")
    assert len(page) - len(silent) <= 1e6 / 3  # 20 s
    sounds = json.loads(re.findall(r"const sounds = (.*);", page)[0])
    assert "<audio" not in silent
    assert set(prediction.plain()) == set(plain.plain())
    for signal, sound in zip(prediction.audio["No Loss"], sounds["No Loss"], strict=True):
        samples, _ = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert samples.T.shape == signal.samples.shape
        assert np.abs(samples.T - signal.samples / 1.5).max() < 0.1


@pytest.mark.slow
def test_words_with_times_are_underlined_while_they_are_sung(tmp_path: Path) -> None:
    page_of(with_audio(song(LINES[:1], ("Mild",))), tmp_path / "report.html")
    assert listen(tmp_path / "report.html", tmp_path / "browser", SUNG) == [
        "do, know, stopped: ",
        "the end",
    ]
