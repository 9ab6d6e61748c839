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
from typing import TYPE_CHECKING, Any

from scow.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

ITEMS_PER_THREAD = 2  # in flight, so that no worker waits for its next item
ANSWER_S = 10.0  # how long a scheduler may take to answer
DIED = "the process that computed it died; is there enough memory?"
GONE = "the scheduler is gone; finished signals are kept: start it and run the same command again"
NOT_STARTED = 'expected worker processes to start; a script of your own must run this below if __name__ == "__main__"'
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def check_engine(jobs: int, scheduler: str | None, resources: Mapping[str, float]) -> None:
    """Refuse options of `open_engine` that contradict each other."""
    if jobs < 1:
        raise UserError(f"--jobs: expected at least 1, found {jobs}")
    if scheduler == "":
        raise UserError("--scheduler: expected an address such as tcp://host:8786, found nothing")
    if scheduler and jobs > 1:
        raise UserError("expected --jobs or --scheduler, found both; the workers of a cluster are started separately")
    if resources and not scheduler:
        raise UserError("--resources: expected a --scheduler whose workers offer them, found none")


@contextmanager
def open_engine(
    jobs: int = 1, scheduler: str | None = None, resources: Mapping[str, float] | None = None
) -> Iterator[Engine]:
    """Start computing with `jobs` processes of this machine, or with the workers of the Dask cluster at `scheduler`.

    `resources` is what a worker of the cluster must offer, such as ``{"GPU": 1}``.
    """
    check_engine(jobs, scheduler, resources or {})
    with ExitStack() as stack:
        client = stack.enter_context(_connected(scheduler, resources or {})) if scheduler else None
        yield Engine(jobs, client, resources or {}, stack)


class Engine:
    """Computes items; made by `open_engine`."""

    def __init__(self, jobs: int, client: Client | None, resources: Mapping[str, float], stack: ExitStack) -> None:
        self._jobs, self._client, self._resources, self._stack = jobs, client, dict(resources), stack

    def map(
        self, function: Callable[[Any], Any], items: Sequence[Any], prepare: Callable[[Any], Any] = lambda item: item
    ) -> Iterator[tuple[int, Any]]:
        """``function(prepare(item))`` of each item as it comes, with the item's index.

        The result is None where every process that computed the item died. In this process, `prepare` runs in a thread
        one item ahead. Functions and items must be picklable, and no function may return None.
        """
        if not items:
            return
        if self._client is None and self._jobs > 1:
            self._client = self._stack.enter_context(_local_workers(min(self._jobs, len(items))))
        if self._client is None:
            yield from _map_here(function, items, prepare)
        else:
            yield from self._map_on_workers(self._client, function, items, prepare)

    def _map_on_workers(
        self, client: Client, function: Callable[[Any], Any], items: Sequence[Any], prepare: Callable[[Any], Any]
    ) -> Iterator[tuple[int, Any]]:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        def submit(index: int) -> Future:
            restrictions = {"resources": self._resources} if self._resources else {}
            return client.submit(_prepare_and_compute, function, prepare, items[index], pure=False, **restrictions)

        waiting = iter(range(len(items)))
        flying: dict[Future, int] = {}
        suspects: list[int] = []
        completed = as_completed(loop=client.loop)

        def fill_up() -> None:
            room = ITEMS_PER_THREAD * max(1, sum(client.nthreads().values())) - len(flying)
            for index in islice(waiting, max(0, room)):
                future = submit(index)
                flying[future] = index
                completed.add(future)

        try:
            fill_up()
            for future in completed:
                index = flying.pop(future)
                fill_up()
                try:
                    result = future.result()
                except KilledWorker:
                    suspects.append(index)
                else:
                    yield index, result
            for index in suspects:
                try:
                    result = submit(index).result()
                except KilledWorker:
                    result = None
                yield index, result
        except (CancelledError, OSError) as error:
            raise UserError(GONE) from error


def _map_here(
    function: Callable[[Any], Any], items: Sequence[Any], prepare: Callable[[Any], Any]
) -> Iterator[tuple[int, Any]]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare") as ahead:
        prepared = ahead.submit(prepare, items[0])
        for index in range(len(items)):
            ready = prepared.result()
            if index + 1 < len(items):
                prepared = ahead.submit(prepare, items[index + 1])
            yield index, function(ready)


def _prepare_and_compute(function: Callable[[Any], Any], prepare: Callable[[Any], Any], item: Any) -> Any:
    return function(prepare(item))


@contextmanager
def _local_workers(jobs: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))  # inherited by the workers
    settings = {
        # Without MALLOC_TRIM_THRESHOLD_, with which a worker returns memory to the system and fetches it all the time.
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_SETTINGS, "1"),
        "distributed.scheduler.allowed-failures": 0,
        "distributed.admin.large-graph-warning-threshold": "1GB",
    }
    _silence_dask()
    with dask.config.set(settings):
        with _ctrl_c_blocked():  # a worker never receives it: it is stopped by this process
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
        raise UserError(
            f"--scheduler: expected a Dask scheduler at {address}, found none that answers; example: tcp://host:8786"
        ) from error
    with client:
        place = "the scheduler"
        try:
            client.run_on_scheduler(exec, "import scow.features.extract")  # it unpickles what it passes on
            place = "the workers"
            restrictions = {"resources": dict(resources)} if resources else {}
            first = client.submit(exec, "import scow.features.extract", pure=False, **restrictions)
            try:
                first.result(timeout=ANSWER_S)
            except TimeoutError:
                offers = "".join(f" that offers {name}={n:g}" for name, n in resources.items())
                print(f"waiting for a worker of {address}{offers}", file=sys.stderr, flush=True)
                first.result()
            client.run(exec, "import scow.features.extract")
        except ImportError as error:
            raise UserError(
                f"--scheduler: {place} of {address} cannot import scow ({error}); "
                "start scheduler and workers with its folder in PYTHONPATH and its requirements installed"
            ) from error
        yield client


def _silence_dask() -> None:
    """No log lines of Dask, also not by handlers of the caller; errors are reported here, in one line."""
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, and in the threads and processes that are started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
