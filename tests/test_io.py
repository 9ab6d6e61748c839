"""Atomic writes (killed ones: scripts/test_kills.py), locks between processes, and the readers of JSON and YAML."""

import multiprocessing
import os
import resource
import time
from pathlib import Path

import pytest
from helpers import REFUSALS, refusal

from scow.errors import UserError
from scow.io import atomic_write, locked, read_json, read_yaml


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def test_atomic_write_spares_the_temporary_file_of_a_running_writer_or_of_another_host_for_a_day(tmp_path):
    path = tmp_path / "t[1].txt"
    for name, age_s in {".t[1].txt.1-1-a.tmp": 1e5, ".t[1].txt.1-2-a.tmp": 10, ".u.txt.1-1-a.tmp": 1e6}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - age_s))
    with atomic_write(path) as temporary:
        temporary.write_text("of the slower")
        write(path, "of the faster")
    assert path.read_text() == "of the slower"  # it ended last
    assert names_in(tmp_path) == [".t[1].txt.1-2-a.tmp", ".u.txt.1-1-a.tmp", "t[1].txt"]


def test_atomic_write_keeps_a_symbolic_link_and_the_mode_of_the_file(tmp_path):
    (tmp_path / "disk").mkdir()
    path, link = tmp_path / "disk" / "t.txt", tmp_path / "link"
    link.symlink_to(path)
    for mode in (None, 0o600, 0o664):
        if mode:
            path.chmod(mode)
        write(link, f"new {mode}")
        assert path.read_text() == f"new {mode}"
        assert link.is_symlink()
        assert mode in (None, path.stat().st_mode & 0o777)
    assert names_in(tmp_path) + names_in(path.parent) == ["disk", "link", "t.txt"]


def test_atomic_write_that_fails_keeps_the_old_file(tmp_path):
    path = tmp_path / "t.txt"
    write(path, "old")

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # fails half-way, as a full disk does
        with pytest.raises(UserError, match=r"cannot write .*t\.txt: File too large"):
            write(path, "x" * 5000)

    process = multiprocessing.get_context("fork").Process(target=fill)
    process.start()
    process.join()
    assert process.exitcode == 0
    with pytest.raises(UnicodeEncodeError):
        write(path, "half \ud800")
    with pytest.raises(UserError, match=r"cannot write .*u\.txt: "):
        write(path / "u.txt", "x")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["t.txt"]


def test_locked_refuses_while_another_run_holds_one(tmp_path):
    left, right = tmp_path / "l.csv", tmp_path / "r.csv"
    (tmp_path / "link").symlink_to(tmp_path)
    with locked([right]):
        for other in (right, tmp_path / "link" / "r.csv"):
            with pytest.raises(UserError, match=r"r\.csv: expected no other run"), locked([left, other]):
                pytest.fail("one lock belongs to another run")
    with locked([left, right, tmp_path / "link" / "r.csv"]):
        left.touch()
    with pytest.raises(UserError, match=r"cannot lock .*t\.csv"), locked([left / "t.csv"]):
        pytest.fail("there is no such folder")


ALIASES = "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 12))  # 9 to the power 11 values
LARGE = ["[" * 100_000, "{a: " * 100_000, "9" * 5000, "a: 0x" + "f" * 9999, f"k0: &k0 [x]\n{ALIASES}"]
WRONG = [b"\xff\xfe\x00", *map(str.encode, REFUSALS["formats"] + LARGE)]


@pytest.mark.parametrize("content", WRONG, ids=lambda content: content[:9])
def test_wrong_formats_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "wrong").write_bytes(content)
    for path in (tmp_path / "wrong", tmp_path, tmp_path / "missing"):
        for read in (read_yaml, lambda path: read_json(path, "figures")):
            with refusal(f"^{path}: "):
                read(path)


def test_yaml_may_have_aliases(tmp_path):
    (tmp_path / "t.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: *a}")
    assert read_yaml(tmp_path / "t.yaml")["b"] == {"x": 1, "y": {"x": 1}}
