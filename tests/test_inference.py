"""scow.inference: tables and a checkpoint to files of scores, words, intervals and submissions."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import (
    RESPONSE_COLUMNS,
    make_records,
    make_response_tables,
    make_tables,
    records_with_responses,
    training_data,
    write_metadata,
)
from reference_transformer import network_of, random_state

from scow.data.provenance import SOURCE, read_provenance, write_provenance
from scow.data.tables import DNSMOS_COLUMNS
from scow.errors import UserError
from scow.inference import InferConfig, InferOptions, infer, infer_config, submission_rows
from scow.metrics import agreement
from scow.models.checkpoint import load_checkpoint, save_checkpoint
from scow.models.config import DataOptions, TrainOptions, TransformerConfig, WordModelConfig
from scow.models.inputs import load_input
from scow.models.transformer import Transformer
from scow.training.train import RunOptions, TrainConfig, train

COLUMNS = ("f0", "f1", "f2")


def read_scores(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as handle:
        return {signal: float(score) for signal, score in csv.reader(handle)}


def tables_of(folder: Path, n_signals: int, **keywords) -> tuple[Path, Path]:
    folder.mkdir()
    return make_tables(folder, n_signals, **{"columns": COLUMNS, **keywords})


def transformer_checkpoint(folder: Path) -> Transformer:
    """Random weights with scores on both sides of 0 and of 1."""
    state = random_state(1, n_features=len(COLUMNS))
    state["fc_out.weight"] *= 8
    state["fc_out.bias"] -= 3.4
    network = network_of(state)
    save_checkpoint(folder / "model.pt", network, {})
    return network


def settings(folder: Path, tables: dict[str, tuple[Path, Path]], **options) -> InferConfig:
    names = options.pop("output_name", {})
    infer_options = InferOptions(**{"splits": tuple(tables), **options})
    return InferConfig(folder, DataOptions(COLUMNS, tables), TransformerConfig(), infer_options, names, "cpu")


# --- scores of the transformer


@pytest.mark.parametrize(("clamp", "percentage"), [(True, True), (True, False), (False, True), (False, False)])
def test_infer_writes_clamped_and_scaled_scores(tmp_path, clamp, percentage):
    network = transformer_checkpoint(tmp_path)
    tables = tables_of(tmp_path / "valid", 18)
    for path in tables:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[table["signal"] > "0011", "correctness"] = ""
        table.to_csv(path, index=False)
    options = {"clamp_scores": clamp, "scale_to_percentage": percentage, "output_name": {"valid": "mine.csv"}}
    (split,), missing = infer(settings(tmp_path, {"valid": tables}, **options))
    assert (split.path, missing) == (tmp_path / "mine.csv", [])
    inputs = load_input(*tables, COLUMNS)
    raw = network.predict(inputs).correctness
    assert raw.min() < -0.01
    assert raw.max() > 1.01
    points = 100 * (np.clip(raw, 0, 1) if clamp else raw)
    written = read_scores(split.path)
    assert tuple(written) == split.signals == inputs.signals
    np.testing.assert_allclose(list(written.values()), points / (1 if percentage else 100), rtol=0, atol=1e-6)
    expected = agreement(points[:12], 100 * inputs.target[:12].double().numpy())  # in points, of labelled signals
    assert split.agreement.n_signals == 12
    assert split.agreement.rmse == pytest.approx(expected.rmse, abs=1e-9)


def test_infer_skips_splits_without_tables(tmp_path):
    transformer_checkpoint(tmp_path)
    tables = {"eval": tables_of(tmp_path / "eval", 6)}
    tables["eval"][1].unlink()
    with pytest.raises(UserError, match=r"split eval: expected .*t_r.csv"):
        infer(settings(tmp_path, tables))
    done, missing = infer(settings(tmp_path, tables | {"valid": tables_of(tmp_path / "valid", 6)}))
    assert ([split.split for split in done], len(missing)) == (["valid"], 1)
    assert [path.name for path in tmp_path.glob("*.csv")] == ["valid_inference.csv"]


@pytest.mark.parametrize(
    ("options", "columns", "says"),
    [
        ({}, ("f0", "f1"), r"f2"),
        ({"allow_missing": True}, ("f0", "f1"), r"f2"),  # the transformer can do without nothing
        ({"details": True}, COLUMNS, "expected a word model for words and intervals"),
    ],
)
def test_infer_refuses_what_the_checkpoint_cannot_do(tmp_path, options, columns, says):
    transformer_checkpoint(tmp_path)
    with pytest.raises(UserError, match=says):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6, columns=columns)}, **options))
    assert not list(tmp_path.glob("*.csv"))


# --- the word model: words, intervals, tables without DNSMOS


@pytest.fixture(scope="module")
def word_folder(tmp_path_factory) -> Path:
    """A trained word model on DNSMOS and two Whisper columns."""
    folder = tmp_path_factory.mktemp("word")
    tables, _ = make_response_tables(folder / "train", 60)
    prior = write_metadata(folder / "prior.json", records_with_responses(60, 50, "p")[0])
    data = training_data(RESPONSE_COLUMNS, tables, prior_metadata=(prior,))
    config = TrainConfig(data, WordModelConfig(c=0.1), TrainOptions(folder / "out"), run=RunOptions(device="cpu"))
    train(config)
    return folder / "out"


def word_settings(folder: Path, word_folder: Path, tables: tuple[Path, Path], **options) -> InferConfig:
    folder.mkdir(exist_ok=True)
    shutil.copy(word_folder / "model.pt", folder / "model.pt")
    data = DataOptions(RESPONSE_COLUMNS, {"valid": tables})
    return InferConfig(folder, data, WordModelConfig(), InferOptions(("valid",), **options), device="cpu")


def without_columns(tables: tuple[Path, ...], *columns: str) -> None:
    for path in tables:
        pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=list(columns)).to_csv(path, index=False)


@pytest.mark.parametrize("percentage", [True, False])
def test_infer_details(tmp_path, word_folder, percentage):
    tables, _ = make_response_tables(tmp_path / "new", 30, seed=200)
    config = word_settings(tmp_path, word_folder, tables, details=True, scale_to_percentage=percentage)
    (split,), _ = infer(config)
    assert split.details == (tmp_path / "valid_words.csv", tmp_path / "valid_details.csv")
    inputs = load_input(*tables, RESPONSE_COLUMNS)
    model = load_checkpoint(tmp_path / "model.pt", WordModelConfig(), RESPONSE_COLUMNS).model
    predicted = model.predict(inputs)
    words = pd.read_csv(split.details[0], dtype={"signal": str}, keep_default_na=False)
    assert list(words) == ["signal", "position", "word", "probability"]
    places = [(s, i, w) for s, ws in zip(inputs.signals, inputs.words, strict=True) for i, w in enumerate(ws)]
    assert list(words[["signal", "position", "word"]].itertuples(index=False, name=None)) == places
    np.testing.assert_allclose(words["probability"], predicted.words, rtol=0, atol=5.1e-7)
    unit = 100 if percentage else 1
    details = pd.read_csv(split.details[1], dtype={"signal": str})
    assert list(details) == ["signal", "score", "low", "high"]
    assert dict(zip(details["signal"], details["score"], strict=True)) == read_scores(split.path)
    means = words.groupby("signal")["probability"].mean()[details["signal"]]
    np.testing.assert_allclose(details["score"], unit * means, rtol=0, atol=unit * 1.1e-6)
    ends = model.interval(predicted.correctness, inputs.hearing_loss.numpy(), 0.8)
    np.testing.assert_allclose(details[["low", "high"]].T, unit * np.stack(ends), rtol=0, atol=1e-6)
    assert (details["low"] <= details["score"]).all()
    assert (details["score"] <= details["high"]).all()


@pytest.mark.parametrize("channels", [(0,), (0, 1)])
def test_infer_allow_missing_does_without_dnsmos(tmp_path, word_folder, channels):
    tables, _ = make_response_tables(tmp_path / "new", 30, seed=200)
    complete = infer(word_settings(tmp_path, word_folder, tables))[0][0].scores
    allowed = infer(word_settings(tmp_path, word_folder, tables, allow_missing=True))[0][0].scores
    np.testing.assert_array_equal(allowed, complete)
    without_columns(tuple(tables[channel] for channel in channels), "dns_bak")
    with pytest.raises(UserError, match=r"dns_bak.*compute_metrics.py"):
        infer(word_settings(tmp_path, word_folder, tables))
    (split,), _ = infer(word_settings(tmp_path, word_folder, tables, allow_missing=True, details=True))
    fewer = tuple(column for column in RESPONSE_COLUMNS if column not in DNSMOS_COLUMNS)
    model = load_checkpoint(tmp_path / "model.pt", WordModelConfig(), RESPONSE_COLUMNS).model
    np.testing.assert_array_equal(split.scores, 100 * model.predict(load_input(*tables, fewer)).correctness)
    assert 0 < np.abs(split.scores - complete).max() < 30
    without_columns(tables, "base")
    with pytest.raises(UserError, match="base"):
        infer(word_settings(tmp_path, word_folder, tables, allow_missing=True))


# --- where the features come from


@pytest.mark.slow
def test_infer_compares_provenance_with_the_training(tmp_path):
    columns = ("tiny", "stoi")
    tables = {name: tables_of(tmp_path / name, 18, columns=columns) for name in ("train", "valid")}

    def note(table: Path, column: str, *source: str) -> None:
        known = {**dict(zip(SOURCE, source, strict=True)), "failures": {}}
        write_provenance(table, {**read_provenance(table), column: known})

    for table in tables["train"]:
        note(table, "tiny", "published", "tiny", "a" * 64)
    options = TrainOptions(save_dir=tmp_path, batch_size=8, epochs=1)
    small = TransformerConfig(d_model=8, nhead=2)
    train(TrainConfig(training_data(columns, tables["train"]), small, options, run=RunOptions(device="cpu")))
    config = InferConfig(tmp_path, DataOptions(columns, tables), small, InferOptions(("train", "valid")), device="cpu")
    done, _ = infer(config)
    assert [split.trained_on for split in done] == [True, True]  # the same signals
    assert [split.notes for split in done] == [(), ()]
    left, right = tables["valid"]
    note(left, "tiny", "published", "tiny", "b" * 64)
    (note_text,) = infer(config)[0][1].notes
    assert all(part in note_text for part in (str(left), "tiny", "bbbbbbbbbbbb", "aaaaaaaaaaaa"))
    (tmp_path / "valid_inference.csv").unlink()
    note(right, "tiny", "aligned", "tiny", "a" * 64)
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny"):
        infer(config)
    note(tables["train"][1], "tiny", "aligned", "tiny", "a" * 64)
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny"):  # the training tables disagree
        train(TrainConfig(training_data(columns, tables["train"]), small, options, run=RunOptions(device="cpu")))
    assert not (tmp_path / "valid_inference.csv").exists()


# --- config


def whole_config(**changes: object) -> dict:
    return {
        "exp_name": "somewhere",
        "device": "cpu",
        "data": {"valid_path_l": "v\\l.csv", "valid_path_r": "v\\r.csv", "feature_cols": ["tiny"]},
        "train": {"save_dir": "checkpoints\\somewhere"},
        "infer": {"splits": ["valid"], "output_name": {"valid": "x.csv"}},
        **changes,
    }


@pytest.mark.parametrize(
    ("device", "overridden", "found", "folder"),
    [
        ("cuda", (), "auto", "here"),  # what a published config asks for
        ("cuda:0", ("infer.splits", "train.epochs"), "auto", "here"),
        ("cuda", ("device",), "cuda", "here"),  # what the user asks for
        ("cpu", ("exp_name",), "cpu", "checkpoints/somewhere"),
        ("auto", ("infer.splits", "train.save_dir"), "auto", "checkpoints/somewhere"),
    ],
)
def test_infer_config_device_and_folder_depend_on_overrides(device, overridden, found, folder):
    config = infer_config(whole_config(device=device), Path("here"), overridden)
    assert (config.device, config.folder) == (found, Path(folder))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"infer": {"splits": []}}, "infer.splits"),
        ({"infer": {"splits": ["vaild"]}}, "infer.splits.*did you mean valid"),
        ({"infer": {"interval": 80.0}}, "infer.interval"),
        ({"infer": {"output_name": {"valid": None}}}, "infer.output_name.valid"),
        ({"data": {"feature_cols": ["tiny"], "eval_path_l": "l.csv"}}, "eval"),
        ({"infer": {"splits": ["valid"], "submission": {"track": None, "team": "T045"}}}, "infer.submission.track"),
        ({"infer": {"splits": ["valid"], "submission": {"track": "clip1", "team": None}}}, "infer.submission.team"),
        ({"infer": {"splits": ["valid"], "submission": {"track": "clip1", "team": "T045\n"}}}, "infer.submission.team"),
    ],
    ids=str,
)
def test_infer_config_refuses(changes, says):
    with pytest.raises(UserError, match=says):
        infer_config(whole_config(**changes), Path("here"))


# --- submissions


@pytest.mark.parametrize(
    ("signals", "scores", "says"),
    [
        (["0000", "0001"], [1, 2], "0002"),
        (["0000", "0001", "0002", "x"], [1, 2, 3, 4], "instance x"),
        (["0000", "0001", "0002"], [1, np.nan, 3], "0001.*nan"),
        (["0000", "0001", "0002"], [1, 2, np.inf], "0002.*inf"),
        (["0000", "0001", "0002"], [-0.001, 2, 3], "0000.*-0.001"),
        (["0000", "0001", "0002"], [0, 2, 100.001], "0002.*100.001"),
    ],
)
def test_submission_rows_refuses(tmp_path, signals, scores, says):
    metadata = write_metadata(tmp_path / "eval_metadata.json", make_records(3))
    with pytest.raises(UserError, match=says):
        submission_rows(metadata, signals, np.array(scores, dtype=float))
