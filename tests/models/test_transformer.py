"""scow.models.transformer: scores against float64 NumPy (golden); fits on small networks."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import golden
from reference_transformer import FLOAT32, SMALL, invented, network_of, random_signals, random_state, train_options

from scow.errors import UserError
from scow.models.groups import split_by_group
from scow.models.inputs import ModelInput
from scow.models.model import Epoch, FitSetup
from scow.models.transformer import SIGNALS_PER_FORWARD, Transformer, correlation_loss


def fit(inputs: ModelInput, seed: int = 0, **changes: object) -> Transformer:
    return Transformer.fit(inputs, SMALL, FitSetup(inputs.prompts, seed, train=train_options(**changes)))


def best(model: Transformer) -> Epoch:
    return min(model.log, key=lambda epoch: epoch.val_rmse)


def same_weights(one: Transformer, other: Transformer) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("seed", "num_layers", "expected"), golden("transformer_scores.yaml"))
def test_forward_against_float64_reference(seed, num_layers, expected):
    with torch.inference_mode():
        scores = network_of(random_state(seed, num_layers=num_layers), num_layers=num_layers)(*random_signals(seed))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=FLOAT32)


def test_predict_in_parts_without_dropout_or_clamping():
    inputs = invented(n_prompts=6)
    network = Transformer(dataclasses.replace(SMALL, dropout=0.5), inputs.feature_cols).train()
    with torch.no_grad():
        network.fc_out.bias += 5.0
    one_by_one = np.concatenate([network.predict(inputs.take(torch.tensor([i]))).correctness for i in range(18)])
    index = torch.from_numpy(np.random.default_rng(0).integers(18, size=SIGNALS_PER_FORWARD + 500))
    many = network.predict(inputs.take(index))
    assert many.words is None
    assert many.correctness.dtype == np.float64
    assert one_by_one.min() > 1.0
    assert np.std(one_by_one) > 100 * FLOAT32
    np.testing.assert_allclose(many.correctness, one_by_one[index.numpy()], rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("without", [(), ("severity",)])
def test_predict_depends_on_the_hearing_loss_unless_it_is_left_out(without):
    inputs = invented(n_prompts=6)
    network = Transformer(dataclasses.replace(SMALL, without=without), inputs.feature_cols).eval()
    others = dataclasses.replace(inputs, hearing_loss=(inputs.hearing_loss + 1) % 3)
    same = np.array_equal(network.predict(inputs).correctness, network.predict(others).correctness)
    assert same == bool(without)


@pytest.mark.slow
def test_fit_returns_weights_of_best_epoch():
    inputs = invented(noise=0.5)
    seen: list[Epoch] = []
    # A high learning rate, so that the last epoch is not the best.
    options = train_options(epochs=20, lr=1e-1)
    model = Transformer.fit(inputs, SMALL, FitSetup(inputs.prompts, 3, train=options, on_epoch=seen.append))
    assert tuple(seen) == model.log
    assert [epoch.epoch for epoch in model.log] == list(range(1, 21))
    assert best(model).epoch < 20
    _, held = split_by_group(inputs.prompts, 0.2, np.random.default_rng(3))  # the first draw from the seed
    val = inputs.take(torch.from_numpy(held))
    scores, truth = 100 * np.clip(model.predict(val).correctness, 0, 1), 100 * val.target.double().numpy()
    assert np.sqrt(np.mean((scores - truth) ** 2)) == pytest.approx(best(model).val_rmse, abs=1e-9)
    assert np.corrcoef(scores, truth)[0, 1] == pytest.approx(best(model).val_r, abs=1e-9)


def test_fit_does_not_train_on_validation_signals():
    inputs = invented()
    rest, held = split_by_group(inputs.prompts, 0.2, np.random.default_rng(5))
    original = fit(inputs, 5, epochs=1)
    for index, same in ((held, True), (rest, False)):
        target = inputs.target.clone()
        target[index] = 1.0 - target[index]
        assert same_weights(fit(dataclasses.replace(inputs, target=target), 5, epochs=1), original) is same


def test_fit_edge_cases():
    inputs = invented(n_prompts=4)  # one prompt is held out; nine signals remain: batches of 8 and 1
    constant = dataclasses.replace(inputs, target=torch.full((12,), 0.5))
    log = fit(constant, batch_size=8, epochs=2).log
    assert [epoch.val_r for epoch in log] == [None, None]
    assert np.isfinite([epoch.train_loss for epoch in log]).all()
    for batch_size in (16, 1000):  # one step: its loss is still finite
        with pytest.raises(UserError, match=r"diverged in epoch 1.*train\.lr"):
            fit(invented(), lr=1e30, batch_size=batch_size)


@pytest.mark.parametrize("corr_lambda", [0.0, 0.4])
@pytest.mark.parametrize("n", [2, 50])
def test_correlation_loss_against_numpy(corr_lambda, n):
    x, y = np.random.default_rng(n).random((2, n))
    expected = np.mean((x - y) ** 2) + corr_lambda * (1 - np.corrcoef(x, y)[0, 1])
    found = correlation_loss(torch.from_numpy(x), torch.from_numpy(y), corr_lambda)
    assert float(found) == pytest.approx(expected, abs=1e-12)
