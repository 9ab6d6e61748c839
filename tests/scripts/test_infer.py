"""infer.py as a user runs it: a published checkpoint in a folder of any name, submissions, mistakes."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers import assert_user_error, make_records, make_tables, run_script, write_metadata
from reference_transformer import FLOAT32, random_state, reference_share

from scow.metrics import agreement
from scow.models.inputs import load_input

pytestmark = pytest.mark.slow

# As the published system has it: no hydra section, no target, paths from Windows, an exp_name that is not the folder's.
PUBLISHED_CONFIG = r"""exp_name: stereo_chorus_final
device: cpu
data:
  csv_path_l: data\cadenza_data_train\metadata\train_metadata_l.csv
  csv_path_r: data\cadenza_data_train\metadata\train_metadata_r.csv
  valid_path_l: data\cadenza_data_valid\metadata\valid_metadata_l.csv
  valid_path_r: data\cadenza_data_valid\metadata\valid_metadata_r.csv
  eval_path_l: data\cadenza_data_eval\metadata\eval_metadata_l.csv
  eval_path_r: data\cadenza_data_eval\metadata\eval_metadata_r.csv
  feature_cols: [n_words, tiny, tiny.en, base, base.en, small, small.en, medium, medium.en, large, large-v2, large-v3,
    large-v3-turbo, stoi, estoi, pesq, dns_sig, dns_bak, dns_ovrl]
model: {d_model: 64, nhead: 4, num_layers: 1, dropout: 0.1, n_hearing: 3}
train: {batch_size: 1024, epochs: 100, lr: 1e-4, corr_lambda: 0.4, val_split: 0.2, save_dir: "checkpoints/${exp_name}"}
infer:
  splits: [valid, eval]
  clamp_scores: true
  scale_to_percentage: true
  output_name: {train: train_inference.csv, valid: valid_inference.csv, eval: eval_inference.csv}
"""
FEATURES = yaml.safe_load(PUBLISHED_CONFIG)["data"]["feature_cols"]


def split_tables(folder: Path, split: str, n_signals: int, *, labelled: bool, seed: int) -> tuple[Path, Path]:
    """Tables in the challenge's layout."""
    metadata = folder / "data" / f"cadenza_data_{split}" / "metadata"
    metadata.mkdir(parents=True)
    left, right = make_tables(metadata, n_signals, labelled=labelled, seed=seed)
    return left.rename(metadata / f"{split}_metadata_l.csv"), right.rename(metadata / f"{split}_metadata_r.csv")


def published_checkpoint(folder: Path) -> Path:
    """Random weights, with scores on both sides of 0 and of 100."""
    checkpoint = folder / "anything" / "t045"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.yaml").write_text(PUBLISHED_CONFIG, encoding="utf-8")
    state = random_state(21)
    state["fc_out.weight"] *= 8
    state["fc_out.bias"] += 3.1
    torch.save(state, checkpoint / "model.pt")
    return checkpoint


def read_lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


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
    """A run on both splits from the folder of the data; then one with overrides, one split missing."""
    folder = tmp_path_factory.mktemp("published")
    checkpoint = published_checkpoint(folder)
    valid = split_tables(folder, "valid", 18, labelled=True, seed=0)
    tables = {"valid": valid, "eval": split_tables(folder, "eval", 12, labelled=False, seed=1)}
    before = set(folder.rglob("*"))
    done = run_script("infer.py", "-cp", checkpoint, cwd=folder)
    new = sorted(path.relative_to(checkpoint).as_posix() for path in set(folder.rglob("*")) - before)
    overridden = run_script(
        *("infer.py", "-cp", checkpoint, "infer.splits=[train,valid]", "infer.clamp_scores=false"),
        *("infer.scale_to_percentage=false", "infer.output_name.valid=raw.csv", "exp_name=nothing_here"),
        f"train.save_dir={checkpoint}",
        cwd=folder,
    )
    return SimpleNamespace(folder=checkpoint, tables=tables, done=done, new=new, overridden=overridden)


def test_published_checkpoint_scores_as_the_reference(published):
    assert published.done.returncode == 0, published.done.stderr
    assert published.new == ["eval_inference.csv", "valid_inference.csv"]  # no files of hydra
    for split in ("valid", "eval"):
        lines = read_lines(published.folder / f"{split}_inference.csv")
        assert all(len(line) == 2 and re.fullmatch(r"\d+\.\d{6}", line[1]) for line in lines)
        signals, points, _ = reference_points(published.folder, published.tables[split])
        assert tuple(line[0] for line in lines) == signals  # no header; leading zeros kept
        assert points.min() < -1
        assert points.max() > 101
        tolerance = 100 * 8 * FLOAT32  # in points, the output's weights being eight times as large
        np.testing.assert_allclose([float(line[1]) for line in lines], np.clip(points, 0, 100), rtol=0, atol=tolerance)


def test_infer_prints_agreement_or_that_there_are_no_labels(published):
    _, _, labels = reference_points(published.folder, published.tables["valid"])
    expected = agreement([float(line[1]) for line in read_lines(published.folder / "valid_inference.csv")], labels)
    assert published.done.stdout.splitlines() == [
        f"valid: RMSE {expected.rmse:.2f}, r {expected.r:.3f}, 18 signals -> {published.folder}/valid_inference.csv",
        f"eval: 12 signals, no labels -> {published.folder}/eval_inference.csv",
    ]
    assert published.done.stderr == ""


def test_infer_overrides(published):
    done = published.overridden
    assert done.returncode == 0, done.stderr
    signals, points, _ = reference_points(published.folder, published.tables["valid"])
    lines = read_lines(published.folder / "raw.csv")
    assert tuple(line[0] for line in lines) == signals
    written = np.array([float(line[1]) for line in lines])
    np.testing.assert_allclose(written, points / 100, rtol=0, atol=8 * FLOAT32)
    (line,) = done.stderr.splitlines()
    assert "split train: expected data/cadenza_data_train/metadata/train_metadata_l.csv" in line


def test_infer_submission_of_a_config_without_that_section(tmp_path):
    checkpoint = published_checkpoint(tmp_path)
    split_tables(tmp_path, "eval", 6, labelled=False, seed=1)
    metadata = tmp_path / "data" / "cadenza_data_eval" / "metadata" / "eval_metadata.json"
    write_metadata(metadata, make_records(6)[::-1])
    form = ["+infer.submission.track=clip1", "+infer.submission.team=T045", "infer.splits=[eval]"]
    done = run_script("infer.py", "-cp", checkpoint, *form, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    board, emailed = (checkpoint / name for name in ("eval_inference.csv", "ICASSP2026_eval_T045.csv"))
    assert str(emailed) in done.stdout
    header, *lines = read_lines(emailed)
    assert header == ["signal_id", "intelligibility_score"]
    assert sorted(lines) == sorted(read_lines(board))
    assert [signal for signal, _ in lines] == [f"{i:04d}" for i in range(6)][::-1]  # the metadata's order

    for path in (board, emailed):
        path.unlink()
    other = write_metadata(tmp_path / "other.json", make_records(7))
    done = run_script("infer.py", "-cp", checkpoint, *form, f"+data.eval_metadata={other}", cwd=tmp_path)
    assert_user_error(done, "7 signals", "instance 0006")
    assert not board.exists()
    assert not emailed.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    published_checkpoint(folder)
    split_tables(folder, "valid", 6, labelled=True, seed=0)
    return folder


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["data.valid_path_l=gone.csv", "infer.splits=[valid]"], ["split valid", "gone.csv"]),
        (["infer.splits=[vaild]"], ["vaild", "did you mean valid"]),
        (["+infer.submission={track: clip1, team: us}"], ["infer.submission.team"]),
        (
            ["+infer.submission={track: clip1, team: T045}", "infer.scale_to_percentage=false"],
            ["scale_to_percentage"],
        ),
        (["+infer.submission={track: clip1, team: T045}", "infer.splits=[valid]"], ["valid_metadata.json"]),
        (["exp_name=nobody"], ["checkpoints/nobody/model.pt"]),
        (["infer=5"], ["infer"]),
        (["+infer.details=true", "infer.splits=[valid]"], ["infer.details"]),
    ],
    ids=str,
)
def test_infer_mistake_is_one_line(folder, arguments, fragments):
    before = sorted(folder.rglob("*"))
    done = run_script("infer.py", "-cp", folder / "anything" / "t045", *arguments, cwd=folder)
    assert_user_error(done, *fragments)
    assert done.stdout == ""
    assert sorted(folder.rglob("*")) == before


def test_infer_multirun(folder):
    """Plain hydra: each run writes its files; the folders of the runs stay empty."""
    options = ["infer.splits=[valid]", "infer.output_name.valid=a.csv,b.csv", "hydra.sweep.dir=sweep"]
    done = run_script("infer.py", "-cp", folder / "anything" / "t045", "-m", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    one, other = (folder / "anything" / "t045" / name for name in ("a.csv", "b.csv"))
    assert one.read_bytes() == other.read_bytes()
