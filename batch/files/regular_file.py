"""Opening of files that others may exchange at any moment: regular files only, without waiting."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

# What the journal can hold: 64 bits with a sign.
_MAX_INT64 = 2**63 - 1


class NotRegularFile(OSError):
    """There is something else than a regular file: a pipe, a socket, a device or a folder."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "not a regular file")


def read_change_key(status: os.stat_result) -> tuple[int, int]:
    """Give what tells an inode from another and from its old self, whatever its size and mtime.

    That is its ctime in nanoseconds, which no program can set, and its number, both brought into
    63 bits.
    """
    return max(-_MAX_INT64 - 1, min(status.st_ctime_ns, _MAX_INT64)), status.st_ino & _MAX_INT64


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        NotRegular: it is something else.
        OSError: the system refuses.
    """
    return open(path, "rb", opener=_open)


def open_nonblocking(path: str, flags: int) -> int:
    """Open a file as ``os.open`` does; a pipe that has taken its place is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _open(path: str, flags: int) -> int:
    descriptor = open_nonblocking(path, flags)
    try:
        if S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        raise NotRegularFile
    except BaseException:
        os.close(descriptor)
        raise


# == Reads small files and objects whole, whatever has come to lie in their place.

# Of a run's record, and of a file of metrics: they have some kilobytes.
MAX_RECORD_BYTES = 8 << 20
# Of the list of a dataset's files: a file takes some 200 bytes, and has up to 1,000,000 rows.
MAX_SUCCESS_BYTES = 64 << 20


def read_file(path: Path, limit: int) -> bytes | None:
    """Read a file; None if it has more bytes than ``limit``, or is no regular file.

    No pipe is waited for.

    Raises:
        OSError: the system refuses, or there is no such file.
    """
    data = read_file_start(path, limit + 1)
    return data if data is not None and len(data) <= limit else None


def read_file_start(path: Path, number: int) -> bytes | None:
    """Read up to so many bytes of a file; None if it is no regular file.

    Raises:
        OSError: as ``read_file`` does.
    """
    try:
        with open_regular(path) as file:
            return file.read(number)
    except NotRegularFile:
        return None
