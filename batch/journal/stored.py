"""Checksums of the values that the journal keeps."""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import TypeAlias

# What SQLite keeps in a column.
Stored: TypeAlias = int | str | bytes | None

CHECKSUM_BYTES = 8


def checksum_of(*values: Stored) -> bytes:
    """Digest a row's values and their kinds: 8 bytes of BLAKE2b (RFC 7693).

    SQLite finds damage to its own structure, but not to the values in it.
    """
    return blake2b(repr(values).encode(errors="replace"), digest_size=CHECKSUM_BYTES).digest()


def checksum_of_fresh(checksum: bytes, *values: Stored) -> bytes:
    """Give the checksum of a row without its basis; what was damaged stays damaged."""
    *file, _, failed, row = values
    if checksum_of(*values) != checksum:
        return checksum
    return checksum_of(*file, b"", failed, row)


def failure_key(path: bytes, size: Stored, stamp: Stored, digest: Stored) -> bytes:
    """Tell a file that failed from others, and from what it is once it changes: 32 bytes.

    By its bytes where they are known. Empty files have the same, and are told by their paths.
    """
    if isinstance(digest, bytes) and size != 0:
        return digest
    return sha256(repr((path, size, stamp)).encode()).digest()
