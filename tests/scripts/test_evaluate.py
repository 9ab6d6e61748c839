"""evaluate.py as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Script, assert_user_error
from test_evaluation import files as files  # fixtures
from test_evaluation import records as records

from scow.evaluation.evaluate import EvaluationOptions


def test_prints_the_figures_and_writes_both_files(run_script_file: Script, files: EvaluationOptions) -> None:
    page, figures = files.scores.with_name("r.html"), files.scores.with_name("r.json")
    done = run_script_file(
        "evaluate.py", files.scores, "--metadata", files.metadata, "--against", files.scores, "--resamples", 50,
        "--html", page, "--json", figures,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    said = json.loads(figures.read_text(encoding="utf-8"))["agreement"]
    assert lines[0].startswith(f"{files.scores}: 60 scores, no header, scale 0-100 (largest value ")
    assert lines[1] == (
        f"{files.metadata}: 60 labelled signals; errors and 95 % intervals: 50 resamples of 10 tracks, seed 0"
    )
    for name in ("all", "No Loss", "Mild", "Moderate"):
        (row,) = (line for line in lines if line.startswith(f"{name} "))
        assert f"{said[name]['rmse']['value']:.2f} ± {said[name]['rmse']['error']:.2f}" in row
        assert f"{said[name]['tau']['value']:.3f}" in row
    assert any(line.startswith("T045, Stereo Chorus of Whispers  25.89       26.44      0.67") for line in lines)
    assert any("RMSE 0.00 (0.00 to 0.00)" in line and "do not tell which is better" in line for line in lines)
    assert lines[-2:] == [f"wrote {figures}", f"wrote {page}"]
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_mistakes_are_one_line(run_script_file: Script, files: EvaluationOptions) -> None:
    done = run_script_file("evaluate.py", files.scores.with_name("no.csv"), "--metadata", files.metadata)
    assert_user_error(done, "no.csv: expected a CSV file of signal ids and scores, found no such file")
    files.scores.write_text("0000,5\n", encoding="utf-8")
    done = run_script_file("evaluate.py", files.scores, "--metadata", files.metadata)
    assert_user_error(done, "found none for 59, for instance 0001")
    done = run_script_file("evaluate.py", files.scores, "--metadata", files.metadata, "--baseline-scores", "x")
    assert_user_error(done, "expected --train-metadata too")


@pytest.mark.parametrize(("name", "row"), [("whisper", "29.12 ±"), ("stoi", "35.99 ±")])
def test_challenge_baselines(run_script_file: Script, clip1: Path, tmp_path: Path, name: str, row: str) -> None:
    """The challenge's baselines beside a constant score, on the challenge's own data."""
    metadata = {s: clip1 / f"cadenza_data_{s}" / "metadata" / f"{s}_metadata.json" for s in ("train", "valid")}
    signals = [raw["signal"] for raw in json.loads(metadata["valid"].read_text(encoding="utf-8"))]
    scores = tmp_path / "constant.csv"
    scores.write_text("".join(f"{signal},50\n" for signal in signals), encoding="utf-8")
    files = [clip1 / "baseline_scores" / f"{split}.{name}.jsonl" for split in ("train", "valid")]
    done = run_script_file(
        "evaluate.py", scores, "--metadata", metadata["valid"], "--train-metadata", metadata["train"],
        "--baseline-scores", *files, "--resamples", 20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name} baseline, recomputed"))
    assert row in found
    (constant,) = (line for line in done.stdout.splitlines() if line.startswith("all "))
    assert constant.split()[8:12] == ["-", "-", "-", "-"]  # NCC and tau of a constant, and their intervals
