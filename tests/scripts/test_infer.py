"""infer.py as a user runs it: a published checkpoint in a folder of any name; splits that are there, and others."""

from __future__ import annotations

import csv
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, assert_user_error, make_records, make_tables, write_metadata
from reference_transformer import FLOAT32, random_state, reference_share
from test_train import one_thread as one_thread  # for every test here
from test_train import start

from scow.io import read_yaml
from scow.metrics import agreement
from scow.models.inputs import load_input

# As the published system has it: no hydra section, no target, paths from Windows, an exp_name that is not the folder's.
PUBLISHED_CONFIG = r"""exp_name: stereo_chorus_final
seed: 42
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

model:
  d_model: 64
  nhead: 4
  num_layers: 1
  dropout: 0.1
  n_hearing: 3

train:
  batch_size: 1024
  epochs: 100
  lr: 1e-4
  corr_lambda: 0.4
  val_split: 0.2
  save_dir: checkpoints/${exp_name}

infer:
  splits: [valid, eval]
  clamp_scores: true
  scale_to_percentage: true
  output_name:
    train: train_inference.csv
    valid: valid_inference.csv
    eval: eval_inference.csv
"""
FEATURES = (
    *("n_words", "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
    *("large", "large-v2", "large-v3", "large-v3-turbo", "stoi", "estoi", "pesq", "dns_sig", "dns_bak", "dns_ovrl"),
)


def split_tables(folder: Path, split: str, n_signals: int, *, labelled: bool, seed: int) -> tuple[Path, Path]:
    """Tables in the challenge's layout."""
    metadata = folder / "data" / f"cadenza_data_{split}" / "metadata"
    metadata.mkdir(parents=True)
    paths = []
    for ear, path in zip("lr", make_tables(metadata, n_signals, labelled=labelled, seed=seed), strict=True):
        paths.append(path.rename(metadata / f"{split}_metadata_{ear}.csv"))
    return paths[0], paths[1]


def published_state() -> dict[str, torch.Tensor]:
    """Random weights, with scores on both sides of 0 and of 100."""
    state = random_state(21)
    state["fc_out.weight"] *= 8
    state["fc_out.bias"] += 3.1
    return state


def published_checkpoint(folder: Path) -> Path:
    checkpoint = folder / "anything" / "t045"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.yaml").write_text(PUBLISHED_CONFIG, encoding="utf-8")
    torch.save(published_state(), checkpoint / "model.pt")
    return checkpoint


def read_lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


def reference_points(left: Path, right: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Signals, unclamped scores by the float64 reference, and labels, in points."""
    batch, state = load_input(left, right, FEATURES), published_state()
    shares = [
        reference_share(
            state, *batch.features[i, :, : int(batch.n_rows[i])].numpy(), hearing_loss=int(batch.hearing_loss[i])
        )
        for i in range(len(batch))
    ]
    return batch.signals, 100 * np.array(shares), 100 * batch.target.double().numpy()


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, object]:
    """One run on both splits, run where the data lies; then one with overrides, one split missing."""
    folder = tmp_path_factory.mktemp("published")
    checkpoint = published_checkpoint(folder)
    tables = {
        "valid": split_tables(folder, "valid", 18, labelled=True, seed=0),
        "eval": split_tables(folder, "eval", 12, labelled=False, seed=1),
    }
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    done = start("infer.py", "-cp", checkpoint, cwd=folder)
    new = {str(path.relative_to(folder)) for path in folder.rglob("*")} - {str(path) for path in before}
    overridden = start(
        "infer.py",
        *("-cp", checkpoint, "infer.splits=[train,valid]", "infer.clamp_scores=false"),
        *("infer.scale_to_percentage=false", "infer.output_name.valid=raw.csv", "exp_name=nothing_here"),
        *(f"train.save_dir={checkpoint}",),
        cwd=folder,
    )
    return {"folder": checkpoint, "tables": tables, "done": done, "new": new, "overridden": overridden}


def test_published_checkpoint_scores_as_the_reference_does(published):
    assert published["done"].returncode == 0, published["done"].stderr
    for split in ("valid", "eval"):
        lines = read_lines(published["folder"] / f"{split}_inference.csv")
        assert all(len(line) == 2 and re.fullmatch(r"\d+\.\d{6}", line[1]) for line in lines)
        signals, points, _ = reference_points(*published["tables"][split])
        assert tuple(line[0] for line in lines) == signals  # no header, and leading zeros kept
        assert signals[:2] == ("0000", "0001")
        assert points.min() < -1
        assert points.max() > 101
        assert ((points > 1) & (points < 99)).sum() > 3
        # float32 in points, with weights of the output eight times as large as where FLOAT32 was measured.
        tolerance = 100 * 8 * FLOAT32
        np.testing.assert_allclose([float(line[1]) for line in lines], np.clip(points, 0, 100), rtol=0, atol=tolerance)


def test_published_checkpoint_is_read_where_it_lies(published):
    """Not in checkpoints/<exp_name>, and nothing is written elsewhere."""
    assert published["new"] == {"anything/t045/valid_inference.csv", "anything/t045/eval_inference.csv"}


def test_labelled_split_prints_its_agreement(published):
    lines = published["done"].stdout.splitlines()
    assert published["done"].stderr == ""
    _, _, labels = reference_points(*published["tables"]["valid"])
    written = [float(line[1]) for line in read_lines(published["folder"] / "valid_inference.csv")]
    expected = agreement(written, labels)
    path = published["folder"] / "valid_inference.csv"
    assert lines[0] == f"valid: RMSE {expected.rmse:.2f}, r {expected.r:.3f}, 18 signals -> {path}"


def test_unlabelled_split_says_so(published):
    lines = published["done"].stdout.splitlines()
    assert lines[1:] == [f"eval: 12 signals, no labels -> {published['folder'] / 'eval_inference.csv'}"]


def test_overrides(published):
    done = published["overridden"]
    assert done.returncode == 0, done.stderr
    signals, points, labels = reference_points(*published["tables"]["valid"])
    lines = read_lines(published["folder"] / "raw.csv")
    assert tuple(line[0] for line in lines) == signals
    written = np.array([float(line[1]) for line in lines])
    np.testing.assert_allclose(written, points / 100, rtol=0, atol=8 * FLOAT32)
    # What is printed stays in points; six decimals of a share are four of a point.
    said = re.match(r"valid: RMSE ([\d.]+), r ([-\d.]+), 18 signals -> ", done.stdout)
    expected = agreement(100 * written, labels)
    assert float(said[1]) == pytest.approx(expected.rmse, abs=0.0051)
    assert float(said[2]) == pytest.approx(expected.r, abs=0.00051)


def test_split_without_tables_is_named_and_the_other_runs(published):
    done = published["overridden"]
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "passed over: split train: expected data/cadenza_data_train/metadata/train_metadata_l.csv"
    )
    for stage in ("metadata_to_csv.py", "whisper_inference.py", "compute_metrics.py"):
        assert stage in lines[0]


def test_submission_of_a_config_that_knows_none(tmp_path):
    """A published config.yaml, so with a plus; ids of the metadata decide, and nothing is written where they differ."""
    checkpoint = published_checkpoint(tmp_path)
    split_tables(tmp_path, "eval", 6, labelled=False, seed=1)
    metadata = tmp_path / "data" / "cadenza_data_eval" / "metadata" / "eval_metadata.json"
    write_metadata(metadata, make_records(6)[::-1])
    form = ["+infer.submission.track=clip1", "+infer.submission.team=T045", "infer.splits=[eval]"]
    done = start("infer.py", "-cp", checkpoint, *form, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    board, emailed = (checkpoint / name for name in ("eval_inference.csv", "ICASSP2026_eval_T045.csv"))
    assert done.stdout.splitlines() == [
        f"eval: 6 signals, no labels -> {board}",
        f"  submission: every signal of the metadata once, scores in 0-100; e-mail form -> {emailed}",
        f"  leaderboard -> {board}",
    ]
    header, *lines = read_lines(emailed)
    assert header == ["signal_id", "intelligibility_score"]
    assert sorted(lines) == sorted(read_lines(board))
    assert [signal for signal, _ in lines] == [f"{i:04d}" for i in range(6)][::-1]  # the metadata's order

    for path in (board, emailed):
        path.unlink()
    other = write_metadata(tmp_path / "other.json", make_records(7))
    done = start("infer.py", "-cp", checkpoint, *form, f"+data.eval_metadata={other}", cwd=tmp_path)
    assert_user_error(done, "expected a score for each of the 7 signals of", "found no score for 1, for instance 0006")
    assert not board.exists()
    assert not emailed.exists()


def test_shipped_configs_know_of_submissions():
    for path in (ROOT / "checkpoints").glob("*/config.yaml"):
        assert read_yaml(path)["infer"]["submission"] == {"track": None, "team": None}, path


MISTAKES = {
    "nothing there": (["data.valid_path_l=gone.csv", "infer.splits=[valid]"], ["split valid: expected gone.csv"]),
    "unknown split": (["infer.splits=[vaild]"], ["no tables for the split 'vaild' in the config; did you mean valid"]),
    "track": (["+infer.submission={track: clip3, team: T045}"], ["no track 'clip3'; did you mean clip1?"]),
    "team": (
        ["+infer.submission={track: clip1, team: us}"],
        ["infer.submission.team: expected a team id such as T045"],
    ),
    "shares": (
        ["+infer.submission={track: clip1, team: T045}", "infer.scale_to_percentage=false"],
        ["expected scores in points, found infer.scale_to_percentage=false"],
    ),
    "no metadata": (
        ["+infer.submission={track: clip1, team: T045}", "infer.splits=[valid]"],
        ["valid_metadata.json: expected a metadata JSON file, found none"],
    ),
    "no cuda": (["device=cuda"], ["device: expected a CUDA device, found none; use cpu or auto"]),
    "no checkpoint": (["exp_name=nobody"], ["expected the checkpoint checkpoints/nobody/model.pt, found none"]),
    "unknown key": (["infer.split=[valid]"], ["config or override: ", "infer.split"]),
    "no such folder": (["-cp", "checkpoints/lite2"], ["-cp: expected a folder with config.yaml", "did you mean lite"]),
    "no such value": (["exp_name=${nobody}"], ["nobody"]),
    "section": (["infer=5"], ["infer: expected a mapping"]),
    "details of a network": (
        ["+infer.details=true", "infer.splits=[valid]", "infer.output_name.valid=details.csv"],
        ["expected a word model for words and intervals, found a transformer; use -cp checkpoints/final"],
    ),
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory) -> tuple[list[Path], dict[str, subprocess.CompletedProcess]]:
    """All mistakes at once, two at a time: starting a script takes seconds, reading its message none."""
    folder = tmp_path_factory.mktemp("mistakes")
    checkpoint = published_checkpoint(folder)
    split_tables(folder, "valid", 6, labelled=True, seed=0)
    before = sorted(folder.rglob("*"))

    def run(wrong: list[str]) -> subprocess.CompletedProcess:
        arguments = wrong if wrong[0] == "-cp" else ["-cp", checkpoint, *wrong]
        return start("infer.py", *arguments, cwd=folder)

    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(MISTAKES, pool.map(run, [wrong for wrong, _ in MISTAKES.values()]), strict=True))
    return [path for path in folder.rglob("*") if path not in before], done


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line(mistaken, name):
    if name == "no cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    new, done = mistaken
    assert_user_error(done[name], *MISTAKES[name][1])
    assert done[name].stdout == ""
    assert [path for path in new if "cuda" not in str(path)] == []
