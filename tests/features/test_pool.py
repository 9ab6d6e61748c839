"""Engines of this machine: results, one thread each, workers that die, and workers that must not outlive anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from helpers import ROOT
from pool_jobs import Item, Looking, Squaring, batches, began, children, is_gone, until

from scow.errors import UserError
from scow.features.partial import Done
from scow.features.pool import THREAD_SETTINGS, Engine, open_pool

DIED = "the process that computed it died; is there enough memory?"


def run(folder: Path, whole: Sequence[Sequence[Item]], jobs: int) -> list[Done]:
    with open_pool(Engine(jobs)) as pool:
        return list(pool.run(Squaring(folder), whole))


def squares_of(done: Iterable[Done]) -> dict[str, int]:
    outcomes = [outcome for batch in done for outcome in batch.outcomes]
    return {outcome.signal: outcome.values["left"]["square"] for outcome in outcomes if outcome.values}


def reasons_of(done: Iterable[Done]) -> dict[str, str]:
    return {
        failure.signal: failure.reason for batch in done for outcome in batch.outcomes for failure in outcome.failures
    }


def assert_gone(pids: Iterable[int]) -> None:
    for pid in pids:
        until(lambda pid=pid: is_gone(pid), 10, what=f"the end of worker {pid}")


# --- this process


class Meanwhile:
    """Computes a batch only when the next one has been prepared, which therefore must happen meanwhile."""

    def __init__(self, folder: Path, n: int) -> None:
        self.squaring = Squaring(folder)
        self.prepared = [threading.Event() for _ in range(n)]
        self.threads: list[threading.Thread] = []

    def prepare(self, batch: Sequence[Item]) -> list[int]:
        self.threads.append(threading.current_thread())
        self.prepared[batch[0].number].set()
        return self.squaring.prepare(batch)

    def compute(self, batch: Sequence[Item], prepared: list[int]) -> Done:
        following = self.prepared[batch[0].number + 1 :]
        assert threading.current_thread() is threading.main_thread()
        assert all(event.wait(30) for event in following[:1]), "the next batch was not prepared meanwhile"
        assert not any(event.is_set() for event in following[1:]), "audio of all batches would fill the memory"
        return self.squaring.compute(batch, prepared)

    def lost(self, batch: Sequence[Item], reason: str) -> Done:
        return self.squaring.lost(batch, reason)


def test_here_prepares_the_next_batch_and_no_more_while_one_is_computed(tmp_path):
    job = Meanwhile(tmp_path, 4)
    with open_pool(Engine()) as pool:
        assert squares_of(pool.run(job, batches(4))) == {"0000": 0, "0001": 1, "0002": 4, "0003": 9}
    assert threading.main_thread() not in job.threads


def test_here_computes_in_order_in_this_process(tmp_path):
    run(tmp_path, batches(5, 2), 1)
    assert began(tmp_path) == [(os.getpid(), f"{i:04d}") for i in range(5)]


def test_here_ends_its_thread_when_the_consumer_stops(tmp_path):
    before = threading.active_count()
    with open_pool(Engine()) as pool:
        done = pool.run(Squaring(tmp_path), batches(4))
        next(done)
        done.close()
    until(lambda: threading.active_count() == before, 10)


# --- processes


def test_processes_give_what_one_process_gives(tmp_path):
    whole = batches(9, 2)
    (tmp_path / "one").mkdir()
    alone, together = run(tmp_path / "one", whole, 1), run(tmp_path, whole, 2)
    assert sorted(together, key=lambda done: done.outcomes[0].signal) == alone
    pids = {pid for pid, _ in began(tmp_path)}
    assert os.getpid() not in pids
    assert_gone(pids)


def test_each_worker_computes_with_one_thread(monkeypatch):
    for name in THREAD_SETTINGS:
        monkeypatch.setenv(name, "2")
    with open_pool(Engine(2)) as pool:
        (done,) = pool.run(Looking(), batches(1))
    seen = done.outcomes[0].values["left"]["square"]
    assert seen["torch"] == 1
    assert seen["pools"]
    assert set(seen["pools"]) == {1}
    assert seen["settings"] == ["1"] * len(THREAD_SETTINGS)
    assert seen["parent"] == os.getpid()


def test_a_worker_that_dies_once_has_its_batch_done_again(tmp_path):
    done = run(tmp_path, batches(12, 2, _3="kill once"), 2)
    assert squares_of(done) == {f"{i:04d}": i * i for i in range(12)}
    assert reasons_of(done) == {}
    assert len(done) == 6
    names = [name for _, name in began(tmp_path)]
    assert names.count("0003") == 2
    assert max(map(names.count, names)) == 2
    assert_gone({pid for pid, _ in began(tmp_path)})


def test_a_batch_that_kills_every_worker_is_given_up_and_all_others_finish(tmp_path):
    done = run(tmp_path, batches(14, 2, _3="kill", _10="kill"), 2)
    assert reasons_of(done) == dict.fromkeys(["0002", "0003", "0010", "0011"], DIED)
    assert squares_of(done) == {f"{i:04d}": i * i for i in range(14) if i not in (2, 3, 10, 11)}
    assert len(done) == 7
    names = [name for _, name in began(tmp_path)]
    assert max(map(names.count, names)) <= 2, "once among others, once alone"


def test_a_death_that_is_noticed_late_does_no_harm_to_the_next_workers(tmp_path):
    # Eight batches are in flight, 7 of them kills; its death comes while the consumer is busy with six of the others,
    # so that the next six go to new workers before anybody has looked at what became of 7 and 8.
    whole = batches(16, 1, _7="wait, then kill once", **{f"_{i}": "wait" for i in range(8, 10)})
    with open_pool(Engine(4)) as pool:
        done = pool.run(Squaring(tmp_path), whole)
        found = [next(done)]
        until(lambda: {name for _, name in began(tmp_path)} >= {f"{i:04d}" for i in range(8)})
        found += [next(done)]
        (tmp_path / "release").touch()
        until((tmp_path / "once 0007").exists)
        killer = next(pid for pid, name in began(tmp_path) if name == "0007")
        assert_gone({killer, *(pid for pid, _ in began(tmp_path))})
        found += done
    assert squares_of(found) == {f"{i:04d}": i * i for i in range(16)}


def test_the_last_batch_may_be_the_one_that_kills(tmp_path):
    done = run(tmp_path, batches(3, 1, _2="kill"), 2)
    assert reasons_of(done) == {"0002": DIED}
    assert squares_of(done) == {"0000": 0, "0001": 1}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_user_error_of_a_worker_comes_through(tmp_path, jobs):
    with pytest.raises(UserError, match=r"^0003: expected a good number, found a bad one; mend it$"):
        run(tmp_path, batches(20, 1, _3="user error"), jobs)
    assert_gone({pid for pid, _ in began(tmp_path)} - {os.getpid()})
    assert len(began(tmp_path)) < 20, "the rest is not computed"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_workers_end_at_once_when_the_consumer_stops(tmp_path, error):
    whole = batches(6, 1, **{f"_{i}": "wait" for i in range(1, 6)})
    with pytest.raises(error, match="stop"), open_pool(Engine(2)) as pool:  # noqa: PT012
        done = pool.run(Squaring(tmp_path), whole)
        next(done)
        until(lambda: len(began(tmp_path)) == 3)
        workers = {pid for pid, _ in began(tmp_path)[1:]}
        assert not any(map(is_gone, workers))
        raise error("stop")
    assert_gone(workers)
    assert not (tmp_path / "release").exists()


PARENT = """
import sys
from pathlib import Path
from pool_jobs import Squaring, batches
from scow.features.pool import Engine, open_pool

with open_pool(Engine(2)) as pool:
    for done in pool.run(Squaring(Path(sys.argv[1])), batches(6, 1, _2="wait", _3="wait")):
        pass
"""


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
    try:
        until(lambda: len(began(tmp_path)) == 4 or process.poll() is not None)
        assert process.poll() is None
        busy = {pid for pid, _ in began(tmp_path)[2:]}
        everyone = {*busy, *children(process.pid)}
        assert busy  # on a busy machine one worker may have begun both
        assert not any(map(is_gone, everyone))
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert_gone(everyone)
    finally:
        (tmp_path / "release").touch()
        process.kill()
        process.wait()


# --- options


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(0), "--jobs: expected at least 1, found 0"),
        (Engine(2, "tcp://127.0.0.1:8786"), "expected --jobs or --scheduler, found both"),
        (Engine(2, resources={"GPU": 1}), "--resources: expected a --scheduler"),
    ],
)
def test_options_that_contradict_each_other(engine, message):
    with pytest.raises(UserError, match=message), open_pool(engine):
        pytest.fail("it was opened")
