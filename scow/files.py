"""Files that are at all times whole: written under a temporary name in the same folder, then renamed.

A reader, another process or a power cut sees the old file or the new one, never a part of either. This file
stands below the ground floor, like `scow.errors`.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scow.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it takes the place of `path`, on failure it vanishes.

    Parameters
    ----------
    path : Path
        The file to make or replace. Its folder is made where it is missing.

    Yields
    ------
    Path
        A name in the same folder that no other process uses. The block must write and close it.

    Raises
    ------
    UserError
        Where the folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; check the folder's rights and free space"
        ) from error
    finally:
        with suppress(OSError):  # also where the folder itself could not be made
            temporary.unlink()


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    total = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):  # in pieces: Whisper large is 3 GB
            total.update(piece)
    return total.hexdigest()
