"""Metadata: one record per signal, CLIP2's responses, and stage 1, which makes the tables.

- **Metadata** are a JSON list with one record per signal: `signal, fma, original_prompt, prompt, original_response,
  response, n_words, words_correct, correctness, hearing_loss`. Unlabelled releases and CLIP2 lack some of these, which
  become empty cells.
- **Responses** of CLIP2 are a separate file: signal to a list of `{response, hits, correctness, ...}`, one per
  listener. They fill what a record lacks: `correctness` and `words_correct` with the mean over the listeners,
  `response` with all of them, ``|`` between them.
- **The release** of a record is told by its fields: CLIP1 has `fma`, CLIP2 has `phoneme_correctness` or responses in a
  separate file. A record with both or neither is of no known release.
- **Stage 1** (`convert_metadata`) writes two equal feature tables, one per channel, with a row per word of a prompt.

Files are checked here and nowhere else, by `RECORD` and `ANSWER`, which declare the fields and what each may hold.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scow.data.provenance import provenance_path
from scow.data.tables import BASE_COLUMNS, HEARING_LOSSES, MAX_WORDS, read_table, write_table
from scow.errors import SignalError, UserError, expect
from scow.io import check_outputs, locked, read_json
from scow.text.labels import join_responses
from scow.text.normalize import prompt_words

shown = reprlib.repr  # short, however long or deep a value is
MAX_TEXT = 5_000  # characters of a prompt or response; a cell of a CSV file is limited too
MAX_NAME_BYTES = 255  # of a file name, on all common file systems


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
    release: str = ""  # clip1 or clip2; empty where unknown


class Conversion(NamedTuple):
    """What stage 1 wrote."""

    tables: tuple[Path, Path]  # left, right
    n_signals: int
    n_rows: int  # per table
    miscounted: list[str]  # signals whose number of prompt words differs from `n_words`
    responses: Path | None  # file of responses that was joined
    n_answered: int  # signals that this file names


def is_file_name(signal: object) -> bool:
    """Whether an id is text and a plain file name, which stays in its folder and on the disk."""
    is_plain = isinstance(signal, str) and not re.search(r"^\.{0,2}$|[/\\:\x00-\x1f\x7f-\x9f\ud800-\udfff]", signal)
    return is_plain and len(f"{signal}_unproc.flac".encode()) <= MAX_NAME_BYTES


def _text(value: object) -> str | None:
    """A text, empty where it is absent; control characters, which would break a table's rows, become spaces."""
    if value is None:
        return ""
    is_text = isinstance(value, str) and len(value) <= MAX_TEXT and not re.search(r"[\ud800-\udfff]", value)
    return re.sub(r"[\x00-\x1f\x7f]", " ", str(value)) if is_text else None


def _lyrics(value: object) -> str | None:
    text = _text(value) or ""
    return text if 1 <= len(prompt_words(text)) <= MAX_WORDS else None


def _number(value: Any, low: float, high: float) -> float | None:
    """A number from `low` to `high`, NaN where it is absent."""
    if value is None:
        return math.nan
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and low <= value <= high else None


def _count(value: Any) -> float | None:
    count = _number(value, 0, MAX_WORDS)
    return count if count is None or not count % 1 > 0 else None


# Field of a record -> what it may hold, and its value from that of the file; None where the file's is wrong.
Fields = Mapping[str, tuple[str, Callable[[Any], str | float | None]]]
TEXT = (f"Unicode text of at most {MAX_TEXT} characters", _text)
COUNT = (f"a whole number in 0 to {MAX_WORDS}", _count)
SHARE = ("a number in 0 to 1", lambda value: _number(value, 0, 1))
RECORD: Fields = {
    "signal": (
        "a plain file name in quotes, of at most 243 bytes",
        lambda value: value if is_file_name(value) else None,
    ),
    "prompt": (f"Unicode text of 1 to {MAX_WORDS} words", _lyrics),
    "hearing_loss": (", ".join(HEARING_LOSSES), lambda value: value if value in HEARING_LOSSES else None),
    "fma": TEXT,
    "response": TEXT,
    "n_words": COUNT,
    "words_correct": (f"a number in 0 to {MAX_WORDS}", lambda value: _number(value, 0, MAX_WORDS)),  # or a mean
    "correctness": SHARE,
}
ANSWER: Fields = {"response": TEXT, "hits": COUNT, "correctness": SHARE}


def read_metadata(path: Path, responses: Path | None = None) -> tuple[SignalRecord, ...]:
    """Read and check a metadata file, and join CLIP2's responses; these may name further signals."""
    return _read(path, responses, optional=False)[0]


def _read(path: Path, responses: Path | None, *, optional: bool) -> tuple[tuple[SignalRecord, ...], int]:
    """The records, and how many of them have responses; none is an error unless these are `optional`."""
    content = read_json(path, "metadata")
    expect(
        isinstance(content, list) and content, path, "a list of signal records", f"{shown(content)}; see data/README.md"
    )
    records: dict[str, SignalRecord] = {}
    for i, raw in enumerate(content, start=1):
        values = _checked(raw, RECORD, ("signal", "prompt", "hearing_loss"), f"{path}, record {i}")
        signal, track, response = values["signal"], values.pop("fma"), values.pop("response").replace("|", " ")
        expect(signal not in records, path, "one record per signal", f"{signal} twice")
        hits = values["words_correct"]
        is_count = not (response and hits % 1 > 0)  # of several responses it is a mean
        expect(is_count, f"{path}, record {i}", "words_correct of one response as a whole number", hits)
        has_phonemes = raw.get("phoneme_correctness") is not None
        release = "" if bool(track) == has_phonemes else "clip1" if track else "clip2"
        records[signal] = SignalRecord(track=track, response=response, release=release, **values)
    answers = _read_responses(responses) if responses else {}
    answered = records.keys() & answers.keys()
    expect(answered or optional or not responses, responses, f"responses to signals of {path}", "none")
    records |= {signal: _joined(records[signal], answers[signal]) for signal in answered}
    return tuple(records.values()), len(answered)


def _read_responses(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Responses of each signal, at least one, as `ANSWER` declares them."""
    content = read_json(path, "responses")
    expect(isinstance(content, dict), path, "signals with lists of responses", f"{shown(content)}")
    answers = {}
    for signal, given in content.items():
        expect(isinstance(given, list) and given, f"{path}, {signal}", "a list of responses", f"{shown(given)}")
        answers[signal] = [
            _checked(raw, ANSWER, ("response",), f"{path}, {signal}, response {i}")
            for i, raw in enumerate(given, start=1)
        ]
    return answers


def _checked(raw: object, fields: Fields, needed: Sequence[str], where: str) -> dict[str, Any]:
    """Values of the fields of a record, each checked."""
    content = raw if isinstance(raw, dict) else {}
    expect(content.keys() >= set(needed), where, f"the fields {', '.join(needed)}", f"{shown(raw)}")
    values = {field: read(content.get(field)) for field, (_, read) in fields.items()}
    for field, value in values.items():
        if value is None:
            raise UserError(f"{where}: expected {field} as {fields[field][0]}, found {shown(content.get(field))}")
    return values


def _joined(record: SignalRecord, answers: Sequence[Mapping[str, Any]]) -> SignalRecord:
    """A record with what it lacks of its responses."""
    hits = [answer["hits"] for answer in answers]
    known = [answer["correctness"] for answer in answers if not math.isnan(answer["correctness"])]
    return dataclasses.replace(
        record,
        response=record.response or join_responses([answer["response"] for answer in answers]),
        # The mean of the counts is NaN where the count of one listener is unknown.
        words_correct=sum(hits) / len(hits) if math.isnan(record.words_correct) else record.words_correct,
        correctness=sum(known) / len(known) if known and math.isnan(record.correctness) else record.correctness,
        release=record.release or ("" if record.track else "clip2"),
    )


def metadata_table(records: Sequence[SignalRecord]) -> pd.DataFrame:
    """Feature table without features: one row per word of a prompt."""
    rows = [
        (r.signal, r.prompt, r.response, r.n_words, r.words_correct, r.correctness, r.hearing_loss, word, 1)
        for r in records
        for word in prompt_words(r.prompt)
    ]
    return pd.DataFrame(rows, columns=list(BASE_COLUMNS))


def responses_beside(metadata: Path) -> Path | None:
    """CLIP2's ``<split>_responses.json`` beside ``<split>_metadata.json``, if there is one."""
    path = metadata.with_name(f"{metadata.stem.removesuffix('_metadata')}_responses.json")
    return path if path.is_file() else None


def convert_metadata(
    path: Path, *, responses: Path | None = None, optional: bool = False, force: bool = False
) -> Conversion:
    """Stage 1: write ``<path minus .json>_l.csv`` and ``_r.csv``; with `force` over tables that hold features.

    Without `responses`, those beside the metadata are joined, if there are any. Responses to none of the signals are
    refused, unless they are `optional` or were found beside.
    """
    found = responses or responses_beside(path)
    records, n_answered = _read(path, found, optional=optional or not responses)
    table = metadata_table(records)
    tables = (path.with_name(f"{path.stem}_l.csv"), path.with_name(f"{path.stem}_r.csv"))
    check_outputs([(new, "a table", rb"[^\n]*\bsignal\b") for new in tables], [path, *filter(None, [found])])
    with locked(tables):
        for old in [] if force else filter(Path.exists, tables):
            features = [column for column in read_table(old).columns if column not in BASE_COLUMNS]
            expect(not features, old, "a table without features", f"{', '.join(features)}; --force replaces them")
        for new in tables:
            write_table(table, new)
            provenance_path(new).unlink(missing_ok=True)  # of features that are gone
    counts = {record.signal: len(prompt_words(record.prompt)) for record in records}
    miscounted = [r.signal for r in records if not math.isnan(r.n_words) and r.n_words != counts[r.signal]]
    return Conversion(tables, len(records), len(table), miscounted, found, n_answered)


def metadata_beside(table: Path) -> Path:
    """The metadata file of a table by convention: ``valid_metadata.json`` of ``valid_metadata_l.csv``.

    A table with pseudo-prompts, ``valid_metadata_noprompt_l.csv``, has the same.
    """
    return table.with_name(re.sub(r"(_noprompt)?(_[lr])?$", "", table.stem, count=1) + ".json")


def signal_file(folder: Path, signal: str) -> Path:
    """Path of ``<signal>.flac``; a `SignalError` where the id would lead out of the folder."""
    if not is_file_name(signal):
        raise SignalError(f"table: expected a signal id that is a plain file name, found {signal!r}")
    return folder / f"{signal}.flac"


def unprocessed_file(folder: Path, signal: str) -> Path:
    """Path of ``<signal>_unproc.flac``, checked like `signal_file`."""
    return signal_file(folder, f"{signal}_unproc")
