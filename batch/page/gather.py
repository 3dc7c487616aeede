"""Reads a report for its page: the rows that fit into a page, and totals over all rows."""

from __future__ import annotations

import hashlib
import heapq
import os
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
from batch.reading.held_out import place_digest
from batch.reading.saved import (
    REQUIRED_COLUMNS,
    SavedReport,
    SavedRow,
    is_dataset_at,
    open_reader,
)
from batch.records import Abstain, Reason, Source, Status
from batch.reports.columns import BOX_COLUMNS, is_missing, parse_reason
from batch.reports.readers import translate_read_errors
from batch.reports.tabular import RecordReader

_SIZE = ("width", "height")
# Further columns, which not all reports have.
_MORE = ("face", "source", "faces", *BOX_COLUMNS, *_SIZE, "sha256", "taken", "camera")
_REASONS = frozenset(map(str, Reason))
# Reason of a failure whose column `error` names no known reason.
OTHER_REASON = "other"
# Most rows in a page. A longer report is cut to its failures, reviewed rows, photos that can be in
# the random sample, and least certain answers.
MAX_ROWS = 200_000
# Place of the digests from which photos can be in the random sample of a report that is cut.
SAMPLE_KEPT_FROM = 0.99
# Bins of equal width for confidences, 0 to 1.
BINS = 20
# Statuses as the page names them.
STATUS_TEXTS = {status: status.replace("_", " ") for status in Status}

# Left, top, width, height.
PixelBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row of a report, with the columns that the page needs.

    Attributes:
        number: number of the row in the report, from 0.
        saved: the columns that all readers of reports use.
        source: the column ``source``.
        box: box of the face that the answer depends on, in pixels of the upright photo; None if it
            depends on the whole photo.
        size: width and height of the upright photo in pixels; None if the report has none.
        error: the column ``error``.
        faces: number of faces in the photo; None if unknown.
        sha256: digest of the photo's bytes; None if the report has none.
        taken: the column ``taken``.
        camera: the column ``camera``.
    """

    number: int
    saved: SavedRow
    source: str | None = None
    box: PixelBox | None = None
    size: tuple[int, int] | None = None
    error: str | None = None
    faces: int | None = None
    sha256: bytes | None = None
    taken: str | None = None
    camera: str | None = None

    @property
    def can_review(self) -> bool:
        """Whether people can answer for the row: the photo can be seen."""
        return self.saved.status != Status.FAILED and not self.saved.missing

    def is_above(self, place: float) -> bool:
        """Return whether the place of the photo's digest among all, 0 to 1, is at least this."""
        # The first byte excludes most rows at a tenth of the time.
        if self.sha256 is None or self.sha256[0] < int(place * 256):
            return False
        return place_digest(self.sha256.hex()) >= place

    @property
    def doubt(self) -> tuple[float, int]:
        """Sort key: the least certain answers first, rows without an answer last."""
        return 2.0 if self.saved.confidence is None else self.saved.confidence, self.number

    @property
    def rank(self) -> tuple[object, ...]:
        """Sort key: what is kept of a report that is cut comes first."""
        is_failed = self.saved.status == Status.FAILED
        start = not is_failed, self.source != Source.REVIEW
        if self.sha256 and self.is_above(SAMPLE_KEPT_FROM):
            return *start, False, bytes(255 - byte for byte in self.sha256), self.number
        return *start, True, *self.doubt

    @property
    def reason(self) -> str | None:
        """The reason of a failure, one word; None if the row did not fail."""
        if self.saved.status != Status.FAILED:
            return None
        reason = parse_reason(self.error)
        return reason if reason in _REASONS else OTHER_REASON


class Totals:
    """Counts of rows and of their answers, which are labels or abstain outputs.

    Attributes:
        labels: labels of the model in its order, then other labels of the rows.
        abstain: abstain outputs of the model or of the rows.
        by_status: rows by status.
        sure: sure answers by label.
        unsure: unsure answers by label.
        bins: answers by label or abstain output, and by bin of their confidence.
        rows: all rows.
        photos: photos; with one row per face, a photo has several rows.
        missing: rows of photos that no longer exist.
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
        """The abstain outputs of the report, in their usual order."""
        return [name for name in Abstain if name in self._abstain]

    @property
    def mean_confidence(self) -> float | None:
        """Mean over all answers with a confidence, 0 to 1; None without any."""
        return self._confidence / self._answers if self._answers else None

    def count_sure(self, answer: str) -> int:
        """Count the rows with this answer that are not unsure."""
        return (self.by_status if answer in self._abstain else self.sure)[answer]

    def share(self, answer: str) -> float | None:
        """Compute the share of an answer among those that are not unsure, 0 to 1.

        Returns:
            The share; None without such answers, or if the models do not give this one.
        """
        total = self.sure.total() + sum(self.by_status[name] for name in self.abstain)
        return self.count_sure(answer) / total if total and answer in self.bins else None


@dataclass(frozen=True)
class PageReport:
    """A report as its page shows it.

    Attributes:
        saved: the report.
        totals: counts over all rows.
        reasons: failures by reason.
        rows: at most ``MAX_ROWS`` rows, in the order of the report.
    """

    saved: SavedReport
    totals: Totals
    reasons: Mapping[str, int]
    rows: Sequence[PageRow]


def read_page_report(report: Path) -> PageReport:
    """Read a report; memory is bounded by ``MAX_ROWS``.

    Raises:
        ReportError: the file is missing, damaged, or not a report.
        UsageError: a package that its format needs is not installed.
    """
    with open_reader(report) as reader:
        saved = SavedReport(reader)
        totals, reasons = Totals(label_cells(saved), saved.abstain), Counter[str]()
        rows = _read_rows(reader, totals, reasons) if reader.columns else iter(())
        kept = heapq.nsmallest(MAX_ROWS, rows, key=attrgetter("rank"))
    return PageReport(saved, totals, reasons, sorted(kept, key=attrgetter("number")))


def _read_rows(reader: RecordReader, totals: Totals, reasons: Counter[str]) -> Iterator[PageRow]:
    """Yield the rows of a report, and count them in ``totals`` and ``reasons``."""
    columns = (*REQUIRED_COLUMNS, *(name for name in _MORE if name in reader.columns))
    for number, (_, values) in enumerate(read_checked_records(reader, columns)):
        row = _to_page_row(number, dict(zip(columns, values, strict=True)))
        totals.add(row.saved)
        if row.reason:
            reasons[row.reason] += 1
        yield row


def _to_page_row(number: int, record: dict[str, Any]) -> PageRow:
    path, status, label, confidence, error = (record[name] for name in REQUIRED_COLUMNS)
    box = _read_numbers(record, BOX_COLUMNS)
    size = _read_numbers(record, _SIZE)
    source, sha256 = record.get("source"), record.get("sha256")
    return PageRow(
        number,
        SavedRow(path, status, label, confidence, record.get("face"), is_missing(error)),
        source,
        # An answer from the whole photo does not depend on the faces found in it.
        None if box is None or source == Source.IMAGE else (box[0], box[1], box[2], box[3]),
        None if size is None else (size[0], size[1]),
        error,
        record.get("faces"),
        bytes.fromhex(sha256) if sha256 else None,
        record.get("taken"),
        record.get("camera"),
    )


def _read_numbers(record: dict[str, Any], names: tuple[str, ...]) -> list[Any] | None:
    """Read a box or a size, which ends in width and height; None if incomplete or empty."""
    numbers: list[Any] = [record.get(name) for name in names]
    return None if None in numbers or min(numbers[-2:]) <= 0 else numbers


def label_cells(report: SavedReport) -> list[str]:
    """List the labels of a report as they are written in its column ``label``."""
    return [escape_formula(name) for name in report.labels or ()]


def digest_report(report: Path) -> str:
    """Compute the SHA-256 of a report file, or of the file list of a dataset, in hexadecimal.

    Raises:
        ReportError: the path is missing, or is neither a file nor a dataset.
    """
    display_name = f"report {path_text(report)}"
    if is_dataset_at(report):
        return hashlib.sha256(require_success(report, display_name)).hexdigest()
    if is_device(report):
        raise ReportError(f"{display_name} is a pipe or device", "write it to a file first")
    with translate_read_errors(display_name), report.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identify_series(report: Path) -> str:
    """Identify the reports that are written to a path one after another, without its name."""
    return hashlib.sha256(os.fsencode(os.path.normpath(report.absolute()))).hexdigest()
