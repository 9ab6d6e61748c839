"""Runs a job over many signals: in batches, with progress, and going on where a killed run ended.

Signals are cut into batches by their place in the table, before anything that is already done is taken out, so that a
resumed run has the batches of one that was never killed. Batches may end in any order; their outcomes are put into the
order of the signals.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from scow.features.partial import Done, PartialResults, outcomes_by_signal
from scow.features.pool import Job, Pool

if TYPE_CHECKING:
    from typing_extensions import Self

SECONDS_BETWEEN_LINES = 30.0


class Task(Protocol):
    """What a job takes."""

    @property
    def signal(self) -> str:
        """Its name."""

    def rest(self, values: Mapping[str, Mapping[str, Any]]) -> Self | None:
        """What is still to do where these values, by ear and column, are there; None where nothing is."""


Item = TypeVar("Item", bound=Task)


def unfinished(items: Sequence[Item], size: int, finished: Sequence[Done]) -> list[list[Item]]:
    """Batches of what is still to do; what failed is tried again.

    Parameters
    ----------
    items : sequence
        All items, in order.
    size : int
        Items per batch.
    finished : sequence of Done
        What an earlier run left.
    """
    outcomes = outcomes_by_signal(finished)
    rest = [item.rest(outcomes[item.signal].values) if item.signal in outcomes else item for item in items]
    batches = ([item for item in rest[i : i + size] if item is not None] for i in range(0, len(rest), size))
    return [batch for batch in batches if batch]


def run_batches(
    items: Sequence[Item], job: Job, *, pool: Pool, batch_size: int, journal: PartialResults, label: str
) -> list[Done]:
    """Compute what the journal does not hold yet, and note each batch there.

    Parameters
    ----------
    items : sequence
        What `job` takes.
    job : Job
    pool : Pool
    batch_size : int
        Items per batch.
    journal : PartialResults
    label : str
        Names the work in the progress display.

    Returns
    -------
    list of Done
        Those of the journal, then those of this run.
    """
    finished = journal.read()
    batches = unfinished(items, batch_size, finished)
    total = sum(map(len, batches))
    with closing(journal), _progress(total, label) as progress:
        if batches:
            for done in pool.run(job, batches):
                journal.append(done)
                finished.append(done)
                progress.advance(len(done.outcomes))
    return finished


class _Progress:
    def __init__(self, total: int, label: str) -> None:
        from tqdm import tqdm

        self._total, self._label, self._done = total, label, 0
        self._began = self._spoke = time.monotonic()
        self.bar = tqdm(total=total, desc=label, unit="signal", disable=not (total and sys.stderr.isatty()))

    def advance(self, n: int) -> None:
        self._done += n
        self.bar.update(n)
        now = time.monotonic()
        if self.bar.disable and (now - self._spoke > SECONDS_BETWEEN_LINES or self._done == self._total):
            line = f"{self._label}: {self._done}/{self._total} signals, {now - self._began:.0f} s"
            print(line, file=sys.stderr, flush=True)
            self._spoke = now


@contextmanager
def _progress(total: int, label: str) -> Iterator[_Progress]:
    """Show how far the work is: a bar on a terminal, a line now and then in a log."""
    progress = _Progress(total, label)
    with progress.bar:
        yield progress
