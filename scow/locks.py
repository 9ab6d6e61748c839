"""One run on a table at a time: a lock that its holder's death undoes.

The lock is one of the operating system (``flock``, by the package filelock) on a hidden file beside the table, so that
a run that is killed, or a machine that loses power, leaves nothing that blocks the next. The file itself stays; it is
empty and means nothing. Whoever only reads tables needs no lock: they are always whole (`scow.files`).

This file stands below the ground floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scow.errors import UserError


def lock_path(path: Path) -> Path:
    """The lock file of a table: hidden, beside it."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(paths: Iterable[Path]) -> Iterator[None]:
    """Hold the locks of several tables, or none of them.

    Raises
    ------
    UserError
        Another run holds one of them, or the file system has no locks.
    """
    import filelock

    with ExitStack() as held:
        for path in sorted({path.resolve() for path in paths}):
            lock = filelock.FileLock(str(lock_path(path)), timeout=0)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock)
            except filelock.Timeout:
                raise UserError(
                    f"{path}: expected no other run on this table, found one that is at work; "
                    "wait until it ends, or stop it"
                ) from None
            except (OSError, NotImplementedError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(f"cannot lock {path}: {reason}; check the folder's rights and file system") from error
        yield
