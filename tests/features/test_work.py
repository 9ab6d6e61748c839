"""Batches of many signals: how they are cut, resuming, real processes that get SIGKILL, and the progress shown."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers import ROOT, run_python
from pool_jobs import Item, Squaring, began, items, until

from scow.errors import UserError
from scow.features import work
from scow.features.partial import Done, Failure, Outcome, PartialResults, outcomes_by_signal
from scow.features.pool import Engine, open_pool
from scow.features.work import run_batches, unfinished


def squares(*numbers: int, ear: str = "left") -> Done:
    return Done(tuple(Outcome(f"{i:04d}", {ear: {"square": i * i}}) for i in numbers))


def numbers_of(batches: Sequence[Sequence[Item]]) -> list[list[int]]:
    return [[item.number for item in batch] for batch in batches]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "t_l.tiny.journal.jsonl"


# --- how batches are cut


def test_batches_have_their_size_and_keep_the_order():
    mixed = [Item(i) for i in (9, 3, 7, 1, 5)]
    assert numbers_of(unfinished(mixed, 2, [])) == [[9, 3], [7, 1], [5]]
    assert numbers_of(unfinished(mixed, 5, [])) == [[9, 3, 7, 1, 5]]
    assert unfinished([], 2, []) == []


# Not [2, 3, 4], [6, 7, 9]: the last bits of a Whisper score depend on what else is in its batch.
def test_what_is_done_leaves_the_other_batches_as_they_are():
    finished = [squares(0, 1), squares(5), squares(8)]
    assert numbers_of(unfinished(items(10), 3, finished)) == [[2], [3, 4], [6, 7], [9]]
    assert numbers_of(unfinished(items(10), 3, [squares(3, 4, 5)])) == [[0, 1, 2], [6, 7, 8], [9]]
    assert unfinished(items(3), 2, [squares(0, 1), squares(2)]) == []


def test_only_the_ear_that_is_missing_is_still_to_do_and_what_failed_is_tried_again():
    both = [Item(i, ears=("left", "right")) for i in range(3)]
    silent = Done((Outcome("0001", {"left": {"square": 1}}, (Failure("0001", "right", ("square",), "silent"),)),))
    finished = [squares(0), squares(0, ear="right"), silent]
    assert unfinished(both, 2, finished) == [[Item(1, ears=("right",))], [both[2]]]


# --- batches through an engine and a journal


class Here:
    """An engine that computes at once, gives the batches back in another order, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []

    def run(self, job: Squaring, batches: Sequence[Sequence[Item]]) -> Iterator[Done]:
        for batch in reversed(batches):
            self.given.append([item.number for item in batch])
            yield job.compute(batch, job.prepare(batch))


def run(folder: Path, whole: Sequence[Item], pool: Here, size: int = 2, label: str = "x") -> list[Done]:
    journal = PartialResults(folder / "journal.jsonl", "x")
    return run_batches(whole, Squaring(folder), pool=pool, batch_size=size, journal=journal, label=label)


def test_what_comes_back_is_what_the_journal_holds(tmp_path):
    done = run(tmp_path, items(5), Here())
    assert done == [squares(4), squares(2, 3), squares(0, 1)]
    assert PartialResults(tmp_path / "journal.jsonl", "x").read() == done


def test_no_items_are_no_work_no_journal_and_no_word(tmp_path, capfd):
    pool = Here()
    assert run(tmp_path, [], pool) == []
    assert pool.given == []
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_resuming_computes_only_what_is_missing(tmp_path):
    journal = PartialResults(tmp_path / "journal.jsonl", "x")
    journal.append(squares(3, 4, 5))
    journal.append(squares(7))
    journal.close()
    pool = Here()
    done = run(tmp_path, items(10), pool, size=3)
    assert pool.given == [[9], [6, 8], [0, 1, 2]]
    assert done[:2] == [squares(3, 4, 5), squares(7)]
    assert sorted(outcomes_by_signal(done)) == [f"{i:04d}" for i in range(10)]
    again = Here()
    assert run(tmp_path, items(10), again, size=3) == done
    assert again.given == []


@pytest.mark.parametrize("error", [RuntimeError("defect"), KeyboardInterrupt("ctrl-c"), UserError("no memory")])
def test_what_stops_a_batch_comes_through_and_the_batches_before_are_kept(tmp_path, error):
    class Stopping(Here):
        def run(self, job: Squaring, batches: Sequence[Sequence[Item]]) -> Iterator[Done]:
            yield squares(0, 1)
            yield squares(2, 3)
            raise error

    with pytest.raises(type(error), match=str(error)):
        run(tmp_path, items(10), Stopping())
    assert PartialResults(tmp_path / "journal.jsonl", "x").read() == [squares(0, 1), squares(2, 3)]


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("I am no folder")
    journal = PartialResults(tmp_path / "file" / "journal.jsonl", "x")
    with pytest.raises(UserError, match=r"^cannot write .*journal\.jsonl"):
        run_batches(items(2), Squaring(tmp_path), pool=Here(), batch_size=1, journal=journal, label="x")


# --- a run that is killed

SLOW_RUN = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, "tests")
from pool_jobs import Squaring, items
from scow.features.partial import PartialResults
from scow.features.pool import Engine, open_pool
from scow.features.work import run_batches

class Slowly(Squaring):
    def compute(self, batch, prepared):
        done = super().compute(batch, prepared)
        time.sleep(0.03)
        return done

folder, n = Path(sys.argv[1]), int(sys.argv[2])
with open_pool(Engine()) as pool:
    journal = PartialResults(folder / "journal.jsonl", "x")
    run_batches(items(n), Slowly(folder), pool=pool, batch_size=2, journal=journal, label="slow")
print("finished")
"""


def killed_run(folder: Path, after_batches: int) -> None:
    """Start the slow run and send it SIGKILL as soon as its journal holds some batches more."""
    journal = PartialResults(folder / "journal.jsonl", "x")
    goal = len(journal.read()) + after_batches
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(folder), "40"], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(journal.read()) >= goal or process.poll() is not None)
        assert process.poll() is None, "the run ended before it could be killed"
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_twice_loses_at_most_the_batch_in_flight_each_time(tmp_path):
    journal = PartialResults(tmp_path / "journal.jsonl", "x")
    before: list[Done] = []
    for n_kills in (1, 2):
        killed_run(tmp_path, after_batches=4)
        kept = journal.read()
        assert kept[: len(before)] == before
        assert len(before) + 4 <= len(kept) < 20
        assert len(began(tmp_path)) - 2 * len(kept) <= 2 * n_kills  # batches have two signals
        before = kept
    done = run_python(SLOW_RUN, tmp_path, 40)
    assert done.stdout == "finished\n", done.stderr
    assert journal.read() == [squares(i, i + 1) for i in range(0, 40, 2)]
    computed = [name for _, name in began(tmp_path)]
    assert len(computed) - 40 <= 4
    assert max(map(computed.count, computed)) <= 2, "a batch that is noted is not computed again"


# --- progress


def test_a_log_gets_a_line_at_the_end_and_no_bar(tmp_path, capfd):
    run(tmp_path, items(5), Here(), label="valid tiny")
    assert capfd.readouterr() == ("", "valid tiny: 5/5 signals, 0 s\n")


def test_a_log_gets_a_line_now_and_then_of_what_is_still_to_do(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(work, "SECONDS_BETWEEN_LINES", 0.0)
    PartialResults(tmp_path / "journal.jsonl", "x").append(squares(0, 1))
    run(tmp_path, items(7), Here(), label="demo")
    assert capfd.readouterr().err.splitlines() == [f"demo: {done}/5 signals, 0 s" for done in (1, 3, 5)]


def test_a_terminal_gets_a_bar_and_no_lines(tmp_path):
    master, terminal = pty.openpty()
    size = struct.pack("HHHH", 24, 100, 0, 0)  # a new terminal has no columns, and no bar fits into none
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    done = subprocess.run(
        [sys.executable, "-c", SLOW_RUN, str(tmp_path), "4"], cwd=ROOT, stderr=terminal, timeout=60, check=False
    )
    os.close(terminal)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert done.returncode == 0, shown
    assert "\r" in shown
    assert "slow: 100%" in shown
    assert "4/4" in shown
    assert "4/4 signals," not in shown


def test_an_engine_here_runs_the_batches_in_order(tmp_path):
    with open_pool(Engine()) as pool:
        assert run(tmp_path, items(5), pool) == [squares(0, 1), squares(2, 3), squares(4)]
