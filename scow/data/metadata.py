"""Metadata: one record per signal, CLIP2's responses, and stage 1, which makes the tables.

- **Metadata** are a JSON list with one record per signal: `signal, fma, original_prompt, prompt, original_response,
  response, n_words, words_correct, correctness, hearing_loss`. Unlabelled releases and CLIP2 lack some of these, which
  become empty cells.
- **Responses** of CLIP2 are a separate file: signal to a list of `{response, hits, correctness, ...}`, one per
  listener. They fill what a record lacks: `correctness` and `words_correct` with the mean over the listeners,
  `response` with all of them, ``|`` between them.
- **Stage 1** (`convert_metadata`) writes two equal feature tables, one per channel, with a row per word of a prompt.

Files are checked here and nowhere else: each value of a record by `_text` or `_number`, and the id, which is a file
name, by `check_signal_id`.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scow.data.provenance import provenance_path
from scow.data.tables import BASE_COLUMNS, HEARING_LOSSES, read_table, write_table
from scow.errors import SignalError, UserError
from scow.io import locked, read_json
from scow.text.labels import join_responses
from scow.text.normalize import prompt_words

MAX_NUMBER = sys.float_info.max


@dataclass(frozen=True)
class SignalRecord:
    """One signal of a metadata file; an unknown text is empty, an unknown number NaN."""

    signal: str  # id, and name of its files
    prompt: str  # normalised lyrics
    hearing_loss: str  # one of HEARING_LOSSES
    response: str = ""  # normalised; of several listeners as join_responses makes it
    n_words: float = math.nan
    words_correct: float = math.nan
    correctness: float = math.nan  # share of words that the listener got, 0 to 1
    track: str = ""  # the recording (`fma`), only to group signals in cross-validation


class Conversion(NamedTuple):
    """What stage 1 wrote."""

    tables: tuple[Path, Path]  # left, right
    n_signals: int
    n_rows: int  # per table
    miscounted: list[str]  # signals whose number of prompt words differs from `n_words`
    n_answered: int  # signals that the file of responses names


def read_metadata(path: Path, responses: Path | None = None) -> tuple[SignalRecord, ...]:
    """Read and check a metadata file, and join CLIP2's responses; these may name further signals."""
    content = read_json(path, "a metadata JSON file")
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: expected a list of signal records, found {content!r:.20}; see data/README.md")
    records: dict[str, SignalRecord] = {}
    for i, raw in enumerate(content, start=1):
        record = _record(raw, f"{path}, record {i}")
        if record.signal in records:
            raise UserError(f"{path}: expected one record per signal, found {record.signal} twice")
        records[record.signal] = record
    if responses is not None:
        answers = read_responses(responses)
        if records.keys().isdisjoint(answers):
            raise UserError(f"{responses}: expected responses to signals of {path}, found none")
        records |= {signal: _joined(records[signal], answers[signal]) for signal in records.keys() & answers.keys()}
    return tuple(records.values())


def read_responses(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    """Read ``train_responses.json``: signal to (text, hits, correctness) of each listener, at least one."""
    content = read_json(path, "a responses JSON file")
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected signals with lists of responses, found {content!r:.20}")
    answers = {}
    for signal, given in content.items():
        if not isinstance(given, list) or not given:
            raise UserError(f"{path}, {signal}: expected a list of responses, found {given!r:.20}")
        answers[signal] = [_answer(raw, f"{path}, {signal}, response {i}") for i, raw in enumerate(given, start=1)]
    return answers


def metadata_table(records: Sequence[SignalRecord]) -> pd.DataFrame:
    """Feature table without features: one row per word of a prompt."""
    rows = [
        (r.signal, r.prompt, r.response, r.n_words, r.words_correct, r.correctness, r.hearing_loss, word, 1)
        for r in records
        for word in prompt_words(r.prompt)
    ]
    return pd.DataFrame(rows, columns=list(BASE_COLUMNS))


def convert_metadata(path: Path, *, responses: Path | None = None, force: bool = False) -> Conversion:
    """Stage 1: write ``<path minus .json>_l.csv`` and ``_r.csv``; with `force` over tables that hold features."""
    if path.suffix != ".json":
        raise UserError(f"{path}: expected a file that ends in .json")
    records = read_metadata(path, responses)
    table = metadata_table(records)
    tables = (path.with_name(f"{path.stem}_l.csv"), path.with_name(f"{path.stem}_r.csv"))
    with locked(tables):
        for old in [] if force else filter(Path.exists, tables):
            features = [column for column in read_table(old).columns if column not in BASE_COLUMNS]
            if features:
                raise UserError(
                    f"{old} already holds the features {', '.join(features)}, which would be lost; "
                    "move it away, or add --force to replace it"
                )
        for new in tables:
            write_table(table, new)
            provenance_path(new).unlink(missing_ok=True)  # of features that are gone
    counts = {record.signal: len(prompt_words(record.prompt)) for record in records}
    miscounted = [r.signal for r in records if not math.isnan(r.n_words) and r.n_words != counts[r.signal]]
    n_answered = len(counts.keys() & read_responses(responses).keys()) if responses else 0
    return Conversion(tables, len(records), len(table), miscounted, n_answered)


def metadata_beside(table: Path) -> Path:
    """The metadata file of a table by convention: ``valid_metadata.json`` of ``valid_metadata_l.csv``."""
    return table.with_name(f"{table.stem.removesuffix('_l').removesuffix('_r')}.json")


def signal_file(folder: Path, signal: str) -> Path:
    """Path of ``<signal>.flac``; a `SignalError` where the id would lead out of the folder."""
    try:
        return folder / f"{check_signal_id(signal, 'table')}.flac"
    except UserError as error:
        raise SignalError(str(error)) from error


def unprocessed_file(folder: Path, signal: str) -> Path:
    """Path of ``<signal>_unproc.flac``, checked like `signal_file`."""
    return signal_file(folder, f"{signal}_unproc")


def check_signal_id(signal: object, where: str) -> str:
    """Return the id if it is text and a plain file name."""
    if not isinstance(signal, str) or not signal:
        raise UserError(f'{where}: expected signal as text, found {signal!r}; write it in quotes, "{signal}"')
    if signal in (".", "..") or re.search(r"[/\\:\x00-\x1f\ud800-\udfff]", signal):
        raise UserError(f"{where}: expected a signal id that is a plain file name, found {signal!r}")
    return signal


def _record(raw: object, where: str) -> SignalRecord:
    needed = ("signal", "prompt", "hearing_loss")
    if not isinstance(raw, dict) or any(field not in raw for field in needed):
        raise UserError(f"{where}: expected the fields {', '.join(needed)}, found {raw!r:.60}")
    signal = check_signal_id(raw["signal"], where)
    where = f"{where} ({signal})"
    prompt, hearing_loss = _text(raw, "prompt", where), _text(raw, "hearing_loss", where)
    if not prompt_words(prompt):
        raise UserError(f"{where}: expected a prompt with at least one word, found {prompt!r}")
    if hearing_loss not in HEARING_LOSSES:
        raise UserError(f"{where}: expected hearing_loss {', '.join(HEARING_LOSSES)}, found {hearing_loss!r}")
    return SignalRecord(
        signal=signal,
        prompt=prompt,
        hearing_loss=hearing_loss,
        response=_text(raw, "response", where).replace("|", " "),
        n_words=_number(raw, "n_words", where),
        words_correct=_number(raw, "words_correct", where),
        correctness=_number(raw, "correctness", where, 0.0, 1.0),
        track=_text(raw, "fma", where),
    )


def _answer(raw: object, where: str) -> tuple[str, float, float]:
    if not isinstance(raw, dict) or "response" not in raw:
        raise UserError(f"{where}: expected the field response, found {raw!r:.60}")
    return _text(raw, "response", where), _number(raw, "hits", where), _number(raw, "correctness", where, 0.0, 1.0)


def _joined(record: SignalRecord, answers: Sequence[tuple[str, float, float]]) -> SignalRecord:
    """A record with what it lacks of its responses."""
    texts, hits, shares = zip(*answers, strict=True)
    known = [share for share in shares if not math.isnan(share)]
    return dataclasses.replace(
        record,
        response=record.response or join_responses(texts),
        # The mean of the counts is NaN where the count of one listener is unknown.
        words_correct=sum(hits) / len(hits) if math.isnan(record.words_correct) else record.words_correct,
        correctness=sum(known) / len(known) if known and math.isnan(record.correctness) else record.correctness,
    )


def _text(raw: dict[str, Any], field: str, where: str) -> str:
    """A text, empty where it is absent; control characters, which would break a table's rows, become spaces."""
    value = raw.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) or re.search(r"[\ud800-\udfff]", value):
        raise UserError(f"{where}: expected {field} as Unicode text, found {value!r:.50}")
    return re.sub(r"[\x00-\x1f\x7f]", " ", value)


def _number(raw: dict[str, Any], field: str, where: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    """A number from `low` to `high`, NaN where it is absent."""
    value = raw.get(field)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        expected = "a finite number" if high == MAX_NUMBER else f"a number in {low:g} to {high:g}"
        raise UserError(f"{where}: expected {field} as {expected}, found {value!r:.20}")
    return float(value)
