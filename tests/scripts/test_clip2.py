"""Records in the form of CLIP2 through all six stages, on the demo's audio.

They lack `fma`, `response` and `words_correct`; labels of several listeners are in ``train_responses.json``. The
responses are invented.
"""

from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import DEMO, MODELS, load_whisper, records_with_responses, run_script

from scow.data.scores import read_scores
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


def run(script: str, *args: object) -> str:
    done = run_script(script, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_clip2(folder: Path) -> None:
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
    # Other signals, for the text prior: the demo's two prompts are too few for one.
    others = records_with_responses(36)[0]
    bare = [{"signal": r.signal, "prompt": r.prompt, "hearing_loss": r.hearing_loss} for r in others]
    write_json(folder / "prior_metadata.json", bare)
    answers = {r.signal: [{"response": r.response, "correctness": r.correctness}] for r in others}
    write_json(folder / "prior_responses.json", answers)


def test_clip2_through_all_stages(tmp_path):
    load_whisper("tiny.en")  # skips where the weights are missing
    write_clip2(tmp_path)
    metadata, responses = tmp_path / "train_metadata.json", tmp_path / "train_responses.json"
    entries = [
        {"name": f"train_{channel}", "split": "train", "channel": channel}
        | {"csv_path": f"train_metadata_{channel[0]}.csv", "signal_dir": str(DEMO / "demo" / "signals")}
        | {"reference_dir": str(DEMO / "demo" / "unprocessed")}
        for channel in ("left", "right")
    ]
    (tmp_path / "feature_config.yaml").write_text(yaml.safe_dump({"datasets": entries}), encoding="utf-8")
    stage = ("--config", tmp_path / "feature_config.yaml", "--splits", "train")
    run("metadata_to_csv.py", "--json", metadata, "--responses", responses)
    run("whisper_inference.py", *stage, "--models", "tiny.en", "--model-dir", MODELS, "--device", "cpu")
    run("compute_metrics.py", *stage)
    for channel in "lr":
        table = read_table(tmp_path / f"train_metadata_{channel}.csv")
        assert table.groupby("signal")["correctness"].first().to_dict() == pytest.approx(TRUTH)
        assert table[["tiny.en", "stoi", "estoi", "dns_sig"]].notna().all(axis=None)
    prior = [f"data.{name}={tmp_path / name}.json" for name in ("prior_metadata", "prior_responses")]
    tables = [f"data.csv_path_{channel}={tmp_path / 'train_metadata'}_{channel}.csv" for channel in "lr"]
    saved = ("data.metadata=null", f"train.save_dir={tmp_path / 'out'}")
    arguments = ("-cp", "checkpoints/lite", *tables, *saved, *prior)
    run("train.py", *arguments)
    inferred = run("infer.py", *arguments, "infer.splits=[train]", "infer.details=true")
    scores = read_scores(tmp_path / "out" / "train_inference.csv").scores
    assert scores.keys() == PROMPTS.keys()
    labels = [100 * TRUTH[signal] for signal in scores]
    found = rmse(list(scores.values()), labels)
    assert found < rmse([np.mean(labels)] * 4, labels)  # in sample; with labels mixed up it would not learn
    assert f"RMSE {found:.2f}" in inferred
    evaluated = run(
        "evaluate.py", tmp_path / "out" / "train_inference.csv", "--metadata", metadata,
        "--responses", responses, "--html", tmp_path / "report.html",
    )  # fmt: skip
    assert "resamples of 2 prompts" in evaluated
    assert "row your boat |  | gently down" in (tmp_path / "report.html").read_text(encoding="utf-8")
