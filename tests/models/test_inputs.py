"""scow.models.inputs: two tables become tensors; the referee reads the same files row by row with csv."""

import csv
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_tables, refusal

from scow.data.metadata import SignalRecord, metadata_table
from scow.data.tables import with_sentence_rows, write_table
from scow.errors import UserError
from scow.models.inputs import ModelInput, join_inputs, load_input

COLUMNS = ["n_words", "tiny.en", "stoi", "pesq"]
HEARING_LOSSES = ["No Loss", "Mild", "Moderate"]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def edit(path: Path, change: Change, encoding: str = "utf-8") -> None:
    """Rewrite a table by way of its cells as text."""
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False, encoding=encoding)


def setting(column: str, value: str, signal: str) -> Change:
    return lambda table: table.assign(**{column: table[column].mask(table["signal"] == signal, value)})


def backwards(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("signal", ascending=False, kind="stable")


def same(one: ModelInput, other: ModelInput) -> bool:
    ours, theirs = vars(one), vars(other)
    return all(
        torch.equal(torch.nan_to_num(ours[name], nan=-1.0), torch.nan_to_num(theirs[name], nan=-1.0))
        if torch.is_tensor(ours[name])
        else ours[name] == theirs[name]
        for name in ours
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_load_input_against_csv(tmp_path, encoding):
    paths = make_tables(tmp_path, 15)
    for path in paths:
        edit(path, setting("pesq", "", signal="0002"), encoding)  # a missing cell is 0.0
    edit(paths[1], backwards)  # the left order counts
    inputs = load_input(*paths, COLUMNS)
    rows_of_channel = [read_rows(path) for path in paths]
    assert inputs.signals == tuple(dict.fromkeys(row["signal"] for row in rows_of_channel[0]))
    assert inputs.features.dtype == torch.float32
    assert inputs.features.shape == (15, 2, int(inputs.n_rows.max()), 4)
    for i, signal in enumerate(inputs.signals):
        for channel, rows in enumerate(rows_of_channel):
            own = [row for row in rows if row["signal"] == signal]
            ordered = sorted(own, key=lambda row: row["word"] != "SENTENCE_SCORE")
            expected = np.array([[float(row[c] or 0.0) for c in COLUMNS] for row in ordered], dtype=np.float32)
            assert int(inputs.n_rows[i]) == len(ordered)
            np.testing.assert_array_equal(inputs.features[i, channel, : len(ordered)], expected)
            assert not inputs.features[i, channel, len(ordered) :].any()
        assert (inputs.prompts[i], inputs.responses[i]) == (own[0]["prompt"], own[0]["response"])
        assert inputs.words[i] == tuple(row["word"] for row in ordered[1:])
        assert HEARING_LOSSES[int(inputs.hearing_loss[i])] == own[0]["hearing_loss"]
        assert float(inputs.target[i]) == float(own[0]["correctness"])
    assert not inputs.features[2, :, :, 3].any()
    assert join_inputs([inputs, inputs.take(torch.arange(0))]).empty["pesq"] == 2
    assert inputs.empty == {"pesq": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table[table["signal"] != "0004"], "same signals, found 1 in only one, for instance 0004"),
        (lambda table: table.replace("go", "went", regex=True), "same word in both, found signal 0000"),
        (setting("hearing_loss", "Mild", signal="0002"), "same hearing_loss in both, found signal 0002"),
        (setting("correctness", "0.9", signal="0001"), "same correctness in both, found signal 0001"),
        (setting("correctness", "", signal="0003"), "same correctness in both, found signal 0003"),
        (
            lambda table: table.query("signal != '0001' or word_count != '0'"),
            r"SENTENCE_SCORE row .* 0001; run python whisper_inference.py",
        ),
        (setting("tiny.en", "inf", signal="0002"), "tiny.en"),
        (setting("tiny.en", "1e39", signal="0002"), "tiny.en"),
    ],
)
@pytest.mark.parametrize("channel", [0, 1])
def test_load_input_refuses_tables(tmp_path, change, words, channel):
    paths = make_tables(tmp_path)
    edit(paths[channel], change)
    with refusal(f"{tmp_path}.*({words})"):
        load_input(*paths, COLUMNS)


def test_load_input_columns(tmp_path):
    left, right = make_tables(tmp_path)
    edit(right, lambda table: table.drop(columns=["large-v2", "dns_sig"]))
    for columns, words in (
        (["tiny.en", "large-v2"], "t_r.csv: .*large-v2.*python whisper_inference.py"),
        (["dns_sig"], "t_r.csv: .*dns_sig.*python compute_metrics.py"),
        (["tiny", "prompt"], "column prompt"),
        (["tiny.en", "pesk"], "column pesk.*did you mean pesq"),
    ):
        with pytest.raises(UserError, match=words):
            load_input(left, right, columns)
    dnsmos = ["dns_sig", "dns_bak", "dns_ovrl"]
    inputs = load_input(left, right, ["stoi", *dnsmos, "tiny"], optional_cols=dnsmos)
    assert same(inputs, load_input(left, right, ["stoi", "tiny"]))
    whole = load_input(left, left, ["stoi", *dnsmos, "tiny"], optional_cols=dnsmos)
    assert whole.feature_cols == ("stoi", *dnsmos, "tiny")


@pytest.mark.parametrize("n_words", [509, 510])
def test_load_input_longest_prompt(tmp_path, n_words):
    """512 positions: two front tokens, the sentence row, 509 words."""
    record = SignalRecord("a", " ".join(["la"] * n_words), "Mild", "", 9.0, 1.0, 0.5)
    write_table(with_sentence_rows(metadata_table([record])).assign(tiny=0.25), tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"signal a: .* 509 words, found 510") if n_words > 509 else nullcontext():
        assert load_input(tmp_path / "t.csv", tmp_path / "t.csv", ["tiny"]).n_rows.tolist() == [510]


def test_take_and_join(tmp_path):
    whole = load_input(*make_tables(tmp_path, 15), COLUMNS)
    taken = whole.take(torch.tensor([8, 3, 12, 3]))  # prompts of 3, 5 and 1 words
    assert taken.signals == ("0008", "0003", "0012", "0003")
    assert taken.words == tuple(whole.words[i] for i in (8, 3, 12, 3))
    assert torch.equal(taken.features, whole.features[[8, 3, 12, 3]][:, :, :6])  # five words and the sentence row
    assert whole.take(torch.tensor([], dtype=torch.int64)).features.shape == (0, 2, 0, 4)
    # The longest prompt is in the middle, and one of the parts has short prompts only.
    parts = [whole.take(index) for index in (torch.arange(12, 15), torch.arange(0, 9), torch.arange(9, 12))]
    assert len({part.features.shape[2] for part in parts}) > 1
    assert same(join_inputs(parts), whole.take(torch.tensor([12, 13, 14, *range(12)])))
    with pytest.raises(UserError, match="each signal once, found 0003 twice"):
        join_inputs([whole.take(torch.tensor([3, 4])), whole.take(torch.tensor([5, 3]))])
