"""scow.models.inputs: two tables on disk become tensors; the referee reads the same files row by row with csv."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_tables

from scow.errors import UserError
from scow.models.config import data_options
from scow.models.inputs import join_inputs, load_input

COLUMNS = ["n_words", "tiny.en", "stoi", "pesq"]
SEVERITIES = ["No Loss", "Mild", "Moderate"]
Rows = list[dict[str, str]]


def read_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def edit(path: Path, change: Callable[[Rows], Rows], encoding: str = "utf-8") -> None:
    """Rewrite a table by way of its rows as text."""
    rows = change(read_rows(path))
    with path.open("w", encoding=encoding, newline="") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def setting(column: str, value: str, where: Callable[[dict[str, str]], bool]) -> Callable[[Rows], Rows]:
    return lambda rows: [{**row, column: value} if where(row) else row for row in rows]


def same_batch(one, other) -> bool:
    return (
        one.signals == other.signals
        and (one.prompts, one.responses, one.words) == (other.prompts, other.responses, other.words)
        and torch.equal(one.features, other.features)
        and torch.equal(one.n_rows, other.n_rows)
        and torch.equal(one.hearing_loss, other.hearing_loss)
        and torch.equal(torch.nan_to_num(one.target, nan=-1.0), torch.nan_to_num(other.target, nan=-1.0))
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_batch_is_what_a_reader_of_the_files_sees(tmp_path, encoding):
    left, right = make_tables(tmp_path, 15)
    for path in (left, right):
        edit(path, lambda rows: rows, encoding)
    batch = load_input(left, right, COLUMNS)
    rows_of_ear = [read_rows(left), read_rows(right)]
    signals = list(dict.fromkeys(row["signal"] for row in rows_of_ear[0]))
    assert batch.signals == tuple(signals) == tuple(f"{i:04d}" for i in range(15))
    assert batch.features.dtype == torch.float32
    longest = 0
    for i, signal in enumerate(signals):
        for ear, rows in enumerate(rows_of_ear):
            own = [row for row in rows if row["signal"] == signal]
            ordered = [row for row in own if row["word"] == "SENTENCE_SCORE"]
            ordered += [row for row in own if row["word"] != "SENTENCE_SCORE"]
            expected = np.array([[float(row[c] or 0.0) for c in COLUMNS] for row in ordered], dtype=np.float32)
            assert int(batch.n_rows[i]) == len(ordered) == len(own[0]["prompt"].split()) + 1
            np.testing.assert_array_equal(batch.features[i, ear, : len(ordered)], expected)
            assert not batch.features[i, ear, len(ordered) :].any()
            assert own[0]["word"] != "SENTENCE_SCORE"  # in the file the sentence row is last
        assert batch.prompts[i] == own[0]["prompt"]
        assert batch.responses[i] == own[0]["response"] == "something"
        assert batch.words[i] == tuple(row["word"] for row in ordered[1:])
        assert SEVERITIES[int(batch.hearing_loss[i])] == own[0]["hearing_loss"]
        assert float(batch.target[i]) == float(own[0]["correctness"])
        longest = max(longest, len(ordered))
    assert batch.features.shape == (15, 2, longest, 4)
    assert batch.feature_cols == tuple(COLUMNS)


def test_features_come_in_the_order_asked_for(tmp_path):
    left, right = make_tables(tmp_path)
    turned = load_input(left, right, COLUMNS[::-1])
    assert torch.equal(turned.features, load_input(left, right, COLUMNS).features.flip(3))


def test_missing_cells_are_zero(tmp_path):
    left, right = make_tables(tmp_path)
    whole = load_input(left, right, COLUMNS)
    edit(right, setting("pesq", "", lambda row: row["signal"] == "0002"))
    batch = load_input(left, right, COLUMNS)
    assert torch.equal(batch.features[2, 1, :, 3], torch.zeros(batch.features.shape[2]))
    expected = whole.features.clone()
    expected[2, 1, :, 3] = 0.0
    assert torch.equal(batch.features, expected)
    assert not batch.features[:, :, 0, 0].any()  # a sentence row has no n_words
    assert batch.features[:, :, 1, 0].all()


def test_order_of_the_right_table_does_not_matter(tmp_path):
    left, right = make_tables(tmp_path, 9)
    batch = load_input(left, right, COLUMNS)
    # Signals backwards, words of each in their order, sentence rows among them.
    edit(right, lambda rows: sorted(rows, key=lambda row: row["signal"], reverse=True))
    assert same_batch(load_input(left, right, COLUMNS), batch)
    edit(left, lambda rows: sorted(rows, key=lambda row: row["signal"], reverse=True))
    backwards = load_input(left, right, COLUMNS)
    assert backwards.signals == batch.signals[::-1]
    assert same_batch(backwards.take(torch.arange(9).flip(0)), batch)


def without(signal: str) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if row["signal"] != signal]


def without_last_word_of(signal: str) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        last = max(i for i, row in enumerate(rows) if row["signal"] == signal and row["word_count"] == "1")
        return rows[:last] + rows[last + 1 :]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("0004"), "1 in only one, for instance 0004"),
        (setting("word", "went", lambda row: row["word"] == "go"), "expected the same word in both, found signal 0000"),
        (
            setting("hearing_loss", "Mild", lambda row: row["signal"] == "0002"),
            "expected the same hearing_loss in both, found signal 0002",
        ),
        (
            setting("correctness", "0.9", lambda row: row["signal"] == "0001"),
            "expected the same correctness in both, found signal 0001",
        ),
        (
            setting("correctness", "", lambda row: row["signal"] == "0003"),
            "expected the same correctness in both, found signal 0003",
        ),
        (without_last_word_of("0005"), "expected the same word in both, found signal 0005"),
    ],
)
@pytest.mark.parametrize("ear", [0, 1])
def test_tables_that_disagree_are_refused(tmp_path, change, says, ear):
    paths = make_tables(tmp_path)
    edit(paths[ear], change)
    with pytest.raises(UserError, match=says) as caught:
        load_input(*paths, COLUMNS)
    assert str(paths[0]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_in_another_order_are_refused(tmp_path):
    left, right = make_tables(tmp_path)
    edit(right, lambda rows: rows[::-1])
    with pytest.raises(UserError, match="expected the same word in both, found signal 0000"):
        load_input(left, right, COLUMNS)


@pytest.mark.parametrize("ear", [0, 1])
def test_missing_sentence_rows_name_the_stage(tmp_path, ear):
    paths = make_tables(tmp_path)
    edit(paths[ear], lambda rows: [r for r in rows if r["word_count"] == "1" or r["signal"] not in ("0003", "0001")])
    with pytest.raises(UserError, match=r"2 of 6, for instance 0001; run python whisper_inference.py"):
        load_input(*paths, COLUMNS)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["tiny.en", "large-v2"], "t_r.csv: expected the columns large-v2, .*with python whisper_inference.py$"),
        (["pesq", "stoi"], "t_r.csv: expected the columns stoi, .*with python compute_metrics.py$"),
        (["stoi", "base"], "columns stoi, base, .*whisper_inference.py and python compute_metrics.py"),
        (["tiny.en", "pesk"], "no column 'pesk'; did you mean pesq"),
    ],
)
def test_missing_feature_column_names_the_stage(tmp_path, columns, says):
    left, right = make_tables(tmp_path)
    edit(right, lambda rows: [{k: v for k, v in row.items() if k not in ("large-v2", "stoi", "base")} for row in rows])
    if "pesk" in columns:
        right = left
    with pytest.raises(UserError, match=says):
        load_input(left, right, columns)


@pytest.mark.parametrize("column", ["word", "prompt"])
def test_text_column_is_no_feature(tmp_path, column):
    with pytest.raises(UserError, match=column):
        load_input(*make_tables(tmp_path), ["tiny", column])


def test_text_column_is_no_target(tmp_path):
    with pytest.raises(UserError, match="hearing_loss"):
        load_input(*make_tables(tmp_path), ["tiny"], target="hearing_loss")


@pytest.mark.parametrize("cell", ["inf", "-inf", "1e39"])
def test_infinite_cell_is_refused(tmp_path, cell):
    left, right = make_tables(tmp_path)
    edit(right, setting("tiny", cell, lambda row: row["signal"] == "0002"))
    with pytest.raises(UserError, match="tiny"):
        load_input(left, right, ["tiny"])


def test_unlabelled_tables(tmp_path):
    batch = load_input(*make_tables(tmp_path, labelled=False), COLUMNS)
    assert torch.isnan(batch.target).all()
    assert not batch.labelled.any()


def test_half_labelled_tables(tmp_path):
    paths = make_tables(tmp_path)
    for path in paths:
        edit(path, setting("correctness", "", lambda row: row["signal"] in ("0000", "0003")))
    assert load_input(*paths, COLUMNS).labelled.tolist() == [False, True, True, False, True, True]


def test_other_target_is_the_mean_of_the_sentence_rows(tmp_path):
    left, right = make_tables(tmp_path)
    batch = load_input(left, right, ["stoi"], target="tiny.en")
    for i, signal in enumerate(batch.signals):
        cells = [
            float(row["tiny.en"])
            for path in (left, right)
            for row in read_rows(path)
            if row["signal"] == signal and row["word_count"] == "0"
        ]
        assert len(cells) == 2
        assert cells[0] != cells[1]
        assert float(batch.target[i]) == np.float32((cells[0] + cells[1]) / 2)


def test_take(tmp_path):
    batch = load_input(*make_tables(tmp_path, 15), COLUMNS)
    index = torch.tensor([8, 3, 12, 3])  # prompts of 3, 5 and 1 words
    taken = batch.take(index)
    assert taken.signals == ("0008", "0003", "0012", "0003")
    for name in ("prompts", "responses", "words"):
        assert getattr(taken, name) == tuple(getattr(batch, name)[i] for i in (8, 3, 12, 3))
    assert taken.feature_cols == batch.feature_cols
    assert len(taken) == 4
    assert taken.features.shape == (4, 2, 6, 4)  # five words and the sentence row
    assert torch.equal(taken.features, batch.features[index][:, :, :6])
    for name in ("n_rows", "hearing_loss", "target"):
        assert torch.equal(getattr(taken, name), getattr(batch, name)[index])
    assert batch.take(torch.tensor([12])).features.shape == (1, 2, 2, 4)
    nothing = batch.take(torch.tensor([], dtype=torch.int64))
    assert len(nothing) == 0
    assert nothing.features.shape == (0, 2, 0, 4)


def one_signal_table(path: Path, n_words: int) -> Path:
    words = [f"w{i}" for i in range(n_words)]
    rows = [{"word": word, "word_count": 1} for word in words] + [{"word": "SENTENCE_SCORE", "word_count": 0}]
    table = pd.DataFrame(rows).assign(
        signal="a", prompt=" ".join(words), response="", n_words=n_words, words_correct=1, correctness=0.5
    )
    table.assign(hearing_loss="Mild", tiny=0.25).to_csv(path, index=False)
    return path


def test_as_many_words_as_there_are_positions(tmp_path):
    # 512 positions: two front tokens, the sentence row, 509 words.
    longest = one_signal_table(tmp_path / "longest.csv", 509)
    assert load_input(longest, longest, ["tiny"]).n_rows.tolist() == [510]
    longer = one_signal_table(tmp_path / "longer.csv", 510)
    with pytest.raises(UserError, match="signal a: expected at most 509 words, found 510"):
        load_input(longer, longer, ["tiny"])


def test_data_options():
    options = data_options(
        {
            "csv_path_l": "data\\train\\l.csv",
            "csv_path_r": "data/train/r.csv",
            "valid_path_l": "v_l.csv",
            "valid_path_r": "v_r.csv",
            "eval_path_l": None,
            "eval_path_r": None,
            "metadata": "data\\m.json",
            "feature_cols": ["tiny", "stoi"],
        }
    )
    assert options.tables == {
        "train": (Path("data/train/l.csv"), Path("data/train/r.csv")),
        "valid": (Path("v_l.csv"), Path("v_r.csv")),
    }
    assert options.feature_cols == ("tiny", "stoi")
    assert options.target == "correctness"
    assert options.metadata == (Path("data/m.json"),)
    assert options.prior_metadata == ()
    assert options.train_tables == (options.tables["train"],)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"feature_cols": ["tiny"], "eval_path_r": "r.csv"}, "only one for the split eval"),
        ({"feature_cols": ["tiny"], "csv_path_l": "l.csv", "csv_path_r": None}, "only one for the split train"),
        ({}, "data.feature_cols: expected a list of column names, found None"),
        ({"feature_cols": []}, "data.feature_cols"),
        ({"feature_cols": "tiny"}, "data.feature_cols: .*found 'tiny'"),
        ({"feature_cols": ["tiny", 3]}, "data.feature_cols"),
        ({"feature_cols": ["tiny", "stoi", "tiny"]}, "data.feature_cols: expected each column once"),
        ({"feature_cols": ["tiny"], "tables": ["l.csv", "r.csv"]}, "data.tables: expected pairs of tables"),
        ({"feature_cols": ["tiny"], "tables": [["l.csv"]]}, "data.tables: expected pairs of tables"),
        ({"feature_cols": ["tiny"], "tables": "l.csv"}, "data.tables: expected pairs of tables"),
        ({"feature_cols": ["tiny"], "metadata": 5}, "data.metadata: expected a path or a list of paths, found 5"),
        ({"feature_cols": ["tiny"], "prior_metadata": ["a.json", 5]}, "data.prior_metadata: expected a path or a list"),
        (5, "data: expected a mapping"),
    ],
)
def test_data_options_refuse(section, says):
    with pytest.raises(UserError, match=says):
        data_options(section)


def test_data_options_of_several_tables():
    section = {"feature_cols": ["tiny"], "csv_path_l": "l.csv", "csv_path_r": "r.csv"}
    options = data_options(
        {
            **section,
            "tables": [["a\\l.csv", "a/r.csv"], ["b_l.csv", "b_r.csv"]],
            "metadata": ["a\\m.json", "b.json"],
            "prior_metadata": "c\\m.json",
        }
    )
    assert options.train_tables == ((Path("a/l.csv"), Path("a/r.csv")), (Path("b_l.csv"), Path("b_r.csv")))
    assert options.tables["train"] == (Path("l.csv"), Path("r.csv"))  # for inference
    assert options.metadata == (Path("a/m.json"), Path("b.json"))
    assert options.prior_metadata == (Path("c/m.json"),)
    alone = data_options({**section, "tables": None, "metadata": None})
    assert alone.train_tables == ((Path("l.csv"), Path("r.csv")),)
    assert alone.metadata == ()
    assert data_options({"feature_cols": ["tiny"]}).train_tables == ()


def test_joined_batches_are_those_of_one_table(tmp_path):
    left, right = make_tables(tmp_path, 15)
    whole = load_input(left, right, COLUMNS)
    # The longest prompt is in the middle, and one of the parts is of short prompts only.
    parts = [whole.take(index) for index in (torch.arange(12, 15), torch.arange(0, 9), torch.arange(9, 12))]
    assert len({part.features.shape[2] for part in parts}) > 1
    joined = join_inputs(parts)
    assert joined.feature_cols == whole.feature_cols
    assert same_batch(joined, whole.take(torch.tensor([12, 13, 14, *range(12)])))
    assert join_inputs(parts[:1]) is parts[0]
    with pytest.raises(UserError, match=r"expected each signal once, found 0003 twice"):
        join_inputs([whole.take(torch.tensor([3, 4])), whole.take(torch.tensor([5, 3]))])


def test_signal_without_words_is_refused(tmp_path):
    paths = make_tables(tmp_path)
    for path in paths:
        edit(path, lambda rows: [r for r in rows if r["word_count"] == "0" or r["signal"] != "0002"])
    with pytest.raises(UserError, match=r"signal 0002: expected word rows"):
        load_input(*paths, COLUMNS)


def test_challenge_data(clip1):
    folder = clip1 / "cadenza_data_valid" / "metadata"
    left, right = folder / "valid_metadata_l.csv", folder / "valid_metadata_r.csv"
    columns = "n_words tiny tiny.en base base.en small small.en medium medium.en large large-v2 large-v3 large-v3-turbo"
    columns += " stoi estoi pesq dns_sig dns_bak dns_ovrl"
    batch = load_input(left, right, columns.split())
    assert len(batch) == 1175
    assert batch.features.shape[::3] == (1175, 19)
    assert int(batch.n_rows.sum()) == 8623 + 1175  # word rows and sentence rows
    assert batch.labelled.all()
    assert torch.isfinite(batch.features).all()
    empty = {row["signal"] for row in read_rows(left) if row["pesq"] == ""}
    assert len(empty) == 48
    zero_pesq = (batch.features[:, 0, :, 15] == 0).all(dim=1)
    assert {signal for signal, zero in zip(batch.signals, zero_pesq, strict=True) if zero} == empty
