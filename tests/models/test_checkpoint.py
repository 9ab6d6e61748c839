"""scow.models.checkpoint: our own files, published state dicts, and files that are neither."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, make_tables
from test_model import FLOAT32, PUBLISHED_SHAPES, random_state, reference_share
from test_model import one_thread as one_thread  # for every test here

from scow.errors import UserError
from scow.io import read_yaml
from scow.models.checkpoint import FORMAT, Checkpoint, fingerprint, load_checkpoint, model_options, save_checkpoint
from scow.models.inputs import data_options, load_input
from scow.models.prediction import forward, to_scores
from scow.models.transformer import Transformer, TransformerConfig
from scow.models.word_model import WordModelConfig

FEATURES = (
    *("n_words", "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
    *("large", "large-v2", "large-v3", "large-v3-turbo", "stoi", "estoi", "pesq", "dns_sig", "dns_bak", "dns_ovrl"),
)
FEW = ("n_words", "tiny", "stoi")
SMALL = TransformerConfig(d_model=8, nhead=2, dropout=0.2)


def small_checkpoint(seed: int = 0) -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Transformer(len(FEW), SMALL)
    return Checkpoint(SMALL, FEW, network.state_dict(), {"seed": seed, "val_r": None, "versions": {"torch": "2"}})


def test_published_state_dict_predicts_as_the_reference_does(tmp_path):
    state = random_state(11)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == PUBLISHED_SHAPES
    torch.save(state, tmp_path / "model.pt")
    checkpoint = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), FEATURES)
    assert checkpoint.feature_cols == FEATURES
    assert checkpoint.options == TransformerConfig()
    assert checkpoint.facts == {}
    batch = load_input(*make_tables(tmp_path, 12), checkpoint.feature_cols)
    expected = [
        reference_share(state, *batch.features[i, :, : int(batch.n_rows[i])].numpy(), severity=int(batch.severity[i]))
        for i in range(len(batch))
    ]
    assert np.std(expected) > 0.02
    np.testing.assert_allclose(forward(checkpoint.network(), batch), expected, rtol=0, atol=FLOAT32)


def test_published_state_dict_of_two_layers(tmp_path):
    torch.save(random_state(12, n_features=3, num_layers=2), tmp_path / "model.pt")
    checkpoint = load_checkpoint(tmp_path / "model.pt", TransformerConfig(num_layers=2), FEW)
    assert len(checkpoint.network().transformer_r.layers) == 2


def test_round_trip(tmp_path):
    saved = small_checkpoint()
    save_checkpoint(tmp_path / "new" / "model.pt", saved)
    # Options are those of the file, whatever the config says; features may be left to the file.
    for options, feature_cols in ((SMALL, FEW), (TransformerConfig(), ()), (TransformerConfig(num_layers=3), FEW)):
        loaded = load_checkpoint(tmp_path / "new" / "model.pt", options, feature_cols)
        assert loaded.options == SMALL
        assert loaded.feature_cols == FEW
        assert loaded.facts == saved.facts
        assert loaded.state.keys() == saved.state.keys()
        assert all(torch.equal(loaded.state[name], saved.state[name]) for name in saved.state)
    assert not loaded.network().training
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt"]


def test_failed_save_leaves_what_was_there(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, small_checkpoint())
    before = path.read_bytes()
    unpicklable = Checkpoint(SMALL, FEW, small_checkpoint(1).state, {"why": lambda: None})
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, unpicklable)
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["model.pt"]


def test_save_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*model.pt"):
        save_checkpoint(tmp_path / "file" / "model.pt", small_checkpoint())


def refused(path: Path, says: str, options: TransformerConfig = SMALL, feature_cols: tuple[str, ...] = FEW) -> None:
    """It is refused in one line that names the file, and nothing is left behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError, match=says) as caught:
        load_checkpoint(path, options, feature_cols)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_missing_file(tmp_path):
    refused(tmp_path / "model.pt", "found none; train it with train.py")


def test_folder_in_its_place(tmp_path):
    (tmp_path / "model.pt").mkdir()
    refused(tmp_path / "model.pt", "does not load")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_file(tmp_path, share):
    path = tmp_path / "model.pt"
    save_checkpoint(path, small_checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "does not load as one; fetch it again")


def test_truncated_file_in_the_older_format(tmp_path):
    """The format before torch 1.6, which a published state dict may have."""
    path = tmp_path / "model.pt"
    torch.save(random_state(0, n_features=3), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for size in range(1, 600, 7):
        path.write_bytes(whole[:size])
        refused(path, "does not load as one; fetch it again")


def test_older_format_loads(tmp_path):
    state = random_state(0, n_features=3)
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    loaded = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), FEW)
    assert all(torch.equal(loaded.state[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2396565\n",
        b"\x80\x02}q\x00.",
        b"exp_name: final\n",
        b"signal,score\n0001,50.0\n",
        b".",
    ],
)
def test_another_kind_of_file(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    refused(tmp_path / "model.pt", "expected a checkpoint")


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
    content: object = Malice(target)
    if where == "state":
        content = {**random_state(0, n_features=3), "fc_out.bias": content}
    if where == "facts":
        content = {"format": FORMAT, "feature_cols": list(FEW), "facts": {"x": content}}
    write(content, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "does not load", TransformerConfig())
    assert not target.exists()
    pickle.loads(pickle.dumps(content))  # the trap is live: any other way of loading springs it
    assert target.exists()


def test_other_features_than_the_config(tmp_path):
    save_checkpoint(tmp_path / "model.pt", small_checkpoint())
    for columns in (("n_words", "stoi", "tiny"), ("n_words", "tiny"), ("n_words", "tiny", "pesq")):
        says = f"trained on the features n_words, tiny, stoi, but data.feature_cols .* says {', '.join(columns)};"
        refused(tmp_path / "model.pt", says, feature_cols=columns)


def test_published_state_dict_of_another_width(tmp_path):
    torch.save(random_state(0), tmp_path / "model.pt")
    says = "takes 19 features, but data.feature_cols names 3"
    refused(tmp_path / "model.pt", says, TransformerConfig())


@pytest.mark.parametrize(
    "options",
    [
        TransformerConfig(d_model=32),
        TransformerConfig(num_layers=2),
        TransformerConfig(num_layers=0),
        TransformerConfig(n_hearing=4),
        TransformerConfig(nhead=5),
        TransformerConfig(d_model=63, nhead=3),
        TransformerConfig(dropout=2.0),
        TransformerConfig(nhead=0),
        TransformerConfig(d_model=0),
    ],
    ids=str,
)
def test_section_model_that_does_not_fit(tmp_path, options):
    torch.save(random_state(0, n_features=3), tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "does not fit the section model of the config", options)


def test_weight_that_is_missing_or_too_many(tmp_path):
    state = random_state(0, n_features=3)
    torch.save({name: tensor for name, tensor in state.items() if name != "fc_out.bias"}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "does not fit .*fc_out.bias", TransformerConfig())
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "does not fit .*extra", TransformerConfig())


@pytest.mark.parametrize(
    "content",
    [{}, [1, 2], torch.zeros(3), {"state_dict": {}}, {"cls_token": 1}, {"format": "somebody-elses/3"}],
    ids=["empty", "list", "tensor", "wrapped", "no tensor", "other format"],
)
def test_tensors_that_are_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "expected a checkpoint of this project or a published state dict, found neither")


def described(change: Callable[[dict], object]) -> dict:
    checkpoint = small_checkpoint()
    content = {
        "format": FORMAT,
        "model": {"name": "published", "d_model": 8, "nhead": 2, "num_layers": 1, "dropout": 0.2, "n_hearing": 3},
        "feature_cols": list(FEW),
        "state_dict": checkpoint.state,
        "facts": {},
    }
    change(content)
    return content


def test_description_written_out_here_loads(tmp_path):
    """What the file format is: the tests below change one thing of it."""
    torch.save(described(lambda content: None), tmp_path / "model.pt")
    assert load_checkpoint(tmp_path / "model.pt", TransformerConfig(), FEW).options == SMALL


def test_model_of_a_later_version(tmp_path):
    torch.save(described(lambda content: content["model"].update(name="deeper")), tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "expected a model named published or word, found 'deeper'; update this software")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("model"),
        lambda content: content.pop("feature_cols"),
        lambda content: content.pop("state_dict"),
        lambda content: content.pop("facts"),
        lambda content: content["model"].update(width=3),
        lambda content: content["model"].update(dropout=2.0),
        lambda content: content["state_dict"].update({"linear_in.weight": torch.zeros(3)}),
    ],
    ids=["no model", "no features", "no weights", "no facts", "new option", "dropout", "flat weight"],
)
def test_incomplete_description(tmp_path, change):
    torch.save(described(change), tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "model.pt")


def test_fingerprint_is_of_the_set_of_signals():
    ids = ["0007", "0001", "0042"]
    assert fingerprint(ids) == fingerprint(sorted(ids)) == fingerprint(iter(ids[::-1]))
    others = [["0007", "0001"], ["7", "1", "42"], ["0007", "0001", "0043"], ["00070001", "0042"]]
    assert len({fingerprint(ids), *map(fingerprint, others)}) == 5
    assert not any(signal in fingerprint(ids) for signal in ids)


def shipped() -> list[str]:
    """Names of the checkpoints that are part of the project, whether or not their weights are there yet."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "checkpoints/*/model.pt"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):  # an archive without git
        listed = ""
    return sorted(
        {"published", "final", "turbo", "small", "lite"} | {Path(line).parent.name for line in listed.splitlines()}
    )


@pytest.mark.parametrize("name", shipped())
def test_shipped_checkpoint(tmp_path, name):
    folder = ROOT / "checkpoints" / name
    if not (folder / "model.pt").is_file():
        pytest.skip(f"checkpoints/{name}/model.pt is not there yet")
    config = read_yaml(folder / "config.yaml")
    data = data_options(config["data"])
    options = model_options(config["model"])
    assert isinstance(options, TransformerConfig if name == "published" else WordModelConfig)
    checkpoint = load_checkpoint(folder / "model.pt", options, data.feature_cols)
    assert checkpoint.feature_cols == data.feature_cols
    assert checkpoint.options == options
    batch = load_input(*make_tables(tmp_path, 18), checkpoint.feature_cols)
    correctness = checkpoint.predict(batch).correctness
    assert np.isfinite(correctness).all()
    assert np.std(correctness) > 0
    scores = to_scores(correctness)
    assert scores.min() >= 0
    assert scores.max() <= 100
    # Without weights of tracked training there would be no telling what it was made of.
    assert {"trained_on", "n_signals", "seed", "target", "versions"} <= checkpoint.facts.keys()
    if name != "published":
        assert checkpoint.facts["grouped_by"] == "track"
        model = checkpoint.word_model()
        assert model.prior is not None
        assert model.quantiles.shape == (3, 99)
        assert (np.diff(model.quantiles, axis=1) >= 0).all()
        assert ("without_dnsmos" in model.heads) == ("dns_sig" in checkpoint.feature_cols)
