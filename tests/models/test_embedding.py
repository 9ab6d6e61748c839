"""scow.models.embedding against a singular value decomposition, and models that take embeddings."""

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_response_tables

from scow.data.embeddings import embeddings_path, write_embeddings
from scow.errors import UserError
from scow.models.checkpoint import load_checkpoint, save_checkpoint
from scow.models.config import SentenceModelConfig, WordModelConfig
from scow.models.embedding import Reduction
from scow.models.inputs import ModelInput, load_input
from scow.models.model import FitSetup
from scow.models.word_model import SentenceModel, WordModel

N, WIDTH = 36, 10
COLUMNS = ("tiny.en", "base")


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Tables whose embeddings follow the correctness in one direction; signal 3 has none in the right channel."""
    paths, _ = make_response_tables(tmp_path, N, COLUMNS)
    truth = load_input(*paths, COLUMNS).target.numpy()
    direction = np.random.default_rng(7).normal(size=(2, WIDTH // 2))
    for i, path in enumerate(paths):
        for column in COLUMNS:
            rng = np.random.default_rng([i, len(column)])
            vectors = (truth[:, None, None] - 0.5) * direction + 0.1 * rng.normal(size=(N, 2, WIDTH // 2))
            some = {f"{k:04d}": vectors[k].astype(np.float32) for k in range(N) if (i, k) != (1, 3)}
            write_embeddings(embeddings_path(path, column), "0" * 64, some)
    return paths


@pytest.fixture
def inputs(tables: tuple[Path, Path]) -> ModelInput:
    return load_input(*tables, COLUMNS, with_embeddings=True)


def test_load_input_with_embeddings(inputs: ModelInput, tables: tuple[Path, Path]) -> None:
    assert inputs.embeddings.shape == (N, 2, 2 * WIDTH)
    assert inputs.embeddings.isnan().any(dim=2).nonzero().tolist() == [[3, 1]]
    assert inputs.empty == {"embedding": 1}
    embeddings_path(tables[1], "base").unlink()
    with pytest.raises(UserError, match=r"t_r\.base\.embeddings\.npz: expected embeddings of stage 2 .* found none"):
        load_input(*tables, COLUMNS, with_embeddings=True)
    path, one = embeddings_path(tables[1], "base"), np.zeros((1, 2, 5), np.float32)
    write_embeddings(path, "0" * 64, {"0000": one[0]})
    whole = path.read_bytes()
    array, empty, strange = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, one)
    np.savez(empty, signals=np.array([], "U4"), embeddings=one[:0], sha256="")
    np.savez(strange, signals=np.array([["a"]], object), embeddings=one, sha256="")
    damaged = [b"", b"PK\x03\x04 no archive", whole[:-30], whole.replace(b"\0" * 24, b"\1" * 24)]
    for content in (*damaged, array.getvalue(), empty.getvalue(), strange.getvalue()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"expected embeddings of stage 2 .* found (another file|other arrays)"):
            load_input(*tables, COLUMNS, with_embeddings=True)


@pytest.mark.parametrize(("ear", "channels"), [("both", [0, 1]), ("right", [1])])
def test_reduction_is_the_principal_components(inputs: ModelInput, ear: str, channels: list[int]) -> None:
    config = WordModelConfig(embeddings=True, components=3, ear=ear)
    found = np.stack([*Reduction.fit(inputs, config, seed=0).features(inputs).values()], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a signal without embeddings
        values = np.nanmean(inputs.embeddings.numpy()[:, channels].astype(np.float64), axis=1)
    known = np.isfinite(values).all(axis=1)
    standard = (values - values[known].mean(axis=0)) / values[known].std(axis=0)
    u, s, _ = np.linalg.svd(standard[known], full_matrices=False)
    expected = u[:, :3] * np.sqrt(known.sum() - 1)  # unit variance
    assert s[2] / s[3] > 1.01  # the third component is well defined
    # The signs of components are arbitrary; float32 embeddings and a randomised solver.
    np.testing.assert_allclose(np.abs(found[known]), np.abs(expected), rtol=0, atol=0.02)
    assert (found[~known] == 0).all()
    assert known.all() == (ear == "both")  # of the other signal, one channel is enough


@pytest.mark.parametrize(
    ("model_class", "config"),
    [(WordModel, WordModelConfig(embeddings=True)), (SentenceModel, SentenceModelConfig(embeddings=True))],
)
def test_models_take_embeddings(
    inputs: ModelInput, tmp_path: Path, model_class: type[WordModel], config: WordModelConfig
) -> None:
    setup = FitSetup(inputs.prompts, seed=0)
    rest, held = torch.arange(0, N, 2), inputs.take(torch.arange(1, N, 2))
    model = model_class.fit(inputs.take(rest), config, setup)
    plain = model_class.fit(inputs.take(rest), replace(config, embeddings=False), setup)
    truth = held.target.numpy()
    errors = [np.abs(one.predict(held).correctness - truth).mean() for one in (model, plain)]
    assert errors[0] < errors[1]
    save_checkpoint(tmp_path / "model.pt", model, {})
    loaded, _ = load_checkpoint(tmp_path / "model.pt", config, COLUMNS)
    np.testing.assert_array_equal(loaded.predict(held).correctness, model.predict(held).correctness)
    with pytest.raises(UserError, match="expected tables with embeddings, found none"):
        model.predict(replace(held, embeddings=torch.zeros(0)))
    with pytest.raises(UserError, match="expected 20 numbers, found 4"):
        model.predict(replace(held, embeddings=held.embeddings[..., :4]))
