"""One run at a time on one report."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.errors import LockedError
from batch.output import is_device, is_stdout
from batch.publish import ELSEWHERE, resolved, writing


@contextmanager
def locked(output: str) -> Iterator[None]:
    """Hold the lock of a report while the block runs.

    The lock is an advisory one (``flock``) on a hidden file beside the report, so it ends
    with the process, however that dies; the file is removed in the end. Standard output,
    pipes and devices have no lock.

    Raises:
        LockedError: another process holds it.
        OutputError: the lock file can't be made.
    """
    if is_stdout(output) or is_device(Path(output)):
        yield
        return
    report = resolved(Path(output))
    path = report.with_name(f".{report.name}.lock")
    descriptor = _acquire(path, report)
    try:
        yield
    finally:
        # Removed while still held: whoever waits for this very file then finds, by
        # `_is_current`, that it has lost its name and makes a new one.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, output: Path) -> int:
    while True:
        with writing(f"report {output}"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise LockedError(
                f"another run is writing {output}", f"wait for it to end or {ELSEWHERE}"
            ) from error
        if _is_current(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_current(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
