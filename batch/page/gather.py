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
from batch.path_text import as_cell, path_text
from batch.reading.dataset_reader import success_of
from batch.reading.fields import checked_records
from batch.reading.readers import RecordReader, reading
from batch.reading.saved import (
    NEEDED,
    SavedReport,
    SavedRow,
    is_dataset_at,
    is_missing,
    open_records,
)
from batch.records import Abstain, Reason, Source, Status
from batch.reports.columns import MISSING

_BOX = ("face_left", "face_top", "face_width", "face_height")
_SIZE = ("width", "height")
_REASONS = frozenset(map(str, Reason))
# What stands for the reason of a failure of which no known one is given.
OTHER = "other"

Place = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the report.

    ``number`` counts the report's rows from 0. ``box`` is the left, top, width and height of the
    face that the answer rests on, and ``size`` the photo's width and height, all in pixels of the
    upright photo; None where there are none. ``error`` is the report's text.
    """

    number: int
    row: SavedRow
    source: str | None = None
    box: Place | None = None
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
        said = (self.error or "").removeprefix(MISSING)
        words = (said.partition("; ")[2] if self.row.missing else said).partition(":")[0]
        return words if words in _REASONS else OTHER


def labels_of(report: SavedReport) -> list[str]:
    """Name the labels of a report as its column ``label`` has them, in the model's order."""
    return [as_cell(name) for name in report.labels or ()]


def entries(reader: RecordReader) -> Iterator[Entry]:
    """Read the rows of a report whose columns were checked, in their order, once.

    Raises:
        ReportError: one is damaged; the message has its number.
    """
    more = ("face", "source", *_BOX, *_SIZE)
    wanted = (*NEEDED, *(name for name in more if name in reader.columns))
    for number, (_, values) in enumerate(checked_records(reader, wanted)):
        yield _entry(number, dict(zip(wanted, values, strict=True)))


def _entry(number: int, said: dict[str, Any]) -> Entry:
    path, status, label, confidence, error = (said[name] for name in NEEDED)
    row = SavedRow(path, status, label, confidence, said.get("face"), is_missing(error))
    box = _numbers(said, _BOX)
    size = _numbers(said, _SIZE)
    source = said.get("source")
    return Entry(
        number,
        row,
        source,
        # An answer of the whole photo rests on no face, whatever was found in it.
        None if box is None or source == Source.IMAGE else (box[0], box[1], box[2], box[3]),
        None if size is None else (size[0], size[1]),
        error,
    )


def _numbers(said: dict[str, Any], names: tuple[str, ...]) -> list[Any] | None:
    """Give a place or a size, the last two of whose numbers are sides; None for what is none."""
    numbers: list[Any] = [said.get(name) for name in names]
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

    def settled(self, answer: str) -> int:
        """Count the rows that have an answer and are not unsure of it."""
        return (self.by_status if answer in self._abstain else self.sure)[answer]

    def share(self, answer: str) -> float | None:
        """Give an answer's share of those that are not unsure, 0 to 1.

        None if there are none, or if the report does not know the answer.
        """
        total = self.sure.total() + sum(self.by_status[name] for name in self.abstain)
        return self.settled(answer) / total if total and answer in self.bins else None


# == A report read for its page: its sums, and the rows that the page has room for.

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
