"""Records in the form of CLIP2 through all six stages, on the demo's audio.

They lack `fma`, `response` and `words_correct`; labels of several listeners are in ``mini_responses.json``. The
responses are invented.
"""

import shutil

import numpy as np
import pytest
from corpus import make_corpus
from helpers import DEMO, load_whisper, records_with_responses, run_script

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


def run(script: str, *args: object) -> str:
    done = run_script(script, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clip2_through_all_stages(tmp_path):
    load_whisper("tiny.en")  # skips where the weights are missing
    corpus = make_corpus(tmp_path / "c", PROMPTS)
    metadata, responses = (corpus.root / "metadata" / f"mini{end}.json" for end in ("", "_responses"))
    records, answers, truth = [], {}, {}
    for signal, prompt in PROMPTS.items():
        shutil.copy(DEMO / "demo" / "signals" / f"{signal}.flac", corpus.signal(signal))
        shutil.copy(DEMO / "demo" / "unprocessed" / f"{signal}_unproc.flac", corpus.unprocessed(signal))
        shares = [float(np.mean(word_labels(prompt.split(), response))) for response in RESPONSES[signal]]
        truth[signal] = np.mean(shares)
        answers[signal] = [{"response": r, "correctness": c} for r, c in zip(RESPONSES[signal], shares, strict=True)]
        hearing_loss = "No Loss" if signal.endswith("none") else "Moderate"
        records.append({"signal": signal, "prompt": prompt, "n_words": len(prompt.split())})
        records[-1] |= {"original_prompt": prompt.title(), "hearing_loss": hearing_loss}
        if signal.startswith("row"):  # as in the train release; responses hold the correctness of the others
            records[-1] |= {"correctness": truth[signal], "phoneme_correctness": 0.5}
    write_json(metadata, records)
    write_json(responses, answers)
    run("metadata_to_csv.py", "--json", metadata, "--responses", responses)
    run("whisper_inference.py", "--config", corpus.config)
    run("compute_metrics.py", "--config", corpus.config)
    for path in corpus.tables:
        table = read_table(path)
        assert table.groupby("signal")["correctness"].first().to_dict() == pytest.approx(truth)
        assert table[["tiny.en", "stoi", "estoi", "dns_sig"]].notna().all(axis=None)
    # Other signals, for the text prior: the demo's two prompts are too few for one.
    others, prior = (
        records_with_responses(36)[0],
        {name: tmp_path / f"{name}.json" for name in ("metadata", "responses")},
    )
    write_json(
        prior["metadata"], [{"signal": r.signal, "prompt": r.prompt, "hearing_loss": r.hearing_loss} for r in others]
    )
    write_json(prior["responses"], {r.signal: [{"response": r.response, "correctness": r.correctness}] for r in others})
    arguments = [f"data.csv_path_{side}={path}" for side, path in zip("lr", corpus.tables, strict=True)]
    arguments += [f"data.prior_{name}={path}" for name, path in prior.items()]
    arguments = ["-cp", "checkpoints/lite", *arguments, "data.metadata=null", f"train.save_dir={tmp_path / 'out'}"]
    run("train.py", *arguments)
    inferred = run("infer.py", *arguments, "infer.splits=[train]", "infer.details=true")
    scores = read_scores(tmp_path / "out" / "train_inference.csv").scores
    assert scores.keys() == PROMPTS.keys()
    labels = [100 * truth[signal] for signal in scores]
    found = rmse(list(scores.values()), labels)
    assert found < rmse([np.mean(labels)] * 4, labels)  # in sample; with labels mixed up it would not learn
    assert f"RMSE {found:.2f}" in inferred
    labelled = ("--metadata", metadata, "--responses", responses, "--html", tmp_path / "report.html")
    assert "resamples of 2 prompts" in run("evaluate.py", tmp_path / "out" / "train_inference.csv", *labelled)
    assert "row your boat |  | gently down" in (tmp_path / "report.html").read_text(encoding="utf-8")
