"""A small release in the exact form of CLIP2, from download to submission, on the demo's audio.

Train records have correctness, valid and eval records do not; none has `fma`, `response` or `words_correct`. The
responses are invented, and so are the tables of CLIP1 that take part in the training.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import DEMO, MODELS, ROOT, golden, load_whisper, make_response_tables, run_script

from scow import PredictOptions, Predictor, predict_excerpt
from scow.data.scores import read_rows, read_scores
from scow.data.tables import read_table
from scow.io import read_json, read_yaml, write_json
from scow.text.labels import word_labels

pytestmark = pytest.mark.slow

RELEASE = golden("clip2.yaml")
PROMPTS, SPLITS, RESPONSES = RELEASE["prompts"], RELEASE["splits"], RELEASE["responses"]
COLUMNS = ("tiny.en", "dns_sig", "dns_bak", "dns_ovrl")


def words_of(signal: str) -> list[str]:
    return PROMPTS[signal.partition("_")[0]].split()


def answers_to(signal: str) -> list[dict]:
    labels = [word_labels(words_of(signal), response) for response in RESPONSES[signal]]
    return [
        {"response_id": f"{signal}{i}", "original_response": response.title(), "response": response}
        | {"hits": int(sum(label)), "correctness": float(np.mean(label)), "phoneme_hits": 1, "phoneme_correctness": 0.5}
        for i, (label, response) in enumerate(zip(labels, RESPONSES[signal], strict=True))
    ]


def truth(signal: str) -> float:
    return float(np.mean([answer["correctness"] for answer in answers_to(signal)]))


def write_release(root: Path) -> Path:
    """The release as it is unpacked, and its feature_config.yaml; returns the folder of the metadata."""
    release = root / "cadenza_data" / "clip2"
    for split, signals in SPLITS.items():
        records = []
        for signal in signals:
            loss = {"none": "No Loss", "mild": "Mild", "moderate": "Moderate"}[signal.partition("_")[2]]
            prompt = " ".join(words_of(signal))
            record = {"signal": signal, "original_prompt": prompt.title(), "prompt": prompt, "hearing_loss": loss}
            labels = {"correctness": truth(signal), "phoneme_correctness": 0.5} if split == "train" else {}
            records.append(record | {"n_words": len(words_of(signal))} | labels)
            for folder, name in (("signals", f"{signal}.flac"), ("unprocessed", f"{signal}_unproc.flac")):
                (release / split / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(DEMO / "demo" / folder / name, release / split / folder)
        write_json(release / "metadata" / f"{split}_metadata.json", records)
    write_json(release / "metadata" / "train_responses.json", {signal: answers_to(signal) for signal in RESPONSES})
    config = yaml.safe_load((ROOT / "feature_config.yaml").read_text(encoding="utf-8"))
    (root / "feature_config.yaml").write_text(yaml.safe_dump({"releases": config["releases"]}), encoding="utf-8")
    return release / "metadata"


def run(root: Path, script: str, *args: object) -> str:
    done = run_script(script, *args, cwd=root, code=0)
    return done.stdout + done.stderr


def assert_prediction_equals_the_stages(folder: Path, details: list[str]) -> None:
    """For one excerpt, with a model of one's own."""
    options, points = PredictOptions(("Mild",), already_simulated=True), 1e-3  # six decimals of word scores in tables
    excerpt = DEMO / "demo" / "signals" / "row_mild.flac"
    predictor = Predictor.load(folder, model_dir=MODELS, device="cpu")
    found = predict_excerpt(excerpt, PROMPTS["row"], options, predictor=predictor).at("Mild")
    assert [found.score, found.low, found.high] == pytest.approx([*map(float, details[1:])], abs=points)
    (_, *words) = read_rows(folder / "valid_words.csv", "words")
    assert [word.word for word in found.words] == [word for _, _, word, _ in words] == PROMPTS["row"].split()
    probabilities = [float(probability) for *_, probability in words]
    assert [word.probability for word in found.words] == pytest.approx(probabilities, abs=points / 100)
    assert [(heard.model, heard.ear) for heard in found.heard] == [("tiny.en", "left"), ("tiny.en", "right")]


def test_clip2_from_download_to_submission(tmp_path):
    load_whisper("tiny.en")  # skips where the weights are missing
    metadata = write_release(tmp_path)
    stage = ("--config", tmp_path / "feature_config.yaml", "--splits", "train,valid,eval")
    files = [metadata / f"{split}_metadata.json" for split in SPLITS]
    converted = run(tmp_path, "metadata_to_csv.py", "--json", *files)
    assert f"responses of {metadata / 'train_responses.json'} joined: 4 of 4 signals" in converted
    run(tmp_path, "whisper_inference.py", *stage, "--models", "tiny.en", "--model-dir", MODELS, "--device", "cpu")
    run(tmp_path, "compute_metrics.py", *stage)
    for split, signals in SPLITS.items():
        for side in "lr":
            table = read_table(metadata / f"{split}_metadata_{side}.csv")
            assert table[["tiny.en", "stoi", "estoi", "dns_sig"]].notna().all(axis=None)
            labels = table.groupby("signal")["correctness"].first().dropna().to_dict()
            assert labels == pytest.approx({signal: truth(signal) for signal in signals if split == "train"})

    # CLIP1 valid joins the training; CLIP1 train is not there.
    clip1 = tmp_path / "data" / "cadenza_data_valid" / "metadata"
    tables, of_clip1 = make_response_tables(clip1, 36, (*COLUMNS, "stoi", "estoi", "pesq"))
    for path, side in zip(tables, "lr", strict=True):
        path.rename(clip1 / f"valid_metadata_{side}.csv")
    of_clip1.rename(clip1 / "valid_metadata.json")
    columns = f"data.feature_cols=[{','.join(COLUMNS)}]"
    trained = run(tmp_path, "train.py", "-cp", "checkpoints/clip2", columns)
    assert "cadenza_data_train/metadata/train_metadata_l.csv: no such file; going on without" in trained
    assert "tracks of 4 of 40 signals are unknown" in trained
    folder = tmp_path / "checkpoints" / "clip2"
    facts = read_json(folder / "model.json", "facts")["facts"]
    assert (facts["n_signals"], facts["grouped_by"]) == (40, "prompt")

    form = ("infer.submission.track=clip2", "infer.submission.team=T001a")
    widths = []
    for listeners in (3, 1):
        run(tmp_path, "infer.py", "-cp", folder, "infer.details=true", f"infer.listeners={listeners}")
        (_, row) = read_rows(folder / "valid_details.csv", "details")
        score, low, high = map(float, row[1:])
        assert low <= score <= high
        widths.append(high - low)
    assert widths[0] < widths[1]
    assert_prediction_equals_the_stages(folder, row)
    run(tmp_path, "infer.py", "-cp", folder, *form)
    for split in ("valid", "eval"):
        emailed = read_rows(folder / f"ICASSP2027_{split}_T001a.csv", "the form")
        board = read_rows(folder / f"{split}_inference.csv", "scores")
        assert emailed == [["signal_id", "intelligibility_score"], *board]
        assert [row[0] for row in board] == SPLITS[split]

    assert "was trained on these signals" in run(tmp_path, "infer.py", "-cp", folder, "infer.splits=[train]")
    assert read_scores(folder / "train_inference.csv").scores.keys() == set(SPLITS["train"])
    evaluated = run(
        tmp_path, "evaluate.py", folder / "train_inference.csv", "--metadata", files[0],
        "--responses", metadata / "train_responses.json", "--html", tmp_path / "report.html", "--resamples", 50,
    )  # fmt: skip
    assert "resamples of 2 prompts" in evaluated
    assert "trained on just these signals" in evaluated
    assert "Official CLIP2 results" in evaluated
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "row your boat |  | gently down" in page
    assert "T045" not in page

    run(tmp_path, "train.py", "-cp", folder, "cv=true", "cross_validation.repeats=1")
    run(tmp_path, ROOT / "tools" / "model_card.py", "checkpoints/clip2")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "40 signals: `cadenza_data/clip2/metadata/train_metadata_l.csv`" in card
    assert not any(of_clip1 in card for of_clip1 in ("8,802", "CLIP1"))

    # Ablations: variants in folders of their own, a table, and the files of each for the challenge.
    named = ("ablation=[audio2,audio2+severity]", "cross_validation.repeats=1", *form)
    run(tmp_path, "train.py", "-cp", "checkpoints/clip2", f"{columns[:-1]},stoi,estoi]", *named)
    names = ("full", "without_audio2", "without_audio2+severity")
    (_, *rows) = read_rows(folder / "ablation.csv", "ablations")
    assert [row[0].replace(" ", "_") for row in rows] == list(names)
    assert [float(cell) for cell in rows[0][3:6]] == [0, 0, 0]
    for name in names:
        assert len(read_rows(folder / name / "ICASSP2027_eval_T001a.csv", "the form")) == 2
        assert len(read_yaml(folder / name / "config.yaml")["data"]["feature_cols"]) == (6 if name == "full" else 4)
    run(tmp_path, "infer.py", "-cp", folder / names[2])
