"""Functions for the tests of engines, in a module that workers can import."""

import os
import signal
from pathlib import Path

from helpers import wait_until

from scow.errors import UserError

Item = tuple[Path, int, str]  # folder for notes, number, what happens at it


def square(item: Item) -> int:
    """The square of a number; notes in a folder which process began it, and does what else is said."""
    folder, number, then = item
    with (folder / "log").open("a") as log:
        log.write(f"{os.getpid()} {number}\n")
    if then == "wait":
        wait_until((folder / "release").exists, "the release")
    if then == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "user error":
        raise UserError(f"{number}: expected a good number, found a bad one")
    return number * number


def n_threads(_: object) -> tuple[int, set[int]]:
    """Threads of torch and of the BLAS libraries."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    np.ones((4, 4)) @ np.ones((4, 4))
    return torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info()}


def began(folder: Path) -> list[tuple[int, int]]:
    """Process and number of each item that was begun."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(pid), int(number)) for pid, number in map(str.split, lines)]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, if only in part: its parent may not have taken note (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def children(pid: int) -> list[int]:
    """Child processes (Linux)."""
    return [int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()]
