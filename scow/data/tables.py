"""Feature tables: columns, checked reading, atomic writing.

A table is a CSV file per channel and split, in UTF-8 with or without byte-order mark. It has one row per word of a
prompt and, once the Whisper stage has run, one more per signal after all word rows, with ``word = SENTENCE_SCORE``,
``word_count = 0``, and empty `response` and `n_words`.

Columns, in this order: `BASE_COLUMNS` of stage 1, then the features computed so far, of `WHISPER_COLUMNS` (stage 2) and
`METRIC_COLUMNS` (stage 3). An empty cell means "not computed" or "could not be computed"; no number stands for that.
Text columns are text whatever they look like: ``nan`` and ``null`` are words, and the id ``0012`` keeps its zeros.

Files are checked here and nowhere else: `_check_shape` the header and the number of cells per row, `_check_cells` the
values, column by column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.errors import UserError, nearest
from scow.io import atomic_write

BASE_COLUMNS = tuple("signal prompt response n_words words_correct correctness hearing_loss word word_count".split())
TEXT_COLUMNS = ("signal", "prompt", "response", "hearing_loss", "word")
WHISPER_COLUMNS = tuple(
    "tiny tiny.en base base.en small small.en medium medium.en large large-v2 large-v3 large-v3-turbo".split()
)
INTRUSIVE_COLUMNS = ("stoi", "estoi", "pesq")
DNSMOS_COLUMNS = ("dns_sig", "dns_bak", "dns_ovrl")
METRIC_COLUMNS = INTRUSIVE_COLUMNS + DNSMOS_COLUMNS
FEATURE_COLUMNS = WHISPER_COLUMNS + METRIC_COLUMNS
SCRIPTS = {"metadata_to_csv": BASE_COLUMNS, "whisper_inference": WHISPER_COLUMNS, "compute_metrics": METRIC_COLUMNS}
SENTENCE_WORD = "SENTENCE_SCORE"
HEARING_LOSSES = ("No Loss", "Mild", "Moderate")
NUMBER = r"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)?"
# pandas 3 reads every number exactly; pandas 2 must be told.
EXACT: dict[str, Any] = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


def read_table(path: Path) -> pd.DataFrame:
    """Read and check a feature table.

    Text columns are str and never missing; all others float64 with NaN for an empty cell, `word_count` int64.
    """
    try:
        header = _check_shape(path)
        numeric = [column for column in header if column not in TEXT_COLUMNS]
        table = _parse(path, {column: "str" if column in TEXT_COLUMNS else "float64" for column in header})
    except FileNotFoundError:
        raise UserError(f"{path}: expected a feature table, found none; make it with metadata_to_csv.py") from None
    except (OSError, UnicodeError, csv.Error, pd.errors.ParserError) as error:
        raise UserError(f"{path}: expected a feature table (CSV, UTF-8), found {error}") from error
    except ValueError as error:  # pandas does not say where
        text = _parse(path, dict.fromkeys(header, "str"))
        for column in numeric:
            _expect(path, text[column], text[column].str.fullmatch(NUMBER), "a number")
        raise UserError(f"{path}: expected numbers in all columns but text, found {error}") from error
    _check_cells(path, table, numeric)
    return table.astype({"word_count": "int64"})


def _parse(path: Path, dtypes: dict[str, str]) -> pd.DataFrame:
    return pd.read_csv(
        path,
        encoding="utf-8-sig",
        dtype=dtypes,
        keep_default_na=False,
        na_values={column: [""] for column, dtype in dtypes.items() if dtype == "float64"},
        index_col=False,
        **EXACT,
    )


def _check_shape(path: Path) -> list[str]:
    """Check header and number of cells per row, which pandas would pass over; returns the header."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = csv.reader(handle, strict=True)
        header = next(rows, [])
        if missing := [column for column in BASE_COLUMNS if column not in header]:
            raise UserError(
                f"{path}: expected the columns {', '.join(BASE_COLUMNS)}, found no {', '.join(missing)}; "
                "make the table with metadata_to_csv.py"
            )
        if len(set(header)) < len(header):
            raise UserError(f"{path}: expected each column once, found {', '.join(header)}")
        number = 1
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise UserError(f"{path}: row {number}: expected {len(header)} cells, found {len(row)}")
            if "\r" in "".join(row).replace("\r\n", ""):  # CSV writers do not quote it
                raise UserError(f"{path}: row {number}: expected no carriage return inside a cell, found one")
    if number == 1:
        raise UserError(f"{path}: expected at least one row, found only a header; make it with metadata_to_csv.py")
    return header


def _check_cells(path: Path, table: pd.DataFrame, numeric: Iterable[str]) -> None:
    _expect(path, table["signal"], table["signal"] != "", "a signal id")
    _expect(path, table["hearing_loss"], table["hearing_loss"].isin(HEARING_LOSSES), ", ".join(HEARING_LOSSES))
    _expect(path, table["word_count"], table["word_count"].isin((0, 1)), "0 or 1")
    for column in numeric:
        _expect(path, table[column], ~np.isinf(table[column]), "a finite number")
    sentences = table.loc[table["word_count"] == 0, "signal"]
    _expect(path, sentences, ~sentences.duplicated(), f"one {SENTENCE_WORD} row per signal")


def _expect(path: Path, cells: pd.Series, valid: pd.Series, expected: str) -> None:
    """Refuse the first cell of a column that is not valid."""
    if not valid.all():
        row, cell = next(iter(cells[~valid].items()))
        raise UserError(
            f"{path}: row {int(str(row)) + 2}, column {cells.name}: expected {expected}, found {str(cell)!r}"
        )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table; the file is whole at all times, and the same table gives the same bytes."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with base columns first, then features in their order, then other columns."""
    known = [column for column in (*BASE_COLUMNS, *FEATURE_COLUMNS) if column in table.columns]
    return table[known + [column for column in table.columns if column not in known]]


def with_sentence_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one SENTENCE_SCORE row per signal, after all word rows, sorted by signal.

    An existing sentence row stays. A new one copies what is the same for a whole signal (prompt, correctness, hearing
    loss, metrics); its `response`, `n_words` and Whisper cells are empty, as published.
    """
    is_sentence = table["word_count"] == 0
    words = table[~is_sentence]
    fresh = words[~words["signal"].isin(table.loc[is_sentence, "signal"])].drop_duplicates("signal")
    empty = {column: float("nan") for column in ("n_words", *WHISPER_COLUMNS) if column in table.columns}
    fresh = fresh.assign(response="", word=SENTENCE_WORD, word_count=0, **empty)
    sentences = pd.concat([table[is_sentence], fresh]).sort_values("signal", kind="stable")
    return pd.concat([words, sentences], ignore_index=True)


def require_columns(path: Path, table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuse a table that lacks columns, and name the scripts that make them."""
    missing = [column for column in columns if column not in table.columns]
    for column in missing:
        if column not in (*BASE_COLUMNS, *FEATURE_COLUMNS):
            raise UserError(f"{path}: no column {column!r}; {nearest(column, [*table.columns, *FEATURE_COLUMNS])}")
    if missing:
        scripts = [f"python {script}.py" for script, made in SCRIPTS.items() if set(made) & set(missing)]
        raise UserError(
            f"{path}: expected the columns {', '.join(missing)}, found none; make them with {' and '.join(scripts)}"
        )
