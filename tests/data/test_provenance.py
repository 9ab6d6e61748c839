"""Provenance beside a table: an earlier format is read, and mismatches are named."""

import json
from pathlib import Path

from scow.data.provenance import provenance_path, read_provenance

TINY = {"definition": "published", "model": "tiny", "sha256": "a" * 64}
STOI = {"definition": "published", "model": None, "sha256": None}


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
