"""scow.models.prediction: what training and inference share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_tables
from test_model import FLOAT32
from test_model import one_thread as one_thread  # for every test here

from scow.models.inputs import load_input
from scow.models.prediction import SIGNALS_PER_FORWARD, forward, to_scores
from scow.models.transformer import Transformer, TransformerConfig

COLUMNS = ["n_words", "tiny", "stoi"]


def small_network() -> Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Transformer(len(COLUMNS), TransformerConfig(d_model=8, nhead=2, dropout=0.5))


def test_more_signals_than_go_forward_at_once(tmp_path):
    batch = load_input(*make_tables(tmp_path, 18), COLUMNS)
    network = small_network()
    one_by_one = np.concatenate([forward(network, batch.take(torch.tensor([i]))) for i in range(18)])
    index = torch.from_numpy(np.random.default_rng(0).integers(18, size=SIGNALS_PER_FORWARD + 500))
    many = forward(network, batch.take(index))
    assert many.dtype == np.float64
    assert many.shape == (SIGNALS_PER_FORWARD + 500,)
    assert np.std(one_by_one) > 100 * FLOAT32
    np.testing.assert_allclose(many, one_by_one[index.numpy()], rtol=0, atol=FLOAT32)


def test_forward_is_without_dropout_and_without_clamping(tmp_path):
    batch = load_input(*make_tables(tmp_path, 6), COLUMNS)
    network = small_network().train()
    with torch.no_grad():
        network.fc_out.bias += 5.0
    first = forward(network, batch)
    np.testing.assert_array_equal(forward(network.train(), batch), first)
    assert first.min() > 1.0
    assert not network.training


@pytest.mark.parametrize(
    ("clamp", "percentage", "expected"),
    [
        (True, True, [0.0, 0.0, 25.0, 100.0, 100.0]),
        (True, False, [0.0, 0.0, 0.25, 1.0, 1.0]),
        (False, True, [-50.0, 0.0, 25.0, 100.0, 150.0]),
        (False, False, [-0.5, 0.0, 0.25, 1.0, 1.5]),
    ],
)
def test_to_scores(clamp, percentage, expected):
    correctness = np.array([-0.5, 0.0, 0.25, 1.0, 1.5])
    np.testing.assert_array_equal(to_scores(correctness, clamp=clamp, percentage=percentage), expected)
    np.testing.assert_array_equal(correctness, [-0.5, 0.0, 0.25, 1.0, 1.5])  # the caller's array is the caller's
    if clamp and percentage:
        np.testing.assert_array_equal(to_scores(correctness), expected)
