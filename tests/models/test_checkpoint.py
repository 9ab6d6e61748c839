"""scow.models.checkpoint: our own files, published state dicts, and files that are neither."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, make_tables
from reference_transformer import FLOAT32, PUBLISHED_SHAPES, random_state, reference_share

from scow.errors import UserError
from scow.io import read_yaml
from scow.models.checkpoint import FORMAT, checkpoint_facts, fingerprint, load_checkpoint, save_checkpoint
from scow.models.config import TransformerConfig, WordModelConfig, data_options, model_config
from scow.models.inputs import load_input
from scow.models.transformer import Transformer

FEATURES = (
    *("n_words", "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
    *("large", "large-v2", "large-v3", "large-v3-turbo", "stoi", "estoi", "pesq", "dns_sig", "dns_bak", "dns_ovrl"),
)
FEW = ("n_words", "tiny", "stoi")
SMALL = TransformerConfig(d_model=8, nhead=2, dropout=0.2)
FACTS = {"seed": 0, "val_r": None, "versions": {"torch": "2"}}


def small() -> Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Transformer(SMALL, FEW)


def content() -> dict:
    """What the file format is; tests change one thing of it."""
    return {
        "format": FORMAT,
        "model": {"name": "published", "d_model": 8, "nhead": 2, "num_layers": 1, "dropout": 0.2, "n_hearing": 3},
        "feature_cols": list(FEW),
        "state_dict": small().state_dict(),
        "facts": FACTS,
    }


def refused(path: Path, words: str, config=SMALL, feature_cols: tuple[str, ...] = FEW) -> None:
    """It is refused in one line that names the file."""
    with pytest.raises(UserError, match=words) as caught:
        load_checkpoint(path, config, feature_cols)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("new_format", [True, False])  # False: the format before torch 1.6
def test_published_state_dict_against_reference(tmp_path, new_format):
    state = random_state(11)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == PUBLISHED_SHAPES
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=new_format)
    checkpoint = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), FEATURES)
    assert (checkpoint.model.feature_cols, checkpoint.facts) == (FEATURES, {})
    inputs = load_input(*make_tables(tmp_path, 12), FEATURES)
    expected = [
        reference_share(state, *inputs.features[i, :, : int(inputs.n_rows[i])].numpy(), int(inputs.hearing_loss[i]))
        for i in range(len(inputs))
    ]
    assert np.std(expected) > 0.02
    np.testing.assert_allclose(checkpoint.model.predict(inputs).correctness, expected, rtol=0, atol=FLOAT32)


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "model.pt"
    save_checkpoint(path, small(), FACTS)
    assert torch.load(path, weights_only=True).keys() == content().keys()
    inputs = load_input(*make_tables(tmp_path, 6), FEW)
    # The config is that of the file, whatever the config beside it holds; features may be left to the file.
    for config, feature_cols in ((SMALL, FEW), (TransformerConfig(num_layers=3), ()), (WordModelConfig(), FEW)):
        loaded = load_checkpoint(path, config, feature_cols)
        assert (loaded.model.config, loaded.model.feature_cols, loaded.facts) == (SMALL, FEW, FACTS)
        np.testing.assert_array_equal(loaded.model.predict(inputs).correctness, small().predict(inputs).correctness)
    assert checkpoint_facts(path) == FACTS
    torch.save(content(), path)
    assert load_checkpoint(path, SMALL, FEW).model.config == SMALL


def test_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, small(), FACTS)
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, small(), {"why": lambda: None})
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["model.pt"]


def test_load_refuses_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    refused(path, "found none")
    assert checkpoint_facts(path) == {}
    save_checkpoint(path, small(), FACTS)
    ours = path.read_bytes()
    torch.save(random_state(0, n_features=3), path, _use_new_zipfile_serialization=False)
    theirs = path.read_bytes()
    pieces = [
        whole[: int(share * len(whole))] for whole in (ours, theirs) for share in (0, 1e-4, 1e-3, 0.01, 0.5, 0.99)
    ]
    for piece in (
        *pieces,
        b"<!DOCTYPE html>\n",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x80\x02}q\x00.",
        b".",
    ):
        path.write_bytes(piece)
        refused(path, "expected a checkpoint")
    for tensors in ({}, [1, 2], torch.zeros(3), {"state_dict": {}}, {"cls_token": 1}, {"format": "another/3"}):
        torch.save(tensors, path)
        refused(path, "expected a checkpoint of this project or a published state dict, found neither")
    path.unlink()
    path.mkdir()
    refused(path, "expected a checkpoint")


class Malice:
    """Would make a folder as it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
@pytest.mark.parametrize("where", ["top", "state", "facts"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, write, where):
    target = tmp_path / "executed"
    trap = Malice(target)
    contents = {
        "top": trap,
        "state": {**random_state(0, n_features=3), "fc_out.bias": trap},
        "facts": {**content(), "facts": {"x": trap}},
    }
    write(contents[where], tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "expected a checkpoint of tensors and plain values", TransformerConfig())
    assert not target.exists()
    pickle.loads(pickle.dumps(contents[where]))  # the trap is live: any other way of loading springs it
    assert target.exists()


def test_load_refuses_state_dicts_that_do_not_fit(tmp_path):
    path, state = tmp_path / "model.pt", random_state(0, n_features=3)
    changes = [{"d_model": 32}, {"num_layers": 2}, {"n_hearing": 4}]
    for config in (TransformerConfig(**change) for change in changes):
        torch.save(state, path)
        refused(path, "fits the config", config)
    refused(path, "model.name: expected published", WordModelConfig())
    refused(path, "expected 3 features, found 2", TransformerConfig(), FEW[:2])
    torch.save({name: tensor for name, tensor in state.items() if name != "fc_out.bias"}, path)
    refused(path, r"fc_out\.bias", TransformerConfig())
    torch.save({**state, "extra": torch.zeros(1)}, path)
    refused(path, "extra", TransformerConfig())
    torch.save({**state, "fc_out.bias": torch.tensor([torch.nan])}, path)
    refused(path, "finite numbers", TransformerConfig())


def test_load_refuses_other_features_than_the_config(tmp_path):
    save_checkpoint(tmp_path / "model.pt", small(), FACTS)
    for columns in (("n_words", "stoi", "tiny"), ("n_words", "tiny"), ("n_words", "tiny", "pesq")):
        words = f"data.feature_cols: expected n_words, tiny, stoi.* found {', '.join(columns)}"
        refused(tmp_path / "model.pt", words, feature_cols=columns)


@pytest.mark.parametrize("part", ["model", "feature_cols", "state_dict", "facts"])
def test_load_refuses_incomplete_files(tmp_path, part):
    whole = content()
    del whole[part]
    torch.save(whole, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", part)
    torch.save({**content(), part: 3}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "fits the config")


@pytest.mark.parametrize("changes", [{"name": "deeper"}, {"width": 3}, {"dropout": 2.0}, {"d_model": "wide"}], ids=str)
def test_load_refuses_unknown_descriptions(tmp_path, changes):
    whole = content()
    whole["model"].update(changes)
    torch.save(whole, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", next(iter(changes)))


def test_fingerprint():
    ids = ["0007", "0001", "0042"]
    assert fingerprint(ids) == fingerprint(sorted(ids)) == fingerprint(iter(ids[::-1]))
    others = [["0007", "0001"], ["7", "1", "42"], ["0007", "0001", "0043"], ["00070001", "0042"]]
    assert len({fingerprint(ids), *map(fingerprint, others)}) == 5


@pytest.mark.parametrize("name", ["final", "lite", "published", "small", "turbo"])
def test_shipped_checkpoint(tmp_path, name):
    folder = ROOT / "checkpoints" / name
    config = read_yaml(folder / "config.yaml")
    feature_cols, section = data_options(config["data"]).feature_cols, model_config(config["model"])
    checkpoint = load_checkpoint(folder / "model.pt", section, feature_cols)
    assert (checkpoint.model.feature_cols, checkpoint.model.config) == (feature_cols, section)
    correctness = checkpoint.model.predict(load_input(*make_tables(tmp_path, 18), feature_cols)).correctness
    assert np.isfinite(correctness).all()
    assert np.std(correctness) > 0
    assert {"trained_on", "n_signals", "seed", "target", "versions"} <= checkpoint.facts.keys()
    if checkpoint.model.predicts_words:
        assert checkpoint.facts["grouped_by"] == "track"
        assert (np.diff(checkpoint.model.quantiles, axis=1) >= 0).all()
        assert bool(checkpoint.model.optional_cols) == ("dns_sig" in feature_cols)


def test_load_refuses_damaged_word_models(tmp_path):
    """Parts that are missing, unknown or of another shape."""
    folder = ROOT / "checkpoints" / "final"
    feature_cols = data_options(read_yaml(folder / "config.yaml")["data"]).feature_cols
    path = tmp_path / "model.pt"
    for name in (
        "full.weight",
        "without_dnsmos.mean",
        "prior.identity_weights",
        "prior.dense_mean",
        "interval.quantiles",
    ):
        for change in ("missing", "shape"):
            whole = torch.load(folder / "model.pt", weights_only=True)
            tensor = whole["state_dict"].pop(name)
            if (name, change) == ("interval.quantiles", "missing"):
                continue  # a model without intervals
            if change == "shape":
                whole["state_dict"][name] = tensor[:-1]
            torch.save(whole, path)
            refused(path, "fits the config", WordModelConfig(), feature_cols)
