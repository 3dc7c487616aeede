"""Reading the formats of a report back: bytes become flat records, one at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from batch.download import opened
from batch.errors import InputError
from batch.formats import ROW_GROUP, Format, Value, check_format
from batch.location import Location
from batch.names import path_text, printable
from batch.output import is_device

# Bytes. A path has 4,096 at most, and four characters for each if all are escaped.
MAX_LINE = 1 << 20
# The records' numbers, counted as their users would, and the values of the columns asked for.
Records = Iterator[tuple[int, tuple[Value, ...]]]
REMEDY = "give a report that batch-label wrote, or write it anew"


class ReportError(InputError):
    """A report can't be read back."""


class RecordReader(Protocol):
    """Reads records from a file, for which messages have the name ``called``.

    ``columns`` are those that the file names, none where a file without rows names none;
    ``unit`` is what its records are numbered by.
    """

    called: str
    columns: tuple[str, ...]
    unit: str

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once, with the values of two or more of the columns.

        CSV has texts alone, and None for an empty field.

        Raises:
            ReportError: one is damaged.
        """


@contextmanager
def open_records(place: Location, rows: int = ROW_GROUP) -> Iterator[RecordReader]:
    """Open a report of any format; the name's suffix tells which, and pipes have CSV.

    One at a URL is read from its store as it is needed. Of Parquet, ``rows`` rows are held in
    memory.

    Raises:
        ReportError: it is missing, of no known format, or its beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    called = f"report {path_text(place)}"
    with _reading(called):
        stream = opened(place, called, ReportError)
    with stream:
        form = _format(place, called)
        if form is Format.PARQUET:
            yield ParquetReader(stream, called, rows)
        else:
            yield _READERS[form](stream, called)


def damaged(reader: RecordReader, number: int, why: str) -> ReportError:
    """Make the error for a record that can't be right."""
    return _damaged(f"{reader.called}, {reader.unit} {number}", why)


class CsvReader:
    """Comma-separated values with a header, also as a spreadsheet saves them."""

    unit = "line"

    def __init__(self, stream: BinaryIO, called: str) -> None:
        self.called = called
        self._rows = csv.reader(_lines(stream, called), strict=True)
        header = next(self._fields(), None)
        if header is None:
            raise ReportError(f"{called} is empty", REMEDY)
        self.columns = tuple(header)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
        pick, width = itemgetter(*map(self.columns.index, wanted)), len(self.columns)
        for fields in self._fields():
            if len(fields) != width:
                raise self._damage(f"it has {len(fields)} fields, not {width}")
            yield self._rows.line_num, tuple(field or None for field in pick(fields))

    def _fields(self) -> Iterator[list[str]]:
        try:
            yield from self._rows
        except csv.Error as error:
            raise self._damage(str(error)) from error

    def _damage(self, why: str) -> ReportError:
        return damaged(self, self._rows.line_num, why)


class JsonLinesReader:
    """One JSON object a line; the first one's keys are the columns."""

    unit = "line"

    def __init__(self, stream: BinaryIO, called: str) -> None:
        self.called = called
        self._lines = enumerate(_lines(stream, called), start=1)
        self._first = next(self._lines, None)
        self.columns = tuple(self._parsed(*self._first)) if self._first else ()

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
        if self._first is None:
            return
        pick, keys = itemgetter(*wanted), set(self.columns)
        yield self._first[0], pick(self._parsed(*self._first))
        for number, line in self._lines:
            record = self._parsed(number, line)
            if record.keys() != keys:
                raise damaged(self, number, "its keys are not those of the first line")
            yield number, pick(record)

    def _parsed(self, number: int, line: str) -> dict[str, Value]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise damaged(self, number, f"no JSON: {error}") from error
        if not isinstance(record, dict):
            raise damaged(self, number, "no JSON object")
        return record


class ParquetReader:
    """Apache Parquet, so many ``rows`` at a time."""

    unit = "row"

    def __init__(self, stream: BinaryIO, called: str, rows: int = ROW_GROUP) -> None:
        check_format(Format.PARQUET)
        import pyarrow.parquet

        self.called = called
        self._rows = rows
        with _reading(called):
            try:
                self._file: Any = pyarrow.parquet.ParquetFile(stream)
            except ValueError as error:
                raise _damaged(called, f"no Parquet: {error}") from error
        self.columns = tuple(self._file.schema_arrow.names)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
        number = 0
        for batch in self._batches(wanted):
            for values in zip(*batch, strict=True):
                number += 1
                yield number, values

    def _batches(self, wanted: Sequence[str]) -> Iterator[list[list[Value]]]:
        batches = self._file.iter_batches(batch_size=self._rows, columns=list(wanted))
        try:
            with _reading(self.called):
                for batch in batches:
                    yield [batch.column(name).to_pylist() for name in wanted]
        except ValueError as error:
            raise _damaged(self.called, str(error)) from error


_READERS: Mapping[Format, type[CsvReader] | type[JsonLinesReader]] = {
    Format.CSV: CsvReader,
    Format.JSONL: JsonLinesReader,
}


def _format(path: Location, called: str) -> Format:
    suffix = PurePosixPath(path.name).suffix
    if not suffix and isinstance(path, Path) and is_device(path):
        return Format.CSV
    try:
        return Format(suffix.lower())
    except ValueError:
        raise ReportError(
            f"{called} has no suffix that names a format", f"give one of {', '.join(Format)}"
        ) from None


def _lines(stream: BinaryIO, called: str) -> Iterator[str]:
    """Give the lines of UTF-8 text, without the byte-order mark that spreadsheets add."""
    with _reading(called):
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE), b""), start=1):
            if len(line) == MAX_LINE:
                raise _damaged(f"{called}, line {number}", f"longer than {MAX_LINE} bytes")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _damaged(f"{called}, line {number}", "no UTF-8") from error


def _damaged(where: str, why: str) -> ReportError:
    return ReportError(f"{where} is damaged ({printable(' '.join(why.split()))})", REMEDY)


@contextmanager
def _reading(called: str) -> Iterator[None]:
    """Turn what the system refuses while a report is read into a ``ReportError``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Arrow's own, which means what it has read
            raise _damaged(called, str(error)) from error
        why = printable(error.strerror or str(error))
        raise ReportError(f"{called} can't be read ({why})", "check its name and rights") from error
