"""infer.py as a user runs it: a published checkpoint in a folder of any name, submissions, mistakes."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT, make_records, make_tables, run_script, write_metadata
from reference_transformer import FLOAT32, random_state, reference_share

from scow.data.tables import read_table, write_table
from scow.metrics import agreement
from scow.models.inputs import load_input

pytestmark = pytest.mark.slow

CONFIG = (ROOT / "tests" / "golden" / "published_config.yaml").read_text(encoding="utf-8")
FEATURES = yaml.safe_load(CONFIG)["data"]["feature_cols"]


def read_lines(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


def reference_points(checkpoint: Path, tables: tuple[Path, Path]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Signals, unclamped scores by the float64 reference, and labels, in points."""
    inputs, state = load_input(*tables, FEATURES), torch.load(checkpoint / "model.pt")
    shares = [
        reference_share(state, *inputs.features[i, :, : int(inputs.n_rows[i])].numpy(), int(inputs.hearing_loss[i]))
        for i in range(len(inputs))
    ]
    return inputs.signals, 100 * np.array(shares), 100 * inputs.target.double().numpy()


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


def test_infer_published_checkpoint_scores_as_the_reference(published):
    before = set(published.cwd.rglob("*"))
    done = run_script("infer.py", "-cp", published.folder, cwd=published.cwd)
    assert (done.returncode, done.stderr) == (0, "")
    paths = {split: published.folder / f"{split}_inference.csv" for split in ("valid", "eval")}
    assert set(published.cwd.rglob("*")) - before == set(paths.values())  # no files of hydra
    for split, path in paths.items():
        lines = read_lines(path)
        assert all(len(line) == 2 and re.fullmatch(r"\d+\.\d{6}", line[1]) for line in lines)
        signals, points, labels = reference_points(published.folder, published.tables[split])
        assert tuple(line[0] for line in lines) == signals  # no header; leading zeros kept
        assert points.min() < -1
        assert points.max() > 101
        scores = np.array([float(line[1]) for line in lines])
        tolerance = 100 * 16 * FLOAT32  # in points, the output's weights being sixteen times as large
        np.testing.assert_allclose(scores, np.clip(points, 0, 100), rtol=0, atol=tolerance)
        score = f"{agreement(scores[:12], labels[:12])}" if split == "valid" else "12 signals, no labels"
        assert f"{split}: {score} -> {path}" in done.stdout.splitlines()


def test_infer_overrides_and_a_missing_split(published):
    options = ["infer.splits=[train,valid]", "infer.clamp_scores=false", "infer.scale_to_percentage=false"]
    options += ["infer.output_name.valid=raw.csv", "exp_name=nothing_here", f"train.save_dir={published.folder}"]
    done = run_script("infer.py", "-cp", published.folder, *options, cwd=published.cwd, code=0)
    signals, points, _ = reference_points(published.folder, published.tables["valid"])
    lines = read_lines(published.folder / "raw.csv")
    assert tuple(line[0] for line in lines) == signals
    np.testing.assert_allclose([float(line[1]) for line in lines], points / 100, rtol=0, atol=8 * FLOAT32)
    (line,) = done.stderr.splitlines()
    assert "split train: expected data/cadenza_data_train/metadata/train_metadata_l.csv" in line


@pytest.mark.parametrize("output_dir", [None, "results"])
def test_infer_own_tables(published, tmp_path, output_dir):
    left, right = make_tables(tmp_path, 6, labelled=False)
    before = set(published.folder.iterdir())
    options = [f"+infer.tables=[{left},{right}]", *([f"+infer.output_dir={output_dir}"] if output_dir else [])]
    done = run_script("infer.py", "-cp", published.folder, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = read_lines(tmp_path / (output_dir or "") / "t_inference.csv")
    signals, points, _ = reference_points(published.folder, (left, right))
    assert tuple(line[0] for line in lines) == signals
    np.testing.assert_allclose([float(line[1]) for line in lines], points.clip(0, 100), rtol=0, atol=1600 * FLOAT32)
    assert set(published.folder.iterdir()) == before


@pytest.mark.parametrize(("track", "team", "year"), [("clip1", "T045", 2026), ("clip2", "T001a", 2027)])
def test_infer_submission_of_a_config_without_that_section(published, track, team, year):
    metadata = published.cwd / "data" / "cadenza_data_eval" / "metadata" / "eval_metadata.json"
    write_metadata(metadata, make_records(12)[::-1])
    form = [f"+infer.submission.track={track}", f"+infer.submission.team={team}", "infer.splits=[eval]"]
    done = run_script("infer.py", "-cp", published.folder, *form, cwd=published.cwd, code=0)
    board, emailed = (published.folder / name for name in ("eval_inference.csv", f"ICASSP{year}_eval_{team}.csv"))
    assert str(emailed) in done.stdout
    header, *lines = read_lines(emailed)
    assert header == ["signal_id", "intelligibility_score"]
    assert lines == read_lines(board)[::-1]  # the metadata's order
