"""Two folders that exchange their names in one step, where the system can do it."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# Source: renameat2(2), <linux/fs.h> and <fcntl.h>.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_HERE = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP))


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders at once; False where this can't be done here.

    Linux can, on its own file systems (ext4, XFS, Btrfs, tmpfs, ...), but not over NFS.

    Raises:
        OSError: the system refuses.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # another system, or a C library without it
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))
