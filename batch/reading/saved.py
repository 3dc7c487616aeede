"""Reports opened to be read back, whatever they are: files of any format, or datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from batch.errors import ReportError
from batch.files.publish import is_device
from batch.location import Location, Url, parse_location
from batch.path_text import is_printable, path_text
from batch.reading.dataset_reader import DatasetReader
from batch.reading.fields import read_checked_records
from batch.reading.readers import (
    CsvReader,
    JsonLinesReader,
    ParquetReader,
    RecordReader,
    columns_error,
    translate_read_errors,
)
from batch.records import ABSTAIN_OUTPUTS, MAX_LABELS, Abstain
from batch.reports.columns import MISSING_PREFIX
from batch.reports.dataset import DATASET_SUFFIX
from batch.reports.formats import READABLE_FORMATS, ROW_GROUP_ROWS, Format
from batch.stores.download import open_location

_READERS: Mapping[Format, type[CsvReader] | type[JsonLinesReader]] = {
    Format.CSV: CsvReader,
    Format.JSONL: JsonLinesReader,
}


@contextmanager
def open_reader(place: Location, rows: int = ROW_GROUP_ROWS) -> Iterator[RecordReader]:
    """Open a report of any format.

    The name's suffix tells which, and pipes have CSV; folders, and URLs that end in ``/``, are
    datasets. One at a URL is read from its store as it is needed. Of Parquet, ``rows`` rows are
    held in memory.

    Raises:
        ReportError: it is missing, of no known format, no whole dataset, or its beginning is
            damaged.
        UsageError: a package that its format needs is not installed.
    """
    display_name = f"report {path_text(place)}"
    if is_dataset_at(place):
        yield DatasetReader(place, display_name, rows)
        return
    if isinstance(place, Url):
        _find_format(
            place, display_name
        )  # before it is asked for: a dataset without its slash is no object
    with translate_read_errors(display_name):
        stream = open_location(place, display_name, ReportError)
    with stream:
        form = _find_format(place, display_name)
        if form is Format.PARQUET:
            yield ParquetReader(stream, display_name, rows)
        else:
            yield _READERS[form](stream, display_name)


def is_dataset_at(place: Location) -> bool:
    """Tell whether what is to be read is a dataset, whole or not."""
    return place.text.endswith(DATASET_SUFFIX) if isinstance(place, Url) else place.is_dir()


def _find_format(path: Location, display_name: str) -> Format:
    suffix = PurePosixPath(path.name).suffix
    if not suffix and isinstance(path, Path) and is_device(path):
        return Format.CSV
    if suffix.lower() == Format.XLSX:
        raise ReportError(
            f"{display_name} is a workbook, which is for people and is not read back",
            f"give a report in one of {', '.join(READABLE_FORMATS)}",
        )
    try:
        return Format(suffix.lower())
    except ValueError:
        raise ReportError(
            f"{display_name} has no suffix that names a format",
            f"give one of {', '.join(READABLE_FORMATS)}, or a dataset, whose URL ends in {DATASET_SUFFIX}",
        ) from None


# == Reports read back: what an earlier run said of every file.

# The columns that a report must have; `face` and `p_<label>` depend on the run, and others
# are passed over, so that reports of other versions can be read.
REQUIRED_COLUMNS = ("path", "status", "label", "confidence", "error")


class SavedRow(NamedTuple):
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
        return self.status if self.label is None and self.status in ABSTAIN_OUTPUTS else self.label


class SavedReport:
    """A report that is open for reading.

    ``display_name`` is its name in messages. ``labels`` are the model's, in its order and as the
    columns have them; None where a report in JSON Lines has no rows to name them. ``abstain``
    are the model's abstain outputs, none in a report of a release that had none.
    """

    def __init__(self, reader: RecordReader) -> None:
        columns = reader.columns
        self.display_name = reader.display_name
        self.per_face = "face" in columns
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
            ReportError: one is damaged; the message has its number.
        """
        wanted = (*REQUIRED_COLUMNS, "face") if self.per_face else REQUIRED_COLUMNS
        for _, (path, status, label, confidence, error, *face) in read_checked_records(
            self._reader, wanted
        ):
            missing = is_missing(error)
            yield SavedRow(path, status, label, confidence, face[0] if face else None, missing)


@contextmanager
def open_saved_report(report: str | Location) -> Iterator[SavedReport]:
    """Open a report of any of the three formats to read it back.

    Raises:
        ReportError: it is missing, no report, or its beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    with open_reader(parse_location(report) if isinstance(report, str) else report) as reader:
        yield SavedReport(reader)


def check_columns(columns: tuple[str, ...], display_name: str) -> None:
    """Make sure that columns are those of a report.

    Raises:
        ReportError: one is lacking, or they name labels that no model has.
    """
    absent = [name for name in REQUIRED_COLUMNS if name not in columns]
    outputs = [name for name in columns if name.startswith("p_")]
    odd = [name for name in outputs if not is_printable(name)]
    if absent or odd or len(outputs) > MAX_LABELS + len(ABSTAIN_OUTPUTS):
        what = f"its column {odd[0]} can't be printed" if odd else f"it names {len(outputs)} labels"
        what = f"it lacks {', '.join(absent)}" if absent else what
        raise columns_error(display_name, what, columns)


def is_missing(error: str | None) -> bool:
    """Tell by a row's ``error`` whether its photo was gone."""
    return error is not None and error.startswith(MISSING_PREFIX)
