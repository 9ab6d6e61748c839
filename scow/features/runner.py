"""Stages 2 and 3: fill the Whisper columns and the metric columns of feature tables.

Both stages work alike. Tables of the same split and folder are handled together, so that a file is decoded once
for both ears. A signal whose cells are filled is passed over, unless `overwrite` is set; a rerun therefore does only
what is missing. Signals are computed in batches by a job (`scow.features.listening`, `scow.features.measuring`) on an engine
(`scow.features.pool`). Values go to a journal as they come (`scow.features.partial`), and the tables are replaced once a column is
through, so that a table on disk is always whole. One run at a time works on a table (`scow.io`). Where the numbers
come from is noted beside the table (`scow.data.provenance`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.config import options_from, unknown_keys
from scow.data.feature_config import Dataset, FeatureConfig
from scow.data.provenance import ColumnProvenance, Source, check_source, read_provenance, updated, write_provenance
from scow.data.tables import (
    DNSMOS_COLUMNS,
    FEATURE_COLUMNS,
    INTRUSIVE_COLUMNS,
    METRIC_COLUMNS,
    WHISPER_COLUMNS,
    order_columns,
    read_table,
    with_sentence_rows,
    write_table,
)
from scow.device import resolve_device
from scow.errors import UserError
from scow.features import dnsmos as dnsmos_network
from scow.features import intrusive as quality_metrics
from scow.features import whisper as whisper_words
from scow.features.dnsmos import installed_model
from scow.features.listening import Listening
from scow.features.measuring import Measuring, loaded_dnsmos
from scow.features.partial import Done, Failure, Outcome, PartialResults, outcomes_by_signal
from scow.features.pool import Engine, Job, Pool, open_pool
from scow.features.tasks import SignalTask
from scow.features.whisper import WhisperModel, fetch_weights, resolve_model, weights_path
from scow.features.work import run_batches
from scow.io import atomic_write, locked, sha256_of

SIGNALS_PER_BATCH = 8  # sixteen ears: the decoder gains little from more, and a killed run loses no more than these


@dataclass(frozen=True)
class WhisperOptions:
    """Section ``whisper:`` of ``feature_config.yaml``.

    Attributes
    ----------
    splits : tuple of str
        Splits to work on where the command line names none.
    model_dir : Path or None
        Folder of ``<name>.pt``, relative to the config; downloads land there.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    batch_size : int or None
        Signals per batch, which a killed run loses at most; None: 8. How many ears are decoded at once follows from
        the memory.
    jobs : int
        Processes.
    """

    splits: tuple[str, ...] = ("train", "valid", "eval")
    model_dir: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    jobs: int = 1


@dataclass(frozen=True)
class MetricOptions:
    """Section ``metrics:`` of ``feature_config.yaml``.

    Attributes
    ----------
    quality, dns : bool
        Which groups to compute where the command line names none.
    dnsmos_model : Path or None
        ``sig_bak_ovr.onnx``, relative to the config; None: that of the installed speechmos.
    default_datasets : tuple of str
        Datasets to work on where the command line names none; empty: all.
    jobs : int
        Processes.
    """

    quality: bool = True
    dns: bool = True
    dnsmos_model: Path | None = None
    default_datasets: tuple[str, ...] = ()
    jobs: int = 1


@dataclass(frozen=True)
class Filled:
    """What a stage did to one table.

    Attributes
    ----------
    path : Path
        The table.
    columns : tuple of str
        Columns that were to be filled.
    computed, present : int
        Signals computed in this run (or found in the journal of a killed one), and filled before it.
    transcripts : dict of str to str
        What Whisper heard, by signal; only for signals of this run.
    """

    path: Path
    columns: tuple[str, ...]
    computed: int
    present: int
    transcripts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageResult:
    """What a stage did to all tables, and the signals that it could not compute."""

    filled: tuple[Filled, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class ColumnStatus:
    """How far a column of a table is, in signals.

    Attributes
    ----------
    path : Path
        The table.
    column : str
    done : int
        All cells filled.
    kept : int
        Computed by a run that was killed, and taken over by the next one.
    failed : int
        Empty, with a reason that an earlier run left.
    missing : int
        Empty and not tried yet.
    """

    path: Path
    column: str
    done: int
    kept: int
    failed: int
    missing: int


def whisper_options(config: FeatureConfig) -> WhisperOptions:
    """The ``whisper:`` section, with paths made relative to the config."""
    options = options_from(WhisperOptions, config.whisper, f"{config.path}: whisper")
    folder = config.resolve(options.model_dir) if options.model_dir else None
    return WhisperOptions(**{**vars(options), "model_dir": folder})


def metric_options(config: FeatureConfig) -> MetricOptions:
    """The ``metrics:`` section, with paths made relative to the config."""
    options = options_from(MetricOptions, config.metrics, f"{config.path}: metrics")
    model = config.resolve(options.dnsmos_model) if options.dnsmos_model else None
    return MetricOptions(**{**vars(options), "dnsmos_model": model})


def unread_settings(config: FeatureConfig) -> tuple[str, ...]:
    """Keys of the config that nothing reads: most likely typing errors."""
    unread = list(config.unknown)
    for name, options, section in (
        ("whisper", WhisperOptions, config.whisper),
        ("metrics", MetricOptions, config.metrics),
    ):
        unread += [f"{name}.{key}" for key in unknown_keys(options, section) if (name, key) != ("whisper", "models")]
    return tuple(unread)


def configured_models(config: FeatureConfig) -> tuple[WhisperModel, ...]:
    """Models of the ``whisper.models:`` list of names or paths, or mapping of column to name or path.

    Raises
    ------
    UserError
        No models, an unknown one, or one column twice.
    """
    given = config.whisper.get("models")
    named: list[tuple[str | None, object]]
    if isinstance(given, Mapping):
        named = [(str(column), name) for column, name in given.items()]
    elif isinstance(given, list):
        named = [(None, name) for name in given]
    else:
        raise UserError(
            f"{config.path}: expected whisper.models as a list of names, found {given!r}; see the shipped file"
        )
    models: list[WhisperModel] = []
    for column, name in named:
        if not isinstance(name, str):
            raise UserError(f"{config.path}: whisper.models: expected a model name, found {name!r}; write it as text")
        text = str(config.resolve(Path(name.replace("\\", "/")))) if name.endswith(".pt") else name
        models.append(resolve_model(text, column))
    return _each_once(models)


def named_models(names: Sequence[str]) -> tuple[WhisperModel, ...]:
    """Models that the command line names."""
    return _each_once([resolve_model(name) for name in names])


def fill_whisper(
    datasets: Sequence[Dataset],
    models: Sequence[WhisperModel],
    options: WhisperOptions,
    *,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> StageResult:
    """Stage 2: fill one column per model, and the SENTENCE_SCORE rows.

    Parameters
    ----------
    datasets : sequence of Dataset
        Tables to fill.
    models : sequence of WhisperModel
        Each is loaded once for all tables.
    options : WhisperOptions
    engine : Engine, optional
        Where to compute; by default `options.jobs` processes.
    overwrite : bool
        Compute again what is there.

    Returns
    -------
    StageResult

    Raises
    ------
    UserError
        A table, a model or the device is not to be had, or another run works on a table.
    """
    size = SIGNALS_PER_BATCH if options.batch_size is None else options.batch_size
    if size < 1:
        raise UserError(f"whisper.batch_size: expected at least 1, found {size}; mend the config or option")
    engine = engine or Engine(options.jobs)
    if not engine.scheduler:
        resolve_device(options.device)  # a device that is not there is said at once; a worker may have another
    model_dir = options.model_dir.absolute() if options.model_dir else None
    with _at_work(datasets, engine) as (groups, pool):
        parts = []
        for model in models:
            for group in groups:
                parts.append(
                    fill_columns(
                        group,
                        {ear: with_sentence_rows(_table(d, (model.column,), overwrite)) for ear, d in group.items()},
                        (model.column,),
                        job=Listening(model, model_dir, options.device),
                        sources=lambda model=model: _whisper_source(model, model_dir),  # type: ignore[misc]
                        place=place_word_scores,
                        batch_size=size,
                        pool=pool,
                        overwrite=overwrite,
                    )
                )
    return _together(parts)


def fill_metrics(
    datasets: Sequence[Dataset],
    options: MetricOptions,
    *,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> StageResult:
    """Stage 3: fill STOI, eSTOI and PESQ (`options.quality`) and DNSMOS (`options.dns`).

    Parameters
    ----------
    datasets : sequence of Dataset
        Tables to fill.
    options : MetricOptions
        What to compute.
    engine : Engine, optional
        Where to compute; by default `options.jobs` processes.
    overwrite : bool
        Compute again what is there.

    Returns
    -------
    StageResult

    Raises
    ------
    UserError
        A table or the DNSMOS model is not to be had, a dataset has no folder of unprocessed files, or another run works
        on a table.
    """
    columns = metric_columns(options)
    for dataset in datasets:
        if options.quality and dataset.reference_dir is None:
            raise UserError(
                f"dataset {dataset.name}: expected reference_dir for STOI and PESQ, found none; add it, or --dns"
            )
    if options.dns:
        loaded_dnsmos(options.dnsmos_model)  # a bad model is said before hours of work, not after
    with _at_work(datasets, engine or Engine(options.jobs)) as (groups, pool):
        parts = [
            fill_columns(
                group,
                {ear: _table(dataset, columns, overwrite) for ear, dataset in group.items()},
                columns,
                job=Measuring(options.dnsmos_model),
                sources=lambda: _metric_sources(options),
                place=place_metrics,
                batch_size=1,
                pool=pool,
                overwrite=overwrite,
            )
            for group in groups
        ]
    return _together(parts)


def metric_columns(options: MetricOptions) -> tuple[str, ...]:
    """Columns that stage 3 is to fill.

    Raises
    ------
    UserError
        None at all.
    """
    columns = INTRUSIVE_COLUMNS * options.quality + DNSMOS_COLUMNS * options.dns
    if not columns:
        raise UserError("expected metrics to compute, found quality: false and dns: false; enable one of them")
    return columns


def status(datasets: Sequence[Dataset], columns: Sequence[str]) -> tuple[ColumnStatus, ...]:
    """How far the columns of tables are; nothing is computed or written.

    Parameters
    ----------
    datasets : sequence of Dataset
    columns : sequence of str
        Whisper or metric columns.

    Returns
    -------
    tuple of ColumnStatus
        Table by table, in the order given.

    Raises
    ------
    UserError
        A table cannot be read.
    """
    found = []
    for group in _same_files(datasets):
        for ear, dataset in group.items():
            table, known = read_table(dataset.csv_path), read_provenance(dataset.csv_path)
            for column in columns:
                empty = set(_signals_with_gaps(table, column))
                kept = _kept(group, ear, column) & empty
                failed = set(known[column].failures if column in known else ()) & empty - kept
                missing = empty - kept - failed
                done = _n_signals(table) - len(empty)
                found.append(ColumnStatus(dataset.csv_path, column, done, len(kept), len(failed), len(missing)))
    return tuple(found)


def write_transcripts(path: Path, result: StageResult) -> None:
    """Write what was heard as CSV with the columns signal, table, model, transcript; add to what is there already.

    Raises
    ------
    UserError
        Another kind of file is there, or it cannot be written.
    """
    columns = ["signal", "table", "model", "transcript"]
    rows = [
        (signal, done.path.name, done.columns[0], text)
        for done in result.filled
        for signal, text in done.transcripts.items()
    ]
    heard = pd.DataFrame(rows, columns=columns)
    if path.is_file():
        earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(earlier.columns) != columns:
            raise UserError(f"{path}: expected transcripts, {', '.join(columns)}, found another file; choose another")
        heard = pd.concat([earlier, heard]).drop_duplicates(columns[:3], keep="last")
    with atomic_write(path) as temporary:
        heard.to_csv(temporary, index=False)


@contextmanager
def _at_work(datasets: Sequence[Dataset], engine: Engine) -> Iterator[tuple[list[dict[str, Dataset]], Pool]]:
    """Tables locked and known to be good, and an engine that runs."""
    groups = _same_files(datasets)
    engine.validate()
    with locked(dataset.csv_path for dataset in datasets):
        for dataset in datasets:
            read_table(dataset.csv_path)  # a bad table is said before hours of work, not after
            read_provenance(dataset.csv_path)
        with open_pool(engine) as pool:
            yield groups, pool


def fill_columns(
    group: Mapping[str, Dataset],
    tables: Mapping[str, pd.DataFrame],
    columns: Sequence[str],
    *,
    job: Job,
    sources: Callable[[], Mapping[str, Source]],
    place: Callable[[pd.DataFrame, Sequence[str], Mapping[str, Any]], pd.DataFrame],
    batch_size: int,
    pool: Pool,
    overwrite: bool,
) -> StageResult:
    """Compute what one group of tables lacks in `columns`, then replace its tables.

    A journal may also hold values of other columns of the same stage, from a run that was killed; they are kept.
    """
    tasks = _tasks(group, tables, columns)
    path = _journal_path(group, columns[0])
    if not overwrite and PartialResults.is_overwriting(path):
        raise UserError(
            f"{path}: a run with --overwrite was stopped here; finish it with --overwrite, or remove this file"
        )
    if not tasks and not path.exists():
        untouched = (Filled(d.csv_path, tuple(columns), 0, _n_signals(tables[ear])) for ear, d in group.items())
        return StageResult(tuple(untouched), ())
    source = sources()
    for ear, dataset in group.items():
        known = {} if overwrite else read_provenance(dataset.csv_path)
        for column in columns:
            if any(column in task.columns.get(ear, ()) for task in tasks):
                check_source(dataset.csv_path, column, known.get(column), source[column])
    definition = (sorted(source.items()), columns if overwrite else ())
    journal = PartialResults(path, _fingerprint(tables, definition), overwriting=overwrite)
    first = next(iter(group.values()))
    what = "metrics" if columns[0] in METRIC_COLUMNS else columns[0]
    batches = run_batches(tasks, job, pool=pool, batch_size=batch_size, journal=journal, label=f"{first.split} {what}")
    outcomes = outcomes_by_signal(batches)
    filled = []
    for ear, dataset in group.items():
        mine = {signal: outcome.values[ear] for signal, outcome in outcomes.items() if ear in outcome.values}
        present = _n_signals(tables[ear]) - sum(ear in task.ears for task in tasks)
        if mine:
            placed = [c for c in source if c in columns or any(c in cells for cells in mine.values())]
            write_table(order_columns(place(tables[ear], placed, mine)), dataset.csv_path)
        if (
            mine or not overwrite
        ):  # where nothing at all could be computed, the old numbers stay, and so does their note
            _note(dataset, tables[ear], source, batches, outcomes, overwritten=columns if overwrite else ())
        computed = sum(ear in task.ears and task.signal in mine for task in tasks)
        filled.append(Filled(dataset.csv_path, tuple(columns), computed, present, _transcripts(mine)))
    journal.remove()
    failures = (failure for task in tasks for failure in outcomes[task.signal].failures)
    return StageResult(tuple(filled), tuple(failures))


def _note(
    dataset: Dataset,
    before: pd.DataFrame,
    source: Mapping[str, Source],
    batches: Sequence[Done],
    outcomes: Mapping[str, Outcome],
    *,
    overwritten: Sequence[str],
) -> None:
    """Write down where the new numbers of a table come from, which was `before` when they were placed.

    A run that was killed after this and before its journal was removed comes here again: what was filled by then has
    been counted.
    """
    ear, known = dataset.channel, read_provenance(dataset.csv_path)
    for column in source:
        new = {outcome.signal for outcome in outcomes.values() if column in outcome.values.get(ear, {})}
        failed = any(f.ear == ear and column in f.columns for outcome in outcomes.values() for f in outcome.failures)
        if not (new or failed):
            continue
        gaps = set(_signals_with_gaps(before, column))
        if column in overwritten or column not in known:
            unknown = set(before["signal"]) - gaps - new
            known[column] = ColumnProvenance(source[column], unknown=len(unknown))
        else:
            new &= gaps
        known[column] = updated(known[column], batches, outcomes.values(), ear, column, new)
    write_provenance(dataset.csv_path, {c: known[c] for c in FEATURE_COLUMNS if c in known})


def _whisper_source(model: WhisperModel, model_dir: Path | None) -> dict[str, Source]:
    fetch_weights(model, model_dir=model_dir)  # here, once, and not by several workers at a time
    weights = sha256_of(weights_path(model, model_dir))
    return {model.column: Source(whisper_words.DEFINITION, model.openai_name, weights)}


def _metric_sources(options: MetricOptions) -> dict[str, Source]:
    sources = {column: Source(quality_metrics.DEFINITION) for column in INTRUSIVE_COLUMNS}
    model = options.dnsmos_model or installed_model()
    if model.is_file():  # else only STOI, eSTOI and PESQ are wanted
        network = Source(dnsmos_network.DEFINITION, model.stem, sha256_of(model))
        sources |= dict.fromkeys(DNSMOS_COLUMNS, network)
    return sources


def _journal_path(group: Mapping[str, Dataset], column: str) -> Path:
    """The journal of a group of tables: beside the first of them, one per Whisper column, one for all metrics.

    A run for both ears and one for a single ear have journals of their own, so that neither loses what the other did.
    """
    path = min(dataset.csv_path for dataset in group.values())
    ears = "both." if len(group) > 1 else ""
    return path.with_name(f"{path.stem}.{ears}{'metrics' if column in METRIC_COLUMNS else column}.journal.jsonl")


def _kept(group: Mapping[str, Dataset], ear: str, column: str) -> set[str]:
    """Signals whose value of a column stands in a journal that a killed run has left."""
    paths = {_journal_path(group, column), _journal_path({ear: group[ear]}, column)}
    outcomes = [outcome for path in paths for outcome in outcomes_by_signal(PartialResults.peek(path)).values()]
    return {outcome.signal for outcome in outcomes if column in outcome.values.get(ear, {})}


def _n_signals(table: pd.DataFrame) -> int:
    return int(table["signal"].nunique())


def _transcripts(values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What was heard, by signal; nothing where the values are metrics."""
    return {
        signal: cell["transcript"]
        for signal, cells in values.items()
        for cell in cells.values()
        if isinstance(cell, dict)
    }


def place_word_scores(table: pd.DataFrame, columns: Sequence[str], values: Mapping[str, Any]) -> pd.DataFrame:
    """The table with one Whisper column filled for some signals."""
    column = _cells(table, columns[0])
    is_sentence = (table["word_count"] == 0).to_numpy()
    for signal, rows in _rows_by_signal(table).items():
        if signal in values:
            scores = values[signal][columns[0]]
            column[rows[~is_sentence[rows]]] = scores["words"]
            column[rows[is_sentence[rows]]] = scores["sentence"]
    return table.assign(**{columns[0]: column})


def place_metrics(table: pd.DataFrame, columns: Sequence[str], values: Mapping[str, Any]) -> pd.DataFrame:
    """The table with metric columns filled for some signals, the same value on every row of a signal."""
    filled = {column: _cells(table, column) for column in columns}
    for signal, rows in _rows_by_signal(table).items():
        for column in columns:
            if column in values.get(signal, {}):  # a value that is there outlives one that could not be computed
                filled[column][rows] = values[signal][column]
    return table.assign(**filled)


def _rows_by_signal(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Positions of each signal's rows, in the order of the table."""
    return {str(signal): np.asarray(rows) for signal, rows in table.groupby("signal", sort=False).indices.items()}


def _cells(table: pd.DataFrame, column: str) -> np.ndarray:
    """A copy of a column, or an empty one."""
    if column in table.columns:
        return table[column].to_numpy(dtype=np.float64, copy=True)
    return np.full(len(table), np.nan)


def _tasks(
    group: Mapping[str, Dataset], tables: Mapping[str, pd.DataFrame], columns: Sequence[str]
) -> list[SignalTask]:
    """Signals with an ear that has an empty cell in one of the columns, in the order of the tables."""
    ears: dict[str, dict[str, Dataset]] = {}
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    wanted: dict[str, dict[str, tuple[str, ...]]] = {}
    for ear, table in tables.items():
        dataset = _absolute(group[ear])
        pending: dict[str, list[str]] = {}
        for column in columns:
            for signal in _signals_with_gaps(table, column):
                pending.setdefault(signal, []).append(column)
        prompts = table[table["word_count"] == 1].groupby("signal", sort=False)["word"].agg(tuple)
        for name, prompt in prompts.items():
            signal = str(name)
            if signal in pending:
                ears.setdefault(signal, {})[ear] = dataset
                words.setdefault(signal, {})[ear] = prompt
                wanted.setdefault(signal, {})[ear] = tuple(pending[signal])
    return [SignalTask(signal, ears[signal], words[signal], wanted[signal]) for signal in ears]


def _signals_with_gaps(table: pd.DataFrame, column: str) -> list[str]:
    """Signals that have an empty cell in a column, or lack their SENTENCE_SCORE row where it belongs to the column.

    The Whisper stage fills a signal's SENTENCE_SCORE row last and whole, so only that row need be looked at.
    """
    if column not in table.columns:
        return list(table["signal"].unique())
    if column not in WHISPER_COLUMNS:
        return list(table.loc[table[column].isna(), "signal"].unique())
    filled = table.loc[(table["word_count"] == 0) & table[column].notna(), "signal"]
    return list(table.loc[~table["signal"].isin(filled), "signal"].unique())


def _absolute(dataset: Dataset) -> Dataset:
    """The dataset as a worker in another folder finds it."""
    values: dict[str, Any] = {k: v.absolute() if isinstance(v, Path) else v for k, v in vars(dataset).items()}
    return Dataset(**values)


def _table(dataset: Dataset, columns: Sequence[str], overwrite: bool) -> pd.DataFrame:
    """A dataset's table; to overwrite is to begin with the columns empty."""
    table = read_table(dataset.csv_path)
    return table.drop(columns=list(columns), errors="ignore") if overwrite else table


def _same_files(datasets: Sequence[Dataset]) -> list[dict[str, Dataset]]:
    """Datasets grouped by split and folders, each group keyed by ear."""
    groups: dict[tuple[object, ...], dict[str, Dataset]] = {}
    for dataset in datasets:
        folders = (dataset.signal_dir, dataset.degraded_dir, dataset.audio_dir, dataset.reference_dir)
        group = groups.setdefault((dataset.split, *folders), {})
        if dataset.channel in group:
            raise UserError(
                f"datasets {group[dataset.channel].name} and {dataset.name} are one ear of the same files; drop one"
            )
        group[dataset.channel] = dataset
    return list(groups.values())


def _fingerprint(tables: Mapping[str, pd.DataFrame], definition: tuple[object, ...]) -> str:
    """Says which words, of which signals, heard by which model, a journal's values belong to."""
    total = hashlib.sha256(repr(definition).encode())
    for ear, table in sorted(tables.items()):
        total.update(ear.encode())
        words = table[table["word_count"] == 1]  # sentence rows come with stage 2, and change nothing
        hashes = pd.util.hash_pandas_object(words[["signal", "prompt", "word"]], index=False)
        total.update(hashes.to_numpy().tobytes())
    return total.hexdigest()


def _together(parts: Sequence[StageResult]) -> StageResult:
    """Results of several columns and tables; twelve models that miss one file are one failure."""
    columns: dict[tuple[str, str, str], list[str]] = {}
    for failure in (failure for part in parts for failure in part.failures):
        columns.setdefault((failure.signal, failure.ear, failure.reason), []).extend(failure.columns)
    return StageResult(
        tuple(filled for part in parts for filled in part.filled),
        tuple(Failure(signal, ear, tuple(those), reason) for (signal, ear, reason), those in columns.items()),
    )


def _each_once(models: Sequence[WhisperModel]) -> tuple[WhisperModel, ...]:
    columns = [model.column for model in models]
    twice = [column for column in columns if columns.count(column) > 1]
    if twice or not models:
        raise UserError(
            f"whisper.models: expected each model once, found {twice[0]} twice"
            if twice
            else f"whisper.models: expected at least one of {', '.join(WHISPER_COLUMNS)}, found none"
        )
    return tuple(models)
