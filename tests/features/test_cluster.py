"""A real Dask scheduler and real workers on this machine: the same tables, a worker that dies, and error lines."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from corpus import Corpus, make_corpus
from engine_jobs import PATH, began, square
from helpers import assert_user_error, run_script, start_script, wait_until

from scow.features.engine import open_engine
from scow.features.whisper import Transcriber

pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and its workers, each a process; workers have no nanny, which would start them again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir()
        self._stack, self.log = stack, folder / "log"
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start("Scheduler at:", "scheduler", "--host", "127.0.0.1", "--port", port)

    def add_worker(self, *options: str, path: str = PATH) -> subprocess.Popen:
        worker = ("worker", self.address, "--no-nanny", "--nthreads", "1")
        return self._start("Registered to:", *worker, *options, path=path)

    def _start(self, sign: str, name: str, *options: str, path: str = PATH) -> subprocess.Popen:
        """Start a process, and wait until the log has one more line with a sign that it runs."""
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", "--no-dashboard", *options]
        with self.log.open("a") as log:
            n_before = self.log.read_text().count(sign)
            environ = {**os.environ, "PYTHONPATH": path}
            process = subprocess.Popen(command, cwd=self.log.parent, stdout=log, stderr=log, env=environ)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        wait_until(lambda: self.log.read_text().count(sign) > n_before, f"a running {name}")
        return process


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(folder / "cluster", stack)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory, tiny_en: Transcriber) -> Corpus:
    """Six good signals after stage 1; never changed, only copied."""
    names = [f"{i:04d}" for i in range(1, 7)]
    return make_corpus(tmp_path_factory.mktemp("cluster") / "six", dict.fromkeys(names, "you know you"))


@pytest.mark.parametrize("script", ["compute_metrics.py", "whisper_inference.py"])
def test_killed_worker_does_not_change_a_byte(script: str, six: Corpus, tmp_path: Path) -> None:
    alone, corpus = six.copy(tmp_path / "alone"), six.copy(tmp_path / "c")
    assert run_script(script, "--config", alone.config).returncode == 0
    with running(tmp_path) as cluster:
        first, _ = cluster.add_worker(), cluster.add_worker()
        with start_script(script, "--config", corpus.config, "--scheduler", cluster.address) as process:
            wait_until(lambda: corpus.n_chunks >= 1 or process.poll() is not None, "a finished chunk")
            assert corpus.n_chunks < 5
            first.kill()
            assert process.wait() == 0, process.stderr
            assert len(process.stderr.splitlines()) == 1, "only the progress"
    assert corpus.bytes() == alone.bytes()


def test_scheduler_that_dies_is_one_line_and_finished_signals_are_kept(six: Corpus, tmp_path: Path) -> None:
    corpus = six.copy(tmp_path / "c")
    with running(tmp_path) as cluster:
        cluster.add_worker()
        offering = cluster.add_worker("--resources", "GPU=1")
        with open_engine(scheduler=cluster.address, resources={"GPU": 1}) as engine:
            list(engine.map(square, [(tmp_path, i, "") for i in range(8)]))
        assert {pid for pid, _ in began(tmp_path)} == {offering.pid}, "only workers that offer the resource compute"
        with start_script("compute_metrics.py", "--config", corpus.config, "--scheduler", cluster.address) as process:
            wait_until(lambda: corpus.n_chunks >= 1 or process.poll() is not None, "a finished chunk")
            cluster.scheduler.kill()
            assert process.wait(60) == 2, process.stderr
            assert process.stderr.startswith("error: the scheduler is gone; finished signals are kept")
            assert len(process.stderr.splitlines()) == 1
    assert corpus.bytes() == six.bytes()
    assert 1 <= corpus.n_chunks < 6


def test_workers_that_cannot_import_the_project(six: Corpus, tmp_path: Path) -> None:
    (tmp_path / "scow.py").write_text("raise ImportError('broken')")
    with running(tmp_path) as cluster:
        cluster.add_worker(path=str(tmp_path))
        done = run_script("compute_metrics.py", "--config", six.config, "--scheduler", cluster.address)
    assert_user_error(done, f"the workers of {cluster.address} cannot import scow", "PYTHONPATH")
