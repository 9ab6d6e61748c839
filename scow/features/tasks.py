"""What the jobs of stages 2 and 3 have in common: a signal to compute, and how its values come about."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from scow import __version__
from scow.data.feature_config import Dataset
from scow.features.partial import Done, Failure, Outcome


@dataclass(frozen=True)
class SignalTask:
    """One signal to compute.

    Attributes
    ----------
    signal : str
    ears : dict of str to Dataset
        Ears to compute.
    words : dict of str to tuple of str
        The prompt's words, by ear.
    columns : dict of str to tuple of str
        Columns that have an empty cell, by ear.
    """

    signal: str
    ears: dict[str, Dataset]
    words: dict[str, tuple[str, ...]]
    columns: dict[str, tuple[str, ...]]

    def rest(self, values: Mapping[str, Mapping[str, Any]]) -> SignalTask | None:
        """What is still to do where these values, by ear and column, are there; None where nothing is."""
        columns = {
            ear: tuple(c for c in wanted if c not in values.get(ear, {})) for ear, wanted in self.columns.items()
        }
        ears = [ear for ear, wanted in columns.items() if wanted]
        if not ears:
            return None
        return SignalTask(
            self.signal,
            {ear: self.ears[ear] for ear in ears},
            {ear: self.words[ear] for ear in ears},
            {ear: columns[ear] for ear in ears},
        )

    def failures(self, ear: str, columns: Sequence[str], reason: object) -> tuple[Failure, ...]:
        """That those of `columns` which are wanted for an ear cannot be computed."""
        wanted = tuple(column for column in columns if column in self.columns[ear])
        return (Failure(self.signal, ear, wanted, str(reason)),) if wanted else ()


@functools.lru_cache  # they are read from files, and asked for with every batch
def _versions(libraries: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, version(name)) for name in libraries)


def lost(batch: Sequence[SignalTask], reason: str) -> Done:
    """The outcomes of a batch of which nothing came back."""
    return Done(
        tuple(
            Outcome(
                task.signal, {}, tuple(f for ear in task.ears for f in task.failures(ear, task.columns[ear], reason))
            )
            for task in batch
        )
    )


def made_by(device: str, dtype: str, libraries: Sequence[str]) -> dict[str, Any]:
    """How values came about that are computed here and now, for their provenance."""
    today = datetime.date.today().isoformat()
    versions = {"scow": __version__, **dict(_versions(tuple(libraries)))}
    return {"date": today, "device": device, "dtype": dtype, "versions": versions}
