"""The report of an evaluation, as HTML and in a browser."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import assert_clean, browse
from helpers import write_metadata, write_words

from scow.data.scores import write_scores
from scow.evaluation.evaluate import evaluate
from scow.evaluation.report import report_plots, write_report

EVIL = '<script>document.title="broken"</script> rock & roll'


def page_of(files, path: Path) -> tuple[str, str]:
    """The report as HTML, and its text without tags."""
    found = evaluate(**files)
    write_report(path, found, report_plots(found))
    page = path.read_text(encoding="utf-8")
    return page, html.unescape(re.sub(r"<[^>]*>", " ", page))


@pytest.fixture
def full(files, records) -> dict:
    """Options for a report with everything."""
    write_words(files["scores"].with_name("valid_words.csv"), records)
    other = files["scores"].with_name("other.csv")
    write_scores(other, [r.signal for r in records], np.linspace(0, 100, len(records)))
    return {**files, "against": other}


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_report_in_a_browser(full, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    page, text = page_of(full, path)
    labels = re.findall(r'role="img" aria-label="([^.]*)\. [^"]*\d', page)
    assert len(labels) == 8
    assert all(part in text for part in ("T045, Stereo Chorus of Whispers", "25.89", "other.csv", "seed 0"))
    found = browse(path, tmp_path / "browser", width)
    assert_clean(found)
    assert found["plots"] == 8
    misses = text[text.index("worst misses") :]
    signals = evaluate(**full).signals
    order = signals.loc[(signals["predicted"] - signals["true"]).abs().sort_values(ascending=False).index, "signal"]
    places = [misses.index(signal) for signal in order[:20]]
    assert (places, order.iloc[20] in misses) == (sorted(places), False)


@pytest.mark.slow
def test_report_of_three_signals_with_markup_in_lyrics(files, records, tmp_path: Path) -> None:
    """Few signals of a split that is neither valid nor eval: hardly anything is defined, and texts are escaped."""
    files["metadata"] = write_metadata(tmp_path / "mine.json", records[:3])
    content = json.loads(files["metadata"].read_text(encoding="utf-8"))
    files["metadata"].write_text(json.dumps([raw | {"prompt": EVIL, "response": EVIL} for raw in content]))
    write_scores(files["scores"], [r.signal for r in records[:3]], np.full(3, 50.0))
    page, text = page_of(files, tmp_path / "report.html")
    assert "<script>" not in page
    assert text.count(EVIL) == 6  # prompt and response of three misses
    assert "Official results are left out" in text
    assert not re.search(r"\bnan\b", text)
    found = browse(tmp_path / "report.html", tmp_path / "browser", 390)
    assert_clean(found)
    assert found["title"].startswith("Evaluation of ")
