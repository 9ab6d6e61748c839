"""scow.training.cross_validation: who saw what, scores and words in their places, and figures against figures worked out here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_heard_tables
from reference_transformer import SMALL, invented
from reference_transformer import train_options as options

from scow.errors import UserError
from scow.metrics import roc_auc
from scow.models.inputs import ModelInput, load_input
from scow.models.model import FitSetup, Prediction
from scow.models.transformer import Transformer
from scow.training.cross_validation import CrossValidation, cross_validate, write_cross_validation


class Spy:
    """A model that remembers whom it was fitted to and whom it predicts."""

    def __init__(self, inner, part: ModelInput, groups, held, seed: int) -> None:
        self.inner, self.fitted_to, self.groups, self.held, self.seed = inner, part.signals, groups, held, seed
        self.predicted: list[tuple[str, ...]] = []

    def predict(self, batch: ModelInput, device: str = "cpu") -> Prediction:
        self.predicted.append(batch.signals)
        return self.inner(batch)


def names(batch: ModelInput) -> Prediction:
    """Says of each word its signal's number and its place, and of each signal its number."""
    numbers = np.array([int(signal) for signal in batch.signals], dtype=np.float64)
    words = [int(s) + i / 100 for s, ws in zip(batch.signals, batch.words, strict=True) for i in range(len(ws))]
    return Prediction(numbers / 1000, np.array(words))


def random_result(seed: int = 0, n: int = 240, n_repeats: int = 2, **changes) -> CrossValidation:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 9, n) * 12.5
    scores = (truth + rng.normal(scale=20, size=(n_repeats, n))).clip(0, 100)
    folds = np.stack([rng.permutation(n) % 4 for _ in range(n_repeats)])
    values = {"words": None, "hearing_loss": rng.integers(0, 3, n), "groups": tuple(str(i // 3) for i in range(n))}
    return CrossValidation(**{"scores": scores, "folds": folds, "truth": truth, **values, **changes})


def test_each_signal_is_predicted_by_a_network_that_saw_nothing_of_its_group():
    batch = invented(n_prompts=12)
    groups = [f"track {i // 6}" for i in range(36)]  # two prompts a track, three signals a prompt
    spies: list[Spy] = []

    def fitter(part, part_groups, held, seed):
        model = Transformer.fit(part, SMALL, FitSetup(part_groups, seed, train=options(epochs=2)))
        spies.append(Spy(model.predict, part, part_groups, held, seed))
        return spies[-1]

    told = []
    result = cross_validate(
        batch,
        groups,
        fitter,
        n_folds=3,
        n_repeats=2,
        seed=10,
        on_fold=lambda repeat, fold: told.append((repeat, fold)),
    )
    assert told == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [spy.seed for spy in spies] == [10, 10, 10, 11, 11, 11]
    held_out = [spy.predicted[0] for spy in spies]
    assert all(len(spy.predicted) == 1 for spy in spies)
    group_of = dict(zip(batch.signals, groups, strict=True))
    for spy, held in zip(spies, held_out, strict=True):
        assert spy.groups == [group_of[s] for s in spy.fitted_to]
        assert spy.held == {group_of[s] for s in held}
        assert not spy.held & set(spy.groups)
        assert len(spy.fitted_to) + len(held) == 36
    for repeat in (0, 1):
        covered = Counter(signal for held in held_out[3 * repeat : 3 * repeat + 3] for signal in held)
        assert covered == Counter(batch.signals)
    assert {frozenset(held) for held in held_out[:3]} != {frozenset(held) for held in held_out[3:]}
    # Each score stands in the place of its signal.
    assert result.scores.shape == result.folds.shape == (2, 36)
    place = {signal: i for i, signal in enumerate(batch.signals)}
    for number, (spy, held) in enumerate(zip(spies, held_out, strict=True)):
        index = [place[signal] for signal in held]
        expected = 100 * np.clip(spy.inner(batch.take(torch.tensor(index))).correctness, 0, 1)
        np.testing.assert_allclose(result.scores[number // 3, index], expected, rtol=0, atol=1e-9)
        assert (result.folds[number // 3, index] == number % 3).all()
    assert result.words is None
    assert result.groups == tuple(groups)
    truth = 100 * batch.target.double().numpy()
    np.testing.assert_array_equal(result.truth, truth)
    for row, agreement in zip(result.scores, result.repeats, strict=True):
        assert agreement.rmse == pytest.approx(np.sqrt(np.mean((row - truth) ** 2)), abs=1e-9)
        assert agreement.r == pytest.approx(np.corrcoef(row, truth)[0, 1], abs=1e-9)
        assert agreement.n_signals == 36
    assert result.rmse == pytest.approx(np.mean([agreement.rmse for agreement in result.repeats]))
    assert result.r == pytest.approx(np.mean([agreement.r for agreement in result.repeats]))


def test_scores_and_words_stand_in_their_places(tmp_path):
    tables, _ = make_heard_tables(tmp_path, 36)
    batch = load_input(*tables, ("tiny.en",))
    groups = [f"g{i % 5}" for i in range(36)]  # folds tear neighbours apart
    result = cross_validate(batch, groups, lambda *given: Spy(names, *given), n_folds=5, n_repeats=2, seed=0)
    expected = names(batch)
    for repeat in (0, 1):
        np.testing.assert_allclose(result.scores[repeat], 100 * expected.correctness, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(result.words[repeat], expected.words)


def test_scores_are_clamped():
    batch = invented(n_prompts=4)
    says = Prediction(np.array([-0.5, 0.5, 1.5]))
    result = cross_validate(
        batch, batch.prompts, lambda *given: Spy(lambda _: says, *given), n_folds=4, n_repeats=1, seed=0
    )
    assert result.scores[0].tolist() == 4 * [0.0, 50.0, 100.0]


def test_figures_by_severity_are_over_all_repeats_together():
    result = random_result()
    found = result.by_severity()
    assert list(found) == ["No Loss", "Mild", "Moderate"]
    for i, agreement in enumerate(found.values()):
        pairs = [
            (score, true)
            for row in result.scores
            for score, true, severity in zip(row, result.truth, result.hearing_loss, strict=True)
            if severity == i
        ]
        scores, truth = np.array(pairs).T
        assert agreement.n_signals == len(pairs)
        assert agreement.rmse == pytest.approx(np.sqrt(np.mean((scores - truth) ** 2)), rel=1e-12)
        assert agreement.r == pytest.approx(np.corrcoef(scores, truth)[0, 1], rel=1e-9)
    only_mild = random_result(hearing_loss=np.ones(240, dtype=np.int64))
    assert list(only_mild.by_severity()) == ["Mild"]


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_coverage_is_that_of_intervals_of_the_other_folds(level):
    """The referee goes signal by signal: is it inside the quantile of its severity in the other folds?"""
    result = random_result(n=90)
    p, t = result.scores / 100, result.truth / 100
    distance = np.abs(p - t) / (p * (1 - p) + 0.02)
    inside = np.zeros(p.shape, dtype=bool)
    for repeat in range(2):
        for i in range(90):
            others = (result.folds[repeat] != result.folds[repeat, i]) & (result.hearing_loss == result.hearing_loss[i])
            half = np.quantile(distance[repeat, others], level) * (p[repeat, i] * (1 - p[repeat, i]) + 0.02)
            inside[repeat, i] = abs(p[repeat, i] - t[i]) <= half + 1e-6
    found = result.coverage(level)
    assert found["all"] == pytest.approx(inside.mean(), abs=1e-12)
    for i, name in enumerate(("No Loss", "Mild", "Moderate")):
        assert found[name] == pytest.approx(inside[:, result.hearing_loss == i].mean(), abs=1e-12)


def test_coverage_of_exchangeable_signals_is_the_level():
    found = random_result(n=3000, n_repeats=1).coverage(0.8)
    # 3,000 signals know a share of 0.8 to 0.0073, the calibration to about as much: 0.03 is three of both.
    assert found["all"] == pytest.approx(0.8, abs=0.03)


def test_standard_error_is_by_group():
    """All errors of a group alike: the groups count, not the signals."""
    rng = np.random.default_rng(5)
    truth = np.full(600, 50.0)
    scores = (50 + np.repeat(rng.normal(scale=20, size=60), 10))[None]
    together = random_result(
        n=600, n_repeats=1, truth=truth, scores=scores, groups=tuple(str(i // 10) for i in range(600))
    )
    alone = random_result(n=600, n_repeats=1, truth=truth, scores=scores, groups=tuple(map(str, range(600))))
    # The square root of 10, as far as 1,000 resamples know a standard error (2 % each).
    assert together.rmse_error / alone.rmse_error == pytest.approx(np.sqrt(10), rel=0.15)


def test_r_of_constant_scores_is_undefined():
    result = random_result(scores=np.full((2, 240), 40.0))
    assert result.r is None
    assert str(result) == f"RMSE {result.rmse:.2f}, r undefined"


def test_word_figures():
    rng = np.random.default_rng(3)
    labels, words = (rng.random(500) < 0.6).astype(float), rng.random((2, 500))
    result = random_result(words=words, labels=labels)
    assert result.word_auc == pytest.approx(np.mean([roc_auc(row, labels) for row in words]), abs=1e-12)
    assert random_result(words=words).word_auc is None
    assert random_result(labels=labels).word_auc is None


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_word_figures_where_all_words_are_alike(label):
    assert random_result(words=np.random.default_rng(0).random((2, 9)), labels=np.full(9, label)).word_auc is None


def test_calibration_bins():
    result = random_result(n=6, n_repeats=1, scores=np.array([[10.0, 60, 20, 50, 30, 40]]), truth=np.arange(6.0))
    assert result.calibration(3) == [
        {"predicted": 15.0, "true": 1.0, "n": 2},  # signals 0 and 2
        {"predicted": 35.0, "true": 4.5, "n": 2},
        {"predicted": 55.0, "true": 2.0, "n": 2},
    ]
    assert sum(found["n"] for found in result.calibration(10)) == 6


def test_written_figures(tmp_path: Path):
    result = random_result()
    path = tmp_path / "new" / "cross_validation.json"
    write_cross_validation(path, result, grouped_by="track", seed=7)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert (written["n_signals"], written["folds"], written["seeds"]) == (240, 4, [7, 8])
    assert written["grouped_by"] == "track"
    assert (written["rmse"], written["r"]) == (result.rmse, result.r)
    assert written["rmse_standard_error"] == result.rmse_error
    assert written["repeats"] == [{"rmse": repeat.rmse, "r": repeat.r} for repeat in result.repeats]
    assert {name: figures["rmse"] for name, figures in written["by_severity"].items()} == {
        name: found.rmse for name, found in result.by_severity().items()
    }
    assert written["coverage_of_80_percent_intervals"] == result.coverage(0.8)
    assert [left.name for left in path.parent.iterdir()] == ["cross_validation.json"]


def test_fewer_groups_than_folds():
    batch = invented(n_prompts=2)
    with pytest.raises(UserError, match=r"expected 2 to 2, .*found 3"):
        cross_validate(batch, batch.prompts, lambda *given: Spy(names, *given), n_folds=3, n_repeats=1, seed=0)
