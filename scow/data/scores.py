"""Files of scores: one line per signal, its id and its score.

The pipeline writes them without a header and in points of 0-100, as the challenge's leaderboard takes them; its e-mail
form wants the header ``signal_id,intelligibility_score``. Both are read, and shares of 0-1 too.

Whether a file holds points or shares is read off its largest value: up to 1 it is taken for shares. A file of points
in which no score is above 1 would be misread; whoever has one says the scale.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scow.errors import UserError
from scow.io import atomic_write

FORM_HEADER = ("signal_id", "intelligibility_score")
SCALES = {"0-1": 100.0, "0-100": 1.0}  # factor to points


@dataclass(frozen=True)
class ScoreFile:
    """A file of scores, read.

    Attributes
    ----------
    path : Path
    scores : dict of str to float
        Points of 0-100 by signal, in the order of the file.
    header : bool
        Whether it has one.
    scale : str
        ``0-1`` or ``0-100``: what the file holds.
    largest : float
        Its largest value, by which the scale was told.
    """

    path: Path
    scores: dict[str, float]
    header: bool
    scale: str
    largest: float

    def __str__(self) -> str:
        header = "a header" if self.header else "no header"
        return f"{self.path}: {len(self.scores)} scores, {header}, scale {self.scale} (largest value {self.largest:g})"


def write_scores(path: Path, signals: Sequence[str], scores: np.ndarray) -> None:
    """Write signal ids and scores, two columns, no header, six decimals."""
    write_rows(path, [(signal, f"{score:.6f}") for signal, score in zip(signals, scores, strict=True)])


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


def read_rows(path: Path, what: str) -> list[list[str]]:
    """Rows of a CSV file that are not blank.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, for the error message.

    Raises
    ------
    UserError
        The file is missing, empty, or no UTF-8 CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = [row for row in csv.reader(handle, strict=True) if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        raise UserError(f"{path}: expected {what}, found no such file; check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected {what}, found a file that cannot be read as such ({error})") from error
    if not rows:
        raise UserError(f"{path}: expected {what}, found an empty file; write it again")
    return rows


def read_scores(path: Path, scale: str | None = None) -> ScoreFile:
    """Read a file of scores.

    Parameters
    ----------
    path : Path
        CSV with two columns, with or without a header.
    scale : str, optional
        ``0-1`` or ``0-100``; told by the largest value where it is not given.

    Raises
    ------
    UserError
        The file cannot be read, has a row of other than two cells, a score that is no number, is not finite or lies
        outside the scale, or a signal twice.
    """
    rows = read_rows(path, "a CSV file of signal ids and scores")
    header = len(rows[0]) == 2 and _number(rows[0][1]) is None and rows[0][1].strip() != ""
    scores: dict[str, float] = {}
    for row in rows[1:] if header else rows:
        if len(row) != 2 or not row[0].strip():
            raise UserError(f"{path}: expected two columns, signal id and score, found {','.join(row)!r}; mend the row")
        signal, value = row[0].strip(), _number(row[1])
        if value is None or not math.isfinite(value):
            raise UserError(f"{path}: signal {signal}: expected a finite number, found {row[1]!r}; mend the row")
        if signal in scores:
            raise UserError(f"{path}: signal {signal} occurs twice; expected one score per signal")
        scores[signal] = value
    if not scores:
        raise UserError(f"{path}: expected scores, found only a header; write it again")
    largest = max(scores.values())
    found = scale or ("0-1" if largest <= 1.0 else "0-100")
    factor = SCALES[found]
    for signal, value in scores.items():
        if not 0.0 <= value * factor <= 100.0:
            raise UserError(
                f"{path}: signal {signal}: expected a score in {found}, found {value:g}; "
                "clamp the scores, or give the right --scale"
            )
    return ScoreFile(path, {signal: value * factor for signal, value in scores.items()}, header, found, largest)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
