"""Stage 5: tables and a checkpoint to one score per signal.

The checkpoint is ``model.pt`` beside the config that was chosen with ``-cp``, whatever `exp_name` in that config says,
so that a published checkpoint or a copied folder works under any name. Where the user overrides `exp_name` or
`train.save_dir` on the command line, it is the one of that folder. Scores are written there too.

Tables of another definition than those that the checkpoint was trained on are refused (`scow.data.provenance`).

The output has two columns and no header, as the challenge's leaderboard takes it: signal id, score. With
``infer.submission`` the file for the challenge's e-mail form is written too, after a check of both (`scow.submission`).
A split whose tables are missing is named and passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scow.config import as_section, options_from
from scow.data.provenance import differences
from scow.data.scores import write_rows, write_scores
from scow.device import resolve_device
from scow.errors import UserError, nearest
from scow.io import portable_path
from scow.metrics import Agreement, agreement
from scow.models.checkpoint import Checkpoint, fingerprint, load_checkpoint
from scow.models.config import DataOptions, ModelConfig, data_options, model_config
from scow.models.inputs import ModelInput, load_input
from scow.models.model import NO_WORDS, PERCENT, Prediction, to_scores
from scow.submission import SubmissionOptions, check_submission, write_form


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
    details : bool
        Also write ``<split>_words.csv`` (signal, position, word, probability) and ``<split>_details.csv`` (signal,
        score, low, high): intervals for one listener's score.
    interval : float
        Probability with which such an interval holds one listener's score.
    allow_missing : bool
        Do without columns that the tables lack, where the checkpoint was trained for that.
    """

    splits: tuple[str, ...] = ("valid", "eval")
    clamp_scores: bool = True
    scale_to_percentage: bool = True
    details: bool = False
    interval: float = 0.8
    allow_missing: bool = False


@dataclass(frozen=True)
class InferConfig:
    """A checkpoint's ``config.yaml``, as far as inference reads it.

    Attributes
    ----------
    folder : Path
        Where model.pt lies and the scores go.
    output_name : dict of str to str
        File name by split; ``<split>_inference.csv`` where none is given.
    submission : SubmissionOptions
    """

    folder: Path
    data: DataOptions
    model: ModelConfig
    infer: InferOptions
    output_name: dict[str, str] = field(default_factory=dict)
    device: str = "auto"
    submission: SubmissionOptions = field(default_factory=SubmissionOptions)


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
    details : tuple of Path
        Further files that were written.
    form : Path or None
        The file for the challenge's e-mail form.
    notes : tuple of str
        Features whose weights are not those of the training, a line each.
    """

    split: str
    path: Path
    signals: tuple[str, ...]
    scores: np.ndarray
    agreement: Agreement | None
    trained_on: bool
    details: tuple[Path, ...] = ()
    form: Path | None = None
    notes: tuple[str, ...] = ()


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
    device = str(config.get("device") or "auto")
    if device.startswith("cuda") and "device" not in overridden:
        device = "auto"  # a published config's wish for a GPU; only the command line insists on one
    names = as_section(section.get("output_name"), "infer.output_name")
    for split, name in names.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"infer.output_name.{split}: expected a file name, found {name!r}; mend the config")
    return InferConfig(
        folder=portable_path(str(save_dir)) if moved else config_folder,
        data=data_options(config.get("data")),
        model=model_config(config.get("model")),
        infer=options_from(InferOptions, section, "infer"),
        output_name=names,
        device=device,
        submission=options_from(SubmissionOptions, section.get("submission"), "infer.submission"),
    )


def infer(config: InferConfig) -> Inference:
    """Predict every split whose tables are there, and write the scores.

    Raises
    ------
    UserError
        No checkpoint, tables that do not fit it, a split that the config does not know, or no tables at all.
    """
    device = resolve_device(config.device)
    if not 0.01 <= config.infer.interval <= 0.99:
        raise UserError(f"infer.interval: expected a level in 0.01 to 0.99, found {config.infer.interval:g}; mend it")
    config.submission.validate(config.infer.splits)
    if config.submission.track is not None and not config.infer.scale_to_percentage:
        raise UserError("infer.submission: expected scores in points, found infer.scale_to_percentage=false; drop it")
    for split in config.infer.splits:
        if split not in config.data.tables:
            known = nearest(split, config.data.tables)
            raise UserError(f"infer.splits: no tables for the split {split!r} in the config; {known}")
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
    if config.infer.details and not checkpoint.model.predicts_words:
        raise UserError(f"infer.details: {NO_WORDS}; use -cp checkpoints/final")
    return Inference(tuple(_split(config, checkpoint, split, device) for split in present), tuple(missing))


def _split(config: InferConfig, checkpoint: Checkpoint, split: str, device: str) -> SplitScores:
    options = config.infer
    left, right = config.data.tables[split]
    features = checkpoint.facts.get("features", {})
    notes = [note for table in (left, right) for note in differences(table, checkpoint.model.feature_cols, features)]
    optional = checkpoint.model.optional_cols if options.allow_missing else ()
    batch = load_input(left, right, checkpoint.model.feature_cols, optional_cols=optional)
    predicted = checkpoint.model.predict(batch, device)
    scores = to_scores(predicted.correctness, clamp=options.clamp_scores, percentage=options.scale_to_percentage)
    path = config.folder / config.output_name.get(split, f"{split}_inference.csv")
    form = None
    if config.submission.track is not None:
        checked = check_submission(config.data.metadata_of(split), batch.signals, scores)
        form = write_form(path.parent, config.submission, split, checked)
    write_scores(path, batch.signals, scores)
    details = (
        _write_details(path.parent, split, checkpoint, batch, predicted, scores, options) if options.details else ()
    )
    points = scores if options.scale_to_percentage else scores * PERCENT
    return SplitScores(
        split=split,
        path=path,
        signals=batch.signals,
        scores=scores,
        agreement=_agreement(batch, points),
        trained_on=checkpoint.facts.get("trained_on") == fingerprint(batch.signals),
        details=details,
        form=form,
        notes=tuple(notes),
    )


def _write_details(
    folder: Path,
    split: str,
    checkpoint: Checkpoint,
    batch: ModelInput,
    predicted: Prediction,
    scores: np.ndarray,
    options: InferOptions,
) -> tuple[Path, ...]:
    """Write the probability of every word, and an interval for one listener's score."""
    model = checkpoint.model
    assert predicted.words is not None  # a word model's prediction
    ends = model.interval(predicted.correctness, batch.hearing_loss.numpy(), options.interval)
    low, high = (to_scores(end, percentage=options.scale_to_percentage) for end in ends)
    spoken = [
        (signal, i, word) for signal, ws in zip(batch.signals, batch.words, strict=True) for i, word in enumerate(ws)
    ]
    paths = (folder / f"{split}_words.csv", folder / f"{split}_details.csv")
    words = [(*place, f"{probability:.6f}") for place, probability in zip(spoken, predicted.words, strict=True)]
    write_rows(paths[0], [("signal", "position", "word", "probability"), *words])
    rows = zip(batch.signals, scores, low, high, strict=True)
    details = [(signal, *(f"{value:.6f}" for value in values)) for signal, *values in rows]
    write_rows(paths[1], [("signal", "score", "low", "high"), *details])
    return paths


def _agreement(batch: ModelInput, points: np.ndarray) -> Agreement | None:
    labelled = batch.labelled.numpy()
    if not labelled.any():
        return None
    return agreement(points[labelled], to_scores(batch.target.double().numpy()[labelled]))
