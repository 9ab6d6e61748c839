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

import torch
from torch import Tensor

from scow.errors import UserError
from scow.files import replacing
from scow.model import NetworkOptions, PublishedNetwork
from scow.options import options_from, unknown_keys

FORMAT = "stereo-chorus-of-whispers/1"


@dataclass(frozen=True)
class Checkpoint:
    """A network, ready to predict, and what is known of it.

    Attributes
    ----------
    options : NetworkOptions
    feature_cols : tuple of str
        Features in the order that the network takes.
    state : dict of str to Tensor
        Weights under the published names.
    facts : dict
        Plain values about the training; empty for a published state dict.
    """

    options: NetworkOptions
    feature_cols: tuple[str, ...]
    state: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def network(self) -> PublishedNetwork:
        """The network with its weights, in evaluation mode."""
        network = PublishedNetwork(len(self.feature_cols), self.options)
        network.load_state_dict(self.state)
        return network.eval()


def fingerprint(signals: Iterable[str]) -> str:
    """Tells whether a checkpoint was trained on just these signals, without naming one."""
    return hashlib.sha256("\n".join(sorted(signals)).encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a self-describing ``model.pt``, whole or not at all."""
    content = {
        "format": FORMAT,
        "model": {"name": "published", **dataclasses.asdict(checkpoint.options)},
        "feature_cols": list(checkpoint.feature_cols),
        "state_dict": {name: tensor.detach().cpu() for name, tensor in checkpoint.state.items()},
        "facts": checkpoint.facts,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, options: NetworkOptions, feature_cols: Sequence[str]) -> Checkpoint:
    """Read a ``model.pt`` of this project or a published state dict.

    Parameters
    ----------
    path : Path
    options : NetworkOptions
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
        checkpoint = Checkpoint(options, tuple(feature_cols), content)
        _check_fit(path, checkpoint)
        return checkpoint
    raise UserError(
        f"{path}: expected a checkpoint of this project or a published state dict, found neither; check the path"
    )


def _self_describing(path: Path, content: dict[str, Any], feature_cols: Sequence[str]) -> Checkpoint:
    lacking = [part for part in ("model", "feature_cols", "state_dict", "facts") if part not in content]
    if lacking:
        raise UserError(f"{path}: a checkpoint without the part {lacking[0]}; fetch it again")
    described = dict(content["model"])
    name = described.pop("name", None)
    if name != "published":
        raise UserError(f"{path}: expected a model named published, found {name!r}; update this software")
    strange = unknown_keys(NetworkOptions, described)
    if strange:
        raise UserError(f"{path}: has the option {strange[0]} that this version does not know; update this software")
    options = options_from(NetworkOptions, described, f"{path}: model")
    checkpoint = Checkpoint(options, tuple(content["feature_cols"]), content["state_dict"], content["facts"])
    if feature_cols and tuple(feature_cols) != checkpoint.feature_cols:
        raise UserError(
            f"{path}: trained on the features {', '.join(checkpoint.feature_cols)}, but data.feature_cols of "
            f"the config says {', '.join(feature_cols)}; train again or mend the config"
        )
    _check_fit(path, checkpoint)
    return checkpoint


def _check_fit(path: Path, checkpoint: Checkpoint) -> None:
    """Say in one line how weights and config disagree."""
    weight = checkpoint.state.get("linear_in.weight")
    width = weight.shape[1] if weight is not None and weight.ndim == 2 else None
    if width != len(checkpoint.feature_cols):
        raise UserError(
            f"{path}: takes {width} features, but data.feature_cols names {len(checkpoint.feature_cols)}; "
            "mend the config"
        )
    try:
        checkpoint.options.validate()
        checkpoint.network()
    except (RuntimeError, AssertionError, UserError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: does not fit the section model of the config ({reason}); mend the config") from error
    if not all(torch.isfinite(tensor).all() for tensor in checkpoint.state.values()):
        raise UserError(f"{path}: expected finite weights, found NaN or infinity; train or fetch it again")
