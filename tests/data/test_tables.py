"""Feature tables: nothing changes on the way to disk and back, and what is wrong is named."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers import REFUSALS, refusal
from hypothesis import given
from hypothesis import strategies as st

from scow.data.metadata import SignalRecord, metadata_table
from scow.data.tables import BASE_COLUMNS, SENTENCE_WORD, read_table, require_columns, with_sentence_rows, write_table
from scow.errors import UserError
from scow.text.normalize import prompt_words

HEADER = ",".join(BASE_COLUMNS)
ROW = "0012,oh my,oh me,2.0,1.0,0.5,Mild,oh,1"
LIKE_MISSING = ("nan", "null", "NA", "None", "#N/A", "-inf", "1e5", "0012", "True", '"', "a\u2028b", "two\r\nlines")
TEXTS = st.one_of(st.sampled_from(LIKE_MISSING), st.text(st.characters(exclude_categories=["Cs", "Cc"])))
SHARES, NUMBERS = st.floats(0, 1) | st.just(float("nan")), st.floats(allow_infinity=False)


@given(st.dictionaries(TEXTS.filter(bool), st.tuples(TEXTS.filter(prompt_words), TEXTS, SHARES, NUMBERS), min_size=1))
def test_table_round_trip_keeps_every_text_bit_and_byte(tmp_path_factory, signals):
    table = pd.DataFrame(
        [
            (signal, prompt, response, 2.0, 1.0, share, "Mild", word, 1, share, number)
            for signal, (prompt, response, share, number) in signals.items()
            for word in prompt_words(prompt)
        ],
        columns=[*BASE_COLUMNS, "tiny", "mine"],
    )
    first, second = (tmp_path_factory.mktemp("t") / name for name in ("first.csv", "second.csv"))
    write_table(table, first)
    back = read_table(first)
    pd.testing.assert_frame_equal(back, table, check_exact=True, check_dtype=False)
    for column in ("tiny", "mine"):
        assert back[column].dropna().to_numpy().tobytes() == table[column].dropna().to_numpy().tobytes()
    write_table(back, second)
    assert first.read_bytes() == second.read_bytes()


def test_read_table_keeps_dtypes_of_empty_columns_and_takes_byte_order_mark_and_windows_line_ends(tmp_path):
    text = f"{HEADER},tiny\n0012,oh,,,,,Mild,oh,1,\n"
    (tmp_path / "t.csv").write_bytes(text.encode())
    table = read_table(tmp_path / "t.csv")
    assert [str(table[column].dtype) for column in ("tiny", "word_count")] == ["float64", "int64"]
    (tmp_path / "t.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)


def changed(column: str, cell: str) -> str:
    """A table of two rows whose second row, row 3 of the file, has another cell."""
    cells = dict(zip((*BASE_COLUMNS, "tiny"), [*ROW.split(","), "0.5"], strict=True)) | {column: cell}
    return f"{HEADER},tiny\n{ROW},0.5\n{','.join(cells.values())}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the columns signal, .* metadata_to_csv"),
        (f"{HEADER}\n", "only a header"),
        (changed("response", "é").encode("latin-1"), "utf-8"),
        (changed("response", '"oh'), "unexpected end of data"),
        (f"{HEADER}\n{ROW}\n{ROW},9\n", "row 3: expected 9 cells, found 10"),
        (f"{HEADER},tiny\n{ROW},1\n{ROW}\n", "row 3: expected 10 cells, found 9"),
        (f"{HEADER},tiny,tiny\n{ROW},1,1\n", "each column once"),
        (f",{HEADER}\n0,{ROW}\n", "each column once, with a name"),
        (HEADER.replace("word_count", "other"), "found no word_count;"),
        *[
            (changed(column, cell), f"row 3, column {column}: expected .*, found ")
            for column, cells in REFUSALS["cells"].items()
            for cell in cells
        ],
    ],
)
def test_read_table_refuses_what_is_no_table_in_one_line(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    for name, expected in (("t.csv", message), ("missing.csv", "metadata_to_csv"), ("", "directory")):
        with refusal(rf"^{tmp_path / name}: .*{expected}"):
            read_table(tmp_path / name)


SIGNALS = [
    SignalRecord("0001", "la la la you", "Mild", "la", 4.0, 1.0, 0.25),
    SignalRecord("0002", "over the hills", "Moderate", "over", 3.0, 1.0, 1 / 3),
]


def edits(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table with a row deleted, doubled or moved within its signal, or with another cell; and the row's signal."""
    for row, signal in table["signal"].items():
        yield signal, table.drop(index=row)
        yield signal, table.loc[[*table.index, row]]
        for column in ("prompt", "response", "n_words", "words_correct", "correctness", "hearing_loss", "stoi"):
            other = "No Loss" if column == "hearing_loss" else 0.125 if column == "stoi" else 0 if "c" in column else 7
            yield signal, table.assign(**{column: table[column].where(table.index != row, other)})
        for word in ("", "other", "la you", "two\nlines", SENTENCE_WORD):
            yield signal, table.assign(word=table["word"].where(table.index != row, word))
    for one, other in ((2, 3), (3, 0), (4, 5), (6, 4)):
        order = [{one: other, other: one}.get(row, row) for row in table.index]
        yield table["signal"][one], table.loc[order]


def test_read_table_refuses_rows_that_are_not_those_of_their_prompt(tmp_path):
    table = with_sentence_rows(metadata_table(SIGNALS)).assign(stoi=0.5)
    for order in (table, table.iloc[[8, 0, 4, 1, 5, 7, 2, 6, 3]]):  # rows of signals may mix
        write_table(order, tmp_path / "t.csv")
        assert len(read_table(tmp_path / "t.csv")) == 9
    accepted, refused = [], []
    for signal, edited in edits(table):
        write_table(edited, tmp_path / "t.csv")
        try:
            accepted.append(read_table(tmp_path / "t.csv"))
        except UserError as error:
            refused.append((signal, str(error)))
    assert all(f"signal {signal}" in line and "\n" not in line for signal, line in refused)
    # A sentence row may be missing; its response and n_words have no meaning; and SENTENCE_SCORE is its word.
    assert [len(found) for found in accepted] == [8, 9, 9, 9] * 2


def test_with_sentence_rows_appends_one_per_signal(tmp_path):
    records = [
        SignalRecord("b", "oh my", "Moderate", "oh", 2.0, 1.0, 0.5),
        SignalRecord("a", "sing", "No Loss", "song", 1.0, 0.0, 0.0),
    ]
    words = metadata_table(records).assign(tiny=[0.1, 0.2, 0.3], stoi=[0.7, 0.7, 0.9])
    table = with_sentence_rows(words)
    pd.testing.assert_frame_equal(table.iloc[:3], words)
    write_table(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[4:] == [
        f"a,sing,,,0.0,0.0,No Loss,{SENTENCE_WORD},0,,0.9",
        f"b,oh my,,,1.0,0.5,Moderate,{SENTENCE_WORD},0,,0.7",
    ]


def test_require_columns_names_the_scripts_that_make_them():
    with pytest.raises(UserError, match=r"^t\.csv: .*metadata_to_csv\.py and .*compute_metrics\.py"):
        require_columns(Path("t.csv"), pd.DataFrame(columns=["signal"]), ("n_words", "pesq"))
