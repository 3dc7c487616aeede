"""Shards: which of all files a run labels, when many runs share them out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from batch.errors import UsageError
from batch.found import FoundFile

# Bytes of the digest that a path's shard is read from: enough for a remainder without bias.
_HASH_BYTES = 8
_LISTING_BYTES = 32
MAX_SHARDS = 1_000_000


@dataclass(frozen=True)
class Shard:
    """One of ``of`` parts of all files; ``number`` is 1 for the first of them.

    The path alone decides, for ever and on every machine: BLAKE2b (RFC 7693) of its bytes, 8
    bytes of digest, read as a big-endian number modulo ``of``.
    """

    number: int
    of: int

    def contains(self, path: bytes) -> bool:
        """Tell whether a file is one of this shard's."""
        digest = blake2b(path, digest_size=_HASH_BYTES).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class ShardRecord:
    """A shard, and the listing of all files that it is a part of.

    ``found`` counts all files; ``listing`` is a ``ListingDigest`` in hexadecimal.
    """

    number: int
    of: int
    found: int
    listing: str


class ListingDigest:
    """Digests the paths of a listing in their order, so that any change of it shows."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=_LISTING_BYTES)

    def add(self, path: bytes) -> None:
        """Take the next path."""
        self._digest.update(path)
        self._digest.update(b"\0")  # which no path holds

    def hexdigest(self) -> str:
        """Give the digest of what was taken so far."""
        return self._digest.hexdigest()


class ShardedFiles:
    """Those of the files that are a shard's, each with its position among all.

    Every iteration looks anew. After one that came to its end, ``record`` tells what was listed.
    """

    def __init__(self, found: Iterable[FoundFile], shard: Shard) -> None:
        self.shard = shard
        self.record: ShardRecord | None = None
        self._found = found

    def __iter__(self) -> Iterator[FoundFile]:
        self.record = None
        listing, position = ListingDigest(), 0
        for position, file in enumerate(self._found, start=1):
            path = os.fsencode(file.path)
            listing.add(path)
            if self.shard.contains(path):
                yield file._replace(position=position)
        self.record = ShardRecord(self.shard.number, self.shard.of, position, listing.hexdigest())


def parse_shard(text: str) -> Shard:
    """Read a shard such as ``3/16``.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch("([0-9]{1,7})/([0-9]{1,7})", text)
    number, of = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= of <= MAX_SHARDS:
        raise UsageError(
            f"--shard {text!r} names no shard",
            f"give its number and how many there are, such as 3/16, {MAX_SHARDS} at most",
        )
    return Shard(number, of)
