"""Files are at all times whole: the old one or the new one, never a part, and nothing left beside it."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest
from helpers import run_python

from scow.errors import UserError
from scow.io import atomic_write, sha256_of


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted_write(path: Path, error: BaseException) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise error


def test_a_new_file_appears_with_the_folders_it_needs(tmp_path):
    path = tmp_path / "a" / "b" / "new.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["new.txt"]


def test_until_the_block_ends_readers_see_the_old_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("defect"), KeyboardInterrupt("ctrl-c")])
def test_an_exception_in_the_block_leaves_the_old_file_alone_and_comes_through(tmp_path, error):
    path = tmp_path / "t.txt"
    path.write_text("old")
    with pytest.raises(type(error), match=str(error)):
        interrupted_write(path, error)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["t.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "t.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the inner block ends first, so the outer one has the last word
    assert names_in(tmp_path) == ["t.txt"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("old")
    with pytest.raises(UserError, match=r"^cannot write .*t\.txt: No such file or directory"), atomic_write(path):
        pass
    assert path.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("I am no folder")
    with (
        pytest.raises(UserError, match=r"^cannot write .*t\.txt: .*; check the folder's rights and free space$"),
        atomic_write(blocker / "t.txt") as temporary,
    ):
        temporary.write_text("x")
    assert blocker.read_text() == "I am no folder"


def test_a_full_disk_is_a_user_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("old")
    # A limit on file size fails a write half-way, as a full disk does, and needs no rights.
    code = """
import resource, sys
from pathlib import Path
from scow.errors import UserError
from scow.io import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_write(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(bytes(5000))
except UserError as error:
    print(error)
"""
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {path}: File too large")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["t.txt"]


def test_a_kill_in_the_middle_of_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("old")
    code = """
import os, signal, sys
from pathlib import Path
from scow.io import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, path).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_sha256_of_is_the_standards_own_example(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_of_a_file_read_in_several_pieces(tmp_path):
    content = bytes(range(256)) * 10_000  # 2.6 MB: three pieces of 1 MiB, the last one short
    path = tmp_path / "big"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
