"""Where the work runs: tasks side by side and one grouping, on this machine or on a Ray cluster.

Here a pool of processes does the tasks and Daft the grouping; on a cluster Daft does both through Ray. This is the one
module that knows Daft. A task is a picklable value and a module-level function of it; what it reads and writes are
Parquet files, so that the outcome does not depend on where or how often a task ran. Another engine would have to offer
these two functions.
"""

import gc
import importlib
import logging
import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from starsmith.core.errors import InputError, StarsmithError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

# Neither library may report home; both read this when they are imported.
_QUIET = {"DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0", "RAY_USAGE_STATS_ENABLED": "0"}
IN_PROCESS_BYTES = 64 * 2**20  # below this, starting other processes costs more than the work

_LOADED_ONCE = "starsmith.corpus.work"  # what all processes need; those that are forked later have it already

ALLOCATIONS_BETWEEN = 200_000  # that are left, until cycles are looked for
KNOCK_S = 10.0
ROWS_OF_A_PARTITION = 2_000_000  # of keys, on a cluster


@dataclass(frozen=True)
class Engine:
    """This machine, or the Ray cluster at an address ("auto", "host:6379", "ray://host:10001").

    Used as a context manager it ends its processes, which otherwise wait for more work until the program ends.
    """

    ray_address: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if processes := vars(self).pop("_processes", None):
            processes.shutdown(cancel_futures=True)

    def run(self, function: Callable[[Task], Outcome], tasks: Sequence[Task], *, size_bytes: int) -> Iterator[Outcome]:
        """The outcome of each task, in order, as they come.

        function    importable by name in another process
        size_bytes  of the content behind all tasks: small work stays in this process, and all of it on one core

        A StarsmithError of a task is raised here; after it no outcome comes, and no further task begins.
        """
        if self.ray_address is not None:
            return self._on_ray(function, tasks)
        if len(tasks) < 2 or size_bytes < IN_PROCESS_BYTES or _cores() == 1:
            return map(function, tasks)
        return self._in_processes(function, tasks)

    def _in_processes(self, function: Callable[[Task], Outcome], tasks: Sequence[Task]) -> Iterator[Outcome]:
        futures = [self._processes.submit(function, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            vars(self).pop("_processes")
            raise StarsmithError(
                "a worker process ended before its work, perhaps for want of memory",
                hint="run the same command again, what was done is kept; a script of your own needs its "
                "`if __name__ == '__main__':`",
            ) from None
        finally:
            for future in futures:
                future.cancel()

    def _on_ray(self, function: Callable[[Task], Outcome], tasks: Sequence[Task]) -> Iterator[Outcome]:
        daft = self._daft()

        def outcomes(batch: Any) -> list[bytes]:
            return [_outcome(function, task) for task in batch.to_pylist()]

        call = daft.func.batch(return_dtype=daft.DataType.binary(), batch_size=1)(outcomes)
        frame = daft.from_pydict({"task": [pickle.dumps(task) for task in tasks]}).into_partitions(max(len(tasks), 1))
        for row in frame.select(call(frame["task"]).alias("outcome")).iter_rows():
            outcome = pickle.loads(row["outcome"])  # noqa: S301 written by our own tasks
            if isinstance(outcome, StarsmithError):
                raise outcome
            yield outcome

    @cached_property
    def _processes(self) -> ProcessPoolExecutor:
        """As many as there are cores, for all rounds of tasks: each loads once what there is to load."""
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if hasattr(context, "set_forkserver_preload"):
            context.set_forkserver_preload([_LOADED_ONCE])
        return ProcessPoolExecutor(_cores(), mp_context=context, initializer=_prepare)

    def meeting_places(self, numbers: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(E, 2) pairs (smallest number of a group, another of it) of every group of rows that share a key.

        numbers  (N,) of the rows
        keys     (N, K): two rows meet when they share one (those of different bands differ by how they are made)
        """
        daft = self._daft()
        number = daft.col("number")
        if self.ray_address is None:
            frame = daft.from_arrow(_meeting(numbers, keys))
        else:
            table = pa.table({"number": np.repeat(numbers, keys.shape[1]), "key": keys.reshape(-1)})
            frame = daft.from_arrow(table).into_partitions(len(table) // ROWS_OF_A_PARTITION + 1)
        meetings = (
            frame.groupby("key")
            .agg(number.min().alias("first"), number.max().alias("last"))
            .where(daft.col("first") != daft.col("last"))
            .select("key", "first")
        )
        pairs = frame.join(meetings, on="key").where(daft.col("first") != number).select("first", "number").distinct()
        found = pairs.to_arrow()
        stacked = np.stack([found["first"].to_numpy(), found["number"].to_numpy()], axis=1)
        return stacked[np.lexsort((stacked[:, 1], stacked[:, 0]))]

    def _daft(self) -> Any:
        os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
        if self.ray_address is None:  # else Daft imports Ray, where that is installed, to ask for a cluster
            os.environ.setdefault("DAFT_RUNNER", "native")
        daft = importlib.import_module("daft")
        if self.ray_address is not None:
            _join_cluster(daft, self.ray_address)
        return daft


def _meeting(numbers: NDArray[np.int64], keys: NDArray[np.uint64]) -> pa.Table:
    """number and key of each row, of those keys that occur more than once: few, and spares Daft most of its work."""
    flat = keys.reshape(-1)
    order = np.argsort(flat)
    ordered = flat[order]
    same = ordered[1:] == ordered[:-1]
    chosen = order[np.append(same, False) | np.insert(same, 0, False)]
    return pa.table({"number": numbers[chosen // keys.shape[1]], "key": flat[chosen]})


def _join_cluster(daft: Any, address: str) -> None:
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise InputError(
            "a Ray cluster needs ray, which is not installed", hint="pip install 'starsmith[ray]'"
        ) from None
    if not ray.is_initialized():
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"no Ray cluster answers at {address}: {error}", hint="ray status") from None
    daft.set_runner_ray(noop_if_initialized=True)


def _knock(address: str) -> None:
    """Whether anything listens at HOST:PORT: Ray itself would ask for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto", which Ray looks up by itself
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {error}", hint="ray status") from None


def _outcome(function: Callable[[Any], Any], task: bytes) -> bytes:
    try:
        return pickle.dumps(function(pickle.loads(task)))  # noqa: S301 made by `_on_ray`
    except StarsmithError as error:
        return pickle.dumps(error)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare() -> None:
    """Make this process one of many: the other cores have work of their own."""
    gc.freeze()
    gc.set_threshold(ALLOCATIONS_BETWEEN)
    pa.set_cpu_count(1)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Rows hold no cycles, and there are many: looking for some as often as Python does takes a tenth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(ALLOCATIONS_BETWEEN)
    try:
        yield
    finally:
        gc.set_threshold(*before)
