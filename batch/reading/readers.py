"""Reading the formats of a report back: bytes become flat records, one at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any, BinaryIO, Protocol

from batch.errors import InputError
from batch.names import printable
from batch.reports.formats import ROW_GROUP, Format, Value, check_format

# Bytes. A path has 4,096 at most, and four characters for each if all are escaped.
MAX_LINE = 1 << 20
# The records' numbers, counted as their users would, and the values of the columns asked for.
Records = Iterator[tuple[int, tuple[Value, ...]]]
REMEDY = "give a report that batch-label wrote, or write it anew"


class ReportError(InputError):
    """A report can't be read back."""


class RecordReader(Protocol):
    """Reads records from a report, for which messages have the name ``called``.

    ``columns`` are those that it names, none where a file without rows names none; ``unit`` is
    what its records are numbered by. ``is_text`` tells that all values are texts, as CSV's are,
    and ``files`` is how many files are open while records are read.
    """

    called: str
    columns: tuple[str, ...]
    unit: str
    is_text: bool
    files: int

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once, with the values of two or more of the columns.

        CSV has texts alone, and None for an empty field.

        Raises:
            ReportError: one is damaged.
        """


def damaged(reader: RecordReader, number: int, why: str) -> ReportError:
    """Make the error for a record that can't be right."""
    return damage(f"{reader.called}, {reader.unit} {number}", why)


class CsvReader:
    """Comma-separated values with a header, also as a spreadsheet saves them."""

    unit = "line"
    is_text = True
    files = 1

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
    is_text = False
    files = 1

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
    """Apache Parquet, so many ``rows`` at a time; ``number`` is how many there are."""

    unit = "row"
    is_text = False
    files = 1

    def __init__(self, stream: BinaryIO, called: str, rows: int = ROW_GROUP) -> None:
        check_format(Format.PARQUET)
        import pyarrow.parquet

        self.called = called
        self._rows = rows
        with reading(called):
            try:
                self._file: Any = pyarrow.parquet.ParquetFile(stream)
            except ValueError as error:
                raise damage(called, f"no Parquet: {error}") from error
        self.columns = tuple(self._file.schema_arrow.names)
        self.number: int = self._file.metadata.num_rows

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
            with reading(self.called):
                for batch in batches:
                    yield [batch.column(name).to_pylist() for name in wanted]
        except ValueError as error:
            raise damage(self.called, str(error)) from error


def _lines(stream: BinaryIO, called: str) -> Iterator[str]:
    """Give the lines of UTF-8 text, without the byte-order mark that spreadsheets add."""
    with reading(called):
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE), b""), start=1):
            if len(line) == MAX_LINE:
                raise damage(f"{called}, line {number}", f"longer than {MAX_LINE} bytes")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise damage(f"{called}, line {number}", "no UTF-8") from error


def damage(where: str, why: str) -> ReportError:
    """Make the error for what can't be right; ``why`` is one line whatever it was."""
    return ReportError(f"{where} is damaged ({printable(' '.join(why.split()))})", REMEDY)


@contextmanager
def reading(called: str) -> Iterator[None]:
    """Turn what the system refuses while a report is read into a ``ReportError``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Arrow's own, which means what it has read
            raise damage(called, str(error)) from error
        why = printable(error.strerror or str(error))
        raise ReportError(f"{called} can't be read ({why})", "check its name and rights") from error
