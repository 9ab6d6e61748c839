"""scow.training.fit_transformer: loss, split, selection, ensembles; on small networks and invented tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from test_model import one_thread as one_thread  # for every test here

import scow.training.fit_transformer
from scow.data.metadata import SignalRecord, metadata_table
from scow.data.tables import HEARING_LOSSES, with_sentence_rows, write_table
from scow.errors import UserError
from scow.models.inputs import ModelInput, load_input
from scow.models.prediction import forward
from scow.models.transformer import Transformer, TransformerConfig
from scow.training.fit_transformer import Fit, TrainOptions, correlation_loss, fit, fit_ensemble
from scow.training.groups import group_folds, split_by_group

SMALL = TransformerConfig(d_model=8, nhead=2)
COLUMNS = ("tiny", "stoi", "pesq")


def options(**changes: object) -> TrainOptions:
    return TrainOptions(**{"save_dir": Path("unused"), "batch_size": 16, "epochs": 6, "lr": 1e-3, **changes})


def invented(n_prompts: int = 20, seed: int = 0, noise: float = 0.0) -> ModelInput:
    """Three signals of each prompt, by way of tables; every row's first feature is the correctness before the noise."""
    rng = np.random.default_rng(seed)
    shares = rng.random(3 * n_prompts)
    labels = (shares + noise * rng.standard_normal(len(shares))).clip(0, 1)
    records = []
    for i, label in enumerate(labels):
        prompt = f"prompt{i // 3}" + " word" * (i // 3 % 7)
        n_words = len(prompt.split())
        records.append(SignalRecord(f"{i:04d}", prompt, HEARING_LOSSES[i % 3], "", n_words, 0, label, f"track{i // 6}"))
    plain = with_sentence_rows(metadata_table(records))
    with TemporaryDirectory() as folder:
        paths = (Path(folder) / "l.csv", Path(folder) / "r.csv")
        for path in paths:
            features = {"tiny": shares[plain["signal"].astype(int)]}
            features |= {column: rng.random(len(plain)) for column in ("stoi", "pesq")}
            write_table(plain.assign(**features), path)
        return load_input(*paths, COLUMNS)


def same_weights(one: Fit, other: Fit) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- fit


def test_same_seed_same_bits_and_no_other_generator_touched():
    batch = invented()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - to see that nobody draws from it
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = fit(batch, SMALL, options(), seed=7)
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before[1])  # noqa: NPY002
    torch.rand(5)  # another state to start from must not matter
    second = fit(batch, SMALL, options(), seed=7)
    assert second.log == first.log
    assert second.kept == first.kept
    assert same_weights(first, second)
    other = fit(batch, SMALL, options(), seed=8)
    assert not same_weights(first, other)
    assert other.log != first.log


def test_batch_is_left_as_it_was():
    batch = invented()
    before = {name: getattr(batch, name).clone() for name in ("features", "n_rows", "severity", "target")}
    fit(batch, SMALL, options(epochs=2), seed=0)
    assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())


def test_kept_epoch_has_the_lowest_validation_rmse_and_its_weights_reproduce_it():
    batch = invented(noise=0.5)
    seen = []
    # A high learning rate, so that the last epoch is not the best.
    trained = fit(batch, SMALL, options(epochs=20, lr=3e-2), seed=3, on_epoch=seen.append)
    assert tuple(seen) == trained.log
    assert [epoch.epoch for epoch in trained.log] == list(range(1, 21))
    best = int(np.argmin([epoch.val_rmse for epoch in trained.log]))
    assert trained.kept == trained.log[best]
    assert best < 19
    assert trained.log[-1].val_rmse > trained.kept.val_rmse
    assert not trained.network.training
    # The split is the first thing drawn from the seed.
    _, held = split_by_group(batch.prompts, 0.2, np.random.default_rng(3))
    val = batch.take(torch.from_numpy(held))
    scores = 100 * np.clip(forward(trained.network, val), 0, 1)
    truth = 100 * val.target.double().numpy()
    # The same weights on the same batch: equal up to the order of a sum over twelve numbers.
    assert np.sqrt(np.mean((scores - truth) ** 2)) == pytest.approx(trained.kept.val_rmse, abs=1e-9)
    assert np.corrcoef(scores, truth)[0, 1] == pytest.approx(trained.kept.val_r, abs=1e-9)


def test_learns_a_column():
    batch = invented(n_prompts=60)
    spread = 100 * float(batch.target.std())
    assert spread > 25
    trained = fit(batch, SMALL, options(epochs=40), seed=0)
    # Always saying the mean costs the standard deviation, 28 points; about 5 are reached.
    assert trained.kept.val_rmse < spread / 2
    assert trained.kept.val_r > 0.9
    assert trained.log[-1].train_loss < trained.log[0].train_loss / 2
    assert trained.log[-1].train_rmse < spread / 2
    new = invented(n_prompts=30, seed=99)
    scores = np.clip(forward(trained.network, new), 0, 1)
    assert 100 * np.sqrt(np.mean((scores - new.target.numpy()) ** 2)) < spread / 2


def test_validation_signals_are_never_trained_on():
    """Whatever their labels say, the weights after the first epoch are the same."""
    batch = invented()
    _, held = split_by_group(batch.prompts, 0.2, np.random.default_rng(5))
    other = batch.target.clone()
    other[held] = 1.0 - other[held]
    changed = dataclasses.replace(batch, target=other)
    assert same_weights(fit(batch, SMALL, options(epochs=1), seed=5), fit(changed, SMALL, options(epochs=1), seed=5))
    rest = np.setdiff1d(np.arange(len(batch)), held)
    other = batch.target.clone()
    other[rest[0]] = 1.0 - other[rest[0]]
    changed = dataclasses.replace(batch, target=other)
    assert not same_weights(
        fit(batch, SMALL, options(epochs=1), seed=5), fit(changed, SMALL, options(epochs=1), seed=5)
    )


def test_dropout_is_on_in_every_training_step_and_off_in_validation(monkeypatch):
    modes = []

    class Watched(Transformer):
        def forward(self, features, n_rows, severity):
            modes.append((self.training, len(features)))
            return super().forward(features, n_rows, severity)

    monkeypatch.setattr(scow.training.fit_transformer, "Transformer", Watched)
    fit(invented(), SMALL, options(epochs=3, batch_size=40), seed=0)
    # Of 20 prompts 4 are held out: 48 signals in batches of 40, then 12.
    assert modes == 3 * [(True, 40), (True, 8), (False, 12)]


def test_last_batch_of_one_signal():
    batch = invented(n_prompts=4)  # one prompt is held out; nine signals remain: 8 and 1
    trained = fit(batch, SMALL, options(batch_size=8, epochs=2), seed=0)
    assert np.isfinite([epoch.train_loss for epoch in trained.log]).all()


def test_constant_labels_have_no_r():
    batch = invented()
    constant = dataclasses.replace(batch, target=torch.full((60,), 0.5))
    trained = fit(constant, SMALL, options(epochs=2), seed=0)
    assert [epoch.val_r for epoch in trained.log] == [None, None]
    assert np.isfinite([epoch.train_loss for epoch in trained.log]).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 1}, "train.batch_size: expected at least 2"),
        ({"epochs": 0}, "train.epochs: expected at least 1, found 0"),
        ({"val_split": 0.0}, "train.val_split: expected a share between 0 and 1, found 0"),
        ({"val_split": 1.0}, "train.val_split"),
        ({"val_split": float("nan")}, "train.val_split"),
        ({"lr": 0.0}, "train.lr: expected a positive number, found 0"),
        ({"lr": float("nan")}, "train.lr"),
        ({"lr": float("inf")}, "train.lr"),
        ({"corr_lambda": float("nan")}, "train.corr_lambda"),
        ({"corr_lambda": -1.0}, "train.corr_lambda"),
        ({"lr": 1e30}, "diverged in epoch 1; .*train.lr"),
        ({"lr": 1e30, "batch_size": 1000}, "diverged in epoch 1; .*train.lr"),  # one step: its loss is still finite
        ({"folds": 0}, "train.folds: expected 1, or more for an ensemble, found 0"),
    ],
    ids=str,
)
def test_options_out_of_range(changes, says):
    with pytest.raises(UserError, match=says):
        fit(invented(), SMALL, options(**changes), seed=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"nhead": 3},
        {"nhead": 0},
        {"d_model": 9, "nhead": 3},
        {"d_model": 0},
        {"dropout": 2.0},
        {"dropout": float("nan")},
        {"num_layers": 0},
        {"n_hearing": 2},
    ],
    ids=str,
)
def test_network_options_out_of_range(changes):
    network_options = TransformerConfig(**{**vars(SMALL), **changes})
    with pytest.raises(UserError, match=f"model.{next(iter(changes))}"):
        fit(invented(), network_options, options(epochs=1), seed=0)


def test_negative_seed():
    with pytest.raises(UserError, match="seed"):
        fit(invented(), SMALL, options(epochs=1), seed=-1)


def test_one_prompt_cannot_be_split():
    batch = invented(n_prompts=1)
    with pytest.raises(UserError, match="at least 2 prompts to split for validation, found 1"):
        fit(batch, SMALL, options(), seed=0)


# --- ensembles


def test_held_out_signals_choose_the_epoch_and_are_not_trained_on():
    batch = invented(noise=0.5)
    held = np.arange(6, 18)
    trained = fit(batch, SMALL, options(epochs=8, lr=3e-2), seed=3, held_out=held)
    val = batch.take(torch.from_numpy(held))
    scores = 100 * np.clip(forward(trained.network, val), 0, 1)
    expected = np.sqrt(np.mean((scores - 100 * val.target.double().numpy()) ** 2))
    assert trained.kept.val_rmse == pytest.approx(expected, abs=1e-9)  # the same weights on the same batch
    other = batch.target.clone()
    other[6:18] = 1.0 - other[6:18]
    changed = dataclasses.replace(batch, target=other)
    first = [fit(b, SMALL, options(epochs=1), seed=3, held_out=held) for b in (batch, changed)]
    assert same_weights(*first)
    assert first[0].log[0].val_rmse != first[1].log[0].val_rmse


def test_ensemble_of_one_is_the_published_fit():
    batch = invented()
    (only,) = fit_ensemble(batch, SMALL, options(epochs=2), seed=4)
    alone = fit(batch, SMALL, options(epochs=2), seed=4)
    assert same_weights(only, alone)
    assert only.log == alone.log


def test_each_member_of_an_ensemble_holds_out_another_fold_of_prompts(monkeypatch):
    batch = invented(n_prompts=7)
    calls = []

    def spy(part, *arguments, seed, held_out, **keywords):
        calls.append((seed, held_out))
        return fit(part, *arguments, seed=seed, held_out=held_out, **keywords)

    monkeypatch.setattr(scow.training.fit_transformer, "fit", spy)
    epochs = []
    fits = fit_ensemble(batch, SMALL, options(epochs=2, folds=3), seed=4, on_epoch=epochs.append)
    assert [seed for seed, _ in calls] == [4, 5, 6]
    assert sorted(np.concatenate([held for _, held in calls])) == list(range(21))
    prompts = [{batch.prompts[i] for i in held} for _, held in calls]
    assert sum(map(len, prompts)) == 7  # no prompt is in two folds
    expected = group_folds(batch.prompts, 3, np.random.default_rng(4))
    assert all(np.array_equal(held, fold) for (_, held), fold in zip(calls, expected, strict=True))
    assert len(fits) == 3
    assert epochs == [epoch for fitted in fits for epoch in fitted.log]
    assert not same_weights(fits[0], fits[1])


def test_more_members_than_prompts():
    with pytest.raises(UserError, match=r"^train.folds: expected 2 to 4 \(the number of groups\), found 5"):
        fit_ensemble(invented(n_prompts=4), SMALL, options(folds=5), seed=0)


# --- loss


@pytest.mark.parametrize("corr_lambda", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_loss_against_numpy(corr_lambda, n):
    rng = np.random.default_rng(n)
    x, y = rng.random(n), rng.random(n)
    expected = np.mean((x - y) ** 2) + corr_lambda * (1 - np.corrcoef(x, y)[0, 1])
    found = correlation_loss(torch.from_numpy(x), torch.from_numpy(y), corr_lambda)
    assert float(found) == pytest.approx(expected, abs=1e-12)  # float64 on both sides


def test_loss_where_there_is_no_correlation():
    x, y = torch.tensor([0.25], requires_grad=True), torch.tensor([0.75])
    assert correlation_loss(x, y, 0.4).item() == pytest.approx(0.25)
    # A side that is constant counts as uncorrelated, and the gradient stays finite.
    x = torch.full((4,), 0.5, requires_grad=True)
    loss = correlation_loss(x, torch.tensor([0.0, 1.0, 0.0, 1.0]), 0.4)
    assert loss.item() == pytest.approx(0.25 + 0.4)
    loss.backward()
    assert torch.isfinite(x.grad).all()
