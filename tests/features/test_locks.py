"""One run on a table at a time, real processes: who comes second, who died, and folders without rights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import ROOT, assert_user_error
from pool_jobs import until
from test_features import Corpus, make_corpus, run_stage

from scow.errors import UserError
from scow.io import lock_path, locked

HOLD = """
import sys, time
from pathlib import Path
from scow.io import locked
with locked(map(Path, sys.argv[2:])):
    Path(sys.argv[1]).touch()
    time.sleep(60)
"""


@contextmanager
def held(folder: Path, *tables: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the locks of tables."""
    sign = folder / "held"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(sign), *map(str, tables)], cwd=ROOT)
    try:
        until(lambda: sign.exists() or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus", {"0001": "you"})


@pytest.mark.parametrize("script", ["compute_metrics.py", "whisper_inference.py"])
def test_a_second_run_refuses_and_names_the_table(corpus: Corpus, tmp_path: Path, script: str) -> None:
    right = corpus.tables[1]
    with held(tmp_path, right):
        done = run_stage(script, "--config", corpus.config)
        assert_user_error(done, f"{right}: expected no other run on this table, found one that is at work")
        assert run_stage(script, "--config", corpus.config, "--status").returncode == 0


def test_all_locks_or_none(corpus: Corpus, tmp_path: Path) -> None:
    left, right = corpus.tables
    with held(tmp_path, right):
        with pytest.raises(UserError, match="found one that is at work"), locked([left, right]):
            pytest.fail("one of the locks is another's")
        with locked([left]):  # it was let go
            pass


def test_a_run_that_is_killed_blocks_nobody(corpus: Corpus, tmp_path: Path) -> None:
    with held(tmp_path, *corpus.tables) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(lock_path(path).exists() for path in corpus.tables)
        with locked(corpus.tables):
            pass


def test_locks_are_free_after_the_block_whatever_its_end(corpus: Corpus) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), locked(corpus.tables):
            raise KeyboardInterrupt
    assert corpus.tables[0].read_bytes().startswith(b"signal,")


def test_the_same_table_by_two_paths_is_one(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(corpus.root)
    left = corpus.tables[0]
    by_link = tmp_path / "link" / left.relative_to(corpus.root)
    with locked([left, by_link]):
        pass
    with held(tmp_path, by_link), pytest.raises(UserError, match="found one that is at work"), locked([left]):
        pytest.fail("it is held")


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            UserError, match=r"^cannot lock .*t\.csv: (File exists|Not a directory); check the folder's rights"
        ),
        locked([tmp_path / "file" / "t.csv"]),
    ):
        pytest.fail("there is no such folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_one_line(corpus: Corpus) -> None:
    corpus.tables[0].parent.chmod(0o555)
    try:
        with pytest.raises(UserError, match=r"^cannot lock .*: Permission denied"), locked(corpus.tables):
            pytest.fail("the folder is read-only")
    finally:
        corpus.tables[0].parent.chmod(0o755)
