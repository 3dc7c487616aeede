"""Reads small files and objects whole, whatever has come to lie in their place."""

from __future__ import annotations

from pathlib import Path

from batch.regular_file import NotRegular, open_regular
from batch.stopping import Check, never_stop
from batch.stores import download

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
    except NotRegular:
        return None


def read_object(url: str, limit: int, check: Check = never_stop) -> bytes | None:
    """Read an object; None if it has more bytes than ``limit``.

    Raises:
        Exception: the store refuses, or there is no such object: see ``store_refusals``.
    """
    data = download.read_object(url, limit + 1, check)
    return data if len(data) <= limit else None
