"""Checkpoints: what `train.py` writes and `infer.py` needs, in one file.

``model.pt`` of this project describes itself: next to the weights it holds the model's config, the feature columns
in order, facts about its training (data, seed, versions, the best epoch), and a digest of all tensors. A published
``model.pt`` is a plain state dict; it is recognised by its content, and what it lacks is taken from the config beside
it. Every tensor is checked, and one word is predicted, before a model counts as loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scow.config import unknown_keys
from scow.data.tables import HEARING_LOSSES
from scow.errors import UserError, expect
from scow.io import atomic_write, sha256_of, write_json
from scow.models.config import ModelConfig, model_config
from scow.models.facts import checked_facts, read_model
from scow.models.inputs import Excerpt, input_of
from scow.models.model import Model, StateDict
from scow.models.transformer import Transformer
from scow.models.word_model import SentenceModel, WordModel

FORMAT = "stereo-chorus-of-whispers/1"
MODELS: dict[str, type[Model]] = {"published": Transformer, "word": WordModel, "sentence": SentenceModel}


def save_checkpoint(path: Path, model: Model, facts: dict[str, Any]) -> None:
    """Write a self-describing ``model.pt``, whole or not at all, and ``model.json`` with its facts beside it."""
    config = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(model.config).items()}
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    content = {
        "format": FORMAT,
        "model": {"name": model.config.name, **config},
        "feature_cols": list(model.feature_cols),
        "state_dict": state,
        "sha256": _digest(state),
        "facts": facts,
    }
    buffer = io.BytesIO()  # a path would be stored in the file, and a full disk is no OSError in torch
    torch.save(content, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    write_json(path.with_suffix(".json"), {"sha256": sha256_of(path), "facts": facts})


def load_checkpoint(path: Path, config: ModelConfig, feature_cols: Sequence[str]) -> tuple[Model, dict[str, Any]]:
    """Model, ready to predict, and facts about its training, none for a published state dict.

    `config` and `feature_cols` are those of the config beside it. A self-describing file has its own config, and must
    have the same features, where any are given.
    """
    content = read_model(path)
    try:
        return _model_and_facts(content, config, feature_cols)
    except Exception as error:  # what torch and numpy raise for tensors of the wrong shape is of any kind
        reason = " ".join(f"{type(error).__name__}: {error}".removeprefix("UserError: ").split())[:300]
        raise UserError(f"{path}: expected a checkpoint that fits the config, found another: {reason}") from error


def _model_and_facts(
    content: dict[str, Any], config: ModelConfig, feature_cols: Sequence[str]
) -> tuple[Model, dict[str, Any]]:
    state, facts = content, {}
    if content.get("format") == FORMAT:
        described, columns, state, facts = (content[part] for part in ("model", "feature_cols", "state_dict", "facts"))
        same = not feature_cols or list(feature_cols) == list(columns)
        expect(same, "data.feature_cols", f"{', '.join(columns)}, as trained", ", ".join(feature_cols))
        config, feature_cols, facts = model_config(described), columns, checked_facts(facts)
        expect(content.get("sha256") in (None, _digest(state)), "tensors", "those that were saved", "others")
        strange = [key for key in unknown_keys(type(config), described) if key != "name"]
        expect(not strange, "model", "options of this version", ", ".join(strange))
    else:
        expect(config.name == "published", "model.name", "published, for a published state dict", config.name)
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and (tensor.is_floating_point() or tensor.dtype == torch.int64)
        whole = plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
        finite = whole and torch.isfinite(tensor).all()
        expect(finite, name, "finite numbers in a plain tensor", "NaN, infinity or less")
    model = MODELS[config.name].from_state_dict(config, feature_cols, state)
    fewer = tuple(column for column in model.feature_cols if column not in model.optional_cols)
    for columns in dict.fromkeys((model.feature_cols, fewer)):  # one word is predicted, to show that all shapes agree
        excerpt = Excerpt(("la",), HEARING_LOSSES[-1], np.zeros((2, 2, len(columns))))
        inputs = input_of([excerpt], columns)
        width = model.embedding_width
        predicted = model.predict(dataclasses.replace(inputs, embeddings=torch.zeros(int(width > 0), 2, width)))
    if model.quantiles is not None:
        model.interval(predicted.correctness, np.array([len(HEARING_LOSSES) - 1]), 0.8)
    return model, facts


def _digest(state: StateDict) -> str:
    """SHA-256 of all tensors with their names."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
