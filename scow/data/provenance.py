"""Where the feature columns of a table come from, in a small JSON file beside it.

``valid_metadata_l.csv`` has ``valid_metadata_l.provenance.json``: for each column

- ``definition``: what the numbers mean, for instance ``published``;
- ``model`` and ``sha256``: the weights that made them, and their file's hash; null where there are none;
- ``runs``: how they came about, one entry per run that computed some: date, device, number format (``dtype``),
  versions of the libraries, and number of signals;
- ``unknown``: signals that were filled before anything was noted, so that nobody can say how;
- ``failures``: signals whose cell is empty, and why.

A column that is not in the file, or a table without such a file, as the published ones are, has no known provenance.
A checkpoint keeps definition, model and hash of the columns that it was trained on, so that `differences` can say that
a table was made in another way.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scow.errors import UserError
from scow.features.partial import Done, Outcome
from scow.io import write_json

FORMAT = "stereo-chorus-of-whispers/provenance/1"


@dataclass(frozen=True)
class Source:
    """What a column's numbers are.

    Attributes
    ----------
    definition : str
        For instance ``published``.
    model : str or None
        Name of the weights.
    sha256 : str or None
        Hash of their file.
    """

    definition: str
    model: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class ColumnProvenance:
    """What is known of a column of one table.

    Attributes
    ----------
    source : Source
    runs : tuple of dict
        ``made_by`` of the batches, and ``signals``, how many.
    unknown : int
        Signals that were filled before anything was noted.
    failures : dict of str to str
        By signal, why its cell is empty.
    """

    source: Source
    runs: tuple[dict[str, Any], ...] = ()
    unknown: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def provenance_path(table: Path) -> Path:
    """The provenance file of a table."""
    return table.with_suffix(".provenance.json")


def read_provenance(table: Path) -> dict[str, ColumnProvenance]:
    """What is known of a table's columns, by column; nothing where there is no file.

    Raises
    ------
    UserError
        The file holds something else.
    """
    path = provenance_path(table)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return {
            column: ColumnProvenance(
                Source(raw["definition"], raw["model"], raw["sha256"]),
                tuple(raw["runs"]),
                raw["unknown"],
                dict(raw["failures"]),
            )
            for column, raw in content["columns"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected the provenance of a table, found something else ({type(error).__name__}: {error}); "
            "move it away"
        ) from error


def write_provenance(table: Path, columns: Mapping[str, ColumnProvenance]) -> None:
    """Write the provenance file of a table, whole or not at all."""
    content = {
        "format": FORMAT,
        "columns": {
            name: {**dataclasses.asdict(known.source), **{k: v for k, v in vars(known).items() if k != "source"}}
            for name, known in columns.items()
        },
    }
    write_json(provenance_path(table), content)


def check_source(table: Path, column: str, known: ColumnProvenance | None, source: Source) -> None:
    """Refuse to fill the gaps of a column with numbers of another kind.

    Raises
    ------
    UserError
    """
    if known is not None and known.source != source:
        what = next(
            f"{name} {getattr(known.source, name)}, now {getattr(source, name)}"
            for name in ("definition", "model", "sha256")
            if getattr(known.source, name) != getattr(source, name)
        )
        raise UserError(
            f"{table}: column {column} holds numbers of another source ({what}); "
            "compute all of it again with --overwrite, or mend the config"
        )


def updated(
    known: ColumnProvenance,
    batches: Sequence[Done],
    outcomes: Iterable[Outcome],
    ear: str,
    column: str,
    new: Collection[str],
) -> ColumnProvenance:
    """Provenance of a column of an ear's table after some batches, whose last word are these outcomes.

    Of the signals that have a value, those in `new` are counted; the others have been counted before.
    """
    made_by = {
        outcome.signal: done.made_by
        for done in batches
        for outcome in done.outcomes
        if column in outcome.values.get(ear, {})
    }
    runs = [dict(run) for run in known.runs]
    counts = Counter(json.dumps(run, sort_keys=True) for signal, run in made_by.items() if signal in new)
    for run, signals in ((json.loads(text), n) for text, n in counts.items()):
        same = next((other for other in runs if other == {**run, "signals": other["signals"]}), None)
        if same is None:
            runs.append({**run, "signals": signals})
        else:
            same["signals"] += signals
    failures = {signal: why for signal, why in known.failures.items() if signal not in made_by}
    for outcome in outcomes:
        failures |= {f.signal: f.reason for f in outcome.failures if f.ear == ear and column in f.columns}
    return dataclasses.replace(known, runs=tuple(runs), failures=failures)


def sources_of(tables: Iterable[Path], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Sources of the columns of several tables, as a checkpoint keeps them; unknown ones are left out.

    Raises
    ------
    UserError
        Two tables hold numbers of another definition, or of another model, in the same column.
    """
    found: dict[str, Source] = {}
    for table in tables:
        known = read_provenance(table)
        for column in columns:
            if column not in known:
                continue
            source = known[column].source
            first = found.setdefault(column, source)
            if (first.definition, first.model) != (source.definition, source.model):
                raise UserError(
                    f"{table}: column {column} is {_named(source)}, in another training table {_named(first)}; "
                    "compute one of them again"
                )
            if first.sha256 != source.sha256:
                found[column] = dataclasses.replace(first, sha256=None)  # of several files
    return {column: dataclasses.asdict(found[column]) for column in columns if column in found}


def differences(table: Path, columns: Sequence[str], trained_on: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What of a table was made in another way than what a checkpoint was trained on, a line each.

    Parameters
    ----------
    table : Path
    columns : sequence of str
        Columns that the checkpoint takes.
    trained_on : mapping
        As `sources_of` makes it. A column that is not in it was trained on published tables.

    Returns
    -------
    list of str
        For columns of the same definition and model whose weights' files differ: the files may hold the same weights.

    Raises
    ------
    UserError
        A column is of another definition or model: predictions would mean nothing.
    """
    notes = []
    for column, known in read_provenance(table).items():
        if column not in columns:
            continue
        expected = Source(**trained_on[column]) if column in trained_on else Source("published", known.source.model)
        if (known.source.definition, known.source.model) != (expected.definition, expected.model):
            raise UserError(
                f"{table}: column {column} is {_named(known.source)}, but the checkpoint was trained on "
                f"{_named(expected)}; compute the column again, or choose another -cp"
            )
        hashes = known.source.sha256, expected.sha256
        if all(hashes) and hashes[0] != hashes[1]:
            notes.append(
                f"{table}: column {column} comes from other weights (sha256 {str(hashes[0])[:12]}) than in training "
                f"({str(hashes[1])[:12]})"
            )
    return notes


def _named(source: Source) -> str:
    return f"{source.definition!r}" + (f" of {source.model}" if source.model else "")
