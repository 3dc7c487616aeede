"""A report read for its page: its sums, and the rows that the page has room for."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from batch.errors import ReportError
from batch.files.publish import is_device
from batch.page.entries import Entry, entries, labels_of
from batch.page.totals import Totals
from batch.path_text import path_text
from batch.reading.dataset_reader import success_of
from batch.reading.readers import RecordReader, reading
from batch.reading.saved import SavedReport, is_dataset_at, open_records

# Rows that a page holds: of a report of more, the failures and the least certain answers.
MAX_ROWS = 200_000


@dataclass(frozen=True)
class Gathered:
    """What was read: the sums of all rows, failures by reason, and rows in the report's order."""

    saved: SavedReport
    totals: Totals
    reasons: Mapping[str, int]
    entries: Sequence[Entry]


def gather(report: Path) -> Gathered:
    """Read a report; memory is bounded by ``MAX_ROWS``.

    Raises:
        ReportError: it is missing, no report, or damaged.
        UsageError: a package that its format needs is not installed.
    """
    with open_records(report) as reader:
        saved = SavedReport(reader)
        totals, reasons = Totals(labels_of(saved), saved.abstain), Counter[str]()
        rows = _counted(reader, totals, reasons) if reader.columns else iter(())
        kept = heapq.nsmallest(MAX_ROWS, rows, key=attrgetter("rank"))
    return Gathered(saved, totals, reasons, sorted(kept, key=attrgetter("number")))


def digest_of(report: Path) -> str:
    """Give the SHA-256 of a report's file, in hexadecimal; of a dataset's, that of their list.

    Raises:
        ReportError: it is missing, or neither file nor dataset.
    """
    called = f"report {path_text(report)}"
    if is_dataset_at(report):
        return hashlib.sha256(success_of(report, called)).hexdigest()
    if is_device(report):
        raise ReportError(f"{called} is a pipe or device", "write it to a file first")
    with reading(called), report.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counted(reader: RecordReader, totals: Totals, reasons: Counter[str]) -> Iterator[Entry]:
    for entry in entries(reader):
        totals.add(entry.row)
        if entry.reason:
            reasons[entry.reason] += 1
        yield entry
