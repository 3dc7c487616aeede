"""The rows of a report as its page needs them: what was said, on what grounds, and where."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from batch.errors import ReportError
from batch.files.publish import is_device
from batch.path_text import escape_formula, path_text
from batch.reading.dataset_reader import require_success
from batch.reading.fields import read_checked_records
from batch.reading.saved import (
    REQUIRED_COLUMNS,
    SavedReport,
    SavedRow,
    is_dataset_at,
    open_reader,
)
from batch.records import Abstain, Reason, Source, Status
from batch.reports.columns import is_missing, parse_reason
from batch.reports.readers import translate_read_errors
from batch.reports.tabular import RecordReader

_BOX = ("face_left", "face_top", "face_width", "face_height")
_SIZE = ("width", "height")
_REASONS = frozenset(map(str, Reason))
# What stands for the reason of a failure of which no known one is given.
OTHER_REASON = "other"

PixelBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row of the report.

    ``number`` counts the report's rows from 0. ``box`` is the left, top, width and height of the
    face that the answer rests on, and ``size`` the photo's width and height, all in pixels of the
    upright photo; None where there are none. ``error`` is the report's text.
    """

    number: int
    row: SavedRow
    source: str | None = None
    box: PixelBox | None = None
    size: tuple[int, int] | None = None
    error: str | None = None

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Say what is to be seen first: failures, then the least certain answers."""
        sure = 2.0 if self.row.confidence is None else self.row.confidence
        return self.row.status != Status.FAILED, sure, self.number

    @property
    def reason(self) -> str | None:
        """The reason of a failure, one word; None where nothing failed."""
        if self.row.status != Status.FAILED:
            return None
        reason = parse_reason(self.error)
        return reason if reason in _REASONS else OTHER_REASON


def label_cells(report: SavedReport) -> list[str]:
    """Name the labels of a report as its column ``label`` has them, in the model's order."""
    return [escape_formula(name) for name in report.labels or ()]


def read_page_rows(reader: RecordReader) -> Iterator[PageRow]:
    """Read the rows of a report whose columns were checked, in their order, once.

    Raises:
        ReportError: one is damaged; the message has its number.
    """
    more = ("face", "source", *_BOX, *_SIZE)
    wanted = (*REQUIRED_COLUMNS, *(name for name in more if name in reader.columns))
    for number, (_, values) in enumerate(read_checked_records(reader, wanted)):
        yield _to_page_row(number, dict(zip(wanted, values, strict=True)))


def _to_page_row(number: int, record: dict[str, Any]) -> PageRow:
    path, status, label, confidence, error = (record[name] for name in REQUIRED_COLUMNS)
    row = SavedRow(path, status, label, confidence, record.get("face"), is_missing(error))
    box = _read_numbers(record, _BOX)
    size = _read_numbers(record, _SIZE)
    source = record.get("source")
    return PageRow(
        number,
        row,
        source,
        # An answer of the whole photo rests on no face, whatever was found in it.
        None if box is None or source == Source.IMAGE else (box[0], box[1], box[2], box[3]),
        None if size is None else (size[0], size[1]),
        error,
    )


def _read_numbers(record: dict[str, Any], names: tuple[str, ...]) -> list[Any] | None:
    """Give a place or a size, the last two of whose numbers are sides; None for what is none."""
    numbers: list[Any] = [record.get(name) for name in names]
    return None if None in numbers or min(numbers[-2:]) <= 0 else numbers


# == Sums over the rows of a report, which its page and its plots show.

# Parts of equal width that confidences, 0 to 1, are counted in.
BINS = 20
# What the page calls each status.
STATUS_TEXTS = {
    Status.OK: "ok",
    Status.UNSURE: "unsure",
    Status.NEITHER: "neither",
    Status.NO_PERSON: "nobody there",
    Status.NO_FACE: "no face",
    Status.FAILED: "failed",
}


class Totals:
    """Counts of rows, and of their answers: labels, or reasons to give none.

    Attributes:
        labels: the model's, in its order; others are added as rows have them.
        abstain: the model's abstain outputs, and those that rows have as their status.
        by_status: rows by status.
        sure: answers that are sure of a label, by label.
        unsure: answers that are not, by label.
        bins: confidences, by answer and by part of the range 0 to 1.
        rows: all rows.
        photos: photos, of which each face may have a row.
        missing: rows that were kept for photos that are gone.
    """

    def __init__(self, labels: Sequence[str] = (), abstain: Sequence[str] = ()) -> None:
        self.labels = list(labels)
        self._abstain = set(abstain)
        self.by_status: Counter[str] = Counter()
        self.sure: Counter[str] = Counter()
        self.unsure: Counter[str] = Counter()
        self.bins: dict[str, list[int]] = {answer: [0] * BINS for answer in (*labels, *abstain)}
        self.rows = self.photos = self.missing = 0
        self._confidence = 0.0
        self._answers = 0
        self._last: str | None = None

    def add(self, row: SavedRow) -> None:
        """Count a row."""
        self.rows += 1
        self.photos += row.path != self._last
        self._last = row.path
        self.missing += row.missing
        self.by_status[row.status] += 1
        answer = row.answer
        if answer is None:
            return
        if row.label is None:
            self._abstain.add(answer)
        elif row.confidence is not None:
            if row.label not in self.labels:
                self.labels.append(row.label)
            (self.sure if row.status == Status.OK else self.unsure)[row.label] += 1
        if row.confidence is not None:
            bins = self.bins.setdefault(answer, [0] * BINS)
            bins[min(BINS - 1, int(row.confidence * BINS))] += 1
            self._confidence += row.confidence
            self._answers += 1

    @property
    def abstain(self) -> list[str]:
        """The abstain outputs that the report knows, in their usual order."""
        return [name for name in Abstain if name in self._abstain]

    @property
    def mean_confidence(self) -> float | None:
        """The mean over all answers that have one, 0 to 1; None without any."""
        return self._confidence / self._answers if self._answers else None

    def count_sure(self, answer: str) -> int:
        """Count the rows that have an answer and are not unsure of it."""
        return (self.by_status if answer in self._abstain else self.sure)[answer]

    def share(self, answer: str) -> float | None:
        """Give an answer's share of those that are not unsure, 0 to 1.

        None if there are none, or if the report does not know the answer.
        """
        total = self.sure.total() + sum(self.by_status[name] for name in self.abstain)
        return self.count_sure(answer) / total if total and answer in self.bins else None


# == A report read for its page: its sums, and the rows that the page has room for.

# Rows that a page holds: of a report of more, the failures and the least certain answers.
MAX_ROWS = 200_000


@dataclass(frozen=True)
class PageReport:
    """What was read: the sums of all rows, failures by reason, and rows in the report's order."""

    saved: SavedReport
    totals: Totals
    reasons: Mapping[str, int]
    rows: Sequence[PageRow]


def read_page_report(report: Path) -> PageReport:
    """Read a report; memory is bounded by ``MAX_ROWS``.

    Raises:
        ReportError: it is missing, no report, or damaged.
        UsageError: a package that its format needs is not installed.
    """
    with open_reader(report) as reader:
        saved = SavedReport(reader)
        totals, reasons = Totals(label_cells(saved), saved.abstain), Counter[str]()
        rows = _count_rows(reader, totals, reasons) if reader.columns else iter(())
        kept = heapq.nsmallest(MAX_ROWS, rows, key=attrgetter("rank"))
    return PageReport(saved, totals, reasons, sorted(kept, key=attrgetter("number")))


def digest_report(report: Path) -> str:
    """Give the SHA-256 of a report's file, in hexadecimal; of a dataset's, that of their list.

    Raises:
        ReportError: it is missing, or neither file nor dataset.
    """
    display_name = f"report {path_text(report)}"
    if is_dataset_at(report):
        return hashlib.sha256(require_success(report, display_name)).hexdigest()
    if is_device(report):
        raise ReportError(f"{display_name} is a pipe or device", "write it to a file first")
    with translate_read_errors(display_name), report.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _count_rows(reader: RecordReader, totals: Totals, reasons: Counter[str]) -> Iterator[PageRow]:
    for entry in read_page_rows(reader):
        totals.add(entry.row)
        if entry.reason:
            reasons[entry.reason] += 1
        yield entry
