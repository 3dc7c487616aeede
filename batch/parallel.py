"""Parallel work on threads, and the number of cores available to this process.

Sources: Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and
Documentation/scheduler/sched-bwc.rst (version 1, ``cpu.cfs_quota_us``) of the Linux kernel.
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath
from typing import TypeVar

from batch.errors import WorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_PER_WORKER = 4  # items in flight per worker: enough to hide one slow photo

CGROUP_MEMBERSHIP_FILE = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cores(membership: Path = CGROUP_MEMBERSHIP_FILE, groups: Path = CGROUP_ROOT) -> int:
    """Return the number of cores that this process may use, at least 1.

    The CPU affinity and the quotas of the process's control groups limit it: a container sees all
    cores of the machine, even if its quota is 1.5. A fraction counts as a whole core.

    Args:
        membership: file that lists the control groups of the process.
        groups: where control groups are mounted.
    """
    # macOS has no affinity.
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _read_quotas(membership, groups))])


def _read_quotas(membership: Path, groups: Path) -> Iterator[float]:
    """Yield the quota, in cores, of each limited control group around the process."""
    for line in _read_text(membership).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0":
            # On a hybrid system, version 2 is mounted one level below version 1.
            for root in (groups, groups / "unified"):
                yield from _read_group_and_parents(root, group, _read_quota_v2)
        elif "cpu" in controllers.split(","):
            for root in (groups / "cpu", groups / controllers):
                yield from _read_group_and_parents(root, group, _read_quota_v1)


def _read_group_and_parents(
    root: Path, group: str, read_quota: Callable[[Path], float | None]
) -> Iterator[float]:
    """Yield the quotas of a group and all its parents, which limit it as well."""
    inside = PurePosixPath(group.lstrip("/"))
    # In a container the path may be the host's, of which only the root exists.
    for part in (inside, *inside.parents):
        quota = read_quota(root / part)
        if quota is not None:
            yield quota


def _read_quota_v2(group: Path) -> float | None:
    return _parse_quota(*_read_text(group / "cpu.max").split()[:2])


def _read_quota_v1(group: Path) -> float | None:
    return _parse_quota(
        _read_text(group / "cpu.cfs_quota_us"), _read_text(group / "cpu.cfs_period_us")
    )


def _parse_quota(quota: str = "", period: str = "") -> float | None:
    """Return microseconds of CPU time per period as cores; None if unlimited ("max" or -1)."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, in_order: bool = True
) -> Generator[Result, None, None]:
    """Apply a function to items on several threads and yield the results.

    Threads share one interpreter, so this helps only if the function mostly waits. Closing the
    iterator drops calls that have not started.

    Args:
        function: applied to each item.
        items: read at most ``workers * ITEMS_PER_WORKER`` items ahead of the results.
        workers: number of threads.
        in_order: yield results in the order of the items, else as soon as they are ready.

    Raises:
        WorkerError: a thread can't be started.
    """
    waiting: collections.deque[Future[Result]] = collections.deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="photo")
    try:
        for item in items:
            waiting.append(submit(pool, function, item))
            if len(waiting) >= workers * ITEMS_PER_WORKER:
                yield _pop_done(waiting, in_order).result()
        while waiting:
            yield _pop_done(waiting, in_order).result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pop_done(waiting: collections.deque[Future[Result]], in_order: bool) -> Future[Result]:
    if in_order:
        return waiting.popleft()
    done = next(iter(wait(waiting, return_when=FIRST_COMPLETED).done))
    waiting.remove(done)
    return done


def submit(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], item: Item
) -> Future[Result]:
    """Submit a call to a pool.

    Raises:
        WorkerError: the pool can't start a thread.
    """
    try:
        return pool.submit(function, item)
    except RuntimeError as error:
        raise make_thread_error(error) from error


def make_thread_error(error: RuntimeError) -> WorkerError:
    """Return the exception for a thread that can't be started."""
    return WorkerError(
        f"a thread can't be started ({error})",
        "allow more processes (ulimit -u, TasksMax or pids.max), or ask for fewer --workers",
    )
