"""The processes that work on many associations: those of this machine's processors, or of a dask cluster that runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import OptionsError
from .fits_settings import read_settings_once
from .garbage import collect_rarely

if TYPE_CHECKING:
    from distributed import Client

ANSWER = 20  # seconds that a scheduler has to answer
# With what dask sets here, workers give freed memory back at once and fetch it anew: a tenth or more of their time.
_TRIM = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"


@contextmanager
def client_of(workers: int | None, scheduler: str | None, n_tasks: int) -> Iterator[Client]:
    """A client of a dask cluster: processes of this machine, ended with the `with` block, or one that runs already.

    The processes share the processors: each computes with as many threads as there are processors for it.

    Args:
        workers: number of processes; by default one for each processor, and never more than tasks.
        scheduler: address of a running scheduler instead.
        n_tasks: number of tasks.

    Raises:
        OptionsError: no scheduler answers; both are given; a number below one.

    Example:
        >>> with client_of(1, "tcp://localhost:1", 1):
        ...     pass
        Traceback (most recent call last):
        ...
        coronjax.errors.OptionsError: workers=1 and scheduler='tcp://localhost:1': give one of them
    """
    if workers is not None and scheduler is not None:
        raise OptionsError(f"workers={workers} and scheduler={scheduler!r}: give one of them")
    if workers is not None and workers < 1:
        raise OptionsError(f"workers={workers} must be at least 1")
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=ANSWER, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OptionsError(f"scheduler={scheduler!r}: no dask scheduler answers there") from error
        with client:
            yield client
        return
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or processors, n_tasks)
    threads = max(1, processors // count)
    with (
        dask.config.set({_TRIM: None}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            env=_environment(threads),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_worker_callbacks(_set_up)  # of workers that take the place of others too
        yield client


def _set_up() -> None:
    """What a worker, which is a process of ours, does less often than Python and astropy by themselves."""
    collect_rarely()
    read_settings_once()


def _environment(threads: int) -> dict[str, str]:
    """What keeps a process to its share of the processors: XLA and LAPACK start one thread for each otherwise."""
    names = ("NPROC", "PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    flags = os.environ.get("XLA_FLAGS", "")
    single = " --xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    return {**dict.fromkeys(names, str(threads)), "XLA_FLAGS": f"{flags}{single}".strip()}


def each_result(
    client: Client, function: Callable[[Any], Any], tasks: Sequence[Any]
) -> Iterator[tuple[Any, Any, str | None]]:
    """Call a function on every task, and yield task, result and what went wrong, as they are finished.

    A worker that dies has its task taken over by another; a task that has lost four workers is given up.

    Args:
        client: of the cluster.
        function: of one task; what it raises is yielded as text.
        tasks: to be done.
    """
    from distributed import KilledWorker, as_completed

    futures = client.map(function, tasks, pure=False)
    by_key = {future.key: task for future, task in zip(futures, tasks, strict=True)}
    for future in as_completed(futures, loop=client.loop, raise_errors=False):
        error = future.exception()
        if error is None:
            yield by_key[future.key], future.result(), None
        elif isinstance(error, KilledWorker):
            yield by_key[future.key], None, "every worker that tried was killed, by the system if memory ran out"
        else:
            yield by_key[future.key], None, f"{type(error).__name__}: {error}"
        future.release()
