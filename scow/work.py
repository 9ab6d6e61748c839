"""Runs a per-signal computation over many signals: progress, failures, and resuming after a kill.

A finished value goes at once into a *journal*, a file of JSON lines beside the table that it will end in. A run that
was killed loses at most the batch in flight: the next one reads the journal, drops a torn last line, and computes
only what is missing. The journal begins with a fingerprint of what it belongs to (the table's words, the model); a
journal of anything else is dropped. It is removed once its values stand in the table.

A failure belongs to a signal and has a reason. A signal with a failure is not written to the journal, so that the
next run tries it again and says the reason again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from scow.errors import UserError
from scow.files import replacing

SECONDS_BETWEEN_LINES = 30.0
Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """What could not be computed, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of one signal.

    Attributes
    ----------
    signal : str
    values : dict
        Results by ear, as JSON holds them; an ear that failed is absent.
    failures : tuple of Failure
    """

    signal: str
    values: dict[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


class Journal:
    """Finished values on disk, appended as they come.

    Parameters
    ----------
    path : Path
        The journal file; need not exist.
    fingerprint : str
        What the values belong to.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._heading = json.dumps({"fingerprint": fingerprint})
        self._handle: IO[str] | None = None

    def read(self) -> dict[str, dict[str, Any]]:
        """Values by signal that an earlier run left; none where the journal belongs to something else."""
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return {}
        found: dict[str, dict[str, Any]] = {}
        if lines[0] != self._heading:
            return {}
        for line in lines[1:-1]:  # what follows the last line end is torn, or empty
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict) and entry.keys() == {"signal", "values"}:
                found[entry["signal"]] = entry["values"]
        return found

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Write values down for good; returns when they are on disk.

        Raises
        ------
        UserError
            The disk is full or the folder cannot be written.
        """
        try:
            if self._handle is None:
                self._handle = self._open()
            for outcome in outcomes:
                if outcome.values and not outcome.failures:
                    self._handle.write(_line(outcome.signal, outcome.values))
            self._handle.flush()
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self._path}: {error.strerror or error}; make room or mend the rights, then run again"
            ) from error

    def close(self) -> None:
        """Close the file; the values stay."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):  # a full disk: `append` has said so already
                handle.close()

    def remove(self) -> None:
        """Forget the values: they stand in the table now."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _open(self) -> IO[str]:
        """Open for appending, behind the values that can still be used; all else is cut off."""
        kept = self.read()
        with replacing(self._path) as temporary:
            lines = [self._heading + "\n", *(_line(signal, values) for signal, values in kept.items())]
            temporary.write_text("".join(lines), encoding="utf-8")
        return self._path.open("a", encoding="utf-8")


def _line(signal: str, values: dict[str, Any]) -> str:
    return json.dumps({"signal": signal, "values": values}) + "\n"


def run_batches(
    items: Sequence[Item],
    compute: Callable[[Sequence[Item]], Sequence[Outcome]],
    *,
    batch_size: int,
    journal: Journal,
    label: str,
) -> list[Outcome]:
    """Compute all items, batch by batch, and note each batch in the journal.

    Parameters
    ----------
    items : sequence
        What `compute` takes.
    compute : callable
        Takes a batch, returns one outcome per item.
    batch_size : int
        Items per batch.
    journal : Journal
    label : str
        Names the work in the progress display.

    Returns
    -------
    list of Outcome
        In the order of `items`.
    """
    outcomes: list[Outcome] = []
    try:
        for batch in progress(_batched(items, batch_size), total=len(items), label=label):
            done = compute(batch)
            journal.append(done)
            outcomes.extend(done)
    finally:
        journal.close()
    return outcomes


def progress(batches: Iterator[Sequence[Item]], *, total: int, label: str) -> Iterator[Sequence[Item]]:
    """Pass batches on and show how far they are: a bar on a terminal, a line now and then in a log."""
    from tqdm import tqdm

    done, began, spoke = 0, time.monotonic(), time.monotonic()
    with tqdm(total=total, desc=label, unit="signal", disable=not sys.stderr.isatty()) as bar:
        for batch in batches:
            yield batch
            done += len(batch)
            bar.update(len(batch))
            now = time.monotonic()
            if bar.disable and (now - spoke > SECONDS_BETWEEN_LINES or done == total):
                print(f"{label}: {done}/{total} signals, {now - began:.0f} s", file=sys.stderr, flush=True)
                spoke = now


def _batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for i in range(0, len(items), size):
        yield items[i : i + size]
