"""The sections of a checkpoint's ``config.yaml`` that describe a model, how it is trained, and its data.

Each section is a dataclass whose fields are the keys of the section. Ranges are checked where an object is made; what
makes a run long or large has an upper limit, far above any use, because checkpoints come from other people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from scow.config import as_section, options_from
from scow.data.tables import HEARING_LOSSES
from scow.errors import expect, nearest
from scow.io import portable_path

# Blocks of features of the word model (`scow.models.word_features`), and names that they had before.
BLOCKS = ("agg", "nb", "sent", "n", "hearing_loss", "text", "prior", "dns", "quality", "knots", "pseudo")
OLD_BLOCK_NAMES = {"severity": "hearing_loss", "hinge": "knots"}


@dataclass(frozen=True)
class TransformerConfig:
    """Section ``model:`` for ``name: published``."""

    name: ClassVar = "published"
    embeddings: ClassVar = False
    d_model: int = 64  # width of a token
    nhead: int = 4  # attention heads; must divide d_model
    num_layers: int = 1  # encoder layers per channel
    dropout: float = 0.1  # share of activations dropped in training
    n_hearing: int = 3  # number of hearing losses
    without: tuple[str, ...] = ()  # hearing_loss, to leave it out

    def __post_init__(self) -> None:
        even = 2 <= self.d_model <= 1024 and self.d_model % 2 == 0
        expect(even, "model.d_model", "an even number, 2 to 1024", self.d_model)
        divides = self.nhead >= 1 and self.d_model % self.nhead == 0
        expect(divides, "model.nhead", f"a divisor of d_model {self.d_model}", self.nhead)
        expect(1 <= self.num_layers <= 24, "model.num_layers", "1 to 24", self.num_layers)
        expect(0 <= self.dropout < 1, "model.dropout", "a share from 0 to below 1", self.dropout)
        expect(len(HEARING_LOSSES) <= self.n_hearing <= 100, "model.n_hearing", "3 to 100", self.n_hearing)
        object.__setattr__(self, "without", _blocks(self.without, ("hearing_loss",)))


@dataclass(frozen=True)
class WordModelConfig:
    """Section ``model:`` for ``name: word``."""

    name: ClassVar = "word"
    c: float = 0.001  # inverse strength of the regularisation
    prior_c: float = 0.02  # the same, of the text prior
    ear: str = "both"  # channels to use: both, left or right
    without: tuple[str, ...] = ()  # blocks of features to leave out, for ablations
    embeddings: bool = False  # also take embeddings of Whisper's encoder
    components: int = 16  # to which they are reduced

    def __post_init__(self) -> None:
        expect(1 <= self.components <= 1000, "model.components", "1 to 1000", self.components)
        for key, value in (("c", self.c), ("prior_c", self.prior_c)):
            expect(0 < value < math.inf, f"model.{key}", "a positive number", value)
        expect(self.ear in ("both", "left", "right"), "model.ear", "both, left or right", self.ear)
        object.__setattr__(self, "without", _blocks(self.without, BLOCKS))


def _blocks(names: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """Blocks to leave out, by the names that they have now."""
    blocks = tuple(OLD_BLOCK_NAMES.get(name, name) for name in names)
    for block in blocks:
        expect(block in known, "model.without", f"blocks of features ({nearest(block, known)})", block)
    return blocks


@dataclass(frozen=True)
class SentenceModelConfig(WordModelConfig):
    """Section ``model:`` for ``name: sentence``; there is no text prior."""

    name: ClassVar = "sentence"
    c: float = 0.01


ModelConfig = TransformerConfig | WordModelConfig
MODEL_CONFIGS: dict[str, type[ModelConfig]] = {
    of.name: of for of in (TransformerConfig, WordModelConfig, SentenceModelConfig)
}


@dataclass(frozen=True)
class TrainOptions:
    """Section ``train:``; all but `save_dir` is for the transformer."""

    save_dir: Path  # where model.pt and train_log.csv go
    batch_size: int = 1024  # signals per step; the correlation in the loss is over a batch
    epochs: int = 100
    lr: float = 1e-4  # learning rate of AdamW
    corr_lambda: float = 0.4  # weight of the correlation term
    val_split: float = 0.2  # share of the prompts held out to choose the epoch

    def __post_init__(self) -> None:
        expect(2 <= self.batch_size <= 10**6, "train.batch_size", "2, for a correlation, to 1000000", self.batch_size)
        expect(1 <= self.epochs <= 10_000, "train.epochs", "1 to 10000", self.epochs)
        expect(0 < self.lr < math.inf, "train.lr", "a positive number", self.lr)
        expect(0 <= self.corr_lambda < math.inf, "train.corr_lambda", "0 or a positive number", self.corr_lambda)
        expect(0 < self.val_split < 1, "train.val_split", "a share between 0 and 1", self.val_split)


@dataclass(frozen=True)
class DataOptions:
    """Section ``data:``."""

    feature_cols: tuple[str, ...]  # columns that become features, in order
    tables: dict[str, tuple[Path, Path]]  # left and right by split: <split>_path_l and _r, csv_path_l and _r for train
    target: str = "correctness"  # column that becomes the target
    train_tables: tuple[tuple[Path, Path], ...] = ()  # `tables:` of the config, else the tables of the split train
    metadata: tuple[Path, ...] = ()  # of the training tables, for the track of each signal; for cross-validation
    prior_metadata: tuple[Path, ...] = ()  # labelled prompts and responses that the text prior learns from
    prior_responses: tuple[Path | None, ...] = ()  # to join to each of prior_metadata; None: those beside, if any
    allow_missing: bool = False  # train without those of these files that are missing
    split_metadata: dict[str, Path] = field(default_factory=dict)  # <split>_metadata, for submissions

    @property
    def train_table_files(self) -> list[Path]:
        """Both tables of each pair."""
        return [path for pair in self.train_tables for path in pair]

    @property
    def training_files(self) -> list[Path]:
        """All files that training reads."""
        return [*self.train_table_files, *self.metadata, *self.prior_metadata, *filter(None, self.prior_responses)]


def model_config(section: object) -> ModelConfig:
    """The section ``model:``; without a name it is the transformer."""
    given = as_section(section, "model")
    name = str(given.pop("name", "published"))
    expect(name in MODEL_CONFIGS, "model.name", " or ".join(MODEL_CONFIGS), name)
    return options_from(MODEL_CONFIGS[name], given, "model")


def data_options(section: object) -> DataOptions:
    """The section ``data:``."""
    given = {key: value for key, value in as_section(section, "data").items() if value is not None}
    columns = _names(given, "feature_cols")
    expect(columns, "data.feature_cols", "a list of column names", "none")
    expect(len(set(columns)) == len(columns), "data.feature_cols", "each column once", ", ".join(columns))
    left, right, metadata = (_paths_by_split(given, ending) for ending in ("_path_l", "_path_r", "_metadata"))
    alone = ", ".join(sorted(left.keys() ^ right.keys()))
    expect(not alone, "data", "a left and a right table of each split", f"only one of {alone}")
    tables = {split: (left[split], right[split]) for split in left}
    allow_missing = given.get("allow_missing", False)
    expect(isinstance(allow_missing, bool), "data.allow_missing", "true or false", allow_missing)
    pairs = given.get("tables", [])
    paired = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    expect(paired, "data.tables", "pairs of tables [[left, right], ...]", pairs)
    train_tables = tuple((portable_path(str(one)), portable_path(str(other))) for one, other in pairs)
    files = {key: tuple(map(portable_path, _names(given, key))) for key in ("metadata", "prior_metadata")}
    responses = given.get("prior_responses", [])
    if isinstance(responses, list):
        given["prior_responses"] = ["" if name is None else name for name in responses]
    responses = tuple(portable_path(name) if name else None for name in _names(given, "prior_responses"))
    n_prior = len(files["prior_metadata"])
    expected = f"none, or {n_prior} for prior_metadata"
    expect(len(responses) in (0, n_prior), "data.prior_responses", expected, len(responses))
    return DataOptions(
        columns,
        tables,
        target=str(given.get("target", "correctness")),
        train_tables=train_tables or tuple(tables[split] for split in tables if split == "train"),
        split_metadata={split: metadata[split] for split in tables if split in metadata},
        allow_missing=allow_missing,
        prior_responses=responses,
        **files,
    )


def _paths_by_split(section: dict[str, Any], ending: str) -> dict[str, Path]:
    """Paths of the keys ``<split><ending>``; the split train has tables without its name."""
    paths = {key.removesuffix(ending): portable_path(str(v)) for key, v in section.items() if key.endswith(ending)}
    return {"train" if split == "csv" else split: path for split, path in paths.items()}


def _names(section: dict[str, Any], key: str) -> tuple[str, ...]:
    """A name, a list of names or nothing, as a tuple."""
    names = section.get(key, [])
    names = [names] if isinstance(names, str) else names
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    expect(valid, f"data.{key}", "a name or a list of names", names)
    return tuple(names)
