"""Records in the form of CLIP2 through all six stages, on the demo's audio.

They lack `fma`, `response` and `words_correct`; labels of several listeners are in ``train_responses.json``. The
responses are invented.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import DEMO, MODELS, load_whisper, records_with_responses, run_script

from scow.data.tables import read_table
from scow.io import write_json
from scow.metrics import rmse
from scow.text.labels import word_labels

pytestmark = pytest.mark.slow

ROW, TWINKLE = "row row row your boat gently down the stream", "twinkle twinkle little star how i wonder what you are"
PROMPTS = {"row_none": ROW, "row_moderate": ROW, "twinkle_none": TWINKLE, "twinkle_moderate": TWINKLE}
RESPONSES = {
    "row_none": [ROW, "row row row your boat gently"],
    "row_moderate": ["row your boat", "", "gently down"],
    "twinkle_none": [TWINKLE],
    "twinkle_moderate": ["little star", "i wonder what you are"],
}


def share(signal: str, response: str) -> float:
    return float(np.mean(word_labels(PROMPTS[signal].split(), response)))


TRUTH = {signal: float(np.mean([share(signal, one) for one in given])) for signal, given in RESPONSES.items()}


def write_clip2(folder: Path) -> tuple[Path, Path]:
    """Half of the records hold their correctness, as in the train release; responses hold that of the others."""
    records = [
        {"signal": signal, "original_prompt": prompt.title(), "prompt": prompt, "n_words": len(prompt.split())}
        | {"hearing_loss": "No Loss" if signal.endswith("none") else "Moderate"}
        | ({"correctness": TRUTH[signal], "phoneme_correctness": 0.5} if signal.startswith("row") else {})
        for signal, prompt in PROMPTS.items()
    ]
    answers = {
        signal: [{"response": one, "correctness": share(signal, one), "listener": "L1"} for one in given]
        for signal, given in RESPONSES.items()
    }
    write_json(folder / "train_metadata.json", records)
    write_json(folder / "train_responses.json", answers)
    return folder / "train_metadata.json", folder / "train_responses.json"


def write_prior(folder: Path) -> tuple[Path, Path]:
    """Prompts and responses of other signals, for the text prior: the demo's two prompts are too few for one."""
    records = records_with_responses(36)[0]
    bare = [{"signal": r.signal, "prompt": r.prompt, "hearing_loss": r.hearing_loss} for r in records]
    answers = {r.signal: [{"response": r.response, "correctness": r.correctness}] for r in records}
    write_json(folder / "prior.json", bare)
    write_json(folder / "prior_responses.json", answers)
    return folder / "prior.json", folder / "prior_responses.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip2")


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, subprocess.CompletedProcess]:
    """The six stages, by script."""
    load_whisper("tiny.en")  # skips where the weights are missing
    metadata, responses = write_clip2(folder)
    prior, prior_responses = write_prior(folder)
    entries = [
        {"name": f"train_{channel}", "split": "train", "channel": channel}
        | {"csv_path": f"train_metadata_{channel[0]}.csv", "signal_dir": str(DEMO / "demo" / "signals")}
        | {"reference_dir": str(DEMO / "demo" / "unprocessed")}
        for channel in ("left", "right")
    ]
    config, save = folder / "feature_config.yaml", folder / "out"
    config.write_text(yaml.safe_dump({"datasets": entries}), encoding="utf-8")
    stage = ("--config", config, "--splits", "train")
    model = (
        "-cp", "checkpoints/lite", f"data.csv_path_l={folder / 'train_metadata_l.csv'}",
        f"data.csv_path_r={folder / 'train_metadata_r.csv'}", "data.metadata=null", f"data.prior_metadata={prior}",
        f"data.prior_responses={prior_responses}", f"train.save_dir={save}",
    )  # fmt: skip
    commands: dict[str, tuple] = {
        "metadata_to_csv.py": ("--json", metadata, "--responses", responses),
        "whisper_inference.py": (*stage, "--models", "tiny.en", "--model-dir", MODELS, "--device", "cpu"),
        "compute_metrics.py": stage,
        "train.py": model,
        "infer.py": (*model, "infer.splits=[train]", "infer.details=true"),
        "evaluate.py": (save / "train_inference.csv", "--metadata", metadata, "--responses", responses,
                        "--html", folder / "report.html"),
    }  # fmt: skip
    done = {script: run_script(script, *args) for script, args in commands.items()}
    assert {script: one.stderr for script, one in done.items() if one.returncode} == {}
    return done


def test_clip2_tables_hold_mean_labels_and_features(done, folder):
    for channel in "lr":
        table = read_table(folder / f"train_metadata_{channel}.csv")
        assert table.groupby("signal")["correctness"].first().to_dict() == pytest.approx(TRUTH)
        assert table[["tiny.en", "stoi", "estoi", "dns_sig"]].notna().all(axis=None)
        responses = table[table["word_count"] == 1].groupby("signal")["response"].first()
        assert responses["row_moderate"] == "row your boat |  | gently down"


def test_clip2_scores_are_nearer_to_the_labels_than_their_mean(done, folder):
    with (folder / "out" / "train_inference.csv").open(encoding="utf-8", newline="") as handle:
        scores = {signal: float(score) for signal, score in csv.reader(handle)}
    assert scores.keys() == PROMPTS.keys()
    labels = [100 * TRUTH[signal] for signal in scores]
    found = rmse(list(scores.values()), labels)
    assert found < rmse([np.mean(labels)] * 4, labels)  # in sample; with labels mixed up it would not learn
    assert f"RMSE {found:.2f}" in done["infer.py"].stdout
    evaluated = done["evaluate.py"].stdout
    assert f" {found:.2f} ± " in next(line for line in evaluated.splitlines() if line.startswith("all "))
    assert "resamples of 2 prompts" in evaluated
    assert "area under the ROC curve of words" in evaluated
    assert "row your boat |  | gently down" in (folder / "report.html").read_text(encoding="utf-8")
