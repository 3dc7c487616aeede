"""Lock that lets only one run at a time write a report or journal.

The ``filelock`` package does not serve: it neither removes its files nor takes over those of other
users, and it reports a file system without locks as a busy lock.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.errors import LockedError
from batch.files.publish import is_streamed, resolve_path
from batch.files.regular_file import is_current, open_lockable, try_lock
from batch.location import Url, parse_location
from batch.os_errors import OUTPUT_REMEDY, translate_write_errors
from batch.path_text import path_text

POLL_SECONDS = 0.5  # between two attempts to get a lock

# Called before each wait for a lock; raises an exception to end the wait.
OnWait = Callable[[], None]


@contextmanager
def hold_lock(
    output: str,
    on_wait: OnWait | None = None,
    report: str | None = None,
    noun: str = "report",
    remedy: str = OUTPUT_REMEDY,
) -> Iterator[None]:
    """Hold the lock of a report or journal while the block runs.

    The lock is advisory (``flock``) on a hidden file beside the output, so it ends with the
    process. Standard output, pipes and devices have no lock; nor do URLs, whose journals are
    locked instead.

    Args:
        output: the file to lock.
        on_wait: called while another process holds the lock; None to fail instead of waiting.
        report: name of the file in messages; None for ``output``.
        noun: what messages call the file.
        remedy: how to choose another path.

    Raises:
        LockedError: another process holds the lock and ``on_wait`` is None.
        OutputError: the lock file can't be made.
    """
    location = parse_location(output)
    if is_streamed(output) or isinstance(location, Url):
        yield
        return
    file = resolve_path(location)
    path = lock_path(file)
    descriptor = _acquire(path, f"{noun} {report or path_text(file)}", on_wait, remedy)
    try:
        yield
    finally:
        # Removed while it is held: a process that waits for it finds, by `is_current`, that it is
        # gone, and makes a new one.
        with suppress(OSError):  # the folder may have been removed or made read-only
            if _may_remove(path, descriptor):
                path.unlink()
        os.close(descriptor)


def lock_path(file: Path) -> Path:
    """Return the path of a file's lock."""
    return file.with_name(f".{file.name}.lock")


def _acquire(path: Path, name: str, on_wait: OnWait | None, remedy: str) -> int:
    while True:
        with translate_write_errors(name, remedy):
            descriptor = open_lockable(path, create=True)
            try:
                is_held = try_lock(descriptor)
                if is_held and is_current(path, descriptor):
                    return descriptor
            except OSError:
                os.close(descriptor)
                raise
        os.close(descriptor)
        if is_held:
            continue
        if on_wait is None:
            raise LockedError(
                f"another run is writing the {name}",
                f"wait for it to end, run with --wait, or {remedy}",
            )
        on_wait()
        time.sleep(POLL_SECONDS)


def _may_remove(path: Path, descriptor: int) -> bool:
    """Return whether a file is still this program's lock, which is always empty."""
    status = os.fstat(descriptor)
    is_empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return is_empty and is_current(path, descriptor)
