"""Atomic writes at every kill point, locks between processes, and the readers of JSON and YAML."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import scow.io
from scow.errors import UserError
from scow.io import atomic_write, locked, portable_path, read_json, read_yaml, sha256_of, write_json


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def run_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked process; its exit code, negative after a signal."""
    child = os.fork()
    if child == 0:
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def child_inside(block: Callable[[], contextmanager]) -> Iterator[int]:
    """A forked process that has entered a context and stays there until this one ends."""
    ready, say_ready = os.pipe()
    goes_on, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(let_go)
            with block() as value:
                if isinstance(value, Path):
                    value.write_text("of the child")
                os.write(say_ready, b"1")
                os.read(goes_on, 1)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(say_ready)
    assert os.read(ready, 1) == b"1"
    yield child
    os.close(let_go)
    os.waitpid(child, 0)


def killed_at(step: int, body: Callable[[], None]) -> bool:
    """Run `body` and kill it before its nth line of scow.io or pathlib; False where it has fewer."""

    def body_with_kill() -> None:
        remaining = step

        def trace(frame: FrameType, event: str, _: object) -> Callable | None:
            nonlocal remaining
            remaining -= event == "line"
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            here, caller = frame.f_code.co_filename, frame.f_back and frame.f_back.f_code.co_filename
            return trace if here == scow.io.__file__ or (here == pathlib.__file__ != caller) else None

        sys.settrace(trace)
        body()

    return run_child(body_with_kill) == -signal.SIGKILL


# --- atomic writes


def test_atomic_write_makes_folders_and_keeps_the_old_file_until_the_end(tmp_path):
    path = tmp_path / "a" / "b" / "t.txt"
    write(path, "old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["t.txt"]


@pytest.mark.slow
def test_atomic_write_killed_at_any_line_leaves_a_whole_file_and_the_next_write_no_litter(tmp_path):
    path = tmp_path / "t[1].txt"
    littered, step = 0, 0
    write(path, "old")
    while killed_at(step := step + 1, lambda: write(path, "new")):
        assert path.read_text() in ("old", "new")
        littered += len(names_in(tmp_path)) > 1
        write(path, "old")
        assert names_in(tmp_path) == [path.name]
    assert path.read_text() == "new"
    assert littered >= 5  # else the kills came at the wrong moments


def test_atomic_write_spares_the_temporary_file_of_a_running_writer(tmp_path):
    path = tmp_path / "t.txt"
    with child_inside(lambda: atomic_write(path)), atomic_write(path) as mine:
        assert len(names_in(tmp_path)) == 1
        mine.write_text("of the parent")
    assert path.read_text() == "of the child"  # it ended last
    assert names_in(tmp_path) == ["t.txt"]


def test_atomic_write_removes_what_another_host_left_only_after_a_day(tmp_path):
    for name, age_s in (
        (".t.txt.12345678-1-abcd.tmp", 1e5),
        (".t.txt.12345678-2-abcd.tmp", 10),
        (".u.txt.1-1-a.tmp", 1e6),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - age_s))
    write(tmp_path / "t.txt", "new")
    assert names_in(tmp_path) == [".t.txt.12345678-2-abcd.tmp", ".u.txt.1-1-a.tmp", "t.txt"]


@pytest.mark.parametrize("error", [ValueError("defect"), KeyboardInterrupt("ctrl-c")])
def test_atomic_write_passes_an_exception_on_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "t.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error), match=str(error)):
        fail()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["t.txt"]


def test_atomic_write_on_a_full_disk_is_a_user_error(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("old")

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # fails half-way, as a full disk does
        with pytest.raises(UserError, match=r"cannot write .*t\.txt: File too large"):
            write(path, "x" * 5000)

    assert run_child(fill) == 0
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["t.txt"]


def test_atomic_write_where_no_folder_can_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*t\.txt: "):
        write(tmp_path / "file" / "t.txt", "x")


# --- locks


def test_locked_refuses_while_another_process_holds_one_and_holds_none_itself(tmp_path):
    left, right = tmp_path / "l.csv", tmp_path / "r.csv"
    with child_inside(lambda: locked([right])):
        with pytest.raises(UserError, match=r"r\.csv: expected no other run"), locked([left, right]):
            pytest.fail("one lock belongs to another process")
        with locked([left]):
            pass
    with locked([left, right]):
        pass


def test_locked_is_free_after_sigkill_and_after_an_exception(tmp_path):
    path = tmp_path / "t.csv"
    with child_inside(lambda: locked([path])) as child:
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        with pytest.raises(KeyboardInterrupt), locked([path]):
            raise KeyboardInterrupt
        with locked([path]):
            pass


def test_locked_takes_two_paths_of_one_file_for_one(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    paths = [tmp_path / "folder" / "t.csv", tmp_path / "link" / "t.csv"]
    with locked(paths):
        pass
    with (
        child_inside(lambda: locked(paths[:1])),
        pytest.raises(UserError, match="expected no other run"),
        locked(paths[1:]),
    ):
        pytest.fail("it is held")


def test_locked_where_no_lock_can_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot lock .*t\.csv"), locked([tmp_path / "file" / "t.csv"]):
        pytest.fail("there is no such folder")


# --- formats


def test_write_json_reads_back_and_escapes_what_utf8_cannot_hold(tmp_path):
    content = {"ü": [1, 0.1, None], "file": os.fsdecode(b"\xff")}
    write_json(tmp_path / "t.json", content)
    text = (tmp_path / "t.json").read_text(encoding="utf-8")
    assert '\n  "ü": [' in text
    assert text.endswith("}\n")
    assert read_json(tmp_path / "t.json", "figures") == json.loads(text) == content


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "binary", "deep"])
def test_read_json_of_something_else_is_one_line(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    for wrong in (path, tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UserError, match=f"^{wrong}: expected figures") as caught:
            read_json(wrong, "figures")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"a: [", b"a: b: c", b"- 1", b"\xff\xfe\x00", b"a: \x00"])
def test_read_yaml_of_something_else_is_one_line(tmp_path, content):
    path = tmp_path / "t.yaml"
    path.write_bytes(content)
    for wrong in (path, tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match=f"^{wrong}: ") as caught:
            read_yaml(wrong)
        assert "\n" not in str(caught.value)


def test_read_yaml_and_portable_path(tmp_path):
    (tmp_path / "t.yaml").write_text("\ufeffa: {b: 'data\\x'}\n", encoding="utf-8")
    assert portable_path(read_yaml(tmp_path / "t.yaml")["a"]["b"]) == Path("data") / "x"


def test_sha256_of_equals_hashlib(tmp_path):
    content = bytes(range(256)) * 10_000  # several pieces, the last one short
    (tmp_path / "big").write_bytes(content)
    assert sha256_of(tmp_path / "big") == hashlib.sha256(content).hexdigest()
