"""Checksums of the values that the journal keeps."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias

# What SQLite keeps in a column.
Stored: TypeAlias = int | str | bytes | None

CHECKSUM_BYTES = 8


def checksum_of(*values: Stored) -> bytes:
    """Digest a row's values and their kinds: 8 bytes of BLAKE2b (RFC 7693).

    SQLite finds damage to its own structure, but not to the values in it.
    """
    return blake2b(repr(values).encode(errors="replace"), digest_size=CHECKSUM_BYTES).digest()
