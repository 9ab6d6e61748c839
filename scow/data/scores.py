"""Score files: one line per signal, its id and its score.

This project writes them without a header and in points of 0-100, as the challenge's leaderboard takes them; the
challenge's e-mail form needs the header ``signal_id,intelligibility_score``. Both are read, and shares of 0-1 too.

The scale is inferred from the largest value: up to 1 they are shares. Points that never exceed 1 would be misread, so
the scale can be given; it must be where half of the values or more are above 0 and up to 1, but the largest is not.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scow.data.tables import numbers
from scow.errors import expect
from scow.io import atomic_write, read_csv

CV_SCORES = "cv_scores.csv"  # of cross-validation, beside a checkpoint: no score is of a model that saw the signal
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
    rows = [row for row in read_csv(path, what) if any(cell.strip() for cell in row)]
    expect(rows, path, what, "an empty file")
    return rows


def read_scores(path: Path, scale: str | None = None) -> ScoreFile:
    """Read a score file, with or without a header; `scale` (``0-1`` or ``0-100``) is inferred where it is not given."""
    rows = read_rows(path, "signal ids and scores")
    cells = numbers([row[-1] for row in rows])
    header = len(rows[0]) == 2 and math.isinf(cells[0])
    values: dict[str, float] = {}
    for row, value in zip(rows[header:], cells[header:].tolist(), strict=True):
        signal = row[0].strip()
        is_score = len(row) == 2 and signal and math.isfinite(value)
        expect(is_score, path, "a signal id and a finite number in each row", repr(",".join(row)))
        expect(signal not in values, path, "one score per signal", f"{signal} twice")
        values[signal] = value
    expect(values, path, "scores", "only a header")
    largest = max(values.values())
    if not scale:
        scale = "0-1" if largest <= 1.0 else "0-100"
        n_small = sum(0 < value <= 1 for value in values.values())
        found = f"{n_small} of {len(values)} up to 1 and one of {largest:g}; if these are right, give --scale"
        expect(largest <= 1 or 2 * n_small < len(values), path, "scores on one scale", found)
    scores = {signal: value * SCALES[scale] for signal, value in values.items()}
    for signal, score in scores.items():
        expect(0 <= score <= 100, path, f"scores in {scale}", f"{values[signal]:g} for {signal}; is --scale right?")
    return ScoreFile(path, scores, header, scale, largest)
