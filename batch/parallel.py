"""How many cores this process may use: its affinity, and the quotas of the groups it is in.

Control groups: the kernel's Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and
Documentation/scheduler/sched-bwc.rst (version 1, ``cpu.cfs_quota_us``).
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

CGROUP_MEMBERSHIP_FILE = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cores(membership: Path = CGROUP_MEMBERSHIP_FILE, groups: Path = CGROUP_ROOT) -> int:
    """Count the cores that this process may use, at least 1.

    A container that is given one and a half cores still sees all of the machine's; more threads
    than its quota would only be stopped in turns. A part of a core counts as one.
    ``membership`` says which control groups the process is in, ``groups`` is where they are
    mounted.
    """
    return min(
        [_allowed_cores(), *(max(1, math.ceil(q)) for q in _read_quotas(membership, groups))]
    )


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_quotas(membership: Path, groups: Path) -> Iterator[float]:
    """Give the cores that each group around the process is limited to, if it is."""
    for line in _read_text(membership).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0":
            # Beside version 1 (a hybrid system) version 2 is mounted one level down.
            for root in (groups, groups / "unified"):
                yield from _read_group_and_parents(root, group, _read_quota_v2)
        elif "cpu" in controllers.split(","):
            for root in (groups / "cpu", groups / controllers):
                yield from _read_group_and_parents(root, group, _read_quota_v1)


def _read_group_and_parents(
    root: Path, group: str, quota_of: Callable[[Path], float | None]
) -> Iterator[float]:
    """Ask a group and all above it: the smallest quota counts, whoever set it."""
    inside = PurePosixPath(group.lstrip("/"))
    # In a container the group's path may be the host's, and only the root is there.
    for part in (inside, *inside.parents):
        quota = quota_of(root / part)
        if quota is not None:
            yield quota


def _read_quota_v2(group: Path) -> float | None:
    return _parse_quota(*_read_text(group / "cpu.max").split()[:2])


def _read_quota_v1(group: Path) -> float | None:
    return _parse_quota(
        _read_text(group / "cpu.cfs_quota_us"), _read_text(group / "cpu.cfs_period_us")
    )


def _parse_quota(quota: str = "", period: str = "") -> float | None:
    """Microseconds of work over those of a period; None for "max", -1 and what can't be read."""
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


# == A map over threads with bounded work in flight.

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results a worker may be ahead of the reader; enough to hide one slow photo.
ITEMS_PER_WORKER = 4


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
    """Have a pool apply a function to an item.

    Raises:
        WorkerError: the pool can't start a thread.
    """
    try:
        return pool.submit(function, item)
    except RuntimeError as error:
        raise make_thread_error(error) from error


def make_thread_error(error: RuntimeError) -> WorkerError:
    """Make the exception for a thread that can't be started."""
    return WorkerError(
        f"a thread can't be started ({error})",
        "allow more processes (ulimit -u, TasksMax or pids.max), or ask for fewer --workers",
    )
