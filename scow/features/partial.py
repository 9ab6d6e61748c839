"""Results of signals, and how they are kept on disk until their table is written.

Finished signals are appended to a file of JSON lines beside the table, a line per chunk of signals, synced to the disk.
A run that is killed loses at most the chunks in flight: the next one reads the file, drops a torn last line, and
computes only what is missing. A chunk is kept whole or not at all, so that a resumed run computes the same chunks, and
with them the same last bits, as one that was not killed.

The first line is a heading that names what the values belong to (the words, the weights); a file with another heading
is replaced. The file is removed when its values are in the table.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scow.errors import UserError
from scow.io import atomic_write


@dataclass(frozen=True)
class SignalResult:
    """What was computed of one signal, as JSON holds it."""

    signal: str
    values: dict[str, dict[str, Any]] = field(default_factory=dict)  # by channel and column; what failed is absent
    failures: dict[str, dict[str, str]] = field(default_factory=dict)  # reasons, by channel and column
    made_with: dict[str, Any] = field(default_factory=dict)  # date, device, dtype, versions


def read_heading(path: Path) -> dict[str, Any]:
    """Heading of a file of partial results; empty where there is none."""
    heading = _parsed(_lines(path)[0])
    return heading if isinstance(heading, dict) else {}


def read_partial(path: Path, heading: dict[str, Any] | None = None) -> list[SignalResult]:
    """Results that an earlier run left, in the order computed; none where the heading is another than `heading`."""
    first, *lines = _lines(path)
    if heading is not None and first != json.dumps(heading):
        return []
    return [result for line in lines for result in _results(line)]


def start_partial(path: Path, heading: dict[str, Any]) -> list[SignalResult]:
    """Make a file ready to append to: what is torn or belongs to something else is cut off. Returns what is kept."""
    kept = [line for line in _lines(path)[1:] if _results(line)] if read_partial(path, heading) else []
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in [json.dumps(heading), *kept]), encoding="utf-8")
    return [result for line in kept for result in _results(line)]


def append_partial(path: Path, results: Sequence[SignalResult]) -> None:
    """Append the results of a chunk; returns when they are on the disk."""
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps([dataclasses.asdict(result) for result in results]) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; finished signals are kept") from error


def merge_results(results: Iterable[SignalResult]) -> dict[str, SignalResult]:
    """One result per signal: for each channel and column what the last one that computed it found."""
    merged: dict[str, SignalResult] = {}
    for new in results:
        old = merged.get(new.signal, SignalResult(new.signal))
        values, failures = {}, {}
        for channel in {**old.values, **old.failures, **new.values, **new.failures}:
            values[channel] = old.values.get(channel, {}) | new.values.get(channel, {})
            reasons = old.failures.get(channel, {}) | new.failures.get(channel, {})
            failures[channel] = {column: why for column, why in reasons.items() if column not in values[channel]}
        merged[new.signal] = SignalResult(new.signal, values, failures, new.made_with or old.made_with)
    return merged


def _lines(path: Path) -> list[str]:
    """Whole lines of a file; what follows the last line end is torn, or empty."""
    try:  # bytes that are no text cost their own line only
        return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] or [""]
    except OSError:
        return [""]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _results(line: str) -> list[SignalResult]:
    """Results of a line; none where it is damaged."""
    try:
        return [SignalResult(**entry) for entry in _parsed(line) or []]
    except TypeError:
        return []
