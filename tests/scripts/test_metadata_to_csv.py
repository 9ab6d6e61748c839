"""Stage 1 as a user runs it."""

from helpers import assert_user_error, run_script

from scow.data.tables import BASE_COLUMNS, read_table, write_table
from scow.io import write_json


def test_metadata_to_csv_reports_each_file_and_loses_features_only_if_forced(tmp_path):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for n_words, path in enumerate(files, start=3):
        write_json(path, [{"signal": "0012", "prompt": "nan or null", "n_words": n_words, "hearing_loss": "Mild"}])
    done = run_script("metadata_to_csv.py", "--json", files[0], "--json", files[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{files[0]}: 1 signals, 3 rows per channel",
        f"  wrote {tmp_path / 'one_l.csv'} and {tmp_path / 'one_r.csv'}",
        "  signals whose word count differs from n_words: 0",
        f"{files[1]}: 1 signals, 3 rows per channel",
        f"  wrote {tmp_path / 'two_l.csv'} and {tmp_path / 'two_r.csv'}",
        "  signals whose word count differs from n_words: 1",
        "    0012",
    ]
    table = tmp_path / "one_l.csv"
    write_table(read_table(table).assign(base=0.5, dns_bak=1.0), table)
    before = table.read_bytes()
    refused = run_script("metadata_to_csv.py", "--json", files[0])
    assert_user_error(refused, "one_l.csv", "base, dns_bak", "--force")
    assert table.read_bytes() == before
    run_script("metadata_to_csv.py", "--json", files[0], "--force", code=0)
    assert list(read_table(table).columns) == list(BASE_COLUMNS)


def test_metadata_to_csv_joins_responses_that_are_named_or_beside(tmp_path):
    train, valid = tmp_path / "train_metadata.json", tmp_path / "valid_metadata.json"
    answers = tmp_path / "train_responses.json"
    for signal, path in (("1", train), ("2", valid)):
        write_json(path, [{"signal": signal, "prompt": "nan or null", "hearing_loss": "Mild"}])
    write_json(answers, {"1": [{"response": "or", "correctness": 0.25}]})
    for options in (["--responses", answers], []):
        done = run_script("metadata_to_csv.py", "--json", train, valid, *options)
        assert (done.returncode, f"responses of {answers} joined: 1 of 1" in done.stdout) == (0, True)
        assert done.stderr == (f"note: {valid}: no responses in {answers}; converted without\n" if options else "")
        assert set(read_table(tmp_path / "train_metadata_r.csv")["correctness"]) == {0.25}
        assert read_table(tmp_path / "valid_metadata_r.csv")["correctness"].isna().all()
    run_script("metadata_to_csv.py", "--json", valid, valid, "--responses", answers, code=1)
    assert_user_error(run_script("metadata_to_csv.py", "--json", valid, "--responses", answers), "train_responses.json")
