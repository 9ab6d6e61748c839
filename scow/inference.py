"""Stage 5: tables and a checkpoint to one score per signal.

The checkpoint is ``model.pt`` beside the config that was chosen with ``-cp``, whatever `exp_name` in that config says,
so that a published checkpoint or a copied folder works under any name. Where the user overrides `exp_name` or
`train.save_dir` on the command line, it is the one of that folder. Scores are written there too.

The output has two columns and no header, as the challenge's leaderboard takes it: signal id, score. A split whose
tables are missing is named and passed over.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scow.batches import DataOptions, SignalBatch, data_options, load_batch
from scow.checkpoint import Checkpoint, fingerprint, load_checkpoint
from scow.device import resolve_device
from scow.errors import UserError, nearest
from scow.files import replacing
from scow.model import NetworkOptions
from scow.options import as_section, options_from, portable_path
from scow.prediction import PERCENT, forward, to_scores
from scow.scoring import Agreement, agreement


@dataclass(frozen=True)
class InferOptions:
    """Section ``infer:`` of a checkpoint's config.

    Attributes
    ----------
    splits : tuple of str
        Splits to predict.
    clamp_scores : bool
        Clamp to the range of correctness.
    scale_to_percentage : bool
        Scores in 0-100 rather than 0-1.
    """

    splits: tuple[str, ...] = ("valid", "eval")
    clamp_scores: bool = True
    scale_to_percentage: bool = True


@dataclass(frozen=True)
class InferConfig:
    """A checkpoint's ``config.yaml``, as far as inference reads it.

    Attributes
    ----------
    folder : Path
        Where model.pt lies and the scores go.
    output_name : dict of str to str
        File name by split; ``<split>_inference.csv`` where none is given.
    """

    folder: Path
    data: DataOptions
    model: NetworkOptions
    infer: InferOptions
    output_name: dict[str, str] = field(default_factory=dict)
    device: str = "auto"


@dataclass(frozen=True)
class SplitScores:
    """Scores of one split.

    Attributes
    ----------
    split : str
    path : Path
        The file that was written.
    signals : tuple of str
    scores : ndarray, shape (n,)
        As written: clamped and scaled as the options say.
    agreement : Agreement or None
        With the labels, in points of 0-100; None where the split has no labels.
    trained_on : bool
        The checkpoint was trained on just these signals, so that the agreement says little.
    """

    split: str
    path: Path
    signals: tuple[str, ...]
    scores: np.ndarray
    agreement: Agreement | None
    trained_on: bool


@dataclass(frozen=True)
class Inference:
    """Scores of the splits whose tables were there, and what to do about the others."""

    done: tuple[SplitScores, ...]
    missing: tuple[str, ...]


def infer_config(config: Mapping[str, Any], config_folder: Path, overridden: Sequence[str] = ()) -> InferConfig:
    """Read a checkpoint's config, hydra's overrides included.

    Parameters
    ----------
    config : mapping
        The whole config.
    config_folder : Path
        Folder of the config.yaml that was read.
    overridden : sequence of str
        Keys that the command line overrides.

    Raises
    ------
    UserError
        A section or value that is missing or of the wrong kind.
    """
    section = as_section(config.get("infer"), "infer")
    save_dir = as_section(config.get("train"), "train").get("save_dir")
    moved = save_dir is not None and any(key in ("exp_name", "train.save_dir") for key in overridden)
    names = as_section(section.get("output_name"), "infer.output_name")
    for split, name in names.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"infer.output_name.{split}: expected a file name, found {name!r}; mend the config")
    return InferConfig(
        folder=portable_path(str(save_dir)) if moved else config_folder,
        data=data_options(config.get("data")),
        model=options_from(NetworkOptions, config.get("model"), "model"),
        infer=options_from(InferOptions, section, "infer"),
        output_name=names,
        device=str(config.get("device", "auto")),
    )


def infer(config: InferConfig) -> Inference:
    """Predict every split whose tables are there, and write the scores.

    Raises
    ------
    UserError
        No checkpoint, tables that do not fit it, a split that the config does not know, or no tables at all.
    """
    device = resolve_device(config.device)
    for split in config.infer.splits:
        if split not in config.data.tables:
            raise UserError(
                f"infer.splits: no tables for the split {split!r} in the config; {nearest(split, config.data.tables)}"
            )
    missing = []
    present = []
    for split in config.infer.splits:
        absent = [path for path in config.data.tables[split] if not path.is_file()]
        if absent:
            missing.append(
                f"split {split}: expected {absent[0]}, found none; get the challenge's data, then run "
                "metadata_to_csv.py, whisper_inference.py and compute_metrics.py, or link published tables there"
            )
        else:
            present.append(split)
    if not present:
        raise UserError("; ".join(missing) or "infer.splits: expected at least one split, found none")
    checkpoint = load_checkpoint(config.folder / "model.pt", config.model, config.data.feature_cols)
    return Inference(tuple(_split(config, checkpoint, split, device) for split in present), tuple(missing))


def _split(config: InferConfig, checkpoint: Checkpoint, split: str, device: str) -> SplitScores:
    batch = load_batch(*config.data.tables[split], checkpoint.feature_cols)
    options = config.infer
    correctness = forward(checkpoint.network().to(device), batch, device)
    scores = to_scores(correctness, clamp=options.clamp_scores, percentage=options.scale_to_percentage)
    path = config.folder / config.output_name.get(split, f"{split}_inference.csv")
    write_scores(path, batch.signals, scores)
    points = scores if options.scale_to_percentage else scores * PERCENT
    return SplitScores(
        split=split,
        path=path,
        signals=batch.signals,
        scores=scores,
        agreement=_agreement(batch, points),
        trained_on=checkpoint.facts.get("trained_on") == fingerprint(batch.signals),
    )


def write_scores(path: Path, signals: Sequence[str], scores: np.ndarray) -> None:
    """Write signal ids and scores, two columns, no header, six decimals."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerows((signal, f"{score:.6f}") for signal, score in zip(signals, scores, strict=True))


def _agreement(batch: SignalBatch, points: np.ndarray) -> Agreement | None:
    labelled = batch.labelled.numpy()
    if not labelled.any():
        return None
    return agreement(points[labelled], to_scores(batch.target.double().numpy()[labelled]))
