"""Whether the rows of all parts, one after another, are the listing that was divided."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from batch.discovery.manifest import read_paths
from batch.errors import InputError
from batch.location import location_of
from batch.merging.part import LAST, Part, PartRow
from batch.path_text import path_bytes, path_text
from batch.shard import ListingDigest, ShardRecord

_ALL = "give the reports of all shards, each once and whole"
_SAME = "give the reports of one listing, and its own manifest"


class Succession:
    """Follows the rows of all parts; ``found`` counts the photos so far, but for missing ones.

    They are compared with what the shards' records say of the ``listing``, and with the
    ``manifest``, where these are given.
    """

    def __init__(
        self, parts: Sequence[Part], listing: ShardRecord | None, manifest: str | None
    ) -> None:
        self.found = 0
        self._parts = parts
        self._listing = listing
        self._digest = ListingDigest()
        self._manifest = manifest
        self._paths = iter(read_paths(manifest)) if manifest is not None else None
        self._before = (0, b"", -1)

    def followed(self, rows: Iterable[PartRow]) -> Iterator[tuple[PartRow, bool]]:
        """Pass rows on, and tell of each whether it is its photo's first.

        Raises:
            InputError: a photo is there twice, or not at all, or is another one.
        """
        for row in rows:
            key = row[:3]
            is_first = key != self._before
            if is_first:
                self._follow(row)
                self._before = key
            yield row, is_first
        self._end()

    def _follow(self, row: PartRow) -> None:
        position, missing, _ = self._before
        if row[:2] == (position, missing):
            one, other = (self._parts[index].called for index in (self._before[2], row.part))
            raise InputError(f"{row.values[0]} is in {one} and in {other}", _ALL)
        if row.position == LAST:
            return
        self.found += 1
        if row.position != self.found:
            called = self._parts[row.part].called
            raise InputError(
                f"the photo number {self.found} is in none of the parts, but number "
                f"{row.position} is in {called}",
                _ALL,
            )
        try:
            path = path_bytes(str(row.values[0]))
        except ValueError as error:
            raise self._parts[row.part].damaged(row.number, str(error)) from error
        self._digest.add(path)
        if self._paths is not None:
            self._compare(path, row)

    def _compare(self, path: bytes, row: PartRow) -> None:
        listed = next(self._paths or iter(()), None)
        if listed is None or os.fsencode(listed) != path:
            says = "ends before it" if listed is None else f"says {path_text(location_of(listed))}"
            raise InputError(
                f"{row.values[0]} is the photo number {row.position} in "
                f"{self._parts[row.part].called}, but manifest {self._manifest} {says}",
                _SAME,
            )

    def _end(self) -> None:
        more = next(self._paths, None) if self._paths is not None else None
        if more is not None:
            raise InputError(
                f"{path_text(location_of(more))} of manifest {self._manifest} is in none of the "
                "parts",
                _ALL,
            )
        if self._listing is None:
            return
        if self.found != self._listing.found:
            raise InputError(
                f"the parts have {self.found} photos, and {self._listing.found} were listed", _ALL
            )
        if self._digest.hexdigest() != self._listing.listing:
            raise InputError(
                "the parts' paths are not those that were listed: one was changed since",
                "write the parts anew",
            )
