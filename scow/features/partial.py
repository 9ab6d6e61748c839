"""What became of signals, and how it is kept on disk until it stands in a table.

A computation takes a batch of signals and gives an `Outcome` for each: values by ear and column, and failures with
their reasons. A finished batch goes at once into a *journal*, a file of JSON lines beside the table, one line per
batch, flushed to the disk. A run that was killed loses at most the batches in flight: the next one reads the journal,
drops a torn last line, and computes only what is missing. A batch is noted whole or not at all, so that the batches of
a resumed run, and with them the last bits of every number, are those of a run that was never killed.

The journal begins with a fingerprint of what it belongs to (the table's words, the model's weights); a journal of
anything else is dropped. It is removed once its values stand in the table.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from scow.errors import UserError
from scow.io import atomic_write


@dataclass(frozen=True)
class Failure:
    """Columns of one ear of a signal that could not be computed, and why."""

    signal: str
    ear: str
    columns: tuple[str, ...]
    reason: str

    @property
    def name(self) -> str:
        """What a list of failures calls it."""
        return f"{self.signal} {self.ear} ({', '.join(self.columns)})"


@dataclass(frozen=True)
class Outcome:
    """What became of one signal.

    Attributes
    ----------
    signal : str
    values : dict
        Results by ear and column, as JSON holds them; what failed is absent.
    failures : tuple of Failure
    """

    signal: str
    values: dict[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a batch.

    Attributes
    ----------
    outcomes : tuple of Outcome
    made_by : dict
        How the values came about, as JSON holds it: date, device, number format, versions of libraries.
    """

    outcomes: tuple[Outcome, ...]
    made_by: dict[str, Any] = field(default_factory=dict)


class PartialResults:
    """Finished batches on disk, appended as they come.

    Parameters
    ----------
    path : Path
        The journal file; need not exist.
    fingerprint : str
        What the values belong to.
    overwriting : bool
        The values are to replace others, so that a run that only fills gaps must not pass them over.
    """

    def __init__(self, path: Path, fingerprint: str, *, overwriting: bool = False) -> None:
        self._path = path
        self._heading = json.dumps({"fingerprint": fingerprint} | ({"overwriting": True} if overwriting else {}))
        self._handle: IO[str] | None = None

    def read(self) -> list[Done]:
        """Batches that an earlier run left, in the order noted; none where the journal belongs to something else."""
        heading, *lines = _lines(self._path)
        return [done for done in map(_parsed, lines) if done] if heading == self._heading else []

    @staticmethod
    def is_overwriting(path: Path) -> bool:
        """Whether there is a journal whose values are to replace others."""
        try:
            heading = json.loads(_lines(path)[0])
        except ValueError:
            return False
        return isinstance(heading, dict) and heading.get("overwriting") is True

    @staticmethod
    def peek(path: Path) -> list[Done]:
        """Batches of a journal, whatever they belong to; for looking at only."""
        return [done for done in map(_parsed, _lines(path)[1:]) if done]

    def append(self, done: Done) -> None:
        """Note a batch for good; returns when it is on disk.

        Raises
        ------
        UserError
            The disk is full or the folder cannot be written.
        """
        try:
            if self._handle is None:
                self._handle = self._open()
            self._handle.write(_line(done))
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
        """Open for appending, behind the batches that can still be used; all else is cut off."""
        kept = self.read()
        with atomic_write(self._path) as temporary:
            temporary.write_text("".join([self._heading + "\n", *map(_line, kept)]), encoding="utf-8")
        return self._path.open("a", encoding="utf-8")


def outcomes_by_signal(batches: Iterable[Done]) -> dict[str, Outcome]:
    """What became of each signal in the end: per ear and column, what the last batch that tried it found."""
    values: dict[str, dict[str, dict[str, Any]]] = {}
    reasons: dict[str, dict[tuple[str, str], str]] = {}
    for outcome in (outcome for done in batches for outcome in done.outcomes):
        mine, why = values.setdefault(outcome.signal, {}), reasons.setdefault(outcome.signal, {})
        for ear, cells in outcome.values.items():
            mine[ear] = mine.get(ear, {}) | cells
            for column in cells:
                why.pop((ear, column), None)
        why |= {(failure.ear, column): failure.reason for failure in outcome.failures for column in failure.columns}
    return {signal: Outcome(signal, values[signal], _failures(signal, reasons[signal])) for signal in values}


def _failures(signal: str, reasons: Mapping[tuple[str, str], str]) -> tuple[Failure, ...]:
    """One failure per ear and reason."""
    columns: dict[tuple[str, str], list[str]] = {}
    for (ear, column), reason in reasons.items():
        columns.setdefault((ear, reason), []).append(column)
    return tuple(Failure(signal, ear, tuple(those), reason) for (ear, reason), those in columns.items())


def _lines(path: Path) -> list[str]:
    """Whole lines of a journal; what follows the last line end is torn, or empty."""
    try:  # bytes that are no text cost their own line, and no other
        return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] or [""]
    except OSError:
        return [""]


def _line(done: Done) -> str:
    return json.dumps(dataclasses.asdict(done)) + "\n"


def _parsed(line: str) -> Done | None:
    try:
        entry = json.loads(line)
        outcomes = tuple(
            Outcome(raw["signal"], raw["values"], tuple(map(_failure, raw["failures"]))) for raw in entry["outcomes"]
        )
        return Done(outcomes, entry["made_by"])
    except (ValueError, KeyError, TypeError):
        return None


def _failure(raw: dict[str, Any]) -> Failure:
    columns: Sequence[str] = raw["columns"]
    return Failure(raw["signal"], raw["ear"], tuple(columns), raw["reason"])
