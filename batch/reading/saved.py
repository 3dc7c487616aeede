"""Reports read back: opened by format, as records or as rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from batch.errors import ReportError
from batch.files.publish import is_device
from batch.location import Location, Url, parse_location
from batch.path_text import is_printable, path_text
from batch.reading.dataset_reader import DatasetReader
from batch.reading.fields import read_checked_records
from batch.records import ABSTAIN_OUTPUTS, MAX_LABELS, Abstain
from batch.reports import formats
from batch.reports.columns import is_missing
from batch.reports.dataset import DATASET_SUFFIX
from batch.reports.formats import READABLE_FORMATS, Format, find_format
from batch.reports.readers import columns_error, translate_read_errors
from batch.reports.tabular import ROW_GROUP_ROWS, RecordReader
from batch.stores.download import open_location

# Columns that a report must have. `face` and `p_<label>` depend on the run, old reports lack
# `sha256`, and other columns are ignored.
REQUIRED_COLUMNS = ("path", "status", "label", "confidence", "error")
DIGEST_COLUMN = "sha256"


class SavedRow(NamedTuple):
    """A row of a saved report, about a photo or one of its faces.

    Attributes:
        path: the text in the report.
        status: the text in the report.
        label: the text in the report; None without a label.
        confidence: 0 to 1; None without a label.
        face: 1 for the main face; None in a row about a photo.
        missing: whether the row was kept for a photo that no longer exists.
        digest: SHA-256 of the photo's bytes; None if it is not known.
    """

    path: str
    status: str
    label: str | None = None
    confidence: float | None = None
    face: int | None = None
    missing: bool = False
    digest: bytes | None = None

    @property
    def answer(self) -> str | None:
        """The label, or `neither` or `no_person`; None if the photo has no answer."""
        return self.status if self.label is None and self.status in ABSTAIN_OUTPUTS else self.label


class SavedReport:
    """A report that is open for reading.

    Attributes:
        display_name: its name in messages.
        per_face: whether it has one row per face.
        has_digests: whether it has the column `sha256`.
        labels: the model's labels as the columns name them, in their order; None for a report in
            JSON Lines without rows.
        abstain: the model's abstain outputs.
    """

    def __init__(self, reader: RecordReader) -> None:
        columns = reader.columns
        self.display_name = reader.display_name
        self.per_face = "face" in columns
        self.has_digests = DIGEST_COLUMN in columns
        self.labels: tuple[str, ...] | None = None
        self.abstain = tuple(name for name in Abstain if f"p_{name}" in columns)
        self._reader = reader
        if columns:
            check_columns(columns, reader.display_name)
            outputs = (name[2:] for name in columns if name.startswith("p_"))
            self.labels = tuple(name for name in outputs if name not in ABSTAIN_OUTPUTS)

    def rows(self) -> Iterator[SavedRow]:
        """Read the rows in the report's order, once.

        Raises:
            ReportError: a row is damaged; the message has its number.
        """
        per_face, has_digests = self.per_face, self.has_digests
        more = (*(("face",) if per_face else ()), *((DIGEST_COLUMN,) if has_digests else ()))
        for _, (path, status, label, confidence, error, *rest) in read_checked_records(
            self._reader, (*REQUIRED_COLUMNS, *more)
        ):
            face = rest[0] if per_face else None
            digest = bytes.fromhex(rest[-1]) if has_digests and rest[-1] else None
            yield SavedRow(path, status, label, confidence, face, is_missing(error), digest)


@contextmanager
def open_saved_report(report: str | Location) -> Iterator[SavedReport]:
    """Open a report of any readable format to read its rows.

    Raises:
        ReportError: it is missing, not a report, or its beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    with open_reader(parse_location(report) if isinstance(report, str) else report) as reader:
        yield SavedReport(reader)


@contextmanager
def open_reader(place: Location, rows: int = ROW_GROUP_ROWS) -> Iterator[RecordReader]:
    """Open a report of any readable format to read its records.

    The suffix of the name tells the format; pipes have CSV. Folders, and URLs that end in ``/``,
    are datasets. An object is read from its store in parts, as they are needed.

    Args:
        place: the report.
        rows: rows of Parquet to hold in memory at a time.

    Raises:
        ReportError: it is missing, has an unknown format, is an incomplete dataset, or its
            beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    display_name = f"report {path_text(place)}"
    if is_dataset_at(place):
        yield DatasetReader(place, display_name, rows)
        return
    if isinstance(place, Url) and find_format(place.name) is None:
        # Checked before the request: the URL of a dataset without its final slash is not an object.
        _find_readable_format(place, display_name)
    with translate_read_errors(display_name):
        stream = open_location(place, display_name, ReportError)
    with stream:
        form = _find_readable_format(place, display_name)
        yield formats.open_reader(form, stream, display_name, rows)


def is_dataset_at(place: Location) -> bool:
    """Tell whether a location to read is a dataset, complete or not."""
    return place.text.endswith(DATASET_SUFFIX) if isinstance(place, Url) else place.is_dir()


def _find_readable_format(place: Location, display_name: str) -> Format:
    if isinstance(place, Path) and not PurePosixPath(place.name).suffix and is_device(place):
        return Format.CSV
    form, names = find_format(place.name), ", ".join(READABLE_FORMATS)
    if form is None:
        raise ReportError(
            f"{display_name} has no suffix that names a format",
            f"give one of {names}, or a dataset, whose URL ends in {DATASET_SUFFIX}",
        )
    if form not in READABLE_FORMATS:
        raise ReportError(
            f"{display_name} has the format {form}, which is only written",
            f"give a report in one of {names}",
        )
    return form


def check_columns(columns: tuple[str, ...], display_name: str) -> None:
    """Make sure that columns are those of a report.

    Raises:
        ReportError: a column is missing, or they name labels that a model can't have.
    """
    absent = [name for name in REQUIRED_COLUMNS if name not in columns]
    outputs = [name for name in columns if name.startswith("p_")]
    unprintable = [name for name in outputs if not is_printable(name)]
    if absent:
        raise columns_error(display_name, f"it lacks {', '.join(absent)}", columns)
    if unprintable:
        raise columns_error(display_name, f"its column {unprintable[0]} can't be printed", columns)
    if len(outputs) > MAX_LABELS + len(ABSTAIN_OUTPUTS):
        raise columns_error(display_name, f"it names {len(outputs)} labels", columns)
