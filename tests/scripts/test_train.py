"""train.py as a user runs it: both models, cross-validation, mistakes, kills."""

from pathlib import Path

import pandas as pd
import pytest
from helpers import (
    RESPONSE_COLUMNS,
    assert_user_error,
    contents,
    data_overrides,
    make_response_tables,
    make_tables,
    run_script,
    write_prior,
)
from reference_transformer import train_arguments

from scow.io import read_json, read_yaml
from scow.models.checkpoint import load_checkpoint
from scow.models.config import TransformerConfig, WordModelConfig
from scow.models.facts import read_facts

pytestmark = pytest.mark.slow


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_train_transformer(tmp_path):
    """The same training twice, the second into a folder relative to the working folder."""
    arguments = [*train_arguments(tmp_path), "train.epochs=12", "seed=5"]
    first, second = tmp_path / "first", tmp_path / "sub" / "second"
    done = run_script("train.py", *arguments, f"train.save_dir={first}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    run_script("train.py", *arguments, "train.save_dir=sub/second", cwd=tmp_path, code=0)
    assert files(tmp_path) == ["first", "sub", "t_l.csv", "t_r.csv"]
    assert files(first) == ["config.yaml", "model.json", "model.pt", "train_log.csv"]
    assert (first / "model.pt").read_bytes() == (second / "model.pt").read_bytes()
    assert (first / "train_log.csv").read_bytes() == (second / "train_log.csv").read_bytes()

    log = pd.read_csv(first / "train_log.csv")
    assert list(log) == ["epoch", "train_loss", "train_rmse", "val_rmse", "val_r"]
    assert list(log["epoch"]) == list(range(1, 13))
    best = log.loc[log["val_rmse"].idxmin()]
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"best epoch {best['epoch']:.0f} of 12: validation RMSE {best['val_rmse']:.2f}, r ")
    model, facts = load_checkpoint(first / "model.pt", TransformerConfig(), ("tiny", "stoi"))
    assert (model.config.d_model, facts["seed"], facts["n_signals"], facts["target"]) == (8, 5, 18, "correctness")
    assert (facts["kept_epochs"], facts["train"]["lr"], facts["train"]["epochs"]) == ([best["epoch"]], 1e-2, 12)
    config = read_yaml(first / "config.yaml")
    assert (config["seed"], config["train"]["lr"], "hydra" in config) == (5, 1e-2, False)


def test_train_keeps_the_config_of_a_users_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    left, right = make_tables(tmp_path, 18)
    text = f"""# without a hydra section
exp_name: mine
data: {{csv_path_l: {left}, csv_path_r: {right}, feature_cols: [tiny.en]}}
model: {{d_model: 8, nhead: 2}}
train: {{save_dir: "${{exp_name}}", epochs: 3, folds: 1}}
"""
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    run_script("train.py", "-cp", folder, "train.epochs=1", cwd=tmp_path, code=0)
    assert files(folder) == ["config.yaml", "model.json", "model.pt", "train_log.csv"]
    assert (folder / "config.yaml").read_text(encoding="utf-8") == text
    assert files(tmp_path) == ["mine", "t_l.csv", "t_r.csv"]
    before = contents(folder)
    for more in ([], ["+cv=true"]):  # a model of other tables does not replace this one unnamed
        done = run_script("train.py", "-cp", folder, f"data.csv_path_l={right}", *more, cwd=tmp_path)
        assert_user_error(done, "exp_name=mine")
    assert contents(folder) == before


def test_train_word_model(tmp_path):
    """The shipped config on small tables: twice, and on two pairs of tables."""
    (left, right), metadata = make_response_tables(tmp_path / "data", 36)
    other, _ = make_response_tables(tmp_path / "other", 24, seed=9, prefix="o")
    prior = write_prior(tmp_path / "prior.json")
    data = data_overrides(RESPONSE_COLUMNS, metadata, csv=(left, right))
    arguments = [*data, "model.c=0.1", f"data.prior_metadata={prior}"]
    pairs = [f"data.tables=[[{left},{right}],[{other[0]},{other[1]}]]", "data.metadata=null"]
    for name, more in (("first", []), ("second", []), ("pairs", pairs)):
        done = run_script("train.py", *arguments, *more, f"exp_name={name}", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        facts = read_facts(tmp_path / "checkpoints" / name / "model.pt")
        expected = f"out of fold: RMSE {facts['out_of_fold']['rmse']:.2f}, r {facts['out_of_fold']['r']:.3f}"
        n, grouped_by = (60, "prompt") if name == "pairs" else (36, "track")
        assert (facts["n_signals"], facts["grouped_by"]) == (n, grouped_by)
        assert done.stdout.splitlines()[-1] == f"fitted to all {n} signals; {expected}"
        # The spread of the labels is some 35 points, the noise of a response of five words about 15.
        assert facts["out_of_fold"]["rmse"] < 30
    first, second = (tmp_path / "checkpoints" / name for name in ("first", "second"))
    assert load_checkpoint(first / "model.pt", WordModelConfig(), ())[0].config == WordModelConfig(c=0.1)
    assert (first / "model.pt").read_bytes() == (second / "model.pt").read_bytes()
    assert files(first) == ["config.yaml", "model.json", "model.pt"]

    options = ["exp_name=first", "cv=true", "cross_validation.repeats=1"]
    run_script("train.py", *arguments, *options, cwd=tmp_path, code=0)
    done = run_script("evaluate.py", first / "cv_scores.csv", "--metadata", metadata, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")  # no note: the scores are not of the checkpoint beside
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("all "))
    assert f" {read_json(first / 'cross_validation.json', 'figures')['rmse']:.2f} ± " in row
