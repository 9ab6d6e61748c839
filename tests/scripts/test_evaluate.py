"""evaluate.py as a user runs it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, records_with_responses, run_script, write_metadata

from scow.data.scores import write_scores


def test_evaluate_prints_figures_and_writes_files(tmp_path: Path) -> None:
    records, scores = records_with_responses(60, seed=3)[0], tmp_path / "valid_inference.csv"
    write_scores(scores, [r.signal for r in records], np.linspace(0, 100, 60))
    metadata = write_metadata(tmp_path / "valid_metadata.json", records)
    page, figures, table = (scores.with_name(name) for name in ("r.html", "r.json", "errors.csv"))
    for _ in range(2):  # the second replaces files of the same kind
        done = run_script(
            "evaluate.py", scores, "--metadata", metadata, "--against", scores, "--resamples", 50,
            "--html", page, "--json", figures, "--csv", table, "--figures", scores.with_name("figures"), code=0,
        )  # fmt: skip
    lines = done.stdout.splitlines()
    content = json.loads(figures.read_text(encoding="utf-8"))
    keys = "scores scale header metadata grouped_by n_groups interval seed resamples agreement against baselines"
    assert list(content) == [*keys.split(), "release", "published", "word_auc", "notes"]
    assert '"0001"' not in figures.read_text(encoding="utf-8"), "no signals"
    found = content["agreement"]
    for name in ("all", "No Loss", "Mild", "Moderate"):
        (row,) = (line for line in lines if line.startswith(f"{name} "))
        assert f"{found[name]['rmse']['value']:.2f} ± {found[name]['rmse']['error']:.2f}" in row
    assert any("RMSE 0.00 (0.00 to 0.00)" in line for line in lines)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    header, first, *others = table.read_text(encoding="utf-8").splitlines()
    assert (header, len(others)) == ("signal,hearing_loss,predicted,true,error", 59)
    assert first == "0000,No Loss,0.000000,60.000000,-60.000000"
    assert len(list(scores.with_name("figures").glob("*.pdf"))) == 6


@pytest.mark.slow
def test_figures_of_final_and_the_baselines(clip1: Path, tmp_path: Path) -> None:
    """Figures to the digit on the challenge's valid split, intervals included."""
    metadata = {s: clip1 / f"cadenza_data_{s}" / "metadata" / f"{s}_metadata.json" for s in ("train", "valid")}
    tables = [f"data.valid_path_{side}={metadata['valid'].with_name(f'valid_metadata_{side}.csv')}" for side in "lr"]
    shutil.copytree(ROOT / "checkpoints" / "final", tmp_path / "final")
    options = ["infer.splits=[valid]", f"train.save_dir={tmp_path / 'final'}"]
    done = run_script("infer.py", "-cp", tmp_path / "final", *options, *tables, code=0)
    done = run_script(
        "evaluate.py", tmp_path / "final" / "valid_inference.csv", "--metadata", metadata["valid"],
        "--train-metadata", metadata["train"], "--baseline-scores", clip1 / "baseline_scores", code=0,
    )  # fmt: skip
    assert "trained on just these signals" in done.stderr
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "all 1175 25.37 ± 0.56 24.18 to 26.45 0.716 0.683 to 0.747 0.533 0.503 to 0.562 -0.16 -2.07 to +1.66" in rows
    assert "mean absolute error 20.31, Spearman's rank correlation 0.712" in rows
    assert "whisper baseline, recomputed 1175 29.12 ± 0.62 27.90 to 30.33 0.603 0.559 to 0.643" in rows
    assert "stoi baseline, recomputed 1175 35.99 ± 0.66 34.75 to 37.32 0.158 0.053 to 0.260" in rows
