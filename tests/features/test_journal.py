"""Values that survive being killed: journals on real disks, torn, damaged, foreign, and on disks that are full."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import run_python

from scow.errors import UserError
from scow.features.partial import Done, Failure, Outcome, PartialResults, outcomes_by_signal

MADE_BY = {"date": "2026-01-31", "device": "cpu", "versions": {"numpy": "2.4"}}


def done(*numbers: int) -> Done:
    return Done(tuple(Outcome(f"{i:04d}", {"left": {"x": i * i}, "right": {"x": [i, None]}}) for i in numbers), MADE_BY)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "t_l.tiny.journal.jsonl"


def fill(path: Path, batches: Iterable[Done], fingerprint: str = "words and model") -> None:
    journal = PartialResults(path, fingerprint)
    for batch in batches:
        journal.append(batch)
    journal.close()


def in_threes(n_batches: int) -> list[Done]:
    return [done(3 * i, 3 * i + 1, 3 * i + 2) for i in range(n_batches)]


# --- what is written is read


def test_batches_come_back_in_order_to_another_journal_object(path):
    fill(path, in_threes(3))
    assert PartialResults(path, "words and model").read() == in_threes(3)


def test_a_journal_that_does_not_exist_is_empty_and_reading_does_not_make_it(path):
    assert PartialResults(path, "x").read() == []
    assert PartialResults.peek(path) == []
    assert not path.exists()


def test_a_batch_is_on_disk_as_soon_as_append_returns(path):
    journal = PartialResults(path, "x")
    for i in range(3):
        journal.append(in_threes(3)[i])
        assert PartialResults(path, "x").read() == in_threes(i + 1)
    journal.close()


def test_numbers_text_and_failures_come_back_exactly(path):
    values = {"left": {"tiny": {"words": [0.1 + 0.2, 5e-324, 1 / 3], "transcript": "don’t \u2028 stop\r\n♪ \0"}}}
    failure = Failure("1", "right", ("stoi", "pesq"), "PESQ: “no utterance”\nat all")
    batch = Done((Outcome("1", values, (failure,)), Outcome("é 2")), MADE_BY)
    fill(path, [batch])
    assert PartialResults(path, "words and model").read() == [batch]


def test_a_journal_is_removed_once_and_removing_it_twice_is_no_error(path):
    journal = PartialResults(path, "x")
    journal.append(done(5))
    journal.remove()
    assert not path.exists()
    journal.remove()


# --- torn and damaged


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(path):
    fill(path, in_threes(3))
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        assert PartialResults(path, "words and model").read() == in_threes(2), content[last:end]
        assert PartialResults.peek(path) == in_threes(2)


def test_a_file_torn_anywhere_holds_the_whole_batches_before(path):
    fill(path, in_threes(2))
    content = path.read_bytes()
    ends = [i for i, byte in enumerate(content, 1) if byte == ord("\n")]
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        n_whole = sum(line_end <= end for line_end in ends[1:])
        assert PartialResults(path, "words and model").read() == in_threes(2)[:n_whole], end


def test_appending_after_a_torn_line_keeps_what_is_whole(path):
    fill(path, in_threes(3))
    path.write_bytes(path.read_bytes()[:-5])
    fill(path, [done(77)])
    assert PartialResults(path, "words and model").read() == [*in_threes(2), done(77)]
    heading, *lines = map(json.loads, path.read_text().splitlines())  # what was torn is cut off, not buried
    assert heading == {"fingerprint": "words and model"}
    assert [entry["outcomes"][0]["signal"] for entry in lines] == ["0000", "0003", "0077"]


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe\xff", b"\0" * 40, b"{}", b"null", b'{"outcomes": 3, "made_by": {}}', b'{"outcomes": [{}]}']
)
def test_a_line_that_is_no_batch_costs_only_itself(path, damage):
    fill(path, in_threes(3))
    heading, first, second, third, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([heading, first, damage, third, b""]))
    assert PartialResults(path, "words and model").read() == [in_threes(3)[0], in_threes(3)[2]]
    path.write_bytes(b"\n".join([heading, first, second, damage]))  # as blocks that never reached the disk leave it
    assert PartialResults(path, "words and model").read() == in_threes(2)


@pytest.mark.parametrize(
    "heading",
    [
        b"",
        b"garbage",
        b"\0" * 30,
        b"\xff",
        b'{"fingerprint": "words and mod',
        b'{"fingerprint": "words and model", "v": 2}',
    ],
)
def test_a_journal_whose_heading_is_damaged_is_dropped_and_replaced(path, heading):
    fill(path, in_threes(2))
    _, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(heading + b"\n" + rest)
    assert PartialResults(path, "words and model").read() == []
    fill(path, [done(7)])
    assert PartialResults(path, "words and model").read() == [done(7)]


# --- of something else


def test_a_journal_of_something_else_is_dropped_and_replaced(path):
    fill(path, in_threes(2), "another model")
    assert PartialResults(path, "this model").read() == []
    fill(path, [done(7)], "this model")
    assert PartialResults(path, "this model").read() == [done(7)]
    assert PartialResults(path, "another model").read() == []


def test_to_read_a_journal_of_something_else_leaves_it(path):
    fill(path, in_threes(2), "another model")
    PartialResults(path, "this model").read()
    assert PartialResults(path, "another model").read() == in_threes(2)


def test_peek_tells_the_batches_whatever_they_belong_to_and_changes_nothing(path):
    fill(path, in_threes(2), "another model")
    path.write_bytes(path.read_bytes() + b'{"outcomes": [')
    before = path.read_bytes()
    assert PartialResults.peek(path) == in_threes(2)
    assert path.read_bytes() == before


# --- what became of each signal


def outcome(signal: str, values: dict, **reasons: str) -> Done:
    """`values` by ear and column; ``left_stoi="silent"`` says why a column of an ear is not there."""
    failures = []
    for place, reason in reasons.items():
        ear, column = place.split("_")
        failures.append(Failure(signal, ear, (column,), reason))
    return Done((Outcome(signal, values, tuple(failures)),), MADE_BY)


def test_columns_and_ears_of_several_batches_come_together():
    batches = [
        outcome("1", {"left": {"stoi": 0.5}}),
        outcome("2", {"left": {"stoi": 0.1}}),
        outcome("1", {"left": {"pesq": 2.0}, "right": {"pesq": 3.0}}),
    ]
    assert outcomes_by_signal(batches) == {
        "1": Outcome("1", {"left": {"stoi": 0.5, "pesq": 2.0}, "right": {"pesq": 3.0}}),
        "2": Outcome("2", {"left": {"stoi": 0.1}}),
    }
    assert batches[0].outcomes[0].values == {"left": {"stoi": 0.5}}, "what came in is not edited"


def test_the_last_value_of_a_cell_counts():
    batches = [outcome("1", {"left": {"stoi": 0.5, "pesq": 1.5}}), outcome("1", {"left": {"stoi": 0.6}})]
    assert outcomes_by_signal(batches)["1"].values == {"left": {"stoi": 0.6, "pesq": 1.5}}


def test_a_value_undoes_the_failure_before_it_and_of_its_cell_only():
    batches = [
        outcome("1", {}, left_stoi="no file", left_pesq="no file", right_stoi="no file"),
        outcome("1", {"left": {"stoi": 0.5}}),
    ]
    found = outcomes_by_signal(batches)["1"]
    assert found.values == {"left": {"stoi": 0.5}}
    assert found.failures == (Failure("1", "left", ("pesq",), "no file"), Failure("1", "right", ("stoi",), "no file"))


def test_the_last_reason_counts_and_columns_of_one_ear_and_reason_are_one_failure():
    batches = [
        outcome("1", {}, left_stoi="no file"),
        outcome("1", {}, left_stoi="silent", left_estoi="silent", left_pesq="no utterance", right_stoi="silent"),
    ]
    assert outcomes_by_signal(batches)["1"].failures == (
        Failure("1", "left", ("stoi", "estoi"), "silent"),
        Failure("1", "left", ("pesq",), "no utterance"),
        Failure("1", "right", ("stoi",), "silent"),
    )


def test_name_of_a_failure():
    assert Failure("0012", "left", ("stoi", "pesq"), "silent").name == "0012 left (stoi, pesq)"


# --- disks that fail


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("I am no folder")
    expected = (
        r"^cannot write .*journal\.jsonl: (File exists|Not a directory); check the folder's rights and free space"
    )
    with pytest.raises(UserError, match=expected):
        PartialResults(blocker / "journal.jsonl", "x").append(done(1))


# A limit on file size fails a write half-way, as a full disk does, and needs no rights.
ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from scow.features.partial import Done, PartialResults, Outcome
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
journal = PartialResults(Path(sys.argv[1]), "words and model")
try:
    for i in range(100):
        journal.append(Done((Outcome(f"new{i}", {"left": {"x": i}}),)))
        print(i, flush=True)
except Exception as error:
    print(type(error).__name__, error)
journal.close()
"""


def test_a_full_disk_is_a_user_error_and_keeps_every_batch_that_was_noted(path):
    said = run_python(ON_A_FULL_DISK, path, 1000)
    assert said.stderr == ""
    *noted, error = said.stdout.splitlines()
    assert error.startswith(f"UserError cannot write {path}: File too large; make room or mend the rights")
    assert path.stat().st_size == 1000, "the last line must be torn for this test to mean anything"
    kept = PartialResults(path, "words and model").read()
    assert [batch.outcomes[0].signal for batch in kept] == [f"new{i}" for i in noted]
    assert len(kept) > 3


def test_a_disk_that_is_full_on_resuming_loses_nothing_of_the_earlier_run(path):
    fill(path, in_threes(20))
    size = path.stat().st_size
    for limit in (size - 100, size + 100):  # too little to write it anew, and to add to it
        said = run_python(ON_A_FULL_DISK, path, limit).stdout
        assert "UserError cannot write" in said
        assert PartialResults(path, "words and model").read()[:20] == in_threes(20)
        assert not list(path.parent.glob("*.tmp"))
