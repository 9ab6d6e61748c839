"""Records of CLIP2's form through all stages, on the demo's audio, as a user runs them.

They lack `fma`, `response` and `words_correct`; labels stand in ``train_responses.json``, of several listeners. What
the listeners "wrote" here is invented, since nobody has listened to the demo.
"""

from __future__ import annotations

import csv
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import DEMO, MODELS, ROOT, assert_user_error, heard_records, load_whisper
from test_train import start

from scow.data.tables import read_table
from scow.metrics import rmse
from scow.text.labels import word_labels

ROW, TWINKLE = "row row row your boat gently down the stream", "twinkle twinkle little star how i wonder what you are"
SIGNALS = {"row_none": ROW, "row_moderate": ROW, "twinkle_none": TWINKLE, "twinkle_moderate": TWINKLE}
RESPONSES = {
    "row_none": [ROW, "row row row your boat gently"],
    "row_moderate": ["row your boat", "", "gently down"],
    "twinkle_none": [TWINKLE],
    "twinkle_moderate": ["little star", "i wonder what you are"],
}


def share(prompt: str, response: str) -> float:
    return float(np.mean(word_labels(prompt.split(), response)))


def clip2_metadata() -> list[dict]:
    """Half of the records say their correctness, as the train release does; the others leave it to the responses."""
    records = []
    for signal, prompt in SIGNALS.items():
        record: dict = {
            "signal": signal,
            "original_prompt": prompt.capitalize(),
            "prompt": prompt,
            "n_words": len(prompt.split()),
            "hearing_loss": "No Loss" if signal.endswith("none") else "Moderate",
        }
        if signal.startswith("row"):
            record["correctness"] = float(np.mean([share(prompt, response) for response in RESPONSES[signal]]))
            record["phoneme_correctness"] = 0.5
        records.append(record)
    return records


def clip2_responses() -> dict[str, list[dict]]:
    return {
        signal: [
            {
                "response_id": f"{signal}_{i}",
                "original_response": response.title(),
                "response": response,
                "hits": round(share(SIGNALS[signal], response) * len(SIGNALS[signal].split())),
                "correctness": share(SIGNALS[signal], response),
                "listener": "L1",
            }
            for i, response in enumerate(responses)
        ]
        for signal, responses in RESPONSES.items()
    }


def prior_corpus(folder: Path) -> tuple[Path, Path]:
    """Prompts and responses of other signals, for the text prior: the demo's two prompts are too few for one."""
    records = heard_records(36)[0]
    bare = [{"signal": r.signal, "prompt": r.prompt, "hearing_loss": r.hearing_loss} for r in records]
    answers = {r.signal: [{"response": r.response, "correctness": r.correctness}] for r in records}
    metadata, responses = folder / "prior.json", folder / "prior_responses.json"
    metadata.write_text(json.dumps(bare), encoding="utf-8")
    responses.write_text(json.dumps(answers), encoding="utf-8")
    return metadata, responses


@dataclass(frozen=True)
class Pipeline:
    folder: Path
    metadata: Path
    responses: Path
    tables: tuple[Path, Path]
    done: dict[str, subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """All five stages, and stage 6."""
    load_whisper("tiny.en")  # skips where the weights are missing
    folder = tmp_path_factory.mktemp("clip2")
    metadata, responses = folder / "train_metadata.json", folder / "train_responses.json"
    metadata.write_text(json.dumps(clip2_metadata()), encoding="utf-8")
    responses.write_text(json.dumps(clip2_responses()), encoding="utf-8")
    entries = [
        {
            "name": f"train_{ear}",
            "split": "train",
            "channel": ear,
            "csv_path": f"train_metadata_{ear[0]}.csv",
            "signal_dir": str(DEMO / "demo" / "signals"),
            "reference_dir": str(DEMO / "demo" / "unprocessed"),
        }
        for ear in ("left", "right")
    ]
    config = folder / "feature_config.yaml"
    config.write_text(yaml.safe_dump({"datasets": entries}), encoding="utf-8")
    left, right = (folder / f"train_metadata_{ear}.csv" for ear in "lr")
    prior, prior_responses = prior_corpus(folder)
    data = [
        f"data.csv_path_l={left}", f"data.csv_path_r={right}", "data.metadata=null",
        f"data.prior_metadata={prior}", f"data.prior_responses={prior_responses}",
    ]  # fmt: skip
    infer = [f"train.save_dir={folder / 'out'}", "infer.splits=[train]", "infer.details=true"]
    scores = folder / "out" / "train_inference.csv"
    commands = {
        "metadata": ("metadata_to_csv.py", "--json", metadata, "--responses", responses),
        "whisper": ("whisper_inference.py", "--config", config, "--models", "tiny.en", "--model-dir", MODELS,
                    "--device", "cpu", "--splits", "train"),
        "metrics": ("compute_metrics.py", "--config", config, "--splits", "train"),
        "train": ("train.py", "-cp", "checkpoints/lite", *data, f"train.save_dir={folder / 'out'}"),
        "infer": ("infer.py", "-cp", "checkpoints/lite", *data, *infer),
        "evaluate": ("evaluate.py", scores, "--metadata", metadata, "--responses", responses, "--html",
                     folder / "report.html"),
    }  # fmt: skip
    done = {}
    for name, (script, *arguments) in commands.items():
        done[name] = start(str(script), *arguments, cwd=ROOT)
        assert done[name].returncode == 0, (name, done[name].stderr)
    return Pipeline(folder, metadata, responses, (left, right), done)


def truth() -> dict[str, float]:
    return {
        signal: float(np.mean([share(SIGNALS[signal], response) for response in responses]))
        for signal, responses in RESPONSES.items()
    }


def test_tables_hold_mean_labels_and_features(pipeline: Pipeline) -> None:
    for path in pipeline.tables:
        table = read_table(path)
        words = table[table["word_count"] == 1]
        for signal, expected in truth().items():
            mine = table[table["signal"] == signal]
            assert mine["correctness"].to_numpy() == pytest.approx(expected)
            assert mine["tiny.en"].notna().all()
            assert mine[["stoi", "estoi", "dns_sig"]].notna().all(axis=None)
        assert words["response"][words["signal"] == "row_moderate"].iloc[0] == "row your boat |  | gently down"
    assert "responses joined: 4 of 4 signals" in pipeline.done["metadata"].stdout


def test_trained_model_says_it_was_fitted_to_all(pipeline: Pipeline) -> None:
    assert "fitted to all 4 signals" in pipeline.done["train"].stdout
    assert (pipeline.folder / "out" / "model.pt").is_file()


def test_scores_come_near_the_labels_it_was_fitted_to(pipeline: Pipeline) -> None:
    with (pipeline.folder / "out" / "train_inference.csv").open(encoding="utf-8", newline="") as handle:
        scores = {signal: float(score) for signal, score in csv.reader(handle)}
    assert scores.keys() == SIGNALS.keys()
    expected = truth()
    found = rmse([scores[s] for s in expected], [100 * v for v in expected.values()])
    constant = rmse([100 * np.mean(list(expected.values()))] * 4, [100 * v for v in expected.values()])
    assert found < constant  # in sample; with labels mixed up it would not learn the severities
    assert f"RMSE {found:.2f}" in pipeline.done["infer"].stdout
    (row,) = (line for line in pipeline.done["evaluate"].stdout.splitlines() if line.startswith("all "))
    assert f" {found:.2f} ± " in row
    assert "resamples of 2 prompts" in pipeline.done["evaluate"].stdout
    assert "area under the ROC curve of words" in pipeline.done["evaluate"].stdout
    assert "row your boat |  | gently down" in (pipeline.folder / "report.html").read_text(encoding="utf-8")


def test_without_responses_the_word_model_refuses_and_the_network_trains(pipeline: Pipeline, tmp_path: Path) -> None:
    """Labels without words: enough for the network, and one line where it is not."""
    tables = []
    for path in pipeline.tables:
        tables.append(tmp_path / path.name)
        table = read_table(path).assign(response="")
        table.to_csv(tables[-1], index=False)
    data = [f"data.csv_path_l={tables[0]}", f"data.csv_path_r={tables[1]}", "data.metadata=null"]
    save = f"train.save_dir={tmp_path / 'out'}"
    done = start("train.py", "-cp", "checkpoints/lite", *data, "data.prior_metadata=null", save, cwd=ROOT)
    assert_user_error(done, "expected responses in the training tables, found none", "metadata_to_csv.py --responses")
    prior = f"data.prior_metadata={pipeline.metadata}"
    done = start("train.py", "-cp", "checkpoints/lite", *data, prior, save, cwd=ROOT)
    assert_user_error(done, "expected responses for the text prior, found none", "data.prior_responses")
    assert not (tmp_path / "out").exists()
    columns = "data.feature_cols=[n_words,tiny.en,stoi,estoi,dns_sig]"
    small = ["train.epochs=2", "model.d_model=8", "model.nhead=2", columns]
    done = start("train.py", "-cp", "checkpoints/published", *data, *small, save, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.pt").is_file()
