"""The rows of a report as its page needs them: what was said, on what grounds, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from batch.path_text import as_cell
from batch.reading.fields import checked_records
from batch.reading.readers import RecordReader
from batch.reading.saved import NEEDED, SavedReport, SavedRow, is_missing
from batch.records import Reason, Source, Status
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
