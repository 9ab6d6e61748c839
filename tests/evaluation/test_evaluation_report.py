"""The report of an evaluation, read by a parser and rendered by a browser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from browser import assert_clean, browse
from test_evaluation import files as files  # fixtures
from test_evaluation import records as records
from test_evaluation import write, write_words
from test_markup import read

from scow.evaluation.evaluate import EvaluationOptions, evaluate
from scow.evaluation.report import length_groups, report, write_report


@pytest.fixture
def full(files: EvaluationOptions, records) -> EvaluationOptions:
    """Everything that a report can show, and lyrics that try to be markup."""
    write_words(files.scores.with_name("valid_words.csv"), records)
    other = write(files.scores.with_name("other.csv"), records, np.linspace(0, 100, len(records)))
    return dataclasses.replace(files, against=other)


def test_every_part_is_there(full: EvaluationOptions) -> None:
    found = evaluate(full)
    seen = read(report(found))
    charts = [attributes["aria-label"] for tag, attributes in seen.tags if tag == "svg"]
    assert [label.partition(".")[0] for label in charts] == [
        "RMSE beside other systems",
        "True against predicted scores",
        "Calibration in tenths of the signals",
        "Residuals",
        "Residuals by severity",
        "Residuals by sentence length",
        "Calibration in tenths of the words",
        "Word probabilities",
    ]
    assert f"{found.agreements['all'].rmse.value:.2f} points" in seen.text
    for text in ("T045, Stereo Chorus of Whispers", "25.89", "26.44", "T045, official 25.89", "other.csv", "seed 0"):
        assert text in seen.text, text


def test_worst_misses_come_first_with_their_lyrics(full: EvaluationOptions) -> None:
    found = evaluate(full)
    text = read(report(found)).text
    text = text[text.index("worst misses") :]
    order = np.argsort(-np.abs(found.predicted - found.truth), kind="stable")
    places = [text.index(found.records[i].signal) for i in order[:20]]
    assert places == sorted(places)
    assert found.records[order[20]].signal not in text
    first = found.records[order[0]]
    assert text.index(first.prompt) < places[0]
    assert (first.response or "nothing") in text[: places[0]]


def test_lyrics_are_escaped(files: EvaluationOptions, records, tmp_path: Path) -> None:
    import json

    evil = '<script>document.title="broken"</script> rock & roll'
    content = json.loads(files.metadata.read_text(encoding="utf-8"))
    for raw in content:
        raw.update(prompt=evil, response=evil)
    files.metadata.write_text(json.dumps(content), encoding="utf-8")
    seen = read(report(evaluate(files)))
    assert "script" not in [tag for tag, _ in seen.tags]
    assert seen.text.count(evil) == 40  # prompt and response of twenty misses


def test_what_is_not_known_is_left_out(files: EvaluationOptions, records) -> None:
    path = files.metadata.with_name("mine.json")
    files.metadata.rename(path)
    seen = read(report(evaluate(dataclasses.replace(files, metadata=path))))
    assert "Official figures are left out" in seen.text
    assert "T045, official" not in seen.text
    assert "Reliability of word probabilities" not in seen.text


@pytest.mark.parametrize("width", [390, 1200])
def test_report_in_a_browser(full: EvaluationOptions, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    write_report(path, evaluate(full))
    found = browse(path, tmp_path / "browser", width)
    assert_clean(found)
    assert found.seen["charts"] == 8
    assert "worst misses" in found.seen["text"]


def test_report_of_three_signals_in_a_browser(files: EvaluationOptions, records, tmp_path: Path) -> None:
    """So few that hardly anything is defined: still a page without a NaN."""
    from helpers import write_metadata

    write_metadata(files.metadata, records[:3])
    write(files.scores, records[:3], [50.0, 50.0, 50.0])
    path = tmp_path / "report.html"
    write_report(path, evaluate(files))
    assert "nan" not in path.read_text(encoding="utf-8").lower().replace("nanum", "")
    assert_clean(browse(path, tmp_path / "browser", 390))


def test_sentence_lengths_are_put_together_until_they_count() -> None:
    lengths = [1] + [4] * 50 + [5] * 45 + [9, 12]
    found = length_groups(lengths)
    assert [name for name, _ in found] == ["1-4", "5-12"]
    assert [int(mask.sum()) for _, mask in found] == [51, 47]
    assert [name for name, _ in length_groups([6])] == ["6"]
    assert [name for name, _ in length_groups([3] * 10 + [4] * 10 + [7] * 10)] == ["3", "4", "7"]
