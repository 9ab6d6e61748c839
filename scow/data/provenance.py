"""Where the feature columns of a table come from, in a small JSON file beside it.

``valid_metadata_l.csv`` has ``valid_metadata_l.provenance.json``: for each column

- ``definition``: what the numbers mean (``published``); ``model`` and ``sha256``: the weights, null where none;
- ``date``, ``device``, ``dtype`` and ``versions`` of the libraries: how they were computed, in the last run that did;
- ``failures``: signals whose cell is empty, and why.

A column that is not in the file, or a table without such a file, as the published ones are, has no known provenance.
A checkpoint keeps definition, model and hash of the columns that it was trained on (`sources_of`), so that
`differences` can tell that a table was made in another way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scow.errors import UserError
from scow.io import read_json, sha256_of, write_json

EARLIER_FORMAT, FORMAT = (f"stereo-chorus-of-whispers/provenance/{n}" for n in (1, 2))  # 1: a list of runs per column
SOURCE = ("definition", "model", "sha256")
PROMPT = "prompt"  # a column with a source of its own in tables with pseudo-prompts
LYRICS = {"definition": "lyrics", "model": None, "sha256": None}  # that of all other tables


def source(definition: str, model: str | None = None, weights: Path | None = None) -> dict[str, str | None]:
    """What a column is computed with: its definition, and a model with the hash of its weights."""
    return {"definition": definition, "model": model, "sha256": sha256_of(weights) if weights else None}


def provenance_path(table: Path) -> Path:
    """The provenance file of a table."""
    return table.with_suffix(".provenance.json")


def read_provenance(table: Path) -> dict[str, dict[str, Any]]:
    """What is known of a table's columns, by column; nothing where there is no file."""
    path = provenance_path(table)
    if not path.exists():
        return {}
    content = read_json(path, "the provenance of a table")
    try:
        if content["format"] not in (FORMAT, EARLIER_FORMAT):
            raise ValueError(f"format {content['format']!r}")
        return {column: _column(known) for column, known in content["columns"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected the provenance of a table, found something else ({type(error).__name__}: {error}); "
            "move it away"
        ) from error


def _column(known: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a column; of an earlier format's runs the last one counts."""
    facts = {**{key: known[key] for key in SOURCE}, **(known.get("runs") or [{}])[-1], **known}
    return {key: value for key, value in facts.items() if key not in ("runs", "signals", "unknown")}


def write_provenance(table: Path, columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the provenance file of a table."""
    write_json(provenance_path(table), {"format": FORMAT, "columns": columns})


def updated_column(
    known: Mapping[str, Any],
    source: Mapping[str, Any],
    made_with: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """What is known of a column after a run; `made_with` and `failures` are by signal."""
    earlier = {signal: why for signal, why in known.get("failures", {}).items() if signal not in made_with}
    last: Mapping[str, Any] = next(reversed(list(made_with.values())), {})
    return {**known, **source, **last, "failures": {**earlier, **failures}}


def check_source(table: Path, column: str, known: Mapping[str, Any] | None, source: Mapping[str, Any]) -> None:
    """Refuse to fill the gaps of a column with numbers of another source."""
    for key in SOURCE:
        if known is not None and known[key] != source[key]:
            raise UserError(
                f"{table}: column {column} comes from another source ({key} {known[key]}, now {source[key]}); "
                "compute all of it again with --overwrite"
            )


def sources_of(tables: Iterable[Path], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Sources of the columns of several tables, as a checkpoint keeps them; unknown ones are left out.

    Two tables of another definition or model in the same column are an error; of other weights, the hash is None.
    """
    found: dict[str, dict[str, Any]] = {}
    for table in tables:
        known = {PROMPT: LYRICS} | read_provenance(table)
        for column in (column for column in columns if column in known):
            source = {key: known[column][key] for key in SOURCE}
            first = found.setdefault(column, source)
            if _named(first) != _named(source):
                raise UserError(
                    f"{table}: column {column} is {_named(source)}, in another training table {_named(first)}; "
                    "compute one of them again"
                )
            if first["sha256"] != source["sha256"]:
                first["sha256"] = None
    return {column: found[column] for column in columns if found.get(column, LYRICS) != LYRICS}


def differences(table: Path, columns: Sequence[str], trained_on: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Notes on the columns of a table that come from other weights' files than in training, as `sources_of` gives it.

    A column of another definition or model is an error: predictions would mean nothing. One that is not in `trained_on`
    was trained on published tables.
    """
    notes = []
    for column, source in ({PROMPT: LYRICS} | read_provenance(table)).items():
        if column not in columns:
            continue
        published = {"definition": "published", "model": source["model"], "sha256": None}
        expected = trained_on.get(column, LYRICS if column == PROMPT else published)
        if _named(source) != _named(expected):
            raise UserError(
                f"{table}: column {column} is {_named(source)}, but the checkpoint was trained on "
                f"{_named(expected)}; compute the column again, or choose another -cp"
            )
        found, wanted = source["sha256"], expected["sha256"]
        if found and wanted and found != wanted:
            hashes = f"(sha256 {found[:12]}) than in training ({wanted[:12]})"
            notes.append(f"{table}: column {column} comes from other weights {hashes}")
    return notes


def _named(source: Mapping[str, Any]) -> str:
    return f"{source['definition']!r}" + (f" of {source['model']}" if source["model"] else "")
