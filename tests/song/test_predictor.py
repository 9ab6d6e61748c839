"""scow.song.predictor: in memory what the five stages do by way of tables, and which checkpoint it takes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import (
    DEMO,
    HEARD_COLUMNS,
    MODELS,
    ROOT,
    heard_records,
    load_whisper,
    make_heard_tables,
    training_data,
    write_metadata,
)

from scow.data.audio import FILE_RATE_HZ, StereoSignal, read_stereo
from scow.errors import UserError
from scow.inference import InferConfig, InferOptions, infer
from scow.models.config import TrainOptions, WordModelConfig
from scow.song.predictor import Clip, Predictor, best_checkpoint
from scow.song.song import PredictOptions, predict_excerpt
from scow.training.train import CvOptions, TrainConfig, train

SIGNAL, LYRICS = "row_mild", "row row row your boat gently down the stream"
POINTS = 1e-3  # six decimals of the word scores in the tables, through a logistic regression, in points of 0-100


@pytest.fixture(scope="module")
def wide_checkpoint(tmp_path_factory) -> Path:
    """A word model on two Whisper models and DNSMOS, fitted to invented listeners."""
    folder = tmp_path_factory.mktemp("wide")
    tables, _ = make_heard_tables(folder / "train", 60)
    prior = write_metadata(folder / "prior.json", heard_records(60, 50, "p")[0])
    data = training_data(HEARD_COLUMNS, tables, prior_metadata=(prior,))
    options = TrainOptions(save_dir=folder / "checkpoint")
    train(TrainConfig("x", data, WordModelConfig(c=0.1), options, CvOptions(), device="cpu"))
    config = {"data": {"feature_cols": list(HEARD_COLUMNS)}, "model": {"name": "word", "c": 0.1}}
    (folder / "checkpoint" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> tuple[Path, Path]:
    """Both ears' tables of one demo signal, made by the scripts of stages 1 to 3."""
    import subprocess
    import sys

    for name in ("tiny.en", "base"):
        load_whisper(name)
    folder = tmp_path_factory.mktemp("stages")
    records = json.loads((DEMO / "metadata" / "demo_metadata.json").read_text(encoding="utf-8"))
    metadata = folder / "demo_metadata.json"
    metadata.write_text(json.dumps([record for record in records if record["signal"] == SIGNAL]), encoding="utf-8")
    entries = [
        {
            "name": f"demo_{ear}",
            "split": "demo",
            "channel": ear,
            "csv_path": f"demo_metadata_{ear[0]}.csv",
            "signal_dir": str(DEMO / "demo" / "signals"),
        }
        for ear in ("left", "right")
    ]
    config = folder / "feature_config.yaml"
    config.write_text(yaml.safe_dump({"datasets": entries}), encoding="utf-8")
    on = ["--config", str(config), "--splits", "demo"]
    heard = ["--models", "tiny.en", "base", "--model-dir", str(MODELS), "--device", "cpu"]
    for script, *arguments in (
        ["metadata_to_csv.py", "--json", str(metadata)],
        ["whisper_inference.py", *on, *heard],
        ["compute_metrics.py", *on, "--dns"],
    ):
        subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True, capture_output=True, timeout=300)
    return folder / "demo_metadata_l.csv", folder / "demo_metadata_r.csv"


def stage_5(checkpoint: Path, tables: tuple[Path, Path], folder: Path) -> tuple[list[float], list[float]]:
    """Score and interval of one signal, and its word probabilities, as infer.py writes them."""
    from scow.models.config import DataOptions

    folder.mkdir()
    shutil.copy(checkpoint / "model.pt", folder)
    columns = yaml.safe_load((checkpoint / "config.yaml").read_text(encoding="utf-8"))["data"]["feature_cols"]
    options = InferOptions(splits=("demo",), details=True)
    infer(InferConfig(folder, DataOptions(tuple(columns), {"demo": tables}), WordModelConfig(), options, device="cpu"))
    with (folder / "demo_details.csv").open(encoding="utf-8") as details, (folder / "demo_words.csv").open() as words:
        (row,) = csv.DictReader(details)
        return [float(row[key]) for key in ("score", "low", "high")], [
            float(word["probability"]) for word in csv.DictReader(words)
        ]


@pytest.mark.parametrize("which", ["lite", "wide"])
def test_a_file_is_predicted_as_the_five_stages_predict_it(which, lite, wide_checkpoint, tables, tmp_path):
    folder = ROOT / "checkpoints" / "lite" if which == "lite" else wide_checkpoint
    predictor = lite if which == "lite" else Predictor.load(folder, model_dir=MODELS, device="cpu")
    options = PredictOptions(("Mild",), already_simulated=True)
    path = DEMO / "demo" / "signals" / f"{SIGNAL}.flac"
    (ours,) = predict_excerpt(path, LYRICS, options, predictor=predictor).severities
    figures, words = stage_5(folder, tables, tmp_path / "stage5")
    assert [ours.score, ours.low, ours.high] == pytest.approx(figures, abs=POINTS)
    assert [word.probability for word in ours.words] == pytest.approx(words, abs=POINTS / 100)
    assert [word.word for word in ours.words] == LYRICS.split()
    assert {heard.model for heard in ours.heard} == set(predictor.listeners)


def test_a_silent_ear_hears_nothing(lite):
    left = read_stereo(DEMO / "demo" / "signals" / "row_none.flac").samples[0]
    told = []
    same, half = (StereoSignal(np.stack([left, right]), FILE_RATE_HZ) for right in (left, 0 * left))
    excerpts = [Clip(signal, tuple(LYRICS.split()), "No Loss") for signal in (same, half)]
    both, one = lite.predict(excerpts, progress=lambda *at: told.append(at))
    assert told == [("listening", 3, 3)]
    assert both.heard[0].transcript == both.heard[1].transcript == one.heard[0].transcript != ""
    assert one.heard[1].transcript == ""
    assert one.score < both.score


def checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        shutil.copytree(ROOT / "checkpoints" / name, folder / name)
    return folder


def weights(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.pt").touch()
    return folder


def test_the_best_checkpoint_whose_models_are_there_is_taken(tmp_path):
    known = checkpoints(tmp_path / "checkpoints", "published", "lite", "small")
    some = weights(tmp_path / "some", "tiny.en", "base")
    more = weights(tmp_path / "more", "tiny.en", "base.en", "small.en")
    assert best_checkpoint(known, some).name == "lite"
    assert best_checkpoint(known, more).name == "small"
    with pytest.raises(
        UserError, match=r"found none for any checkpoint .*offline_whisper\.py tiny\.en --official-first"
    ):
        best_checkpoint(known, weights(tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("published", r"^checkpoint published: expected a word model"),
        ("lit", r"^no checkpoint 'lit'; did you mean lite"),
    ],
)
def test_a_checkpoint_that_cannot_say_it_is_refused(name, reason):
    with pytest.raises(UserError, match=reason):
        Predictor.load(name, model_dir=MODELS)


def test_a_checkpoint_that_needs_the_unprocessed_file_is_refused(tmp_path):
    columns = ("tiny.en", "stoi")
    data = training_data(columns, make_heard_tables(tmp_path / "train", 30, columns)[0])
    train(TrainConfig("x", data, WordModelConfig(), TrainOptions(save_dir=tmp_path / "x"), CvOptions(), device="cpu"))
    config = {"data": {"feature_cols": list(columns)}, "model": {"name": "word"}}
    (tmp_path / "x" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"checkpoint x: .* found stoi, which need the unprocessed excerpt"):
        Predictor.load(tmp_path / "x", model_dir=MODELS)
