"""Where items are computed: in this process, in processes of this machine, or on a Dask cluster.

One job computes here, one item after the other, while a thread prepares the next one; Dask is not imported. Several
jobs are a ``LocalCluster`` with a worker process per job, one thread each (also in BLAS and OpenMP: threads beyond the
cores slow each other down); they end with this process, however it ends. A scheduler's address means its workers.

If a worker dies, the items it held are computed again, one at a time after all others, so that the item to blame is
known. An item whose workers died every time gives None; the others are not affected.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from scow.errors import UserError, expect

if TYPE_CHECKING:
    from distributed import Client, Future

ITEMS_PER_THREAD = 2  # in flight, so that no worker waits for its next item
MAX_JOBS = 512  # processes of this machine
ANSWER_S = 10.0  # how long a scheduler may take to answer
DIED = "the process that computed it died; is there enough memory?"
GONE = "the scheduler is gone; finished signals are kept: start it and run the same command again"
NOT_STARTED = 'expected worker processes to start; a script of your own must run this below if __name__ == "__main__"'
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.admin.large-graph-warning-threshold": "1GB",
    # Without MALLOC_TRIM_THRESHOLD_, with which a worker returns memory to the system and fetches it all the time.
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
}


@contextmanager
def open_engine(
    jobs: int = 1, scheduler: str | None = None, resources: Mapping[str, float] | None = None
) -> Iterator[Engine]:
    """Compute with `jobs` processes of this machine, or with the workers of the Dask cluster at `scheduler`.

    `resources` is what a worker of the cluster must offer, such as ``{"GPU": 1}``.
    """
    expect(1 <= jobs <= MAX_JOBS, "--jobs", f"1 to {MAX_JOBS}", jobs)
    if scheduler and jobs > 1:
        raise UserError("expected --jobs or --scheduler, found both; the workers of a cluster are started separately")
    if resources and not scheduler:
        raise UserError("--resources: expected a --scheduler whose workers offer them, found none")
    with ExitStack() as stack:
        client = None if scheduler is None else stack.enter_context(_connected(scheduler, resources or {}))
        yield Engine(jobs, client, dict(resources or {}), stack)


class Engine:
    """Computes items; made by `open_engine`."""

    def __init__(self, jobs: int, client: Client | None, resources: dict[str, float], stack: ExitStack) -> None:
        self._jobs, self._client, self._resources, self._stack = jobs, client, resources, stack

    def map(
        self, function: Callable[[Any], Any], items: Sequence[Any], prepare: Callable[[Any], Any] = lambda item: item
    ) -> Iterator[tuple[int, Any]]:
        """``function(prepare(item))`` of each item as it comes, with the item's index; None where its workers died.

        In this process, `prepare` runs in a thread, one item ahead. Functions and items must be picklable.
        """
        if items and self._client is None and self._jobs > 1:
            self._client = self._stack.enter_context(_local_workers(min(self._jobs, len(items))))
        if self._client:
            yield from self._map_on_workers(self._client, function, items, prepare)
            return
        with ThreadPoolExecutor(max_workers=1) as ahead:
            upcoming = [ahead.submit(prepare, item) for item in items[:1]]
            for index in range(len(items)):
                prepared = upcoming.pop().result()
                upcoming += [ahead.submit(prepare, item) for item in items[index + 1 : index + 2]]
                yield index, function(prepared)

    def _map_on_workers(
        self, client: Client, function: Callable[[Any], Any], items: Sequence[Any], prepare: Callable[[Any], Any]
    ) -> Iterator[tuple[int, Any]]:
        from distributed import as_completed
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        def submit(index: int) -> Future:
            return client.submit(_compute, function, prepare, items[index], pure=False, resources=self._resources)

        waiting, suspects = iter(range(len(items))), []
        in_flight: dict[Future, int] = {}
        completed = as_completed(loop=client.loop)

        def fill_up() -> None:
            try:
                n_threads = max(1, sum(client.nthreads().values()))
            except OSError as error:
                raise UserError(GONE) from error
            for index in islice(waiting, max(0, ITEMS_PER_THREAD * n_threads - len(in_flight))):
                future = submit(index)
                in_flight[future] = index
                completed.add(future)

        try:
            fill_up()
            for future in completed:
                index = in_flight.pop(future)
                fill_up()
                try:
                    yield index, future.result()
                except KilledWorker:
                    suspects.append(index)
            for index in suspects:
                try:
                    yield index, submit(index).result()
                except KilledWorker:
                    yield index, None
        except (CancelledError, CommClosedError) as error:  # the latter while a result is on its way
            raise UserError(GONE) from error


def _compute(function: Callable[[Any], Any], prepare: Callable[[Any], Any], item: Any) -> Any:
    return function(prepare(item))


@contextmanager
def _local_workers(jobs: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    _silence_dask()
    os.environ |= ONE_THREAD  # for the workers, which inherit it
    can_block = hasattr(signal, "pthread_sigmask")  # not on Windows
    with dask.config.set(SETTINGS):
        # A worker never receives Ctrl-C, because it inherits the mask; it is this process that stops it.
        resource_tracker.ensure_running()  # starting it later would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if can_block else None
        try:
            cluster = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # None is port 8787, with a warning where it is in use
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            raise UserError(NOT_STARTED) from error
        finally:
            if can_block:
                signal.pthread_sigmask(signal.SIG_SETMASK, before or ())
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _connected(address: str, resources: Mapping[str, float]) -> Iterator[Client]:
    from distributed import Client
    from distributed.comm import get_address_host_port

    _silence_dask()
    try:
        get_address_host_port(address, strict=True)  # a client that fails on it prints a traceback when it is deleted
        client = Client(address, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        found = f"--scheduler: expected a Dask scheduler at {address}, found none that answers"
        raise UserError(f"{found}; example: tcp://host:8786") from error
    with client:
        load, where = "import scow.features.extract", "the scheduler"  # which unpickles what it passes on
        try:
            client.run_on_scheduler(exec, load)
            where = "the workers"
            first = client.submit(exec, load, pure=False, resources=dict(resources))
            try:
                first.result(timeout=ANSWER_S)
            except TimeoutError:
                offers = "".join(f" that offers {name}={n:g}" for name, n in resources.items())
                print(f"waiting for a worker of {address}{offers}", file=sys.stderr, flush=True)
                first.result()
            client.run(exec, load)
        except ImportError as error:
            raise UserError(
                f"--scheduler: {where} of {address} cannot import scow ({error}); "
                "start scheduler and workers with its folder in PYTHONPATH and its requirements installed"
            ) from error
        yield client


def _silence_dask() -> None:
    """No log lines of Dask, also not by handlers of the caller; errors are reported here, in one line."""
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
