"""A map over threads with bounded work in flight."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from batch.errors import WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results a worker may be ahead of the reader; enough to hide one slow photo.
AHEAD = 4


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, in_order: bool = True
) -> Generator[Result, None, None]:
    """Apply a function to items on ``workers`` threads and yield the results.

    They come ``in_order`` or as they are ready. At most ``workers * AHEAD`` items are taken before
    their results are asked for. Threads share one interpreter, so this pays if a function waits
    for others. Closing the iterator drops what has not started.
    """
    waiting: collections.deque[Future[Result]] = collections.deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="photo")
    try:
        for item in items:
            waiting.append(submit(pool, function, item))
            if len(waiting) >= workers * AHEAD:
                yield _take(waiting, in_order).result()
        while waiting:
            yield _take(waiting, in_order).result()
    finally:
        pool.shutdown(cancel_futures=True)


def _take(waiting: collections.deque[Future[Result]], in_order: bool) -> Future[Result]:
    if in_order:
        return waiting.popleft()
    done = next(iter(wait(waiting, return_when=FIRST_COMPLETED).done))
    waiting.remove(done)
    return done


def submit(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], item: Item
) -> Future[Result]:
    """Have a pool apply a function to an item.

    Raises:
        WorkerError: the pool can't start a thread.
    """
    try:
        return pool.submit(function, item)
    except RuntimeError as error:
        raise no_thread(error) from error


def no_thread(error: RuntimeError) -> WorkerError:
    """Make the exception for a thread that can't be started."""
    return WorkerError(
        f"a thread can't be started ({error})",
        "allow more processes (ulimit -u, TasksMax or pids.max), or ask for fewer --workers",
    )
