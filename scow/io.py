"""Files on disk: atomic writes, locks, hashes, and one reader per format.

`atomic_write` writes to a temporary file in the same folder and renames it: others see the old file or the new one,
never a part. It removes what killed runs left of the same file; the temporary name holds their host and process id.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import hashlib
import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from scow.errors import UserError, expect

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
STALE_AFTER_S = 86_400.0  # for temporary files of another host, where nothing is known of the writer


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it replaces `path` at the end of the block, or is removed on an error."""
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; check rights and free space") from error
    finally:
        with suppress(OSError):  # also where the folder itself could not be made
            temporary.unlink()


def _remove_stale(path: Path) -> None:
    """Remove temporary files of `path` whose writer is gone."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        import psutil  # here: rarely needed

        host, *process = temporary.name.split(".")[-2].split("-")
        with suppress(OSError):
            is_old = time.time() - temporary.stat().st_mtime > STALE_AFTER_S
            if is_old or (host == HOST and not psutil.pid_exists(int(process[0]))):
                temporary.unlink()


def write_json(path: Path, content: object) -> None:
    """Write content, dataclasses as objects, as indented JSON; a character that UTF-8 cannot hold is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=dataclasses.asdict) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn every error of a parser into one line that names the file, and `what` was expected."""
    try:
        yield
    except (OSError, ValueError, RecursionError, csv.Error, yaml.YAMLError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise UserError(f"{path}: expected {what}, found {found}") from error


def read_json(path: Path, what: str) -> Any:
    """Content of a JSON file; messages name `what` was expected."""
    with reading(path, f"{what} (JSON, UTF-8)"):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Content of a YAML file whose top level is a mapping."""
    with reading(path, "a YAML config"), path.open(encoding="utf-8-sig") as handle:
        content = yaml.safe_load(handle)
    expect(isinstance(content, dict), path, "a mapping at the top", f"{type(content).__name__}; see the shipped file")
    return content


def read_csv(path: Path, what: str) -> Iterator[list[str]]:
    """Rows of a CSV file, a blank line as an empty row; messages name `what` was expected."""
    with reading(path, f"{what} (CSV, UTF-8)"), path.open(encoding="utf-8-sig", newline="") as handle:
        yield from csv.reader(handle, strict=True)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def locked(paths: Iterable[Path]) -> Iterator[None]:
    """Hold the locks of several files, or none; a `UserError` where another run holds one."""
    import filelock  # here: it takes 0.1 s to import

    with ExitStack() as held:
        for path in sorted({path.resolve() for path in paths}):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0))
            except (OSError, NotImplementedError) as error:
                is_held = isinstance(error, filelock.Timeout)
                why = "expected no other run on it; wait until it ends" if is_held else f"{error}; check the folder"
                raise UserError(f"cannot lock {path}: {why}") from error
        yield


def portable_path(text: str) -> Path:
    r"""A path in a config, also where it was written on Windows: ``data\x`` is ``data/x``."""
    return Path(text.replace("\\", "/"))
