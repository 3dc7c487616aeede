"""Checks that reports of shards belong together, and that their rows are the whole listing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from batch.discovery.manifest import read_paths
from batch.errors import InputError
from batch.location import parse_location
from batch.merging.shard_report import NO_POSITION, ShardReport, ShardRow
from batch.path_text import path_bytes, path_text, printable_text
from batch.recording.run_record import RECORD_SUFFIX, RunRecord
from batch.shard import ListingDigest, ShardRecord

RecordedShard = tuple[ShardReport, RunRecord, ShardRecord]
# Shards that a message names.
MAX_NAMED_SHARDS = 8
_DIVISION_REMEDY = "give the reports of runs with the same number of shards"
_LISTING_REMEDY = "photos came or went between the runs: make a manifest first, and label that"
_RELABEL_REMEDY = "label the shards that differ again"
_INCOMPLETE_REMEDY = "give the reports of all shards, each once and complete"
_MISMATCH_REMEDY = "give the reports of one listing, and its own manifest"


def check_shards_match(parts: Sequence[ShardReport], recorded: bool) -> ShardRecord | None:
    """Make sure that parts are all the shards of one listing, labelled in one way.

    Args:
        parts: the reports.
        recorded: whether each must have a run record. If not, only parts that have one are checked.

    Returns:
        The record of one of the shards, or None if no part has a run record.

    Raises:
        InputError: they don't belong together; the message names the parts and the remedy.
    """
    known = [known for part in parts if (known := _find_record(part, recorded))]
    listing = _check_records_match(known, complete=len(known) == len(parts)) if known else None
    named = [part for part in parts if part.outputs is not None]
    for part in named[1:]:
        if part.layout != named[0].layout:
            raise InputError(
                f"{_name_both(named[0], part)} have different columns", _RELABEL_REMEDY
            )
    return listing


def _find_record(part: ShardReport, recorded: bool) -> RecordedShard | None:
    record = part.record
    if record is None:
        if recorded:
            raise InputError(
                f"{part.display_name} has no run record, which its run wrote beside it as "
                f"{RECORD_SUFFIX}",
                "copy it too, or give the manifest that was labelled with --manifest",
            )
        return None
    if not record.published:
        why = record.outcome.replace("_", " ")
        raise InputError(
            f"{part.display_name} is older than its last run, which published no report ({why})",
            "run its shard again, to the end",
        )
    if record.shard is None:
        raise InputError(
            f"{part.display_name} was not written by a run with --shard",
            "give only reports of shards",
        )
    return part, record, record.shard


def _check_records_match(known: Sequence[RecordedShard], complete: bool) -> ShardRecord:
    def check(what: str, remedy: str, of: Callable[[RunRecord, ShardRecord], object]) -> None:
        first, *others = known
        for other in others:
            if of(*first[1:]) != of(*other[1:]):
                raise InputError(f"{_name_both(first[0], other[0])} {what}", remedy)

    check("are parts of different numbers of shards", _DIVISION_REMEDY, lambda _, shard: shard.of)
    check("have different listings", _LISTING_REMEDY, lambda _, shard: (shard.found, shard.listing))
    check("were labelled by different models", _RELABEL_REMEDY, lambda run, _: run.models)
    for option in ("min_confidence", "always_answer", "per_face", "salvage", "with_location"):
        what = f"were labelled with different --{option.replace('_', '-')}"
        check(what, _RELABEL_REMEDY, lambda run, _, name=option: run.settings.get(name, False))  # type: ignore[misc]
    what = "were labelled by different versions of the program"
    check(what, _RELABEL_REMEDY, lambda run, _: run.basis)
    _check_numbers(known, complete)
    return known[0][2]


def _check_numbers(known: Sequence[RecordedShard], complete: bool) -> None:
    """Make sure that no shard is given twice and, if ``complete``, that none is missing."""
    by_number: dict[int, ShardReport] = {}
    for part, _, shard in known:
        twin = by_number.setdefault(shard.number, part)
        if twin is not part:
            raise InputError(
                f"{_name_both(twin, part)} are both of shard {shard.number}/{shard.of}",
                "give one of them",
            )
    of = known[0][2].of
    absent = [str(n) for n in range(1, of + 1) if n not in by_number]
    if complete and absent:
        more = " and more" if len(absent) > MAX_NAMED_SHARDS else ""
        raise InputError(
            f"{len(absent)} of {of} shards missing: number {', '.join(absent[:MAX_NAMED_SHARDS])}"
            f"{more}",
            "give their reports too",
        )


def _name_both(one: ShardReport, other: ShardReport) -> str:
    return printable_text(f"{one.display_name} and {other.display_name}")


class ListingCheck:
    """Checks that the merged rows are the listing that was divided into shards.

    Args:
        parts: the reports.
        listing: a shard's record, with the listing's size and digest; None to skip that check.
        manifest: the listing itself; None to skip that check.

    Attributes:
        found: photos so far, without missing ones.
    """

    def __init__(
        self, parts: Sequence[ShardReport], listing: ShardRecord | None, manifest: str | None
    ) -> None:
        self.found = 0
        self._parts = parts
        self._listing = listing
        self._digest = ListingDigest()
        self._manifest = manifest
        self._paths = iter(read_paths(manifest)) if manifest is not None else None
        self._last_key = (0, b"", -1)

    def check_rows(self, rows: Iterable[ShardRow]) -> Iterator[tuple[ShardRow, bool]]:
        """Yield each row, and whether it is the first of its photo.

        Raises:
            InputError: a photo is a duplicate, is missing, or is not the listed one.
        """
        for row in rows:
            key = row[:3]
            is_first = key != self._last_key
            if is_first:
                self._check_photo(row)
                self._last_key = key
            yield row, is_first
        self._check_end()

    def _check_photo(self, row: ShardRow) -> None:
        position, missing, last_part = self._last_key
        if row[:2] == (position, missing):
            one, other = (self._parts[index].display_name for index in (last_part, row.part))
            raise InputError(f"{row.values[0]} is in {one} and in {other}", _INCOMPLETE_REMEDY)
        if row.position == NO_POSITION:
            return
        self.found += 1
        if row.position != self.found:
            raise InputError(
                f"photo number {self.found} is in none of the parts, but number {row.position} is "
                f"in {self._parts[row.part].display_name}",
                _INCOMPLETE_REMEDY,
            )
        try:
            path = path_bytes(str(row.values[0]))
        except ValueError as error:
            raise self._parts[row.part].record_error(row.number, str(error)) from error
        self._digest.add(path)
        if self._paths is not None:
            self._check_manifest(next(self._paths, None), path, row)

    def _check_manifest(self, listed: str | None, path: bytes, row: ShardRow) -> None:
        if listed is not None and os.fsencode(listed) == path:
            return
        says = "ends before it" if listed is None else f"lists {path_text(parse_location(listed))}"
        raise InputError(
            f"{row.values[0]} is photo number {row.position} in "
            f"{self._parts[row.part].display_name}, but manifest {self._manifest} {says}",
            _MISMATCH_REMEDY,
        )

    def _check_end(self) -> None:
        more = next(self._paths, None) if self._paths is not None else None
        if more is not None:
            raise InputError(
                f"{path_text(parse_location(more))} of manifest {self._manifest} is in none of the "
                "parts",
                _INCOMPLETE_REMEDY,
            )
        if self._listing is None:
            return
        if self.found != self._listing.found:
            raise InputError(
                f"the parts have {self.found} photos, and {self._listing.found} were listed",
                _INCOMPLETE_REMEDY,
            )
        if self._digest.hexdigest() != self._listing.listing:
            raise InputError(
                "the parts' paths are not those that were listed: a part was changed since",
                "write the parts again",
            )
