"""Stages 2 and 3: fill the Whisper columns and the metric columns of feature tables, by one loop.

1. Tables are locked, read once and checked; those of the same split and folders are filled together, so that a file is
   decoded once for both channels.
2. For each column (the metrics together): the signals that have an empty cell are cut into chunks, by their place in the
   table. Chunks that an earlier, killed run finished are taken from its partial results (`scow.features.partial`).
3. The other chunks are computed (`scow.features.extract`) on an engine (`scow.features.engine`), in any order, and
   appended to the partial results as they come.
4. When all are there, values go to the tables, each written once and at all times whole, and a note of how they were
   computed goes beside the table (`scow.data.provenance`).

A signal whose cells are filled is skipped, unless `overwrite` is set. A signal that fails keeps empty cells and is
reported with the reason; the others are not affected.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.cli import EXIT_OK, Progress, listed, report_failures
from scow.config import options_from, unknown_keys
from scow.data.feature_config import Dataset, FeatureConfig
from scow.data.provenance import check_source, read_provenance, write_provenance
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
from scow.features import dnsmos, intrusive, whisper
from scow.features.engine import DIED, Engine, check_engine, open_engine
from scow.features.extract import Task, loaded_dnsmos, metric_results, read_audio, whisper_results
from scow.features.partial import (
    SignalResult,
    append_partial,
    merge_results,
    read_heading,
    read_partial,
    start_partial,
)
from scow.features.whisper import WhisperModel, load_transcriber, resolve_model, weights_path
from scow.io import atomic_write, locked, sha256_of

Sources = Mapping[str, Mapping[str, Any]]  # definition, model and sha256 of each column
Work = tuple[tuple[str, ...], Callable[[], Sources], Callable[[Any], list[SignalResult]]]  # columns, sources, compute
SIGNALS_PER_CHUNK = 8  # sixteen channels: the decoder gains little from more, and a killed run loses no more than these


@dataclass(frozen=True)
class WhisperOptions:
    """Section ``whisper:`` of ``feature_config.yaml``."""

    splits: tuple[str, ...] = ("train", "valid", "eval")  # where the command line names none
    model_dir: Path | None = None  # folder of weights, relative to the config; downloads go there
    device: str = "auto"  # auto, cpu or cuda
    batch_size: int | None = None  # signals per chunk; None: 8
    jobs: int = 1  # processes


@dataclass(frozen=True)
class MetricOptions:
    """Section ``metrics:`` of ``feature_config.yaml``."""

    quality: bool = True  # STOI, eSTOI and PESQ
    dns: bool = True  # DNSMOS
    dnsmos_model: Path | None = None  # sig_bak_ovr.onnx, relative to the config; None: that of speechmos
    default_datasets: tuple[str, ...] = ()  # where the command line names none; empty: all
    jobs: int = 1  # processes


@dataclass
class StageResult:
    """What a stage did."""

    filled: list[tuple[Path, tuple[str, ...], int, int]]  # table, columns, signals computed, signals filled before
    failures: dict[tuple[str, str, str], list[str]]  # signal, channel and reason: columns that are empty
    transcripts: list[tuple[str, str, str, str]]  # signal, table, model, transcript


@dataclass
class Group:
    """Tables of both channels of the same files, by channel."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    known: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # provenance, by column


def whisper_options(config: FeatureConfig) -> WhisperOptions:
    """The ``whisper:`` section, with paths made relative to the config."""
    options = options_from(WhisperOptions, config.whisper, f"{config.path}: whisper")
    folder = config.resolve(options.model_dir) if options.model_dir else None
    return dataclasses.replace(options, model_dir=folder)


def metric_options(config: FeatureConfig) -> MetricOptions:
    """The ``metrics:`` section, with paths made relative to the config."""
    options = options_from(MetricOptions, config.metrics, f"{config.path}: metrics")
    model = config.resolve(options.dnsmos_model) if options.dnsmos_model else None
    return dataclasses.replace(options, dnsmos_model=model)


def unread_settings(config: FeatureConfig) -> tuple[str, ...]:
    """Keys of the config that nothing reads: most likely typing errors."""
    whisper_keys = [key for key in unknown_keys(WhisperOptions, config.whisper) if key != "models"]
    metric_keys = unknown_keys(MetricOptions, config.metrics)
    return (*config.unknown, *(f"whisper.{k}" for k in whisper_keys), *(f"metrics.{k}" for k in metric_keys))


def configured_models(config: FeatureConfig) -> tuple[WhisperModel, ...]:
    """Models of ``whisper.models:``, a list of names or paths, or a mapping of column to name or path."""
    given = config.whisper.get("models")
    named = given.items() if isinstance(given, Mapping) else [(None, name) for name in given or ()]
    models = []
    for column, name in named:
        if not isinstance(name, str):
            raise UserError(f"{config.path}: whisper.models: expected names of models, found {name!r}")
        text = str(config.resolve(Path(name.replace("\\", "/")))) if name.endswith(".pt") else name
        models.append(resolve_model(text, None if column is None else str(column)))
    return _each_once(models)


def named_models(names: Sequence[str]) -> tuple[WhisperModel, ...]:
    """Models that the command line names."""
    return _each_once([resolve_model(name) for name in names])


def _each_once(models: Sequence[WhisperModel]) -> tuple[WhisperModel, ...]:
    columns = [model.column for model in models]
    twice = [column for column in columns if columns.count(column) > 1]
    if twice or not models:
        found = f"{twice[0]} twice" if twice else f"none; known: {', '.join(WHISPER_COLUMNS)}"
        raise UserError(f"whisper.models: expected each model once, found {found}")
    return tuple(models)


def fill_whisper(
    datasets: Sequence[Dataset],
    models: Sequence[WhisperModel],
    options: WhisperOptions,
    *,
    engine: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> StageResult:
    """Stage 2: fill one column per model, and the SENTENCE_SCORE rows; `engine` are arguments of `open_engine`."""
    engine = engine or {"jobs": options.jobs}
    size = SIGNALS_PER_CHUNK if options.batch_size is None else options.batch_size
    if size < 1:
        raise UserError(f"whisper.batch_size: expected at least 1, found {size}")
    if not engine.get("scheduler"):
        resolve_device(options.device)  # an error now; a worker may have another device
    folder = options.model_dir.absolute() if options.model_dir else None
    work: list[Work] = [
        ((m.column,), partial(_whisper_sources, m, folder), partial(whisper_results, m, folder, options.device))
        for m in models
    ]
    return _run(datasets, work, size, engine, overwrite=overwrite)


def fill_metrics(
    datasets: Sequence[Dataset],
    options: MetricOptions,
    *,
    engine: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> StageResult:
    """Stage 3: fill STOI, eSTOI, PESQ and DNSMOS columns; `engine` are arguments of `open_engine`."""
    columns = metric_columns(options)
    for dataset in datasets:
        if options.quality and dataset.reference_dir is None:
            raise UserError(f"dataset {dataset.name}: expected reference_dir for STOI and PESQ, found none")
    if options.dns:
        loaded_dnsmos(options.dnsmos_model)  # a bad model is an error before hours of work, not after
    work = [(columns, partial(_metric_sources, options), partial(metric_results, options.dnsmos_model))]
    return _run(datasets, work, 1, engine or {"jobs": options.jobs}, overwrite=overwrite)


def metric_columns(options: MetricOptions) -> tuple[str, ...]:
    """Columns that stage 3 is to fill."""
    columns = INTRUSIVE_COLUMNS * options.quality + DNSMOS_COLUMNS * options.dns
    if not columns:
        raise UserError("expected metrics to compute, found quality: false and dns: false")
    return columns


def _whisper_sources(model: WhisperModel, model_dir: Path | None) -> Sources:
    path = weights_path(model, model_dir)
    if not path.is_file():
        load_transcriber(model, model_dir=model_dir, device="cpu")  # downloads once, not once per worker
    return {model.column: _source(whisper.DEFINITION, model.openai_name, path)}


def _metric_sources(options: MetricOptions) -> Sources:
    model = options.dnsmos_model or dnsmos.installed_model()
    sources = dict.fromkeys(INTRUSIVE_COLUMNS, _source(intrusive.DEFINITION))
    if model.is_file():  # else only STOI, eSTOI and PESQ are wanted
        sources |= dict.fromkeys(DNSMOS_COLUMNS, _source(dnsmos.DEFINITION, model.stem, model))
    return sources


def _source(definition: str, model: str | None = None, weights: Path | None = None) -> dict[str, str | None]:
    return {"definition": definition, "model": model, "sha256": sha256_of(weights) if weights else None}


def _run(
    datasets: Sequence[Dataset], work: Sequence[Work], chunk_size: int, engine: Mapping[str, Any], *, overwrite: bool
) -> StageResult:
    """The loop of both stages."""
    result = StageResult([], {}, [])
    with locked(dataset.csv_path for dataset in datasets), open_engine(**engine) as opened:
        groups = _read_groups(datasets)
        for columns, sources, compute in work:
            for group in groups:
                _fill(group, columns, sources, partial(_compute, opened, compute, chunk_size), result, overwrite)
    return result


def _fill(
    group: Group,
    columns: tuple[str, ...],
    sources_of_columns: Callable[[], Sources],
    compute: Callable[..., list[SignalResult]],
    result: StageResult,
    overwrite: bool,
) -> None:
    """Compute what one group of tables lacks in `columns`, write its tables, and add to `result` what was done."""
    path = _partial_path(group.datasets.values(), columns[0])
    if not overwrite and read_heading(path).get("overwrite"):
        raise UserError(f"{path}: a run with --overwrite was stopped; finish it with --overwrite, or remove this file")
    tasks = _tasks(group, columns, everything=overwrite)
    if not tasks and not path.exists():
        result.filled += [(d.csv_path, columns, 0, _n_signals(group.tables[c])) for c, d in group.datasets.items()]
        return
    sources = sources_of_columns()
    for channel, dataset in group.datasets.items():
        for column in () if overwrite else columns:
            if any(column in task.columns.get(channel, ()) for task in tasks):
                check_source(dataset.csv_path, column, group.known[channel].get(column), sources[column])
    heading = {"words": _hash_of_words(group), "sources": sources, "overwrite": columns if overwrite else ()}
    kept = start_partial(path, heading)
    label = f"{next(iter(group.datasets.values())).split} {'metrics' if columns[0] in METRIC_COLUMNS else columns[0]}"
    results = merge_results([*kept, *compute(tasks, merge_results(kept), path, label)])
    for channel, dataset in group.datasets.items():
        asked = [task.signal for task in tasks if channel in task.columns]
        values = {signal: found.values[channel] for signal, found in results.items() if found.values.get(channel)}
        present = _n_signals(group.tables[channel]) - len(asked)
        result.filled.append((dataset.csv_path, columns, sum(signal in values for signal in asked), present))
        result.transcripts += [
            (signal, dataset.csv_path.name, column, cell["transcript"])
            for signal, cells in values.items()
            for column, cell in cells.items()
            if column in WHISPER_COLUMNS
        ]
        if values:
            emptied = group.tables[channel].drop(columns=list(columns) if overwrite else [], errors="ignore")
            if columns[0] in WHISPER_COLUMNS:
                emptied = with_sentence_rows(emptied)
            group.tables[channel] = order_columns(_placed(emptied, values))
            write_table(group.tables[channel], dataset.csv_path)
        if values or not overwrite:  # where nothing could be computed, the old numbers stay, with their provenance
            _note(group.known[channel], channel, sources, results, overwrite)
            write_provenance(dataset.csv_path, group.known[channel])
    path.unlink()
    for task in tasks:
        for channel, reasons in results[task.signal].failures.items():
            for column, reason in reasons.items():
                result.failures.setdefault((task.signal, channel, reason), []).append(column)


def _compute(
    engine: Engine,
    function: Callable[[Any], list[SignalResult]],
    chunk_size: int,
    tasks: Sequence[Task],
    finished: Mapping[str, SignalResult],
    path: Path,
    label: str,
) -> list[SignalResult]:
    """Compute the tasks that are not finished, in chunks that are appended to the partial results as they come."""
    remaining = [_remaining(task, finished.get(task.signal)) for task in tasks]
    cut = ([task for task in remaining[i : i + chunk_size] if task] for i in range(0, len(remaining), chunk_size))
    chunks = [chunk for chunk in cut if chunk]
    results: list[SignalResult] = []
    progress, total = Progress("signals"), sum(map(len, chunks))
    if chunks:
        progress(label, 0, total)
    for index, found in engine.map(function, chunks, prepare=read_audio):
        found = found or [_lost(task) for task in chunks[index]]
        append_partial(path, found)
        results += found
        progress(label, len(results), total)
    return results


def _remaining(task: Task, finished: SignalResult | None) -> Task | None:
    """What is still to compute of a signal; None where nothing is."""
    values = finished.values if finished else {}
    columns = {c: tuple(w for w in wanted if w not in values.get(c, {})) for c, wanted in task.columns.items()}
    columns = {channel: wanted for channel, wanted in columns.items() if wanted}
    return dataclasses.replace(task, columns=columns) if columns else None


def _lost(task: Task) -> SignalResult:
    return SignalResult(task.signal, {}, {channel: dict.fromkeys(w, DIED) for channel, w in task.columns.items()})


def _read_groups(datasets: Iterable[Dataset]) -> list[Group]:
    """Datasets grouped by split and folders, with their tables and provenance."""
    groups: dict[tuple[object, ...], Group] = {}
    for dataset in datasets:
        folders = (dataset.signal_dir, dataset.degraded_dir, dataset.audio_dir, dataset.reference_dir)
        group = groups.setdefault((dataset.split, *folders), Group())
        if dataset.channel in group.datasets:
            other = group.datasets[dataset.channel].name
            raise UserError(f"datasets {other} and {dataset.name} are one channel of the same files; drop one")
        group.datasets[dataset.channel] = dataset
        group.tables[dataset.channel] = read_table(dataset.csv_path)
        group.known[dataset.channel] = read_provenance(dataset.csv_path)
    return list(groups.values())


def _tasks(group: Group, columns: Sequence[str], *, everything: bool) -> list[Task]:
    """Signals that have an empty cell in one of the columns, or all, in the order of the tables."""
    wanted: dict[str, dict[str, tuple[str, ...]]] = {}
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    for channel, table in group.tables.items():
        gaps = {column: set(table["signal"] if everything else _gaps(table, column)) for column in columns}
        prompts = table[table["word_count"] == 1].groupby("signal", sort=False)["word"].agg(tuple)
        for signal, prompt in prompts.items():
            missing = tuple(column for column in columns if signal in gaps[column])
            if missing:
                wanted.setdefault(str(signal), {})[channel] = missing
                words.setdefault(str(signal), {})[channel] = prompt
    dataset = next(iter(group.datasets.values()))
    paths: dict[str, Any] = {name: path.absolute() for name, path in vars(dataset).items() if isinstance(path, Path)}
    folders = dataclasses.replace(dataset, **paths)  # as a worker in another folder finds them
    return [Task(signal, wanted[signal], words[signal], folders) for signal in wanted]


def _gaps(table: pd.DataFrame, column: str) -> pd.Series:
    """Signals that have an empty cell in a column.

    The Whisper stage fills a signal's SENTENCE_SCORE row last and whole, so only that row is looked at.
    """
    if column not in table.columns:
        return table["signal"]
    if column not in WHISPER_COLUMNS:
        return table.loc[table[column].isna(), "signal"]
    filled = table.loc[(table["word_count"] == 0) & table[column].notna(), "signal"]
    return table.loc[~table["signal"].isin(filled), "signal"]


def _placed(table: pd.DataFrame, values: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table with values by signal and column: scores of the words and the sentence, or one for all rows."""
    columns = [column for column in FEATURE_COLUMNS if any(column in cells for cells in values.values())]
    filled = {c: table[c].to_numpy(copy=True) if c in table else np.full(len(table), np.nan) for c in columns}
    for signal, rows in table.groupby("signal", sort=False).indices.items():
        for column, cell in values.get(str(signal), {}).items():
            filled[column][rows] = cell["scores"] if isinstance(cell, dict) else cell
    return table.assign(**filled)


def _note(
    known: dict[str, dict[str, Any]], channel: str, sources: Sources, results: Mapping[str, SignalResult], anew: bool
) -> None:
    """Update the provenance of a table's columns by results of a channel."""
    for column, source in sources.items():
        values = {s: found.made_with for s, found in results.items() if column in found.values.get(channel, {})}
        failures = {s: found.failures.get(channel, {}) for s, found in results.items()}
        failed = {signal: reasons[column] for signal, reasons in failures.items() if column in reasons}
        if not (values or failed):
            continue
        before = {} if anew else known.get(column, {})
        earlier = {signal: why for signal, why in before.get("failures", {}).items() if signal not in values}
        made_with = next(reversed(values.values()), {})
        known[column] = {**before, **source, **made_with, "failures": {**earlier, **failed}}


def _hash_of_words(group: Group) -> str:
    """Hash of the signals, prompts and words of tables; sentence rows, which come with stage 2, do not count."""
    total = hashlib.sha256()
    for channel, table in sorted(group.tables.items()):
        words = table.loc[table["word_count"] == 1, ["signal", "prompt", "word"]]
        total.update(channel.encode() + pd.util.hash_pandas_object(words, index=False).to_numpy().tobytes())
    return total.hexdigest()


def _partial_path(datasets: Collection[Dataset], column: str) -> Path:
    """Partial results of a Whisper column, or of all metrics; those of both channels and of one are separate files."""
    path = min(dataset.csv_path for dataset in datasets)
    channels = "both." if len(datasets) > 1 else ""
    return path.with_name(f"{path.stem}.{channels}{'metrics' if column in METRIC_COLUMNS else column}.partial.jsonl")


def _n_signals(table: pd.DataFrame) -> int:
    return int(table["signal"].nunique())


def print_status(datasets: Sequence[Dataset], columns: Sequence[str]) -> int:
    """Print how many signals of each column are done, kept in partial results, failed and missing, as CSV."""
    print("table,column,done,kept,failed,missing")
    for group in _read_groups(datasets):
        for channel, dataset in group.datasets.items():
            table, known = group.tables[channel], group.known[channel]
            for column in columns:
                empty = set(_gaps(table, column))
                paths = {_partial_path(group.datasets.values(), column), _partial_path([dataset], column)}
                results = [found for path in paths for found in read_partial(path)]
                kept = {found.signal for found in results if column in found.values.get(channel, {})} & empty
                failed = set(known.get(column, {}).get("failures", ())) & empty - kept
                counts = _n_signals(table) - len(empty), len(kept), len(failed), len(empty - kept - failed)
                print(dataset.csv_path, column, *counts, sep=",")
    return EXIT_OK


def print_result(result: StageResult) -> int:
    """Print what a stage filled and what failed; returns the exit code."""
    for path, columns, computed, present in result.filled:
        print(f"{path}: {', '.join(columns)}: {computed} signals computed, {present} were there")
    return report_failures([(f"{s} {c} ({', '.join(cs)})", why) for (s, c, why), cs in result.failures.items()])


def write_transcripts(path: Path, result: StageResult) -> None:
    """Write transcripts as CSV with the columns signal, table, model, transcript; add to what is there already."""
    columns = ["signal", "table", "model", "transcript"]
    rows = pd.DataFrame(result.transcripts, columns=columns)
    if path.is_file():
        earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(earlier.columns) != columns:
            raise UserError(f"{path}: expected transcripts, {', '.join(columns)}, found another file")
        rows = pd.concat([earlier, rows]).drop_duplicates(columns[:3], keep="last")
    with atomic_write(path) as temporary:
        rows.to_csv(temporary, index=False)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options of a feature stage that choose where to compute, and whether at all."""
    parser.add_argument("--jobs", type=int, metavar="N", help="processes of this machine (default: config, else 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, for instance tcp://host:8786")
    parser.add_argument("--resources", nargs="+", metavar="NAME=N", help="what a worker must offer, for instance GPU=1")
    parser.add_argument("--overwrite", action="store_true", help="compute again what is there")
    parser.add_argument("--status", action="store_true", help="print how far each column is, and compute nothing")


def engine_options(given: argparse.Namespace, jobs: int) -> dict[str, Any]:
    """Arguments of `open_engine` from the options of `add_engine_options`, else `jobs` processes."""
    resources: dict[str, float] = {}
    for text in listed(given.resources):
        name, _, number = text.partition("=")
        if not (name and re.fullmatch(r"\d+(\.\d+)?", number)):
            raise UserError(f"--resources: expected NAME=NUMBER, such as GPU=1, found {text!r}")
        resources[name] = float(number)
    of_config = jobs if given.scheduler is None else 1
    engine = {"jobs": of_config if given.jobs is None else given.jobs, "scheduler": given.scheduler}
    check_engine(**engine, resources=resources)
    return {**engine, "resources": resources}
