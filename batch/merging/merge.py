"""Whether parts belong together: what the records of the runs that wrote them say."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from batch.discovery.manifest import check_manifest, read_paths
from batch.errors import InputError
from batch.files.lock import hold_lock
from batch.files.publish import is_streamed
from batch.location import parse_location
from batch.merging.shard_report import NO_POSITION, ShardReport, ShardRow, open_shard_report
from batch.path_text import label_text, path_bytes, path_text, printable_text
from batch.reading.readers import allow_open_files
from batch.recording.run_record import RECORD_SUFFIX, RunRecord
from batch.records import ABSTAIN_OUTPUTS, Reason, Status
from batch.reports.columns import SALVAGED_NOTE, column_names
from batch.reports.dataset import is_dataset
from batch.reports.dataset_place import check_outside_datasets
from batch.reports.formats import Format, Record, Value
from batch.reports.output import check_not_input
from batch.reports.report import check_output, open_report, report_format
from batch.shard import ListingDigest, ShardRecord
from batch.stopping import Stop
from batch.tally import Tally

RecordedShard = tuple[ShardReport, RunRecord, ShardRecord]
# Numbers that a message has room for.
MAX_NAMED_SHARDS = 8
_DIVISION_REMEDY = "give the reports of one division"
_LISTING_REMEDY = "photos came or went between the runs: make a manifest first, and label that"
_RELABEL_REMEDY = "label the shards that differ again"


def check_shards_match(parts: Sequence[ShardReport], recorded: bool) -> ShardRecord | None:
    """Make sure that parts are all the shards of one listing, labelled in one way.

    Parts without a record are passed over unless all are to be ``recorded``. Gives the record of
    one of the shards, or None where no part has one.

    Raises:
        InputError: they don't belong together; the message names the parts, and what to do.
    """
    known = [known for part in parts if (known := _check_record(part, recorded))]
    listing = _check_records_match(known, complete=len(known) == len(parts)) if known else None
    named = [part for part in parts if part.outputs is not None]
    for part in named[1:]:
        if (part.outputs, part.per_face) != (named[0].outputs, named[0].per_face):
            raise InputError(
                f"{_name_both(named[0], part)} have different columns", _RELABEL_REMEDY
            )
    return listing


def _check_records_match(known: Sequence[RecordedShard], complete: bool) -> ShardRecord:
    _check_same(
        known, "are parts of different numbers of shards", lambda r, s: s.of, _DIVISION_REMEDY
    )
    _check_same(
        known, "have different listings", lambda r, s: (s.found, s.listing), _LISTING_REMEDY
    )
    _check_same(known, "were labelled by different models", lambda r, s: r.models, _RELABEL_REMEDY)
    for option in ("min_confidence", "always_answer", "per_face", "salvage"):
        what = f"were labelled with different --{option.replace('_', '-')}"
        # Records of versions before an option lack it.
        _check_same(known, what, lambda r, s, o=option: r.settings.get(o, False), _RELABEL_REMEDY)  # type: ignore[misc]
    _check_same(
        known,
        "were labelled by different versions of the program",
        lambda r, s: r.basis,
        _RELABEL_REMEDY,
    )
    _check_numbers(known, complete)
    return known[0][2]


def _check_record(part: ShardReport, recorded: bool) -> RecordedShard | None:
    record = part.record
    if record is None:
        if recorded:
            raise InputError(
                f"{part.display_name} has no run record, which its run left beside it as {RECORD_SUFFIX}",
                "bring it along, or give the manifest that was labelled with --manifest",
            )
        return None
    if not record.published:
        why = record.outcome.replace("_", " ")
        raise InputError(
            f"{part.display_name} is not that of its last run, which published none ({why})",
            "run its shard again, to the end",
        )
    if record.shard is None:
        raise InputError(
            f"{part.display_name} was not written by a run with --shard",
            "give reports of shards alone",
        )
    return part, record, record.shard


def _check_same(
    known: Sequence[RecordedShard],
    what: str,
    of: Callable[[RunRecord, ShardRecord], object],
    remedy: str,
) -> None:
    first, *others = known
    for other in others:
        if of(*first[1:]) != of(*other[1:]):
            raise InputError(f"{_name_both(first[0], other[0])} {what}", remedy)


def _check_numbers(known: Sequence[RecordedShard], complete: bool) -> None:
    by_number: dict[int, ShardReport] = {}
    for part, _, shard in known:
        twin = by_number.setdefault(shard.number, part)
        if twin is not part:
            raise InputError(
                f"{_name_both(twin, part)} are both of shard {shard.number}/{shard.of}", "give one"
            )
    of = known[0][2].of
    absent = [str(n) for n in range(1, of + 1) if n not in by_number]
    if complete and absent:
        some = ", ".join(absent[:MAX_NAMED_SHARDS]) + (
            " and more" if len(absent) > MAX_NAMED_SHARDS else ""
        )
        raise InputError(
            f"{len(absent)} of {of} shards missing: number {some}", "give their reports too"
        )


def _name_both(one: ShardReport, other: ShardReport) -> str:
    return printable_text(f"{one.display_name} and {other.display_name}")


# == Whether the rows of all parts, one after another, are the listing that was divided.

_INCOMPLETE_REMEDY = "give the reports of all shards, each once and whole"
_MISMATCH_REMEDY = "give the reports of one listing, and its own manifest"


class ListingCheck:
    """Follows the rows of all parts; ``found`` counts the photos so far, but for missing ones.

    They are compared with what the shards' records say of the ``listing``, and with the
    ``manifest``, where these are given.
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
        """Pass rows on, and tell of each whether it is its photo's first.

        Raises:
            InputError: a photo is there twice, or not at all, or is another one.
        """
        for row in rows:
            key = row[:3]
            is_first = key != self._last_key
            if is_first:
                self._check_row(row)
                self._last_key = key
            yield row, is_first
        self._check_end()

    def _check_row(self, row: ShardRow) -> None:
        position, missing, _ = self._last_key
        if row[:2] == (position, missing):
            one, other = (
                self._parts[index].display_name for index in (self._last_key[2], row.part)
            )
            raise InputError(f"{row.values[0]} is in {one} and in {other}", _INCOMPLETE_REMEDY)
        if row.position == NO_POSITION:
            return
        self.found += 1
        if row.position != self.found:
            display_name = self._parts[row.part].display_name
            raise InputError(
                f"the photo number {self.found} is in none of the parts, but number "
                f"{row.position} is in {display_name}",
                _INCOMPLETE_REMEDY,
            )
        try:
            path = path_bytes(str(row.values[0]))
        except ValueError as error:
            raise self._parts[row.part].record_error(row.number, str(error)) from error
        self._digest.add(path)
        if self._paths is not None:
            self._compare_with_manifest(path, row)

    def _compare_with_manifest(self, path: bytes, row: ShardRow) -> None:
        listed = next(self._paths or iter(()), None)
        if listed is None or os.fsencode(listed) != path:
            says = (
                "ends before it" if listed is None else f"says {path_text(parse_location(listed))}"
            )
            raise InputError(
                f"{row.values[0]} is the photo number {row.position} in "
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
                "the parts' paths are not those that were listed: one was changed since",
                "write the parts anew",
            )


# == Reports of shards joined into the one that a single run would have written.


@dataclass(frozen=True)
class MergeJob:
    """What is to be joined: the names of the parts, and of the manifest if there is one."""

    parts: tuple[str, ...]
    output: str
    manifest: str | None = None


def merge(merging: MergeJob, stdout: BinaryIO, stop: Stop) -> Tally:
    """Join the reports of all shards of a listing into one, in the listing's order.

    The report's bytes are those of a single run's, and memory does not grow with its rows. Of a
    report of faces each photo is counted by its main face.

    Raises:
        InputError: the parts don't belong together, or are not all there, or are damaged.
        BatchLabelError: the report can't be written, or a signal came. An earlier report is left
            as it was.
    """
    _check_job(merging)
    with ExitStack() as stack:
        stack.enter_context(hold_lock(merging.output))
        parts = [
            stack.enter_context(open_shard_report(text, index, len(merging.parts)))
            for index, text in enumerate(merging.parts)
        ]
        allow_open_files(sum(part.files for part in parts), f"the files of {len(parts)} parts")
        listing = check_shards_match(parts, recorded=merging.manifest is None)
        outputs, per_face = _find_outputs(parts), any(part.per_face for part in parts)
        labels = tuple(name for name in outputs if name not in ABSTAIN_OUTPUTS)
        tally, names = Tally(labels), column_names(outputs, per_face)
        labels_by_cell: dict[Value, str] = {label_text(label): label for label in labels}
        succession = ListingCheck(parts, listing, merging.manifest)
        as_text = not is_dataset(merging.output) and report_format(merging.output) is Format.CSV
        rows = heapq.merge(*(part.rows(as_text) for part in parts))
        report = stack.enter_context(open_report(merging.output, outputs, per_face, stdout))
        for row, is_first in stop.take_until_signal(succession.check_rows(rows)):
            record = dict(zip(names, row.values, strict=True))
            if is_first:
                try:
                    _count_photo(tally, record, labels_by_cell, missing=row.position == NO_POSITION)
                except ValueError as error:
                    raise parts[row.part].record_error(row.number, str(error)) from error
            report.copy(record)
        if stop.stopped_early:
            raise stop.make_error("nothing was published: run the same command again")
        tally.found = succession.found
        counts = [part.record.counts for part in parts if part.record]
        tally.unavailable = sum(count.away for count in counts)
        tally.accepted = sum(count.accepted for count in counts)
        report.publish()
    return tally


def _check_job(merging: MergeJob) -> None:
    check_output(merging.output)
    if merging.manifest is not None:
        check_manifest(merging.manifest)
    check_not_input(merging.output, "one of the parts", *merging.parts)
    if merging.manifest is not None:
        check_not_input(merging.output, "the manifest", merging.manifest)
    if not is_streamed(merging.output):
        check_outside_datasets(merging.output, *map(parse_location, merging.parts))
    allow_open_files(len(merging.parts), f"{len(merging.parts)} parts")


def _find_outputs(parts: Sequence[ShardReport]) -> tuple[str, ...]:
    """Take labels and abstain outputs from a part's columns, or from its record if it has none."""
    for part in parts:
        if part.outputs is not None:
            return part.outputs
    record = next((part.record for part in parts if part.record), None)
    if record is None:
        raise InputError(
            f"{parts[0].display_name} has no rows that name the labels, nor has another part",
            "bring its run record along, or write the parts as .csv",
        )
    # Records of versions before abstain outputs have the labels alone.
    return record.outputs or tuple(record.counts.by_label)


def _count_photo(
    tally: Tally, record: Record, labels_by_cell: Mapping[Value, str], missing: bool
) -> None:
    if missing:
        tally.missing += 1
        return
    status, error = Status(str(record["status"])), str(record["error"] or "")
    if status is not Status.FAILED and SALVAGED_NOTE in error:
        tally.salvaged += 1
    reason = Reason(error.partition(":")[0]) if status is Status.FAILED else None
    tally.count(status, labels_by_cell.get(record["label"]), reason)
