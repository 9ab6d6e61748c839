"""Where batches are computed: in this process, in processes of this machine, or on a Dask cluster.

A *job* says what to do with a batch (`Job`); it and its batches are plain values that travel by pickle. All engines
give finished batches as they come, in any order:

- **here**: one batch after the other; a thread prepares the next one (reads and resamples its audio) meanwhile.
- **processes** (``--jobs N``) and **cluster** (``--scheduler tcp://host:8786``) share one code path, because
  dask.distributed's ``Client.get_executor`` has the interface of the standard library's process pool.

A worker that dies has its batches done again by the others. A batch that lets every worker die that takes it is given
up: its signals fail with that reason, the others go on. After a death in a process pool, which ends the whole pool, the
batches in flight are tried one at a time, so that the guilty one is known.

Processes of this machine compute with one thread each: BLAS and OpenMP are told so, because threads beyond the cores
spin and slow each other down. They end with this process, however it ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures import ThreadPoolExecutor as Threads
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol

from scow.errors import UserError
from scow.features.partial import Done

BATCHES_AHEAD = 2  # per worker, so that none waits for its next batch
ANSWER_S = 10.0  # how long a scheduler may take to answer
GONE = "the scheduler is gone; finished batches are kept: start it and run the same command again"
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Job(Protocol):
    """What to do with a batch of items."""

    def prepare(self, batch: Sequence[Any]) -> Any:
        """Fetch what a batch needs; may run beside `compute` of another batch."""

    def compute(self, batch: Sequence[Any], prepared: Any) -> Done:
        """The outcome of each item."""

    def lost(self, batch: Sequence[Any], reason: str) -> Done:
        """Outcomes that say why there is none."""


@dataclass(frozen=True)
class Engine:
    """Where to compute.

    Attributes
    ----------
    jobs : int
        Processes of this machine; 1: this process.
    scheduler : str or None
        Address of a Dask scheduler, instead of processes of this machine.
    resources : dict of str to float
        What a worker of the cluster must offer, for instance ``{"GPU": 1}``.
    """

    jobs: int = 1
    scheduler: str | None = None
    resources: dict[str, float] = field(default_factory=dict)

    def validate(self) -> None:
        """Check the values.

        Raises
        ------
        UserError
        """
        if self.jobs < 1:
            raise UserError(f"--jobs: expected at least 1, found {self.jobs}; mend the option")
        if self.scheduler == "":
            raise UserError("--scheduler: expected an address as tcp://host:8786, found nothing; mend the option")
        if self.scheduler and self.jobs > 1:
            raise UserError("expected --jobs or --scheduler, found both; a cluster's workers are started on their own")
        if self.resources and not self.scheduler:
            raise UserError("--resources: expected a --scheduler, whose workers offer them, found none; add it")


class Pool(Protocol):
    """An engine that is running."""

    def run(self, job: Job, batches: Sequence[Sequence[Any]]) -> Iterator[Done]:
        """Finished batches, as they come."""


@contextmanager
def open_pool(engine: Engine) -> Iterator[Pool]:
    """Start an engine, and stop its workers at the end, whatever the end is.

    Raises
    ------
    UserError
        Options that contradict each other, or a scheduler that does not answer.
    """
    engine.validate()
    if engine.scheduler:
        with _cluster(engine.scheduler, engine.resources) as cluster:
            yield cluster
    elif engine.jobs > 1:
        with _processes(engine.jobs) as processes:
            yield processes
    else:
        yield _Here()


class _Here:
    def run(self, job: Job, batches: Sequence[Sequence[Any]]) -> Iterator[Done]:
        with Threads(max_workers=1, thread_name_prefix="prepare") as ahead:
            upcoming = [ahead.submit(job.prepare, batch) for batch in batches[:1]]
            for i, batch in enumerate(batches):
                prepared = upcoming.pop().result()
                upcoming += [ahead.submit(job.prepare, following) for following in batches[i + 1 : i + 2]]
                yield job.compute(batch, prepared)


@dataclass(frozen=True)
class _Flight:
    """A batch that is being computed: alone or among others, and by which executor."""

    batch: Sequence[Any]
    alone: bool
    executor: Executor


class _Executors:
    """Batches through an executor."""

    dead_worker: type[BaseException]  # what a future raises whose worker died
    tries_itself: bool  # whether the engine gives a dead worker's batch to others by itself, a number of times

    def executor(self) -> Executor:
        raise NotImplementedError

    def renew(self, broken: Executor) -> None:
        """Do away with an executor that is broken; the next call of `executor` makes another."""

    def n_workers(self) -> int:
        raise NotImplementedError

    def run(self, job: Job, batches: Sequence[Sequence[Any]]) -> Iterator[Done]:
        waiting, suspects = deque(batches), deque[Sequence[Any]]()
        flying: dict[Future[Done], _Flight] = {}
        while waiting or suspects or flying:
            if suspects and not flying:
                self._submit(job, suspects.popleft(), flying, alone=True)
            while waiting and not suspects and len(flying) < BATCHES_AHEAD * max(1, self.n_workers()):
                self._submit(job, waiting.popleft(), flying)
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                flight = flying.pop(future)
                try:
                    yield future.result()
                except self.dead_worker:
                    self.renew(flight.executor)
                    if flight.alone or self.tries_itself:
                        yield job.lost(flight.batch, "the process that computed it died; is there enough memory?")
                    else:
                        suspects.append(flight.batch)
                except CancelledError as error:
                    raise UserError(GONE) from error

    def _submit(
        self, job: Job, batch: Sequence[Any], flying: dict[Future[Done], _Flight], *, alone: bool = False
    ) -> None:
        executor = self.executor()
        try:
            with _deaf_to_ctrl_c():
                future = executor.submit(_work, job, batch)
        except self.dead_worker:  # it broke since the last look; the batches in flight will say so themselves
            self.renew(executor)
            executor = self.executor()
            with _deaf_to_ctrl_c():
                future = executor.submit(_work, job, batch)
        flying[future] = _Flight(batch, alone, executor)


class _Processes(_Executors):
    dead_worker = BrokenProcessPool
    tries_itself = False

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._context = get_context("spawn")  # a forked process would inherit locks of threads that it does not have
        self._executor: ProcessPoolExecutor | None = None
        self._line: tuple[Connection, Connection] | None = None  # to its workers: their ear, and this end

    def executor(self) -> Executor:
        if self._executor is None:
            self._line = self._context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(
                self._jobs, mp_context=self._context, initializer=_begin_worker, initargs=(self._line[0],)
            )
        return self._executor

    def renew(self, broken: Executor) -> None:
        if broken is self._executor:  # else another of its batches has said so before
            self.hang_up()

    def shut_down(self) -> None:
        """Let the workers finish and go."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self.hang_up()

    def hang_up(self) -> None:
        """End the workers at once.

        First of all the line: a worker that was just being started when the executor broke is one that the executor
        waits for and never ends by itself.
        """
        (executor, self._executor), (line, self._line) = (self._executor, None), (self._line, None)
        if line is not None:
            line[1].close()
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)
        if line is not None:
            line[0].close()

    def n_workers(self) -> int:
        return self._jobs


@contextmanager
def _processes(jobs: int) -> Iterator[_Processes]:
    pool = _Processes(jobs)
    try:
        yield pool
        pool.shut_down()
    finally:
        pool.hang_up()  # where something went wrong here, workers are still busy


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Put Ctrl-C off; processes that are started meanwhile never hear it, not even while they import their modules."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(ear: Connection) -> None:
    """Make a new process a worker: one thread, deaf to Ctrl-C, and gone when its parent hangs up or dies."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))  # for libraries that are not loaded yet
    threadpool_limits(1)  # for those that are

    def listen() -> None:
        ear.poll(None)  # nothing is ever said; it returns at the end of the line
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()


class _Cluster(_Executors):
    tries_itself = True  # distributed.scheduler.allowed-failures says how often

    def __init__(self, client: Any, restrictions: dict[str, Any]) -> None:
        from distributed.scheduler import KilledWorker

        self.dead_worker = KilledWorker
        self._client = client
        self._executor: Executor = client.get_executor(pure=False, **restrictions)

    def executor(self) -> Executor:
        return self._executor

    def n_workers(self) -> int:
        try:
            return sum(self._client.ncores().values())
        except OSError as error:
            raise UserError(GONE) from error


@contextmanager
def _cluster(address: str, resources: dict[str, float]) -> Iterator[_Cluster]:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError:
        raise UserError(
            "--scheduler: expected dask.distributed, found none; pip install -r requirements-cluster.txt"
        ) from None
    for name in ("distributed", "distributed.client"):  # what goes wrong is said here, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        get_address_host_port(address, strict=True)  # a client that fails on it prints a traceback when it is deleted
        client = Client(address, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--scheduler: expected a Dask scheduler at {address}, found none that answers; "
            "start one, or mend the address, as in tcp://host:8786"
        ) from error
    restrictions: dict[str, Any] = {"resources": resources} if resources else {}

    def on_first_worker(*task: Any) -> None:
        """Wait for a worker where there is none yet; a cluster that grows by itself needs a task to do so."""
        offers = client.run_on_scheduler(_offers)
        if not any(all(offer.get(name, 0) >= n for name, n in resources.items()) for offer in offers):
            wanted = "".join(f" that offers {name}={n:g}" for name, n in resources.items())
            print(f"waiting for a worker of {address}{wanted}", file=sys.stderr, flush=True)
            client.submit(*task, pure=False, **restrictions).result()

    with client:
        places = (
            (client.run_on_scheduler, "the scheduler"),  # because it unpickles what it hands on
            (on_first_worker, "the workers"),
            (client.run, "the workers"),
        )
        for run, where in places:
            try:
                run(exec, "import scow.features.runner")
            except ImportError as error:
                raise UserError(
                    f"--scheduler: {where} of {address} cannot import scow ({error}); "
                    "start scheduler and workers with its folder in PYTHONPATH and its requirements installed"
                ) from error
        yield _Cluster(client, restrictions)


def _offers(dask_scheduler: Any = None) -> list[dict[str, float]]:
    """Resources of the workers of a cluster, asked of its scheduler."""
    return [dict(worker.resources) for worker in dask_scheduler.workers.values()]


def _work(job: Job, batch: Sequence[Any]) -> Done:
    """What a worker does with a batch."""
    return job.compute(batch, job.prepare(batch))
