"""Files on disk: atomic writes, locks, hashes, and one reader per format.

`atomic_write` writes to a temporary file in the same folder and renames it: others see the old file or the new one,
never a part. The new file has mode and owner of the old one; a symbolic link stays, and its target is replaced. What
killed runs left is removed by the next write of the same file, and by the next run that holds the file's lock, for all
files named after it; the temporary name holds host and process id of the writer.

JSON and YAML with a key given twice are refused: one of the values would be lost. So is YAML whose aliases explode.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import hashlib
import io
import json
import math
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from scow.errors import UserError, expect

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
MAX_NODES = 100_000  # of a YAML file
STALE_AFTER_S = 86_400.0  # for temporary files of another host, where nothing is known of the writer


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it replaces `path` at the end of the block, or is removed on an error."""
    target = _target(path)
    temporary = target.with_name(f".{target.name}.{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
            with suppress(OSError, AttributeError):  # only root may give a file away, and Windows knows no owners
                shutil.chown(temporary, target.stat().st_uid, target.stat().st_gid)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; check rights and free space") from error
    finally:
        with suppress(OSError):  # also where the folder itself could not be made
            temporary.unlink()


Output = tuple[Path, str, bytes]  # a path, what will be written there, and a pattern of how such a file begins


def check_outputs(outputs: Iterable[Output], inputs: Iterable[Path] = ()) -> None:
    """Refuse, before the long work, an output that cannot be written or would replace something else.

    That is an input of this run, another output, or a file of another kind, which does not begin as the output does.
    """
    taken = list(inputs)
    for path, what, beginning in outputs:
        target = _target(path)
        same = [t for t in taken if target == _target(t) or (target.exists() and t.exists() and target.samefile(t))]
        expect(not same, path, f"a place for {what}", "another file of this run")
        folder = next(parent for parent in target.parents if parent.exists())
        writable = folder.is_dir() and os.access(folder, os.W_OK)
        expect(writable, path, f"a folder to write {what} to", f"{folder}; check its rights")
        if target.exists():
            with reading(path, what), target.open("rb") if target.is_file() else io.BytesIO(b"\0") as handle:
                head = handle.read(8192)
            alike = not head or re.match(beginning, head, re.DOTALL | re.IGNORECASE)
            expect(alike, path, f"no file, or one to replace by {what}", "a file of another kind; move it away")
        taken.append(path)


def figure_outputs(folder: Path | None) -> list[Output]:
    """The figures that may be in a folder, by which all that are there already may be replaced; none without folder."""
    if folder is None:
        return []
    beginnings = {".pdf": b"%PDF", ".svg": rb"\s*<(\?xml|svg)"}
    there = [path for path in folder.glob("*") if path.suffix in beginnings] if folder.is_dir() else []
    return [(path, "a figure", beginnings[path.suffix]) for path in sorted({folder / "figure.pdf", *there})]


def _target(path: Path) -> Path:
    """Where symbolic links lead; a link that leads to itself stays."""
    return Path(os.path.realpath(path))


def _remove_stale(path: Path) -> None:
    """Remove temporary files whose names begin with that of `path` and whose writer is gone."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        import psutil  # here: rarely needed

        writer = re.search(r"\.(\w+)-(\d{1,9})-\w+\.tmp$", temporary.name)
        with suppress(OSError):
            is_old = time.time() - temporary.stat().st_mtime > STALE_AFTER_S
            is_dead = writer and writer[1] == HOST and not psutil.pid_exists(int(writer[2]))
            if writer and (is_old or is_dead):
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
        why = getattr(error, "strerror", None) or str(error)
        found = "no such file" if isinstance(error, FileNotFoundError) else " ".join(why.split())
        raise UserError(f"{path}: expected {what}, found {found}") from error


def read_json(path: Path, what: str) -> Any:
    """Content of a JSON file; messages name `what` was expected."""
    with reading(path, f"{what} (JSON, UTF-8)"):
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)


def read_yaml(path: Path) -> dict[str, Any]:
    """Content of a YAML file whose top level is a mapping."""
    with reading(path, "a YAML config"):
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        tree = loader.get_single_node()
        if tree and _n_nodes(tree, {}) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} values")
        content: Any = loader.construct_document(tree) if tree else None
        repr(content)  # messages show values: one that cannot be shown, such as a huge integer, is refused here
    expect(isinstance(content, dict), path, "a mapping at the top", f"{type(content).__name__}; see the shipped file")
    return content


def _unique(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """Pairs of key and value as a dict; a key given twice is a ValueError."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"the key {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} twice")
    return content


def _n_nodes(tree: yaml.Node, counts: dict[yaml.Node, float]) -> float:
    """Values below and at a node of YAML, aliases expanded; infinite where a node holds itself."""
    if tree not in counts:
        counts[tree] = math.inf
        parts = tree.value if isinstance(tree, yaml.CollectionNode) else []
        if isinstance(tree, yaml.MappingNode):
            _unique([(str(key.value), value) for key, value in parts])
            parts = [part for pair in parts for part in pair]
        counts[tree] = 1 + sum(_n_nodes(part, counts) for part in parts)
    return counts[tree]


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
        for path in sorted({_target(path) for path in paths}):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0))
                _remove_stale(path.with_suffix(""))
            except (OSError, NotImplementedError) as error:
                is_held = isinstance(error, filelock.Timeout)
                why = "expected no other run on it; wait until it ends" if is_held else f"{error}; check the folder"
                raise UserError(f"cannot lock {path}: {why}") from error
        yield


def portable_path(text: str) -> Path:
    r"""A path in a config, also where it was written on Windows: ``data\x`` is ``data/x``."""
    expect("\0" not in text, "path", "one without a null character", repr(text))
    return Path(text.replace("\\", "/"))
