"""Merge: joins the reports of shards into the report that a single run would have written."""

from __future__ import annotations

import heapq
import resource
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from batch.discovery.manifest import check_manifest
from batch.errors import InputError
from batch.files.lock import hold_lock
from batch.files.publish import is_streamed
from batch.location import parse_location
from batch.merging.shard_checks import ListingCheck, check_shards_match
from batch.merging.shard_report import NO_POSITION, ShardReport, open_shard_report
from batch.path_text import label_text
from batch.records import ABSTAIN_OUTPUTS, Reason, Source, Status
from batch.reports.columns import column_names, is_salvaged, parse_reason
from batch.reports.dataset import is_dataset
from batch.reports.dataset_place import check_outside_datasets
from batch.reports.formats import Format
from batch.reports.output import check_not_input
from batch.reports.report import check_output, open_report, report_format
from batch.reports.tabular import Record, Value
from batch.reviewing.corrections import Corrections
from batch.reviewing.reviews_file import find_reviews_path, read_reviews
from batch.stopping import Stop
from batch.tally import Tally

# Most files that the process has open besides the parts.
RESERVED_FILES = 64


@dataclass(frozen=True)
class MergeJob:
    """A request to merge the reports of shards.

    Attributes:
        parts: paths or URLs of the shards' reports.
        output: what ``-o`` names.
        manifest: the manifest that was labelled, to compare the parts with.
        reviews_of_url: the reviews file of an output at a URL; None for no reviews.
    """

    parts: tuple[str, ...]
    output: str
    manifest: str | None = None
    reviews_of_url: Path | None = None


def merge(job: MergeJob, stdout: BinaryIO, stop: Stop) -> Tally:
    """Merge the reports of all shards of a listing, in the listing's order.

    The merged report has the same bytes as a single run's, and people's answers in its reviews file
    override the model's likewise. Memory does not grow with the rows.

    Returns:
        The count of photos; in a report with one row per face, by each photo's main face.

    Raises:
        InputError: the parts don't belong together, or are incomplete or damaged, or the reviews
            file is damaged.
        BatchLabelError: the report can't be written, or a signal arrived. An earlier report is
            left as it was.
    """
    _check_job(job)
    with ExitStack() as stack:
        stack.enter_context(hold_lock(job.output))
        reviews_path = find_reviews_path(job.output, job.reviews_of_url)
        reviews = read_reviews(reviews_path) if reviews_path else None
        parts = [
            stack.enter_context(open_shard_report(text, index, len(job.parts)))
            for index, text in enumerate(job.parts)
        ]
        listing = check_shards_match(parts, recorded=job.manifest is None)
        outputs, per_face = _find_outputs(parts), any(part.per_face for part in parts)
        labels = tuple(name for name in outputs if name not in ABSTAIN_OUTPUTS)
        located = any(part.located for part in parts)
        tally, names = Tally(labels), column_names(outputs, per_face, located=located)
        labels_by_cell: dict[Value, str] = {label_text(label): label for label in labels}
        corrections = Corrections(reviews, labels, per_face) if reviews else None
        listing_check = ListingCheck(parts, listing, job.manifest)
        as_text = not is_dataset(job.output) and report_format(job.output) is Format.CSV
        rows = heapq.merge(*(part.rows(as_text) for part in parts))
        report = stack.enter_context(
            open_report(job.output, outputs, per_face, stdout, located=located)
        )
        for row, is_first in stop.take_until_signal(listing_check.check_rows(rows)):
            record: Record = dict(zip(names, row.values, strict=True))
            if corrections:
                record = corrections.correct_record(record)
            if is_first:
                try:
                    _count_photo(tally, record, labels_by_cell, missing=row.position == NO_POSITION)
                except ValueError as error:
                    raise parts[row.part].record_error(row.number, str(error)) from error
            report.copy(record)
        if stop.stopped_early:
            raise stop.make_error("nothing was published: run the same command again")
        tally.found = listing_check.found
        tally.unmatched_reviews = corrections.unmatched if corrections else 0
        counts = [part.record.counts for part in parts if part.record]
        tally.unavailable = sum(count.away for count in counts)
        tally.accepted = sum(count.accepted for count in counts)
        report.publish()
    return tally


def _check_job(job: MergeJob) -> None:
    check_output(job.output)
    if job.manifest is not None:
        check_manifest(job.manifest)
    check_not_input(job.output, "one of the parts", *job.parts)
    if job.manifest is not None:
        check_not_input(job.output, "the manifest", job.manifest)
    if not is_streamed(job.output):
        check_outside_datasets(job.output, *map(parse_location, job.parts))
    _allow_open_files(len(job.parts))


def _allow_open_files(parts: int) -> None:
    """Raise the limit of open files so that all parts can be open at once.

    Raises:
        InputError: the system does not allow it.
    """
    needed = parts + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{parts} parts can't be open at once: the system allows {hard} files",
            f"raise its limit: ulimit -n {needed}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _find_outputs(parts: Sequence[ShardReport]) -> tuple[str, ...]:
    """Take labels and abstain outputs from a part's columns, or else from a run record."""
    for part in parts:
        if part.outputs is not None:
            return part.outputs
    record = next((part.record for part in parts if part.record), None)
    if record is None:
        raise InputError(
            "the parts have no rows that name the labels",
            "copy their run records beside them, or write the parts as .csv",
        )
    return record.outputs


def _count_photo(
    tally: Tally, record: Record, labels_by_cell: Mapping[Value, str], missing: bool
) -> None:
    """Count a photo by its first record.

    Raises:
        ValueError: the status or the reason of a failure is unknown.
    """
    if missing:
        tally.missing += 1
        return
    status, error = Status(str(record["status"])), str(record["error"] or "")
    reason = None
    if status is Status.FAILED:
        reason = Reason(parse_reason(error))
    elif is_salvaged(error):
        tally.salvaged += 1
    tally.reviewed += record["source"] == Source.REVIEW
    tally.count(status, labels_by_cell.get(record["label"]), reason)
