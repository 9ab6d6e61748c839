"""The per-ear feature table: its columns, checked reading, atomic writing.

A table is a CSV file, one per ear and split, UTF-8 with or without byte-order mark. It has a row per prompt word
and, once the Whisper stage has run, one more per signal with ``word = SENTENCE_SCORE`` and ``word_count = 0``, after
all word rows, whose `response` and `n_words` are empty.

Columns, in this order: `BASE_COLUMNS` of stage 1, then those features that have been computed, of
`WHISPER_COLUMNS` (stage 2) and `METRIC_COLUMNS` (stage 3). An empty cell says "not computed" or "could not be
computed"; there are no sentinel numbers. Text columns are text whatever they look like: ``nan`` and ``null`` are
lyric words, and the signal id ``0012`` keeps its zeros.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.errors import UserError, nearest
from scow.io import atomic_write

BASE_COLUMNS = (
    "signal",
    "prompt",
    "response",
    "n_words",
    "words_correct",
    "correctness",
    "hearing_loss",
    "word",
    "word_count",
)
TEXT_COLUMNS = ("signal", "prompt", "response", "hearing_loss", "word")
WHISPER_COLUMNS = (
    "tiny",
    "tiny.en",
    "base",
    "base.en",
    "small",
    "small.en",
    "medium",
    "medium.en",
    "large",
    "large-v2",
    "large-v3",
    "large-v3-turbo",
)
INTRUSIVE_COLUMNS = ("stoi", "estoi", "pesq")
DNSMOS_COLUMNS = ("dns_sig", "dns_bak", "dns_ovrl")
METRIC_COLUMNS = INTRUSIVE_COLUMNS + DNSMOS_COLUMNS
FEATURE_COLUMNS = WHISPER_COLUMNS + METRIC_COLUMNS
SENTENCE_WORD = "SENTENCE_SCORE"
HEARING_LOSSES = ("No Loss", "Mild", "Moderate")
# pandas 3 reads every number exactly; pandas 2 has to be told to.
_EXACT: dict[str, Any] = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


def check_hearing_loss(value: str, where: str) -> str:
    """Return a severity that the models know.

    Raises
    ------
    UserError
        Another value than those of `HEARING_LOSSES`.
    """
    if value not in HEARING_LOSSES:
        raise UserError(
            f"{where}: expected hearing_loss {', '.join(HEARING_LOSSES)}, found {value!r}; mend the metadata"
        )
    return value


def feature_columns(table: pd.DataFrame) -> list[str]:
    """Feature columns that a table holds, in canonical order."""
    return [column for column in FEATURE_COLUMNS if column in table.columns]


def read_table(path: Path) -> pd.DataFrame:
    """Read and check a per-ear feature table.

    Parameters
    ----------
    path : Path
        CSV file.

    Returns
    -------
    DataFrame
        Text columns as str, never missing; all others float64 with NaN for an empty cell, `word_count` int64.

    Raises
    ------
    UserError
        The file is missing, no UTF-8 CSV, lacks a base column, has rows of the wrong length, a cell that is no
        number, or a severity or word count that does not exist.
    """
    try:
        header = _check_shape(path)
        numeric = [column for column in header if column not in TEXT_COLUMNS]
        table = pd.read_csv(
            path,
            encoding="utf-8-sig",
            dtype={column: str if column in TEXT_COLUMNS else "float64" for column in header},
            keep_default_na=False,
            na_values={column: [""] for column in numeric},
            index_col=False,
            **_EXACT,
        )
        if np.isinf(table[numeric].to_numpy()).any():
            raise ValueError("infinite")
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected a feature table, found no such file; make it with metadata_to_csv.py"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected UTF-8, found {error.reason} at byte {error.start}; save it as UTF-8"
        ) from error
    except (csv.Error, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a well-formed CSV table ({error}); make it again") from error
    except ValueError as error:
        raise UserError(f"{path}: {_bad_number(path)}; mend the cell") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its rights") from error
    return _checked_rows(path, table)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table so that the file is at all times whole; same table, same bytes."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with base columns first, features in canonical order, and whatever else last."""
    known = [column for column in (*BASE_COLUMNS, *FEATURE_COLUMNS) if column in table.columns]
    return table[known + [column for column in table.columns if column not in known]]


def with_sentence_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one SENTENCE_SCORE row per signal, after all word rows, sorted by signal.

    A signal that has one keeps it. A new row takes over what is the same for a whole signal (prompt, correctness,
    hearing loss, the quality metrics); its `response`, `n_words` and Whisper cells are empty, as published.
    """
    is_sentence = table["word_count"] == 0
    words = table[~is_sentence]
    fresh = words[~words["signal"].isin(table.loc[is_sentence, "signal"])].drop_duplicates("signal")
    fresh = fresh.assign(response="", n_words=float("nan"), word=SENTENCE_WORD, word_count=0)
    for column in WHISPER_COLUMNS:
        if column in fresh.columns:
            fresh = fresh.assign(**{column: float("nan")})
    sentences = pd.concat([table[is_sentence], fresh]).sort_values("signal", kind="stable")
    return pd.concat([words, sentences], ignore_index=True)


def require_columns(path: Path, table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuse a table that lacks feature columns, naming the stage and the command that make them.

    Raises
    ------
    UserError
    """
    missing = [column for column in columns if column not in table.columns]
    if not missing:
        return
    known = set(BASE_COLUMNS) | set(FEATURE_COLUMNS)
    strange = [column for column in missing if column not in known]
    if strange:
        raise UserError(f"{path}: no column {strange[0]!r}; {nearest(strange[0], [*table.columns, *FEATURE_COLUMNS])}")
    stages = []
    if any(column in WHISPER_COLUMNS for column in missing):
        stages.append("python whisper_inference.py")
    if any(column in METRIC_COLUMNS for column in missing):
        stages.append("python compute_metrics.py")
    raise UserError(
        f"{path}: expected the columns {', '.join(missing)}, found none of them; "
        f"make them with {' and '.join(stages) or 'python metadata_to_csv.py'}"
    )


def _check_shape(path: Path) -> list[str]:
    """Header of a table, after a first pass that checks what pandas would pass over: header, and cells per row."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = csv.reader(handle, strict=True)
        header = next(rows, [])
        if not header:
            raise UserError(f"{path}: expected a CSV table, found an empty file; make it again with metadata_to_csv.py")
        missing = [column for column in BASE_COLUMNS if column not in header]
        if missing:
            raise UserError(
                f"{path}: expected the columns {', '.join(BASE_COLUMNS)}, found no {', '.join(missing)}; "
                "make the table with metadata_to_csv.py"
            )
        twice = [column for column in header if header.count(column) > 1]
        if twice:
            raise UserError(f"{path}: expected each column once, found {twice[0]} twice; drop one of them")
        number = 1
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise UserError(
                    f"{path}: row {number} has {len(row)} cells, expected {len(header)} as in the header; "
                    "make the table again"
                )
    if number == 1:
        raise UserError(f"{path}: expected at least one row, found only a header; make it with metadata_to_csv.py")
    return header


def _bad_number(path: Path) -> str:
    """Name the first cell that is no number, column by column; slow, for the error message only."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        header, *rows = csv.reader(handle)
    for i, column in enumerate(header):
        for number, row in enumerate(rows, start=2):
            if (
                column not in TEXT_COLUMNS
                and row[i]
                and not re.fullmatch(r"[-+]?\d*\.?\d*(e[-+]?\d+)?", row[i].lower())
            ):
                return f"row {number}, column {column}: expected a number, found {row[i]!r}"
    return "expected numbers in all columns but text, found something else"


def _checked_rows(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Check what can only be seen row by row."""
    unnamed = table["signal"] == ""
    if unnamed.any():
        raise UserError(f"{path}: row {int(unnamed.argmax()) + 2} has no signal id; make the table again")
    for value in table["hearing_loss"].unique():
        check_hearing_loss(value, str(path))
    if not table["word_count"].isin((0, 1)).all():
        raise UserError(f"{path}: expected word_count 0 or 1, found another value; make the table again")
    for column in TEXT_COLUMNS:
        if table[column].str.contains("\r(?!\n)").any():  # csv writers leave it unquoted
            raise UserError(f"{path}: column {column} holds a carriage return inside a cell; replace it by a space")
    sentences = table.loc[table["word_count"] == 0, "signal"]
    if sentences.duplicated().any():
        twice = sentences[sentences.duplicated()].iloc[0]
        raise UserError(f"{path}: signal {twice} has more than one {SENTENCE_WORD} row; make the table again")
    return table.astype({"word_count": "int64"})
