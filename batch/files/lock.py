"""One run at a time on one report."""

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

# Seconds between two looks at a lock that is waited for.
POLL_SECONDS = 0.5

OnWait = Callable[[], None]


@contextmanager
def hold_lock(
    output: str,
    on_wait: OnWait | None = None,
    report: str | None = None,
    noun: str = "report",
    elsewhere: str = OUTPUT_REMEDY,
) -> Iterator[None]:
    """Hold the lock of a report, or of another file, while the block runs.

    The lock is an advisory one (``flock``) on a hidden file beside the report, so it ends
    with the process, however that dies; the file is removed in the end. Standard output,
    pipes, devices and URLs have no lock; that of a URL's journal stands for it. While another
    process holds it, ``waiting`` is called again and again, and ends the waiting by raising what
    it likes. ``report`` is what messages name in place of ``output``, ``noun`` is what that is, and
    ``elsewhere`` how to choose another.

    Raises:
        LockedError: another process holds it, and nobody wants to wait.
        OutputError: the lock file can't be made.
    """
    place = parse_location(output)
    if is_streamed(output) or isinstance(place, Url):
        yield
        return
    file = resolve_path(place)
    path = lock_path(file)
    descriptor = _acquire(path, f"{noun} {report or path_text(file)}", on_wait, elsewhere)
    try:
        yield
    finally:
        # Removed while still held: whoever waits for this very file then finds, by
        # `is_current`, that it has lost its name and makes a new one.
        with suppress(OSError):  # the folder may be gone or read-only by now
            if _may_remove(path, descriptor):
                path.unlink()
        os.close(descriptor)


def lock_path(file: Path) -> Path:
    """Name the lock of a file."""
    return file.with_name(f".{file.name}.lock")


def _acquire(path: Path, what: str, on_wait: OnWait | None, elsewhere: str) -> int:
    while True:
        with translate_write_errors(what, elsewhere):
            # The lock of another user's killed run can mostly be opened for reading.
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
                f"another run is writing the {what}",
                f"wait for it to end (a run does so with --wait), or {elsewhere}",
            )
        on_wait()
        time.sleep(POLL_SECONDS)


def _may_remove(path: Path, descriptor: int) -> bool:
    """Tell whether a lock may be removed: nothing is ever written into one of this program."""
    status = os.fstat(descriptor)
    is_empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return is_empty and is_current(path, descriptor)
