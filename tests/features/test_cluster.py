"""A real Dask scheduler and real workers on this machine: the same tables, workers that die, and what goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers import MODELS, ROOT, assert_user_error
from pool_jobs import Squaring, batches, began, until
from test_features import Corpus, make_corpus, run_stage, write_pair

from scow.errors import UserError
from scow.features.partial import PartialResults
from scow.features.pool import Engine, open_pool

distributed = pytest.importorskip("distributed", reason="needs pip install -r requirements-cluster.txt")

PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
SIX = tuple(f"{i:04d}" for i in range(1, 7))


@dataclass
class Cluster:
    """A scheduler and its workers, each a process of its own."""

    address: str
    log: Path
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.exits = ExitStack()

    def add_worker(self, *options: str, path: str = PATH) -> subprocess.Popen:
        # Without a nanny, which would start the worker again: a machine that dies does not come back.
        command = ["dask_worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard", *options]
        worker = self.exits.enter_context(started(command, self.log, {"PYTHONPATH": path}))
        self.workers.append(worker)
        until(lambda: self.log.read_text().count("Registered to:") >= len(self.workers), what="a worker's registration")
        return worker


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    name, *arguments = command
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *arguments],
            cwd=log.parent, stdout=out, stderr=out, env={**os.environ, **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler that has no workers yet."""
    with running_scheduler(tmp_path / "cluster", PATH) as cluster:
        yield cluster


@contextmanager
def running_scheduler(folder: Path, path: str) -> Iterator[Cluster]:
    folder.mkdir()
    log, port = folder / "log", free_port()
    command = ["dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    with started(command, log, {"PYTHONPATH": path}) as scheduler:
        until(lambda: "Scheduler at:" in log.read_text() or scheduler.poll() is not None)
        cluster = Cluster(f"tcp://127.0.0.1:{port}", log, scheduler)
        with cluster.exits:
            yield cluster


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six good signals after stage 1; never changed, only copied."""
    corpus = make_corpus(tmp_path_factory.mktemp("cluster") / "six", dict.fromkeys(SIX, "you know you"))
    for i, name in enumerate(SIX):
        write_pair(corpus, name, seed=i)
    return corpus


STAGES = {
    "compute_metrics.py": ("--splits=mini",),
    "whisper_inference.py": ("--models", "tiny.en", "--model-dir", str(MODELS), "--batch-size", "1"),
}


def kept_batches(corpus: Corpus) -> int:
    return sum(len(PartialResults.peek(path)) for path in corpus.journals)


@contextmanager
def at_work(script: str, corpus: Corpus, cluster: Cluster) -> Iterator[subprocess.Popen]:
    """A stage on a cluster that has begun: its first batch is noted."""
    command = [sys.executable, str(ROOT / script), "--config", str(corpus.config), *STAGES[script]]
    process = subprocess.Popen(
        [*command, "--scheduler", cluster.address],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: kept_batches(corpus) >= 1 or process.poll() is not None, what="a noted batch")
        assert process.poll() is None, process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("script", STAGES)
def test_a_worker_that_is_killed_does_not_change_a_byte(
    script: str, six: Corpus, cluster: Cluster, tmp_path: Path
) -> None:
    if script == "whisper_inference.py" and not (MODELS / "tiny.en.pt").is_file():
        pytest.skip("no weights models/tiny.en.pt")
    alone, corpus = six.copy(tmp_path / "alone"), six.copy(tmp_path / "c")
    done = run_stage(script, "--config", alone.config, *STAGES[script])
    assert done.returncode == 0, done.stderr
    first, _ = cluster.add_worker(), cluster.add_worker()
    with at_work(script, corpus, cluster) as process:
        assert kept_batches(corpus) < 5
        first.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [line for line in err.splitlines() if "6/6 signals" not in line] == []
    assert corpus.bytes() == alone.bytes()
    assert out == done.stdout.replace(str(alone.root), str(corpus.root))
    assert "Remove worker" in cluster.log.read_text() or "Removing worker" in cluster.log.read_text()


def test_no_scheduler_at_the_address_is_one_line_soon(six: Corpus, tmp_path: Path) -> None:
    began_at = time.monotonic()
    for address in (f"tcp://127.0.0.1:{free_port()}", "no address at all", "tcp://no-port"):
        done = run_stage("compute_metrics.py", "--config", six.config, "--scheduler", address)
        assert_user_error(done, f"--scheduler: expected a Dask scheduler at {address}, found none that answers")
    assert time.monotonic() - began_at < 60  # 10 s for an answer that does not come, and the start of three runs


def test_workers_that_cannot_import_the_project_are_one_line(six: Corpus, cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker(path="")
    done = run_stage("compute_metrics.py", "--config", six.config, "--scheduler", cluster.address)
    assert_user_error(done, f"the workers of {cluster.address} cannot import scow", "PYTHONPATH")


def test_a_scheduler_that_cannot_import_the_project_is_one_line(six: Corpus, tmp_path: Path) -> None:
    with running_scheduler(tmp_path / "cluster", "") as cluster:
        cluster.add_worker()
        done = run_stage("compute_metrics.py", "--config", six.config, "--scheduler", cluster.address)
    assert_user_error(done, f"the scheduler of {cluster.address} cannot import scow", "PYTHONPATH")


def test_only_workers_that_offer_the_resource_get_work(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker()
    offering = cluster.add_worker("--resources", "GPU=1")
    with open_pool(Engine(scheduler=cluster.address, resources={"GPU": 1})) as pool:
        assert len(list(pool.run(Squaring(tmp_path), batches(8)))) == 8
    assert {pid for pid, _ in began(tmp_path)} == {offering.pid}
    with open_pool(Engine(scheduler=cluster.address)) as pool:
        list(pool.run(Squaring(tmp_path), batches(8)))
    assert {pid for pid, _ in began(tmp_path)} == {worker.pid for worker in cluster.workers}


def test_a_user_error_of_a_worker_comes_through(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_worker()
    with (
        pytest.raises(UserError, match=r"^0001: expected a good number, found a bad one; mend it$"),
        open_pool(Engine(scheduler=cluster.address)) as pool,
    ):
        list(pool.run(Squaring(tmp_path), batches(3, 1, _1="user error")))


@pytest.mark.parametrize("script", ["compute_metrics.py"])
def test_a_scheduler_that_dies_is_one_line_and_the_journal_is_kept(
    script: str, six: Corpus, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = six.copy(tmp_path / "c")
    cluster.add_worker()
    with at_work(script, corpus, cluster) as process:
        cluster.scheduler.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert err == ("error: the scheduler is gone; finished batches are kept: start it and run the same command again\n")
    assert corpus.bytes() == six.bytes()
    kept = kept_batches(corpus)
    assert 1 <= kept < 6
    done = run_stage(script, "--config", corpus.config, *STAGES[script])
    assert done.returncode == 0, done.stderr
    assert f"{6 - kept}/{6 - kept} signals" in done.stderr
