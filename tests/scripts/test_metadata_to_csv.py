"""Stage 1 as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Script, assert_user_error

from scow.data.tables import BASE_COLUMNS, read_table, write_table

SEVERITIES = ("No Loss", "Mild", "Moderate")


def write_json(folder: Path, name: str, **changes: object) -> Path:
    records = [
        {"signal": f"00{i}", "prompt": "nan or null", "n_words": 3, "hearing_loss": severity, **changes}
        for i, severity in enumerate(SEVERITIES)
    ]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def test_several_files_at_once_and_what_it_prints(run_script_file: Script, tmp_path: Path) -> None:
    first = write_json(tmp_path, "a/one.json", correctness=0.5)
    second = write_json(tmp_path, "b/two.json", n_words=4)
    third = write_json(tmp_path, "c/three.json")
    done = run_script_file("metadata_to_csv.py", "--json", first, second, "--json", third)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"{first}: 3 signals, 9 rows per ear",
        f"  wrote {first.with_name('one_l.csv')} and {first.with_name('one_r.csv')}",
        "  signals whose word count differs from n_words: 0",
        f"{second}: 3 signals, 9 rows per ear",
        f"  wrote {second.with_name('two_l.csv')} and {second.with_name('two_r.csv')}",
        "  signals whose word count differs from n_words: 3",
        "    000",
        "    001",
        "    002",
        f"{third}: 3 signals, 9 rows per ear",
        f"  wrote {third.with_name('three_l.csv')} and {third.with_name('three_r.csv')}",
        "  signals whose word count differs from n_words: 0",
    ]
    for path in (first, second, third):
        left, right = path.with_name(f"{path.stem}_l.csv"), path.with_name(f"{path.stem}_r.csv")
        assert left.read_bytes() == right.read_bytes()
        table = read_table(left)
        assert table["signal"].tolist() == ["000"] * 3 + ["001"] * 3 + ["002"] * 3
        assert table["word"].tolist() == ["nan", "or", "null"] * 3
        made = {p.name for p in path.parent.iterdir() if not p.name.startswith(".")}  # besides the locks
        assert made == {path.name, left.name, right.name}


def test_refusal_to_overwrite_features_and_force(run_script_file: Script, tmp_path: Path) -> None:
    path = write_json(tmp_path, "m.json")
    tables = (tmp_path / "m_l.csv", tmp_path / "m_r.csv")
    assert run_script_file("metadata_to_csv.py", "--json", path).returncode == 0
    for table in tables:
        write_table(read_table(table).assign(base=0.5, dns_bak=1.0), table)
    before = [table.read_bytes() for table in tables]
    done = run_script_file("metadata_to_csv.py", "--json", path)
    assert_user_error(done, "m_l.csv already holds the features base, dns_bak", "--force")
    assert [table.read_bytes() for table in tables] == before
    assert run_script_file("metadata_to_csv.py", "--json", path, "--force").returncode == 0
    assert all(list(read_table(table).columns) == list(BASE_COLUMNS) for table in tables)


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (None, ("m.json: expected a metadata JSON file, found none",)),
        ('[{"signal": "a",', ("m.json: not valid JSON at line 1, column 17",)),
        ('[{"signal": "../a", "prompt": "b", "hearing_loss": "Mild"}]', ("record 1", "plain file name", "'../a'")),
    ],
)
def test_wrong_input_is_one_line(
    run_script_file: Script, tmp_path: Path, content: str | None, fragments: tuple[str, ...]
) -> None:
    path = tmp_path / "m.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert_user_error(run_script_file("metadata_to_csv.py", "--json", path), *fragments)
    assert not list(tmp_path.glob("*.csv"))


def test_real_valid_metadata(run_script_file: Script, clip1: Path, tmp_path: Path) -> None:
    source = clip1 / "cadenza_data_valid" / "metadata" / "valid_metadata.json"
    copy = tmp_path / "valid_metadata.json"
    copy.write_bytes(source.read_bytes())
    done = run_script_file("metadata_to_csv.py", "--json", copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{copy}: 1175 signals, 8623 rows per ear"
    assert len(read_table(tmp_path / "valid_metadata_r.csv")) == 8_623


def test_responses_are_joined_and_counted(run_script_file: Script, tmp_path: Path) -> None:
    path = write_json(tmp_path, "m.json")
    responses = tmp_path / "responses.json"
    answers = {f"00{i}": [{"response": "nan", "hits": 1, "correctness": 1 / 3}] for i in range(2)}
    responses.write_text(json.dumps(answers), encoding="utf-8")
    done = run_script_file("metadata_to_csv.py", "--json", path, "--responses", responses)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "  responses joined: 2 of 3 signals"
    table = read_table(tmp_path / "m_r.csv")
    assert table["response"].tolist() == ["nan"] * 6 + [""] * 3
    responses.write_text(json.dumps({"other": answers["000"]}), encoding="utf-8")
    done = run_script_file("metadata_to_csv.py", "--json", path, "--responses", responses)
    assert_user_error(done, "expected responses to signals of", "found none")
