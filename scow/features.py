"""Stages 2 and 3: fill the Whisper columns and the metric columns of feature tables.

Both stages work alike. Tables of the same split and folder are handled together, so that a file is decoded once
for both ears. A signal whose cells are filled is passed over, unless `overwrite` is set; a rerun therefore does only
what is missing. Values go to a journal as they come (`scow.work`), and the tables are replaced once a column is
through, so that a table on disk is always whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.audio import StereoSignal, read_stereo, to_16_khz
from scow.corpus import Dataset, FeatureConfig, signal_file, unprocessed_file
from scow.device import resolve_device
from scow.dnsmos import Dnsmos
from scow.errors import SignalError, UserError
from scow.files import replacing
from scow.lyrics import hit_rate
from scow.options import options_from, unknown_keys
from scow.quality import quality
from scow.tables import (
    DNSMOS_COLUMNS,
    QUALITY_COLUMNS,
    WHISPER_COLUMNS,
    order_columns,
    read_table,
    with_sentence_rows,
    write_table,
)
from scow.whisper_words import (
    Listener,
    Transcript,
    WhisperModel,
    load_listener,
    prompt_word_scores,
    resolve_model,
)
from scow.work import Failure, Journal, Outcome, run_batches

SIGNALS_PER_BATCH_CPU = 1  # two ears; larger batches make the encoder slower on a CPU
SIGNALS_PER_BATCH_CUDA = 8


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
        Signals per batch; None: 1 on a CPU, 8 on CUDA.
    """

    splits: tuple[str, ...] = ("train", "valid", "eval")
    model_dir: Path | None = None
    device: str = "auto"
    batch_size: int | None = None


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
    """

    quality: bool = True
    dns: bool = True
    dnsmos_model: Path | None = None
    default_datasets: tuple[str, ...] = ()


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
class SignalTask:
    """One signal to compute: its ears that are missing, with their dataset and prompt words."""

    signal: str
    ears: dict[str, Dataset]
    words: dict[str, tuple[str, ...]]


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
    overwrite : bool
        Compute again what is there.

    Returns
    -------
    StageResult

    Raises
    ------
    UserError
        A table, a model or the device is not to be had.
    """
    device = resolve_device(options.device)
    size = options.batch_size
    if size is None:
        size = SIGNALS_PER_BATCH_CUDA if device == "cuda" else SIGNALS_PER_BATCH_CPU
    if size < 1:
        raise UserError(f"whisper.batch_size: expected at least 1, found {size}; mend the config or option")
    groups = _same_files(datasets)
    for dataset in datasets:
        read_table(dataset.csv_path)  # a bad table is said before hours of work, not after
    filled: list[Filled] = []
    failures: list[Failure] = []
    for model in models:
        listener: Listener | None = None
        for group in groups:
            tables = {ear: with_sentence_rows(_table(d, (model.column,), overwrite)) for ear, d in group.items()}
            tasks = _tasks(group, tables, (model.column,), only_sentences=True)
            if tasks and listener is None:
                listener = load_listener(model, model_dir=options.model_dir, device=device)
            result = _fill(
                group,
                tables,
                tasks,
                (model.column,),
                compute=lambda batch, listener=listener: _listen(listener, batch),  # type: ignore[misc]
                place=_place_word_scores,
                batch_size=size,
                definition=(model, options.model_dir, overwrite),
            )
            filled += result.filled
            failures += [Failure(f"{f.name} {model.column}", f.reason) for f in result.failures]
    return StageResult(tuple(filled), _shared_reasons(failures))


def fill_metrics(
    datasets: Sequence[Dataset],
    options: MetricOptions,
    *,
    overwrite: bool = False,
) -> StageResult:
    """Stage 3: fill STOI, eSTOI and PESQ (`options.quality`) and DNSMOS (`options.dns`).

    Parameters
    ----------
    datasets : sequence of Dataset
        Tables to fill.
    options : MetricOptions
        What to compute.
    overwrite : bool
        Compute again what is there.

    Returns
    -------
    StageResult

    Raises
    ------
    UserError
        A table or the DNSMOS model is not to be had, or a dataset has no folder of unprocessed files.
    """
    columns = QUALITY_COLUMNS * options.quality + DNSMOS_COLUMNS * options.dns
    if not columns:
        raise UserError("expected metrics to compute, found quality: false and dns: false; enable one of them")
    dnsmos = Dnsmos(options.dnsmos_model) if options.dns else None
    for dataset in datasets:
        read_table(dataset.csv_path)
        if options.quality and dataset.reference_dir is None:
            raise UserError(
                f"dataset {dataset.name}: expected reference_dir for STOI and PESQ, found none; add it, or --dns"
            )
    filled: list[Filled] = []
    failures: list[Failure] = []
    for group in _same_files(datasets):
        tables = {ear: _table(d, columns, overwrite) for ear, d in group.items()}
        tasks = _tasks(group, tables, columns, only_sentences=False)
        result = _fill(
            group,
            tables,
            tasks,
            columns,
            compute=lambda batch: [_measure(task, options, dnsmos) for task in batch],
            place=_place_metrics,
            batch_size=1,
            definition=(columns, options.dnsmos_model, overwrite),
        )
        filled += result.filled
        failures += result.failures
    return StageResult(tuple(filled), _shared_reasons(failures))


def write_transcripts(path: Path, result: StageResult) -> None:
    """Write what was heard as CSV with the columns signal, table, model, transcript."""
    rows = [
        (signal, done.path.name, done.columns[0], text)
        for done in result.filled
        for signal, text in done.transcripts.items()
    ]
    with replacing(path) as temporary:
        pd.DataFrame(rows, columns=["signal", "table", "model", "transcript"]).to_csv(temporary, index=False)


def _listen(listener: Listener, batch: Sequence[SignalTask]) -> list[Outcome]:
    """Word and sentence scores of a batch of signals, all their ears at once."""
    ears: dict[tuple[str, str], np.ndarray] = {}
    failures: dict[str, list[Failure]] = {task.signal: [] for task in batch}
    for task in batch:
        for name, dataset in task.ears.items():
            try:
                ears[task.signal, name] = _ear_at_16_khz(task, name, dataset)
            except SignalError as error:
                failures[task.signal].append(Failure(f"{task.signal} {name}", str(error)))
    # Ears that are identical, sample for sample, are heard once.
    distinct: dict[bytes, np.ndarray] = {hashlib.sha256(ear.tobytes()).digest(): ear for ear in ears.values()}
    heard = dict(zip(distinct, listener.listen(list(distinct.values())), strict=True)) if distinct else {}
    transcripts = {key: heard[hashlib.sha256(ear.tobytes()).digest()] for key, ear in ears.items()}
    outcomes = []
    for task in batch:
        values: dict[str, Any] = {}
        for name in task.ears:
            if (task.signal, name) not in transcripts:
                continue
            try:
                values[name] = _scores(task.words[name], transcripts[task.signal, name])
            except SignalError as error:
                failures[task.signal].append(Failure(f"{task.signal} {name}", str(error)))
        outcomes.append(Outcome(task.signal, values, tuple(failures[task.signal])))
    return outcomes


def _scores(words: Sequence[str], transcript: Transcript) -> dict[str, Any]:
    return {
        "words": list(prompt_word_scores(words, transcript)),
        "sentence": hit_rate(words, transcript.text),
        "transcript": transcript.text,
    }


def _ear_at_16_khz(task: SignalTask, name: str, dataset: Dataset) -> np.ndarray:
    return to_16_khz(read_stereo(signal_file(dataset.signal_dir, task.signal)).ear(name))


def _measure(task: SignalTask, options: MetricOptions, dnsmos: Dnsmos | None) -> Outcome:
    """Quality metrics of a signal's ears; each file is decoded once."""
    files: dict[Path, StereoSignal | SignalError] = {}

    def decoded(path: Path) -> StereoSignal:
        if path not in files:
            try:
                files[path] = read_stereo(path)
            except SignalError as error:
                files[path] = error
        found = files[path]
        if isinstance(found, SignalError):
            raise found
        return found

    values: dict[str, Any] = {}
    failures: list[Failure] = []
    for ear, dataset in task.ears.items():
        cells: dict[str, float] = {}
        label = f"{task.signal} {ear}"
        if options.quality and dataset.reference_dir is not None:
            try:
                degraded = decoded(signal_file(dataset.degraded_dir or dataset.signal_dir, task.signal)).ear(ear)
                reference = decoded(unprocessed_file(dataset.reference_dir, task.signal))
                measured = quality(reference.mono, degraded)
                cells |= measured.values
                failures += [Failure(f"{label} {column}", why) for column, why in measured.reasons.items()]
            except SignalError as error:
                failures.append(Failure(f"{label} {', '.join(QUALITY_COLUMNS)}", str(error)))
        if dnsmos is not None:
            try:
                cells |= dnsmos(decoded(signal_file(dataset.audio_dir or dataset.signal_dir, task.signal)).ear(ear))
            except SignalError as error:
                failures.append(Failure(f"{label} {', '.join(DNSMOS_COLUMNS)}", str(error)))
        if cells:
            values[ear] = cells
    return Outcome(task.signal, values, tuple(failures))


def _fill(
    group: Mapping[str, Dataset],
    tables: Mapping[str, pd.DataFrame],
    tasks: Sequence[SignalTask],
    columns: Sequence[str],
    *,
    compute: Callable[[Sequence[SignalTask]], Sequence[Outcome]],
    place: Callable[[pd.DataFrame, Sequence[str], Mapping[str, Any]], pd.DataFrame],
    batch_size: int,
    definition: tuple[object, ...],
) -> StageResult:
    """Compute the tasks of one group of tables, then replace its tables."""
    first = next(iter(group.values()))
    journal_path = first.csv_path.with_name(f"{first.csv_path.stem}.{columns[0]}.journal.jsonl")
    journal = Journal(journal_path, _fingerprint(tables, definition))
    values = journal.read()
    to_do = [task for task in tasks if not set(task.ears) <= set(values.get(task.signal, {}))]
    what = columns[0] if len(columns) == 1 else "metrics"
    outcomes = run_batches(to_do, compute, batch_size=batch_size, journal=journal, label=f"{first.split} {what}")
    for outcome in outcomes:
        values[outcome.signal] = outcome.values
    filled = []
    for ear, dataset in group.items():
        mine = {task.signal: values[task.signal][ear] for task in tasks if ear in values.get(task.signal, {})}
        wanted = sum(ear in task.ears for task in tasks)
        table = place(tables[ear], columns, mine)
        write_table(order_columns(table), dataset.csv_path)
        texts = {signal: cells["transcript"] for signal, cells in mine.items() if "transcript" in cells}
        present = table["signal"].nunique() - wanted
        filled.append(Filled(dataset.csv_path, tuple(columns), len(mine), present, texts))
    journal.remove()
    return StageResult(tuple(filled), tuple(failure for outcome in outcomes for failure in outcome.failures))


def _place_word_scores(table: pd.DataFrame, columns: Sequence[str], values: Mapping[str, Any]) -> pd.DataFrame:
    """The table with one Whisper column filled for some signals."""
    column = _cells(table, columns[0])
    is_sentence = (table["word_count"] == 0).to_numpy()
    for signal, rows in _rows_by_signal(table).items():
        if signal in values:
            column[rows[~is_sentence[rows]]] = values[signal]["words"]
            column[rows[is_sentence[rows]]] = values[signal]["sentence"]
    return table.assign(**{columns[0]: column})


def _place_metrics(table: pd.DataFrame, columns: Sequence[str], values: Mapping[str, Any]) -> pd.DataFrame:
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
    group: Mapping[str, Dataset],
    tables: Mapping[str, pd.DataFrame],
    columns: Sequence[str],
    *,
    only_sentences: bool,
) -> list[SignalTask]:
    """Signals with an ear that has an empty cell in one of the columns, in the order of the tables.

    The Whisper stage fills a signal's SENTENCE_SCORE row last and whole, so only that row need be looked at.
    """
    ears: dict[str, dict[str, Dataset]] = {}
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    for ear, table in tables.items():
        rows = table[table["word_count"] == 0] if only_sentences else table
        empty = rows.reindex(columns=list(columns)).isna().any(axis=1)
        pending = set(rows.loc[empty, "signal"])
        prompts = table[table["word_count"] == 1].groupby("signal", sort=False)["word"].agg(tuple)
        for signal, prompt in prompts.items():
            if signal in pending:
                ears.setdefault(str(signal), {})[ear] = group[ear]
                words.setdefault(str(signal), {})[ear] = prompt
    return [SignalTask(signal, ears[signal], words[signal]) for signal in ears]


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
        hashes = pd.util.hash_pandas_object(table[["signal", "prompt", "word"]], index=False)
        total.update(hashes.to_numpy().tobytes())
    return total.hexdigest()


def _shared_reasons(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """One line per signal, ear and reason: twelve models that miss one file are one failure."""
    columns: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        name, _, column = failure.name.rpartition(" ")
        if column in WHISPER_COLUMNS:
            columns.setdefault((name, failure.reason), []).append(column)
        else:
            columns.setdefault((failure.name, failure.reason), [])
    return tuple(
        Failure(f"{name} ({', '.join(models)})" if models else name, reason)
        for (name, reason), models in columns.items()
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
