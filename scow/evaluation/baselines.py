"""The challenge's two baselines: correctness as a logistic curve of one score.

``correctness = 1 / (1 + exp(-(a x + b)))``, with a and b fitted by least squares to labelled train signals. x is one
number for each signal: the hit rate of Whisper base.en in the better ear, or STOI against separated vocals.

The scores are JSON lines, ``{"signal": "...", "<name>": 0.6}``, in files named ``<split>.<name>.jsonl``, or with a
prefix as the challenge's own code writes them, ``cadenza_data.<split>.<name>.jsonl``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from scow.errors import expect
from scow.io import reading

SPLITS = ("train", "valid", "eval")


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
    n_different = len(np.unique(x))
    expect(n_different > 1, "--train-metadata", "labels of train signals with different baseline scores", n_different)
    slope, offset = fit_curve(x, y)
    predicted = 100.0 * expit(slope * np.array(list(scores.values())) + offset)
    return dict(zip(scores, predicted.tolist(), strict=True))


def find_baselines(paths: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """For each baseline its train file and its file of another split, among files and folders of files."""
    files = [file for path in paths for file in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    expect(files, f"--baseline-scores {paths[0]}", "files <split>.<name>.jsonl", "none")
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for file in files:
        parts = file.name.removesuffix(".jsonl").split(".")
        at = next((i for i, part in enumerate(parts) if part in SPLITS), 0)  # behind a prefix, if there is one
        found.setdefault(".".join(parts[at + 1 :]), ([], []))[parts[at] != "train"].append(file)
    for name, (train, other) in found.items():
        expected = "two files for each baseline, train.<name>.jsonl and one of another split"
        is_pair = name and len(train) == len(other) == 1
        expect(is_pair, "--baseline-scores", expected, ", ".join(str(file) for file in train + other))
    return {name: (train[0], other[0]) for name, (train, other) in found.items()}


def read_baseline_scores(path: Path) -> dict[str, float]:
    """Score by signal of a file of JSON lines."""
    with reading(path, "JSON lines of scores"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    scores: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            signal: Any = None
            value: Any = None
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                raw = json.loads(line)
                signal, (value,) = raw.pop("signal"), raw.values()
            is_score = isinstance(signal, str) and type(value) in (int, float) and math.isfinite(value)
            expected = '{"signal": id, name: number}, each signal once'
            expect(is_score and signal not in scores, f"{path}, line {number}", expected, repr(line[:60]))
            scores[signal] = float(value)
    return scores
