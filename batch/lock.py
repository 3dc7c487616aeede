"""One run at a time on one report."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.errors import LockedError
from batch.location import Url, location_of
from batch.names import path_text
from batch.reports.output import is_streamed
from batch.reports.publish import ELSEWHERE, resolved, writing

# Seconds between two looks at a lock that is waited for.
LOOK_EVERY = 0.5

Waiting = Callable[[], None]


@contextmanager
def locked(
    output: str, waiting: Waiting | None = None, report: str | None = None
) -> Iterator[None]:
    """Hold the lock of a report, or of another file, while the block runs.

    The lock is an advisory one (``flock``) on a hidden file beside the report, so it ends
    with the process, however that dies; the file is removed in the end. Standard output,
    pipes, devices and URLs have no lock; that of a URL's journal stands for it. While another
    process holds it, ``waiting`` is called again and again, and ends the waiting by raising what
    it likes. ``report`` is what messages name in place of ``output``.

    Raises:
        LockedError: another process holds it, and nobody wants to wait.
        OutputError: the lock file can't be made.
    """
    place = location_of(output)
    if is_streamed(output) or isinstance(place, Url):
        yield
        return
    file = resolved(place)
    path = file.with_name(f".{file.name}.lock")
    descriptor = _acquire(path, report or path_text(file), waiting)
    try:
        yield
    finally:
        # Removed while still held: whoever waits for this very file then finds, by
        # `_is_current`, that it has lost its name and makes a new one.
        with suppress(OSError):  # the folder may be gone or read-only by now
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, output: str, waiting: Waiting | None) -> int:
    while True:
        with writing(f"report {output}"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if waiting is None:
                raise LockedError(
                    f"another run is writing {output}",
                    f"wait for it to end, with --wait, or {ELSEWHERE}",
                ) from error
            waiting()
            time.sleep(LOOK_EVERY)
            continue
        if _is_current(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_current(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
