"""scow.models.word_model: probabilities, its two heads, its tensors; on tables whose responses follow the scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import HEARD_COLUMNS, heard_records, make_heard_tables

from scow.data.metadata import SignalRecord
from scow.data.tables import DNSMOS_COLUMNS
from scow.errors import UserError
from scow.models.inputs import ModelInput, load_input
from scow.models.intervals import calibrate
from scow.models.text_prior import PriorText, TextPrior, fit_text_prior
from scow.models.word_features import prior_texts, word_table
from scow.models.word_model import (
    WordModel,
    WordModelConfig,
    batch_labels,
    check_word_columns,
    fit_word_model,
    sentence_means,
)

OPTIONS = WordModelConfig(c=0.1)
WITHOUT_DNSMOS = tuple(column for column in HEARD_COLUMNS if column not in DNSMOS_COLUMNS)


def input_of(folder: Path, n_signals: int = 120, seed: int = 0, columns: tuple[str, ...] = HEARD_COLUMNS) -> ModelInput:
    return load_input(*make_heard_tables(folder, n_signals, seed=seed)[0], columns)


def prior_of(records: list[SignalRecord]) -> TextPrior:
    labels = [float(word in r.response.split()) for r in records for word in r.prompt.split()]
    texts = [PriorText(record.prompt, record.hearing_loss) for record in records]
    return fit_text_prior(texts, np.array(labels), [record.track for record in records])


@pytest.fixture(scope="module")
def prior() -> TextPrior:
    return prior_of(heard_records(120, 77)[0])


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> ModelInput:
    return input_of(tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> ModelInput:
    return input_of(tmp_path_factory.mktemp("new"), 90, seed=500)


@pytest.fixture(scope="module")
def model(batch, prior) -> WordModel:
    return fit_word_model(batch, prior, prior.logits(prior_texts(batch)), OPTIONS)


def test_probabilities_and_sentence_scores(model, new):
    found = model.predict(new)
    counts = [len(words) for words in new.words]
    assert found.words.shape == (sum(counts),)
    assert found.words.min() > 0
    assert found.words.max() < 1
    assert np.ptp(found.words) > 0.5
    start = 0
    for correctness, n in zip(found.correctness, counts, strict=True):
        assert correctness == pytest.approx(np.mean(found.words[start : start + n]), abs=1e-12)
        start += n


def test_learns_what_the_responses_follow(model, new):
    """On new signals, against the chances that the responses were drawn with."""
    _, chances = heard_records(90, 500)
    true_words = np.concatenate([chances[signal] for signal in new.signals])
    found = model.predict(new)
    constant = np.sqrt(np.mean((true_words - true_words.mean()) ** 2))
    assert constant > 0.3
    # The scores are the chances with noise of 0.05 on the mean of four; the model is fitted to 600 hits and misses.
    assert np.sqrt(np.mean((found.words - true_words) ** 2)) < constant / 2
    assert np.corrcoef(found.words, true_words)[0, 1] > 0.9
    true = [np.mean(chances[signal]) for signal in new.signals]
    assert np.corrcoef(found.correctness, true)[0, 1] > 0.9


def test_labels_are_of_the_responses(batch):
    expected = [
        word in response.split() for words, response in zip(batch.words, batch.responses, strict=True) for word in words
    ]
    assert batch_labels(batch).tolist() == [float(hit) for hit in expected]
    assert 0.2 < np.mean(expected) < 0.8


@pytest.mark.parametrize("head", ["full", "without_dnsmos"])
def test_head_is_at_the_minimum_of_its_loss(model, batch, head):
    """Where the weights are best, the log-loss's slope is the penalty's, with a quarter of it for three blocks."""
    without = ("dns",) if head == "without_dnsmos" else ()
    table = word_table(batch, model.prior.logits(prior_texts(batch)), without=without)
    assert any(name.startswith("dns.") for name in table.names) == (head == "full")
    of_head = {name: tensor.numpy() for name, tensor in model.heads[head].state_dict().items()}
    np.testing.assert_allclose(of_head["mean"], table.features.mean(axis=0), rtol=0, atol=1e-12)
    x = (table.features - table.features.mean(axis=0)) / of_head["scale"]
    assert x.std(axis=0).max() == pytest.approx(1.0)
    p = 1 / (1 + np.exp(-(x @ of_head["weight"] + of_head["bias"])))
    share = np.array([0.25 if name.split(".")[0] in ("sent", "prior", "hinge") else 1.0 for name in table.names])
    pull = share * of_head["weight"] / 0.1
    # L-BFGS stops at slopes below 1e-4, or where the loss of some 300 no longer changes in its 13th digit.
    np.testing.assert_allclose(x.T @ (batch_labels(batch) - p), pull, rtol=0, atol=2e-2)
    assert np.abs(pull).max() > 1
    assert np.sum(batch_labels(batch) - p) == pytest.approx(0, abs=2e-2)


def test_head_without_dnsmos_where_the_batch_has_none(model, tmp_path):
    full, lacking = input_of(tmp_path, 30, 8), input_of(tmp_path, 30, 8, WITHOUT_DNSMOS)
    found = model.predict(lacking)
    table = word_table(lacking, model.prior.logits(prior_texts(lacking)))
    with torch.inference_mode():
        expected = model.heads["without_dnsmos"](torch.from_numpy(table.features)).numpy()
    np.testing.assert_array_equal(found.words, expected)
    assert np.abs(found.words - model.predict(full).words).max() > 1e-3
    # Of the same scores the heads say nearly the same.
    assert np.corrcoef(found.words, model.predict(full).words)[0, 1] > 0.9


def test_one_head_without_dnsmos_columns(batch, tmp_path):
    model = fit_word_model(input_of(tmp_path, 30, 8, ("tiny.en",)), None, None, OPTIONS)
    assert set(model.heads) == {"full"}
    assert model.prior is None


@pytest.mark.parametrize("with_prior", [True, False])
def test_state_round_trip(model, batch, new, with_prior):
    if not with_prior:
        model = fit_word_model(batch, None, None, OPTIONS)
    rng = np.random.default_rng(0)
    quantiles = calibrate(rng.random(90), rng.random(90), np.arange(90) % 3)
    state = dataclasses.replace(model, quantiles=quantiles).state()
    assert all(torch.is_tensor(tensor) for tensor in state.values())
    again = WordModel.from_state(OPTIONS, HEARD_COLUMNS, state)
    assert (again.prior is not None) == with_prior
    ours, theirs = model.predict(new), again.predict(new)
    np.testing.assert_array_equal(ours.words, theirs.words)
    np.testing.assert_array_equal(ours.correctness, theirs.correctness)
    np.testing.assert_array_equal(again.quantiles, quantiles)
    assert again.state().keys() == state.keys()
    low, high = again.interval(ours.correctness, new.severity.numpy(), 0.8)
    assert (low <= ours.correctness).all()
    assert (ours.correctness <= high).all()


def test_state_without_its_head(model):
    state = {name: tensor for name, tensor in model.state().items() if not name.startswith("full.")}
    with pytest.raises(KeyError, match="full"):
        WordModel.from_state(OPTIONS, HEARD_COLUMNS, state)


def test_no_interval_without_calibration(model, new):
    with pytest.raises(UserError, match="holds no interval calibration; train it again"):
        model.interval(np.full(90, 0.5), new.severity.numpy(), 0.8)


def test_order_of_the_signals_does_not_matter(model, new):
    turned = torch.arange(len(new)).flip(0)
    # The same sums, of arrays that lie elsewhere.
    np.testing.assert_allclose(
        model.predict(new.take(turned)).correctness, model.predict(new).correctness[::-1], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("ear", ["left", "right"])
def test_one_ear_is_deaf_to_the_other(tmp_path, ear):
    batch = input_of(tmp_path, 36, 8, ("tiny.en", "base"))
    model = fit_word_model(batch, None, None, WordModelConfig(c=0.1, ear=ear))
    for changed in (0, 1):
        features = batch.features.clone()
        features[:, changed] = 1.0 - features[:, changed]
        same = np.array_equal(
            model.predict(dataclasses.replace(batch, features=features)).words, model.predict(batch).words
        )
        assert same == (changed != ["left", "right"].index(ear))


def test_blocks_left_out_are_not_asked_for(tmp_path):
    batch = input_of(tmp_path, 36, 8)
    model = fit_word_model(batch, None, None, WordModelConfig(c=0.1, without=("dns", "agg", "hinge")))
    n_features = len(word_table(batch, None, without=("dns", "agg", "hinge")).names)
    assert len(model.heads["full"].weight) == n_features
    assert model.predict(batch).words.shape == batch_labels(batch).shape


def test_sentence_means():
    values, owner = np.array([1.0, 3.0, 5.0, 2.0]), np.array([0, 0, 1, 2])
    assert sentence_means(values, owner, 3).tolist() == [2.0, 5.0, 2.0]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (("stoi", "dns_sig"), "expected at least one Whisper column for the word model, found none"),
        ((), "expected at least one Whisper column"),
        (("n_words", "tiny"), "takes Whisper and metric columns, not 'n_words'; drop it"),
        (
            ("tiny", "dns_sig", "dns_ovrl"),
            r"expected all of dns_sig, dns_bak, dns_ovrl or none, found dns_sig, dns_ovrl",
        ),
    ],
)
def test_columns_that_it_does_not_take(columns, says):
    with pytest.raises(UserError, match=f"data.feature_cols: .*{says}"):
        check_word_columns(columns)


@pytest.mark.parametrize("columns", [("tiny",), ("tiny.en", "stoi"), HEARD_COLUMNS])
def test_columns_that_it_takes(columns):
    assert check_word_columns(columns) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"c": 0.0}, "model.c: expected a positive number, found 0"),
        ({"c": float("nan")}, "model.c"),
        ({"c": float("inf")}, "model.c"),
        ({"prior_c": -1.0}, "model.prior_c: expected a positive number, found -1"),
        ({"ear": "middle"}, "model.ear: expected both, left or right, found 'middle'"),
        ({"without": ("aggr",)}, "model.without: no block 'aggr'; did you mean agg"),
    ],
    ids=str,
)
def test_options_out_of_range(changes, says):
    with pytest.raises(UserError, match=says):
        WordModelConfig(**changes).validate()


def test_default_options_are_in_range():
    assert WordModelConfig().validate() is None
