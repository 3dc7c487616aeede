"""Reports opened to be read back, whatever they are: files of any format, or datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from batch.errors import ReportError
from batch.files.publish import is_device
from batch.location import Location, Url
from batch.path_text import path_text
from batch.reading.dataset_reader import DatasetReader
from batch.reading.readers import CsvReader, JsonLinesReader, ParquetReader, RecordReader, reading
from batch.reports.dataset import ENDING
from batch.reports.formats import READABLE, ROW_GROUP, Format
from batch.stores.download import opened

_READERS: Mapping[Format, type[CsvReader] | type[JsonLinesReader]] = {
    Format.CSV: CsvReader,
    Format.JSONL: JsonLinesReader,
}


@contextmanager
def open_records(place: Location, rows: int = ROW_GROUP) -> Iterator[RecordReader]:
    """Open a report of any format.

    The name's suffix tells which, and pipes have CSV; folders, and URLs that end in ``/``, are
    datasets. One at a URL is read from its store as it is needed. Of Parquet, ``rows`` rows are
    held in memory.

    Raises:
        ReportError: it is missing, of no known format, no whole dataset, or its beginning is
            damaged.
        UsageError: a package that its format needs is not installed.
    """
    called = f"report {path_text(place)}"
    if is_dataset_at(place):
        yield DatasetReader(place, called, rows)
        return
    if isinstance(place, Url):
        _format(place, called)  # before it is asked for: a dataset without its slash is no object
    with reading(called):
        stream = opened(place, called, ReportError)
    with stream:
        form = _format(place, called)
        if form is Format.PARQUET:
            yield ParquetReader(stream, called, rows)
        else:
            yield _READERS[form](stream, called)


def is_dataset_at(place: Location) -> bool:
    """Tell whether what is to be read is a dataset, whole or not."""
    return place.text.endswith(ENDING) if isinstance(place, Url) else place.is_dir()


def _format(path: Location, called: str) -> Format:
    suffix = PurePosixPath(path.name).suffix
    if not suffix and isinstance(path, Path) and is_device(path):
        return Format.CSV
    if suffix.lower() == Format.XLSX:
        raise ReportError(
            f"{called} is a workbook, which is for people and is not read back",
            f"give a report in one of {', '.join(READABLE)}",
        )
    try:
        return Format(suffix.lower())
    except ValueError:
        raise ReportError(
            f"{called} has no suffix that names a format",
            f"give one of {', '.join(READABLE)}, or a dataset, whose URL ends in {ENDING}",
        ) from None
