"""scow.training: loss, split, selection, cross-validation; on small networks and invented tables."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_records, make_tables
from test_model import one_thread as one_thread  # for every test here

import scow.training
from scow.batches import DataOptions, SignalBatch, load_batch
from scow.checkpoint import fingerprint, load_checkpoint
from scow.corpus import SignalRecord, metadata_table
from scow.errors import UserError
from scow.model import NetworkOptions, PublishedNetwork
from scow.prediction import forward
from scow.tables import HEARING_LOSSES, with_sentence_rows, write_table
from scow.training import (
    CvOptions,
    Fit,
    TrainConfig,
    TrainOptions,
    correlation_loss,
    cross_validate,
    cross_validation,
    fit,
    group_folds,
    load_training_batch,
    split_by_group,
    train,
    train_config,
    write_cross_validation,
)

SMALL = NetworkOptions(d_model=8, nhead=2)
COLUMNS = ("tiny", "stoi", "pesq")


def options(**changes: object) -> TrainOptions:
    return TrainOptions(**{"save_dir": Path("unused"), "batch_size": 16, "epochs": 6, "lr": 1e-3, **changes})


def invented(n_prompts: int = 20, seed: int = 0, noise: float = 0.0) -> SignalBatch:
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
        return load_batch(*paths, COLUMNS)


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

    class Watched(PublishedNetwork):
        def forward(self, features, n_rows, severity):
            modes.append((self.training, len(features)))
            return super().forward(features, n_rows, severity)

    monkeypatch.setattr(scow.training, "PublishedNetwork", Watched)
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
        pytest.param(
            {"lr": 1e30, "batch_size": 1000},
            "diverged in epoch 1; .*train.lr",
            marks=pytest.mark.xfail(strict=True, raises=ValueError, reason="diverges in the last step: traceback"),
        ),
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
    network_options = NetworkOptions(**{**vars(SMALL), **changes})
    with pytest.raises(UserError, match=f"model.{next(iter(changes))}"):
        fit(invented(), network_options, options(epochs=1), seed=0)


def test_negative_seed():
    with pytest.raises(UserError, match="seed"):
        fit(invented(), SMALL, options(epochs=1), seed=-1)


def test_one_prompt_cannot_be_split():
    batch = invented(n_prompts=1)
    with pytest.raises(UserError, match="at least 2 prompts to split for validation, found 1"):
        fit(batch, SMALL, options(), seed=0)


# --- split and folds

GROUPS = [f"g{i}" for i in np.random.default_rng(0).integers(0, 23, 200)]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_split_keeps_groups_whole(share, seed):
    rest, held = split_by_group(GROUPS, share, np.random.default_rng(seed))
    assert sorted([*rest, *held]) == list(range(len(GROUPS)))
    assert list(rest) == sorted(rest)
    assert list(held) == sorted(held)
    groups_rest, groups_held = {GROUPS[i] for i in rest}, {GROUPS[i] for i in held}
    assert not groups_rest & groups_held
    n = len(set(GROUPS))
    assert len(groups_held) == min(max(round(share * n), 1), n - 1)


def test_split_is_drawn_from_the_generator():
    held = {tuple(split_by_group(GROUPS, 0.2, np.random.default_rng(seed))[1]) for seed in (0, 0, 1, 2)}
    assert len(held) == 3
    # By name, not by place: another order of the signals holds out the same groups.
    turned = GROUPS[::-1]
    ours = {GROUPS[i] for i in split_by_group(GROUPS, 0.2, np.random.default_rng(0))[1]}
    assert {turned[i] for i in split_by_group(turned, 0.2, np.random.default_rng(0))[1]} == ours


@pytest.mark.parametrize("n_folds", [2, 5, 23])
def test_folds_are_a_partition_by_group(n_folds):
    folds = group_folds(GROUPS, n_folds, np.random.default_rng(4))
    assert len(folds) == n_folds
    assert sorted(np.concatenate(folds)) == list(range(len(GROUPS)))
    sets = [{GROUPS[i] for i in fold} for fold in folds]
    assert sum(map(len, sets)) == len(set(GROUPS))  # no group in two folds
    assert max(map(len, sets)) - min(map(len, sets)) <= 1
    again = group_folds(GROUPS, n_folds, np.random.default_rng(4))
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))


@pytest.mark.parametrize("n_folds", [-1, 0, 1, 24])
def test_folds_out_of_range(n_folds):
    with pytest.raises(UserError, match=f"cv.folds: expected 2 to 23 .*found {n_folds}"):
        group_folds(GROUPS, n_folds, np.random.default_rng(0))


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


# --- cross-validation


def test_cross_validation_predicts_each_signal_by_networks_that_saw_nothing_of_its_group(monkeypatch):
    batch = invented(n_prompts=12)
    groups = [f"track {i // 6}" for i in range(36)]  # two prompts a track, three signals a prompt
    fits: list[tuple[frozenset[str], Fit, int]] = []
    held_out: list[tuple[str, ...]] = []
    real_fit, real_forward = fit, forward

    def spying_fit(part, *arguments, seed, **keywords):
        trained = real_fit(part, *arguments, seed=seed, **keywords)
        fits.append((frozenset(part.signals), trained, seed))
        return trained

    def spying_forward(network, part, device="cpu"):
        if fits and network is fits[-1][1].network:  # not fit itself, forwarding its own validation part
            held_out.append(part.signals)
        return real_forward(network, part, device)

    monkeypatch.setattr(scow.training, "fit", spying_fit)
    monkeypatch.setattr(scow.training, "forward", spying_forward)
    told = []
    result = cross_validate(
        batch,
        groups,
        SMALL,
        options(epochs=2),
        n_folds=3,
        n_repeats=2,
        seed=10,
        on_fold=lambda repeat, fold: told.append((repeat, fold)),
    )
    assert told == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [seed for _, _, seed in fits] == [10, 10, 10, 11, 11, 11]
    assert len(held_out) == 6
    group_of = dict(zip(batch.signals, groups, strict=True))
    for (trained_on, _, _), held in zip(fits, held_out, strict=True):
        assert not {group_of[s] for s in trained_on} & {group_of[s] for s in held}
        assert len(trained_on) + len(held) == 36
    for repeat in (0, 1):
        covered = Counter(signal for held in held_out[3 * repeat : 3 * repeat + 3] for signal in held)
        assert covered == Counter(batch.signals)
    assert {frozenset(held) for held in held_out[:3]} != {frozenset(held) for held in held_out[3:]}
    # Each score stands in the place of its signal.
    assert result.scores.shape == (2, 36)
    place = {signal: i for i, signal in enumerate(batch.signals)}
    for number, ((_, trained, _), held) in enumerate(zip(fits, held_out, strict=True)):
        index = [place[signal] for signal in held]
        expected = 100 * np.clip(real_forward(trained.network, batch.take(torch.tensor(index))), 0, 1)
        np.testing.assert_allclose(result.scores[number // 3, index], expected, rtol=0, atol=1e-9)
    truth = 100 * batch.target.double().numpy()
    for row, agreement in zip(result.scores, result.repeats, strict=True):
        assert agreement.rmse == pytest.approx(np.sqrt(np.mean((row - truth) ** 2)), abs=1e-9)
        assert agreement.r == pytest.approx(np.corrcoef(row, truth)[0, 1], abs=1e-9)
        assert agreement.n_signals == 36
    assert result.rmse == pytest.approx(np.mean([agreement.rmse for agreement in result.repeats]))
    assert result.r == pytest.approx(np.mean([agreement.r for agreement in result.repeats]))


# --- configs, tables, files


def config(folder: Path, tables: tuple[Path, Path] | None, **changes: object) -> TrainConfig:
    values = {
        "exp_name": "small",
        "data": DataOptions(COLUMNS, {"train": tables} if tables else {}),
        "model": SMALL,
        "train": options(save_dir=folder / "out"),
        "cv": CvOptions(folds=2, repeats=2),
        "device": "cpu",
        **changes,
    }
    return TrainConfig(**values)


def test_train_writes_what_it_returns(tmp_path):
    tables = make_tables(tmp_path, 18)
    settings = config(tmp_path, tables)
    trained, folder = train(settings)
    assert folder == tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["model.pt", "train_log.csv"]
    log = pd.read_csv(folder / "train_log.csv")
    assert list(log.columns) == ["epoch", "train_loss", "train_rmse", "val_rmse", "val_r"]
    np.testing.assert_array_equal(log.to_numpy(dtype=float), [[*vars(epoch).values()] for epoch in trained.log])
    checkpoint = load_checkpoint(folder / "model.pt", NetworkOptions(), COLUMNS)
    assert checkpoint.options == SMALL
    batch = load_batch(*tables, COLUMNS)
    np.testing.assert_array_equal(forward(checkpoint.network(), batch), forward(trained.network, batch))
    facts = checkpoint.facts
    assert facts["trained_on"] == fingerprint(batch.signals)
    assert facts["n_signals"] == 18
    assert (facts["kept_epoch"], facts["val_rmse"]) == (trained.kept.epoch, trained.kept.val_rmse)
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (facts["seed"], facts["train"]["epochs"], facts["target"]) == (42, 6, "correctness")


def test_only_labelled_signals_are_trained_on(tmp_path):
    tables = make_tables(tmp_path, 18)
    for path in tables:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[table["signal"].isin(["0000", "0007"]), "correctness"] = ""
        table.to_csv(path, index=False)
    batch = load_training_batch(config(tmp_path, tables))
    assert batch.signals == tuple(f"{i:04d}" for i in range(18) if i not in (0, 7))
    assert batch.labelled.all()


def test_no_labels(tmp_path):
    with pytest.raises(UserError, match=r"t_l.csv: expected signals with correctness, found none; train on a labelled"):
        train(config(tmp_path, make_tables(tmp_path, labelled=False)))
    assert not (tmp_path / "out").exists()


def test_no_training_tables(tmp_path):
    with pytest.raises(UserError, match=r"expected data.csv_path_l and data.csv_path_r, the training tables"):
        train(config(tmp_path, None))
    with pytest.raises(UserError, match=r"t_l.csv: expected a feature table, found no such file"):
        train(config(tmp_path, (tmp_path / "t_l.csv", tmp_path / "t_r.csv")))


def write_metadata(path: Path, tracks: dict[str, str]) -> Path:
    records = [
        {
            "signal": record.signal,
            "fma": tracks.get(record.signal, ""),
            "original_prompt": record.prompt,
            "prompt": record.prompt,
            "n_words": record.n_words,
            "hearing_loss": record.hearing_loss,
        }
        for record in make_records(18)
    ]
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.mark.parametrize("by_track", [True, False])
def test_cross_validation_is_by_track_where_it_is_known(tmp_path, monkeypatch, by_track):
    tables = make_tables(tmp_path, 18)
    tracks = {f"{i:04d}": f"t{i // 9}" for i in range(18)}
    metadata = write_metadata(tmp_path / "m.json", tracks) if by_track else None
    data = DataOptions(COLUMNS, {"train": tables}, metadata=metadata)
    seen: list[list[str]] = []

    def spy(batch, groups, *arguments, **keywords):
        seen.append(list(groups))
        return cross_validate(batch, groups, *arguments, **keywords)

    monkeypatch.setattr(scow.training, "cross_validate", spy)
    settings = config(tmp_path, tables, data=data, train=options(save_dir=tmp_path / "out", epochs=1))
    result = cross_validation(settings)
    batch = load_batch(*tables, COLUMNS)
    assert seen == [[tracks[signal] for signal in batch.signals] if by_track else list(batch.prompts)]
    assert result.scores.shape == (2, 18)
    assert not (tmp_path / "out").exists()
    path = write_cross_validation(settings, result)
    assert path == tmp_path / "out" / "cross_validation.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["grouped_by"] == ("track" if by_track else "prompt")
    assert (written["n_signals"], written["folds"], written["seeds"]) == (18, 2, [42, 43])
    assert written["rmse"] == pytest.approx(np.mean([repeat["rmse"] for repeat in written["repeats"]]))
    assert [repeat["rmse"] for repeat in written["repeats"]] == [repeat.rmse for repeat in result.repeats]


def test_cross_validation_without_a_track(tmp_path):
    tables = make_tables(tmp_path, 18)
    metadata = write_metadata(tmp_path / "m.json", {f"{i:04d}": "t" for i in range(18) if i != 4})
    settings = config(tmp_path, tables, data=DataOptions(COLUMNS, {"train": tables}, metadata=metadata))
    with pytest.raises(UserError, match=r"m.json: expected the track \(fma\) of every signal, found none for 0004"):
        cross_validation(settings)


@pytest.mark.parametrize("repeats", [0, -1])
def test_cross_validation_of_no_repeats(tmp_path, repeats):
    settings = config(tmp_path, make_tables(tmp_path, 18), cv=CvOptions(2, repeats))
    with pytest.raises(UserError, match=r"cv.repeats"):
        cross_validation(settings)


def plain() -> dict:
    return {
        "exp_name": "x",
        "data": {"csv_path_l": "l.csv", "csv_path_r": "r.csv", "feature_cols": ["tiny"]},
        "train": {"save_dir": "checkpoints\\x", "lr": "1e-3", "somebody_elses": 1},
    }


def test_train_config():
    found = train_config({**plain(), "infer": {"splits": ["eval"]}})
    assert found.train == TrainOptions(Path("checkpoints/x"), lr=1e-3)
    assert (found.model, found.cv, found.seed, found.device) == (NetworkOptions(), CvOptions(), 42, "auto")
    # The defaults are the published settings.
    assert (found.train.batch_size, found.train.epochs) == (1024, 100)
    assert (found.train.corr_lambda, found.train.val_split) == (0.4, 0.2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": {}}, "train.save_dir: expected a value, found none"),
        ({"train": {"save_dir": "x", "epochs": "many"}}, "train.epochs: expected int, found 'many'"),
        ({"train": {"save_dir": "x", "epochs": 2.5}}, "train.epochs: expected int, found 2.5"),
        ({"model": {"d_model": "wide"}}, "model.d_model: expected int"),
        ({"cv": [1]}, "cv: expected a mapping"),
        ({"seed": "x"}, "config.seed: expected int"),
        ({"exp_name": None}, "exp_name: expected str"),
        ({"data": None}, "data.feature_cols"),
    ],
    ids=str,
)
def test_train_config_refuses(changes, says):
    with pytest.raises(UserError, match=says):
        train_config({**plain(), **changes})
