"""scow.song.report: the page of a song, read as markup and seen in a real browser where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import assert_clean, browse
from songs import LINES, song
from test_markup import read

from scow.reports.plots import heat_colour
from scow.song.report import song_report, write_song_report

TITLES = {
    "no-loss": "No hearing loss: 79.3",
    "mild": "Mild hearing loss: 52.9",
    "moderate": "Moderate hearing loss: 30.4",
}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    write_song_report(path, song(failed=True))
    return path


CHANGED = "dispatchEvent(new HashChangeEvent('hashchange'));"  # at once, because the page is looked at on load


def visible(report: Path, folder: Path, script: str) -> list[str]:
    """Severities that are to be seen after a script has run in the page."""
    found = browse(report, folder, 800, script=script)
    assert_clean(found)
    return [name for name, title in TITLES.items() if title in found.seen["text"]]


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_in_a_browser(report, tmp_path, width):
    found = browse(report, tmp_path / "browser", width)
    assert_clean(found)
    assert found.seen["title"] == "What a listener catches of song & <dance>.flac"
    assert "the <end>" in found.seen["text"]


def test_the_switch_shows_one_severity_at_a_time(report, tmp_path):
    assert visible(report, tmp_path / "0", "") == ["no-loss"]
    click = "document.querySelector('nav.switch a[href=\"#{}\"]').click();"
    assert visible(report, tmp_path / "1", click.format("moderate")) == ["moderate"]
    assert visible(report, tmp_path / "2", click.format("all")) == list(TITLES)


def test_a_line_of_the_waveform_leads_to_its_words(report, tmp_path):
    click = "location.hash = document.querySelectorAll('#mild .wave a')[2].getAttribute('href');" + CHANGED
    assert visible(report, tmp_path, click) == ["mild"]


def test_an_address_with_nonsense_shows_the_first_severity(report, tmp_path):
    assert visible(report, tmp_path, "location.hash = '#<none>';" + CHANGED) == ["no-loss"]


def test_without_scripts_all_severities_are_there():
    seen = read(song_report(song()))
    for title in TITLES.values():
        assert title in seen.text
    assert not [attributes for _, attributes in seen.tags if "hidden" in attributes]
    ids = {attributes["id"] for _, attributes in seen.tags if "id" in attributes}
    targets = {attributes["href"] for tag, attributes in seen.tags if tag == "a"} - {"#all"}
    assert {target.removeprefix("#") for target in targets} <= ids


def test_lines_stand_on_the_colour_of_their_score_where_they_are_sung():
    seen = read(song_report(song(hearing_losses=("Moderate",))))
    blocks = [attributes for tag, attributes in seen.tags if tag == "rect" and "fill" in attributes]
    assert [block["fill"] for block in blocks] == [heat_colour(share)[0] for share in (0.4, 0.1, 0.5, 0.05)]
    # 10 s of 48 s each, 12 s apart, on a width of 420
    assert [float(block["x"]) for block in blocks] == pytest.approx([0, 105, 210, 315])
    assert [float(block["width"]) for block in blocks] == pytest.approx([87.5] * 4)
    assert "script" not in [tag for tag, _ in seen.tags]  # there is nothing to switch


def test_lyrics_never_become_markup():
    seen = read(song_report(song()))
    assert "b" not in [tag for tag, _ in seen.tags]
    assert LINES[1] in seen.text


def test_a_single_excerpt_has_intervals_and_no_hardest_lines():
    seen = read(song_report(song(LINES[:1])))
    assert "45 to 95" in seen.text
    assert "Hardest" not in seen.text
