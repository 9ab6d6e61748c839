"""scow.song.labels: hard lines and words as Audacity reads them."""

import csv

import pytest
from songs import song, with_audio

from scow.song.labels import write_labels


def labels(path, prediction, below):
    write_labels(path, prediction, below)
    with path.open(encoding="utf-8", newline="") as file:
        return [(float(start), float(end), text) for start, end, text in csv.reader(file, delimiter="\t")]


def test_labels_of_lines_and_words_below_the_limit(tmp_path):
    moderate = with_audio(song(("do you\tknow", "the sun", "la la"), ("Moderate",)))  # 40, 10 (none caught) and 50
    path = tmp_path / "labels.txt"
    found = [
        (0.0, 0.3, "40: do"),
        (0.0, 10.0, "40: do you know (you 40)"),
        (0.6, 0.9, "40: know"),
        (12.0, 12.3, "10: the"),
        (12.0, 22.0, "no word caught: the sun (sun 10)"),
    ]
    assert labels(path, moderate, 50) == [
        (pytest.approx(start), pytest.approx(end), text) for start, end, text in found
    ]
    assert [text for *_, text in labels(path, moderate, 40)] == [text for *_, text in found[3:]]
    # A line in which nothing was caught has a label whatever its score, here the floor.
    assert labels(path, moderate, 0) == [(12.0, 22.0, "no word caught: the sun")]


def test_labels_name_the_hearing_loss_where_there_are_several(tmp_path):
    found = labels(tmp_path / "labels.txt", song(("do you",)), 80)
    assert {text for *_, text in found} == {"Mild 70: do you (do 70, you 70)", "Moderate 40: do you (do 40, you 40)"}
    assert {(start, end) for start, end, _ in found} == {(0.0, 10.0)}
