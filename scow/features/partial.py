"""Results of signals, and how they are kept on disk until their table is written.

Finished signals are appended to a file of JSON lines beside the table, a line per chunk, synced to the disk.
A run that is killed loses at most the chunks in flight: the next one reads the file, drops a torn last line, and
computes only what is missing. A chunk is kept whole or not at all, so that a resumed run computes the same chunks, and
with them the same last bits, as one that was not killed.

A line is ``[CRC-32 of content, content]``. One whose content was changed is left out, and its signals are computed
again. The content of the first line is a heading that names what the values belong to (the words, the weights); a file
with another heading is replaced. The file is removed when its values are in the table.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scow.data.tables import FEATURE_COLUMNS, RANGES, WHISPER_COLUMNS
from scow.errors import UserError
from scow.io import atomic_write

OF_ANOTHER_SHAPE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # what a line then raises


@dataclass
class ChannelResult:
    """What was computed of one channel of a signal, as JSON holds it; dicts are by column."""

    signal: str
    channel: str
    values: dict[str, Any] = field(default_factory=dict)  # a metric, or {scores: words and sentence, transcript}
    failures: dict[str, str] = field(default_factory=dict)  # reasons
    made_with: dict[str, Any] = field(default_factory=dict)  # date, device, dtype, versions


def read_partial(path: Path) -> tuple[dict[str, Any], list[ChannelResult]]:
    """Heading and results of a file, in the order computed; a damaged line costs its own results only."""
    heading: dict[str, Any] = {}
    results: list[ChannelResult] = []
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:  # what follows is torn
            with suppress(*OF_ANOTHER_SHAPE):
                checksum, content = json.loads(line)
                if checksum != _checksum(content):
                    continue
                if isinstance(content, dict):
                    heading = content
                else:
                    results += filter(_is_valid, [ChannelResult(**result) for result in content])
    return heading, results


def start_partial(path: Path, heading: dict[str, Any]) -> list[ChannelResult]:
    """Make a file ready to append to, without what is torn or belongs to something else; returns what is kept."""
    earlier, results = read_partial(path)
    kept = results if earlier == heading else []
    with atomic_write(path) as temporary:
        temporary.write_text(_line(heading) + _line([vars(result) for result in kept]), encoding="utf-8")
    return kept


def append_partial(path: Path, results: Sequence[ChannelResult]) -> None:
    """Append the results of a chunk; returns when they are on the disk."""
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(_line([vars(result) for result in results]))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; finished signals are kept") from error


def merge_results(results: Iterable[ChannelResult]) -> dict[tuple[str, str], ChannelResult]:
    """One result per signal and channel: for each column the last value, or else the last reason."""
    merged: dict[tuple[str, str], ChannelResult] = {}
    for new in results:
        old = merged.get((new.signal, new.channel), ChannelResult(new.signal, new.channel))
        values, failures = old.values | new.values, old.failures | new.failures
        failures = {column: reason for column, reason in failures.items() if column not in values}
        made_with = new.made_with or old.made_with
        merged[new.signal, new.channel] = ChannelResult(new.signal, new.channel, values, failures, made_with)
    return merged


def _is_valid(result: ChannelResult) -> bool:
    """Whether the values are numbers of feature columns, in their ranges, as this version writes them."""
    for column, value in result.values.items():
        low, high = RANGES[column]
        numbers = value["scores"] if column in WHISPER_COLUMNS else [value]
        if column not in FEATURE_COLUMNS or not all(low <= number <= high for number in numbers):
            return False
    return isinstance(result.failures, dict) and isinstance(result.made_with, dict)


def _line(content: object) -> str:
    return json.dumps([_checksum(content), content]) + "\n"


def _checksum(content: object) -> int:
    return zlib.crc32(json.dumps(content).encode())
