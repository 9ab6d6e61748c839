"""scow.inference: from tables and a checkpoint to a file of scores, in this process; infer.py has its own tests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tables
from test_model import network_of, random_state
from test_model import one_thread as one_thread  # for every test here

from scow.batches import DataOptions, load_batch
from scow.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from scow.errors import UserError
from scow.inference import InferConfig, InferOptions, infer, infer_config, write_scores
from scow.model import NetworkOptions, PublishedNetwork
from scow.prediction import forward
from scow.scoring import agreement
from scow.training import CvOptions, TrainConfig, TrainOptions, train

SMALL = NetworkOptions(d_model=8, nhead=2)
COLUMNS = ("tiny", "stoi", "pesq")


def read_scores(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as handle:
        return {signal: float(score) for signal, score in csv.reader(handle)}


def tables_of(folder: Path, n_signals: int, **keywords) -> tuple[Path, Path]:
    folder.mkdir()
    return make_tables(folder, n_signals, **keywords)


def wide_checkpoint(folder: Path) -> PublishedNetwork:
    """Untrained weights with scores on both sides of 0 and of 1."""
    state = random_state(1, n_features=len(COLUMNS))
    state["fc_out.weight"] *= 8
    state["fc_out.bias"] -= 3.4
    network = network_of(state)
    save_checkpoint(folder / "model.pt", Checkpoint(NetworkOptions(), COLUMNS, state))
    return network


def settings(folder: Path, tables: dict[str, tuple[Path, Path]], **options) -> InferConfig:
    names = options.pop("output_name", {})
    infer_options = InferOptions(**{"splits": tuple(tables), **options})
    return InferConfig(folder, DataOptions(COLUMNS, tables), SMALL, infer_options, names, "cpu")


def test_scores_are_those_of_the_fit(tmp_path):
    """Training and inference agree: same tables, same weights, same scores, up to the six decimals of the file."""
    tables = {name: tables_of(tmp_path / name, 18, seed=seed) for seed, name in enumerate(("train", "valid"))}
    train_options = TrainOptions(save_dir=tmp_path / "out", batch_size=8, epochs=3, lr=1e-3)
    trained, folder = train(
        TrainConfig("x", DataOptions(COLUMNS, tables), SMALL, train_options, CvOptions(), device="cpu")
    )
    result = infer(settings(folder, tables))
    assert [split.split for split in result.done] == ["train", "valid"]
    for split in result.done:
        batch = load_batch(*tables[split.split], COLUMNS)
        expected = 100 * np.clip(forward(trained.network, batch), 0, 1)
        written = read_scores(folder / f"{split.split}_inference.csv")
        assert tuple(written) == split.signals == batch.signals
        np.testing.assert_allclose(list(written.values()), expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(split.scores, expected)
        assert split.agreement == agreement(expected, 100 * batch.target.double().numpy())


def test_known_when_it_was_trained_on_them(tmp_path):
    tables = {"train": tables_of(tmp_path / "train", 18), "valid": tables_of(tmp_path / "valid", 15)}
    train_options = TrainOptions(save_dir=tmp_path / "out", batch_size=8, epochs=1)
    _, folder = train(TrainConfig("x", DataOptions(COLUMNS, tables), SMALL, train_options, CvOptions(), device="cpu"))
    # Known by the signals, whatever the split is called.
    tables["same"] = tables_of(tmp_path / "same", 18, seed=3)
    result = infer(settings(folder, tables))
    assert {split.split: split.trained_on for split in result.done} == {"train": True, "valid": False, "same": True}


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("percentage", [True, False])
def test_clamping_and_percentage(tmp_path, clamp, percentage):
    network = wide_checkpoint(tmp_path)
    tables = tables_of(tmp_path / "valid", 18)
    config = settings(
        tmp_path,
        {"valid": tables},
        clamp_scores=clamp,
        scale_to_percentage=percentage,
        output_name={"valid": "mine.csv", "eval": "other.csv"},
    )
    (split,) = infer(config).done
    assert split.path == tmp_path / "mine.csv"
    raw = forward(network, load_batch(*tables, COLUMNS))
    assert raw.min() < -0.01
    assert raw.max() > 1.01
    points = 100 * (np.clip(raw, 0, 1) if clamp else raw)
    expected = points if percentage else points / 100
    np.testing.assert_allclose(list(read_scores(split.path).values()), expected, rtol=0, atol=1e-6)
    # The agreement is in points whatever the file is in.
    truth = 100 * load_batch(*tables, COLUMNS).target.double().numpy()
    assert split.agreement.rmse == pytest.approx(agreement(points, truth).rmse, abs=1e-9)


def test_labels(tmp_path):
    network = wide_checkpoint(tmp_path)
    tables = {name: tables_of(tmp_path / name, 12, labelled=name != "none") for name in ("all", "none", "some")}
    for path in tables["some"]:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[table["signal"] > "0004", "correctness"] = ""
        table.to_csv(path, index=False)
    done = {split.split: split for split in infer(settings(tmp_path, tables)).done}
    assert done["none"].agreement is None
    assert done["all"].agreement.n_signals == 12
    assert done["some"].agreement.n_signals == 5
    assert all(len(read_scores(split.path)) == 12 for split in done.values())
    batch = load_batch(*tables["some"], COLUMNS)
    expected = agreement(100 * np.clip(forward(network, batch)[:5], 0, 1), 100 * batch.target[:5].double().numpy())
    assert done["some"].agreement.rmse == pytest.approx(expected.rmse, abs=1e-9)


def test_split_without_tables_is_named_and_the_others_run(tmp_path):
    wide_checkpoint(tmp_path)
    here = tables_of(tmp_path / "valid", 6)
    half = tables_of(tmp_path / "half", 6)
    half[1].unlink()
    tables = {"eval": (tmp_path / "gone_l.csv", tmp_path / "gone_r.csv"), "valid": here, "half": half}
    result = infer(settings(tmp_path, tables))
    assert [split.split for split in result.done] == ["valid"]
    assert len(result.missing) == 2
    for line, split, path in zip(result.missing, ("eval", "half"), ("gone_l.csv", "t_r.csv"), strict=True):
        assert f"split {split}: expected {tmp_path}" in line
        assert path in line
        for stage in ("metadata_to_csv.py", "whisper_inference.py", "compute_metrics.py"):
            assert stage in line
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["valid_inference.csv"]


def test_no_tables_at_all(tmp_path):
    gone = (tmp_path / "gone_l.csv", tmp_path / "gone_r.csv")
    with pytest.raises(UserError, match=r"split valid: expected .*gone_l.csv.*; split eval: expected .*gone_l.csv"):
        infer(settings(tmp_path, {"valid": gone, "eval": gone}))
    with pytest.raises(UserError, match=r"infer.splits: expected at least one split, found none"):
        infer(settings(tmp_path, {"valid": gone}, splits=()))


def test_unknown_split(tmp_path):
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6)}
    with pytest.raises(UserError, match=r"no tables for the split 'vaild' in the config; did you mean valid"):
        infer(settings(tmp_path, tables, splits=("valid", "vaild")))
    assert not list(tmp_path.glob("*.csv"))


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"expected the checkpoint .*model.pt, found none"):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6)}))


def test_tables_that_lack_a_feature(tmp_path):
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6, columns=["tiny", "stoi"])}
    with pytest.raises(UserError, match=r"columns pesq, .*python compute_metrics.py"):
        infer(settings(tmp_path, tables))


def test_weights_that_are_no_numbers(tmp_path):
    state = wide_checkpoint(tmp_path).state_dict()
    state["fc_out.bias"] = torch.tensor([float("nan")])
    save_checkpoint(tmp_path / "model.pt", Checkpoint(NetworkOptions(), COLUMNS, state))
    with pytest.raises(UserError, match=r"model.pt"):
        infer(settings(tmp_path, {"valid": tables_of(tmp_path / "valid", 6)}))


def test_written_scores(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    write_scores(path, ["0012", "a,b", "ü"], np.array([0.1234564, 100.0, 1e-9]))
    assert path.read_bytes() == '0012,0.123456\n"a,b",100.000000\nü,0.000000\n'.encode()
    with pytest.raises(ValueError, match="longer"):
        write_scores(path, ["0012"], np.array([1.0, 2.0]))
    assert path.read_bytes().startswith(b"0012,0.123456\n")
    assert [left.name for left in path.parent.iterdir()] == ["scores.csv"]


def whole_config() -> dict:
    return {
        "exp_name": "somewhere",
        "device": "cpu",
        "data": {"valid_path_l": "v\\l.csv", "valid_path_r": "v\\r.csv", "feature_cols": ["tiny"]},
        "train": {"save_dir": "checkpoints\\somewhere"},
        "infer": {"splits": ["valid"], "output_name": {"valid": "x.csv"}},
    }


def test_infer_config():
    config = infer_config(whole_config(), Path("here"))
    assert config.data.tables == {"valid": (Path("v/l.csv"), Path("v/r.csv"))}
    assert config.infer == InferOptions(("valid",), True, True)
    assert config.output_name == {"valid": "x.csv"}
    assert config.device == "cpu"


@pytest.mark.parametrize(
    ("overridden", "folder"),
    [
        ((), "here"),
        (("infer.splits", "data.valid_path_l", "train.epochs"), "here"),
        (("exp_name",), "checkpoints/somewhere"),
        (("infer.splits", "train.save_dir"), "checkpoints/somewhere"),
    ],
)
def test_folder_is_the_configs_own_until_the_user_says_otherwise(overridden, folder):
    assert infer_config(whole_config(), Path("here"), overridden).folder == Path(folder)


def test_folder_of_a_config_without_section_train():
    config = {key: value for key, value in whole_config().items() if key != "train"}
    assert infer_config(config, Path("here"), ("exp_name",)).folder == Path("here")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"infer": {"splits": 3}}, "infer.splits: expected a list of names"),
        ({"infer": {"clamp_scores": "often"}}, "infer.clamp_scores: expected bool, found 'often'"),
        ({"model": {"d_model": None}}, "model.d_model: expected int"),
        ({"data": {"feature_cols": ["tiny"], "eval_path_l": "l.csv"}}, "only one for the split eval"),
        ({"infer": 5}, "infer: expected a mapping"),
        ({"train": 5}, "train: expected a mapping"),
        ({"data": 5}, "data: expected a mapping"),
        ({"infer": {"output_name": 5}}, "infer.output_name: expected a mapping"),
        ({"infer": {"output_name": {"valid": None}}}, "infer.output_name.valid: expected a file name"),
    ],
    ids=str,
)
def test_infer_config_refuses(changes, says):
    with pytest.raises(UserError, match=says):
        infer_config({**whole_config(), **changes}, Path("here"))


def test_self_describing_checkpoint_needs_no_section_model(tmp_path):
    """A config beside it may say nothing of the network, or something else."""
    wide_checkpoint(tmp_path)
    tables = {"valid": tables_of(tmp_path / "valid", 6)}
    config = InferConfig(tmp_path, DataOptions(COLUMNS, tables), SMALL, InferOptions(("valid",)), {}, "cpu")
    (split,) = infer(config).done
    loaded = load_checkpoint(tmp_path / "model.pt", NetworkOptions(), COLUMNS)
    expected = 100 * np.clip(forward(loaded.network(), load_batch(*tables["valid"], COLUMNS)), 0, 1)
    np.testing.assert_array_equal(split.scores, expected)
