"""Stage 1 as a user runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import assert_user_error, run_script

from scow.data.tables import BASE_COLUMNS, read_table, write_table
from scow.io import write_json


def write_metadata(path: Path, **changes: object) -> Path:
    losses = ("No Loss", "Mild", "Moderate")
    record = {"prompt": "nan or null", "n_words": 3, **changes}
    write_json(path, [{"signal": f"00{i}", "hearing_loss": loss, **record} for i, loss in enumerate(losses)])
    return path


def stage_1(*args: object) -> list[str]:
    done = run_script("metadata_to_csv.py", "--json", *args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_metadata_to_csv_reports_each_file(tmp_path):
    first = write_metadata(tmp_path / "a" / "one.json")
    second = write_metadata(tmp_path / "b" / "two.json", n_words=4)
    assert stage_1(first, "--json", second) == [
        f"{first}: 3 signals, 9 rows per channel",
        f"  wrote {first.with_name('one_l.csv')} and {first.with_name('one_r.csv')}",
        "  signals whose word count differs from n_words: 0",
        f"{second}: 3 signals, 9 rows per channel",
        f"  wrote {second.with_name('two_l.csv')} and {second.with_name('two_r.csv')}",
        "  signals whose word count differs from n_words: 3",
        "    000",
        "    001",
        "    002",
    ]
    assert read_table(first.with_name("one_r.csv"))["word"].tolist() == ["nan", "or", "null"] * 3


def test_metadata_to_csv_refuses_to_lose_features_unless_forced(tmp_path):
    path, table = write_metadata(tmp_path / "m.json"), tmp_path / "m_l.csv"
    stage_1(path)
    write_table(read_table(table).assign(base=0.5, dns_bak=1.0), table)
    before = table.read_bytes()
    assert_user_error(run_script("metadata_to_csv.py", "--json", path), "m_l.csv", "base, dns_bak", "--force")
    assert table.read_bytes() == before
    stage_1(path, "--force")
    assert list(read_table(table).columns) == list(BASE_COLUMNS)


@pytest.mark.parametrize(("content", "word"), [(None, "found"), ('[{"signal": "a",', "JSON"), ("[7]", "record 1")])
def test_metadata_to_csv_of_wrong_input_is_one_line(tmp_path, content, word):
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    assert_user_error(run_script("metadata_to_csv.py", "--json", tmp_path / "m.json"), "m.json", word)
    assert not list(tmp_path.glob("*.csv"))


def test_metadata_to_csv_of_real_metadata(clip1, tmp_path):
    path = Path(shutil.copy(clip1 / "cadenza_data_valid" / "metadata" / "valid_metadata.json", tmp_path))
    assert stage_1(path)[0] == f"{path}: 1175 signals, 8623 rows per channel"
