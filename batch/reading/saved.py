"""Reports read back: what an earlier run said of every file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from batch.location import Location, location_of
from batch.names import printable
from batch.reading.opening import open_records
from batch.reading.readers import REMEDY, RecordReader, ReportError, damaged
from batch.records import ABSTAIN, Abstain, Status
from batch.reports.columns import MISSING
from batch.reports.formats import Value

# The columns that a report must have; `face` and `p_<label>` depend on the run, and others
# are passed over, so that reports of other versions can be read.
NEEDED = ("path", "status", "label", "confidence", "error")

# Columns `p_<output>` that are no labels'.

_STATUSES = frozenset(map(str, Status))


@dataclass(frozen=True, slots=True)
class SavedRow:
    """What a report says of a photo, or of one of its faces.

    ``path`` and ``label`` are texts as the report has them, ``face`` is 1 for the main face
    and None in a row about the photo, ``confidence`` is 0 to 1, and ``missing`` tells that
    the photo was gone and its row was kept.
    """

    path: str
    status: str
    label: str | None = None
    confidence: float | None = None
    face: int | None = None
    missing: bool = False

    @property
    def answer(self) -> str | None:
        """The label, or the status that takes its place; None where the row has no answer."""
        return self.status if self.label is None and self.status in ABSTAIN else self.label


class SavedReport:
    """A report that is open for reading.

    ``called`` is its name in messages. ``labels`` are the model's, in its order and as the
    columns have them; None where a report in JSON Lines has no rows to name them. ``abstain``
    are the model's abstain outputs, none in a report of a release that had none.
    """

    def __init__(self, reader: RecordReader) -> None:
        columns = reader.columns
        self.called = reader.called
        self.per_face = "face" in columns
        self.labels: tuple[str, ...] | None = None
        self.abstain = tuple(name for name in Abstain if f"p_{name}" in columns)
        self._reader = reader
        if columns:
            check_columns(columns, reader.called)
            outputs = (name[2:] for name in columns if name.startswith("p_"))
            self.labels = tuple(name for name in outputs if name not in ABSTAIN)

    def rows(self) -> Iterator[SavedRow]:
        """Read the rows in the report's order, once.

        Raises:
            ReportError: one is damaged; the message has its number.
        """
        wanted = (*NEEDED, "face") if self.per_face else NEEDED
        for number, values in self._reader.records(wanted):
            try:
                row = saved_row(*values)
            except ValueError as error:
                raise damaged(self._reader, number, str(error)) from error
            yield row


@contextmanager
def open_saved(report: str | Location) -> Iterator[SavedReport]:
    """Open a report of any of the three formats to read it back.

    Raises:
        ReportError: it is missing, no report, or its beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    with open_records(location_of(report) if isinstance(report, str) else report) as reader:
        yield SavedReport(reader)


def check_columns(columns: tuple[str, ...], called: str) -> None:
    """Make sure that columns are those of a report.

    Raises:
        ReportError: one is lacking, or there twice.
    """
    absent = [name for name in NEEDED if name not in columns]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if absent or twice:
        what = f"lacks {', '.join(absent)}" if absent else f"has {', '.join(twice)} twice"
        shown = printable(", ".join(columns))[:200]
        raise ReportError(f"{called} is no report: it {what} (its columns are {shown})", REMEDY)


def saved_row(
    path: Value, status: Value, label: Value, confidence: Value, error: Value, face: Value = None
) -> SavedRow:
    """Make a row of the values of ``NEEDED`` and of the column ``face``.

    Raises:
        ValueError: one of them can't be right.
    """
    name = text_of(path, "path")
    if name is None:
        raise ValueError("no path")
    if not isinstance(status, str) or status not in _STATUSES:
        raise ValueError(f"status {status} is none of {', '.join(Status)}")
    failure = text_of(error, "error")
    return SavedRow(
        name,
        status,
        text_of(label, "label"),
        _share(confidence),
        None if face is None else _number(face),
        failure is not None and failure.startswith(MISSING),
    )


def text_of(value: Value, column: str) -> str | None:
    """Check a text of a report; None where there is none.

    Raises:
        ValueError: it is something else, or no Unicode.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{column} {value} is no text")
    value.encode()  # JSON can spell what is no Unicode text: that is a ValueError
    return value


def _share(value: Value) -> float | None:
    if value is None:
        return None
    share = real_of(value, "confidence")
    if not 0 <= share <= 1:
        raise ValueError(f"confidence {value} is not between 0 and 1")
    return share


def _number(value: Value) -> int:
    number = real_of(value, "face")
    if number < 1 or not number.is_integer():
        raise ValueError(f"face {value} is no number of a face")
    return int(number)


def real_of(value: Value, column: str) -> float:
    """Read a number of a report, which CSV has as text.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{column} {value} is no number") from None
