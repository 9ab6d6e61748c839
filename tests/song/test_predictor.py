"""scow.song.predictor: equal to the stages, which checkpoint is loaded, where it is looked for."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from corpus import make_corpus
from helpers import DEMO, MODELS, ROOT, load_whisper, make_response_tables, run_python, run_script

from scow.data.audio import FILE_RATE_HZ, StereoSignal, read_stereo
from scow.errors import UserError
from scow.song.predictor import SHIPPED, Predictor
from scow.song.song import predict_excerpt

LYRICS = "row row row your boat gently down the stream"
SIGNALS = DEMO / "demo" / "signals"
COLUMNS = ("tiny.en", "dns_sig", "dns_bak", "dns_ovrl")
POINTS = 1e-3  # six decimals of the word scores in the tables, through a logistic regression, in points of 0-100


def stage(script: str, *arguments: object) -> None:
    run_script(script, *arguments, code=0)


@pytest.mark.slow
def test_predict_excerpt_equals_the_stages(tmp_path):
    """With a model of one's own, fitted to invented responses, that also takes DNSMOS."""
    load_whisper("tiny.en")
    (left, right), metadata = make_response_tables(tmp_path / "train", 60, COLUMNS)
    corpus, folder = make_corpus(tmp_path / "stages", {"row": LYRICS}), tmp_path / "mine"
    shutil.copy(SIGNALS / "row_mild.flac", corpus.signal("row"))
    data = {"csv_path_l": left, "csv_path_r": right, "metadata": metadata, "prior_metadata": metadata}
    data |= {"feature_cols": f"[{','.join(COLUMNS)}]", "demo_path_l": corpus.tables[0], "demo_path_r": corpus.tables[1]}
    stage("whisper_inference.py", "--config", corpus.config)
    stage("compute_metrics.py", "--config", corpus.config, "--dns")
    overrides = [f"data.{key}={value}" for key, value in data.items()]
    stage("train.py", "-cp", "checkpoints/lite", f"train.save_dir={folder}", *overrides)
    stage("infer.py", "-cp", folder, "infer.splits=[demo]", "infer.details=true", "device=cpu")
    predictor = Predictor.load(folder, model_dir=MODELS, device="cpu")
    ours = predict_excerpt(SIGNALS / "row_mild.flac", LYRICS, predictor=predictor).at("No Loss")
    (row,) = pd.read_csv(folder / "demo_details.csv").to_dict("records")
    assert [ours.score, ours.low, ours.high] == pytest.approx(
        [row[key] for key in ("score", "low", "high")], abs=POINTS
    )
    words = pd.read_csv(folder / "demo_words.csv")
    assert [word.word for word in ours.words] == words["word"].tolist() == LYRICS.split()
    assert [word.probability for word in ours.words] == pytest.approx(words["probability"].tolist(), abs=POINTS / 100)
    assert [(heard.model, heard.ear) for heard in ours.heard] == [("tiny.en", "left"), ("tiny.en", "right")]


@pytest.mark.slow
def test_predict_transcribes_equal_channels_once_and_silent_ones_never(lite):
    left = read_stereo(SIGNALS / "row_none.flac").samples[0]
    calls = []
    excerpts = [
        ([StereoSignal(np.stack([left, right]), FILE_RATE_HZ)], tuple(LYRICS.split()), "No Loss")
        for right in (left, 0 * left)
    ]
    both, one = lite.predict(excerpts, progress=lambda *state: calls.append(state))
    assert calls == [("transcribing", 3, 3)]
    assert both.heard[0].transcript == both.heard[1].transcript == one.heard[0].transcript != ""
    assert one.heard[1].transcript == ""
    assert one.score < both.score


def test_shipped_checkpoints_are_ranked_by_their_figures():
    paths = [ROOT / "checkpoints" / name / "cross_validation.json" for name in SHIPPED]
    figures = [json.loads(path.read_text(encoding="utf-8"))["rmse"] for path in paths]
    assert figures == sorted(figures)


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
