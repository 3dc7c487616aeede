"""Records of files that discovery found, made from untrusted listings."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple, TypeGuard

from batch.file_types import SUFFIXES
from batch.location import Location, parse_location
from batch.records import Failure, Reason, Stage

# Longest path of a file, far beyond the limits of file systems (4 KiB) and stores (1 KiB).
MAX_PATH_BYTES = 32 * 1024
_SHORT_PATH_CHARS = MAX_PATH_BYTES // 4  # a character takes at most four bytes
_KEPT_PATH_BYTES = 1024  # of a longer path, before its digest
MAX_ETAG_CHARS = 1024
# The journal and Parquet store sizes and times as signed 64-bit integers.
_MAX_INT64 = 2**63 - 1


class FoundFile(NamedTuple):
    """A file that was found; a field is None if unknown.

    Attributes:
        path: a path or the text of a URL.
        size: bytes.
        mtime_ns: time of last modification, nanoseconds since 1970.
        failure: why the file could not be examined.
        etag: entity tag of an object in a store.
        position: number of the file among all files found, from 1; set if the run labels one shard.
        ctime_ns: time of last status change, nanoseconds since 1970; see ``read_change_key``.
        inode: inode number; see ``read_change_key``.
    """

    path: str
    size: int | None = None
    mtime_ns: int | None = None
    failure: Failure | None = None
    etag: str | None = None
    position: int | None = None
    ctime_ns: int | None = None
    inode: int | None = None

    @property
    def location(self) -> Location:
        """The file's path, or its URL with size, mtime and ETag."""
        location = parse_location(self.path)
        if isinstance(location, Path):
            return location
        return replace(location, size=self.size, mtime_ns=self.mtime_ns, etag=self.etag)


def make_found(
    path: str, size: object = None, mtime_ns: object = None, etag: object = None
) -> FoundFile:
    """Make the record of a file from the values in an archive, on a server or in a manifest.

    Args:
        path: its path; one of more than ``MAX_PATH_BYTES`` gives a shortened path and a failure.
        size: bytes; None unless it is a whole number from 0 to 2**63 - 1.
        mtime_ns: nanoseconds since 1970, clamped to 64 bits.
        etag: None unless it is printable text of at most ``MAX_ETAG_CHARS`` characters.
    """
    if _is_too_long(path):
        return make_failed(path, Reason.UNREADABLE, "")
    if not is_size(size):
        size = None
    mtime_ns = clamp_time(mtime_ns if type(mtime_ns) is int else None)
    if not (isinstance(etag, str) and len(etag) <= MAX_ETAG_CHARS and etag.isprintable()):
        etag = None
    return FoundFile(path, size, mtime_ns, None, etag)


def make_failed(path: str, reason: Reason, detail: str) -> FoundFile:
    """Make the record of a file that can't be examined; a path that is too long is shortened."""
    short = shorten_path(path)
    if short != path:
        reason, detail = Reason.UNREADABLE, f"its path has more than {MAX_PATH_BYTES:,} bytes"
    failure = Failure(parse_location(short), Stage.READ, reason, detail)
    return FoundFile(short, failure=failure)


def make_regular(path: str, status: os.stat_result) -> FoundFile:
    """Make the record of a regular file on a file system from its status."""
    size, mtime_ns, ctime_ns = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    # Fast path for nearly all of possibly millions of files.
    is_ordinary = (
        len(path) < _SHORT_PATH_CHARS and 0 <= size <= _MAX_INT64 and status.st_ino <= _MAX_INT64
    )
    if is_ordinary and 0 <= mtime_ns <= _MAX_INT64 and 0 <= ctime_ns <= _MAX_INT64:
        return FoundFile(path, size, mtime_ns, None, None, None, ctime_ns, status.st_ino)
    if _is_too_long(path):
        return make_failed(path, Reason.UNREADABLE, "")
    return FoundFile(path, size, clamp_time(mtime_ns), None, None, None, *read_change_key(status))


def shorten_path(path: str) -> str:
    """Shorten a path of more than ``MAX_PATH_BYTES``; its SHA-256 and suffix replace the rest.

    So different paths stay different, and an image keeps its suffix.
    """
    data = os.fsencode(path)
    if len(data) <= MAX_PATH_BYTES:
        return path
    suffix = splitext(path)[1]
    known = suffix if suffix.lower() in SUFFIXES else ""
    return os.fsdecode(data[:_KEPT_PATH_BYTES]) + f"...{sha256(data).hexdigest()}{known}"


def _is_too_long(path: str) -> bool:
    return len(path) > _SHORT_PATH_CHARS and shorten_path(path) != path


def clamp_time(mtime_ns: int | None) -> int | None:
    """Clamp nanoseconds since 1970 to 64 bits, which end in 2262; files may be later."""
    return None if mtime_ns is None else max(-_MAX_INT64 - 1, min(mtime_ns, _MAX_INT64))


def read_change_key(status: os.stat_result) -> tuple[int, int]:
    """Return a file's ctime (nanoseconds) and inode number, each within 64 bits.

    They reveal that a file was replaced or changed, even if its size and mtime are the same: no
    program can set a ctime.
    """
    return max(-_MAX_INT64 - 1, min(status.st_ctime_ns, _MAX_INT64)), status.st_ino & _MAX_INT64


def is_size(size: object) -> TypeGuard[int]:
    """Return whether a value is a file size: a whole number from 0 to 2**63 - 1."""
    return type(size) is int and 0 <= size <= _MAX_INT64


def to_nanoseconds(time: object) -> int | None:
    """Convert a datetime or seconds since 1970 to nanoseconds; None for any other value."""
    try:
        seconds = time.timestamp() if isinstance(time, datetime) else time
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            return int(seconds * 1_000_000_000)
    except (ValueError, OverflowError, OSError):  # NaN, infinity, or a year out of range
        pass
    return None
