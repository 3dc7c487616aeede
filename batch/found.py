"""A file that discovery found."""

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

# The longest path of a file, far beyond what systems (4 KiB) and stores (1 KiB) take. Written with
# escapes it is still a line that the readers of reports take.
MAX_PATH_BYTES = 32 * 1024

_SHORT_PATH_CHARS = MAX_PATH_BYTES // 4  # characters, of which none takes more than four bytes

# What is kept of a longer one, before its digest.
_KEPT_PATH_BYTES = 1024

MAX_ETAG_CHARS = 1024  # characters

# The sizes and times that the journal and Parquet can hold: 64 bits with a sign.
_MAX_INT64 = 2**63 - 1


class FoundFile(NamedTuple):
    """A file that was found, with its size in bytes and time of change (nanoseconds).

    ``path`` may be a URL's text, and ``etag`` what an object store calls this state of the object.
    ``ctime_ns`` and ``inode`` are those of a file on a file system: see ``change_of``. Of a file
    that can't be looked at there is a ``failure`` instead. ``position`` is its number among all
    that were found, from 1 on, where others of them are left to other runs.
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
        """Where the file lies; a URL knows what the listing said of it."""
        place = parse_location(self.path)
        if isinstance(place, Path):
            return place
        return replace(place, size=self.size, mtime_ns=self.mtime_ns, etag=self.etag)


def make_found(
    path: str, size: object = None, mtime_ns: object = None, etag: object = None
) -> FoundFile:
    """Make the record of a file that was found, of whatever its source says about it.

    Archives, servers, inventories and file systems say what they like. What is no size (a whole
    number from 0 to 2**63 - 1) is unknown, and so is an ETag that is no printable text of at most
    ``MAX_ETAG_CHARS`` characters; a time is brought into 64 bits. A path of more than
    ``MAX_PATH_BYTES`` is a failure, whose path is cut.
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
    """Make the record of a file that can't be looked at; a path that is too long is cut."""
    cut = shorten_path(path)
    if cut != path:
        reason, detail = Reason.UNREADABLE, f"its path has more than {MAX_PATH_BYTES:,} bytes"
    failure = Failure(parse_location(cut), Stage.READ, reason, detail)
    return FoundFile(cut, failure=failure)


def _is_too_long(path: str) -> bool:
    # No character takes more than four bytes.
    return len(path) * 4 > MAX_PATH_BYTES and shorten_path(path) != path


def shorten_path(path: str) -> str:
    """Cut a path of more than ``MAX_PATH_BYTES``; its SHA-256 and suffix stand for the rest.

    So no two paths are cut to the same one, and what is an image by its name still is.
    """
    data = os.fsencode(path)
    if len(data) <= MAX_PATH_BYTES:
        return path
    suffix = splitext(path)[1]
    known = suffix if suffix.lower() in SUFFIXES else ""
    return os.fsdecode(data[:_KEPT_PATH_BYTES]) + f"...{sha256(data).hexdigest()}{known}"


def clamp_time(mtime_ns: int | None) -> int | None:
    """Bring a time into 64 bits of nanoseconds, which end in 2262: file systems go further."""
    return None if mtime_ns is None else max(-_MAX_INT64 - 1, min(mtime_ns, _MAX_INT64))


def read_change_key(status: os.stat_result) -> tuple[int, int]:
    """Return a file's ctime (nanoseconds) and inode number, each within 64 bits.

    They tell a file from one that has replaced it and from its own earlier state, even if size
    and mtime are equal: no program can set a ctime.
    """
    return max(-_MAX_INT64 - 1, min(status.st_ctime_ns, _MAX_INT64)), status.st_ino & _MAX_INT64


def is_size(size: object) -> TypeGuard[int]:
    """Tell whether something is a file's size: a whole number that fits into 63 bits."""
    return type(size) is int and 0 <= size <= _MAX_INT64


def to_nanoseconds(time: object) -> int | None:
    """Turn seconds since 1970, or a datetime, into nanoseconds; None where it is no time."""
    try:
        seconds = time.timestamp() if isinstance(time, datetime) else time
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            return int(seconds * 1_000_000_000)
    except (ValueError, OverflowError, OSError):  # no number, infinity, and years without a stamp
        pass
    return None
