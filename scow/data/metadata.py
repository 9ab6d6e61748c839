"""What a corpus consists of: metadata records, dataset entries, and where the files of a signal lie.

**Metadata** is a JSON list with one record per signal. Labelled CLIP1 releases hold `signal, fma, original_prompt,
prompt, original_response, response, n_words, words_correct, correctness, hearing_loss`; unlabelled releases and CLIP2
lack some of these, which become empty cells. Stage 1 turns it into two identical feature tables, one per ear.

**Responses** of CLIP2 are a file of their own, ``train_responses.json``: signal to a list of ``{response_id,
original_response, response, hits, correctness, ...}``, one per listener. Joined to the metadata (`read_metadata`), they
fill what a record lacks: `correctness` and `words_correct` with the mean over its listeners, `response` with all of
them, ``|`` between them. What the metadata says itself takes precedence.

**Dataset entries** are the `datasets:` of ``feature_config.yaml``: one per split and ear. Paths are relative to the
folder of the config file, and a backslash in them is taken for a slash, so that a config from Windows works.

A signal id becomes a file name, so an id that would lead out of its folder is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scow.data.provenance import provenance_path
from scow.data.tables import BASE_COLUMNS, check_hearing_loss, read_table, write_table
from scow.errors import SignalError, UserError
from scow.io import locked
from scow.text.labels import join_responses
from scow.text.normalize import prompt_words


@dataclass(frozen=True)
class SignalRecord:
    """One signal of a metadata file.

    Attributes
    ----------
    signal : str
        Id, and name of its files.
    prompt : str
        Normalised lyrics.
    hearing_loss : str
        Severity, one of `scow.data.tables.HEARING_LOSSES`.
    response : str
        What the listener wrote down, normalised; several listeners as `scow.text.labels.join_responses` has them; empty
        where unknown.
    n_words, words_correct : float
        Counts; NaN where unknown.
    correctness : float
        Share of words that the listener got, in 0-1; NaN where unknown.
    track : str
        The recording (`fma`), for grouping in cross-validation only; empty where unknown.
    """

    signal: str
    prompt: str
    hearing_loss: str
    response: str = ""
    n_words: float = math.nan
    words_correct: float = math.nan
    correctness: float = math.nan
    track: str = ""


@dataclass(frozen=True)
class Conversion:
    """What stage 1 wrote.

    Attributes
    ----------
    tables : tuple of Path
        Left and right table.
    n_signals, n_rows : int
        Signals, and word rows per table.
    miscounted : tuple of str
        Signals whose number of prompt words differs from `n_words`.
    unanswered : tuple of str
        Signals that the file of responses does not name; empty where there is no such file.
    """

    tables: tuple[Path, Path]
    n_signals: int
    n_rows: int
    miscounted: tuple[str, ...]
    unanswered: tuple[str, ...] = ()


def check_signal_id(signal: object, where: str) -> str:
    """Return the id if it is text and a plain file name.

    Raises
    ------
    UserError
    """
    if not isinstance(signal, str) or not signal:
        raise UserError(f'{where}: expected signal as text, found {signal!r}; write it in quotes, "{signal}"')
    if signal in (".", "..") or any(c in "/\\:" or ord(c) < 32 or "\ud800" <= c <= "\udfff" for c in signal):
        raise UserError(f"{where}: expected a signal id that is a plain file name, found {signal!r}; rename the signal")
    return signal


def signal_file(folder: Path, signal: str) -> Path:
    """Path of ``<signal>.flac``, for an id from a table.

    Raises
    ------
    SignalError
        The id would lead out of the folder.
    """
    try:
        return folder / f"{check_signal_id(signal, 'table')}.flac"
    except UserError as error:
        raise SignalError(str(error)) from error


def unprocessed_file(folder: Path, signal: str) -> Path:
    """Path of ``<signal>_unproc.flac``, checked like `signal_file`."""
    return signal_file(folder, f"{signal}_unproc")


def read_json(path: Path, what: str = "a metadata JSON file") -> Any:
    """Read a JSON file; `what` it is goes into the error message.

    Raises
    ------
    UserError
        The file is missing, not UTF-8, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: expected {what}, found none; check the path or download it") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); download it again"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); download it again") from error


def read_metadata(path: Path, responses: Path | None = None) -> tuple[SignalRecord, ...]:
    """Read and check a metadata file.

    Parameters
    ----------
    path : Path
        JSON list of records, one per signal.
    responses : Path, optional
        File of responses to join. It may name further signals, but not none of these.

    Returns
    -------
    tuple of SignalRecord
        In the order of the file.

    Raises
    ------
    UserError
        The file is missing or malformed, a record lacks `signal`, `prompt` or `hearing_loss`, has a value of the
        wrong kind or an unknown severity, or a signal occurs twice. Or the responses are malformed, or others'.
    """
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise UserError(
            f"{path}: expected a list of signal records, found {type(content).__name__}; see data/README.md"
        )
    records = tuple(_record(raw, f"{path}, record {i + 1}") for i, raw in enumerate(content))
    seen: set[str] = set()
    for record in records:
        if record.signal in seen:
            raise UserError(f"{path}: signal {record.signal} occurs twice; expected one record per signal")
        seen.add(record.signal)
    if responses is None:
        return records
    answers = read_responses(responses)
    if seen.isdisjoint(answers):
        raise UserError(f"{responses}: expected responses to signals of {path}, found none; check both paths")
    return tuple(_joined(record, answers.get(record.signal, ())) for record in records)


@dataclass(frozen=True)
class Response:
    """One listener's answer.

    Attributes
    ----------
    text : str
        Normalised.
    hits, correctness : float
        Words that were right, and their share in 0-1; NaN where not given.
    """

    text: str
    hits: float = math.nan
    correctness: float = math.nan


def read_responses(path: Path) -> dict[str, tuple[Response, ...]]:
    """Read ``train_responses.json``: signal to its responses, at least one each.

    Raises
    ------
    UserError
        The file is missing or malformed, or a response lacks its text or has a value of the wrong kind.
    """
    content = read_json(path, "a responses JSON file")
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected signals with lists of responses, found {type(content).__name__}; see data/")
    answers = {}
    for signal, given in content.items():
        if not isinstance(given, list) or not given:
            raise UserError(f"{path}, {signal}: expected a list of responses, found {given!r}; download it again")
        answers[signal] = tuple(_response(raw, f"{path}, {signal}, response {i + 1}") for i, raw in enumerate(given))
    return answers


def metadata_table(records: Sequence[SignalRecord]) -> pd.DataFrame:
    """Feature table without features: one row per prompt word."""
    rows = [
        (
            record.signal,
            record.prompt,
            record.response,
            record.n_words,
            record.words_correct,
            record.correctness,
            record.hearing_loss,
            word,
            1,
        )
        for record in records
        for word in prompt_words(record.prompt)
    ]
    return pd.DataFrame(rows, columns=list(BASE_COLUMNS))


def convert_metadata(path: Path, *, responses: Path | None = None, force: bool = False) -> Conversion:
    """Stage 1: write ``<path minus .json>_l.csv`` and ``_r.csv``.

    Parameters
    ----------
    path : Path
        Metadata JSON.
    responses : Path, optional
        As for `read_metadata`.
    force : bool
        Replace tables that already hold feature columns.

    Returns
    -------
    Conversion

    Raises
    ------
    UserError
        As `read_metadata`; or a table exists that holds feature columns, or whatever else is no plain stage-1 table,
        and `force` is not set; or a feature stage is at work on one. Nothing is written then.
    """
    if path.suffix != ".json":
        raise UserError(
            f"{path}: expected a file that ends in .json, found {path.suffix or 'no ending'}; check the path"
        )
    records = read_metadata(path, responses)
    tables = (path.with_name(f"{path.stem}_l.csv"), path.with_name(f"{path.stem}_r.csv"))
    table = metadata_table(records)
    with locked(tables):
        if not force:
            for table_path in tables:
                _refuse_to_lose_features(table_path)
        for table_path in tables:
            write_table(table, table_path)
            provenance_path(table_path).unlink(missing_ok=True)  # of features that are no longer there
    miscounted = tuple(
        record.signal
        for record in records
        if not math.isnan(record.n_words) and record.n_words != len(prompt_words(record.prompt))
    )
    answers = read_responses(responses) if responses else {}
    unanswered = tuple(record.signal for record in records if responses and record.signal not in answers)
    return Conversion(tables, len(records), len(table), miscounted, unanswered)


def metadata_beside(table: Path) -> Path:
    """Where the metadata of a table lies by convention: ``valid_metadata_l.csv`` was ``valid_metadata.json``."""
    return table.with_name(f"{table.stem.removesuffix('_l').removesuffix('_r')}.json")


def _joined(record: SignalRecord, answers: Sequence[Response]) -> SignalRecord:
    """A record with what it lacks of its responses."""
    if not answers:
        return record
    known = [answer.correctness for answer in answers if not math.isnan(answer.correctness)]
    mean = sum(known) / len(known) if known else math.nan
    return dataclasses.replace(
        record,
        response=record.response or join_responses([answer.text for answer in answers]),
        correctness=mean if math.isnan(record.correctness) else record.correctness,
        words_correct=sum(answer.hits for answer in answers) / len(answers)  # NaN where a listener's are unknown
        if math.isnan(record.words_correct)
        else record.words_correct,
    )


def _response(raw: object, where: str) -> Response:
    if not isinstance(raw, dict) or "response" not in raw:
        raise UserError(f"{where}: expected a record with the field response, found {raw!r}; download it again")
    return Response(_text(raw, "response", where), _number(raw, "hits", where), _share(raw, "correctness", where))


def _record(raw: object, where: str) -> SignalRecord:
    if not isinstance(raw, dict):
        raise UserError(f"{where}: expected a record with named fields, found {raw!r}; see data/README.md")
    for field in ("signal", "prompt", "hearing_loss"):
        if field not in raw:
            raise UserError(f"{where}: expected the field {field}, found only {', '.join(raw)}; download it again")
    signal = check_signal_id(raw["signal"], where)
    where = f"{where} ({signal})"
    prompt = _text(raw, "prompt", where)
    if not prompt_words(prompt):
        raise UserError(f"{where}: expected a prompt with at least one word, found {prompt!r}; mend the metadata")
    return SignalRecord(
        signal=signal,
        prompt=prompt,
        hearing_loss=check_hearing_loss(_text(raw, "hearing_loss", where), where),
        response=_text(raw, "response", where).replace("|", " "),
        n_words=_number(raw, "n_words", where),
        words_correct=_number(raw, "words_correct", where),
        correctness=_share(raw, "correctness", where),
        track=_text(raw, "fma", where),
    )


def _text(raw: dict[str, Any], field: str, where: str) -> str:
    value = raw.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: expected {field} as text, found {value!r}; write it in quotes")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise UserError(f"{where}: expected {field} as Unicode text, found half a character in {value!r}; mend it")
    return re.sub(r"[\x00-\x1f\x7f]", " ", value)  # line ends and other control characters would break a table's rows


def _number(raw: dict[str, Any], field: str, where: str) -> float:
    value = raw.get(field)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{where}: expected {field} as a number, found {value!r}; mend the metadata")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"{where}: expected {field} as a finite number, found {str(value)[:20]}; mend the metadata")
    return number


def _share(raw: dict[str, Any], field: str, where: str) -> float:
    share = _number(raw, field, where)
    if share < 0 or share > 1:
        raise UserError(f"{where}: expected {field} in 0 to 1, found {share:g}; mend the metadata")
    return share


def _refuse_to_lose_features(path: Path) -> None:
    if not path.exists():
        return
    extra = [column for column in read_table(path).columns if column not in BASE_COLUMNS]
    if extra:
        raise UserError(
            f"{path} already holds the features {', '.join(extra)}, which would be lost; "
            "move it away, or add --force to replace it"
        )
