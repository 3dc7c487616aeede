"""Reads the whole file of a photo, or returns a failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from batch.files.regular_file import NotRegularFile, open_regular
from batch.found import read_change_key
from batch.options import MAX_FILE_BYTES
from batch.os_errors import classify_read_error, describe_os_error
from batch.records import Failure, FileState, Reason, Stage


def read_file(path: Path) -> bytes | Failure:
    """Read a regular file of at most ``MAX_FILE_BYTES``, without blocking on a pipe."""
    read = read_file_with_state(path)
    return read if isinstance(read, Failure) else read[0]


def read_file_with_state(
    path: Path, max_bytes: int = MAX_FILE_BYTES
) -> tuple[bytes, FileState] | Failure:
    """Read a file as ``read_file`` does, and return its state from just before.

    If the file changes while it is read, the next run finds another size or time.
    """
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size > max_bytes:
                detail = f"{status.st_size:,} bytes, more than --max-file-size {max_bytes:,}"
                return Failure(path, Stage.READ, Reason.TOO_LARGE, detail)
            # At most one byte more than its size, so that a growing file is not read forever.
            data = file.read(status.st_size + 1)
            ctime_ns, inode = read_change_key(status)
            state = FileState(status.st_size, status.st_mtime_ns, ctime_ns=ctime_ns, inode=inode)
            return data, state
    except MemoryError:
        return Failure(path, Stage.READ, Reason.TOO_LARGE, "not enough memory for the file")
    except NotRegularFile as error:
        return Failure(path, Stage.READ, Reason.NOT_A_FILE, describe_os_error(error))
    except OSError as error:
        return Failure(path, Stage.READ, _classify_error(error), describe_os_error(error, path))


def _classify_error(error: OSError) -> Reason:
    # Opening a socket fails with ENXIO.
    if isinstance(error, IsADirectoryError) or error.errno == errno.ENXIO:
        return Reason.NOT_A_FILE
    return classify_read_error(error)
