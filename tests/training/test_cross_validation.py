"""scow.training.cross_validation: held-out groups, places of scores and words, figures against a second computation."""

from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from helpers import make_response_tables

from scow.models.inputs import ModelInput, load_input
from scow.models.model import FitSetup, Model, Prediction
from scow.training.cross_validation import CrossValidation, coverage, cross_validate, figures, shared_error, word_auc


class Numbers(Model):
    """Predicts each signal's number, and for each word its signal's number and its place; remembers its fits."""

    predicts_words = True
    fits: ClassVar[list[tuple[ModelInput, FitSetup]]] = []

    @classmethod
    def fit(cls, inputs, config, setup):
        cls.fits.append((inputs, setup))
        return cls()

    def predict(self, inputs, device="cpu"):
        numbers = np.array([int(signal) for signal in inputs.signals], dtype=np.float64)
        places = [int(s) + i / 100 for s, ws in zip(inputs.signals, inputs.words, strict=True) for i in range(len(ws))]
        return Prediction((numbers - 1) / 30, np.array(places))

    def state_dict(self):
        return {}

    @classmethod
    def from_state_dict(cls, config, feature_cols, state):
        return cls()


def random_result(seed: int = 0, n: int = 240, n_repeats: int = 2, **changes) -> CrossValidation:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 9, n) * 12.5
    scores = (truth + rng.normal(scale=20, size=(n_repeats, n))).clip(0, 100)
    folds = np.stack([rng.permutation(n) % 4 for _ in range(n_repeats)])
    values = {"words": None, "hearing_loss": rng.integers(0, 3, n), "groups": tuple(str(i // 3) for i in range(n))}
    return CrossValidation(**{"scores": scores, "folds": folds, "truth": truth, **values, **changes})


def test_cross_validate_holds_out_whole_groups_and_puts_scores_in_their_places(tmp_path):
    tables, _ = make_response_tables(tmp_path, 36)
    inputs = load_input(*tables, ("tiny.en",))
    groups = [f"g{i % 5}" for i in range(36)]  # neighbours are in different folds
    group_of = dict(zip(inputs.signals, groups, strict=True))
    Numbers.fits.clear()
    result = cross_validate(inputs, Numbers, None, FitSetup(groups, 10), n_folds=3, n_repeats=2)
    assert [setup.seed for _, setup in Numbers.fits] == [10, 10, 10, 11, 11, 11]
    for part, setup in Numbers.fits:
        assert list(setup.groups) == [group_of[signal] for signal in part.signals]
        assert not setup.held_groups & set(setup.groups)
        assert setup.held_groups | set(setup.groups) == set(groups)
    seen = Counter((setup.seed, signal) for part, setup in Numbers.fits for signal in part.signals)
    assert set(seen.values()) == {2}  # each signal is held out once per repeat
    expected = Numbers().predict(inputs)
    for repeat in (0, 1):
        np.testing.assert_allclose(result.scores[repeat], 100 * expected.correctness.clip(0, 1), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(result.words[repeat], expected.words)
        assert len(set(zip(groups, result.folds[repeat].tolist(), strict=True))) == 5  # one fold for each group
    assert not np.array_equal(*result.folds)
    assert result.signals == inputs.signals
    np.testing.assert_array_equal(result.truth, 100 * inputs.target.double().numpy())


def test_figures_against_numpy():
    rng = np.random.default_rng(3)
    labels, words = (rng.random(500) < 0.6).astype(float), rng.random((2, 500))
    result = random_result(words=words, labels=labels)
    found = figures(result, grouped_by="track", seed=7)
    errors = result.scores - result.truth
    rmses, rs = np.sqrt((errors**2).mean(axis=1)), [np.corrcoef(row, result.truth)[0, 1] for row in result.scores]
    assert (found["n_signals"], found["folds"], found["seeds"], found["grouped_by"]) == (240, 4, [7, 8], "track")
    assert [repeat["rmse"] for repeat in found["repeats"]] == pytest.approx(rmses)
    assert [repeat["r"] for repeat in found["repeats"]] == pytest.approx(rs)
    assert (found["rmse"], found["r"]) == pytest.approx((rmses.mean(), np.mean(rs)))
    assert list(found["by_severity"]) == ["No Loss", "Mild", "Moderate"]
    for i, of in enumerate(found["by_severity"].values()):
        scores, truth = result.scores[:, result.hearing_loss == i], result.truth[result.hearing_loss == i]
        assert of["rmse"] == pytest.approx(np.sqrt(((scores - truth) ** 2).mean()))
        assert of["r"] == pytest.approx(np.corrcoef(scores.ravel(), np.tile(truth, 2))[0, 1])
    pairs = [(row[labels == 1][:, None] > row[labels == 0]).mean() for row in words]
    assert found["word_auc"] == pytest.approx(np.mean(pairs))
    order = np.argsort(result.scores.ravel(), kind="stable").reshape(10, 48)
    means = np.tile(result.truth, 2)[order].mean(axis=1)
    assert [part["n"] for part in found["calibration"]] == [48] * 10
    assert [part["true"] for part in found["calibration"]] == pytest.approx(means, abs=2.0)  # ties in any order
    assert found["coverage_of_80_percent_intervals"] == coverage(result, 0.8)


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_coverage_signal_by_signal(level):
    """Is each signal inside the quantile of its hearing loss in the other folds?"""
    result = random_result(n=90)
    p, t = result.scores / 100, result.truth / 100
    distance = np.abs(p - t) / (p * (1 - p) + 0.02)
    inside = np.zeros(p.shape, dtype=bool)
    for repeat, i in np.ndindex(p.shape):
        others = (result.folds[repeat] != result.folds[repeat, i]) & (result.hearing_loss == result.hearing_loss[i])
        half = np.quantile(distance[repeat, others], level) * (p[repeat, i] * (1 - p[repeat, i]) + 0.02)
        inside[repeat, i] = abs(p[repeat, i] - t[i]) <= half + 1e-6
    found = coverage(result, level)
    assert found["all"] == pytest.approx(inside.mean(), abs=1e-12)
    for i, name in enumerate(("No Loss", "Mild", "Moderate")):
        assert found[name] == pytest.approx(inside[:, result.hearing_loss == i].mean(), abs=1e-12)


def test_undefined_figures():
    assert random_result(scores=np.full((2, 240), 40.0)).r is None
    words = np.random.default_rng(0).random((2, 9))
    for result in (random_result(words=words), random_result(words=words, labels=np.ones(9)), random_result()):
        assert word_auc(result) is None


def test_shared_error_is_the_share_of_variance_that_signals_of_a_prompt_have_in_common():
    rng = np.random.default_rng(0)
    prompts = tuple(f"prompt {i // 3}" for i in range(6_000))
    scores = rng.uniform(20, 80, (2, 6_000))
    noise = 0.6 * np.repeat(rng.normal(size=(2, 2_000)), 3, axis=1) + 0.8 * rng.normal(size=(2, 6_000))
    spread = scores / 100 * (1 - scores / 100) + 0.02
    found = [
        shared_error(random_result(scores=scores[[i]], truth=(scores + 100 * spread * noise)[i], prompts=prompts))
        for i in range(2)
    ]
    assert found == pytest.approx([0.36, 0.36], abs=0.03)
    assert shared_error(random_result(prompts=tuple(map(str, range(240))))) is None
