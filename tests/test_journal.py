"""Work that survives being killed: journals on real disks, real processes that get SIGKILL, resuming."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import ROOT, run_python

from scow import work
from scow.errors import UserError
from scow.work import Failure, Journal, Outcome, run_batches


def square(batch: Sequence[int]) -> list[Outcome]:
    return [Outcome(f"{i:04d}", {"left": i * i, "right": [i, None, "nan"]}) for i in batch]


def counting(calls: list[list[int]]) -> Callable[[Sequence[int]], list[Outcome]]:
    """`square`, noting each batch that it is given."""

    def compute(batch: Sequence[int]) -> list[Outcome]:
        calls.append(list(batch))
        return square(batch)

    return compute


def values_of(outcomes: Sequence[Outcome]) -> dict[str, dict]:
    return {outcome.signal: outcome.values for outcome in outcomes}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "t_l.tiny.journal.jsonl"


def filled(path: Path, n_signals: int, fingerprint: str = "words and model") -> None:
    journal = Journal(path, fingerprint)
    journal.append(square(range(n_signals)))
    journal.close()


# --- the journal


def test_what_was_noted_is_read_again_by_another_journal_object(path):
    filled(path, 3)
    assert Journal(path, "words and model").read() == values_of(square(range(3)))


def test_a_journal_that_does_not_exist_is_empty_and_reading_does_not_make_it(path):
    assert Journal(path, "x").read() == {}
    assert not path.exists()


def test_values_are_on_disk_as_soon_as_append_returns(path):
    journal = Journal(path, "x")
    for i in range(3):
        journal.append(square([i]))
        assert set(Journal(path, "x").read()) == {f"{k:04d}" for k in range(i + 1)}
    journal.close()


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(path):
    filled(path, 3)
    content = path.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        assert Journal(path, "words and model").read() == values_of(square(range(2))), content[last:end]


def test_appending_after_a_torn_line_keeps_what_is_whole(path):
    filled(path, 3)
    path.write_bytes(path.read_bytes()[:-5])
    journal = Journal(path, "words and model")
    journal.append(square([7]))
    journal.close()
    assert Journal(path, "words and model").read() == values_of(square([0, 1, 7]))
    lines = path.read_text().splitlines()
    assert [json.loads(line).get("signal") for line in lines] == [None, "0000", "0001", "0007"]


def test_a_journal_of_something_else_is_dropped_and_replaced(path):
    filled(path, 3, "another model")
    journal = Journal(path, "this model")
    assert journal.read() == {}
    journal.append(square([7]))
    journal.close()
    assert Journal(path, "this model").read() == values_of(square([7]))
    assert Journal(path, "another model").read() == {}


@pytest.mark.parametrize(
    "first", ["[]", '{"signal": "0000", "values": {}}', '{"fingerprint": "words and model", "v": 2}']
)
def test_a_file_that_does_not_begin_with_the_fingerprint_is_no_journal(path, first):
    path.write_text(f'{first}\n{{"signal": "0001", "values": {{"left": 1}}}}\n')
    assert Journal(path, "words and model").read() == {}


@pytest.mark.parametrize(
    "first", ["", "garbage", "\0" * 30, '{"fingerprint": "another mod'], ids=["empty", "garbage", "zeros", "torn"]
)
def test_a_journal_whose_first_line_is_damaged_is_dropped(path, first):
    path.write_text(f'{first}\n{{"signal": "0001", "values": {{"left": 1}}}}\n')
    assert Journal(path, "words and model").read() == {}


def test_a_file_that_is_no_text_is_no_journal(path):
    path.write_bytes(b"\xff\xfe\n\n")
    assert Journal(path, "x").read() == {}


def test_failures_are_not_noted_so_that_the_next_run_tries_again(path):
    journal = Journal(path, "x")
    reason = Failure("0002 right", "the right ear is silent")
    journal.append(
        [
            Outcome("0001", {"left": 0.5}),
            Outcome("0002", {"left": 0.5}, (reason,)),  # one ear failed: the signal is tried again whole
            Outcome("0003", {}, (Failure("0003", "missing"),)),
        ]
    )
    journal.close()
    assert journal.read() == {"0001": {"left": 0.5}}


def test_the_last_value_of_a_signal_counts(path):
    journal = Journal(path, "x")
    journal.append([Outcome("1", {"left": 1})])
    journal.append([Outcome("1", {"left": 2})])
    journal.close()
    assert journal.read() == {"1": {"left": 2}}


def test_numbers_and_text_come_back_exactly(path):
    values = {"left": {"words": [0.1 + 0.2, 5e-324, 1 / 3], "transcript": "don’t \u2028 stop\n♪"}}
    journal = Journal(path, "x")
    journal.append([Outcome("1", values)])
    journal.close()
    assert journal.read() == {"1": values}


def test_a_journal_is_removed_once_and_removing_it_twice_is_no_error(path):
    filled(path, 3)
    journal = Journal(path, "words and model")
    journal.append(square([5]))
    journal.remove()
    assert not path.exists()
    journal.remove()


# --- disks that fail


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("I am no folder")
    with pytest.raises(
        UserError, match=r"^cannot write .*journal\.jsonl: File exists; check the folder's rights and free space"
    ):
        run_batches([1], square, batch_size=1, journal=Journal(blocker / "journal.jsonl", "x"), label="x")


ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from scow.errors import UserError
from scow.work import Journal, Outcome, run_batches
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
compute = lambda batch: [Outcome(f"new{i}", {"left": i}) for i in batch]
try:
    run_batches(range(100), compute, batch_size=10, journal=Journal(Path(sys.argv[1]), "words and model"), label="x")
except Exception as error:
    print(type(error).__name__, error)
"""


# A limit on file size fails a write half-way, as a full disk does, and needs no rights.
def test_a_full_disk_is_a_user_error_and_keeps_the_batches_before(path):
    done = run_python(ON_A_FULL_DISK, path)
    assert done.stdout.startswith(f"UserError cannot write {path}: File too large; make room or mend the rights")
    kept = Journal(path, "words and model").read()
    assert len(kept) >= 20  # a line has 44 bytes at most, so 1,000 bytes hold the first two batches
    assert all(values == {"left": int(name.removeprefix("new"))} for name, values in kept.items())


def test_a_disk_that_is_full_on_resuming_loses_nothing_of_the_earlier_run(path):
    filled(path, 100)
    run_python(ON_A_FULL_DISK, path)
    assert set(values_of(square(range(100)))) <= set(Journal(path, "words and model").read())


# --- batches


def test_outcomes_come_in_the_order_of_the_items_and_batches_have_their_size(path):
    calls: list[list[int]] = []
    items = [9, 3, 7, 1, 5]
    outcomes = run_batches(items, counting(calls), batch_size=2, journal=Journal(path, "x"), label="x")
    assert calls == [[9, 3], [7, 1], [5]]
    assert outcomes == square(items)
    assert Journal(path, "x").read() == values_of(square(items))


def test_no_items_are_no_work_and_no_journal(path):
    calls: list[list[int]] = []
    assert run_batches([], counting(calls), batch_size=2, journal=Journal(path, "x"), label="x") == []
    assert calls == []
    assert not path.exists()


def test_failures_are_handed_back_with_the_values(path):
    outcomes = [
        Outcome("1", {"left": 1}, (Failure("1 right", "silent"),)),
        Outcome("2", {}, (Failure("2", "missing"),)),
    ]
    done = run_batches([1, 2], lambda batch: outcomes, batch_size=2, journal=Journal(path, "x"), label="x")
    assert done == outcomes


@pytest.mark.parametrize("error", [RuntimeError("defect"), KeyboardInterrupt("ctrl-c")])
def test_what_stops_a_batch_comes_through_and_the_batches_before_are_kept(path, error):
    def compute(batch: Sequence[int]) -> list[Outcome]:
        if 4 in batch:
            raise error
        return square(batch)

    with pytest.raises(type(error), match=str(error)):
        run_batches(range(10), compute, batch_size=2, journal=Journal(path, "x"), label="x")
    assert Journal(path, "x").read() == values_of(square(range(4)))


def test_resuming_computes_only_what_is_missing(path):
    items = list(range(10))
    filled(path, 6)
    journal = Journal(path, "words and model")
    kept = journal.read()
    missing = [i for i in items if f"{i:04d}" not in kept]
    calls: list[list[int]] = []
    run_batches(missing, counting(calls), batch_size=3, journal=journal, label="x")
    assert calls == [[6, 7, 8], [9]]
    assert journal.read() == values_of(square(items))


SLOW_RUN = """
import sys, time
from pathlib import Path
from scow.work import Journal, Outcome, run_batches

folder = Path(sys.argv[1])
journal = Journal(folder / "journal.jsonl", "x")

def compute(batch):
    with (folder / "computed.log").open("a") as log:
        log.writelines(f"{i}\\n" for i in batch)
    time.sleep(0.03)
    return [Outcome(str(i), {"left": i * i}) for i in batch]

kept = journal.read()
run_batches([i for i in range(40) if str(i) not in kept], compute, batch_size=2, journal=journal, label="slow")
print("finished")
"""


def killed_run(folder: Path, after_signals: int) -> None:
    """Start the slow run and send it SIGKILL as soon as its journal holds some signals more."""
    journal = Journal(folder / "journal.jsonl", "x")
    goal = len(journal.read()) + after_signals
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while len(journal.read()) < goal:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_twice_loses_at_most_the_batch_in_flight_each_time(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", "x")
    log = tmp_path / "computed.log"
    right = {str(i): {"left": i * i} for i in range(40)}
    before: dict[str, dict] = {}
    for n_kills in (1, 2):
        killed_run(tmp_path, after_signals=7)
        kept = journal.read()
        assert before.items() <= kept.items() < right.items()
        assert len(kept) >= len(before) + 7
        assert len(log.read_text().splitlines()) - len(kept) <= 2 * n_kills  # batches have two signals
        before = kept
    done = run_python(SLOW_RUN, tmp_path)
    assert done.stdout == "finished\n", done.stderr
    assert journal.read() == right
    computed = log.read_text().splitlines()
    assert set(computed) == set(right)
    assert len(computed) - len(right) <= 4
    assert max(computed.count(signal_id) for signal_id in before) <= 3


# --- progress


def test_a_log_gets_a_line_at_the_end_and_no_bar(path, capfd):
    run_batches(range(5), square, batch_size=2, journal=Journal(path, "x"), label="valid tiny")
    assert capfd.readouterr() == ("", "valid tiny: 5/5 signals, 0 s\n")


def test_a_log_gets_a_line_now_and_then(path, capfd, monkeypatch):
    monkeypatch.setattr(work, "SECONDS_BETWEEN_LINES", 0.0)
    run_batches(range(5), square, batch_size=2, journal=Journal(path, "x"), label="demo")
    assert capfd.readouterr().err.splitlines() == [f"demo: {done}/5 signals, 0 s" for done in (2, 4, 5)]


def test_a_terminal_gets_a_bar_and_no_lines(tmp_path):
    master, terminal = pty.openpty()
    size = struct.pack("HHHH", 24, 100, 0, 0)  # a new terminal has no columns, and no bar fits into none
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    code = SLOW_RUN.replace("range(40)", "range(4)")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=terminal, timeout=60, check=False
    )
    os.close(terminal)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert done.returncode == 0, shown
    assert "\r" in shown
    assert "slow: 100%" in shown
    assert "4/4" in shown
    assert "4/4 signals," not in shown
