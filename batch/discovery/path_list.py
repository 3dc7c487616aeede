"""Lists of paths and URLs: text files or standard input, one entry per line or NUL-separated."""

from __future__ import annotations

import codecs
import os
import select
from typing import BinaryIO

from batch.discovery.walk import read_head
from batch.file_types import is_image
from batch.location import Url, parse_location
from batch.stopping import StopCheck

STDIN_LIST = "-"
LIST_SUFFIXES = (".txt", ".lst")
_READ_BYTES = 1 << 20
_POLL_SECONDS = 0.1
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
# Minimum share of NULs in the even or the odd bytes of UTF-16. A NUL-separated list has fewer, as
# paths are longer than one character.
_MIN_NUL_SHARE = 0.7


def is_path_list(text: str) -> bool:
    """Return whether an input is a list on this machine: by its suffix, unless it is an image."""
    location = parse_location(text)
    if isinstance(location, Url) or not text.lower().endswith(LIST_SUFFIXES):
        return False
    try:
        return not is_image(read_head(os.fspath(location)))
    except OSError:  # missing, or unreadable, which is reported when it is read as a list
        return os.path.isfile(location)  # noqa: PTH113


def read_path_list(stream: BinaryIO, check: StopCheck) -> list[str]:
    """Read the entries of a list to its end; its writer may still be running.

    Args:
        stream: the list, as UTF-8 or UTF-16.
        check: called while waiting for the writer; raises an exception to end the wait.
    """
    return _split_entries(_to_utf8(_read_to_end(stream, check)))


def _read_to_end(stream: BinaryIO, check: StopCheck) -> bytes:
    data: list[bytes] = []
    while True:
        check()
        if _has_no_data_yet(stream):
            continue
        part = stream.read1(_READ_BYTES) if hasattr(stream, "read1") else stream.read()
        if not part:
            return b"".join(data)
        data.append(part)


def _has_no_data_yet(stream: BinaryIO) -> bool:
    try:
        return not select.select([stream.fileno()], [], [], _POLL_SECONDS)[0]
    except (OSError, ValueError):  # no descriptor, or one beyond the limit of `select`
        return False


def _to_utf8(data: bytes) -> bytes:
    """Convert a list to UTF-8 without a byte order mark: shells on Windows write UTF-16.

    Damaged characters are replaced, so that the path does not exist.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8)
    encoding = _UTF16.get(data[:2])
    if encoding is None:
        even, odd = data[::2], data[1::2]
        if _is_mostly_nul(odd) and not _is_mostly_nul(even):
            encoding = "utf-16-le"
        elif _is_mostly_nul(even) and not _is_mostly_nul(odd):
            encoding = "utf-16-be"
        else:
            return data
    return data.decode(encoding, "replace").removeprefix("\ufeff").encode()


def _is_mostly_nul(half: bytes) -> bool:
    return half.count(0) > _MIN_NUL_SHARE * len(half)


def _split_entries(data: bytes) -> list[str]:
    # A name may contain a newline or end with CR, so NUL-separated entries are taken literally.
    if b"\0" in data:
        entries = data.removesuffix(b"\n").split(b"\0")
    else:
        entries = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(entry) for entry in entries if entry]
