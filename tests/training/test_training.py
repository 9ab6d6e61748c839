"""scow.training.train: configs, training tables, checkpoints of either model, cross-validation of a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import (
    RESPONSE_COLUMNS,
    ROOT,
    make_response_tables,
    make_tables,
    records_with_responses,
    training_data,
    write_metadata,
)
from reference_transformer import COLUMNS, SMALL, train_options

from scow.errors import UserError
from scow.io import read_yaml
from scow.models.checkpoint import load_checkpoint
from scow.models.config import DataOptions, TrainOptions, TransformerConfig, WordModelConfig
from scow.models.inputs import load_input
from scow.models.intervals import calibrate
from scow.models.word_model import WordModel
from scow.training.cross_validation import coverage, cross_validate
from scow.training.train import (
    CvOptions,
    RunOptions,
    TrainConfig,
    cross_validation,
    fit_setup,
    load_training_input,
    train,
    train_config,
)


def config(folder: Path, tables: tuple[Path, Path] | None, **changes: object) -> TrainConfig:
    values = {
        "data": training_data(COLUMNS, tables) if tables else DataOptions(COLUMNS, {}),
        "model": SMALL,
        "train": train_options(save_dir=folder / "out"),
        "run": RunOptions(device="cpu"),
    }
    return TrainConfig(**{**values, **changes})


def word_config(folder: Path, n_signals: int = 60) -> TrainConfig:
    """The prior's corpus contains other signals and those of the tables."""
    tables, metadata = make_response_tables(folder / "train", n_signals)
    others = write_metadata(folder / "prior.json", records_with_responses(60, 50, "p")[0])
    data = training_data(RESPONSE_COLUMNS, tables, metadata=(metadata,), prior_metadata=(others, metadata))
    return config(folder, tables, data=data, model=WordModelConfig(c=0.1))


def edit_tables(tables: tuple[Path, Path], rows: Callable[[pd.DataFrame], pd.Series], **cells: str) -> None:
    for path in tables:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[rows(table), list(cells)] = list(cells.values())
        table.to_csv(path, index=False)


# --- checkpoints


@pytest.mark.slow
def test_train_word_model_is_fitted_to_all_and_calibrated_out_of_fold(tmp_path):
    settings = word_config(tmp_path)
    train(settings)
    model, facts = vars(load_checkpoint(tmp_path / "out" / "model.pt", settings.model, RESPONSE_COLUMNS)).values()
    inputs = load_training_input(settings.data)
    setup, grouped_by = fit_setup(settings, inputs)
    assert facts["grouped_by"] == grouped_by == "track"
    whole = WordModel.fit(inputs, settings.model, setup).state_dict()
    assert model.state_dict().keys() - whole.keys() == {"interval.quantiles"}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in whole.items())
    out = cross_validate(inputs, WordModel, settings.model, setup, n_folds=5)
    assert facts["out_of_fold"] == {"rmse": out.rmse, "r": out.r}
    np.testing.assert_array_equal(model.quantiles, calibrate(out.scores[0] / 100, out.truth / 100, out.hearing_loss))


# --- training tables and groups


def test_load_training_input_joins_pairs_and_keeps_labelled_signals(tmp_path):
    pairs = tuple(make_response_tables(tmp_path / name, 24, prefix=name)[0] for name in "ab")
    edit_tables(pairs[0], lambda table: table["signal"].isin(["a0000", "a0007"]), correctness="")
    inputs = load_training_input(DataOptions(("tiny.en",), {}, train_tables=pairs))
    signals = [signal for pair in pairs for signal in load_input(*pair, ("tiny.en",)).signals]
    assert list(inputs.signals) == [signal for signal in signals if signal not in ("a0000", "a0007")]
    with pytest.raises(UserError, match="b0000"):
        load_training_input(DataOptions(("tiny.en",), {}, train_tables=(pairs[1], pairs[1])))


@pytest.mark.parametrize("known", ["all", "all but one", "none"])
def test_fit_setup_groups_by_track_if_all_are_known(tmp_path, known):
    tables, _ = make_response_tables(tmp_path, 12)
    records = records_with_responses(12)[0]
    files = () if known == "none" else (write_metadata(tmp_path / "m.json", records[known != "all" :]),)
    settings = config(tmp_path, tables, data=training_data(RESPONSE_COLUMNS, tables, metadata=files))
    setup, grouped_by = fit_setup(settings, load_training_input(settings.data))
    expected = ("track", [r.track for r in records]) if known == "all" else ("prompt", [r.prompt for r in records])
    assert (grouped_by, list(setup.groups)) == expected


def test_train_refuses_tables_it_cannot_learn_from(tmp_path):
    with pytest.raises(UserError, match=r"data.*csv_path_l"):
        train(config(tmp_path, None))
    (tmp_path / "no").mkdir()
    with pytest.raises(UserError, match=r"t_l.csv: expected signals with correctness, found none"):
        train(config(tmp_path, make_tables(tmp_path / "no", labelled=False)))
    settings = word_config(tmp_path / "words", 12)
    silent = [dataclasses.replace(record, response="") for record in records_with_responses(12)[0]]
    data = dataclasses.replace(settings.data, prior_metadata=(write_metadata(tmp_path / "silent.json", silent),))
    with pytest.raises(UserError, match=r"silent.json: expected responses"):
        train(dataclasses.replace(settings, data=data))
    one = training_data(RESPONSE_COLUMNS, make_response_tables(tmp_path / "one", 3)[0])
    with pytest.raises(UserError, match="at least 2 prompts"):
        train(config(tmp_path, None, data=one, model=WordModelConfig()))
    edit_tables(settings.data.train_tables[0], lambda table: table["signal"] != "", response="")
    with pytest.raises(UserError, match="expected responses"):
        train(settings)
    assert not (tmp_path / "out").exists()


# --- configs


def plain(**changes: object) -> dict:
    return {
        "exp_name": "x",
        "data": {"csv_path_l": "l.csv", "csv_path_r": "r.csv", "feature_cols": ["tiny"]},
        "model": {"d_model": 64},
        "train": {"save_dir": "checkpoints\\x", "lr": "1e-3", "of_another_system": 1},
        **changes,
    }


def test_train_config_defaults_are_the_published_settings():
    found = train_config(plain(infer={"splits": ["eval"]}))
    assert found.train == TrainOptions(Path("checkpoints/x"), 1024, 100, 1e-3, 0.4, 0.2)
    assert (found.model, found.cross_validation, found.run) == (TransformerConfig(), CvOptions(5, 4), RunOptions(42))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": {}}, "train.save_dir"),
        ({"train": {"save_dir": "x", "epochs": "many"}}, "train.epochs: expected int, found 'many'"),
        ({"train": {"save_dir": "x", "folds": 5}}, "train.folds"),
        ({"model": {"name": "wrod"}}, "model.name"),
        ({"cross_validation": [1]}, "cross_validation"),
        ({"seed": -1}, "seed: expected 0 or a positive number, found -1"),
        ({"data": None}, "data.feature_cols"),
    ],
    ids=str,
)
def test_train_config_refuses(changes, says):
    with pytest.raises(UserError, match=says):
        train_config(plain(**changes))


@pytest.mark.parametrize("name", ["published", "final", "turbo", "small", "lite"])
def test_train_config_reads_shipped_configs(name):
    found = train_config({**read_yaml(ROOT / "checkpoints" / name / "config.yaml"), "exp_name": name})
    assert found.model.name == ("published" if name == "published" else "word")
    assert bool(found.data.prior_metadata) == (name != "published")
    assert (found.cross_validation, found.run.seed, len(found.data.metadata)) == (CvOptions(5, 4), 42, 1)


@pytest.mark.slow
def test_cross_validation_of_lite_on_challenge_data(clip1):
    """One repeat of the shipped recipe on the challenge's valid tables, by track."""
    whole = read_yaml(ROOT / "checkpoints" / "lite" / "config.yaml")
    data = {k: v.replace("data/", f"{clip1}/", 1) if isinstance(v, str) else v for k, v in whole["data"].items()}
    settings = train_config({**whole, "data": data, "cross_validation": {"folds": 5, "repeats": 1}, "device": "cpu"})
    result, grouped_by = cross_validation(settings)
    assert (grouped_by, result.scores.shape) == ("track", (1, 1175))
    assert result.rmse < 29.0
    assert result.r > 0.600
    # 1,175 signals know a share of 0.8 to 0.012, and their tracks make it less sure.
    assert coverage(result)["all"] == pytest.approx(0.8, abs=0.04)
