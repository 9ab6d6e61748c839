"""infer.py as a user runs it: a published checkpoint in a folder of any name, submissions, mistakes."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import ROOT, make_records, make_tables, run_script, write_metadata
from reference_transformer import PUBLISHED_FEATURES, random_state

from scow.data.tables import read_table, write_table
from scow.metrics import agreement
from scow.models.checkpoint import load_checkpoint
from scow.models.config import TransformerConfig
from scow.models.inputs import load_input

pytestmark = pytest.mark.slow

CONFIG = (ROOT / "tests" / "golden" / "published_config.yaml").read_text(encoding="utf-8")


def read_lines(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


def points_of(folder: Path, tables: tuple[Path, Path]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Signals, unclamped scores of the checkpoint's model, and labels, in points."""
    inputs = load_input(*tables, PUBLISHED_FEATURES)
    model, _ = load_checkpoint(folder / "model.pt", TransformerConfig(), PUBLISHED_FEATURES)
    return inputs.signals, 100 * model.predict(inputs).correctness, 100 * inputs.target.double().numpy()


def assert_scores(path: Path, signals: tuple[str, ...], scores: np.ndarray) -> None:
    lines = read_lines(path)
    assert tuple(signal for signal, _ in lines) == signals  # no header; leading zeros kept
    assert all(re.fullmatch(r"-?\d+\.\d{6}", score) for _, score in lines)
    np.testing.assert_allclose([float(score) for _, score in lines], scores, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> SimpleNamespace:
    """A published checkpoint; tables of valid, 12 of 18 signals labelled, and of eval."""
    folder = tmp_path_factory.mktemp("published")
    checkpoint = folder / "anything" / "t045"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.yaml").write_text(CONFIG, encoding="utf-8")
    state = random_state(21)
    state["fc_out.weight"] *= 16  # scores on both sides of 0 and of 100
    state["fc_out.bias"] += 5.8
    torch.save(state, checkpoint / "model.pt")
    tables = {}
    for split, n_signals in (("valid", 18), ("eval", 12)):
        metadata = folder / "data" / f"cadenza_data_{split}" / "metadata"
        metadata.mkdir(parents=True)
        pair = make_tables(metadata, n_signals, labelled=split == "valid", seed=n_signals)
        tables[split] = tuple(path.rename(metadata / f"{split}_metadata{path.stem[1:]}.csv") for path in pair)
    for path in tables["valid"]:
        table = read_table(path)
        write_table(table.assign(correctness=table["correctness"].where(table["signal"] < "0012")), path)
    return SimpleNamespace(cwd=folder, folder=checkpoint, tables=tables)


def test_infer_published_checkpoint(published):
    before = set(published.cwd.rglob("*"))
    done = run_script("infer.py", "-cp", published.folder, cwd=published.cwd)
    assert (done.returncode, done.stderr) == (0, "")
    paths = {split: published.folder / f"{split}_inference.csv" for split in ("valid", "eval")}
    assert set(published.cwd.rglob("*")) - before == set(paths.values())  # no files of hydra
    for split, path in paths.items():
        signals, points, labels = points_of(published.folder, published.tables[split])
        assert points.min() < -1
        assert points.max() > 101
        scores = points.clip(0, 100)
        assert_scores(path, signals, scores)
        score = f"{agreement(scores[:12], labels[:12])}" if split == "valid" else "12 signals, no labels"
        assert f"{split}: {score} -> {path}" in done.stdout.splitlines()


def test_infer_overrides_and_a_missing_split(published):
    options = ["infer.splits=[train,valid]", "infer.clamp_scores=false", "infer.scale_to_percentage=false"]
    options += ["infer.output_name.valid=raw.csv", "exp_name=nothing_here", f"train.save_dir={published.folder}"]
    done = run_script("infer.py", "-cp", published.folder, *options, cwd=published.cwd, code=0)
    signals, points, _ = points_of(published.folder, published.tables["valid"])
    assert_scores(published.folder / "raw.csv", signals, points / 100)
    (line,) = done.stderr.splitlines()
    assert "split train: expected data/cadenza_data_train/metadata/train_metadata_l.csv" in line


@pytest.mark.parametrize("output_dir", [None, "results"])
def test_infer_own_tables(published, tmp_path, output_dir):
    left, right = make_tables(tmp_path, 6, labelled=False)
    before = set(published.folder.iterdir())
    options = [f"+infer.tables=[{left},{right}]", *([f"+infer.output_dir={output_dir}"] if output_dir else [])]
    done = run_script("infer.py", "-cp", published.folder, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    signals, points, _ = points_of(published.folder, (left, right))
    assert_scores(tmp_path / (output_dir or "") / "t_inference.csv", signals, points.clip(0, 100))
    assert set(published.folder.iterdir()) == before


def test_infer_submission_of_a_config_without_that_section(published):
    metadata = published.cwd / "data" / "cadenza_data_eval" / "metadata" / "eval_metadata.json"
    write_metadata(metadata, make_records(12)[::-1])
    form = ["+infer.submission.track=clip1", "+infer.submission.team=T045", "infer.splits=[eval]"]
    done = run_script("infer.py", "-cp", published.folder, *form, cwd=published.cwd, code=0)
    board, emailed = (published.folder / name for name in ("eval_inference.csv", "ICASSP2026_eval_T045.csv"))
    assert str(emailed) in done.stdout
    header, *lines = read_lines(emailed)
    assert header == ["signal_id", "intelligibility_score"]
    assert lines == read_lines(board)[::-1]  # the metadata's order
