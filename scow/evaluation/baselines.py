"""The challenge's two baselines: correctness as a logistic curve of one score.

``correctness = 1 / (1 + exp(-(a x + b)))``, with a and b fitted by least squares to labelled signals and applied to
others. x is one number per signal: Whisper base.en's hit rate in the better ear, or STOI against separated vocals.

The scores come as JSON lines, ``{"signal": "...", "<name>": 0.6}``, in files named ``<split>.<name>.jsonl``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from scow.errors import UserError


@dataclass(frozen=True)
class LogisticCurve:
    """A fitted curve.

    Attributes
    ----------
    slope, offset : float
        a and b.
    """

    slope: float
    offset: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Correctness in 0-1."""
        share: np.ndarray = expit(self.slope * x + self.offset)
        return share


def fit_curve(x: np.ndarray, correctness: np.ndarray) -> LogisticCurve:
    """Fit a curve by least squares.

    Parameters
    ----------
    x, correctness : ndarray, shape (n,)

    Raises
    ------
    UserError
        Fewer than two different scores: no curve is determined.
    """
    if len(np.unique(x)) < 2:
        raise UserError(
            f"baseline: expected at least 2 different scores to fit to, found {len(np.unique(x))}; add some"
        )
    slope, offset = least_squares(lambda p: expit(p[0] * x + p[1]) - correctness, x0=(1.0, 0.0), method="lm").x
    return LogisticCurve(float(slope), float(offset))


def baseline_predictions(
    train_scores: Mapping[str, float], train_labels: Mapping[str, float], scores: Mapping[str, float]
) -> dict[str, float]:
    """A baseline's predictions in points of 0-100.

    Parameters
    ----------
    train_scores, scores : mapping of str to float
        x by signal, of the signals to fit to and of those to predict.
    train_labels : mapping of str to float
        Correctness in 0-1; signals without one are left out.

    Raises
    ------
    UserError
        No signal has both score and label, or no curve is determined by them.
    """
    common = [signal for signal in train_scores if not math.isnan(train_labels.get(signal, math.nan))]
    if not common:
        raise UserError("baseline: expected scores of labelled train signals, found none; check --train-metadata")
    x, y = (np.array([values[signal] for signal in common]) for values in (train_scores, train_labels))
    predicted = fit_curve(x, y)(np.array(list(scores.values()))) * 100.0
    return dict(zip(scores, predicted.tolist(), strict=True))


def find_baselines(paths: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """Pairs of score files, to fit to and to predict, by the baseline's name.

    Parameters
    ----------
    paths : sequence of Path
        Files, or folders of files, named ``<split>.<name>.jsonl``; for each name one of the split train and one more.

    Raises
    ------
    UserError
        No such file, or a name without its pair.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"{paths[0]}: expected files <split>.<name>.jsonl, found none; check --baseline-scores")
    found: dict[str, dict[bool, Path]] = {}
    for file in files:
        split, _, name = file.name.removesuffix(".jsonl").partition(".")
        if not name or file.suffix != ".jsonl":
            raise UserError(f"{file}: expected a file name <split>.<name>.jsonl, as train.stoi.jsonl; rename it")
        pair = found.setdefault(name, {})
        if (split == "train") in pair:
            raise UserError(
                f"{file}: expected one file to {'fit to' if split == 'train' else 'predict'} for the baseline {name}, "
                f"found {pair[split == 'train'].name} too; name the files one by one"
            )
        pair[split == "train"] = file
    for name, pair in found.items():
        if len(pair) < 2:
            lacking = "another split" if True in pair else "the split train"
            raise UserError(f"{next(iter(pair.values()))}: expected a {name} file of {lacking} too; add it")
    return {name: (pair[True], pair[False]) for name, pair in found.items()}


def read_baseline_scores(path: Path) -> dict[str, float]:
    """Score by signal of a file of JSON lines.

    Raises
    ------
    UserError
        The file is missing or a line is not ``{"signal": id, name: finite number}``, or a signal occurs twice.
    """
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
        if not good:
            raise UserError(f'{path}, line {number}: expected {{"signal": id, name: number}}, found {line[:60]!r}')
        if signal in scores:
            raise UserError(f"{path}, line {number}: signal {signal} occurs twice; expected one score per signal")
        scores[signal] = float(value)
    if not scores:
        raise UserError(f"{path}: expected JSON lines of scores, found none; check the file")
    return scores
