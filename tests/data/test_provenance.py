"""Provenance beside a table: an earlier format is read, and mismatches are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from scow.data.provenance import provenance_path, read_provenance, sources_of, write_provenance
from scow.errors import UserError

TINY = {"definition": "published", "model": "tiny", "sha256": "a" * 64}
STOI = {"definition": "published", "model": None, "sha256": None}


def note(path: Path, **sources: dict[str, Any]) -> Path:
    write_provenance(path, {column: {**source, "failures": {}} for column, source in sources.items()})
    return path


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
