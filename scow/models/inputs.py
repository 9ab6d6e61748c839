"""From a left and a right feature table to padded tensors, once.

Rows of a signal are ordered SENTENCE_SCORE first, then its words as the table has them; signals are ordered as the
left table first names them. Missing feature values become 0.0, as in the published loader. The target is a column's
value in the SENTENCE_SCORE row, as a share of 0-1, averaged over the ears.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scow.config import as_section
from scow.data.metadata import metadata_beside
from scow.data.tables import HEARING_LOSSES, TEXT_COLUMNS, read_table, require_columns
from scow.errors import UserError
from scow.io import portable_path
from scow.models.transformer import FRONT_TOKENS, MAX_ROWS

LARGEST = 1e30  # far beyond any feature, and well inside float32
MAX_WORDS = MAX_ROWS - FRONT_TOKENS - 1  # of a prompt, beside its sentence row


@dataclass(frozen=True)
class DataOptions:
    """Section ``data:`` of a checkpoint's config.

    Attributes
    ----------
    feature_cols : tuple of str
        Columns that become features, in order.
    tables : dict of str to (Path, Path)
        Left and right table by split. In the config they are ``csv_path_l`` and ``_r`` for the split train, and
        ``<split>_path_l`` and ``_r`` for any other.
    target : str
        Column that becomes the target.
    train_tables : tuple of (Path, Path)
        Pairs of tables to train on: ``tables`` of the config, a list of pairs, else those of the split train.
    metadata : tuple of Path
        Metadata of the training tables, for the track of each signal; only cross-validation reads it.
    prior_metadata : tuple of Path
        Labelled metadata, whose prompts and responses the text prior of the word model learns from.
    prior_responses : tuple of Path
        Files of responses to join to each of `prior_metadata`, as CLIP2 has them; none, or one each.
    split_metadata : dict of str to Path
        Metadata by split, ``<split>_metadata`` in the config, where it does not lie beside the left table under its
        usual name; only a submission reads it.
    """

    feature_cols: tuple[str, ...]
    tables: dict[str, tuple[Path, Path]]
    target: str = "correctness"
    train_tables: tuple[tuple[Path, Path], ...] = ()
    metadata: tuple[Path, ...] = ()
    prior_metadata: tuple[Path, ...] = ()
    prior_responses: tuple[Path, ...] = ()
    split_metadata: dict[str, Path] = field(default_factory=dict)

    def metadata_of(self, split: str) -> Path:
        """Metadata of a split that has tables."""
        return self.split_metadata.get(split) or metadata_beside(self.tables[split][0])


@dataclass(frozen=True)
class ModelInput:
    """Signals as tensors, left and right ear side by side.

    Attributes
    ----------
    signals : tuple of str, length n
        Ids.
    prompts, responses : tuple of str, length n
        Normalised lyrics, and what the listener wrote down (empty where unknown).
    words : tuple of tuple of str, length n
        Words of each prompt, as the tables have them.
    feature_cols : tuple of str
        Columns behind the last axis of `features`.
    features : Tensor, shape (n, 2, rows, n_features), float32
        Padded with 0.0 behind a signal's own rows.
    n_rows : Tensor, shape (n,), int64
    severity : Tensor, shape (n,), int64
        Index into `scow.data.tables.HEARING_LOSSES`.
    target : Tensor, shape (n,), float32
        Correctness in 0-1; NaN where there is no label.
    """

    signals: tuple[str, ...]
    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    feature_cols: tuple[str, ...]
    features: Tensor
    n_rows: Tensor
    severity: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def labelled(self) -> Tensor:
        """Mask of the signals that have a label, shape (n,), bool."""
        return ~torch.isnan(self.target)

    def take(self, index: Tensor) -> ModelInput:
        """Signals at `index` (int64), cut to the longest of them."""
        n_rows = self.n_rows[index]
        rows = int(n_rows.max()) if len(index) else 0
        chosen = index.tolist()
        return ModelInput(
            signals=tuple(self.signals[i] for i in chosen),
            prompts=tuple(self.prompts[i] for i in chosen),
            responses=tuple(self.responses[i] for i in chosen),
            words=tuple(self.words[i] for i in chosen),
            feature_cols=self.feature_cols,
            features=self.features[index, :, :rows],
            n_rows=n_rows,
            severity=self.severity[index],
            target=self.target[index],
        )


@dataclass(frozen=True)
class Excerpt:
    """What was heard of one excerpt, straight from audio.

    Attributes
    ----------
    words : tuple of str
        Of the prompt.
    hearing_loss : str
        Of `scow.data.tables.HEARING_LOSSES`.
    features : ndarray, shape (2, 1 + len(words), n_features)
        Left and right ear; the sentence's row first. NaN where something could not be computed.
    """

    words: tuple[str, ...]
    hearing_loss: str
    features: np.ndarray


def data_options(config_section: object) -> DataOptions:
    """Read the ``data:`` section of a checkpoint's config.

    Raises
    ------
    UserError
        No features, a table of one ear only, or a value of the wrong kind.
    """
    section = as_section(config_section, "data")
    left: dict[str, Path] = {}
    right: dict[str, Path] = {}
    for key, value in section.items():
        for suffix, side in (("_path_l", left), ("_path_r", right)):
            if key.endswith(suffix) and value is not None:
                split = key.removesuffix(suffix)
                side["train" if split == "csv" else split] = portable_path(str(value))
    alone = sorted(left.keys() ^ right.keys())
    if alone:
        raise UserError(f"data: expected a table per ear, found only one for the split {alone[0]}; add the other")
    columns = section.get("feature_cols")
    if not isinstance(columns, (list, tuple)) or not columns or not all(isinstance(name, str) for name in columns):
        raise UserError(
            f"data.feature_cols: expected a list of column names, found {columns!r}; see the shipped config"
        )
    twice = [name for name in columns if list(columns).count(name) > 1]
    if twice:
        raise UserError(f"data.feature_cols: expected each column once, found {twice[0]} twice; drop one")
    tables = {split: (left[split], right[split]) for split in left}
    pairs = section.get("tables")
    if pairs is not None and not (isinstance(pairs, list) and all(isinstance(p, list) and len(p) == 2 for p in pairs)):
        raise UserError(f"data.tables: expected pairs of tables [[left, right], ...], found {pairs!r}; mend it")
    train_tables = [(portable_path(str(one)), portable_path(str(other))) for one, other in pairs or ()]
    prior_metadata, prior_responses = _paths(section, "prior_metadata"), _paths(section, "prior_responses")
    if prior_responses and len(prior_responses) != len(prior_metadata):
        raise UserError(
            f"data.prior_responses: expected {len(prior_metadata)} files, one for each of data.prior_metadata, "
            f"found {len(prior_responses)}; mend the config"
        )
    return DataOptions(
        feature_cols=tuple(columns),
        tables=tables,
        target=str(section.get("target", "correctness")),
        train_tables=tuple(train_tables) or ((tables["train"],) if "train" in tables else ()),
        metadata=_paths(section, "metadata"),
        prior_metadata=prior_metadata,
        prior_responses=prior_responses,
        split_metadata={
            split: portable_path(str(section[f"{split}_metadata"]))
            for split in tables
            if section.get(f"{split}_metadata") is not None
        },
    )


def _paths(section: Mapping[str, Any], key: str) -> tuple[Path, ...]:
    """A path, a list of paths or nothing, as a tuple."""
    value = section.get(key)
    items = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise UserError(f"data.{key}: expected a path or a list of paths, found {value!r}; mend the config")
    return tuple(portable_path(item) for item in items)


def join_inputs(batches: Sequence[ModelInput]) -> ModelInput:
    """Several batches of the same features as one.

    Raises
    ------
    UserError
        A signal stands in more than one of them.
    """
    if len(batches) == 1:
        return batches[0]
    signals = [signal for batch in batches for signal in batch.signals]
    if len(set(signals)) < len(signals):
        twice = next(signal for signal in signals if signals.count(signal) > 1)
        raise UserError(f"data.tables: signal {twice} stands in more than one pair of tables; expected each once")
    longest = max(batch.features.shape[2] for batch in batches)
    padded = [nn.functional.pad(b.features, (0, 0, 0, longest - b.features.shape[2])) for b in batches]
    return ModelInput(
        signals=tuple(signals),
        prompts=tuple(prompt for batch in batches for prompt in batch.prompts),
        responses=tuple(response for batch in batches for response in batch.responses),
        words=tuple(words for batch in batches for words in batch.words),
        feature_cols=batches[0].feature_cols,
        features=torch.cat(padded),
        n_rows=torch.cat([batch.n_rows for batch in batches]),
        severity=torch.cat([batch.severity for batch in batches]),
        target=torch.cat([batch.target for batch in batches]),
    )


def load_input(left: Path, right: Path, feature_cols: Sequence[str], target: str = "correctness") -> ModelInput:
    """Read both ears' tables.

    Parameters
    ----------
    left, right : Path
        Feature tables of the same split.
    feature_cols : sequence of str
        Columns that become features, in order.
    target : str
        Column that becomes the target.

    Returns
    -------
    ModelInput

    Raises
    ------
    UserError
        A table cannot be read, lacks a column, holds a signal without SENTENCE_SCORE row, or the tables disagree on
        their signals, words or labels.
    """
    tables = _aligned(left, right, [_checked(path, feature_cols, target) for path in (left, right)])
    codes, signals = pd.factorize(tables[0]["signal"])
    counts = np.bincount(codes)
    if counts.max() > MAX_WORDS + 1:
        longest = signals[int(counts.argmax())]
        raise UserError(f"{left}: signal {longest} has {counts.max() - 1} words; expected at most {MAX_WORDS}")
    firsts = tables[0].drop_duplicates("signal")
    words = tables[0][tables[0]["word_count"] == 1]  # a sentence row has no response
    labels = np.mean([table.drop_duplicates("signal")[target].to_numpy() for table in tables], axis=0)
    severity = firsts["hearing_loss"].map({name: i for i, name in enumerate(HEARING_LOSSES)})
    return ModelInput(
        signals=tuple(signals),
        prompts=tuple(firsts["prompt"]),
        responses=tuple(words.drop_duplicates("signal")["response"]),
        words=tuple(words.groupby("signal", sort=False)["word"].agg(tuple)),
        feature_cols=tuple(feature_cols),
        features=_padded(counts, [table[list(feature_cols)].to_numpy(dtype=np.float32) for table in tables]),
        n_rows=torch.from_numpy(counts.astype(np.int64)),
        severity=torch.from_numpy(severity.to_numpy(dtype=np.int64, copy=True)),
        target=torch.from_numpy(labels.astype(np.float32)),
    )


def input_of(excerpts: Sequence[Excerpt], feature_cols: Sequence[str]) -> ModelInput:
    """Excerpts that never were a table, as the batch that their tables would give.

    Parameters
    ----------
    excerpts : sequence of Excerpt
        At least one, of at most `MAX_WORDS` words each.
    feature_cols : sequence of str
        Columns behind the last axis of each excerpt's features.
    """
    counts = np.array([len(excerpt.words) + 1 for excerpt in excerpts])
    ears = [np.concatenate([excerpt.features[ear] for excerpt in excerpts]) for ear in (0, 1)]
    return ModelInput(
        signals=tuple(map(str, range(len(excerpts)))),
        prompts=tuple(" ".join(excerpt.words) for excerpt in excerpts),
        responses=("",) * len(excerpts),
        words=tuple(excerpt.words for excerpt in excerpts),
        feature_cols=tuple(feature_cols),
        features=_padded(counts, ears),
        n_rows=torch.from_numpy(counts.astype(np.int64)),
        severity=torch.tensor([HEARING_LOSSES.index(excerpt.hearing_loss) for excerpt in excerpts]),
        target=torch.full((len(excerpts),), torch.nan),
    )


def _padded(counts: np.ndarray, ears: Sequence[np.ndarray]) -> Tensor:
    """Rows of all signals, one after the other, as a tensor of shape (n, 2, rows, n_features); NaN becomes 0.0."""
    owner = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    features = np.zeros((len(counts), 2, counts.max(), ears[0].shape[1]), dtype=np.float32)
    for ear, values in enumerate(ears):
        features[owner, ear, row] = np.nan_to_num(values, nan=0.0)
    return torch.from_numpy(features)


def _checked(path: Path, feature_cols: Sequence[str], target: str) -> pd.DataFrame:
    """A table that has the columns, and a sentence row for each signal."""
    table = read_table(path)
    require_columns(path, table, (*feature_cols, target))
    for column in (*feature_cols, target):
        if column in TEXT_COLUMNS:
            raise UserError(f"{path}: column {column} is text; expected a column of numbers as feature or target")
        if table[column].abs().max() > LARGEST:
            raise UserError(
                f"{path}: column {column}: expected features below {LARGEST:g}, found larger; mend the cell"
            )
    signals = table["signal"].unique()
    without = set(signals) - set(table.loc[table["word_count"] == 0, "signal"])
    if without:
        raise UserError(
            f"{path}: {len(without)} of {len(signals)} signals, for instance {min(without)}, have no SENTENCE_SCORE "
            "row; expected one each: run python whisper_inference.py"
        )
    empty = set(signals) - set(table.loc[table["word_count"] == 1, "signal"])
    if empty:
        raise UserError(f"{path}: signal {min(empty)} has no word rows; make the table again with metadata_to_csv.py")
    return table


def _aligned(left: Path, right: Path, tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Both tables with the same signals, words and severities in the same rows, sentence rows first."""
    names = [set(table["signal"]) for table in tables]
    if names[0] != names[1]:
        single = names[0] ^ names[1]
        raise UserError(
            f"{left} and {right} disagree: {len(single)} signals stand in only one of them, for instance "
            f"{min(single)}; expected both ears of the same signals: make both tables from the same metadata"
        )
    position = {signal: i for i, signal in enumerate(tables[0]["signal"].unique())}
    ordered = [
        table.assign(_position=table["signal"].map(position))
        .sort_values(["_position", "word_count"], kind="stable", ignore_index=True)
        .drop(columns="_position")
        for table in tables
    ]
    for column in ("word", "hearing_loss", "correctness"):
        ours, theirs = ordered[0][column], ordered[1][column]
        if len(ours) != len(theirs) or not ours.equals(theirs):
            rows = min(len(ours), len(theirs))
            differs = np.flatnonzero((ours[:rows] != theirs[:rows]) & ~(ours[:rows].isna() & theirs[:rows].isna()))
            signal = ordered[0]["signal"].iloc[int(differs[0]) if len(differs) else rows - 1]
            raise UserError(
                f"{left} and {right} disagree on {column} of signal {signal}; "
                "expected the same in both: make both tables from the same metadata"
            )
    return ordered
