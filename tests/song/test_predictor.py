"""scow.song.predictor: equal to the stages, which checkpoint is loaded, where it is looked for."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import (
    DEMO,
    MODELS,
    ROOT,
    load_whisper,
    make_response_tables,
    records_with_responses,
    run_python,
    run_script,
    write_metadata,
)

from scow.data.audio import FILE_RATE_HZ, StereoSignal, read_stereo
from scow.errors import UserError
from scow.song.predictor import Predictor
from scow.song.song import PredictOptions, predict_excerpt

SIGNAL, LYRICS = "row_mild", "row row row your boat gently down the stream"
FLAC = DEMO / "demo" / "signals" / f"{SIGNAL}.flac"
POINTS = 1e-3  # six decimals of the word scores in the tables, through a logistic regression, in points of 0-100


def stage(script: str, *arguments: object) -> None:
    done = run_script(script, *arguments)
    assert done.returncode == 0, done.stderr


def make_checkpoint(folder: Path, feature_cols: Sequence[str], **data: object) -> Path:
    """A word model, fitted to invented listeners by train.py."""
    (left, right), _ = make_response_tables(folder / "train", 60, feature_cols)
    prior = write_metadata(folder / "prior.json", records_with_responses(60, 50, "p")[0])
    config = yaml.safe_load((ROOT / "checkpoints" / "lite" / "config.yaml").read_text(encoding="utf-8"))
    config["data"] |= {"csv_path_l": str(left), "csv_path_r": str(right), "metadata": None, **data}
    config["data"] |= {"prior_metadata": str(prior), "feature_cols": list(feature_cols)}
    config["train"]["save_dir"] = str(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    stage("train.py", "-cp", folder)
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, str]:
    """Tables of one demo signal, made by stages 1 to 3, as the section data of a config names them."""
    load_whisper("tiny.en")
    folder = tmp_path_factory.mktemp("stages")
    records = json.loads((DEMO / "metadata" / "demo_metadata.json").read_text(encoding="utf-8"))
    metadata = folder / "demo_metadata.json"
    metadata.write_text(json.dumps([record for record in records if record["signal"] == SIGNAL]), encoding="utf-8")
    datasets = [
        {
            "name": f"demo_{channel}",
            "split": "demo",
            "channel": channel,
            "csv_path": f"demo_metadata_{channel[0]}.csv",
            "signal_dir": str(FLAC.parent),
        }
        for channel in ("left", "right")
    ]
    config = folder / "feature_config.yaml"
    config.write_text(yaml.safe_dump({"datasets": datasets}), encoding="utf-8")
    on = ["--config", config, "--splits", "demo"]
    stage("metadata_to_csv.py", "--json", metadata)
    stage("whisper_inference.py", *on, "--models", "tiny.en", "--model-dir", MODELS, "--device", "cpu")
    stage("compute_metrics.py", *on, "--dns")
    return {f"demo_path_{side}": str(folder / f"demo_metadata_{side}.csv") for side in "lr"}


@pytest.mark.slow
def test_predict_excerpt_equals_the_stages(tables, tmp_path):
    columns = ("tiny.en", "dns_sig", "dns_bak", "dns_ovrl")
    folder = make_checkpoint(tmp_path / "mine", columns, **tables)
    stage("infer.py", "-cp", folder, "infer.splits=[demo]", "infer.details=true", "device=cpu")
    predictor = Predictor.load(folder, model_dir=MODELS, device="cpu")
    options = PredictOptions(("Mild",), already_simulated=True)
    ours = predict_excerpt(FLAC, LYRICS, options, predictor=predictor).at("Mild")
    with (folder / "demo_details.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert [ours.score, ours.low, ours.high] == pytest.approx(
        [float(row[key]) for key in ("score", "low", "high")], abs=POINTS
    )
    with (folder / "demo_words.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [word.word for word in ours.words] == [row["word"] for row in rows] == LYRICS.split()
    assert [word.probability for word in ours.words] == pytest.approx(
        [float(row["probability"]) for row in rows], abs=POINTS / 100
    )
    assert [(heard.model, heard.ear) for heard in ours.heard] == [("tiny.en", "left"), ("tiny.en", "right")]


@pytest.mark.slow
def test_predict_transcribes_equal_channels_once_and_silent_ones_never(lite):
    left = read_stereo(DEMO / "demo" / "signals" / "row_none.flac").samples[0]
    calls = []
    excerpts = [
        (StereoSignal(np.stack([left, right]), FILE_RATE_HZ), tuple(LYRICS.split()), "No Loss")
        for right in (left, 0 * left)
    ]
    both, one = lite.predict(excerpts, progress=lambda *state: calls.append(state))
    assert calls == [("transcribing", 3, 3)]
    assert both.heard[0].transcript == both.heard[1].transcript == one.heard[0].transcript != ""
    assert one.heard[1].transcript == ""
    assert one.score < both.score


@pytest.mark.slow
def test_load_takes_the_best_shipped_checkpoint_whose_weights_are_there(tmp_path):
    load_whisper("tiny.en")
    for name in ("published", "lite", "small"):
        shutil.copytree(ROOT / "checkpoints" / name, tmp_path / "checkpoints" / name)
    shutil.copytree(ROOT / "checkpoints" / "lite", tmp_path / "checkpoints" / "own")  # never a default
    (tmp_path / "checkpoints" / "own" / "cross_validation.json").write_text('{"rmse": 1}', encoding="utf-8")
    for folder, names in {"some": ["tiny.en", "base"], "none": []}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.pt").symlink_to(MODELS / f"{name}.pt")
    places = {"checkpoint_dir": tmp_path / "checkpoints", "device": "cpu"}
    assert Predictor.load(**places, model_dir=tmp_path / "some").name == "lite"
    with pytest.raises(UserError, match=r"found none for any checkpoint .*offline_whisper\.py tiny\.en "):
        Predictor.load(**places, model_dir=tmp_path / "none")
    for name in ("base.en", "small.en"):
        (tmp_path / "some" / f"{name}.pt").touch()
    with pytest.raises(UserError, match=r"small\.en\.pt: cannot be loaded"):  # the largest of small, which is chosen
        Predictor.load(**places, model_dir=tmp_path / "some")


API = """
import os, sys, tempfile
from pathlib import Path
import scow
assert not {"torch", "whisper", "numpy", "pandas"} & set(sys.modules), "heavy imports"
root = Path(scow.__file__).parent.parent
os.chdir(tempfile.mkdtemp())
from scow import ExcerptPrediction, PredictOptions, Predictor, SongPrediction, predict_excerpt, predict_song
print(Predictor.load("lite", device="cpu").name)
os.environ["SCOW_HOME"] = str(root)
print(Predictor.load("lite", device="cpu").name)
os.environ["SCOW_HOME"] = "nowhere"
print(Predictor.load("lite", device="cpu", checkpoint_dir=root / "checkpoints", model_dir=root / "models").name)
try:
    Predictor.load("lite")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_package_from_any_folder_finds_its_checkpoints():
    load_whisper("tiny.en")
    done = run_python(API)
    assert done.returncode == 0, done.stderr
    *names, refusal = done.stdout.splitlines()
    assert names == ["lite"] * 3
    assert refusal.startswith("UserError expected checkpoints in nowhere")
