"""Run stages 1 to 5 on the demo data, as a user would, and print what came out as a table.

    python tools/run_demo.py --work-dir build/demo

The demo is copied to the working folder first, so that the shipped tables stay as they are. It has no responses of
listeners. To show stage 4 at work, it learns the share of words that Whisper tiny.en recognises, from hearing loss and
metrics; this is of no other use. Stage 5 predicts with the shipped checkpoint `lite`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

from scow.cli import aligned

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path("data/cadenza_data_demo")
CHECKPOINT = Path("checkpoints/lite")
MODEL = "tiny.en"
METRICS = "stoi,estoi,pesq,dns_sig,dns_bak,dns_ovrl"


def main() -> None:
    """Copy the demo, run the stages there, print the table."""
    parser = argparse.ArgumentParser(description="Run stages 1 to 5 on the demo data.")
    parser.add_argument("--work-dir", type=Path, default=Path("build/demo"), help="folder for copies and results")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "models", help="folder of Whisper weights")
    options = parser.parse_args()
    work, model_dir = options.work_dir.resolve(), str(options.model_dir.resolve())
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(ROOT / CORPUS, work / CORPUS, ignore=shutil.ignore_patterns("*.csv"))
    shutil.copytree(ROOT / CHECKPOINT, work / "lite")  # scores are written beside the model
    shutil.copy(ROOT / "feature_config.yaml", work)

    metadata = work / CORPUS / "metadata" / "demo_metadata.json"
    scores, transcripts = work / "lite" / "demo_inference.csv", work / "transcripts.csv"
    config = ["--config", str(work / "feature_config.yaml"), "--splits", "demo"]
    tables = [
        f"data.{split}_path_{side}={metadata.with_name(f'{metadata.stem}_{side}.csv')}"
        for split in ("csv", "demo")
        for side in "lr"
    ]
    columns = f"data.feature_cols=[n_words,{METRICS}]"

    run("tools/offline_whisper.py", MODEL, "--official-first", "--model-dir", model_dir)
    run("metadata_to_csv.py", "--json", str(metadata))
    whisper = ["--models", MODEL, "--model-dir", model_dir, "--transcripts", str(transcripts)]
    run("whisper_inference.py", *config, *whisper)
    run("compute_metrics.py", *config)
    print("\nThe demo has no responses of listeners; stage 4 learns Whisper's own score, to show the stage at work:")
    overrides = [f"data.target={MODEL}", columns, "train.epochs=20", f"train.save_dir={work / 'checkpoint'}"]
    run("train.py", "-cp", "checkpoints/published", *tables, *overrides)
    run("infer.py", "-cp", str(work / "lite"), *tables, "infer.splits=[demo]", "infer.details=true")
    print_table(metadata, transcripts, scores)


def run(script: str, *arguments: str) -> None:
    """Run one script of the repository and show its command."""
    shown = [argument.replace(f"{Path.cwd()}/", "") for argument in arguments]
    print(f"\n$ python {' '.join([script, *shown])}", flush=True)
    code = subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)  # the script has printed its error


def print_table(metadata: Path, transcripts: Path, scores: Path) -> None:
    """Print signal, hearing loss, prompt, transcript per channel and score."""
    with transcripts.open(encoding="utf-8", newline="") as file:
        texts = {(row["signal"], row["table"][-len("l.csv")]): row["transcript"] for row in csv.DictReader(file)}
    with scores.open(encoding="utf-8", newline="") as file:
        predicted = dict(csv.reader(file))
    rows = [("signal", "hearing loss", "prompt", "left transcript", "right transcript", "score")]
    for record in json.loads(metadata.read_text(encoding="utf-8")):
        signal = record["signal"]
        left, right = (texts.get((signal, side), "") for side in "lr")
        rows.append((signal, record["hearing_loss"], record["prompt"], left, right, f"{float(predicted[signal]):.1f}"))
    print("\nTranscripts of Whisper, and the predicted share of words (0-100) that a listener writes down:\n")
    print(aligned(rows))


if __name__ == "__main__":
    main()
