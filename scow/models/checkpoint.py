"""Checkpoints: what `train.py` leaves and `infer.py` needs, in one file.

``model.pt`` of this project describes itself: next to the weights it holds the network's options, the feature columns
in order, and facts about its training (data, seed, versions, the epoch that was kept). A published ``model.pt`` is a
plain state dict; it is told apart by its content, and what it lacks is taken from the config beside it.

Files are read with ``weights_only=True``: a checkpoint from anywhere can hold tensors and plain values, no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scow.config import as_section, options_from, unknown_keys
from scow.errors import UserError, nearest
from scow.io import atomic_write
from scow.models.inputs import ModelInput
from scow.models.prediction import Prediction, forward
from scow.models.transformer import Transformer, TransformerConfig
from scow.models.word_model import WordModel, WordModelConfig

FORMAT = "stereo-chorus-of-whispers/1"
ModelOptions = TransformerConfig | WordModelConfig
MODELS: dict[str, type[TransformerConfig] | type[WordModelConfig]] = {
    "published": TransformerConfig,
    "word": WordModelConfig,
}


@dataclass(frozen=True)
class Checkpoint:
    """A model, ready to predict, and what is known of it.

    Attributes
    ----------
    options : TransformerConfig or WordModelConfig
        Their type says which model it is.
    feature_cols : tuple of str
        Features in the order that the model takes.
    state : dict of str to Tensor
        Weights: of a network under the published names, of an ensemble with the member's number and a dot in front.
    facts : dict
        Plain values about the training; empty for a published state dict.
    """

    options: ModelOptions
    feature_cols: tuple[str, ...]
    state: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def network(self) -> Transformer:
        """The network with its weights, in evaluation mode."""
        return self.networks()[0]

    def networks(self) -> list[Transformer]:
        """The networks of an ensemble; a single one otherwise."""
        assert isinstance(self.options, TransformerConfig)
        members: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.state.items():
            member, _, rest = name.partition(".")
            members.setdefault(member if member.isdigit() else "", {})[rest if member.isdigit() else name] = tensor
        networks = []
        for state in members.values():
            network = Transformer(len(self.feature_cols), self.options)
            network.load_state_dict(state)
            networks.append(network.eval())
        return networks

    def word_model(self) -> WordModel:
        """The word model.

        Raises
        ------
        UserError
            The checkpoint is of another model, which says nothing of words.
        """
        if not isinstance(self.options, WordModelConfig):
            raise UserError("expected a word model for words and intervals, found a network; use -cp checkpoints/final")
        return WordModel.from_state(self.options, self.feature_cols, self.state)

    def predict(self, batch: ModelInput, device: str = "cpu") -> Prediction:
        """Predict the signals of a batch that has `feature_cols`."""
        if isinstance(self.options, WordModelConfig):
            return self.word_model().predict(batch)
        return Prediction(np.mean([forward(network.to(device), batch, device) for network in self.networks()], axis=0))


def model_options(section: object) -> ModelOptions:
    """Options of the section ``model:`` of a config; without a name it is the published network.

    Raises
    ------
    UserError
        An unknown model, or a value of the wrong kind.
    """
    given = as_section(section, "model")
    name = given.pop("name", "published")
    if name not in MODELS:
        raise UserError(f"model.name: no model {name!r}; {nearest(str(name), MODELS)}")
    return options_from(MODELS[name], given, "model")


def fingerprint(signals: Iterable[str]) -> str:
    """Tells whether a checkpoint was trained on just these signals, without naming one."""
    return hashlib.sha256("\n".join(sorted(signals)).encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a self-describing ``model.pt``, whole or not at all."""
    content = {
        "format": FORMAT,
        "model": {"name": _name(checkpoint.options), **_plain(checkpoint.options)},
        "feature_cols": list(checkpoint.feature_cols),
        "state_dict": {name: tensor.detach().cpu() for name, tensor in checkpoint.state.items()},
        "facts": checkpoint.facts,
    }
    with atomic_write(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, options: ModelOptions, feature_cols: Sequence[str]) -> Checkpoint:
    """Read a ``model.pt`` of this project or a published state dict.

    Parameters
    ----------
    path : Path
    options : TransformerConfig or WordModelConfig
        What the config beside it says; a self-describing file has its own.
    feature_cols : sequence of str
        What the config says; must agree with a self-describing file.

    Returns
    -------
    Checkpoint

    Raises
    ------
    UserError
        The file is missing, holds something else, or does not fit the config.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"expected the checkpoint {path}, found none; train it with train.py, or choose another -cp"
        ) from None
    except Exception as error:  # what torch raises for a damaged file is of any kind
        raise UserError(
            f"{path}: expected a checkpoint of tensors and plain values, found a file that does not load as one; "
            "fetch it again"
        ) from error
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return _self_describing(path, content, feature_cols)
    if isinstance(content, dict) and "cls_token" in content and all(torch.is_tensor(v) for v in content.values()):
        if not isinstance(options, TransformerConfig):
            raise UserError(f"{path}: a published state dict, but the config says model.name word; set it to published")
        checkpoint = Checkpoint(options, tuple(feature_cols), content)
        _check_fit(path, checkpoint)
        return checkpoint
    raise UserError(
        f"{path}: expected a checkpoint of this project or a published state dict, found neither; check the path"
    )


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """What a self-describing ``model.pt`` says of its training; nothing where it is another file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - what torch raises for a damaged file is of any kind
        return {}
    return dict(content.get("facts") or {}) if isinstance(content, dict) and content.get("format") == FORMAT else {}


def _self_describing(path: Path, content: dict[str, Any], feature_cols: Sequence[str]) -> Checkpoint:
    lacking = [part for part in ("model", "feature_cols", "state_dict", "facts") if part not in content]
    if lacking:
        raise UserError(f"{path}: a checkpoint without the part {lacking[0]}; fetch it again")
    described = dict(content["model"])
    name = described.pop("name", None)
    if name not in MODELS:
        raise UserError(f"{path}: expected a model named {' or '.join(MODELS)}, found {name!r}; update this software")
    strange = unknown_keys(MODELS[name], described)
    if strange:
        raise UserError(f"{path}: has the option {strange[0]} that this version does not know; update this software")
    options = options_from(MODELS[name], described, f"{path}: model")
    checkpoint = Checkpoint(options, tuple(content["feature_cols"]), content["state_dict"], content["facts"])
    if feature_cols and tuple(feature_cols) != checkpoint.feature_cols:
        raise UserError(
            f"{path}: trained on the features {', '.join(checkpoint.feature_cols)}, but data.feature_cols of "
            f"the config says {', '.join(feature_cols)}; train again or mend the config"
        )
    _check_fit(path, checkpoint)
    return checkpoint


def _name(options: ModelOptions) -> str:
    return next(name for name, kind in MODELS.items() if isinstance(options, kind))


def _plain(options: ModelOptions) -> dict[str, Any]:
    """Options as values that a checkpoint may hold: no tuples."""
    values = dataclasses.asdict(options)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _check_fit(path: Path, checkpoint: Checkpoint) -> None:
    """Say in one line how weights and config disagree."""
    if isinstance(checkpoint.options, TransformerConfig):
        weight = next((t for name, t in checkpoint.state.items() if name.endswith("linear_in.weight")), None)
        width = weight.shape[1] if weight is not None and weight.ndim == 2 else None
        if width != len(checkpoint.feature_cols):
            raise UserError(
                f"{path}: takes {width} features, but data.feature_cols names {len(checkpoint.feature_cols)}; "
                "mend the config"
            )
    try:
        checkpoint.options.validate()
        if isinstance(checkpoint.options, TransformerConfig):
            checkpoint.networks()
        else:
            checkpoint.word_model()
    except (RuntimeError, AssertionError, KeyError, TypeError, UserError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: does not fit the section model of the config ({reason}); mend the config") from error
    if not all(torch.isfinite(tensor).all() for tensor in checkpoint.state.values()):
        raise UserError(f"{path}: expected finite weights, found NaN or infinity; train or fetch it again")
