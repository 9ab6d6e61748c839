"""Jobs for the tests of engines, in a module of their own so that workers can import them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scow.errors import UserError
from scow.features.partial import Done, Failure, Outcome

MAX_DURATION_S = 60.0  # whatever is waited for, no longer


@dataclass(frozen=True)
class Item:
    """A number to square, and what else happens then."""

    number: int
    then: str = ""
    ears: tuple[str, ...] = ("left",)

    @property
    def signal(self) -> str:
        return f"{self.number:04d}"

    def rest(self, values: Mapping[str, Mapping[str, Any]]) -> Item | None:
        ears = tuple(ear for ear in self.ears if "square" not in values.get(ear, {}))
        return Item(self.number, self.then, ears) if ears else None


def items(n: int, **then: str) -> list[Item]:
    """Numbers from 0; ``_3="kill"`` says what happens at 3."""
    return [Item(i, then.get(f"_{i}", "")) for i in range(n)]


def batches(n: int, size: int = 1, **then: str) -> list[list[Item]]:
    whole = items(n, **then)
    return [whole[i : i + size] for i in range(0, n, size)]


@dataclass(frozen=True)
class Squaring:
    """Squares numbers; notes in `folder` which process began and ended what."""

    folder: Path
    made_by: dict[str, Any] = field(default_factory=dict)

    def prepare(self, batch: Sequence[Item]) -> list[int]:
        return [item.number for item in batch]

    def compute(self, batch: Sequence[Item], prepared: list[int]) -> Done:
        with (self.folder / "log").open("a") as log:
            log.writelines(f"{os.getpid()} {item.signal}\n" for item in batch)
        for item in batch:
            self._then(item)
        squares = dict(zip([item.signal for item in batch], [n * n for n in prepared], strict=True))
        return Done(
            tuple(Outcome(i.signal, {ear: {"square": squares[i.signal]} for ear in i.ears}) for i in batch),
            self.made_by,
        )

    def lost(self, batch: Sequence[Item], reason: str) -> Done:
        return Done(
            tuple(
                Outcome(i.signal, {}, tuple(Failure(i.signal, ear, ("square",), reason) for ear in i.ears))
                for i in batch
            )
        )

    def _then(self, item: Item) -> None:
        once = self.folder / f"once {item.signal}"
        if "wait" in item.then:
            until((self.folder / "release").exists)
        if item.then == "kill" or ("kill once" in item.then and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item.then == "user error":
            raise UserError(f"{item.signal}: expected a good number, found a bad one; mend it")


@dataclass(frozen=True)
class Looking:
    """Says what a worker is like."""

    def prepare(self, batch: Sequence[Item]) -> None:
        pass

    def compute(self, batch: Sequence[Item], prepared: None) -> Done:
        import numpy as np
        import torch
        from threadpoolctl import threadpool_info

        from scow.features.pool import THREAD_SETTINGS

        np.ones((4, 4)) @ np.ones((4, 4))
        seen = {
            "torch": torch.get_num_threads(),
            "pools": [pool["num_threads"] for pool in threadpool_info()],
            "settings": [os.environ.get(name) for name in THREAD_SETTINGS],
            "parent": os.getppid(),
        }
        return Done(tuple(Outcome(item.signal, {"left": {"square": seen}}) for item in batch))

    def lost(self, batch: Sequence[Item], reason: str) -> Done:
        raise AssertionError(reason)


def began(folder: Path) -> list[tuple[int, str]]:
    """What processes began, in order: their number, and the signal."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), name) for pid, name in map(str.split, lines)]


def until(happened: Callable[[], object], within_s: float = MAX_DURATION_S, *, what: str = "it") -> None:
    """Wait until something is so.

    Raises
    ------
    AssertionError
        It took too long.
    """
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, f"{what} has not happened within {within_s:g} s"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits for its parent to take note has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return Path("/proc").is_dir()  # it ended between the two looks; elsewhere nothing more can be said


def children(pid: int) -> list[int]:
    """Processes whose parent a process is (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found
