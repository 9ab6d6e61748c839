"""Files that are at all times whole: written under a temporary name in the same folder, then renamed.

A reader, another process or a power cut sees the old file or the new one, never a part of either. This file
stands below the ground floor, like `scow.errors`.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from scow.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
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


def write_json(path: Path, content: object) -> None:
    """Write content as indented JSON; a character that UTF-8 cannot hold is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    total = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):  # in pieces: Whisper large is 3 GB
            total.update(piece)
    return total.hexdigest()


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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    UserError
        The file is missing, is no YAML, or holds something else than a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: expected a YAML config, found no such file; give it with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 YAML") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else "unknown line"
        what = " ".join(str(getattr(error, "problem", error)).split())
        raise UserError(f"{path}: not valid YAML at {place}: {what}; mend it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping at the top, found {type(content).__name__}; see the shipped file")
    return content


def portable_path(text: str) -> Path:
    r"""A path of a config, also where it was written on Windows: ``data\x`` is ``data/x``."""
    return Path(text.replace("\\", "/"))
