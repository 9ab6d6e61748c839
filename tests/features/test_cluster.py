"""A real Dask scheduler and real workers on this machine: the same tables, a worker that dies, and error lines."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from corpus import Corpus, make_corpus
from distributed.cli import dask_scheduler, dask_worker
from helpers import Process, assert_user_error, began, run_script, square, start_script, wait_until

from scow.features.engine import open_engine
from scow.features.whisper import Transcriber

pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and its workers, each a process; workers have no nanny, which would start them again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.scheduler = self._start(dask_scheduler.__file__, "Scheduler at:", "--host", self.address)

    def add_worker(self, *options: object) -> Process:
        worker = (self.address, "--no-nanny", "--nthreads", "1")
        return self._start(dask_worker.__file__, "Registered to:", *worker, *options)

    def _start(self, script: str, sign: str, *options: object) -> Process:
        process = start_script(script, "--no-dashboard", *options, cwd=self._folder)
        self._stack.enter_context(process)
        wait_until(lambda: sign in process.stderr, sign)
        return process


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory, tiny_en: Transcriber) -> Corpus:
    """Six good signals after stage 1; never changed, only copied."""
    names = [f"{i:04d}" for i in range(1, 7)]
    return make_corpus(tmp_path_factory.mktemp("cluster") / "six", dict.fromkeys(names, "you know you"))


@pytest.mark.parametrize("script", ["compute_metrics.py", "whisper_inference.py"])
def test_killed_worker_does_not_change_a_byte(script: str, six: Corpus, cluster: Cluster, tmp_path: Path) -> None:
    alone, corpus = six.copy(tmp_path / "alone"), six.copy(tmp_path / "c")
    run_script(script, "--config", alone.config, code=0)
    first, _ = cluster.add_worker(), cluster.add_worker()
    with start_script(script, "--config", corpus.config, "--scheduler", cluster.address) as process:
        wait_until(lambda: corpus.n_chunks >= 1 or process.poll() is not None, "a finished chunk")
        assert corpus.n_chunks < 5
        first.kill()
        assert process.wait() == 0, process.stderr
        assert len(process.stderr.splitlines()) == 1, "only the progress"
    assert corpus.bytes() == alone.bytes()


def test_scheduler_that_dies_is_one_line_and_finished_signals_are_kept(
    six: Corpus, cluster: Cluster, tmp_path: Path
) -> None:
    corpus = six.copy(tmp_path / "c")
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


def test_workers_that_cannot_import_the_project(six: Corpus, cluster: Cluster, tmp_path: Path) -> None:
    broken = "import sys\nsys.modules |= {name: None for name in sys.modules if name.split('.')[0] == 'scow'}\n"
    (tmp_path / "broken.py").write_text(broken)
    cluster.add_worker("--preload", tmp_path / "broken.py")
    done = run_script("compute_metrics.py", "--config", six.config, "--scheduler", cluster.address)
    assert_user_error(done, f"the workers of {cluster.address} cannot import scow", "PYTHONPATH")
