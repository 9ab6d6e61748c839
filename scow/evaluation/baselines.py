"""The challenge's two baselines: correctness as a logistic curve of one score.

``correctness = 1 / (1 + exp(-(a x + b)))``, with a and b fitted by least squares to labelled train signals. x is one
number for each signal: the hit rate of Whisper base.en in the better ear, or STOI against separated vocals.

The scores are JSON lines, ``{"signal": "...", "<name>": 0.6}``, in files named ``<split>.<name>.jsonl``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from scow.errors import UserError


def fit_curve(x: np.ndarray, correctness: np.ndarray) -> tuple[float, float]:
    """Slope a and offset b of the curve, fitted to x and correctness in 0-1, both of shape (n,)."""
    slope, offset = least_squares(lambda p: expit(p[0] * x + p[1]) - correctness, x0=(1.0, 0.0), method="lm").x
    return float(slope), float(offset)


def baseline_predictions(
    train_scores: Mapping[str, float], train_labels: Mapping[str, float], scores: Mapping[str, float]
) -> dict[str, float]:
    """Points of 0-100 for `scores` by signal; train labels are correctness in 0-1, NaN where unknown."""
    common = [signal for signal in train_scores if not math.isnan(train_labels.get(signal, math.nan))]
    x, y = (np.array([values[signal] for signal in common]) for values in (train_scores, train_labels))
    if len(np.unique(x)) < 2:
        raise UserError(
            f"baseline: expected at least 2 different scores of labelled train signals, found {len(np.unique(x))}; "
            "check --train-metadata"
        )
    slope, offset = fit_curve(x, y)
    predicted = 100.0 * expit(slope * np.array(list(scores.values())) + offset)
    return dict(zip(scores, predicted.tolist(), strict=True))


def find_baselines(paths: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """For each baseline its train file and its file of another split, among files and folders of files."""
    files = [file for path in paths for file in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"{paths[0]}: expected files <split>.<name>.jsonl, found none; check --baseline-scores")
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for file in files:
        split, _, name = file.name.removesuffix(".jsonl").partition(".")
        found.setdefault(name, ([], []))[split != "train"].append(file)
    for name, (train, other) in found.items():
        if not name or len(train) != 1 or len(other) != 1:
            raise UserError(
                f"{(train + other)[0]}: expected for each baseline two files, train.<name>.jsonl and one of another "
                f"split, found {', '.join(file.name for file in train + other)}; check --baseline-scores"
            )
    return {name: (train[0], other[0]) for name, (train, other) in found.items()}


def read_baseline_scores(path: Path) -> dict[str, float]:
    """Score by signal of a file of JSON lines."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected JSON lines of scores, found a file that cannot be read ({error})") from error
    scores: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            signal = raw.pop("signal")
            (value,) = raw.values()
            good = isinstance(signal, str) and not isinstance(value, bool) and math.isfinite(value)
        except (ValueError, TypeError, KeyError, AttributeError):
            good = False
        if not good or signal in scores:
            raise UserError(
                f'{path}, line {number}: expected {{"signal": id, name: number}}, each signal once, found {line[:60]!r}'
            )
        scores[signal] = float(value)
    return scores
