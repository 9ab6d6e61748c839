"""train.py as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    HEARD_COLUMNS,
    ROOT,
    assert_user_error,
    heard_records,
    make_heard_tables,
    make_tables,
    write_metadata,
)

from scow.config import options_from
from scow.io import read_yaml
from scow.models.checkpoint import load_checkpoint
from scow.models.config import DataOptions, TrainOptions, TransformerConfig, WordModelConfig, model_config
from scow.models.inputs import load_input
from scow.models.model import FitSetup
from scow.models.transformer import Transformer

COLUMNS = ("n_words", "tiny.en", "stoi")
SMALL = ("model.d_model=8", "model.nhead=2", "train.batch_size=8", "train.lr=1e-2", "device=cpu", "data.metadata=null")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """One thread, here and in the scripts: the same sums in the same order, and no fight for busy cores."""
    before, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(before)
    del os.environ["OMP_NUM_THREADS"]
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable


def start(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """The same as the fixture run_script_file, to be had by fixtures of the whole module."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def training_tables(folder: Path) -> list[str]:
    """The published network, to be trained on small tables; first, because options go before overrides."""
    left, right = make_tables(folder, 18)
    return [
        "-cp",
        "checkpoints/published",
        f"data.csv_path_l={left}",
        f"data.csv_path_r={right}",
        f"data.feature_cols=[{','.join(COLUMNS)}]",
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, list[subprocess.CompletedProcess]]:
    """Two runs of the same training into two folders, the second given relative to the working folder."""
    folder = tmp_path_factory.mktemp("runs")
    common = [*training_tables(folder), *SMALL, "train.epochs=12", "seed=5"]
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(
            lambda save_dir: start("train.py", *common, f"train.save_dir={save_dir}", cwd=folder),
            (folder / "first", "sub/second"),
        )
    return folder, list(done)


def test_what_it_writes_and_says(runs):
    folder, (first, second) = runs
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert sorted(path.name for path in (folder / "first").iterdir()) == ["config.yaml", "model.pt", "train_log.csv"]
    assert sorted(path.name for path in folder.iterdir()) == ["first", "sub", "t_l.csv", "t_r.csv"]
    with (folder / "first" / "train_log.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["epoch", "train_loss", "train_rmse", "val_rmse", "val_r"]
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 13)]
    assert all(0 < float(row["val_rmse"]) < 100 and float(row["train_rmse"]) > 0 for row in rows)
    kept = min(rows, key=lambda row: float(row["val_rmse"]))
    r = f"{float(kept['val_r']):.3f}" if kept["val_r"] else "undefined"
    lines = first.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:-2]] == ["epoch 1", "epoch 10"]
    assert lines[-2] == f"wrote {folder / 'first' / 'model.pt'} and {folder / 'first' / 'train_log.csv'}"
    assert lines[-1] == f"kept epoch {kept['epoch']} of 12: validation RMSE {float(kept['val_rmse']):.2f}, r {r}"
    assert first.stderr == ""


def test_second_run_is_identical(runs):
    folder, (first, second) = runs
    ours, theirs = folder / "first", folder / "sub" / "second"
    assert (ours / "train_log.csv").read_bytes() == (theirs / "train_log.csv").read_bytes()
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]
    states = [
        load_checkpoint(path / "model.pt", TransformerConfig(), COLUMNS).model.state_dict() for path in (ours, theirs)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_overrides_reach_the_checkpoint(runs):
    folder, _ = runs
    checkpoint = load_checkpoint(folder / "first" / "model.pt", TransformerConfig(), COLUMNS)
    assert (checkpoint.model.config.d_model, checkpoint.model.config.nhead, checkpoint.facts["seed"]) == (8, 2, 5)
    assert checkpoint.facts["train"]["epochs"] == 12
    config = read_yaml(folder / "first" / "config.yaml")
    assert (config["seed"], config["model"]["d_model"], config["train"]["lr"]) == (5, 8, 1e-2)
    assert tuple(config["data"]["feature_cols"]) == COLUMNS
    assert "hydra" not in config


def test_inference_gives_the_scores_of_the_fit(runs):
    """train.py and infer.py agree with a fit in this process, to the six decimals of a score of 0-100."""
    folder, _ = runs
    left, right = folder / "t_l.csv", folder / "t_r.csv"
    paths = (f"data.valid_path_l={left}", f"data.valid_path_r={right}")
    done = start("infer.py", "-cp", folder / "sub" / "second", *paths, "infer.splits=[valid,train]", cwd=folder)
    assert done.returncode == 0, done.stderr
    config = read_yaml(folder / "sub" / "second" / "config.yaml")
    batch = load_input(left, right, DataOptions(COLUMNS, {}).feature_cols)
    network_options = model_config(config["model"])
    options = options_from(TrainOptions, config["train"], "train")
    model = Transformer.fit(batch, network_options, FitSetup(batch.prompts, 5, train=options))
    expected = 100 * np.clip(model.predict(batch).correctness, 0, 1)
    assert np.std(expected) > 1
    for split in ("valid", "train"):
        with (folder / "sub" / "second" / f"{split}_inference.csv").open(encoding="utf-8", newline="") as handle:
            written = dict(csv.reader(handle))
        assert tuple(written) == batch.signals
        np.testing.assert_allclose([float(score) for score in written.values()], expected, rtol=0, atol=1e-6)
    assert done.stdout.count("note: this checkpoint was trained on these signals") == 2


def test_folder_with_a_config_of_its_own(tmp_path, run_script_file):
    """-cp to a folder anywhere; where the checkpoint stays in that folder, its config.yaml is left as it is."""
    folder = tmp_path / "mine"
    folder.mkdir()
    left, right = make_tables(tmp_path, 18)
    text = f"""# my own
exp_name: mine
data:
  csv_path_l: {left}
  csv_path_r: {right}
  feature_cols: [tiny.en]
model: {{d_model: 8, nhead: 2}}
train:
  save_dir: ${{exp_name}}  # relative to where it is run
  epochs: 3
"""
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    done = run_script_file("train.py", "-cp", folder, "train.epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2] == "wrote mine/model.pt and mine/train_log.csv"
    assert "kept epoch 1 of 1" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.pt", "train_log.csv"]
    assert (folder / "config.yaml").read_text(encoding="utf-8") == text


def test_option_after_an_override(tmp_path, run_script_file):
    """As with any hydra script, options and overrides come in any order."""
    done = run_script_file("train.py", "exp_name=mine", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "exp_name: mine" in done.stdout


def test_folder_named_like_an_override(tmp_path, run_script_file):
    """As folders of experiments often are."""
    folder = tmp_path / "lr=1e-3"
    folder.mkdir()
    (folder / "config.yaml").write_text("exp_name: theirs\n", encoding="utf-8")
    done = run_script_file("train.py", "-cp", folder, "exp_name=mine", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "exp_name: mine"


def test_cross_validation_prints_figures_and_leaves_no_checkpoint(tmp_path, run_script_file):
    arguments = [*training_tables(tmp_path), *SMALL, f"train.save_dir={tmp_path / 'out'}", "train.epochs=2"]
    done = run_script_file(
        "train.py",
        *arguments,
        "cv=true",
        "cross_validation.folds=3",
        "cross_validation.repeats=2",
        "seed=7",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cross_validation.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t_l.csv", "t_r.csv"]
    figures = json.loads((tmp_path / "out" / "cross_validation.json").read_text(encoding="utf-8"))
    assert (figures["folds"], figures["seeds"], figures["grouped_by"], figures["n_signals"]) == (
        3,
        [7, 8],
        "prompt",
        18,
    )

    def said(of: dict) -> str:
        return f"RMSE {of['rmse']:.2f}, r " + ("undefined" if of["r"] is None else f"{of['r']:.3f}")

    lines = done.stdout.splitlines()
    for number, repeat in enumerate(figures["repeats"]):
        assert lines[number].startswith(f"repeat {number + 1}: {said(repeat)}")
        assert lines[number].endswith(", 18 signals")
    assert lines[2:] == [
        f"mean of 2 repeats of 3 folds by prompt: {said(figures)}",
        f"wrote {tmp_path / 'out' / 'cross_validation.json'}",
    ]
    assert len(re.findall(r"^repeat [12], fold [123] done$", done.stderr, flags=re.MULTILINE)) == 6


MISTAKES = {
    "unknown key": (["train.epoch=3"], ["config or override: ", "train.epoch"]),
    "no override": (["train.epochs"], ["config or override: ", "train.epochs"]),
    "wrong type": (["train.epochs=many"], ["train.epochs: expected int, found 'many'"]),
    "no such tables": (["data.csv_path_l=gone.csv"], ["gone.csv: expected a feature table", "metadata_to_csv.py"]),
    "no such folder": (["-cp", "checkpoints/finl"], ["-cp: expected a folder with config.yaml", "did you mean final"]),
    "no such value": (["exp_name=${nobody}"], ["nobody"]),
    "model": (["model.nhead=5"], ["model.nhead"]),
    "section": (["data=5"], ["data: expected a mapping"]),
    "cv": (["cv=often"], ["cv: expected true or false, found 'often'"]),
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory) -> tuple[Path, dict[str, subprocess.CompletedProcess]]:
    """All mistakes at once, two at a time: starting a script takes seconds, reading its message none."""
    folder = tmp_path_factory.mktemp("mistakes")
    right = [*training_tables(folder), *SMALL, "train.epochs=1", "train.save_dir=out"]

    def run(wrong: list[str]) -> subprocess.CompletedProcess:
        return start("train.py", *right, *wrong, cwd=folder)

    with ThreadPoolExecutor(2) as pool:
        return folder, dict(zip(MISTAKES, pool.map(run, [wrong for wrong, _ in MISTAKES.values()]), strict=True))


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line(mistaken, name):
    folder, done = mistaken
    assert_user_error(done[name], *MISTAKES[name][1])
    assert done[name].stdout == ""
    assert sorted(path.name for path in folder.iterdir()) == ["t_l.csv", "t_r.csv"]


# --- the word model, and ensembles


@pytest.fixture(scope="module")
def word_runs(tmp_path_factory) -> tuple[Path, dict[str, subprocess.CompletedProcess]]:
    """What the shipped word config does on small tables: twice, on two pairs of tables, cross-validated."""
    folder = tmp_path_factory.mktemp("words")
    (left, right), metadata = make_heard_tables(folder / "data", 36)
    other, _ = make_heard_tables(folder / "other", 24, seed=9, prefix="o")
    prior = write_metadata(folder / "prior.json", heard_records(60, 50, "p")[0])
    common = [
        *(f"data.csv_path_l={left}", f"data.csv_path_r={right}", f"data.metadata={metadata}"),
        *(f"data.prior_metadata={prior}", f"data.feature_cols=[{','.join(HEARD_COLUMNS)}]", "model.c=0.1", "seed=5"),
    ]
    pairs = f"data.tables=[[{left},{right}],[{other[0]},{other[1]}]]"
    runs = {
        "first": common,
        "second": common,
        "pairs": [*common, pairs, "data.metadata=null"],
        "cv": [*common, "cv=true", "cross_validation.folds=3", "cross_validation.repeats=2"],
    }
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(
            lambda name: start("train.py", *runs[name], f"train.save_dir={folder / name}", cwd=folder), runs
        )
        return folder, dict(zip(runs, done, strict=True))


def test_word_model_prints_out_of_fold_figures(word_runs):
    folder, runs = word_runs
    done = runs["first"]
    assert done.returncode == 0, done.stderr
    checkpoint = load_checkpoint(folder / "first" / "model.pt", TransformerConfig(), HEARD_COLUMNS)
    assert checkpoint.model.config == WordModelConfig(c=0.1)
    out_of_fold = checkpoint.facts["out_of_fold"]
    assert done.stdout.splitlines() == [
        f"wrote {folder / 'first' / 'model.pt'}",
        f"fitted to all 36 signals; out of fold: RMSE {out_of_fold['rmse']:.2f}, r {out_of_fold['r']:.3f}",
    ]
    assert done.stderr == ""
    assert sorted(path.name for path in (folder / "first").iterdir()) == ["config.yaml", "model.pt"]
    # The spread of the labels is some 35 points, the noise of a response of five words about 15.
    assert out_of_fold["rmse"] < 30
    assert out_of_fold["r"] > 0.5


def test_second_run_of_the_word_model_is_identical(word_runs):
    folder, runs = word_runs
    assert runs["second"].returncode == 0, runs["second"].stderr
    states = [
        load_checkpoint(folder / name / "model.pt", TransformerConfig(), HEARD_COLUMNS).model.state_dict()
        for name in ("first", "second")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_two_pairs_of_tables(word_runs):
    folder, runs = word_runs
    assert runs["pairs"].returncode == 0, runs["pairs"].stderr
    facts = load_checkpoint(folder / "pairs" / "model.pt", TransformerConfig(), HEARD_COLUMNS).facts
    assert (facts["n_signals"], facts["grouped_by"]) == (60, "prompt")
    assert "fitted to all 60 signals" in runs["pairs"].stdout


def test_word_model_cross_validated(word_runs):
    folder, runs = word_runs
    done = runs["cv"]
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / "cv").iterdir()] == ["cross_validation.json"]
    figures = json.loads((folder / "cv" / "cross_validation.json").read_text(encoding="utf-8"))
    assert (figures["n_signals"], figures["grouped_by"], figures["folds"], figures["seeds"]) == (36, "track", 3, [5, 6])
    assert figures["rmse"] == pytest.approx(np.mean([repeat["rmse"] for repeat in figures["repeats"]]), rel=1e-12)
    assert figures["r"] == pytest.approx(np.mean([repeat["r"] for repeat in figures["repeats"]]), rel=1e-12)
    assert list(figures["by_severity"]) == ["No Loss", "Mild", "Moderate"]
    squares = [found["rmse"] ** 2 for found in figures["by_severity"].values()]  # twelve signals each
    assert np.mean(squares) == pytest.approx(np.mean([repeat["rmse"] ** 2 for repeat in figures["repeats"]]), rel=1e-9)
    coverage = figures["coverage_of_80_percent_intervals"]
    assert list(coverage) == ["all", "No Loss", "Mild", "Moderate"]
    assert coverage["all"] == pytest.approx(np.mean([coverage[name] for name in list(coverage)[1:]]), abs=1e-12)
    assert f"mean of 2 repeats of 3 folds by track: RMSE {figures['rmse']:.2f}, r {figures['r']:.3f}" in done.stdout


def test_challenge_data(tmp_path, clip1, run_script_file):
    metadata = clip1 / "cadenza_data_valid" / "metadata"
    done = run_script_file(
        *("train.py", "-cp", "checkpoints/published"),
        f"data.csv_path_l={metadata / 'valid_metadata_l.csv'}",
        f"data.csv_path_r={metadata / 'valid_metadata_r.csv'}",
        f"train.save_dir={tmp_path / 'out'}",
        "train.epochs=2",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    checkpoint = load_checkpoint(tmp_path / "out" / "model.pt", TransformerConfig(), ())
    assert len(checkpoint.model.feature_cols) == 19
    assert checkpoint.facts["n_signals"] == 1175
    # Two epochs find out at least about where the scores lie: the labels' own spread is 37 points.
    assert checkpoint.facts["val_rmse"][0] < 45
