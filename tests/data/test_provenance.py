"""Provenance beside a table: what is written is read, an earlier format too, and mismatches are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scow.data.provenance import (
    check_source,
    differences,
    provenance_path,
    read_provenance,
    sources_of,
    write_provenance,
)
from scow.errors import UserError

TINY = {"definition": "published", "model": "tiny", "sha256": "a" * 64}
STOI = {"definition": "published", "model": None, "sha256": None}


def note(path: Path, **sources: dict[str, Any]) -> Path:
    write_provenance(path, {column: {**source, "failures": {}} for column, source in sources.items()})
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    known = {"tiny": {**TINY, "date": "2026-01-01", "device": "cpu", "failures": {"0001": "silent “é”"}}}
    write_provenance(tmp_path / "t.csv", known)
    assert read_provenance(tmp_path / "t.csv") == known
    assert read_provenance(tmp_path / "other.csv") == {}


def test_earlier_format_is_read(tmp_path: Path) -> None:
    runs = [{"date": "monday", "device": "cpu", "signals": 7}, {"date": "tuesday", "device": "cuda", "signals": 1}]
    column = {**TINY, "runs": runs, "unknown": 3, "failures": {"0001": "no file"}}
    content = {"format": "stereo-chorus-of-whispers/provenance/1", "columns": {"tiny": column}}
    content["columns"]["stoi"] = {**STOI, "runs": [], "unknown": 9, "failures": {}}
    provenance_path(tmp_path / "t.csv").write_text(json.dumps(content))
    assert read_provenance(tmp_path / "t.csv") == {
        "tiny": {**TINY, "date": "tuesday", "device": "cuda", "failures": {"0001": "no file"}},
        "stoi": {**STOI, "failures": {}},
    }


@pytest.mark.parametrize("content", ["", "[]", '{"format": "x"}'])
def test_damaged_file_is_a_user_error(tmp_path: Path, content: str) -> None:
    provenance_path(tmp_path / "t_l.csv").write_text(content)
    with pytest.raises(UserError, match=r"t_l\.provenance\.json: expected the provenance of a table"):
        read_provenance(tmp_path / "t_l.csv")


@pytest.mark.parametrize(("key", "other"), [("definition", "mine"), ("model", "base"), ("sha256", "b" * 64)])
def test_check_source(tmp_path: Path, key: str, other: str) -> None:
    check_source(tmp_path / "t.csv", "tiny", None, TINY)
    check_source(tmp_path / "t.csv", "tiny", {**TINY, "failures": {}}, TINY)
    with pytest.raises(UserError, match=rf"t\.csv: column tiny .*\({key} {other}, now {TINY[key]}\).*--overwrite"):
        check_source(tmp_path / "t.csv", "tiny", TINY | {key: other}, TINY)


def test_sources_of_several_tables(tmp_path: Path) -> None:
    left, right = note(tmp_path / "l.csv", tiny=TINY, stoi=STOI), note(tmp_path / "r.csv", tiny=TINY)
    assert sources_of([left, right, tmp_path / "none.csv"], ["tiny", "stoi", "pesq"]) == {"tiny": TINY, "stoi": STOI}
    note(right, tiny=TINY | {"sha256": "b" * 64})
    assert sources_of([left, right], ["tiny"]) == {"tiny": TINY | {"sha256": None}}
    note(right, tiny=TINY | {"definition": "mine"})
    with pytest.raises(
        UserError, match=r"r\.csv: column tiny is 'mine' of tiny, in another training table 'published'"
    ):
        sources_of([left, right], ["tiny"])


def test_differences(tmp_path: Path) -> None:
    table = note(tmp_path / "t.csv", tiny=TINY)
    assert differences(table, ["tiny"], {"tiny": TINY}) == differences(tmp_path / "none.csv", ["tiny"], {}) == []
    note(table, tiny=TINY | {"sha256": "b" * 64})
    (line,) = differences(table, ["tiny"], {"tiny": TINY})
    assert "column tiny comes from other weights (sha256 bbbbbbbbbbbb) than in training (aaaaaaaaaaaa)" in line
    assert differences(table, ["stoi"], {"tiny": TINY}) == [], "a column that the checkpoint does not take"
    assert differences(table, ["tiny"], {}) == [], "a checkpoint of published tables"
    for change in ({"definition": "mine"}, {"model": "base"}):
        note(table, tiny=TINY | change)
        with pytest.raises(
            UserError, match=r"t\.csv: column tiny is .*, but the checkpoint was trained on 'published'"
        ):
            differences(table, ["tiny"], {"tiny": TINY})
