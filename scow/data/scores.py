"""Score files: one line per signal, its id and its score.

This project writes them without a header and in points of 0-100, as the challenge's leaderboard takes them; the
challenge's e-mail form needs the header ``signal_id,intelligibility_score``. Both are read, and shares of 0-1 too.

The scale is inferred from the largest value: up to 1 they are shares. Points that never exceed 1 would be misread, so
the scale can be given.
"""

from __future__ import annotations

import csv
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
    """A score file that was read."""

    path: Path
    scores: dict[str, float]  # points of 0-100 by signal, in the order of the file
    header: bool
    scale: str  # one of SCALES
    largest: float  # value in the file, from which the scale was inferred

    def __str__(self) -> str:
        header = "a header" if self.header else "no header"
        return f"{self.path}: {len(self.scores)} scores, {header}, scale {self.scale} (largest value {self.largest:g})"


def write_scores(path: Path, signals: Sequence[str], scores: np.ndarray) -> None:
    """Write signal ids and scores: two columns, no header, six decimals."""
    write_rows(path, [(signal, f"{score:.6f}") for signal, score in zip(signals, scores, strict=True)])


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


def read_rows(path: Path, what: str) -> list[list[str]]:
    """Rows of a CSV file that are not blank, at least one; messages name `what` was expected."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = [row for row in csv.reader(handle, strict=True) if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        raise UserError(f"{path}: expected {what}, found no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected {what}, found {error}") from error
    if not rows:
        raise UserError(f"{path}: expected {what}, found an empty file")
    return rows


def read_scores(path: Path, scale: str | None = None) -> ScoreFile:
    """Read a score file, with or without a header; `scale` (``0-1`` or ``0-100``) is inferred where it is not given."""
    rows = read_rows(path, "a CSV file of signal ids and scores")
    header = len(rows[0]) == 2 and bool(rows[0][1].strip()) and _number(rows[0][1]) is None
    values: dict[str, float] = {}
    for row in rows[header:]:
        signal, value = row[0].strip(), _number(row[-1])
        if len(row) != 2 or not signal or value is None or not np.isfinite(value):
            raise UserError(f"{path}: expected a signal id and a finite number in each row, found {','.join(row)!r}")
        if signal in values:
            raise UserError(f"{path}: expected one score per signal, found {signal} twice")
        values[signal] = value
    if not values:
        raise UserError(f"{path}: expected scores, found only a header")
    largest = max(values.values())
    scale = scale or ("0-1" if largest <= 1.0 else "0-100")
    scores = {signal: value * SCALES[scale] for signal, value in values.items()}
    for signal, score in scores.items():
        if not 0.0 <= score <= 100.0:
            raise UserError(
                f"{path}: signal {signal}: expected a score in {scale}, found {values[signal]:g}; is --scale right?"
            )
    return ScoreFile(path, scores, header, scale, largest)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
