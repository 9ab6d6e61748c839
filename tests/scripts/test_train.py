"""train.py as a user runs it: both models, cross-validation, mistakes, kills."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import (
    RESPONSE_COLUMNS,
    assert_user_error,
    make_response_tables,
    make_tables,
    records_with_responses,
    run_script,
    start_script,
    wait_until,
    write_metadata,
)

from scow.io import read_yaml
from scow.models.checkpoint import Checkpoint, load_checkpoint
from scow.models.config import TransformerConfig, WordModelConfig

pytestmark = pytest.mark.slow
COLUMNS = ("n_words", "tiny.en", "stoi")
SMALL = ("model.d_model=8", "model.nhead=2", "train.batch_size=8", "train.lr=1e-2", "device=cpu", "data.metadata=null")


def transformer_arguments(folder: Path) -> list[object]:
    left, right = make_tables(folder, 18)
    tables = [f"data.csv_path_l={left}", f"data.csv_path_r={right}", f"data.feature_cols=[{','.join(COLUMNS)}]"]
    return ["-cp", "checkpoints/published", *tables, *SMALL]


def load(folder: Path, columns: tuple[str, ...] = COLUMNS) -> Checkpoint:
    return load_checkpoint(folder / "model.pt", TransformerConfig(), columns)


def same_state(one: Checkpoint, other: Checkpoint) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- the transformer


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> SimpleNamespace:
    """The same training twice, into two folders, the second given relative to the working folder."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = [*transformer_arguments(folder), "train.epochs=12", "seed=5"]
    first = run_script("train.py", *arguments, f"train.save_dir={folder / 'first'}", cwd=folder)
    second = run_script("train.py", *arguments, "train.save_dir=sub/second", cwd=folder)
    return SimpleNamespace(folder=folder, first=first, second=second)


def test_train_transformer_output(runs):
    folder, first = runs.folder, runs.first
    assert (first.returncode, runs.second.returncode, first.stderr) == (0, 0, ""), first.stderr
    assert sorted(path.name for path in (folder / "first").iterdir()) == ["config.yaml", "model.pt", "train_log.csv"]
    assert sorted(path.name for path in folder.iterdir()) == ["first", "sub", "t_l.csv", "t_r.csv"]
    with (folder / "first" / "train_log.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["epoch", "train_loss", "train_rmse", "val_rmse", "val_r"]
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 13)]
    best = min(rows, key=lambda row: float(row["val_rmse"]))
    facts = load(folder / "first").facts
    assert (facts["kept_epochs"], facts["val_rmse"]) == ([int(best["epoch"])], [float(best["val_rmse"])])
    lines = first.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:-2]] == ["epoch 1", "epoch 10"]
    assert str(folder / "first" / "model.pt") in lines[-2]
    assert f"epoch {best['epoch']} of 12: validation RMSE {float(best['val_rmse']):.2f}, r " in lines[-1]


def test_train_second_run_is_identical_to_the_bit(runs):
    ours, theirs = runs.folder / "first", runs.folder / "sub" / "second"
    assert (ours / "train_log.csv").read_bytes() == (theirs / "train_log.csv").read_bytes()
    assert same_state(load(ours), load(theirs))


def test_train_overrides_reach_the_checkpoint(runs):
    checkpoint = load(runs.folder / "first")
    facts = checkpoint.facts
    assert (checkpoint.model.config.d_model, facts["seed"], facts["n_signals"], facts["target"]) == (
        8,
        5,
        18,
        "correctness",
    )
    assert (facts["train"]["lr"], facts["train"]["epochs"]) == (1e-2, 12)
    config = read_yaml(runs.folder / "first" / "config.yaml")
    assert (config["seed"], config["model"]["d_model"], config["train"]["lr"]) == (5, 8, 1e-2)
    assert "hydra" not in config


def test_train_keeps_the_config_of_a_users_own_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    left, right = make_tables(tmp_path, 18)
    text = f"""# my own
exp_name: mine
data: {{csv_path_l: {left}, csv_path_r: {right}, feature_cols: [tiny.en]}}
model: {{d_model: 8, nhead: 2}}
train:
  save_dir: ${{exp_name}}  # relative to the working folder
  epochs: 3
  folds: 1  # of an older version
"""
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    done = run_script("train.py", "-cp", folder, "train.epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.pt", "train_log.csv"]
    assert (folder / "config.yaml").read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "t_l.csv", "t_r.csv"]
    assert_user_error(run_script("train.py", "-cp", folder, "train.folds=5", cwd=tmp_path), "train.folds")


def test_train_killed_leaves_no_half_file(tmp_path):
    arguments = [*transformer_arguments(tmp_path), "train.save_dir=out"]
    done = run_script("train.py", *arguments, "train.epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with start_script("train.py", *arguments, "train.epochs=1000000", cwd=tmp_path) as process:
        wait_until(lambda: "epoch 10:" in process.stdout, "training")
        process.kill()
        process.wait()
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_train_cross_validation(tmp_path):
    options = ["cv=true", "cross_validation.folds=3", "cross_validation.repeats=2", "seed=7", "train.epochs=2"]
    arguments = [*transformer_arguments(tmp_path), f"train.save_dir={tmp_path / 'out'}"]
    done = run_script("train.py", *arguments, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cross_validation.json"]
    figures = json.loads((tmp_path / "out" / "cross_validation.json").read_text(encoding="utf-8"))
    assert (figures["folds"], figures["seeds"], figures["grouped_by"]) == (3, [7, 8], "prompt")
    lines = done.stdout.splitlines()
    for number, repeat in enumerate(figures["repeats"]):
        assert lines[number].startswith(f"repeat {number + 1}: RMSE {repeat['rmse']:.2f}, r ")
    assert lines[2].startswith(f"mean of 2 repeats of 3 folds by prompt: RMSE {figures['rmse']:.2f}, r ")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["train.epoch=3"], ["config or override: ", "train.epoch"]),
        (["train.epochs"], ["config or override: ", "train.epochs"]),
        (["train.epochs=many"], ["train.epochs: expected int, found 'many'"]),
        (["data.csv_path_l=gone.csv"], ["gone.csv", "metadata_to_csv.py"]),
        (["train.epochs=["], ["config or override: "]),
        (["-cp", "checkpoints/finl"], ["checkpoints/finl"]),
        (["-cp", "checkpoints"], ["config"]),
        (["-cp", "checkpoints/final/config.yaml"], ["config_path"]),
        (["exp_name=${nobody}"], ["config: ", "nobody"]),
        (["model.nhead=5"], ["model.nhead"]),
        (["data=5"], ["data"]),
        (["cv=often"], ["cv: expected bool, found 'often'"]),
        (["seed=-1"], ["seed"]),
        (["cross_validation.repeats=0"], ["cross_validation.repeats"]),
        (["cv=true", "cross_validation.folds=40"], ["cross_validation.folds"]),
    ],
    ids=str,
)
def test_train_mistake_is_one_line(tmp_path, arguments, fragments):
    right = [*transformer_arguments(tmp_path), "train.epochs=1", "train.save_dir=out"]
    done = run_script("train.py", *right, *arguments, cwd=tmp_path)
    assert_user_error(done, *fragments)
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t_l.csv", "t_r.csv"]


# --- the word model


def test_train_word_model(tmp_path):
    """The shipped config on small tables: twice, and on two pairs of tables."""
    (left, right), metadata = make_response_tables(tmp_path / "data", 36)
    other, _ = make_response_tables(tmp_path / "other", 24, seed=9, prefix="o")
    prior = write_metadata(tmp_path / "prior.json", records_with_responses(60, 50, "p")[0])
    arguments = [f"data.csv_path_l={left}", f"data.csv_path_r={right}", f"data.metadata={metadata}", "model.c=0.1"]
    arguments += [f"data.prior_metadata={prior}", f"data.feature_cols=[{','.join(RESPONSE_COLUMNS)}]"]
    pairs = [f"data.tables=[[{left},{right}],[{other[0]},{other[1]}]]", "data.metadata=null"]
    for name, more in (("first", []), ("second", []), ("pairs", pairs)):
        done = run_script("train.py", *arguments, *more, f"exp_name={name}", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        checkpoint = load(tmp_path / "checkpoints" / name, RESPONSE_COLUMNS)
        assert checkpoint.model.config == WordModelConfig(c=0.1)
        facts = checkpoint.facts
        expected = f"out of fold: RMSE {facts['out_of_fold']['rmse']:.2f}, r {facts['out_of_fold']['r']:.3f}"
        n, grouped_by = (60, "prompt") if name == "pairs" else (36, "track")
        assert (facts["n_signals"], facts["grouped_by"]) == (n, grouped_by)
        assert done.stdout.splitlines()[-1] == f"fitted to all {n} signals; {expected}"
        # The spread of the labels is some 35 points, the noise of a response of five words about 15.
        assert facts["out_of_fold"]["rmse"] < 30
    first, second = (load(tmp_path / "checkpoints" / name, RESPONSE_COLUMNS) for name in ("first", "second"))
    assert same_state(first, second)
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "first").iterdir()) == ["config.yaml", "model.pt"]
