"""The published network for tests: its state dict with random weights, a second implementation in float64, inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from helpers import golden, make_tables, write_features
from scipy.special import softmax

from scow.data.metadata import SignalRecord, metadata_table
from scow.data.tables import HEARING_LOSSES, with_sentence_rows
from scow.models.checkpoint import save_checkpoint
from scow.models.config import TrainOptions, TransformerConfig
from scow.models.inputs import ModelInput, load_input
from scow.models.transformer import Transformer

# The published state dict, as its documentation has it: 19 features, 64 dimensions, one layer per channel.
PUBLISHED_SHAPES = {name: tuple(shape) for name, shape in golden("published_shapes.json").items()}

# float32 against float64 through some 2,000-wide sums: differences of about 3e-7 are measured; a wrong mask, order,
# scale or activation is off by more than 1e-3.
FLOAT32 = 1e-5


def sinusoids(rows: int, d_model: int) -> np.ndarray:
    """Sinusoidal positions in float64, shape (rows, d_model), from the paper's equation."""
    angles = np.arange(rows)[:, None] / 10_000.0 ** (np.arange(0, d_model, 2) / d_model)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(rows, d_model)


def random_state(seed: int, n_features: int = 19, num_layers: int = 1) -> dict[str, torch.Tensor]:
    """A state dict of the published names with random weights: scores spread about 0.5, attention far from uniform."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in PUBLISHED_SHAPES.items():
        if name == "linear_in.weight":
            shape = (64, n_features)
        for layer in range(num_layers if ".layers.0." in name else 1):
            values = rng.standard_normal(shape) * (0.5 if len(shape) == 1 else 2.0 / np.sqrt(shape[-1]))
            if name.endswith(("norm1.weight", "norm2.weight")):
                values = 1.0 + 0.3 * rng.standard_normal(shape)
            if name == "pos_encoder.pe":
                values = sinusoids(512, 64)[None]
            if name.startswith("fc_out"):
                values = values * 0.1 if name.endswith("weight") else np.array([0.5])
            state[name.replace(".layers.0.", f".layers.{layer}.")] = torch.tensor(values, dtype=torch.float32)
    return state


def reference_share(
    state: Mapping[str, torch.Tensor], left: np.ndarray, right: np.ndarray, hearing_loss: int, nhead: int = 4
) -> float:
    """The published network on one signal, in float64: features of shape (rows, n_features) per channel, no padding."""
    w = {name: tensor.double().numpy() for name, tensor in state.items()}

    def linear(x: np.ndarray, name: str, kind: str = ".") -> np.ndarray:
        return x @ w[f"{name}{kind}weight"].T + w[f"{name}{kind}bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (x - x.mean(axis=-1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(x: np.ndarray, name: str) -> np.ndarray:
        stacked = linear(x, name, ".in_proj_").reshape(len(x), 3, nhead, -1)
        query, key, value = stacked.transpose(1, 2, 0, 3)  # each (head, row, width)
        weights = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]), axis=-1)
        return linear((weights @ value).transpose(1, 0, 2).reshape(x.shape), f"{name}.out_proj")

    summaries = []
    for features, encoder in ((left, "transformer_l"), (right, "transformer_r")):
        rows = linear(features.astype(np.float64), "linear_in")
        x = np.concatenate([w["cls_token"][0], w["hearing_embedding.weight"][[hearing_loss]], rows])
        x = x + sinusoids(len(x), x.shape[1])
        for layer in range(sum(name.startswith(encoder) and name.endswith("linear1.bias") for name in w)):
            name = f"{encoder}.layers.{layer}"
            x = norm(x + attention(x, f"{name}.self_attn"), f"{name}.norm1")
            x = norm(x + linear(np.maximum(linear(x, f"{name}.linear1"), 0.0), f"{name}.linear2"), f"{name}.norm2")
        summaries.append(x[0])
    return float(linear(np.concatenate(summaries), "fc_out")[0])


def random_signals(
    lengths: Sequence[int], n_features: int = 19, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features padded with zeros, rows of each signal, hearing losses in turn."""
    rng = np.random.default_rng(seed)
    features = np.zeros((len(lengths), 2, max(lengths), n_features), dtype=np.float32)
    for i, rows in enumerate(lengths):
        features[i, :, :rows] = rng.random((2, rows, n_features))
    return torch.from_numpy(features), torch.tensor(lengths), torch.arange(len(lengths)) % 3


def network_of(state: Mapping[str, torch.Tensor], *, num_layers: int = 1, dropout: float = 0.1) -> Transformer:
    config = TransformerConfig(num_layers=num_layers, dropout=dropout)
    feature_cols = [f"f{i}" for i in range(state["linear_in.weight"].shape[1])]
    return Transformer.from_state_dict(config, feature_cols, dict(state))


SMALL = TransformerConfig(d_model=8, nhead=2)
COLUMNS = ("tiny", "stoi", "pesq")


def small_checkpoint(folder: Path, tables: tuple[Path, Path], splits: Sequence[str]) -> dict[str, Any]:
    """Write weights of a network on the column tiny; returns a config with tables for the splits."""
    with torch.random.fork_rng(devices=[]):
        save_checkpoint(folder / "model.pt", Transformer(SMALL, ("tiny",)), {})
    paths = {f"{split}_path_{side}": str(path) for split in splits for side, path in zip("lr", tables, strict=True)}
    data = {"feature_cols": ["tiny"], **paths}
    return {"exp_name": "mine", "data": data, "model": {"d_model": 8, "nhead": 2}, "infer": {"splits": ["valid"]}}


def train_arguments(folder: Path) -> list[str]:
    """Arguments of train.py for a small network, on tables of 18 signals that are written to the folder."""
    left, right = make_tables(folder, 18)
    tables = [f"data.csv_path_l={left}", f"data.csv_path_r={right}", "data.metadata=null"]
    small = "data.feature_cols=[tiny,stoi] model.d_model=8 model.nhead=2 train.batch_size=8 train.lr=1e-2 device=cpu"
    return ["-cp", "checkpoints/published", *tables, *small.split()]


def train_options(**changes: object) -> TrainOptions:
    return TrainOptions(**{"save_dir": Path("unused"), "batch_size": 16, "epochs": 6, "lr": 1e-3, **changes})


def invented(n_prompts: int = 20, seed: int = 0, noise: float = 0.0) -> ModelInput:
    """Three signals of each prompt, by way of tables; every row's first feature is the correctness before the noise."""
    rng = np.random.default_rng(seed)
    shares = rng.random(3 * n_prompts)
    labels = (shares + noise * rng.standard_normal(len(shares))).clip(0, 1)
    records = []
    for i, label in enumerate(labels):
        prompt = f"prompt{i // 3}" + " word" * (i // 3 % 7)
        n_words = len(prompt.split())
        records.append(SignalRecord(f"{i:04d}", prompt, HEARING_LOSSES[i % 3], "", n_words, 0, label, f"track{i // 6}"))
    plain = with_sentence_rows(metadata_table(records))
    with TemporaryDirectory() as folder:
        paths = (Path(folder) / "l.csv", Path(folder) / "r.csv")
        for path in paths:
            features = {"tiny": shares[plain["signal"].astype(int)]}
            features |= {column: rng.random(len(plain)) for column in ("stoi", "pesq")}
            write_features(path, plain, pd.DataFrame(features))
        return load_input(*paths, COLUMNS)
