"""scow.song.predictor: which checkpoint is loaded, and where it is looked for (scores: scripts/test_clip2.py)."""

import json
import shutil

import numpy as np
import pytest
from helpers import DEMO, MODELS, ROOT, load_whisper, run_python

from scow.data.audio import FILE_RATE_HZ, StereoSignal, read_stereo
from scow.errors import UserError
from scow.song.predictor import SHIPPED, Predictor

pytestmark = pytest.mark.slow
LYRICS = "row row row your boat gently down the stream"
SIGNALS = DEMO / "demo" / "signals"


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


def test_package_from_any_folder_finds_its_checkpoints():
    load_whisper("tiny.en")
    done = run_python(API)
    assert done.returncode == 0, done.stderr
    *names, refusal = done.stdout.splitlines()
    assert names == ["lite"] * 3
    assert refusal.startswith("UserError expected checkpoints in nowhere")
