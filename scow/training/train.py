"""Stage 4: labelled feature tables to a checkpoint, for either model, and cross-validated figures of a config.

1. Read the training tables, one or several pairs, and keep the labelled signals. With ``data.allow_missing`` files
   that are missing are noted and left out.
2. Group the signals by track where the metadata knows all tracks, else by prompt. Where it knows some, a note says so.
3. Fit the model to all signals. (The transformer holds out a fifth of the prompts, to choose the best epoch.)
4. Word and sentence model: five folds of cross-validation by group calibrate the intervals, and give the out-of-fold
   figures.
5. Write model.pt with the facts of the training, and the transformer's train_log.csv.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from scow.cli import note
from scow.config import options_from
from scow.data.metadata import read_metadata, responses_beside
from scow.data.provenance import PROMPT, sources_of
from scow.data.tables import HEARING_LOSSES, WHISPER_MILLIONS
from scow.device import resolve_device
from scow.errors import expect
from scow.features.whisper import resolve_model
from scow.io import atomic_write
from scow.models.checkpoint import MODELS, save_checkpoint
from scow.models.config import DataOptions, ModelConfig, TrainOptions, data_options, model_config
from scow.models.facts import fingerprint
from scow.models.inputs import ModelInput, join_inputs, load_input
from scow.models.intervals import calibrate
from scow.models.model import PERCENT, Epoch, FitSetup, Model
from scow.models.text_prior import PriorCorpus
from scow.training.cross_validation import CrossValidation, cross_validate

CALIBRATION_FOLDS = 5


@dataclass(frozen=True)
class CvOptions:
    """Section ``cross_validation:`` of a checkpoint's config."""

    folds: int = 5
    repeats: int = 4

    def __post_init__(self) -> None:
        expect(1 <= self.repeats <= 100, "cross_validation.repeats", "1 to 100", self.repeats)


@dataclass(frozen=True)
class RunOptions:
    """Top level of a checkpoint's config."""

    seed: int = 42
    device: str = "auto"
    cv: bool = False  # cross-validate instead of training a checkpoint
    ablation: tuple[str, ...] = ()  # variants to compare with the whole config (`scow.training.ablation`)

    def __post_init__(self) -> None:
        expect(self.seed >= 0, "seed", "0 or a positive number", self.seed)


@dataclass(frozen=True)
class TrainConfig:
    """A checkpoint's ``config.yaml``, as far as training reads it."""

    data: DataOptions
    model: ModelConfig
    train: TrainOptions
    cross_validation: CvOptions = CvOptions()
    run: RunOptions = RunOptions()


class Figures(NamedTuple):
    """How well a model predicts: ``out of fold`` (word model), ``validation`` (transformer), or ``cross-validated``."""

    kind: str
    rmse: float  # in points of 0-100
    r: float | None  # None where it is undefined


def train_config(config: Mapping[str, Any]) -> TrainConfig:
    """Read a checkpoint's config, hydra's overrides included."""
    options = options_from(TrainOptions, config.get("train"), "train")
    folds = config["train"].get("folds", 1)
    expect(folds == 1, "train.folds", "1 (there are no ensembles)", folds)
    cv = options_from(CvOptions, config.get("cross_validation"), "cross_validation")
    run = options_from(RunOptions, config, "config")
    data = _present(data_options(config.get("data")))
    return TrainConfig(data, model_config(config.get("model")), options, cv, run)


def _present(data: DataOptions) -> DataOptions:
    """The data without the files that may be missing and are."""
    if not data.allow_missing:
        return data
    absent = dict.fromkeys(path for path in data.training_files if not path.is_file())
    for path in absent:
        note(f"{path}: no such file; going on without")
    prior = zip(data.prior_metadata, data.prior_responses or [None] * len(data.prior_metadata), strict=True)
    kept = [(path, None if responses in absent else responses) for path, responses in prior if path not in absent]
    tables = tuple(pair for pair in data.train_tables if absent.keys().isdisjoint(pair))
    expect(tables, "data.tables", f"one of the training tables, such as {next(iter(absent), 'any')}", "none")
    return dataclasses.replace(
        data,
        train_tables=tables,
        metadata=tuple(path for path in data.metadata if path not in absent),
        prior_metadata=tuple(path for path, _ in kept),
        prior_responses=tuple(responses for _, responses in kept),
    )


def train(config: TrainConfig, *, on_epoch: Callable[[Epoch], None] | None = None) -> tuple[Model, dict[str, Any]]:
    """Fit a model to the training tables, and write it with its facts, and train_log.csv of a transformer."""
    parts = _training_parts(config.data, with_embeddings=config.model.embeddings)
    inputs = join_inputs(parts)
    model_class = MODELS[config.model.name]
    setup, grouped_by = fit_setup(config, inputs, with_tracks=model_class.has_intervals)
    model = model_class.fit(inputs, config.model, dataclasses.replace(setup, on_epoch=on_epoch))
    features = sources_of(config.data.train_table_files, (PROMPT, *config.data.feature_cols))
    whispers = {*model.feature_cols, *(resolve_model(features[of]["model"]).column for of in features if of == PROMPT)}
    facts: dict[str, Any] = {
        "features": features,
        "trained_on": fingerprint(inputs.signals),
        "trained_on_tables": [fingerprint(part.signals) for part in parts],
        "n_signals": len(inputs),
        "whisper_millions": sum(millions for column, millions in WHISPER_MILLIONS.items() if column in whispers),
        "empty": dict(inputs.empty),
        "target": config.data.target,
        "seed": config.run.seed,
        "versions": {name: version(name) for name in ("torch", "numpy", "pandas", "scikit-learn")},
    }
    if model.has_intervals:
        n_groups = len(set(setup.groups))
        expect(n_groups > 1, "data", f"training signals of at least 2 {grouped_by}s", n_groups)
        result = cross_validate(inputs, model_class, config.model, setup, min(CALIBRATION_FOLDS, n_groups))
        truth, predicted = result.truth / PERCENT, result.scores[0] / PERCENT
        model.quantiles = calibrate(predicted, truth, result.hearing_loss, inputs.listeners)
        facts |= {"grouped_by": grouped_by, "out_of_fold": {"rmse": result.rmse, "r": result.r}}
    if model.log:
        best = min(model.log, key=lambda epoch: epoch.val_rmse)
        options = {key: value for key, value in dataclasses.asdict(config.train).items() if key != "save_dir"}
        facts |= {"train": options, "kept_epochs": [best.epoch], "val_rmse": [best.val_rmse], "val_r": [best.val_r]}
    facts["n_parameters"] = sum(tensor.numel() for tensor in model.state_dict().values())  # quantiles are among them
    save_checkpoint(config.train.save_dir / "model.pt", model, facts)
    if model.log:
        with atomic_write(config.train.save_dir / "train_log.csv") as temporary:
            pd.DataFrame([vars(epoch) for epoch in model.log]).to_csv(temporary, index=False, lineterminator="\n")
    return model, facts


def figures_of(facts: Mapping[str, Any]) -> Figures:
    """The figures among the facts of a trained checkpoint."""
    if "out_of_fold" in facts:
        return Figures("out of fold", **facts["out_of_fold"])
    return Figures("validation", facts["val_rmse"][0], facts["val_r"][0])


def cross_validation(
    config: TrainConfig, *, progress: Callable[[str, int, int], None] | None = None
) -> tuple[CrossValidation, str]:
    """Cross-validate a config on its training tables; also whether its groups are tracks or prompts."""
    inputs = load_training_input(config.data, with_embeddings=config.model.embeddings)
    setup, grouped_by = fit_setup(config, inputs)
    cv, model_class = config.cross_validation, MODELS[config.model.name]
    return cross_validate(inputs, model_class, config.model, setup, cv.folds, cv.repeats, progress), grouped_by


def load_training_input(data: DataOptions, *, with_embeddings: bool = False) -> ModelInput:
    """The labelled signals of all training tables."""
    return join_inputs(_training_parts(data, with_embeddings=with_embeddings))


def _training_parts(data: DataOptions, *, with_embeddings: bool) -> list[ModelInput]:
    """The labelled signals of each pair of training tables."""
    expect(data.train_tables, "data", "csv_path_l and csv_path_r, the training tables", "none")
    inputs = [
        load_input(*pair, data.feature_cols, data.target, with_embeddings=with_embeddings) for pair in data.train_tables
    ]
    parts = [part.take(torch.nonzero(part.labelled).flatten()) for part in inputs]
    expect(any(map(len, parts)), f"{data.train_tables[0][0]}", f"signals with {data.target}", "none")
    return parts


def fit_setup(config: TrainConfig, inputs: ModelInput, *, with_tracks: bool = True) -> tuple[FitSetup, str]:
    """What the models are fitted with, and what the groups are: tracks where all are known, else prompts."""
    has_pseudo_prompts = PROMPT in sources_of(config.data.train_table_files, [PROMPT])
    paths = config.data.metadata if with_tracks or has_pseudo_prompts else ()
    records = {record.signal: record for path in paths for record in read_metadata(path)}
    tracks = {signal: record.track for signal, record in records.items() if with_tracks}
    prompts = list(inputs.prompts)
    if has_pseudo_prompts:  # they differ between the hearing losses of an excerpt
        without = [signal for signal in inputs.signals if signal not in records]
        found = f"none for {len(without)}, for instance {', '.join(without[:1])}"
        expect(not without, "data.metadata", "the prompts of all training signals, which folds keep together", found)
        prompts = [records[signal].prompt for signal in inputs.signals]
    n_known = sum(bool(tracks.get(signal)) for signal in inputs.signals)
    known = n_known == len(inputs)
    if 0 < n_known < len(inputs):
        note(f"the tracks of {len(inputs) - n_known} of {len(inputs)} signals are unknown; folds keep prompts together")
    groups = [tracks[signal] for signal in inputs.signals] if known else prompts
    corpus, device = _prior_corpus(config.data, config.model), resolve_device(config.run.device)
    setup = FitSetup(groups, config.run.seed, corpus=corpus, train=config.train, device=device)
    return setup, "track" if known else "prompt"


def _prior_corpus(data: DataOptions, model: ModelConfig) -> PriorCorpus:
    """What the text prior of a model learns from; nothing where the model has none."""
    given = data.prior_responses or (None,) * len(data.prior_metadata)
    return (
        PriorCorpus()
        if "prior" in model.without or model.name == "sentence"
        else _corpus(data.prior_metadata, given, "hearing_loss" not in model.without)
    )


@functools.lru_cache(maxsize=2)  # variants of a config fit the same priors
def _corpus(metadata: tuple[Path, ...], given: tuple[Path | None, ...], with_hearing_loss: bool) -> PriorCorpus:
    """Labelled records with a known response, which is empty where no word was correct."""
    files = [(path, responses or responses_beside(path)) for path, responses in zip(metadata, given, strict=True)]
    records = list(itertools.chain.from_iterable(read_metadata(*pair) for pair in files))
    labelled = [record for record in records if record.correctness == 0 or (record.correctness > 0 and record.response)]
    if records:
        found = "none; join them with data.prior_responses, or set data.prior_metadata=null"
        expect(any(r.response for r in labelled), f"{metadata[0]}", "responses for the text prior", found)
    if not with_hearing_loss:
        labelled = [dataclasses.replace(record, hearing_loss=HEARING_LOSSES[0]) for record in labelled]
    return PriorCorpus(labelled)
