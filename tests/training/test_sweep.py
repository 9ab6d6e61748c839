"""train.py -m: one folder per run, one table, failed runs, runs that are done."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import RESPONSE_COLUMNS, make_response_tables, make_tables, run_script, start_script, wait_until

from scow.io import read_yaml
from scow.models.checkpoint import checkpoint_facts

pytestmark = pytest.mark.slow
SMALL = ("model.d_model=8", "model.nhead=2", "train.batch_size=8", "device=cpu", "data.metadata=null")


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def transformer_arguments(folder: Path) -> list[object]:
    left, right = make_tables(folder, 18)
    tables = [f"data.csv_path_l={left}", f"data.csv_path_r={right}", "data.feature_cols=[tiny.en,stoi]"]
    return ["-cp", "checkpoints/published", "-m", *tables, *SMALL]


@pytest.fixture(scope="module")
def word_sweep(tmp_path_factory) -> SimpleNamespace:
    """The word model with one failing seed: first, again after one run was touched, and cross-validated."""
    folder = tmp_path_factory.mktemp("words")
    (left, right), metadata = make_response_tables(folder / "data", 36)
    arguments = [f"data.csv_path_l={left}", f"data.csv_path_r={right}", f"data.metadata={metadata}"]
    arguments += ["data.prior_metadata=null", f"data.feature_cols=[{','.join(RESPONSE_COLUMNS)}]", "seed=1,-1,2"]
    sweep = folder / "checkpoints" / "final_sweep"
    result = SimpleNamespace(folder=folder, sweep=sweep)
    result.first = run_script("train.py", "-m", *arguments, cwd=folder)
    result.first_rows = read_table(sweep / "sweep.csv")
    times = {seed: (sweep / f"seed={seed}" / "model.pt").stat().st_mtime_ns for seed in (1, 2)}
    config = sweep / "seed=2" / "config.yaml"
    config.write_text(config.read_text().replace("c: 0.001", "c: 0.002"))
    result.again = run_script("train.py", "-m", *arguments, cwd=folder)
    result.again_rows = read_table(sweep / "sweep.csv")
    result.trained_again = [s for s in times if (sweep / f"seed={s}" / "model.pt").stat().st_mtime_ns > times[s]]
    os.utime(left)
    result.newer_tables = run_script("train.py", "-m", *arguments, cwd=folder)
    options = ["cv=true", "cross_validation.folds=3", "cross_validation.repeats=1"]
    result.cv = run_script("train.py", "-m", *arguments, *options, cwd=folder)
    result.cv_rows = read_table(sweep / "sweep.csv")
    return result


def test_sweep_table_has_a_row_per_run(word_sweep):
    rows = word_sweep.first_rows
    assert list(rows[0]) == ["seed", "figures", "rmse", "r", "exit_code", "reason", "folder"]
    assert [(row["seed"], row["exit_code"]) for row in rows] == [("1", "0"), ("-1", "2"), ("2", "0")]
    assert [row["folder"] for row in rows] == [f"checkpoints/final_sweep/seed={seed}" for seed in (1, -1, 2)]
    assert rows[1]["figures"] == rows[1]["rmse"] == rows[1]["r"] == ""
    assert "seed" in rows[1]["reason"]
    for row in (rows[0], rows[2]):
        facts = checkpoint_facts(word_sweep.folder / row["folder"] / "model.pt")
        assert str(facts["seed"]) == row["seed"]
        assert float(row["rmse"]) == pytest.approx(facts["out_of_fold"]["rmse"], abs=5e-7)
        assert float(row["r"]) == pytest.approx(facts["out_of_fold"]["r"], abs=5e-7)
        assert (row["figures"], row["reason"]) == ("out of fold", "")
    assert rows[0]["rmse"] != rows[2]["rmse"]


def test_sweep_prints_table_and_failed_runs(word_sweep):
    first, rows = word_sweep.first, word_sweep.first_rows
    assert first.returncode == 1
    header, _, one, _, two, wrote = first.stdout.splitlines()[-6:]
    assert header.split() == ["seed", "figures", "rmse", "r", "exit_code", "folder"]
    for line, row in ((one, rows[0]), (two, rows[2])):
        assert {f"{float(row['rmse']):.2f}", f"{float(row['r']):.3f}"} < set(line.split())
    assert wrote.endswith("checkpoints/final_sweep/sweep.csv")
    assert rows[1]["reason"] in first.stderr.splitlines()[-1]
    assert "Traceback" not in first.stderr


def test_sweep_again_trains_only_changed_runs(word_sweep):
    assert word_sweep.again.stdout.count("not run again") == 1
    assert word_sweep.trained_again == [2]
    assert word_sweep.again_rows == word_sweep.first_rows
    assert "not run again" not in word_sweep.newer_tables.stdout


def test_sweep_of_cross_validations(word_sweep):
    assert word_sweep.cv.returncode == 1
    for row in (word_sweep.cv_rows[0], word_sweep.cv_rows[2]):
        written = read_yaml(word_sweep.folder / row["folder"] / "cross_validation.json")  # JSON is YAML
        assert row["figures"] == "cross-validated"
        assert float(row["rmse"]) == pytest.approx(written["rmse"], abs=5e-7)
        assert float(row["r"]) == pytest.approx(written["r"], abs=5e-7)


def test_sweep_run_equals_plain_run_and_infer_takes_its_folder(tmp_path):
    arguments = [*transformer_arguments(tmp_path), "train.epochs=2"]
    sweep = run_script("train.py", *arguments, "seed=3,4", "train.lr=0.01,0.001", cwd=tmp_path)
    arguments.remove("-m")
    plain = run_script("train.py", *arguments, "seed=4", "train.lr=0.001", "exp_name=plain", cwd=tmp_path)
    assert (sweep.returncode, plain.returncode) == (0, 0), sweep.stderr + plain.stderr
    base = tmp_path / "checkpoints" / "published_sweep"
    rows = read_table(base / "sweep.csv")
    names = [f"seed={seed},train.lr={lr}" for seed in (3, 4) for lr in ("0.01", "0.001")]
    assert [Path(row["folder"]).name for row in rows] == names
    assert [f"seed={row['seed']},train.lr={row['train.lr']}" for row in rows] == names
    logs = [path / "train_log.csv" for path in (base / names[3], tmp_path / "checkpoints" / "plain")]
    assert logs[0].read_bytes() == logs[1].read_bytes()
    tables = [f"data.valid_path_{side}={tmp_path / f't_{side}.csv'}" for side in "lr"]
    done = run_script("infer.py", "-cp", base / names[1], *tables, "infer.splits=[valid]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (base / names[1] / "valid_inference.csv").is_file()


def test_sweep_interrupted_keeps_finished_runs(tmp_path):
    arguments = [*transformer_arguments(tmp_path), "seed=1"]
    sweep = tmp_path / "checkpoints" / "published_sweep"
    with start_script("train.py", *arguments, "train.epochs=1,1000000", cwd=tmp_path) as process:
        wait_until(lambda: "epoch 10:" in process.stdout, "the second run to train")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert len(process.stderr.splitlines()) == 1
    assert [row["train.epochs"] for row in read_table(sweep / "sweep.csv")] == ["1"]
    assert not (sweep / "train.epochs=1000000" / "model.pt").exists()
    done = run_script("train.py", *arguments, "train.epochs=1,2", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("not run again")) == (0, 1), done.stderr
