"""Files of scores, as they are written and as others write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scow.data.scores import read_scores, write_rows, write_scores
from scow.errors import UserError


def test_written_scores(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    write_scores(path, ["0012", "a,b", "ü"], np.array([0.1234564, 100.0, 1e-9]))
    assert path.read_bytes() == '0012,0.123456\n"a,b",100.000000\nü,0.000000\n'.encode()
    with pytest.raises(ValueError, match="longer"):
        write_scores(path, ["0012"], np.array([1.0, 2.0]))
    assert path.read_bytes().startswith(b"0012,0.123456\n")
    assert [left.name for left in path.parent.iterdir()] == ["scores.csv"]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_scores(path, ["0012", "a,b", "nan"], np.array([0.0, 100.0, 33.25]))
    found = read_scores(path)
    assert found.scores == {"0012": 0.0, "a,b": 100.0, "nan": 33.25}
    assert (found.header, found.scale, found.largest) == (False, "0-100", 100.0)
    assert str(found) == f"{path}: 3 scores, no header, scale 0-100 (largest value 100)"


@pytest.mark.parametrize(
    ("text", "scores", "header", "scale"),
    [
        ("signal_id,intelligibility_score\na,50\nb,7.5\n", {"a": 50.0, "b": 7.5}, True, "0-100"),
        ("\ufeffsignal,score\r\na,0.5\r\nb,1.0\r\n\r\n", {"a": 50.0, "b": 100.0}, True, "0-1"),
        ("a,0.5\nb,0\n", {"a": 50.0, "b": 0.0}, False, "0-1"),
        ("a, 1.0001\nb ,0.5", {"a": 1.0001, "b": 0.5}, False, "0-100"),
    ],
)
def test_header_and_scale_are_told(tmp_path: Path, text: str, scores: dict, header: bool, scale: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8", newline="")
    found = read_scores(path)
    assert (found.scores, found.header, found.scale) == (scores, header, scale)


def test_scale_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("a,0.5\nb,0.75\n", encoding="utf-8")
    assert read_scores(path, "0-100").scores == {"a": 0.5, "b": 0.75}
    path.write_text("a,50\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"signal a: expected a score in 0-1, found 50"):
        read_scores(path, "0-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV file of signal ids and scores, found an empty file"),
        ("signal,score\n", "expected scores, found only a header"),
        ("a,1\na,2\n", "signal a occurs twice"),
        ("a,1\nb,x\n", "signal b: expected a finite number, found 'x'"),
        ("a,1\nb,\n", "signal b: expected a finite number, found ''"),
        ("a,nan\n", "signal a: expected a finite number, found 'nan'"),
        ("a,1\nb,inf\n", "signal b: expected a finite number, found 'inf'"),
        ("a,1\nb\n", "expected two columns, signal id and score, found 'b'"),
        ("a,1,2\n", "expected two columns, signal id and score, found 'a,1,2'"),
        ("a,1\n,2\n", "expected two columns, signal id and score, found ',2'"),
        ("a,100.5\n", "signal a: expected a score in 0-100, found 100.5"),
        ("a,-0.5\nb,0.5\n", "signal a: expected a score in 0-1, found -0.5"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_scores(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no such file"):
        read_scores(tmp_path / "nowhere.csv")
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="found a file that cannot be read as such"):
        read_scores(path)


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_rows(path, [("a", 1)])

    def rows():
        yield ("b", 2)
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        write_rows(path, rows())
    assert path.read_text(encoding="utf-8") == "a,1\n"
    assert list(tmp_path.iterdir()) == [path]
