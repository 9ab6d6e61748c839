"""Metadata and responses to records and tables."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import REFUSALS, golden, refusal
from hypothesis import given
from hypothesis import strategies as st

from scow.data.metadata import convert_metadata, metadata_table, read_metadata
from scow.data.tables import read_table, write_table
from scow.io import write_json
from scow.text.labels import word_labels
from scow.text.normalize import prompt_words

GOLDEN = golden("metadata.yaml")
LABELLED, CLIP2, ANSWERS = GOLDEN["labelled"], GOLDEN["clip2"], GOLDEN["answers"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CLEANED = dict.fromkeys([*range(32), 127], " ")  # control characters would break a table's rows


def written(folder: Path, content: object, name: str = "valid_metadata.json") -> Path:
    write_json(folder / name, content)
    return folder / name


def test_convert_metadata_writes_two_equal_tables_with_a_row_per_word(tmp_path):
    done = convert_metadata(written(tmp_path, [LABELLED, CLIP2, {**LABELLED, "signal": "9", "n_words": 8}]))
    assert done.tables == (tmp_path / "valid_metadata_l.csv", tmp_path / "valid_metadata_r.csv")
    assert (done.n_signals, done.n_rows, done.miscounted) == (3, 10, ["9"])
    lines = done.tables[0].read_text(encoding="utf-8").splitlines()
    assert lines[0] == "signal,prompt,response,n_words,words_correct,correctness,hearing_loss,word,word_count"
    assert lines[1:4] == [
        f'0012,"you, and *me*",you and,3.0,2.0,0.6666666667,Mild,{word},1' for word in ("you", "and", "me")
    ]
    assert lines[4:8] == [f"0034,don’t nan null ?,,4.0,,,No Loss,{word},1" for word in ("don't", "nan", "null", "?")]
    assert done.tables[0].read_bytes() == done.tables[1].read_bytes()


@given(TEXTS.filter(lambda text: prompt_words(text.translate(CLEANED))), st.none() | TEXTS, st.none() | st.floats(0, 1))
def test_convert_metadata_keeps_any_text_and_number_of_the_json(tmp_path_factory, prompt, response, correctness):
    path = tmp_path_factory.mktemp("m") / "m.json"
    raw = {"signal": "1", "prompt": prompt, "response": response, "correctness": correctness, "hearing_loss": "Mild"}
    path.write_text(json.dumps([raw]), encoding="utf-8-sig")
    table = read_table(convert_metadata(path).tables[1])
    assert tuple(table["word"]) == prompt_words(prompt.translate(CLEANED))
    assert set(table["response"]) == {(response or "").translate(CLEANED).replace("|", " ")}
    assert set(table["correctness"].dropna()) == {correctness} - {None}


@pytest.mark.parametrize("channel", ["l", "r"])
def test_metadata_table_of_real_metadata_has_the_published_base_columns(clip1, tmp_path, channel):
    folder = clip1 / "cadenza_data_valid" / "metadata"
    write_table(metadata_table(read_metadata(folder / "valid_metadata.json")), tmp_path / "t.csv")
    table, published = read_table(tmp_path / "t.csv"), read_table(folder / f"valid_metadata_{channel}.csv")
    published = published[published["word_count"] == 1].reset_index(drop=True)
    assert len(table) == 8_623
    # The metadata hold ten decimals, the published tables nine: they differ by half a unit of the ninth.
    np.testing.assert_allclose(table.pop("correctness"), published.pop("correctness"), rtol=0, atol=5.1e-10)
    pd.testing.assert_frame_equal(table, published[list(table.columns)])


def test_responses_fill_what_a_record_lacks_with_the_mean_over_listeners(tmp_path):
    half = [{"response": "nan"}, {"response": "null", "correctness": 0.5, "hits": 2}]
    responses = written(tmp_path, {"0034": ANSWERS, "0012": ANSWERS, "1": half, "elsewhere": ANSWERS}, "r.json")
    path = written(tmp_path, [CLIP2, LABELLED, {**CLIP2, "signal": "1"}, {**CLIP2, "signal": "2"}])
    mean, labelled, known_of_one, unanswered = read_metadata(path, responses)
    assert (mean.correctness, mean.words_correct) == (1 / 3, 4 / 3)
    assert mean.response == "don't |  | don't   nan"  # the bar was a listener's
    assert word_labels(prompt_words(mean.prompt), mean.response) == (2 / 3, 1 / 3, 0, 0)
    assert labelled == read_metadata(path)[1]  # the metadata take precedence
    assert (known_of_one.correctness, math.isnan(known_of_one.words_correct)) == (0.5, True)
    assert (unanswered.response, math.isnan(unanswered.correctness)) == ("", True)
    assert convert_metadata(path, responses=responses).n_answered == 3


# What YAML cannot hold, or not in a line.
LONG = {"response": ["x" * 200_000], "prompt": ["w " * 510, "w " * 200_000, "you \ud800"]}
LONG |= {"n_words": [10**400], "signal": ["\ud800"]}


@pytest.mark.parametrize(
    ("metadata", "responses", "message"),
    [
        *[(content, None, r"m\.json: expected a list of signal records") for content in ({}, [])],
        ([7], None, r"m\.json, record 1: expected the fields signal, prompt, hearing_loss"),
        ([CLIP2, {"signal": "0012", "prompt": "you"}], None, r"m\.json, record 2: .*hearing_loss"),
        ([LABELLED, CLIP2, LABELLED], None, r"m\.json: .*found 0012 twice"),
        *[
            ([CLIP2, {**LABELLED, field: value}], None, rf"m\.json, record 2.*{message}")
            for message, fields in REFUSALS["metadata"].items()
            for field, values in fields.items()
            for value in values + LONG.get(field, [])
        ],
        *[([CLIP2], content, rf"r\.json.*{message}") for message, content in REFUSALS["responses"]],
    ],
)
def test_malformed_metadata_and_responses_are_refused_in_one_line(tmp_path, metadata, responses, message):
    paths = [tmp_path / "m.json", tmp_path / "r.json"]
    for path, content in zip(paths, (metadata, responses), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    with refusal(message):
        convert_metadata(paths[0], responses=None if responses is None else paths[1])
    assert sorted(tmp_path.iterdir()) == paths
