"""From a left and a right feature table to padded tensors: the input of the models.

Rows of a signal are ordered SENTENCE_SCORE first, then its words as the table has them; signals are ordered as the
left table first names them. Missing feature values become 0.0, as in the published loader, and are counted. The target
is a column's value in the SENTENCE_SCORE row, as a share of 0-1, averaged over the channels.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scow.data.embeddings import embeddings_path, read_embeddings
from scow.data.tables import HEARING_LOSSES, MAX_WORDS, TEXT_COLUMNS, WHISPER_COLUMNS, read_table, require_columns
from scow.errors import expect
from scow.text.labels import split_responses

FRONT_TOKENS = 2
MAX_ROWS = FRONT_TOKENS + 1 + MAX_WORDS  # positions of the transformer: front tokens, sentence row, words
TUPLES = ("signals", "prompts", "responses", "words")  # fields of a model input by signal
TENSORS = ("n_rows", "hearing_loss", "target")
MAX_FEATURE = 1e30  # far beyond any feature, and well inside float32


@dataclass(frozen=True)
class ModelInput:
    """Signals as tensors, left and right channel side by side."""

    signals: tuple[str, ...]  # ids; all tuples and first axes have length n
    prompts: tuple[str, ...]  # normalised lyrics
    responses: tuple[str, ...]  # what the listener wrote down; empty where unknown
    words: tuple[tuple[str, ...], ...]  # words of each prompt, as the tables have them
    feature_cols: tuple[str, ...]  # columns behind the last axis of features
    features: Tensor  # shape (n, 2, rows, n_features), float32, padded with 0.0 behind a signal's own rows
    n_rows: Tensor  # shape (n,), int64
    hearing_loss: Tensor  # shape (n,), int64, index into scow.data.tables.HEARING_LOSSES
    target: Tensor  # shape (n,), float32, correctness in 0-1; NaN where there is no label
    empty: Mapping[str, int] = field(default_factory=dict)  # signals of the tables that lack a feature, by column
    # Of all models, shape (n, 2, width), NaN where not computed; empty where not read.
    embeddings: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def labelled(self) -> Tensor:
        """Mask of the signals that have a label, shape (n,), bool."""
        return ~torch.isnan(self.target)

    @property
    def word_signals(self) -> np.ndarray:
        """Index of each word's signal, shape (n_words,)."""
        return np.repeat(np.arange(len(self)), [len(words) for words in self.words])

    @property
    def listeners(self) -> np.ndarray:
        """Number of responses to each signal, shape (n,); 1 where none is known."""
        return np.array([len(split_responses(response)) for response in self.responses])

    @property
    def prior_texts(self) -> list[tuple[str, str]]:
        """Prompt and hearing loss of each signal, as the text prior takes them."""
        names = [HEARING_LOSSES[i] for i in self.hearing_loss.tolist()]
        return [(" ".join(words), name) for words, name in zip(self.words, names, strict=True)]

    def take(self, index: Tensor) -> ModelInput:
        """Signals at `index` (int64), cut to the longest of them."""
        taken: dict[str, Any] = {name: getattr(self, name)[index] for name in TENSORS}
        taken |= {name: tuple(getattr(self, name)[i] for i in index.tolist()) for name in TUPLES}
        rows = int(taken["n_rows"].max()) if len(index) else 0
        embeddings = self.embeddings[index] if len(self.embeddings) else self.embeddings
        return dataclasses.replace(self, features=self.features[index, :, :rows], embeddings=embeddings, **taken)


@dataclass(frozen=True)
class Excerpt:
    """Features of one excerpt, computed from audio."""

    words: tuple[str, ...]  # of the prompt
    hearing_loss: str  # of scow.data.tables.HEARING_LOSSES
    features: np.ndarray  # shape (2, 1 + len(words), n_features), the sentence's row first; NaN where not computed


def load_input(
    left: Path,
    right: Path,
    feature_cols: Sequence[str],
    target: str = "correctness",
    optional_cols: Sequence[str] = (),
    *,
    with_embeddings: bool = False,
) -> ModelInput:
    """Read the tables of both channels, each once.

    `target` is the column that becomes the target. The `optional_cols` among the features are left out, all of them,
    where a table lacks any. Embeddings are those of the Whisper columns among the features.
    """
    tables = [read_table(path) for path in (left, right)]
    if any(column not in table for table in tables for column in optional_cols):
        feature_cols = [column for column in feature_cols if column not in optional_cols]
    for path, table in zip((left, right), tables, strict=True):
        _check(path, table, [*feature_cols, target])
    tables = _aligned(left, right, tables)
    codes, signals = pd.factorize(tables[0]["signal"])
    counts = np.bincount(codes)
    longest, n_words = signals[int(counts.argmax())], counts.max() - 1
    expect(n_words <= MAX_WORDS, f"{left}: signal {longest}", f"at most {MAX_WORDS} words", n_words)
    firsts = tables[0].drop_duplicates("signal")
    words = tables[0][tables[0]["word_count"] == 1]  # a sentence row has no response
    labels = np.mean([table.drop_duplicates("signal")[target].to_numpy() for table in tables], axis=0)
    hearing_loss = firsts["hearing_loss"].map({name: i for i, name in enumerate(HEARING_LOSSES)})
    empty = {column: n for column in feature_cols if (n := _n_without(tables, column))}
    embeddings = torch.zeros(0)
    if with_embeddings:
        columns = [column for column in feature_cols if column in WHISPER_COLUMNS]
        embeddings = torch.from_numpy(np.stack([_embeddings(path, columns, signals) for path in (left, right)], axis=1))
        n_missing = int(embeddings.isnan().any(dim=2).any(dim=1).sum())
        empty |= {"embedding": n_missing} if n_missing else {}
    return ModelInput(
        signals=tuple(signals),
        prompts=tuple(firsts["prompt"]),
        responses=tuple(words.drop_duplicates("signal")["response"]),
        words=tuple(words.groupby("signal", sort=False)["word"].agg(tuple)),
        feature_cols=tuple(feature_cols),
        features=_padded(counts, [table[list(feature_cols)].to_numpy(dtype=np.float32) for table in tables]),
        n_rows=torch.from_numpy(counts.astype(np.int64)),
        hearing_loss=torch.from_numpy(hearing_loss.to_numpy(dtype=np.int64, copy=True)),
        target=torch.from_numpy(labels.astype(np.float32)),
        empty=empty,
        embeddings=embeddings,
    )


def input_of(excerpts: Sequence[Excerpt], feature_cols: Sequence[str]) -> ModelInput:
    """Excerpts as the model input that their tables would give; at least one, of at most `MAX_WORDS` words each."""
    counts = np.array([len(excerpt.words) + 1 for excerpt in excerpts])
    return ModelInput(
        signals=tuple(map(str, range(len(excerpts)))),
        prompts=tuple(" ".join(excerpt.words) for excerpt in excerpts),
        responses=("",) * len(excerpts),
        words=tuple(excerpt.words for excerpt in excerpts),
        feature_cols=tuple(feature_cols),
        features=_padded(counts, [np.concatenate([excerpt.features[i] for excerpt in excerpts]) for i in (0, 1)]),
        n_rows=torch.from_numpy(counts.astype(np.int64)),
        hearing_loss=torch.tensor([HEARING_LOSSES.index(excerpt.hearing_loss) for excerpt in excerpts]),
        target=torch.full((len(excerpts),), torch.nan),
    )


def join_inputs(inputs: Sequence[ModelInput]) -> ModelInput:
    """Several inputs of the same features as one; no signal may be in two of them."""
    signals = pd.Series([signal for part in inputs for signal in part.signals])
    twice = signals[signals.duplicated()].tolist()
    expect(not twice, "data.tables", "each signal once", f"{', '.join(twice[:1])} twice")
    longest = max(part.features.shape[2] for part in inputs)
    padded = [nn.functional.pad(part.features, (0, 0, 0, longest - part.features.shape[2])) for part in inputs]
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in inputs]) for name in TENSORS}
    joined |= {name: tuple(value for part in inputs for value in getattr(part, name)) for name in TUPLES}
    empty = sum((Counter(part.empty) for part in inputs), Counter())
    embeddings = torch.cat([part.embeddings for part in inputs])
    return dataclasses.replace(inputs[0], features=torch.cat(padded), empty=empty, embeddings=embeddings, **joined)


def _embeddings(table: Path, columns: Sequence[str], signals: Iterable[str]) -> np.ndarray:
    """Embeddings of one channel, shape (n, width), those of all models side by side; NaN where there is none."""
    of_models = []
    for column in columns:
        _, found = read_embeddings(embeddings_path(table, column))
        absent = np.full(next(iter(found.values())).shape, np.nan, dtype=np.float32)
        of_models.append(np.stack([found.get(signal, absent).ravel() for signal in signals]))
    return np.concatenate(of_models, axis=1)


def _padded(counts: np.ndarray, channels: Sequence[np.ndarray]) -> Tensor:
    """Rows of all signals, one after the other, as a tensor of shape (n, 2, rows, n_features); NaN becomes 0.0."""
    owner = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    features = np.zeros((len(counts), 2, counts.max(), channels[0].shape[1]), dtype=np.float32)
    for channel, values in enumerate(channels):
        features[owner, channel, row] = np.nan_to_num(values, nan=0.0)
    return torch.from_numpy(features)


def _check(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table without the columns as numbers, or with a signal without sentence row."""
    require_columns(path, table, columns)
    for column in columns:
        where = f"{path}: column {column}"
        expect(column not in TEXT_COLUMNS, where, "numbers, as a feature or target", "text")
        expect(not table[column].abs().max() > MAX_FEATURE, where, f"values below {MAX_FEATURE:g}", "larger")
    signals = set(table["signal"])
    without = signals - set(table.loc[table["word_count"] == 0, "signal"])
    found = f"{len(without)} of {len(signals)} without, for instance {min(without, default='')}"
    expect(not without, path, "a SENTENCE_SCORE row of each signal", f"{found}; run python whisper_inference.py")


def _n_without(tables: Sequence[pd.DataFrame], column: str) -> int:
    """Signals that lack a feature in some row of either table; `n_words` is empty in every sentence row."""
    lacking = [t.loc[t[column].isna() & ((t["word_count"] == 1) | (column != "n_words")), "signal"] for t in tables]
    return pd.concat(lacking).nunique()


def _aligned(left: Path, right: Path, tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Both tables with the same signals, words and labels in the same rows, sentence rows first."""
    both = f"{left} and {right}"
    single = set(tables[0]["signal"]) ^ set(tables[1]["signal"])
    expect(not single, both, "the same signals", f"{len(single)} in only one, for instance {min(single, default='')}")
    position = {signal: i for i, signal in enumerate(tables[0]["signal"].unique())}
    ordered = [
        table.assign(_position=table["signal"].map(position)).sort_values(
            ["_position", "word_count"], kind="stable", ignore_index=True
        )
        for table in tables
    ]
    for column in ("word", "hearing_loss", "correctness"):
        n = min(map(len, ordered))
        one, other = (table[column].iloc[:n] for table in ordered)
        same = (one == other) | (one.isna() & other.isna())
        signal = ordered[0]["signal"].iloc[n - 1 if same.all() else int(same.argmin())]
        alike = same.all() and len(ordered[0]) == len(ordered[1])
        expect(alike, both, f"the same {column} in both", f"signal {signal} to differ")
    return ordered
