"""scow.models.checkpoint: our own files, published state dicts, and files that are neither."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import REFUSALS, ROOT, make_tables, refusal
from reference_transformer import PUBLISHED_FEATURES, PUBLISHED_SHAPES, network_of, random_state

from scow.errors import UserError
from scow.io import read_yaml, sha256_of
from scow.models.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from scow.models.config import TransformerConfig, WordModelConfig, data_options, model_config
from scow.models.facts import read_facts
from scow.models.inputs import load_input
from scow.models.transformer import Transformer

FEW = ("n_words", "tiny", "stoi")
SMALL = TransformerConfig(d_model=8, nhead=2, dropout=0.2)
FACTS = {"seed": 0, "val_r": [None], "versions": {"torch": "2"}}


def small() -> Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Transformer(SMALL, FEW)


def content(**changes: object) -> dict:
    """What the file format is, with changes; None drops a part."""
    model = {"name": "published", "d_model": 8, "nhead": 2, "num_layers": 1, "dropout": 0.2, "n_hearing": 3}
    whole = {"format": FORMAT, "model": model, "feature_cols": list(FEW), "state_dict": small().state_dict()}
    return {key: part for key, part in (whole | {"facts": FACTS} | changes).items() if part is not None}


def refused(path: Path, words: str, config=SMALL, feature_cols: tuple[str, ...] = FEW) -> None:
    """It is refused in one line that names the file."""
    with refusal(f"{path}.*({words})"):
        load_checkpoint(path, config, feature_cols)


@pytest.mark.parametrize("new_format", [True, False])  # False: the format before torch 1.6
def test_published_state_dict(tmp_path, new_format):
    state = random_state(11)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == PUBLISHED_SHAPES
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=new_format)
    model, facts = load_checkpoint(tmp_path / "model.pt", TransformerConfig(), PUBLISHED_FEATURES)
    assert (model.feature_cols, facts) == (PUBLISHED_FEATURES, {})
    inputs = load_input(*make_tables(tmp_path, 12), PUBLISHED_FEATURES)
    np.testing.assert_array_equal(model.predict(inputs).correctness, network_of(state).predict(inputs).correctness)


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "model.pt"
    refused(path, "found none")
    save_checkpoint(path, small(), FACTS)
    save_checkpoint(path.with_name("again.pt"), small(), FACTS)
    assert path.with_name("again.pt").read_bytes() == path.read_bytes()
    assert torch.load(path, weights_only=True).keys() == content().keys() | {"sha256"}
    inputs = load_input(*make_tables(tmp_path, 6), FEW)
    # The config is that of the file, whatever the config beside it holds; features may be left to the file.
    for config, feature_cols in ((SMALL, FEW), (TransformerConfig(num_layers=3), ()), (WordModelConfig(), FEW)):
        loaded, facts = load_checkpoint(path, config, feature_cols)
        assert (loaded.config, loaded.feature_cols, facts) == (SMALL, FEW, FACTS)
        np.testing.assert_array_equal(loaded.predict(inputs).correctness, small().predict(inputs).correctness)
    assert read_facts(path) == FACTS
    torch.save(content(), path)
    assert load_checkpoint(path, SMALL, FEW)[0].config == SMALL


class Malice:
    """Would make a folder as it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("where", ["top", "state", "facts"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, as_zip, where):
    target = tmp_path / "executed"
    trap = Malice(target)
    contents = {
        "top": trap,
        "state": {**random_state(0, n_features=3), "fc_out.bias": trap},
        "facts": {**content(), "facts": {"x": trap}},
    }
    if as_zip:
        torch.save(contents[where], tmp_path / "model.pt")
    else:
        (tmp_path / "model.pt").write_bytes(pickle.dumps(contents[where], protocol=2))
    refused(tmp_path / "model.pt", "expected a checkpoint of tensors and plain values", TransformerConfig())
    assert not target.exists()
    pickle.loads(pickle.dumps(contents[where]))  # the trap is live: any other way of loading springs it
    assert target.exists()


@pytest.mark.parametrize("name", ["final", "lite", "published", "small", "turbo"])
def test_shipped_checkpoint(tmp_path, name):
    folder = ROOT / "checkpoints" / name
    config = read_yaml(folder / "config.yaml")
    feature_cols, section = data_options(config["data"]).feature_cols, model_config(config["model"])
    model, facts = load_checkpoint(folder / "model.pt", section, feature_cols)
    assert (model.feature_cols, model.config) == (feature_cols, section)
    correctness = model.predict(load_input(*make_tables(tmp_path, 18), feature_cols)).correctness
    assert np.isfinite(correctness).all()
    assert np.std(correctness) > 0
    assert {"trained_on", "n_signals", "seed", "target", "versions"} <= facts.keys()
    if model.predicts_words:
        assert facts["grouped_by"] == "track"
        assert (np.diff(model.quantiles, axis=1) >= 0).all()
        assert bool(model.optional_cols) == ("dns_sig" in feature_cols)


def published(**changes: object) -> dict:
    """A published state dict of three features; None drops a tensor."""
    state = random_state(0, n_features=3) | {name.replace("_out_", "_out."): value for name, value in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


BIAS = torch.zeros(1)
STRANGE_TENSORS = (BIAS.bool(), BIAS.to(torch.complex64), BIAS.to_sparse(), BIAS.expand(10**12), 3)
WORD = WordModelConfig()


@pytest.mark.parametrize(
    ("saved", "config", "words"),
    [
        *[(saved, SMALL, "fits the config") for saved in ({}, [1, 2], BIAS, {"cls_token": 1})],
        *[(content(**{part: None}), SMALL, part) for part in ("model", "feature_cols", "state_dict", "facts")],
        *[(content(**{part: 3}), SMALL, "fits the config") for part in ("model", "feature_cols", "state_dict")],
        (content(feature_cols=["tiny", "n_words", "stoi"]), SMALL, "data.feature_cols"),
        (content(model={**content()["model"], "name": "deeper"}), SMALL, "deeper"),
        (content(model={**content()["model"], "dropout": 2.0}), SMALL, "dropout"),
        *[(published(), TransformerConfig(d_model=size), "fits the config") for size in (32, 1024)],
        *[(published(), TransformerConfig(num_layers=n), "fits the config") for n in (2, 16)],
        (published(), WORD, "model.name: expected published"),
        (random_state(0, n_features=2), TransformerConfig(), "expected 2 features, found 3"),
        (published(fc_out_bias=None), TransformerConfig(), r"fc_out\.bias"),
        (published(extra=BIAS), TransformerConfig(), "extra"),
        (published(fc_out_bias=BIAS * torch.nan), TransformerConfig(), "finite numbers"),
        *[(published(fc_out_bias=tensor), TransformerConfig(), "fits the config") for tensor in STRANGE_TENSORS],
    ],
)
def test_load_refuses_other_content(tmp_path, saved, config, words):
    torch.save(saved, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", words, config)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        *[(part, lambda tensor: tensor[:1]) for part in ("full.mean", "prior.dense_scale")],
        *[(part, lambda tensor: 0 * tensor) for part in ("full.scale", "prior.dense_scale")],
        *[("prior.identities", change) for change in (torch.Tensor.double, lambda tensor: tensor.flip(0))],
        ("interval.quantiles", lambda tensor: tensor.flip(1)),
    ],
)
def test_load_refuses_a_word_model_of_other_shapes_types_and_values(tmp_path, part, change):
    whole = torch.load(ROOT / "checkpoints" / "lite" / "model.pt", weights_only=True)
    whole["state_dict"][part] = change(whole["state_dict"][part])
    torch.save(whole | {"sha256": None}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "fits the config.*(shape|size|int64|positive|rising|ascending)", WORD, ("tiny.en",))


def mutants(whole: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Files with a flipped bit, cut off, or with two members swapped or one left out, under right checksums."""
    for place in rng.integers(len(whole), size=150):
        yield whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1 :]
        if place % 5 == 0:
            yield whole[:place]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(80):
        name, other = rng.choice(list(members), 2, replace=False)
        fewer = {key: value for key, value in members.items() if key != name}
        for content in (members | {name: members[other], other: members[name]}, fewer):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for member, data in content.items():
                    archive.writestr(member, data)
            yield buffer.getvalue()


@pytest.mark.slow
def test_a_damaged_file_is_refused_or_scores_alike(tmp_path):
    """Also `read_facts` gives the facts or none."""
    path = tmp_path / "model.pt"
    model, facts = load_checkpoint(ROOT / "checkpoints" / "lite" / "model.pt", WORD, ("tiny.en",))
    save_checkpoint(path, model, facts)
    inputs = load_input(*make_tables(tmp_path, 6), ("tiny.en",))
    expected, n_refused = model.predict(inputs).correctness, 0
    for mutant in mutants(path.read_bytes(), np.random.default_rng(0)):
        path.write_bytes(mutant)
        assert read_facts(path) in ({}, facts)
        try:
            loaded, _ = load_checkpoint(path, WORD, ("tiny.en",))
        except UserError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(loaded.predict(inputs).correctness, expected)
    assert n_refused > 150


@pytest.mark.parametrize("facts", REFUSALS["facts"])
def test_load_refuses_facts_of_other_kinds(tmp_path, facts):
    torch.save(content(facts=facts), tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "facts about a training")
    assert read_facts(tmp_path / "model.pt") == {}
    (tmp_path / "model.json").write_text(json.dumps({"sha256": sha256_of(tmp_path / "model.pt"), "facts": facts}))
    assert read_facts(tmp_path / "model.pt") == {}


def test_load_verifies_the_checksums_of_a_published_file(tmp_path):
    torch.save(published(), tmp_path / "model.pt")
    whole = bytearray((tmp_path / "model.pt").read_bytes())
    whole[whole.index(published()["linear_in.weight"].numpy().tobytes()[:64]) + 1] ^= 1  # hardly changes a weight
    (tmp_path / "model.pt").write_bytes(whole)
    refused(tmp_path / "model.pt", "damaged", TransformerConfig())
