"""The page of a report, in a real browser where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import assert_clean, browse
from test_charts import CHARTS
from test_markup import read

from scow.reports.markup import Html, element
from scow.reports.page import Section, figure, grid, heat_words, note, page, table, write_page
from scow.reports.plots import heat_colour

EVIL = "<script>document.title = 'broken'</script> & \"quotes\""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A page with every chart and with text that tries to be markup."""
    sections = [
        Section("Charts", (grid(*(figure(draw(), name, EVIL) for name, draw in CHARTS.items())),)),
        Section(f"Text {EVIL}", (EVIL, note(EVIL), heat_words([EVIL, "word"], [0.2, 0.8], [EVIL, "80 %"]))),
        Section("Table", (table(["a", EVIL], [[EVIL, 1], [None, "x" * 400]], caption=EVIL, numeric=[1], ours=[0]),)),
    ]
    path = tmp_path / "page.html"
    write_page(path, page(f"Title {EVIL}", sections, lead=EVIL))
    return path


def test_text_never_becomes_markup(example: Path) -> None:
    seen = read(example.read_text(encoding="utf-8"))
    assert [tag for tag, _ in seen.tags].count("script") == 0
    # title, h1, lead, h2, p, note and word; a caption per chart; caption, header and cell of the table
    assert seen.text.count(EVIL) == 7 + len(CHARTS) + 3


def test_page_needs_nothing_from_elsewhere(example: Path) -> None:
    seen = read(example.read_text(encoding="utf-8"))
    for tag, attributes in seen.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policies = [dict(a)["content"] for tag, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"]
    assert "@import" not in example.read_text(encoding="utf-8")
    assert "url(" not in example.read_text(encoding="utf-8")


def test_rows_and_columns_are_marked() -> None:
    seen = read(table(["a", "b"], [["1", "2"], [None, Html("<b>3</b>")]], numeric=[1], wordy=[0], ours=[1]))
    cells = [attributes.get("class") for tag, attributes in seen.tags if tag == "td"]
    assert cells == ["words", "number", "words", "number"]
    assert [attributes.get("class") for tag, attributes in seen.tags if tag == "tr"] == [None, None, "ours"]
    assert seen.text == "ab123"


def test_words_carry_their_probability() -> None:
    seen = read(heat_words(["lost", "caught"], [0.1, 0.9]))
    assert [attributes["title"] for _, attributes in seen.tags] == ["10 %", "90 %"]
    assert heat_colour(0.1)[0] in (seen.tags[0][1]["style"] or "")
    assert seen.text == "lost caught"


@pytest.mark.parametrize("width", [390, 1200])
def test_page_in_a_browser(example: Path, tmp_path: Path, width: int) -> None:
    found = browse(example, tmp_path / "browser", width)
    assert_clean(found)
    assert found.seen["title"] == f"Title {EVIL}"
    assert found.seen["charts"] == len(CHARTS)
    assert min(found.seen["widths"]) > 300


def test_page_follows_a_dark_screen(example: Path, tmp_path: Path) -> None:
    light, dark = (
        browse(example, tmp_path / name, 1200, f"--blink-settings=preferredColorScheme={scheme}").seen["paper"]
        for name, scheme in (("light", 1), ("dark", 0))
    )
    assert light == "rgb(255, 255, 255)"
    assert dark == "rgb(16, 21, 27)"


def test_policy_stops_what_would_load(tmp_path: Path) -> None:
    """That the tests above would notice: a page that asks for a picture is refused it, and the console says so."""
    path = tmp_path / "page.html"
    outside = element("img", src="http://127.0.0.1:9/x.png")
    write_page(path, page("t", [Section("s", (outside,))]))
    found = browse(path, tmp_path / "browser")
    assert any("Content Security Policy" in line for line in found.console)
