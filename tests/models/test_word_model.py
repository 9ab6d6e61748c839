"""scow.models.word_model: fits on invented signals whose true chances are known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import RESPONSE_COLUMNS, make_response_tables, records_with_responses

from scow.data.metadata import SignalRecord
from scow.errors import UserError
from scow.models.config import WordModelConfig
from scow.models.inputs import ModelInput, load_input
from scow.models.model import FitSetup
from scow.models.text_prior import PriorCorpus
from scow.models.word_features import word_features
from scow.models.word_model import WordModel, labels_of

CONFIG = WordModelConfig(c=0.1)


def invented(
    folder: Path, n_signals: int = 120, seed: int = 0, columns: tuple[str, ...] = RESPONSE_COLUMNS
) -> ModelInput:
    return load_input(*make_response_tables(folder, n_signals, seed=seed)[0], columns)


def fit(inputs: ModelInput, config: WordModelConfig = CONFIG, corpus: list[SignalRecord] | None = None) -> WordModel:
    setup = FitSetup(inputs.prompts, 0, corpus=PriorCorpus(corpus or ()))
    return WordModel.fit(inputs, config, setup)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> ModelInput:
    return invented(tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> ModelInput:
    return invented(tmp_path_factory.mktemp("new"), 90, seed=500)


@pytest.fixture(scope="module")
def model(inputs) -> WordModel:
    return fit(inputs, corpus=records_with_responses(120, 77, "p")[0])


def test_predict_learns_the_chances(model, new):
    """On new signals, against the chances that the responses were drawn with."""
    _, chances = records_with_responses(90, 500)
    true_words = np.concatenate([chances[signal] for signal in new.signals])
    found = model.predict(new)
    # The scores are the chances with noise of 0.05 on the mean of four; the model is fitted to 600 hits and misses.
    assert np.sqrt(np.mean((found.words - true_words) ** 2)) < true_words.std() / 2
    assert np.corrcoef(found.words, true_words)[0, 1] > 0.9
    for i, correctness in enumerate(found.correctness):
        assert correctness == pytest.approx(found.words[new.word_signals == i].mean(), abs=1e-12)
    turned = model.predict(new.take(torch.arange(90).flip(0)))
    np.testing.assert_allclose(turned.correctness, found.correctness[::-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["full", "without_dnsmos"])
def test_regression_is_at_minimum_of_its_loss(model, inputs, name):
    """Where the weights are best, the log-loss's slope is the penalty's, with a quarter of it for three blocks."""
    config = WordModelConfig(c=0.1, without=("dns",) if name == "without_dnsmos" else ())
    features = word_features(inputs, model.prior.logits(inputs.prior_texts), config)
    regression, values = model.regressions[name], features.to_numpy()
    np.testing.assert_allclose(regression.mean, values.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(regression.scale[:4], values.std(axis=0)[:4], rtol=0, atol=1e-12)
    residual = labels_of(inputs) - regression.probabilities(values)
    share = np.array([0.25 if column.split(".")[0] in ("sent", "prior", "knots") else 1.0 for column in features])
    pull = share * regression.weight / 0.1
    np.testing.assert_allclose(((values - regression.mean) / regression.scale).T @ residual, pull, rtol=0, atol=1e-3)
    assert np.abs(pull).max() > 1
    assert residual.sum() == pytest.approx(0, abs=1e-3)


def test_fit_does_not_see_held_groups(inputs):
    """Neither in the prior nor in the logits; and the same fit twice is the same to the bit."""
    corpus = records_with_responses(120)[0]  # the signals of the input themselves
    groups = [record.track for record in corpus]
    held, rest = frozenset(groups[:12]), torch.arange(12, 120)
    silent = [dataclasses.replace(r, response="") if r.track in held else r for r in corpus]
    states = [
        WordModel.fit(
            inputs.take(rest), CONFIG, FitSetup(groups[12:], 3, held_groups=held, corpus=PriorCorpus(records))
        ).state_dict()
        for records in (corpus, silent)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_fit_refuses(inputs):
    silent = dataclasses.replace(inputs, responses=("",) * len(inputs))
    first = int(torch.nonzero(inputs.target > 0)[0])
    lost = dataclasses.replace(inputs, responses=tuple("" if i == first else "x" for i in range(len(inputs))))
    for some, words in (
        (silent, "responses, found none for 120 of 120 signals.*--responses"),
        (lost, f"responses, found none for 1 of 120 signals, for instance {inputs.signals[first]}; "),
        (dataclasses.replace(inputs, feature_cols=("n_words", "tiny")), "data.feature_cols: .*found n_words"),
        (dataclasses.replace(inputs, feature_cols=("stoi",)), "data.feature_cols: .*at least one Whisper column"),
        (dataclasses.replace(inputs, feature_cols=("tiny", "dns_sig")), "data.feature_cols: .*all of dns_sig"),
    ):
        with pytest.raises(UserError, match=words):
            fit(some)
