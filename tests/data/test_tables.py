"""The per-ear feature table: nothing changes on the way to disk and back, and what is wrong is named."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import make_records, make_tables

from scow.data.metadata import SignalRecord, metadata_table
from scow.data.tables import (
    BASE_COLUMNS,
    FEATURE_COLUMNS,
    METRIC_COLUMNS,
    SENTENCE_WORD,
    TEXT_COLUMNS,
    WHISPER_COLUMNS,
    check_hearing_loss,
    feature_columns,
    order_columns,
    read_table,
    require_columns,
    with_sentence_rows,
    write_table,
)
from scow.errors import UserError

HEADER = ",".join(BASE_COLUMNS)
ROW = "0012,oh my,oh me,2.0,1.0,0.5,Mild,oh,1"


def write_text(path: Path, *lines: str) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- round trips


@pytest.mark.parametrize("word", ["nan", "null", "NA", "None", "N/A", "-inf", "1e5", "007", "True", "#N/A", "?", '"'])
def test_words_that_look_like_something_else_stay_words(tmp_path, word):
    record = SignalRecord(word, f"{word} oh", "Mild", response=word, n_words=2.0)
    path = tmp_path / "t.csv"
    write_table(metadata_table([record]), path)
    table = read_table(path)
    assert table["word"].tolist() == [word, "oh"]
    assert table["response"].tolist() == table["signal"].tolist() == [word, word]


@pytest.mark.parametrize("signal", ["0012", "1e10", "00", "12345678901234567890", "1.0", "0x1F"])
def test_a_signal_id_keeps_every_digit(tmp_path, signal):
    path = write_text(tmp_path / "t.csv", HEADER, ROW.replace("0012", signal))
    assert read_table(path)["signal"].tolist() == [signal]


@pytest.mark.parametrize(
    "response",
    [
        "",
        "a,b",
        'say "oh"',
        '"',
        "two\nlines",
        "two\r\nlines",
        " spaces ",
        "\t",
        "back\\slash",
        "é ’ 音",
        "a\u2028b",
    ],
)
def test_any_response_survives_the_round_trip(tmp_path, response):
    path = tmp_path / "t.csv"
    write_table(metadata_table([SignalRecord("1", "oh my", "Mild", response=response, n_words=2.0)]), path)
    assert read_table(path)["response"].tolist() == [response, response]


def test_numbers_survive_to_the_last_bit_and_the_file_to_the_last_byte(tmp_path):
    table = with_sentence_rows(metadata_table(make_records(6))).astype({"words_correct": "float64"})
    rng = np.random.default_rng(0)
    values = rng.random((len(table), len(FEATURE_COLUMNS))) * 10.0 ** rng.integers(-300, 300, (len(table), 1))
    values[0, :6] = [5e-324, 1.7976931348623157e308, 0.1 + 0.2, -0.0, 1 / 3, np.nan]
    table[list(FEATURE_COLUMNS)] = values
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    write_table(table, first)
    back = read_table(first)
    assert back[list(FEATURE_COLUMNS)].to_numpy().tobytes() == values.tobytes()
    pd.testing.assert_frame_equal(back, table)
    write_table(back, second)
    assert first.read_bytes() == second.read_bytes()


def test_reading_and_writing_a_table_gives_the_same_bytes(tmp_path):
    path = write_text(
        tmp_path / "t.csv",
        f"{HEADER},tiny,pesq",
        '0012,"nan, oh","said ""oh""",2.0,1.0,0.3333333333333333,No Loss,nan,1,1e-05,',
        '0012,"nan, oh","said ""oh""",2.0,1.0,0.3333333333333333,No Loss,oh,1,0.30000000000000004,',
        '0012,"nan, oh",,,1.0,0.3333333333333333,No Loss,SENTENCE_SCORE,0,,1.25',
    )
    before = path.read_bytes()
    write_table(read_table(path), path)
    assert path.read_bytes() == before


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(tmp_path):
    plain = write_text(tmp_path / "plain.csv", HEADER, ROW)
    marked = tmp_path / "marked.csv"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(read_table(marked), read_table(plain))


def test_text_is_never_missing_and_numbers_are_floats(tmp_path):
    table = read_table(write_text(tmp_path / "t.csv", f"{HEADER},tiny", "7,oh,,,,,Mild,oh,1,"))
    assert table.loc[0, list(TEXT_COLUMNS)].tolist() == ["7", "oh", "", "Mild", "oh"]
    assert table.loc[0, ["n_words", "words_correct", "correctness", "tiny"]].isna().all()
    assert {str(table[column].dtype) for column in ("n_words", "words_correct", "correctness", "tiny")} == {"float64"}
    assert str(table["word_count"].dtype) == "int64"


def test_complete_tables_are_read_as_they_were_made(tmp_path):
    left, right = (read_table(path) for path in make_tables(tmp_path, 6))
    assert feature_columns(left) == list(FEATURE_COLUMNS)
    assert left["signal"].nunique() == 6
    assert left[list(BASE_COLUMNS)].equals(right[list(BASE_COLUMNS)])
    assert not left["tiny"].equals(right["tiny"])


# --- tables that are refused


@pytest.mark.parametrize("column", BASE_COLUMNS)
def test_a_missing_base_column_is_named(tmp_path, column):
    table = metadata_table(make_records(3)).drop(columns=column)
    path = tmp_path / "t.csv"
    write_table(table, path)
    message = rf"t\.csv: expected the columns signal, .*, found no {column}; make the table with metadata_to_csv\.py$"
    with pytest.raises(UserError, match=message):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"t\.csv: expected a CSV table, found an empty file; make it again with metadata_to_csv\.py$"),
        (b"\n", r"t\.csv: expected a CSV table, found an empty file; "),
        (HEADER.encode(), r"t\.csv: expected at least one row, found only a header; "),
        (f"{HEADER}\n".encode(), r"t\.csv: expected at least one row, found only a header; "),
        (
            f"{HEADER}\n{ROW.replace('me', 'mé')}\n".encode("latin-1"),
            r"t\.csv: expected UTF-8, found invalid continuation byte at byte 101; save it as UTF-8$",
        ),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), r"t\.csv: expected UTF-8, found invalid start byte at byte 0; "),
        (
            f"{HEADER}\n{ROW.replace('oh me', chr(34) + 'oh me')}\n".encode(),
            r"t\.csv: not a well-formed CSV table \(.*unexpected end of data.*\); make it again$",
        ),
    ],
    ids=["empty", "line end", "header", "header and line end", "latin-1", "utf-16", "open quote"],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_a_missing_table_names_the_script_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"t\.csv: expected a feature table, found no such file; .*metadata_to_csv\.py"):
        read_table(tmp_path / "t.csv")


def test_a_folder_in_place_of_a_table_is_refused(tmp_path):
    with pytest.raises(UserError, match=r": cannot be read \(Is a directory\); check its rights$"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("n_words", "two"),
        ("words_correct", "nan"),
        ("correctness", "0,5"),
        ("word_count", "one"),
        ("tiny", "0x10"),
        ("stoi", "1_0"),
        ("tiny", "inf"),
    ],
)
def test_a_cell_that_is_no_number_is_named_by_row_and_column(tmp_path, column, cell):
    table = metadata_table(make_records(3)).assign(tiny=0.5, stoi=0.5).astype(object)
    if cell == "True":
        table[column] = cell  # pandas takes a column for truth values only where every cell is one
        row = 2
    else:
        table.loc[3, column] = cell
        row = 5  # the header is row 1
    path = tmp_path / "t.csv"
    write_table(table, path)
    message = f"t.csv: row {row}, column {column}: expected a number, found {cell!r}; mend the cell"
    with pytest.raises(UserError, match=re.escape(message) + "$"):
        read_table(path)


def test_a_row_longer_than_the_header_is_refused(tmp_path):
    path = write_text(tmp_path / "t.csv", HEADER, ROW, f"{ROW},9")
    with pytest.raises(
        UserError, match=r"t\.csv: row 3 has 10 cells, expected 9 as in the header; make the table again$"
    ):
        read_table(path)


def test_a_first_row_longer_than_the_header_is_refused(tmp_path):
    path = write_text(tmp_path / "t.csv", HEADER, f"{ROW},9", f"{ROW},9")
    with pytest.raises(UserError, match=r"t\.csv: row 2 has 10 cells, expected 9"):
        read_table(path)


@pytest.mark.parametrize(
    ("header", "short_row"),
    [
        (HEADER, "0013,oh my,oh me,2.0,1.0"),
        (HEADER, ROW.removesuffix(",1")),
        (f"{HEADER},tiny,stoi", f"{ROW},0.5"),
        (f"{HEADER},tiny,stoi", ROW),
    ],
    ids=["no severity", "no word count", "one feature", "no feature"],
)
def test_a_row_shorter_than_the_header_is_refused(tmp_path, header, short_row):
    whole = ROW if header == HEADER else f"{ROW},0.5,0.5"
    path = write_text(tmp_path / "t.csv", header, whole, short_row)
    with pytest.raises(
        UserError, match=r"t\.csv: row 3 has \d+ cells, expected (9|11) as in the header; make the table again$"
    ):
        read_table(path)


def test_a_lone_carriage_return_is_refused(tmp_path):
    path = write_text(tmp_path / "t.csv", HEADER, ROW.replace("oh me", '"oh\rme"'))
    with pytest.raises(UserError, match=r"t\.csv: column response holds a carriage return inside a cell; replace it"):
        read_table(path)


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    path = write_text(tmp_path / "t.csv", f"{HEADER},tiny,tiny", f"{ROW},0.1,0.2")
    with pytest.raises(UserError, match=r"t\.csv: .*tiny.* (twice|more than once)"):
        read_table(path)


@pytest.mark.parametrize("severity", ["mild", "Severe", "", " Mild", "nan"])
def test_an_unknown_severity_is_refused(tmp_path, severity):
    path = write_text(tmp_path / "t.csv", HEADER, ROW, ROW.replace("Mild", severity))
    message = rf"t\.csv: expected hearing_loss No Loss, Mild, Moderate, found '{severity}'; mend the metadata$"
    with pytest.raises(UserError, match=message):
        read_table(path)


@pytest.mark.parametrize("severity", ["No Loss", "Mild", "Moderate"])
def test_a_known_severity_comes_back(severity):
    assert check_hearing_loss(severity, "here") == severity


@pytest.mark.parametrize("word_count", ["2", "-1", "0.5", ""])
def test_a_word_count_that_is_neither_0_nor_1_is_refused(tmp_path, word_count):
    path = write_text(tmp_path / "t.csv", HEADER, ROW, ROW.removesuffix("1") + word_count)
    with pytest.raises(UserError, match=r"t\.csv: expected word_count 0 or 1, found another value; "):
        read_table(path)


def test_a_row_without_signal_id_is_refused(tmp_path):
    path = write_text(tmp_path / "t.csv", HEADER, ROW, ROW.removeprefix("0012"))
    with pytest.raises(UserError, match=r"t\.csv: row 3 has no signal id; make the table again$"):
        read_table(path)


def test_two_sentence_rows_of_one_signal_are_refused(tmp_path):
    sentence = f"0012,oh my,,,1.0,0.5,Mild,{SENTENCE_WORD},0"
    path = write_text(tmp_path / "t.csv", HEADER, ROW, sentence, sentence.replace("0012", "0013"), sentence)
    with pytest.raises(UserError, match=r"t\.csv: signal 0012 has more than one SENTENCE_SCORE row; "):
        read_table(path)


# --- writing


class Unwritable:
    """A cell that fails when it is turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("defect in the middle of writing")


def test_an_exception_in_the_middle_of_writing_leaves_the_old_table_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "t.csv", HEADER, ROW)
    before = path.read_bytes()
    # pandas writes in pieces of about 11,000 rows at nine columns: some of them are in the temporary file by then.
    table = pd.concat([read_table(path)] * 30_000, ignore_index=True).astype(object)
    table.loc[len(table) - 1, "response"] = Unwritable()
    with pytest.raises(RuntimeError, match=r"^defect in the middle of writing$"):
        write_table(table, path)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["t.csv"]


def test_a_table_that_cannot_be_written_is_a_user_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("I am no folder")
    with pytest.raises(UserError, match=r"^cannot write .*t\.csv: "):
        write_table(metadata_table(make_records(3)), blocker / "t.csv")


def test_columns_come_in_canonical_order_with_strangers_last():
    columns = ["pesq", "mine", "word", "large", *[c for c in BASE_COLUMNS if c != "word"], "tiny", "yours"]
    table = pd.DataFrame([range(len(columns))], columns=columns)
    ordered = order_columns(table)
    assert list(ordered.columns) == [*BASE_COLUMNS, "tiny", "large", "pesq", "mine", "yours"]
    assert ordered.loc[0].to_dict() == table.loc[0].to_dict()
    assert list(table.columns) == columns


def test_feature_columns_are_listed_in_canonical_order():
    assert feature_columns(pd.DataFrame(columns=["pesq", "word", "tiny.en", "mine", "tiny"])) == [
        "tiny",
        "tiny.en",
        "pesq",
    ]


# --- sentence rows


@pytest.fixture
def two_signals() -> pd.DataFrame:
    """Words of two signals, the second id first, with one Whisper column and one metric."""
    records = [
        SignalRecord("b", "oh my", "Moderate", "oh", 2.0, 1.0, 0.5),
        SignalRecord("a", "sing", "No Loss", "song", 1.0, 0.0, 0.0),
    ]
    return metadata_table(records).assign(tiny=[0.1, 0.2, 0.3], stoi=[0.7, 0.7, 0.9])


@pytest.mark.filterwarnings("error")
def test_sentence_rows_stand_after_all_words_sorted_by_signal(two_signals):
    table = with_sentence_rows(two_signals)
    assert table["signal"].tolist() == ["b", "b", "a", "a", "b"]
    assert table["word"].tolist() == ["oh", "my", "sing", SENTENCE_WORD, SENTENCE_WORD]
    assert table["word_count"].tolist() == [1, 1, 1, 0, 0]
    assert list(table.columns) == list(two_signals.columns)
    assert table.index.tolist() == [0, 1, 2, 3, 4]
    assert table.dtypes.equals(two_signals.dtypes)


def test_a_sentence_row_takes_over_what_is_the_signals_and_leaves_the_rest_empty(two_signals):
    row = with_sentence_rows(two_signals).iloc[-1]
    assert (row["prompt"], row["hearing_loss"], row["correctness"], row["words_correct"]) == (
        "oh my",
        "Moderate",
        0.5,
        1,
    )
    assert row["stoi"] == 0.7
    assert row["response"] == ""
    assert math.isnan(row["n_words"])
    assert math.isnan(row["tiny"])


def test_word_rows_stay_as_they_were(two_signals):
    before = two_signals.copy()
    table = with_sentence_rows(two_signals)
    pd.testing.assert_frame_equal(table.iloc[:3], before)
    pd.testing.assert_frame_equal(two_signals, before)


@pytest.mark.filterwarnings("error")
def test_a_signal_that_has_its_sentence_row_keeps_it(two_signals):
    table = with_sentence_rows(two_signals)
    table.loc[4, "tiny"] = 0.55  # that of signal b
    half = table.drop(index=3)  # without that of signal a
    again = with_sentence_rows(half)
    pd.testing.assert_frame_equal(again, table)
    pd.testing.assert_frame_equal(with_sentence_rows(again), table)


def test_a_table_with_sentence_rows_is_the_same_after_a_round_trip(tmp_path, two_signals):
    table = with_sentence_rows(two_signals)
    write_table(table, tmp_path / "t.csv")
    assert f"a,sing,,,0.0,0.0,No Loss,{SENTENCE_WORD},0,,0.9\n" in (tmp_path / "t.csv").read_text()
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)


# --- required columns


@pytest.mark.parametrize(
    ("present", "wanted", "message"),
    [
        (
            BASE_COLUMNS,
            ("n_words", "tiny"),
            r"expected the columns tiny, .* make them with python whisper_inference\.py$",
        ),
        ((*BASE_COLUMNS, *WHISPER_COLUMNS), FEATURE_COLUMNS, r"stoi, estoi, pesq.* with python compute_metrics\.py$"),
        (
            (*BASE_COLUMNS, *METRIC_COLUMNS, "tiny"),
            ("tiny", "base", "stoi"),
            r"expected the columns base, found none of them; make them with python whisper_inference\.py$",
        ),
        (
            BASE_COLUMNS,
            ("tiny", "pesq"),
            r"expected the columns tiny, pesq, .* python whisper_inference\.py and python compute_metrics\.py$",
        ),
        (("signal",), ("n_words",), r"expected the columns n_words, .* make them with python metadata_to_csv\.py$"),
        (BASE_COLUMNS, ("tiny.eng",), r"no column 'tiny\.eng'; did you mean tiny\.en, "),
    ],
)
def test_missing_columns_name_the_stage_that_makes_them(present, wanted, message):
    with pytest.raises(UserError, match=rf"^t\.csv: .*{message}"):
        require_columns(Path("t.csv"), pd.DataFrame(columns=list(present)), wanted)


def test_columns_that_are_there_are_no_error_whoever_made_them():
    table = pd.DataFrame(columns=[*BASE_COLUMNS, "tiny", "mine"])
    assert require_columns(Path("t.csv"), table, ("tiny", "n_words", "mine")) is None
