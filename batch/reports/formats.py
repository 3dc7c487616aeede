"""Report formats: one table of their suffixes, writers, readers and required packages.

A new format is a member of ``Format``, an entry of ``FORMATS``, and a row in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import BinaryIO

from batch.errors import UsageError
from batch.reports.readers import CsvReader, JsonLinesReader, ParquetReader
from batch.reports.tabular import Column, RecordReader, RecordWriter, check_pyarrow
from batch.reports.writers import CsvWriter, JsonLinesWriter, ParquetWriter


class Format(StrEnum):
    """A format of reports; the value is the suffix that asks for it."""

    CSV = ".csv"
    JSONL = ".jsonl"
    PARQUET = ".parquet"
    XLSX = ".xlsx"


@dataclass(frozen=True)
class FormatSpec:
    """How reports of a format are written and read.

    Attributes:
        open_writer: makes a writer from a stream and the columns.
        open_reader: makes a reader from a stream, the report's name in messages, and the number
            of rows to hold in memory; None if the format is not read back.
        check_package: raises ``UsageError`` if a package that the format needs is not installed.
    """

    open_writer: Callable[[BinaryIO, Sequence[Column]], RecordWriter]
    open_reader: Callable[[BinaryIO, str, int], RecordReader] | None
    check_package: Callable[[], None]


def _check_nothing() -> None: ...


def _check_pyarrow() -> None:
    check_pyarrow("a report in Parquet", ", or name a .csv or .jsonl file")


def _check_xlsxwriter() -> None:
    try:
        import xlsxwriter  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "a workbook needs the package XlsxWriter, which is not installed",
            "run: pip install 'batch-label[xlsx]', or name a .csv or .jsonl file",
        ) from error


def _open_workbook(stream: BinaryIO, columns: Sequence[Column]) -> RecordWriter:
    from batch.reports.workbook import WorkbookWriter

    return WorkbookWriter(stream, columns)


FORMATS: Mapping[Format, FormatSpec] = {
    Format.CSV: FormatSpec(CsvWriter, lambda s, name, _: CsvReader(s, name), _check_nothing),
    Format.JSONL: FormatSpec(
        JsonLinesWriter, lambda s, name, _: JsonLinesReader(s, name), _check_nothing
    ),
    Format.PARQUET: FormatSpec(ParquetWriter, ParquetReader, _check_pyarrow),
    # A workbook is for people and is not read back.
    Format.XLSX: FormatSpec(_open_workbook, None, _check_xlsxwriter),
}
READABLE_FORMATS = tuple(form for form, spec in FORMATS.items() if spec.open_reader)


def find_format(name: str) -> Format | None:
    """Find the format that the suffix of a file's name asks for; None if no format has it."""
    suffix = PurePosixPath(name).suffix.lower()
    return Format(suffix) if suffix in FORMATS else None


def check_format(form: Format) -> None:
    """Make sure that the package that a format needs is installed.

    Raises:
        UsageError: it is not.
    """
    FORMATS[form].check_package()


def open_writer(form: Format, stream: BinaryIO, columns: Sequence[Column]) -> RecordWriter:
    """Start a report in a format.

    Raises:
        UsageError: the package that the format needs is not installed.
    """
    check_format(form)
    return FORMATS[form].open_writer(stream, columns)


def open_reader(form: Format, stream: BinaryIO, display_name: str, rows: int) -> RecordReader:
    """Open a report in one of ``READABLE_FORMATS``; Parquet holds ``rows`` rows in memory.

    Raises:
        ReportError: the beginning of the report is damaged.
        UsageError: the package that the format needs is not installed.
    """
    check_format(form)
    reader = FORMATS[form].open_reader
    assert reader is not None
    return reader(stream, display_name, rows)
