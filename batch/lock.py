"""One run at a time on one report."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.errors import LockedError
from batch.names import path_text
from batch.output import is_streamed
from batch.publish import ELSEWHERE, resolved, writing

# Seconds between two looks at a lock that is waited for.
LOOK_EVERY = 0.5

Waiting = Callable[[], None]


@contextmanager
def locked(output: str, waiting: Waiting | None = None) -> Iterator[None]:
    """Hold the lock of a report, or of another file, while the block runs.

    The lock is an advisory one (``flock``) on a hidden file beside the report, so it ends
    with the process, however that dies; the file is removed in the end. Standard output,
    pipes and devices have no lock. While another process holds it, ``waiting`` is called
    again and again, and ends the waiting by raising what it likes.

    Raises:
        LockedError: another process holds it, and nobody wants to wait.
        OutputError: the lock file can't be made.
    """
    if is_streamed(output):
        yield
        return
    report = resolved(Path(output))
    path = report.with_name(f".{report.name}.lock")
    descriptor = _acquire(path, report, waiting)
    try:
        yield
    finally:
        # Removed while still held: whoever waits for this very file then finds, by
        # `_is_current`, that it has lost its name and makes a new one.
        with suppress(OSError):  # the folder may be gone or read-only by now
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, output: Path, waiting: Waiting | None) -> int:
    while True:
        with writing(f"report {output}"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if waiting is None:
                raise LockedError(
                    f"another run is writing {path_text(output)}",
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
