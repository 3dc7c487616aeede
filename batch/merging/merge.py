"""Reports of shards joined into the one that a single run would have written."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from batch.discovery.manifest import check_manifest
from batch.errors import InputError
from batch.files.lock import locked
from batch.files.publish import is_streamed
from batch.location import location_of
from batch.merging.belonging import check_parts
from batch.merging.part import LAST, Part, open_part
from batch.merging.succession import Succession
from batch.path_text import label_text
from batch.reading.open_files import allow_open_files
from batch.records import ABSTAIN, Reason, Status
from batch.reports.columns import SALVAGED, columns
from batch.reports.dataset import is_dataset
from batch.reports.dataset_place import check_outside
from batch.reports.formats import Format, Record, Value
from batch.reports.output import check_apart
from batch.reports.report import check_output, open_report, report_format
from batch.stopping import Stop
from batch.tally import Summary


@dataclass(frozen=True)
class Merging:
    """What is to be joined: the names of the parts, and of the manifest if there is one."""

    parts: tuple[str, ...]
    output: str
    manifest: str | None = None


def merge(merging: Merging, stdout: BinaryIO, stop: Stop) -> Summary:
    """Join the reports of all shards of a listing into one, in the listing's order.

    The report's bytes are those of a single run's, and memory does not grow with its rows. Of a
    report of faces each photo is counted by its main face.

    Raises:
        InputError: the parts don't belong together, or are not all there, or are damaged.
        BatchLabelError: the report can't be written, or a signal came. An earlier report is left
            as it was.
    """
    _check(merging)
    with ExitStack() as stack:
        stack.enter_context(locked(merging.output))
        parts = [
            stack.enter_context(open_part(text, index, len(merging.parts)))
            for index, text in enumerate(merging.parts)
        ]
        allow_open_files(sum(part.files for part in parts), f"the files of {len(parts)} parts")
        listing = check_parts(parts, recorded=merging.manifest is None)
        outputs, per_face = _outputs(parts), any(part.per_face for part in parts)
        labels = tuple(name for name in outputs if name not in ABSTAIN)
        summary, names = Summary(labels), columns(outputs, per_face)
        shown: dict[Value, str] = {label_text(label): label for label in labels}
        succession = Succession(parts, listing, merging.manifest)
        as_text = not is_dataset(merging.output) and report_format(merging.output) is Format.CSV
        rows = heapq.merge(*(part.rows(as_text) for part in parts))
        report = stack.enter_context(open_report(merging.output, outputs, per_face, stdout))
        for row, is_first in stop.until_signal(succession.followed(rows)):
            record = dict(zip(names, row.values, strict=True))
            if is_first:
                try:
                    _count(summary, record, shown, missing=row.position == LAST)
                except ValueError as error:
                    raise parts[row.part].damaged(row.number, str(error)) from error
            report.copy(record)
        if stop.cut:
            raise stop.error("nothing was published: run the same command again")
        summary.found = succession.found
        counts = [part.record.counts for part in parts if part.record]
        summary.away = sum(count.away for count in counts)
        summary.accepted = sum(count.accepted for count in counts)
        report.publish()
    return summary


def _check(merging: Merging) -> None:
    check_output(merging.output)
    if merging.manifest is not None:
        check_manifest(merging.manifest)
    check_apart(merging.output, "one of the parts", *merging.parts)
    if merging.manifest is not None:
        check_apart(merging.output, "the manifest", merging.manifest)
    if not is_streamed(merging.output):
        check_outside(merging.output, *map(location_of, merging.parts))
    allow_open_files(len(merging.parts), f"{len(merging.parts)} parts")


def _outputs(parts: Sequence[Part]) -> tuple[str, ...]:
    """Take labels and abstain outputs from a part's columns, or from its record if it has none."""
    for part in parts:
        if part.outputs is not None:
            return part.outputs
    record = next((part.record for part in parts if part.record), None)
    if record is None:
        raise InputError(
            f"{parts[0].called} has no rows that name the labels, nor has another part",
            "bring its run record along, or write the parts as .csv",
        )
    # Records of versions before abstain outputs have the labels alone.
    return record.outputs or tuple(record.counts.by_label)


def _count(summary: Summary, record: Record, shown: Mapping[Value, str], missing: bool) -> None:
    if missing:
        summary.missing += 1
        return
    status, error = Status(str(record["status"])), str(record["error"] or "")
    if status is not Status.FAILED and SALVAGED in error:
        summary.salvaged += 1
    reason = Reason(error.partition(":")[0]) if status is Status.FAILED else None
    summary.count(status, shown.get(record["label"]), reason)
