"""The challenge's baselines: the curve, its files, and the challenge's figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import REFUSALS, refusal
from scipy.special import expit

from scow.errors import UserError
from scow.evaluation.baselines import baseline_predictions, find_baselines, fit_curve, read_baseline_scores


def test_fit_curve_finds_the_curve_of_the_data() -> None:
    x = np.linspace(-2, 3, 200)
    assert fit_curve(x, expit(1.7 * x - 0.6)) == pytest.approx((1.7, -0.6), abs=1e-6)
    rng = np.random.default_rng(0)
    x, hits = rng.random(400), rng.random(400) < 0.6
    best = np.array(fit_curve(x, hits))
    losses = [
        np.sum((expit(a * x + b) - hits) ** 2) for a, b in best + 0.01 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1]])
    ]
    assert np.argmin(losses) == 0  # the least-squares solution on noisy data


def test_unlabelled_train_signals_are_left_out() -> None:
    labels = {"a": 0.2, "b": 0.7, "c": 0.4, "d": math.nan}
    scores = {"a": 0.1, "b": 0.9, "c": 0.5}
    with_more = baseline_predictions({**scores, "d": 5.0, "e": 9.0}, labels, {"v": 0.5})
    assert with_more == baseline_predictions(scores, labels, {"v": 0.5})
    for useless in ({"d": 1.0}, {"a": 1.0, "b": 1.0}):
        with pytest.raises(UserError, match="--train-metadata"):
            baseline_predictions(useless, labels, {"v": 0.5})


def test_find_baselines_pairs_files_by_name(tmp_path: Path) -> None:
    names = ("train.stoi", "valid.stoi", "cadenza_data.train.whisper.base", "cadenza_data.eval.whisper.base")
    paths = [tmp_path / f"{name}.jsonl" for name in names]
    for path in paths:
        path.touch()
    expected = {"stoi": tuple(paths[:2]), "whisper.base": tuple(paths[2:])}
    assert find_baselines([tmp_path]) == find_baselines(paths) == expected
    (tmp_path / "empty").mkdir()
    for wrong in (paths[1:], [*paths, tmp_path / "eval.stoi.jsonl"], [tmp_path / "x"], [tmp_path / "empty"]):
        with pytest.raises(UserError, match="expected"):
            find_baselines(wrong)


@pytest.mark.parametrize("line", REFUSALS["baselines"])
def test_malformed_scores_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "valid.x.jsonl"
    path.write_text(json.dumps({"signal": "a", "x": 1}) + "\n\n", encoding="utf-8-sig")
    assert read_baseline_scores(path) == {"a": 1.0}
    with path.open("a", encoding="utf-8") as handle:
        handle.write(line)
    with refusal("line 3: expected"):
        read_baseline_scores(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="JSON lines"):
        read_baseline_scores(path)
