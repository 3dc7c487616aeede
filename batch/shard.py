"""Shards: a share of all files for each of several runs, chosen by a hash of the path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from batch.errors import UsageError
from batch.found import FoundFile

_HASH_BYTES = 8  # of a path's digest: enough for a remainder without bias
_LISTING_BYTES = 32  # of a listing's digest
MAX_SHARDS = 1_000_000


@dataclass(frozen=True)
class Shard:
    """One of several disjoint parts of all files.

    Only the path decides, on every machine and in every version: its bytes' BLAKE2b digest of 8
    bytes (RFC 7693), as a big-endian number, modulo the number of shards.

    Attributes:
        number: the shard, from 1.
        of: number of shards.
    """

    number: int
    of: int

    def contains(self, path: bytes) -> bool:
        """Return whether a path belongs to this shard."""
        digest = blake2b(path, digest_size=_HASH_BYTES).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class ShardRecord:
    """A shard and the listing of which it is a part, as kept in the run record.

    Attributes:
        number: the shard, from 1.
        of: number of shards.
        found: number of files in the whole listing.
        listing: ``ListingDigest`` of the whole listing, in hexadecimal.
    """

    number: int
    of: int
    found: int
    listing: str


class ListingDigest:
    """Digest of all paths of a listing in their order, which detects any change of it."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=_LISTING_BYTES)

    def add(self, path: bytes) -> None:
        """Add the next path."""
        self._digest.update(path)
        self._digest.update(b"\0")  # no path contains it

    def hexdigest(self) -> str:
        """Return the digest of all paths so far."""
        return self._digest.hexdigest()


class ShardedFiles:
    """The files of a shard, each with its position among all files.

    Attributes:
        shard: the shard.
        record: what the last iteration listed; None until an iteration is complete.
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
    """Parse a shard such as ``3/16``.

    Raises:
        UsageError: the text is not a shard.
    """
    match = re.fullmatch("([0-9]{1,7})/([0-9]{1,7})", text)
    number, of = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= of <= MAX_SHARDS:
        raise UsageError(
            f"--shard {text!r} is not a shard",
            f"give its number and the number of shards (at most {MAX_SHARDS:,}), such as 3/16",
        )
    return Shard(number, of)
