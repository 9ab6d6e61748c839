"""scow.models.transformer: scores against float64 NumPy and torch's own encoder; fits on small networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from reference_transformer import (
    FLOAT32,
    PUBLISHED_SHAPES,
    SMALL,
    invented,
    network_of,
    random_signals,
    random_state,
    reference_share,
    sinusoids,
    train_options,
)

from scow.errors import UserError
from scow.models.config import TransformerConfig
from scow.models.groups import split_by_group
from scow.models.inputs import FRONT_TOKENS, MAX_ROWS, ModelInput
from scow.models.model import Epoch, FitSetup
from scow.models.transformer import SIGNALS_PER_FORWARD, Transformer, correlation_loss


def run(network: Transformer, *signals: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(*signals).double().numpy()


def fit(inputs: ModelInput, seed: int = 0, **changes: object) -> Transformer:
    return Transformer.fit(inputs, SMALL, FitSetup(inputs.prompts, seed, train=train_options(**changes)))


def best(model: Transformer) -> Epoch:
    return min(model.log, key=lambda epoch: epoch.val_rmse)


def same_weights(one: Transformer, other: Transformer) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_state_dict_names_are_the_published():
    state = Transformer(TransformerConfig(), [""] * 19).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == PUBLISHED_SHAPES


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_forward_against_float64_reference(seed, num_layers):
    state = random_state(seed, num_layers=num_layers)
    lengths = [3, 1, 9, 6, 14, 2]
    features, n_rows, hearing_loss = random_signals(lengths, seed=seed)
    scores = run(network_of(state, num_layers=num_layers), features, n_rows, hearing_loss)
    expected = [
        reference_share(state, features[i, 0, :rows].numpy(), features[i, 1, :rows].numpy(), int(hearing_loss[i]))
        for i, rows in enumerate(lengths)
    ]
    assert np.std(expected) > 1e-2
    np.testing.assert_allclose(scores, expected, rtol=0, atol=FLOAT32)


def test_forward_of_longest_signal():
    state = random_state(9, n_features=2)
    features, n_rows, hearing_loss = random_signals([MAX_ROWS - FRONT_TOKENS], n_features=2)
    expected = reference_share(state, *features[0].numpy(), 0)
    # Angles near 511 are known to 3e-5 in float32.
    np.testing.assert_allclose(run(network_of(state), features, n_rows, hearing_loss), [expected], rtol=0, atol=1e-4)
    pe = Transformer(TransformerConfig(), ["f"]).pos_encoder.pe[0].numpy()
    np.testing.assert_allclose(pe, sinusoids(MAX_ROWS, 64), rtol=0, atol=1e-4)


def test_gradients_against_torch_encoder():
    """Training takes the same short cut as prediction: without dropout, every weight gets the same gradient."""
    network = network_of(random_state(5, num_layers=2), num_layers=2, dropout=0.0).train()
    features, n_rows, hearing_loss = random_signals([3, 11, 6, 1])
    network(features, n_rows, hearing_loss).square().sum().backward()
    ours = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    padding = torch.arange(features.shape[2] + 2)[None] >= (n_rows + 2)[:, None]
    front = [network.cls_token.expand(4, 1, -1), network.hearing_embedding(hearing_loss)[:, None]]
    summaries = []
    for channel, encoder in enumerate((network.transformer_l, network.transformer_r)):
        tokens = network.pos_encoder(torch.cat([*front, network.linear_in(features[:, channel])], dim=1))
        summaries.append(encoder(tokens, src_key_padding_mask=padding)[:, 0])
    network.fc_out(torch.cat(summaries, dim=-1)).square().sum().backward()
    for name, weight in network.named_parameters():
        # Sums in another order, over gradients of up to 10: relative to the largest of each tensor.
        scale = float(weight.grad.abs().max())
        np.testing.assert_allclose(ours[name], weight.grad, rtol=0, atol=1e-4 * scale, err_msg=name)


def test_forward_ignores_padding():
    network = network_of(random_state(6))
    features, n_rows, hearing_loss = random_signals([4, 9, 2])
    alone = [run(network, features[[i], :, :r], n_rows[[i]], hearing_loss[[i]])[0] for i, r in enumerate(n_rows)]
    filled = torch.cat([features, torch.zeros(3, 2, 20, 19)], dim=2)
    for i, rows in enumerate(n_rows):
        filled[i, :, rows:] = 1e3
    np.testing.assert_allclose(run(network, filled, n_rows, hearing_loss), alone, rtol=0, atol=FLOAT32)


def test_forward_dropout_in_training_only():
    network = network_of(random_state(11, num_layers=2), num_layers=2, dropout=0.5)
    signals = random_signals([5, 6])
    np.testing.assert_array_equal(run(network, *signals), run(network, *signals))
    dropouts = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout)}
    used = set()
    for name, module in dropouts.items():
        module.register_forward_hook(lambda *_, name=name: used.add(name))
    network.train()
    assert not np.array_equal(run(network, *signals), run(network, *signals))
    assert used == set(dropouts)
    assert len(used) == 1 + 2 * 2 * 3  # on the positions, and three in each layer, as in torch's own


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


@pytest.mark.slow
def test_fit_same_seed_same_bits():
    inputs = invented()
    before = {name: getattr(inputs, name).clone() for name in ("features", "n_rows", "hearing_loss", "target")}
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = fit(inputs, 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)  # another state to start from must not matter
    second = fit(inputs, 7)
    assert second.log == first.log
    assert same_weights(first, second)
    assert not same_weights(first, fit(inputs, 8))
    assert all(torch.equal(getattr(inputs, name), value) for name, value in before.items())


@pytest.mark.slow
def test_fit_returns_weights_of_best_epoch():
    inputs = invented(noise=0.5)
    seen: list[Epoch] = []
    # A high learning rate, so that the last epoch is not the best.
    options = train_options(epochs=20, lr=3e-2)
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


@pytest.mark.slow
def test_fit_learns_a_column():
    inputs = invented(n_prompts=60)
    spread = 100 * float(inputs.target.std())  # the RMSE of always predicting the mean: 28 points; about 5 are reached
    model = fit(inputs, epochs=40)
    assert best(model).val_rmse < spread / 2
    assert best(model).val_r > 0.9
    assert model.log[-1].train_rmse < spread / 2
    new = invented(n_prompts=30, seed=99)
    errors = np.clip(model.predict(new).correctness, 0, 1) - new.target.numpy()
    assert 100 * np.sqrt(np.mean(errors**2)) < spread / 2


def test_fit_edge_cases():
    inputs = invented(n_prompts=4)  # one prompt is held out; nine signals remain: batches of 8 and 1
    constant = dataclasses.replace(inputs, target=torch.full((12,), 0.5))
    log = fit(constant, batch_size=8, epochs=2).log
    assert [epoch.val_r for epoch in log] == [None, None]
    assert np.isfinite([epoch.train_loss for epoch in log]).all()
    for batch_size in (16, 1000):  # one step: its loss is still finite
        with pytest.raises(UserError, match=r"diverged in epoch 1.*train\.lr"):
            fit(invented(), lr=1e30, batch_size=batch_size)
    with pytest.raises(UserError, match="at least 2 prompts"):
        fit(invented(n_prompts=1))


@pytest.mark.parametrize("corr_lambda", [0.0, 0.4])
@pytest.mark.parametrize("n", [2, 50])
def test_correlation_loss_against_numpy(corr_lambda, n):
    x, y = np.random.default_rng(n).random((2, n))
    expected = np.mean((x - y) ** 2) + corr_lambda * (1 - np.corrcoef(x, y)[0, 1])
    found = correlation_loss(torch.from_numpy(x), torch.from_numpy(y), corr_lambda)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_correlation_loss_without_correlation():
    assert correlation_loss(torch.tensor([0.25]), torch.tensor([0.75]), 0.4).item() == pytest.approx(0.25)
    x = torch.full((4,), 0.5, requires_grad=True)  # a constant side counts as uncorrelated
    loss = correlation_loss(x, torch.tensor([0.0, 1.0, 0.0, 1.0]), 0.4)
    assert loss.item() == pytest.approx(0.25 + 0.4)
    loss.backward()
    assert torch.isfinite(x.grad).all()
