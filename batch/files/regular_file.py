"""Opening and locking of files that other processes may replace at any moment.

No function here waits for a pipe or a device. Files that this program makes are never opened
through a symbolic link.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

_OWN_FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotRegularFile(OSError):
    """The path leads to a pipe, socket, device or folder instead of a regular file."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "not a regular file")


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading; symbolic links are followed.

    Raises:
        NotRegularFile: it is not a regular file.
        OSError: it can't be opened.
    """
    return open(path, "rb", opener=_open_regular)


def read_regular(path: Path, max_bytes: int) -> bytes | None:
    """Read a whole file; None if it has more than ``max_bytes`` or is not a regular file.

    Raises:
        OSError: it is missing or can't be read.
    """
    data = read_start(path, max_bytes + 1)
    return data if data is not None and len(data) <= max_bytes else None


def read_start(path: Path, size: int) -> bytes | None:
    """Read up to ``size`` bytes from the start of a file; None if it is not a regular file.

    Raises:
        OSError: it is missing or can't be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(size)
    except NotRegularFile:
        return None


def open_nonblocking(path: str, flags: int) -> int:
    """Open a file as ``os.open`` does, without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def open_lockable(
    path: str | os.PathLike[str], *, create: bool = False, dir_fd: int | None = None
) -> int:
    """Open a file of this program to lock it.

    It is opened for writing, as NFS locks only such files, or for reading if writing is denied.

    Args:
        path: the file; a symbolic link is refused.
        create: create the file if it is missing.
        dir_fd: descriptor of the folder that ``path`` is relative to.

    Raises:
        OSError: it can't be opened.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | _OWN_FILE_FLAGS
    try:
        return os.open(path, flags, 0o666, dir_fd=dir_fd)
    except PermissionError:
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | _OWN_FILE_FLAGS, dir_fd=dir_fd)
        raise


def open_folder(path: str | os.PathLike[str], dir_fd: int | None = None) -> int:
    """Open a folder; a symbolic link is refused.

    Raises:
        OSError: it is not a folder or can't be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, dir_fd=dir_fd)


def try_lock(descriptor: int) -> bool:
    """Lock a file until its descriptor is closed; False if another process holds the lock.

    Raises:
        OSError: the file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(path: Path, descriptor: int) -> bool:
    """Return whether ``path`` still names the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_regular(path: str, flags: int) -> int:
    descriptor = open_nonblocking(path, flags)
    try:
        if S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        raise NotRegularFile
    except BaseException:
        os.close(descriptor)
        raise
