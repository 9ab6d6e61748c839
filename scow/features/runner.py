"""Stages 2 and 3: fill the Whisper columns and the metric columns of feature tables, by one loop (`_Stage.fill`).

1. Tables are locked, read once and checked; those of the same split and folders are filled together, so that a file is
   decoded once for both channels.
2. For each column (the metrics together), the signals that have an empty cell are cut into chunks by their place in the
   table. What an earlier, killed run computed of them is taken from its partial results (`scow.features.partial`).
3. The rest is computed (`scow.features.extract`) on an engine (`scow.features.engine`), in any order, and appended to
   the partial results as it comes.
4. When all is there, values go to the tables, each written once and at all times whole, and a note of how they were
   computed goes beside the table (`scow.data.provenance`).

Without lyrics, stage 2 first makes tables with **pseudo-prompts** (`write_pseudo_prompts`): what one model, the
reference, transcribes of the mean of both channels, as normalised words. The other models' word scores on these tables
measure how far they agree with the reference. Where it transcribes nothing, the pseudo-prompt is ``?``, a word that no
transcript hits. The provenance of these tables names the reference under ``prompt``.

A signal whose cells are filled is skipped, unless `overwrite` is set. A signal that fails keeps empty cells and is
reported with the reason; the others are not affected.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scow.cli import EXIT_OK, Progress, report_failures
from scow.data.audio import MONO
from scow.data.embeddings import embeddings_path, read_embeddings, write_embeddings
from scow.data.feature_config import Dataset, FeatureConfig, MetricOptions, WhisperOptions, without_prompt
from scow.data.metadata import SignalRecord, metadata_table
from scow.data.provenance import PROMPT, check_source, read_provenance, source, updated_column, write_provenance
from scow.data.tables import (
    DNSMOS_COLUMNS,
    INTRUSIVE_COLUMNS,
    MAX_WORDS,
    METRIC_COLUMNS,
    WHISPER_COLUMNS,
    order_columns,
    read_table,
    with_sentence_rows,
    write_table,
)
from scow.device import resolve_device
from scow.errors import UserError, expect
from scow.features import dnsmos, intrusive, whisper
from scow.features.engine import DIED, Engine, open_engine
from scow.features.extract import Task, loaded_dnsmos, metric_results, read_audio, whisper_results
from scow.features.partial import ChannelResult, append_partial, merge_results, read_partial, start_partial
from scow.features.whisper import WhisperModel, load_transcriber, resolve_model, weights_path
from scow.io import atomic_write, locked, portable_path, reading
from scow.text.normalize import normalize_text

SIGNALS_PER_CHUNK = 8  # sixteen channels: the decoder gains little from more, and a killed run loses no more than these
MAX_SIGNALS_PER_CHUNK = 256  # two chunks of excerpts of 30 s are 5 GB
Settings = Mapping[str, Any]  # arguments of `open_engine`
Sources = dict[str, dict[str, str | None]]  # definition, model and sha256, by column


@dataclass(frozen=True)
class Work:
    """Columns that are computed together, and how."""

    columns: tuple[str, ...]
    sources: Callable[[], Sources]
    compute: Callable[[Any], list[ChannelResult]]  # takes what `read_audio` gives
    embeddings: bool = False  # also write the embeddings of this Whisper column


@dataclass
class StageResult:
    """What a stage did."""

    filled: list[tuple[Path, tuple[str, ...], int, int]] = field(default_factory=list)  # table, columns, new, present
    failures: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)  # signal, channel, reason: columns


def configured_models(config: FeatureConfig) -> tuple[WhisperModel, ...]:
    """Models of ``whisper.models:``, a list of names or paths, or a mapping of column to name or path."""
    given = config.whisper.get("models") or []
    columns = list(given) if isinstance(given, Mapping) else [None] * len(given)
    names = list(given.values()) if isinstance(given, Mapping) else given
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{config.path}: whisper.models: expected names of models, found {names}")
    return named_models([_resolved(config, name) for name in names], columns)


def reference_model(config: FeatureConfig) -> str | None:
    """The model of ``whisper.pseudo_prompt:``, a name or a path."""
    name = config.whisper_options().pseudo_prompt
    return _resolved(config, name) if name else None


def _resolved(config: FeatureConfig, name: str) -> str:
    return str(config.resolve(portable_path(name))) if name.endswith(".pt") else name


def named_models(names: Sequence[str], columns: Sequence[str | None] | None = None) -> tuple[WhisperModel, ...]:
    """Models by name or path, and the columns that they fill, by default those of their names."""
    models = tuple(map(resolve_model, names, columns or [None] * len(names)))
    filled = [model.column for model in models]
    twice = [f"{column} twice" for column in filled if filled.count(column) > 1]
    if twice or not models:
        raise UserError(f"whisper.models: expected each model once, found {[*twice, 'none'][0]}")
    return models


def fill_whisper(
    datasets: Sequence[Dataset],
    models: Sequence[WhisperModel],
    options: WhisperOptions,
    *,
    engine: Settings | None = None,
    overwrite: bool = False,
    transcripts: Path | None = None,
) -> StageResult:
    """Stage 2: fill one column per model, and the SENTENCE_SCORE rows; add what was transcribed to a CSV file."""
    if transcripts:
        add_transcripts(transcripts, [])  # an error now, not after hours of work
    engine = engine or {"jobs": options.jobs}
    works, size = _whisper_works(models, options, engine)
    return _fill(datasets, works, size, engine, overwrite=overwrite, transcripts=transcripts)


def write_pseudo_prompts(
    datasets: Sequence[Dataset],
    model: WhisperModel,
    options: WhisperOptions,
    *,
    engine: Settings | None = None,
    overwrite: bool = False,
) -> StageResult:
    """Stage 2 without lyrics: make the tables of `without_prompt`, or add the signals that they lack."""
    engine = engine or {"jobs": options.jobs}
    works, size = _whisper_works([model], dataclasses.replace(options, embeddings=False), engine)
    tables = [of.csv_path for dataset in datasets for of in (dataset, without_prompt(dataset))]
    with open_engine(**engine) as opened, locked(tables):
        stage = _Stage(datasets, opened, size, overwrite, None)
        for group in _same_files(datasets):
            stage.add_pseudo_prompts(group, works[0])
        return stage.result


def _whisper_works(models: Sequence[WhisperModel], options: WhisperOptions, engine: Settings) -> tuple[list[Work], int]:
    """What is computed for each model, and signals per chunk."""
    from scow.features.encoder import resolve_engine  # it loads torch

    size = SIGNALS_PER_CHUNK if options.batch_size is None else options.batch_size
    expect(1 <= size <= MAX_SIGNALS_PER_CHUNK, "whisper.batch_size", f"1 to {MAX_SIGNALS_PER_CHUNK}", size)
    if not engine.get("scheduler"):
        resolve_engine(options.engine, resolve_device(options.device))  # an error now; a worker may differ
    folder = options.model_dir.absolute() if options.model_dir else None
    works = []
    for model in models:
        compute = partial(whisper_results, model, folder, options.device, options.engine, options.embeddings)
        sources = partial(_whisper_sources, model, folder)
        works.append(Work((model.column,), sources, compute, embeddings=options.embeddings))
    return works, size


def fill_metrics(
    datasets: Sequence[Dataset], options: MetricOptions, *, engine: Settings | None = None, overwrite: bool = False
) -> StageResult:
    """Stage 3: fill STOI, eSTOI, PESQ and DNSMOS columns."""
    columns = metric_columns(options)
    for dataset in datasets:
        if options.quality and dataset.reference_dir is None:
            raise UserError(f"dataset {dataset.name}: expected reference_dir for STOI and PESQ, found none")
    if options.dns:
        loaded_dnsmos(options.dnsmos_model)  # a bad model is an error before hours of work, not after
    work = Work(columns, partial(_metric_sources, options), partial(metric_results, options.dnsmos_model))
    return _fill(datasets, [work], 1, engine or {"jobs": options.jobs}, overwrite=overwrite)


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
    return {model.column: source(whisper.DEFINITION, model.openai_name, path)}


def _metric_sources(options: MetricOptions) -> Sources:
    """Sources of all metrics, whichever are wanted, so that partial results of one group are of use to both."""
    sources = dict.fromkeys(INTRUSIVE_COLUMNS, source(intrusive.DEFINITION))
    model = options.dnsmos_model or dnsmos.installed_model()
    if model.is_file():
        sources |= dict.fromkeys(DNSMOS_COLUMNS, source(dnsmos.DEFINITION, model.stem, model))
    return sources


def _fill(
    datasets: Sequence[Dataset],
    works: Sequence[Work],
    chunk_size: int,
    engine: Settings,
    *,
    overwrite: bool,
    transcripts: Path | None = None,
) -> StageResult:
    with open_engine(**engine) as opened, locked(dataset.csv_path for dataset in datasets):
        stage = _Stage(datasets, opened, chunk_size, overwrite, transcripts)
        for work in works:
            for group in _same_files(datasets):
                stage.fill(group, work)
        return stage.result


class _Stage:
    """A stage at work on locked tables, and what it has done so far."""

    def __init__(
        self, datasets: Sequence[Dataset], engine: Engine, chunk_size: int, overwrite: bool, transcripts: Path | None
    ) -> None:
        self._engine, self._chunk_size, self._overwrite, self._transcripts = engine, chunk_size, overwrite, transcripts
        self._tables = {dataset.csv_path: read_table(dataset.csv_path) for dataset in datasets}
        self._known = {dataset.csv_path: read_provenance(dataset.csv_path) for dataset in datasets}
        self.result = StageResult()

    def fill(self, group: Sequence[Dataset], work: Work) -> None:
        """Fill columns of the tables of a group: find what is missing, compute it, write it."""
        path = _partial_path(group, work.columns[0])
        self._check_overwrite(path)
        embedded = self._embedded(group, work.columns[0]) if work.embeddings else {}
        tasks = _tasks(group, self._tables, work.columns, embedded, everything=self._overwrite)
        results: dict[tuple[str, str], ChannelResult] = {}
        sources: Sources = {}
        if tasks or path.exists():
            sources = work.sources()
            self._check_sources(group, tasks, sources)
            for table, (sha256, there) in embedded.items():
                same = not there or sha256 == sources[work.columns[0]]["sha256"]
                found = f"those of other weights ({sha256[:12]}); compute all of it again with --overwrite"
                expect(same, embeddings_path(table, work.columns[0]), "embeddings of the same weights", found)
            results = self._compute(group, work, tasks, sources, path)
        if self._transcripts and results:  # before the tables: after them nothing would be left to do in a rerun
            add_transcripts(self._transcripts, _transcripts(group, work.columns[0], results))
        for dataset in group:
            asked = [task.signal for task in tasks if dataset.channel in task.columns]
            of_channel = {signal: result for (signal, channel), result in results.items() if channel == dataset.channel}
            n_computed = sum(bool(of_channel[signal].values) for signal in asked)
            n_present = self._tables[dataset.csv_path]["signal"].nunique() - len(asked)
            self.result.filled.append((dataset.csv_path, work.columns, n_computed, n_present))
            if work.embeddings and of_channel:
                there = embedded[dataset.csv_path][1] | _embeddings_of(of_channel, work.columns[0])
                ordered = {s: there[s] for s in self._tables[dataset.csv_path]["signal"].unique() if s in there}
                if ordered:  # not all have failed
                    sha256 = str(sources[work.columns[0]]["sha256"])
                    write_embeddings(embeddings_path(dataset.csv_path, work.columns[0]), sha256, ordered)
            self._write(dataset.csv_path, work.columns, sources, of_channel)
        path.unlink(missing_ok=True)
        for task in tasks:
            for channel in task.columns:
                for column, reason in results[task.signal, channel].failures.items():
                    self.result.failures.setdefault((task.signal, channel, reason), []).append(column)

    def add_pseudo_prompts(self, group: Sequence[Dataset], work: Work) -> None:
        """Add the signals of a group that its tables with pseudo-prompts lack, with the same ones in all channels."""
        (column,), targets = work.columns, [without_prompt(dataset).csv_path for dataset in group]
        sources = {PROMPT: work.sources()[column] | {"definition": "pseudo-prompt"}}
        path = _partial_path(map(without_prompt, group), PROMPT)
        self._check_overwrite(path)
        present = {target: read_table(target) for target in targets if target.exists() and not self._overwrite}
        known = {target: read_provenance(target) for target in present}
        for target in present:
            check_source(target, PROMPT, known[target].get(PROMPT), sources[PROMPT])
        missing = [set(self._tables[group[0].csv_path]["signal"]) - set(table["signal"]) for table in present.values()]
        mono = [dataclasses.replace(group[0], channel=MONO)]
        tasks = _tasks(mono, self._tables, work.columns, {}, everything=True)
        if len(present) == len(targets):
            tasks = [task for task in tasks if task.signal in set.union(*missing)]
        results = self._compute(mono, work, tasks, sources, path)
        failures = {s: result.failures[column] for (s, _), result in results.items() if not result.values}
        made_with = {s: result.made_with for (s, _), result in results.items() if result.values}
        for dataset, target in zip(group, targets, strict=True):
            table = present.get(target, metadata_table([]))
            firsts = self._tables[dataset.csv_path].drop_duplicates("signal").set_index("signal")
            new = [
                SignalRecord(
                    s, prompt, first["hearing_loss"], n_words=len(prompt.split()), correctness=first["correctness"]
                )
                for s, first in firsts.drop(table["signal"].unique(), errors="ignore").iterrows()
                if s in made_with
                for prompt in [_pseudo_prompt(results[s, MONO].values[column]["transcript"])]
            ]
            if new:
                write_table(pd.concat([table, metadata_table(new)], ignore_index=True), target)
            if results and (new or len(table)):
                columns = known.get(target, {})
                columns[PROMPT] = updated_column(columns.get(PROMPT, {}), sources[PROMPT], made_with, failures)
                write_provenance(target, columns)
            self.result.filled.append((target, (PROMPT,), len(new), table["signal"].nunique()))
        path.unlink(missing_ok=True)
        self.result.failures |= {(signal, MONO, reason): [PROMPT] for signal, reason in failures.items()}

    def _check_overwrite(self, path: Path) -> None:
        if not self._overwrite and read_partial(path)[0].get("overwrite"):
            raise UserError(f"{path}: a run with --overwrite was stopped; finish it so, or remove this file")

    def _embedded(self, group: Sequence[Dataset], column: str) -> dict[Path, tuple[str, dict[str, np.ndarray]]]:
        """What the file of embeddings of each table holds, by table."""
        paths = {dataset.csv_path: embeddings_path(dataset.csv_path, column) for dataset in group}
        keep = not self._overwrite
        return {table: read_embeddings(path) if keep and path.exists() else ("", {}) for table, path in paths.items()}

    def _check_sources(self, group: Sequence[Dataset], tasks: Sequence[Task], sources: Sources) -> None:
        """Refuse to fill gaps with numbers of another source than that of the numbers around them."""
        for dataset in () if self._overwrite else group:
            known = self._known[dataset.csv_path]
            wanted = {column for task in tasks for column in task.columns.get(dataset.channel, ())}
            for column in (column for column in sources if column in wanted):
                check_source(dataset.csv_path, column, known.get(column), sources[column])

    def _compute(
        self, group: Sequence[Dataset], work: Work, tasks: Sequence[Task], sources: Sources, path: Path
    ) -> dict[tuple[str, str], ChannelResult]:
        """Compute what the partial results at `path` do not hold, add it to them as it comes, and return them all."""
        heading = {"words": _hash_of_words(group, self._tables), "sources": sources}
        heading |= {"embeddings": [work.columns[0]]} if work.embeddings else {}
        heading["overwrite"] = list(work.columns) if self._overwrite else []
        finished = _of_tables(start_partial(path, heading), group, self._tables)
        chunks = _chunks(tasks, self._chunk_size, merge_results(finished))
        label = f"{group[0].split} {_name_of(work.columns[0])}"
        progress, n_done, n_tasks = Progress("signals"), 0, sum(map(len, chunks))
        for index, computed in self._engine.map(work.compute, chunks, prepare=read_audio):
            new = _died(chunks[index]) if computed is None else computed
            append_partial(path, new)
            finished += new
            n_done += len(chunks[index])
            progress(label, n_done, n_tasks)
        return merge_results(finished)

    def _write(
        self, table: Path, columns: Sequence[str], sources: Sources, results: Mapping[str, ChannelResult]
    ) -> None:
        """Write a table and its provenance with the results of its channel, by signal; with none, change nothing."""
        values = _by_column({signal: result.values for signal, result in results.items()})
        failures = _by_column({signal: result.failures for signal, result in results.items()})
        if values:
            before = self._tables[table]
            if self._overwrite:
                before = before.drop(columns=list(columns), errors="ignore")
            self._tables[table] = _with_values(before, values)
            write_table(self._tables[table], table)
        if values or (failures and not self._overwrite):  # an overwrite that computes nothing changes nothing
            known = self._known[table]
            for column in (column for column in sources if column in values or column in failures):
                earlier = {} if self._overwrite else known.get(column, {})
                made_with = {signal: results[signal].made_with for signal in values.get(column, ())}
                known[column] = updated_column(earlier, sources[column], made_with, failures.get(column, {}))
            write_provenance(table, known)


def _pseudo_prompt(transcript: str) -> str:
    return " ".join(normalize_text(transcript)[:MAX_WORDS]) or "?"


def _embeddings_of(results: Mapping[str, ChannelResult], column: str) -> dict[str, np.ndarray]:
    texts = {signal: result.values[column]["embedding"] for signal, result in results.items() if result.values}
    return {s: np.frombuffer(base64.b64decode(text), np.float32).reshape(2, -1) for s, text in texts.items()}


def _same_files(datasets: Iterable[Dataset]) -> list[list[Dataset]]:
    """Datasets grouped by split and folders; each has a table of its own."""
    groups: dict[tuple[object, ...], list[Dataset]] = {}
    paths: set[str] = set()
    for dataset in datasets:
        path = os.path.realpath(dataset.csv_path)
        folders = (dataset.signal_dir, dataset.degraded_dir, dataset.audio_dir, dataset.reference_dir)
        group = groups.setdefault((dataset.split, *folders), [])
        for other in group:
            if other.channel == dataset.channel:
                raise UserError(f"datasets {other.name} and {dataset.name} are one channel of the same files; drop one")
        expect(path not in paths, dataset.csv_path, "a table for each dataset", "that of another dataset")
        group.append(dataset)
        paths.add(path)
    return list(groups.values())


def _tasks(
    group: Sequence[Dataset],
    tables: Mapping[Path, pd.DataFrame],
    columns: Sequence[str],
    embedded: Mapping[Path, tuple[str, Container[str]]],
    *,
    everything: bool,
) -> list[Task]:
    """Signals that have an empty cell in one of the columns, or no embedding, or all, in the order of the tables."""
    paths: dict[str, Any] = {name: path.absolute() for name, path in vars(group[0]).items() if isinstance(path, Path)}
    folders = dataclasses.replace(group[0], **paths)  # as a worker in another folder finds them
    tasks: dict[str, Task] = {}
    for dataset in group:
        table = tables[dataset.csv_path]
        gaps = {column: set(table["signal"] if everything else _gaps(table, column)) for column in columns}
        if dataset.csv_path in embedded:
            gaps[columns[0]] |= {s for s in table["signal"].unique() if s not in embedded[dataset.csv_path][1]}
        words = table[table["word_count"] == 1].groupby("signal", sort=False)["word"].agg(tuple)
        for signal, prompt in words.items():
            if missing := tuple(column for column in columns if signal in gaps[column]):
                task = tasks.setdefault(str(signal), Task(str(signal), {}, {}, folders))
                task.columns[dataset.channel] = missing
                task.words[dataset.channel] = prompt
    return list(tasks.values())


def _gaps(table: pd.DataFrame, column: str) -> pd.Series:
    """Signals that have an empty cell in a column.

    The Whisper stage fills a signal's SENTENCE_SCORE row last and whole, so only that row is looked at.
    """
    if column not in table.columns:
        return table["signal"]
    if column in METRIC_COLUMNS:
        return table.loc[table[column].isna(), "signal"]
    filled = table.loc[(table["word_count"] == 0) & table[column].notna(), "signal"]
    return table.loc[~table["signal"].isin(filled), "signal"]


def _of_tables(
    results: Iterable[ChannelResult], group: Sequence[Dataset], tables: Mapping[Path, pd.DataFrame]
) -> list[ChannelResult]:
    """Results of signals that the tables have, with a score for each word and the sentence."""
    words = {dataset.channel: tables[dataset.csv_path].query("word_count == 1")["signal"] for dataset in group}
    n_scores = {(s, channel): n + 1 for channel, of in words.items() for s, n in of.value_counts().items()}
    return [
        result
        for result in results
        for n in [n_scores.get((result.signal, result.channel))]
        if n and all(len(value["scores"]) == n for value in result.values.values() if isinstance(value, dict))
    ]


def _chunks(tasks: Sequence[Task], size: int, finished: Mapping[tuple[str, str], ChannelResult]) -> list[list[Task]]:
    """Tasks in chunks, cut before what is finished is taken out, so that a resumed run has the same ones."""
    remaining = []
    for task in tasks:
        columns = {}
        for channel, wanted in task.columns.items():
            done = finished[task.signal, channel].values if (task.signal, channel) in finished else {}
            if missing := tuple(column for column in wanted if column not in done):
                columns[channel] = missing
        remaining.append(dataclasses.replace(task, columns=columns))
    chunks = [[task for task in remaining[i : i + size] if task.columns] for i in range(0, len(tasks), size)]
    return [chunk for chunk in chunks if chunk]


def _died(chunk: Sequence[Task]) -> list[ChannelResult]:
    return [
        ChannelResult(task.signal, channel, failures=dict.fromkeys(columns, DIED))
        for task in chunk
        for channel, columns in task.columns.items()
    ]


def _by_column(by_signal: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Cells by column and signal, from cells by signal and column."""
    found: dict[str, dict[str, Any]] = {}
    for signal, cells in by_signal.items():
        for column, cell in cells.items():
            found.setdefault(column, {})[signal] = cell
    return found


def _with_values(table: pd.DataFrame, values: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table with values by column and signal: scores of the words and the sentence, or one for all rows."""
    if set(values) & set(WHISPER_COLUMNS):
        table = with_sentence_rows(table)
    rows = table.groupby("signal", sort=False).indices
    filled = {c: table[c].to_numpy(copy=True) if c in table else np.full(len(table), np.nan) for c in values}
    for column, cells in values.items():
        for signal, cell in cells.items():
            filled[column][rows[signal]] = cell["scores"] if isinstance(cell, dict) else cell
    return order_columns(table.assign(**filled))


def _hash_of_words(group: Sequence[Dataset], tables: Mapping[Path, pd.DataFrame]) -> str:
    """Hash of the signals and words of tables; sentence rows, which come with stage 2, do not count."""
    words = [tables[d.csv_path].query("word_count == 1")[["signal", "word"]] for d in group]
    return hashlib.sha256(pd.concat(words, keys=[d.channel for d in group]).to_csv().encode()).hexdigest()


def _partial_path(group: Iterable[Dataset], column: str) -> Path:
    """Partial results of a Whisper column, or of all metrics; those of both channels and of one are separate files."""
    path, *others = sorted(dataset.csv_path for dataset in group)
    return path.with_name(f"{path.stem}.{'both.' if others else ''}{_name_of(column)}.partial.jsonl")


def _name_of(column: str) -> str:
    """The name of what is computed together with a column."""
    return "metrics" if column in METRIC_COLUMNS else column


def print_status(datasets: Sequence[Dataset], columns: Sequence[str]) -> int:
    """Print how many signals of each column are done, kept in partial results, failed and missing, as CSV."""
    print("table,column,done,kept,failed,missing")
    for dataset, group in [(one, same) for same in _same_files(datasets) for one in same]:
        table, known = read_table(dataset.csv_path), read_provenance(dataset.csv_path)
        for column in columns:
            empty = set(_gaps(table, column))
            paths = {_partial_path(group, column), _partial_path([dataset], column)}
            results = merge_results(found for path in paths for found in read_partial(path)[1])
            kept = {s for (s, c), found in results.items() if c == dataset.channel and column in found.values} & empty
            failed = set(known.get(column, {}).get("failures", ())) & empty - kept
            counts = table["signal"].nunique() - len(empty), len(kept), len(failed), len(empty - kept - failed)
            print(dataset.csv_path, column, *counts, sep=",")
    return EXIT_OK


def print_result(result: StageResult) -> int:
    """Print what a stage filled and what failed; returns the exit code."""
    for path, columns, n_computed, n_present in result.filled:
        print(f"{path}: {', '.join(columns)}: {n_computed} signals computed, {n_present} were there")
    return report_failures([(f"{s} {c} ({', '.join(cs)})", why) for (s, c, why), cs in result.failures.items()])


def _transcripts(
    group: Sequence[Dataset], column: str, results: Mapping[tuple[str, str], ChannelResult]
) -> list[tuple[str, str, str, str]]:
    """Signal, table, model and transcript of each channel of a Whisper column."""
    tables = {dataset.channel: dataset.csv_path.name for dataset in group}
    return [
        (signal, tables[channel], column, result.values[column]["transcript"])
        for (signal, channel), result in results.items()
        if column in result.values
    ]


def add_transcripts(path: Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Add rows to a CSV of transcripts, columns signal, table, model, transcript; of a pair the last one stays."""
    columns = ["signal", "table", "model", "transcript"]
    table = pd.DataFrame(rows, columns=columns)
    if path.exists():
        with reading(path, "transcripts"):
            earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        expect(list(earlier.columns) == columns, path, f"transcripts, {', '.join(columns)}", "another file")
        table = pd.concat([earlier, table]).drop_duplicates(columns[:3], keep="last").sort_values(columns[:3])
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
