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

from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from scow.errors import UserError, nearest
from scow.files import replacing

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
QUALITY_COLUMNS = ("stoi", "estoi", "pesq")
DNSMOS_COLUMNS = ("dns_sig", "dns_bak", "dns_ovrl")
METRIC_COLUMNS = QUALITY_COLUMNS + DNSMOS_COLUMNS
FEATURE_COLUMNS = WHISPER_COLUMNS + METRIC_COLUMNS
SENTENCE_WORD = "SENTENCE_SCORE"
HEARING_LOSSES = ("No Loss", "Mild", "Moderate")


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
        header = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns
        _check_header(path, header)
        numeric = [column for column in header if column not in TEXT_COLUMNS]
        table = pd.read_csv(
            path,
            encoding="utf-8-sig",
            dtype={column: str if column in TEXT_COLUMNS else "float64" for column in header},
            keep_default_na=False,
            na_values={column: [""] for column in numeric},
            float_precision="round_trip",
            index_col=False,
        )
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected a feature table, found no such file; make it with metadata_to_csv.py"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected UTF-8, found {error.reason} at byte {error.start}; save it as UTF-8"
        ) from error
    except pd.errors.EmptyDataError:
        raise UserError(
            f"{path}: expected a CSV table, found an empty file; make it again with metadata_to_csv.py"
        ) from None
    except pd.errors.ParserError as error:
        raise UserError(
            f"{path}: not a well-formed CSV table ({' '.join(str(error).split())}); make it again"
        ) from error
    except ValueError as error:
        raise UserError(_bad_number(path) or f"{path}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its rights") from error
    return _checked_rows(path, table)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table so that the file is at all times whole; same table, same bytes."""
    with replacing(path) as temporary:
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


def _check_header(path: Path, header: Collection[str]) -> None:
    missing = [column for column in BASE_COLUMNS if column not in header]
    if missing:
        raise UserError(
            f"{path}: expected the columns {', '.join(BASE_COLUMNS)}, found no {', '.join(missing)}; "
            "make the table with metadata_to_csv.py"
        )


def _checked_rows(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Check what a CSV parser cannot know."""
    if table.empty:
        raise UserError(f"{path}: expected at least one row, found only a header; make it with metadata_to_csv.py")
    short = table[list(TEXT_COLUMNS)].isna().any(axis=1)
    if short.any():
        raise UserError(f"{path}: row {int(short.argmax()) + 2} has fewer cells than the header; make the table again")
    unnamed = table["signal"] == ""
    if unnamed.any():
        raise UserError(f"{path}: row {int(unnamed.argmax()) + 2} has no signal id; make the table again")
    for value in table["hearing_loss"].unique():
        check_hearing_loss(value, str(path))
    if not table["word_count"].isin((0, 1)).all():
        raise UserError(f"{path}: expected word_count 0 or 1, found another value; make the table again")
    sentences = table.loc[table["word_count"] == 0, "signal"]
    if sentences.duplicated().any():
        twice = sentences[sentences.duplicated()].iloc[0]
        raise UserError(f"{path}: signal {twice} has more than one {SENTENCE_WORD} row; make the table again")
    return table.astype({"word_count": "int64"})


def _bad_number(path: Path) -> str | None:
    """Name the first cell that is no number, for the error message; None where all are."""
    table = pd.read_csv(path, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False)
    for column in table.columns:
        if column in TEXT_COLUMNS:
            continue
        cells = table[column].fillna("")
        bad = pd.to_numeric(cells.where(cells != "", "0"), errors="coerce").isna()
        if bad.any():
            row = int(bad.argmax())
            return (
                f"{path}: row {row + 2}, column {column}: expected a number, found {cells.iloc[row]!r}; mend the cell"
            )
    return None
