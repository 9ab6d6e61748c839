"""scow.inference: words, intervals, tables without DNSMOS, provenance, submissions."""

import shutil
from pathlib import Path

import helpers
import numpy as np
import pandas as pd
import pytest
from reference_transformer import SMALL, train_options

from scow.data.provenance import SOURCE, read_provenance, write_provenance
from scow.data.tables import DNSMOS_COLUMNS
from scow.errors import UserError
from scow.inference import InferConfig, InferOptions, infer, infer_config, submission_rows
from scow.models.checkpoint import load_checkpoint
from scow.models.config import DataOptions, WordModelConfig
from scow.models.inputs import load_input
from scow.models.word_model import WordModel
from scow.training.train import RunOptions, TrainConfig, train


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A trained word model on DNSMOS and two Whisper columns."""
    folder = tmp_path_factory.mktemp("word")
    tables, _ = helpers.make_response_tables(folder / "train", 60)
    prior = helpers.write_prior(folder / "prior.json")
    data = helpers.training_data(helpers.RESPONSE_COLUMNS, tables, prior_metadata=(prior,))
    train(helpers.word_training(data, folder))
    return folder / "out" / "model.pt"


@pytest.fixture
def model(checkpoint, tmp_path) -> WordModel:
    shutil.copy(checkpoint, tmp_path)
    return load_checkpoint(checkpoint, WordModelConfig(), helpers.RESPONSE_COLUMNS)[0]


@pytest.fixture
def tables(tmp_path) -> tuple[Path, Path]:
    return helpers.make_response_tables(tmp_path / "new", 30, seed=200)[0]


def word_settings(folder: Path, tables: tuple[Path, Path], **options) -> InferConfig:
    data = DataOptions(helpers.RESPONSE_COLUMNS, {"valid": tables})
    return InferConfig(folder, data, WordModelConfig(), InferOptions(("valid",), **options), device="cpu")


@pytest.mark.parametrize(("percentage", "unit"), [(True, 100), (False, 1)])
def test_infer_details(tmp_path, model, tables, percentage, unit):
    (split,), _ = infer(word_settings(tmp_path, tables, details=True, scale_to_percentage=percentage))
    assert split.details == (tmp_path / "valid_words.csv", tmp_path / "valid_details.csv")
    inputs = load_input(*tables, helpers.RESPONSE_COLUMNS)
    predicted = model.predict(inputs)
    words = pd.read_csv(split.details[0], dtype={"signal": str}, keep_default_na=False)
    assert list(words) == ["signal", "position", "word", "probability"]
    places = [(s, i, w) for s, ws in zip(inputs.signals, inputs.words, strict=True) for i, w in enumerate(ws)]
    assert list(words[["signal", "position", "word"]].itertuples(index=False, name=None)) == places
    np.testing.assert_allclose(words["probability"], predicted.words, rtol=0, atol=5.1e-7)
    details = pd.read_csv(split.details[1], dtype={"signal": str})
    assert list(details) == ["signal", "score", "low", "high"]
    written = pd.read_csv(split.path, header=None, names=["signal", "score"], dtype={"signal": str})
    pd.testing.assert_frame_equal(details[["signal", "score"]], written)
    means = words.groupby("signal")["probability"].mean()[details["signal"]]
    np.testing.assert_allclose(details["score"], unit * means, rtol=0, atol=unit * 1.1e-6)
    ends = model.interval(predicted.correctness, inputs.hearing_loss.numpy(), 0.8)
    np.testing.assert_allclose(details[["low", "high"]].T, unit * np.stack(ends), rtol=0, atol=1e-6)
    assert details["score"].between(details["low"], details["high"]).all()


def without_column(tables: tuple[Path, ...], column: str) -> None:
    for path in tables:
        pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=column).to_csv(path, index=False)


@pytest.mark.parametrize("channels", [slice(0, 1), slice(0, 2)])
def test_infer_allow_missing_does_without_dnsmos(tmp_path, model, tables, channels):
    complete = infer(word_settings(tmp_path, tables))[0][0].scores
    allowed = infer(word_settings(tmp_path, tables, allow_missing=True))[0][0].scores
    np.testing.assert_array_equal(allowed, complete)
    without_column(tables[channels], "dns_bak")
    with pytest.raises(UserError, match=r"dns_bak.*compute_metrics.py"):
        infer(word_settings(tmp_path, tables))
    (split,), _ = infer(word_settings(tmp_path, tables, allow_missing=True, details=True))
    fewer = tuple(column for column in helpers.RESPONSE_COLUMNS if column not in DNSMOS_COLUMNS)
    np.testing.assert_array_equal(split.scores, 100 * model.predict(load_input(*tables, fewer)).correctness)
    assert 0 < np.abs(split.scores - complete).max() < 30
    without_column(tables, "base")
    with pytest.raises(UserError, match="base"):
        infer(word_settings(tmp_path, tables, allow_missing=True))


def test_infer_compares_provenance_with_the_training(tmp_path):
    columns, tables = ("tiny", "stoi"), {}
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        tables[name] = helpers.make_tables(tmp_path / name, 18, columns)

    def note(table: Path, column: str, *source: str) -> None:
        known = {**dict(zip(SOURCE, source, strict=True)), "failures": {}}
        write_provenance(table, {**read_provenance(table), column: known})

    for table in tables["train"]:
        note(table, "tiny", "published", "tiny", "a" * 64)
    options, run = train_options(save_dir=tmp_path, epochs=1), RunOptions(device="cpu")
    settings = TrainConfig(helpers.training_data(columns, tables["train"]), SMALL, options, run=run)
    train(settings)
    config = InferConfig(tmp_path, DataOptions(columns, tables), SMALL, InferOptions(("train", "valid")), device="cpu")
    assert [(split.trained_on, split.notes) for split in infer(config)[0]] == [(True, ())] * 2  # the same signals
    left, right = tables["valid"]
    note(left, "tiny", "published", "tiny", "b" * 64)  # other weights
    (note_text,) = infer(config)[0][1].notes
    assert all(part in note_text for part in (str(left), "tiny", "bbbbbbbbbbbb", "aaaaaaaaaaaa"))
    (tmp_path / "valid_inference.csv").unlink()
    note(right, "tiny", "aligned", "tiny", "a" * 64)  # another definition
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny"):
        infer(config)
    assert not (tmp_path / "valid_inference.csv").exists()
    note(tables["train"][1], "tiny", "aligned", "tiny", "a" * 64)
    with pytest.raises(UserError, match=r"t_r\.csv: column tiny"):  # the training tables disagree
        train(settings)


@pytest.mark.parametrize(
    ("device", "overridden", "found", "folder"),
    [
        ("cuda", (), "auto", "here"),  # what a published config asks for
        ("cuda", ("device",), "cuda", "here"),  # what the user asks for
        ("cpu", ("exp_name",), "cpu", "checkpoints/somewhere"),
        ("auto", ("infer.splits", "train.save_dir"), "auto", "checkpoints/somewhere"),
    ],
)
def test_infer_config_device_and_folder_depend_on_overrides(device, overridden, found, folder):
    data = {"valid_path_l": "v\\l.csv", "valid_path_r": "v\\r.csv", "feature_cols": ["tiny"]}
    whole = {"device": device, "data": data, "train": {"save_dir": "checkpoints\\somewhere"}}
    config = infer_config({**whole, "infer": {"splits": ["valid"]}}, Path("here"), overridden)
    assert (config.device, config.folder) == (found, Path(folder))


@pytest.mark.parametrize("key", ["tables", "output_dir"])
def test_infer_config_may_not_choose_a_folder_elsewhere(key):
    values = {"tables": ["/other/mine_metadata_l.csv", "/other/mine_metadata_r.csv"], "output_dir": "/other"}
    whole = {"data": {"valid_path_l": "l.csv", "valid_path_r": "r.csv", "feature_cols": ["tiny"]}}
    whole["infer"] = {"splits": ["valid"], key: values[key]}
    with pytest.raises(UserError, match=f"infer.{key}: expected a folder inside"):
        infer_config(whole, Path("here"))
    config = infer_config(whole, Path("here"), (f"infer.{key}",))
    assert (config.infer.output_dir, *config.infer.splits) == (Path("/other"), "mine" if key == "tables" else "valid")


@pytest.mark.parametrize("says", helpers.REFUSALS["submission"])
def test_submission_rows_refuses(tmp_path, says):
    (_, metadata), scores = helpers.make_response_tables(tmp_path, 3), helpers.REFUSALS["submission"][says]
    with helpers.refusal(says):
        submission_rows(metadata, tuple(scores), np.array(list(scores.values()), dtype=float))
