"""Feature tables: columns, checked reading, atomic writing.

A table is a CSV file per channel and split, in UTF-8 with or without byte-order mark. It has one row per word of a
prompt and, once the Whisper stage has run, one more per signal after all word rows, with ``word = SENTENCE_SCORE``,
``word_count = 0``, and empty `response` and `n_words`.

Columns, in this order: `BASE_COLUMNS` of stage 1, then the features computed so far, of `WHISPER_COLUMNS` (stage 2) and
`METRIC_COLUMNS` (stage 3). An empty cell means "not computed" or "could not be computed"; no number stands for that.
Text columns are text whatever they look like: ``nan`` and ``null`` are words, and the id ``0012`` keeps its zeros.

Files are checked here and nowhere else, by `read_table`: the header, the number of cells per row, each column (`RANGES`
declares the numbers), and that the rows of a signal are those of its prompt: each word once, in order, and alike in
what they say of the signal.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.errors import UserError, expect, nearest
from scow.io import atomic_write, read_csv
from scow.text.normalize import APOSTROPHES, prompt_words

BASE_COLUMNS = tuple("signal prompt response n_words words_correct correctness hearing_loss word word_count".split())
TEXT_COLUMNS = ("signal", "prompt", "response", "hearing_loss", "word")
WHISPER_COLUMNS = tuple(
    "tiny tiny.en base base.en small small.en medium medium.en large large-v2 large-v3 large-v3-turbo".split()
)
MILLIONS = (37.185, 37.184, 71.826, 71.825, 240.583, 240.582, 762.322, 762.321, 1541.385, 1541.385, 1541.571, 806.958)
WHISPER_MILLIONS = dict(zip(WHISPER_COLUMNS, MILLIONS, strict=True))  # parameters of the models, in millions
INTRUSIVE_COLUMNS = ("stoi", "estoi", "pesq")
DNSMOS_COLUMNS = ("dns_sig", "dns_bak", "dns_ovrl")
METRIC_COLUMNS = INTRUSIVE_COLUMNS + DNSMOS_COLUMNS
FEATURE_COLUMNS = WHISPER_COLUMNS + METRIC_COLUMNS
SCRIPTS = {"metadata_to_csv": BASE_COLUMNS, "whisper_inference": WHISPER_COLUMNS, "compute_metrics": METRIC_COLUMNS}
SENTENCE_WORD = "SENTENCE_SCORE"
HEARING_LOSSES = ("No Loss", "Mild", "Moderate")
# The same on all rows of a signal.
SIGNAL_COLUMNS = ("prompt", "hearing_loss", "words_correct", "correctness", *METRIC_COLUMNS)
MAX_WORDS = 509  # of a prompt: the positions of the published transformer without two front tokens and a sentence row
RANGES = {  # column -> least and greatest number; another column holds any finite number
    "n_words": (0, MAX_WORDS),
    "words_correct": (0, MAX_WORDS),
    "correctness": (0, 1),
    **dict.fromkeys(WHISPER_COLUMNS, (0, 1)),
    **{"stoi": (-1, 1), "estoi": (-1, 1), "pesq": (-0.5, 5)},
    **dict.fromkeys(DNSMOS_COLUMNS, (-1, 6)),  # raw outputs, near 1 to 5
}
ROUNDING = 1e-6  # published tables hold nine decimals
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


# pandas 3 reads every number exactly; pandas 2 must be told.
EXACT: dict[str, Any] = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


def read_table(path: Path) -> pd.DataFrame:
    """Read and check a feature table.

    Text columns are str and never missing; all others float64 with NaN for an empty cell, `word_count` int64.
    """
    header = _check_shape(path)
    try:
        table = _parse(path, {column: "str" if column in TEXT_COLUMNS else "float64" for column in header})
    except ValueError:  # some cell is no number; pandas does not say which
        table = _parse(path, dict.fromkeys(header, "str"))
        table = table.assign(**{c: numbers(table[c]) for c in header if c not in TEXT_COLUMNS})
    for column in header:
        expected, valid = _expected(table, column)
        if not valid.all():
            row = int(valid.argmin())
            found = _parse(path, dict.fromkeys(header, "str"))[column][row]
            raise UserError(f"{path}: row {row + 2}, column {column}: expected {expected}, found {found!r}")
    table = table.astype({"word_count": "int64"})
    _check_rows(path, table)
    return table


def _check_rows(path: Path, table: pd.DataFrame) -> None:
    """Refuse a signal whose rows differ in what they say of it, or are not the words of its prompt."""
    signals = pd.factorize(table["signal"])[0]
    of_words = 2 * signals + table["word_count"]  # response and n_words are empty in sentence rows
    for rows, columns in ((signals, SIGNAL_COLUMNS), (of_words, ("response", "n_words"))):
        _, first, of_row = np.unique(rows, return_index=True, return_inverse=True)
        for column in (column for column in columns if column in table):
            one, other = table[column], table[column].take(first[of_row]).set_axis(table.index)
            same = (one == other) | (one.isna() & other.isna())
            if column in RANGES:
                same |= (one - other).abs() < ROUNDING
            row = int(same.argmin())
            found = f"{one[row]} after {other[row]}"
            expect(same.all(), f"{path}: row {row + 2}, signal {table['signal'][row]}", f"one {column}", found)
    due: dict[str, tuple[list[str], list[str]]] = {}  # of each signal: its sentence row, and words still to come
    cells = zip(*(table[column] for column in ("signal", "prompt", "word", "word_count")), strict=True)
    for number, (signal, prompt, word, is_word) in enumerate(cells, start=2):
        if signal not in due:
            due[signal] = [SENTENCE_WORD], [*reversed(prompt_words(prompt) or ["a word"])]
        expected = due[signal][is_word].pop() if due[signal][is_word] else "no further row"
        if word.translate(APOSTROPHES) != expected:
            raise UserError(f"{path}: row {number}, signal {signal}: expected {expected!r}, found {word!r}")
    lacking = [f"{signal} lacks {words[-1]!r}" for signal, (_, words) in due.items() if words]
    expect(not lacking, path, "a row for each word of a prompt", f"that signal {', '.join(lacking[:1])}")


def _check_shape(path: Path) -> list[str]:
    """Check header and number of cells per row, which pandas would pass over; returns the header."""
    rows = read_csv(path, "a feature table, as metadata_to_csv.py makes it")
    header, number = next(rows, []), 1
    missing = [column for column in BASE_COLUMNS if column not in header]
    found = f"no {', '.join(missing)}; make the table with metadata_to_csv.py"
    expect(not missing, path, f"the columns {', '.join(BASE_COLUMNS)}", found)
    expect(len({*header} - {""}) == len(header), path, "each column once, with a name", ", ".join(header))
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UserError(f"{path}: row {number}: expected {len(header)} cells, found {len(row)}")
    expect(number > 1, path, "at least one row", "only a header; make the table with metadata_to_csv.py")
    return header


def _parse(path: Path, dtypes: dict[str, str]) -> pd.DataFrame:
    empty = {column: [""] for column, dtype in dtypes.items() if dtype == "float64"}
    return pd.read_csv(
        path, encoding="utf-8-sig", dtype=dtypes, keep_default_na=False, na_values=empty, index_col=False, **EXACT
    )


def numbers(cells: Iterable[str]) -> np.ndarray:
    """Texts as float64: NaN where one is empty, infinity where it is anything but a number."""
    values = [float(cell) if NUMBER.fullmatch(cell.strip()) else math.inf if cell else math.nan for cell in cells]
    return np.array(values)


def _expected(table: pd.DataFrame, column: str) -> tuple[str, pd.Series]:
    """What the cells of a column must be, and which of them are."""
    cells = table[column]
    if column == "signal":
        return "a signal id", cells != ""
    if column == "hearing_loss":
        return ", ".join(HEARING_LOSSES), cells.isin(HEARING_LOSSES)
    if column == "word_count":
        return "0 or 1", cells.isin((0, 1))
    if column in TEXT_COLUMNS:  # CSV writers do not quote a carriage return
        return "no carriage return", ~cells.str.contains(r"\r(?!\n)")
    low, high = RANGES.get(column, (-sys.float_info.max, sys.float_info.max))
    expected = f"number in {low:g} to {high:g}" if column in RANGES else "finite number"
    valid = cells.isna() | cells.between(low - ROUNDING, high + ROUNDING)
    if column in ("n_words", "words_correct"):  # the latter may be the mean of several listeners
        one = (column == "n_words") | table["response"].str.fullmatch(r"[^|]+")
        whole = ~one | ~((cells - cells.round()).abs() > ROUNDING)
        expected = f"whole {expected}" if valid.all() else expected
        valid &= whole
    return f"a {expected}", valid


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
        known = dict.fromkeys([*table.columns, *BASE_COLUMNS, *FEATURE_COLUMNS])
        expect(column in known, path, f"the column {column}", f"no such column; {nearest(column, known)}")
    scripts = [f"python {script}.py" for script, made in SCRIPTS.items() if set(made) & set(missing)]
    found = f"none; make them with {' and '.join(scripts)}"
    expect(not missing, path, f"the columns {', '.join(missing)}", found)
