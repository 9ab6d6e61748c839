"""The published network for tests: its state dict with random weights, small networks, inputs."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from helpers import data_overrides, golden, make_tables

from scow.models.checkpoint import save_checkpoint
from scow.models.config import TrainOptions, TransformerConfig
from scow.models.inputs import ModelInput, load_input
from scow.models.transformer import Transformer

# The published state dict, as its documentation has it: 19 features, 64 dimensions, one layer per channel.
PUBLISHED_SHAPES = {name: tuple(shape) for name, shape in golden("published_shapes.json").items()}

PUBLISHED_FEATURES = tuple(golden("published_config.yaml")["data"]["feature_cols"])

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


def random_signals(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features padded with zeros, rows of each signal, hearing losses in turn."""
    rng, lengths = np.random.default_rng(seed), [3, 1, 9, 6, 14, 2]
    features = np.zeros((6, 2, 14, 19), dtype=np.float32)
    for i, rows in enumerate(lengths):
        features[i, :, :rows] = rng.random((2, rows, 19))
    return torch.from_numpy(features), torch.tensor(lengths), torch.arange(6) % 3


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
    data = data_overrides(["tiny", "stoi"], csv=make_tables(folder, 18))
    small = "model.d_model=8 model.nhead=2 train.batch_size=8 train.lr=1e-2 device=cpu"
    return ["-cp", "checkpoints/published", *data, *small.split()]


def train_options(**changes: object) -> TrainOptions:
    return TrainOptions(**{"save_dir": Path("unused"), "batch_size": 16, "epochs": 6, "lr": 1e-3, **changes})


def invented(n_prompts: int = 20, seed: int = 0, noise: float = 0.0) -> ModelInput:
    """Three signals of each prompt; every row's first feature is the correctness before the noise."""
    with TemporaryDirectory() as folder:
        inputs = load_input(*make_tables(Path(folder), 3 * n_prompts, COLUMNS, seed=seed), COLUMNS)
    rng = np.random.default_rng(seed)
    shares, features = rng.random(len(inputs)), inputs.features.clone()
    features[..., 0] = torch.from_numpy(shares)[:, None, None]
    target = (shares + noise * rng.standard_normal(len(shares))).clip(0, 1)
    prompts = tuple(f"prompt {i // 3}" for i in range(len(inputs)))
    return dataclasses.replace(inputs, features=features, target=torch.from_numpy(target).float(), prompts=prompts)
