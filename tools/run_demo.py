"""Run all five stages on the demo data, as a user would, and print what came out as a table.

    python tools/run_demo.py --work-dir build/demo

The demo is copied to the working folder first, so that the shipped tables stay what they are. It has no listener
labels, so what stage 4 learns here is another listener's score, which the tables do hold: the share of words that
Whisper tiny.en itself gets, from severity and quality metrics. That shows the stage at work and is of no other use;
stage 5 predicts with the shipped checkpoint `lite`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # scow lies beside tools/ and need not be installed

from scow.cli import EXIT_OK, aligned, run_script
from scow.data.tables import METRIC_COLUMNS
from scow.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
MODEL = "tiny.en"


def main() -> int:
    """Parse the options and run the demo."""
    parser = argparse.ArgumentParser(description="Run all five stages on the demo data.")
    parser.add_argument("--work-dir", type=Path, default=Path("build/demo"), help="folder for copies and results")
    parser.add_argument("--model-dir", type=Path, default=ROOT / "models", help="folder of Whisper weights")
    options = parser.parse_args()
    run_demo(options.work_dir.resolve(), options.model_dir.resolve())
    return EXIT_OK


def run_demo(work: Path, model_dir: Path) -> None:
    """Copy the demo to `work`, run the stages there, print the table.

    Raises
    ------
    UserError
        A stage failed; its own message stands above.
    """
    metadata, scores, transcripts = prepare(work), work / "demo_inference.csv", work / "transcripts.csv"
    left, right = (metadata.with_name(f"{metadata.stem}_{ear}.csv") for ear in "lr")
    config = ["--config", str(work / "feature_config.yaml"), "--splits", "demo"]
    tables = [f"{split}_path_{ear}={path}" for split in ("csv", "demo") for ear, path in (("l", left), ("r", right))]
    overrides = [f"data.{table}" for table in tables]
    cols = f"data.feature_cols=[n_words,{','.join(METRIC_COLUMNS)}]"

    run("tools/offline_whisper.py", MODEL, "--official-first", "--model-dir", str(model_dir))
    run("metadata_to_csv.py", "--json", str(metadata))
    heard = ["--models", MODEL, "--model-dir", str(model_dir), "--transcripts", str(transcripts)]
    run("whisper_inference.py", *config, *heard)
    run("compute_metrics.py", *config)
    print("\nThe demo has no listener labels; stage 4 learns what Whisper itself got, to show the stage at work:")
    learned = [f"data.target={MODEL}", cols, "train.epochs=20", f"train.save_dir={work / 'checkpoint'}"]
    run("train.py", "-cp", "checkpoints/published", *overrides, *learned)
    shipped = ["-cp", "checkpoints/lite", *overrides, "infer.splits=[demo]", "infer.details=true"]
    run("infer.py", *shipped, f"+infer.output_name.demo={scores}")
    print_table(metadata, transcripts, scores)


def prepare(work: Path) -> Path:
    """A fresh copy of demo audio and config; returns the path of the metadata."""
    shutil.rmtree(work, ignore_errors=True)
    corpus = Path("data/cadenza_data_demo")
    shutil.copytree(ROOT / corpus, work / corpus, ignore=shutil.ignore_patterns("*.csv"))
    shutil.copy(ROOT / "feature_config.yaml", work)
    return work / corpus / "metadata" / "demo_metadata.json"


def run(script: str, *arguments: str) -> None:
    """Run one script of the repository and show its command.

    Raises
    ------
    UserError
    """
    shown = [argument.replace(f"{Path.cwd()}/", "") for argument in arguments]
    print(f"\n$ python {' '.join([script, *shown])}", flush=True)
    done = subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise UserError(f"{script} ended with {done.returncode}; see above")


def print_table(metadata: Path, transcripts: Path, scores: Path) -> None:
    """Print signal, severity, prompt, transcript per ear and score."""
    records = json.loads(metadata.read_text(encoding="utf-8"))
    with transcripts.open(encoding="utf-8", newline="") as handle:
        heard = {(row["signal"], row["table"][-len("l.csv")]): row["transcript"] for row in csv.DictReader(handle)}
    with scores.open(encoding="utf-8", newline="") as handle:
        predicted = dict(csv.reader(handle))
    rows = [("signal", "severity", "prompt", "left ear heard", "right ear heard", "score")]
    for record in records:
        signal = record["signal"]
        ears = (heard.get((signal, "l"), ""), heard.get((signal, "r"), ""))
        rows.append((signal, record["hearing_loss"], record["prompt"], *ears, f"{float(predicted[signal]):.1f}"))
    print("\nWhat Whisper heard, and the share of words (0-100) that a listener is predicted to write down:\n")
    print(aligned(rows))


if __name__ == "__main__":
    sys.exit(run_script(main))
