"""train.py -m: one folder per run, one table, failed runs, runs that are done."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from helpers import RESPONSE_COLUMNS, data_overrides, make_response_tables, run_script, start_script, wait_until
from reference_transformer import train_arguments

from scow.io import read_yaml
from scow.models.facts import read_facts

pytestmark = pytest.mark.slow


def sweep_rows(sweep: Path) -> list[dict[str, str]]:
    return pd.read_csv(sweep / "sweep.csv", dtype=str, keep_default_na=False).to_dict("records")


def test_sweep_goes_on_after_a_failed_run_and_skips_finished_runs(tmp_path):
    tables, metadata = make_response_tables(tmp_path / "data", 36)
    data = data_overrides(RESPONSE_COLUMNS, metadata, csv=tables)
    arguments = [*data, "data.prior_metadata=null", "seed=1,-1,2"]
    sweep = tmp_path / "checkpoints" / "final_sweep"
    done = run_script("train.py", "-m", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    first = sweep_rows(sweep)
    assert list(first[0]) == ["seed", "figures", "rmse", "r", "exit_code", "reason", "folder"]
    assert [(row["seed"], row["exit_code"]) for row in first] == [("1", "0"), ("-1", "2"), ("2", "0")]
    assert [row["folder"] for row in first] == [f"checkpoints/final_sweep/seed={seed}" for seed in (1, -1, 2)]
    one, failed, two = first
    assert failed["figures"] == failed["rmse"] == failed["r"] == ""
    assert failed["reason"] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    for row in (one, two):
        facts = read_facts(tmp_path / row["folder"] / "model.pt")
        assert (row["figures"], row["reason"], row["seed"]) == ("out of fold", "", str(facts["seed"]))
        assert (float(row["rmse"]), float(row["r"])) == pytest.approx(tuple(facts["out_of_fold"].values()), abs=5e-7)
    assert one["rmse"] != two["rmse"]

    times = {seed: (sweep / f"seed={seed}" / "model.pt").stat().st_mtime_ns for seed in (1, 2)}
    config = sweep / "seed=2" / "config.yaml"
    config.write_text(config.read_text().replace("c: 0.001", "c: 0.002"))
    done = run_script("train.py", "-m", *arguments, cwd=tmp_path)
    assert [seed for seed in times if (sweep / f"seed={seed}" / "model.pt").stat().st_mtime_ns > times[seed]] == [2]
    assert (done.stdout.count("not run again"), sweep_rows(sweep)) == (1, first)
    os.utime(tables[0])  # newer than the checkpoints
    options = ["cv=true", "cross_validation.folds=3", "cross_validation.repeats=1"]
    for more in ([], options):
        assert "not run again" not in run_script("train.py", "-m", *arguments, *more, cwd=tmp_path).stdout
    row = sweep_rows(sweep)[0]
    written = read_yaml(tmp_path / row["folder"] / "cross_validation.json")  # JSON is YAML
    assert row["figures"] == "cross-validated"
    assert (float(row["rmse"]), float(row["r"])) == pytest.approx((written["rmse"], written["r"]), abs=5e-7)


def test_sweep_interrupted_keeps_finished_runs(tmp_path):
    arguments = ["-m", *train_arguments(tmp_path), "seed=1"]
    sweep = tmp_path / "checkpoints" / "published_sweep"
    with start_script("train.py", *arguments, "train.epochs=1,10000", cwd=tmp_path) as process:
        wait_until(lambda: "epoch 10:" in process.stdout, "the second run to train")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert len(process.stderr.splitlines()) == 1
    assert [row["train.epochs"] for row in sweep_rows(sweep)] == ["1"]
    assert not (sweep / "train.epochs=10000" / "model.pt").exists()
    done = run_script("train.py", *arguments, "train.epochs=1,2", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("not run again")) == (0, 1), done.stderr
