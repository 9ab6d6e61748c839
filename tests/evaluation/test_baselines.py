"""The challenge's baselines: the curve, its files, and the challenge's own figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scow.data.metadata import read_metadata
from scow.errors import UserError
from scow.evaluation.baselines import baseline_predictions, find_baselines, fit_curve, read_baseline_scores
from scow.metrics import pearson, rmse


def test_curve_that_made_the_data_is_found() -> None:
    x = np.linspace(-2, 3, 200)
    found = fit_curve(x, 1 / (1 + np.exp(-(1.7 * x - 0.6))))
    assert (found.slope, found.offset) == pytest.approx((1.7, -0.6), abs=1e-6)


def test_curve_is_the_least_squares_one() -> None:
    """Any step away from it is worse, on noisy data too."""
    rng = np.random.default_rng(0)
    x = rng.random(400)
    y = (rng.random(400) < x).astype(float)
    found = fit_curve(x, y)

    def loss(slope: float, offset: float) -> float:
        return float(np.sum((1 / (1 + np.exp(-(slope * x + offset))) - y) ** 2))

    best = loss(found.slope, found.offset)
    for step in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01), (0.01, 0.01), (-0.01, 0.01)):
        assert loss(found.slope + step[0], found.offset + step[1]) > best


def test_unlabelled_train_signals_are_left_out() -> None:
    labels = {"a": 0.2, "b": 0.7, "c": 0.4, "d": math.nan}
    scores = {"a": 0.1, "b": 0.9, "c": 0.5}
    with_more = baseline_predictions({**scores, "d": 5.0, "e": 9.0}, labels, {"v": 0.5})
    assert with_more == baseline_predictions(scores, labels, {"v": 0.5})
    with pytest.raises(UserError, match="expected scores of labelled train signals, found none"):
        baseline_predictions({"d": 1.0}, labels, {"v": 0.5})
    with pytest.raises(UserError, match="expected at least 2 different scores to fit to, found 1"):
        baseline_predictions({"a": 1.0, "b": 1.0}, labels, {"v": 0.5})


def test_labels_that_only_a_step_fits() -> None:
    found = baseline_predictions({"a": 0.1, "b": 0.9}, {"a": 0.0, "b": 1.0}, {"low": 0.1, "high": 0.9})
    assert found == pytest.approx({"low": 0.0, "high": 100.0}, abs=0.5)


@pytest.mark.parametrize(("name", "points", "ncc"), [("whisper", 29.12, 0.603), ("stoi", 35.99, 0.158)])
def test_challenge_figures(clip1: Path, name: str, points: float, ncc: float) -> None:
    """RMSE and NCC on the valid split that the challenge's method gives on these scores and labels."""
    pairs = find_baselines([clip1 / "baseline_scores"])
    labels = [
        {
            r.signal: r.correctness
            for r in read_metadata(clip1 / f"cadenza_data_{s}" / "metadata" / f"{s}_metadata.json")
        }
        for s in ("train", "valid")
    ]
    train, valid = (read_baseline_scores(path) for path in pairs[name])
    predicted = baseline_predictions(train, labels[0], valid)
    truth = [100 * labels[1][signal] for signal in predicted]
    assert round(rmse(list(predicted.values()), truth), 2) == points
    assert round(pearson(list(predicted.values()), truth) or 0, 3) == ncc


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_pairs_are_found_by_their_names(tmp_path: Path) -> None:
    names = ("train.stoi", "valid.stoi", "train.whisper.base", "eval.whisper.base")
    paths = {name: jsonl(tmp_path / f"{name}.jsonl", {"signal": "a", "x": 1}) for name in names}
    expected = {"stoi": (paths[names[0]], paths[names[1]]), "whisper.base": (paths[names[2]], paths[names[3]])}
    assert find_baselines([tmp_path]) == expected
    assert find_baselines(list(paths.values())) == expected
    paths[names[1]].unlink()
    with pytest.raises(UserError, match=r"train.stoi.jsonl: expected a stoi file of another split too; add it"):
        find_baselines([tmp_path])
    with pytest.raises(UserError, match=r"eval.whisper.base.jsonl: expected a whisper.base file of the split train"):
        find_baselines([paths[names[3]]])
    jsonl(tmp_path / "valid.whisper.base.jsonl", "")
    paths[names[0]].unlink()
    with pytest.raises(UserError, match=r"expected one file to predict for the baseline whisper.base"):
        find_baselines([tmp_path])
    with pytest.raises(UserError, match=r"expected a file name <split>.<name>.jsonl"):
        find_baselines([tmp_path / "scores.csv"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected files <split>.<name>.jsonl, found none"):
        find_baselines([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected JSON lines of scores, found none"),
        (["{"], "line 1: expected {\"signal\": id, name: number}, found '{'"),
        ([{"signal": "a", "x": 1}, {"signal": "b"}], "line 2: expected"),
        ([{"signal": "a", "x": None}], "line 1: expected"),
        ([{"signal": "a", "x": math.nan}], "line 1: expected"),
        ([{"signal": "a", "x": True}], "line 1: expected"),
        ([{"signal": 3, "x": 1}], "line 1: expected"),
        ([[1, 2]], "line 1: expected"),
        ([{"signal": "a", "x": 1, "y": 2}], "line 1: expected"),
        ([{"signal": "a", "x": 1}, {"signal": "a", "x": 2}], "line 2: signal a occurs twice"),
    ],
)
def test_malformed_scores_are_refused(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_baseline_scores(jsonl(tmp_path / "valid.x.jsonl", *rows))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found a file that cannot be read"):
        read_baseline_scores(tmp_path / "valid.x.jsonl")
