"""Stage 5: tables and a checkpoint to one score per signal.

1. The checkpoint is ``model.pt`` beside the config chosen with ``-cp``, whatever `exp_name` in that config says, so
   that a published checkpoint or a copied folder works under any name. Where the command line overrides `exp_name` or
   `train.save_dir`, it is the one in that folder. Scores are written there too,
   or to ``infer.output_dir``. With ``infer.tables=[left, right]``, other tables than those of the config are predicted,
   and their scores are written beside them.
2. Splits whose tables are missing are named and skipped. Tables of another definition than those that the checkpoint
   was trained on are refused (`scow.data.provenance`).
3. ``<split>_inference.csv`` has two columns and no header, as the challenge's leaderboard takes it: signal id, score.
4. With ``infer.details``: ``<split>_words.csv`` (signal, position, word, probability), where the model predicts words,
   and ``<split>_details.csv`` (signal, score, low, high), the interval of one listener's score, or of the mean score of
   ``infer.listeners``.
5. With ``infer.submission``: the file for the challenge's e-mail form, ``ICASSP2026_<split>_<team>.csv`` of the track
   clip1 or ``ICASSP2027_<split>_<team>.csv`` of clip2, with the header ``signal_id,intelligibility_score``. Nothing is
   written unless every signal of the split's metadata has one score, finite and in 0-100, and no other signal has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scow.config import as_section, folder_inside, options_from, plain_name
from scow.data.metadata import metadata_beside, read_metadata
from scow.data.provenance import PROMPT, differences
from scow.data.scores import FORM_HEADER, write_rows, write_scores
from scow.device import resolve_device
from scow.errors import UserError, expect, nearest
from scow.io import Output, check_outputs, portable_path
from scow.metrics import Agreement, agreement
from scow.models.checkpoint import load_checkpoint
from scow.models.config import DataOptions, ModelConfig, data_options, model_config
from scow.models.facts import is_trained_on
from scow.models.inputs import load_input
from scow.models.model import PERCENT, Model, to_scores

FORM_NAMES = {"clip1": "ICASSP2026_{split}_{team}.csv", "clip2": "ICASSP2027_{split}_{team}.csv"}  # by challenge
FORM_SPLITS = ("valid", "eval")


@dataclass(frozen=True)
class InferOptions:
    """Section ``infer:`` of a checkpoint's config."""

    splits: tuple[str, ...] = ("valid", "eval")
    tables: tuple[str, ...] = ()  # a left and a right table, instead of splits
    output_dir: Path | None = None  # of the scores; None: beside model.pt, or (`infer_config`) beside `tables`
    clamp_scores: bool = True  # to the range of correctness
    scale_to_percentage: bool = True  # scores in 0-100 rather than 0-1
    details: bool = False  # also word probabilities and intervals
    interval: float = 0.8  # probability with which an interval contains the score
    listeners: int = 1  # whose mean score the interval is for
    allow_missing: bool = False  # do without columns that the checkpoint was also trained without

    def __post_init__(self) -> None:
        expect(0.01 <= self.interval <= 0.99, "infer.interval", "a level in 0.01 to 0.99", self.interval)
        expect(1 <= self.listeners <= 1000, "infer.listeners", "a number in 1 to 1000", self.listeners)
        expect(self.splits, "infer.splits", "at least one split", "none")
        expect(len(self.tables) in (0, 2), "infer.tables", "a left and a right table", len(self.tables))


@dataclass(frozen=True)
class SubmissionOptions:
    """Section ``infer.submission:``."""

    track: str | None = None  # one of FORM_NAMES; None for no submission
    team: str | None = None  # T and three digits, and a letter where a team has several systems

    def __post_init__(self) -> None:
        if (self.track, self.team) != (None, None):
            expect(self.track in FORM_NAMES, "infer.submission.track", f"one of {', '.join(FORM_NAMES)}", self.track)
            is_id = re.fullmatch(r"T\d{3}[a-z]?", str(self.team))
            expect(is_id, "infer.submission.team", "a team id such as T045 or T071a", self.team)


@dataclass(frozen=True)
class InferConfig:
    """A checkpoint's ``config.yaml``, as far as inference reads it."""

    folder: Path  # of model.pt
    data: DataOptions
    model: ModelConfig
    infer: InferOptions
    output_name: dict[str, str] = field(default_factory=dict)  # by split, by default <split>_inference.csv
    device: str = "auto"
    submission: SubmissionOptions = SubmissionOptions()


@dataclass(frozen=True)
class SplitScores:
    """Scores of one split, and the files that were written."""

    split: str
    path: Path
    scores: np.ndarray  # shape (n,), as written
    agreement: Agreement | None  # with the labels, in points; None without labels
    trained_on: bool  # the checkpoint was trained on just these signals
    details: tuple[Path, ...]
    form: Path | None  # for the challenge's e-mail form
    notes: tuple[str, ...]  # empty features, and those whose weights are not those of the training


def infer_config(config: Mapping[str, Any], config_folder: Path, overridden: Sequence[str] = ()) -> InferConfig:
    """Read the config of `config_folder`; `overridden` are the keys that the command line overrides."""
    section = as_section(config.get("infer"), "infer")
    save_dir = as_section(config.get("train"), "train").get("save_dir")
    moved = save_dir is not None and any(key in ("exp_name", "train.save_dir") for key in overridden)
    folder = portable_path(str(save_dir)) if moved else config_folder
    if moved and "train.save_dir" not in overridden:
        folder_inside(folder, "train.save_dir")
    device = str(config.get("device") or "auto")
    if device.startswith("cuda") and "device" not in overridden:
        device = "auto"  # a published config asks for a GPU; only the command line insists on one
    names = as_section(section.get("output_name"), "infer.output_name")
    names = {split: plain_name(name, f"infer.output_name.{split}") for split, name in names.items()}
    options = options_from(InferOptions, section, "infer")
    submission = options_from(SubmissionOptions, section.get("submission"), "infer.submission")
    data = data_options(config.get("data"))
    key = "infer.output_dir"
    if options.tables:
        left, right = map(portable_path, options.tables)
        split = left.stem.removesuffix("_l").removesuffix("_metadata")
        data, options = replace(data, tables={split: (left, right)}), replace(options, splits=(split,))
        if options.output_dir is None:
            options, key = replace(options, output_dir=left.parent), "infer.tables"
    if options.output_dir is not None and key not in overridden:
        folder_inside(options.output_dir, key)
    for split in options.splits:
        plain_name(split, "infer.splits")
        near = f"splits with tables in the config ({nearest(split, data.tables)})"
        expect(split in data.tables, "infer.splits", near, split)
    if submission.track is not None:
        others = ", ".join(set(options.splits) - set(FORM_SPLITS))
        expect(not others, "infer.submission", "infer.splits to be valid or eval", others)
        points = "scores in points, infer.scale_to_percentage=true"
        expect(options.scale_to_percentage, "infer.submission", points, "shares")
    model = model_config(config.get("model"))
    return InferConfig(folder, data, model, options, names, device, submission)


def infer(config: InferConfig) -> tuple[list[SplitScores], list[str]]:
    """Predict every split whose tables exist, and write the scores; also a line about each split without tables."""
    device = resolve_device(config.device)
    absent = {split: [p for p in config.data.tables[split] if not p.is_file()] for split in config.infer.splits}
    missing = [
        f"split {split}: expected {paths[0]}, found none; get the challenge's data, then run "
        "metadata_to_csv.py, whisper_inference.py and compute_metrics.py, or link published tables there"
        for split, paths in absent.items()
        if paths
    ]
    present = [split for split, paths in absent.items() if not paths]
    if not present:
        raise UserError("; ".join(missing))
    outputs = [output for split in present for output in _outputs(config, split)]
    inputs = [path for split in present for path in config.data.tables[split]]
    check_outputs(outputs, [config.folder / "model.pt", config.folder / "config.yaml", *inputs])
    model, facts = load_checkpoint(config.folder / "model.pt", config.model, config.data.feature_cols)
    detailed = model.has_intervals or not config.infer.details
    expect(detailed, "infer.details", "a model with intervals, such as -cp checkpoints/final", "a transformer")
    return [_infer_split(config, model, facts, split, device) for split in present], missing


def _outputs(config: InferConfig, split: str) -> list[Output]:
    """The files of a split: scores; words and details, if asked for; the form, if asked for."""
    scores = (config.infer.output_dir or config.folder) / config.output_name.get(split, f"{split}_inference.csv")
    outputs = [(scores, "scores", rb'("[^"\n]*"|[^,"\n]+),-?\d[\d.e+-]*\r?\n')]
    if config.infer.details:
        outputs += [
            (scores.with_name(f"{split}_words.csv"), "words", b"signal,position,"),
            (scores.with_name(f"{split}_details.csv"), "details", b"signal,score,"),
        ]
    if config.submission.track is not None:
        name = FORM_NAMES[config.submission.track].format(split=split, team=config.submission.team)
        outputs.append((scores.with_name(name), "the form", b"signal_id,"))
    return outputs


def _infer_split(config: InferConfig, model: Model, facts: dict[str, Any], split: str, device: str) -> SplitScores:
    options, tables = config.infer, config.data.tables[split]
    sources = facts.get("features", {})
    notes = [note for table in tables for note in differences(table, (PROMPT, *model.feature_cols), sources)]
    optional_cols = model.optional_cols if options.allow_missing else ()
    with_embeddings = model.embedding_width > 0
    inputs = load_input(*tables, model.feature_cols, optional_cols=optional_cols, with_embeddings=with_embeddings)
    notes += [f"{split}: {n} signals without {column}, which is taken as 0.0" for column, n in inputs.empty.items()]
    predicted = model.predict(inputs, device)
    scores = to_scores(predicted.correctness, clamp=options.clamp_scores, percentage=options.scale_to_percentage)
    path, *more = [output[0] for output in _outputs(config, split)]
    form = None
    if config.submission.track is not None:
        metadata = config.data.split_metadata.get(split, metadata_beside(tables[0]))
        rows = submission_rows(metadata, inputs.signals, scores)
        form = more[-1]
        write_rows(form, [FORM_HEADER, *rows])
    write_scores(path, inputs.signals, scores)
    details: tuple[Path, ...] = ()
    if options.details:
        losses = inputs.hearing_loss.numpy()
        low, high = model.interval(predicted.correctness, losses, options.interval, options.listeners)
        ends = [to_scores(end, percentage=options.scale_to_percentage) for end in (low, high)]
        if predicted.words is not None:
            prompts = zip(inputs.signals, inputs.words, strict=True)
            places = [(signal, i, word) for signal, words in prompts for i, word in enumerate(words)]
            of_words = [(*place, f"{p:.6f}") for place, p in zip(places, predicted.words, strict=True)]
            write_rows(more[0], [("signal", "position", "word", "probability"), *of_words])
        details = (more[0], more[1]) if model.predicts_words else (more[1],)
        lines = zip(inputs.signals, scores, *ends, strict=True)
        rows = [(signal, *(f"{value:.6f}" for value in values)) for signal, *values in lines]
        write_rows(more[1], [("signal", "score", "low", "high"), *rows])
    labelled = inputs.labelled.numpy()
    points = scores if options.scale_to_percentage else scores * PERCENT
    truth = to_scores(inputs.target.double().numpy()[labelled])
    found = agreement(points[labelled], truth) if labelled.any() else None
    trained_on = is_trained_on(facts, inputs.signals)
    return SplitScores(split, path, scores, found, trained_on, details, form, tuple(notes))


def submission_rows(metadata: Path, signals: Sequence[str], scores: np.ndarray) -> list[tuple[str, str]]:
    """Rows of the e-mail form: signal and score in points, in the order of the split's metadata."""
    wanted = [record.signal for record in read_metadata(metadata)]
    found = dict(zip(signals, scores.tolist(), strict=True))
    for kind, names in (("missing", set(wanted) - found.keys()), ("unknown", found.keys() - set(wanted))):
        some = f"{len(names)} {kind}, for instance {min(names, default='')}; make the tables from this metadata"
        expect(not names, "submission", f"one score for each of the {len(wanted)} signals of {metadata}", some)
    for signal, score in found.items():
        expect(0.0 <= score <= PERCENT, f"submission: signal {signal}", "a score in 0 to 100", score)
    return [(signal, f"{found[signal]:.6f}") for signal in wanted]
