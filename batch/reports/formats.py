"""Whether Apache Arrow is there, which reads and writes Parquet and ORC and comes with an extra."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, BinaryIO, Protocol

from batch.errors import UsageError

# What Arrow raises of a file that is damaged, by the built-in bases of its exceptions; an OSError
# without a number is another.
ARROW_ERRORS = (ValueError, TypeError, LookupError, NotImplementedError)


def check_pyarrow(user: str, otherwise: str = "") -> None:
    """Make sure that pyarrow is installed; ``user`` names what needs it.

    ``otherwise`` ends the remedy with what can be done without it.

    Raises:
        UsageError: it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{user} needs the package pyarrow, which is not installed",
            f"run: pip install 'batch-label[parquet]'{otherwise}",
        ) from error


# == The formats of a report: how flat records become bytes, one row at a time.

Value = str | float | int | None
Record = Mapping[str, Value]

# Rows that Parquet keeps in memory before it writes them: about 10 MB.
ROW_GROUP_ROWS = 8_192


class Format(StrEnum):
    """A report's format; the value is the suffix that asks for it."""

    CSV = ".csv"
    JSONL = ".jsonl"
    PARQUET = ".parquet"
    XLSX = ".xlsx"


# Those that are read back; a workbook is for people.
READABLE_FORMATS = tuple(form for form in Format if form is not Format.XLSX)


class ColumnKind(Enum):
    """What a column's values are."""

    TEXT = "text"
    FLOAT = "real"
    INT32 = "whole"
    INT64 = "long"  # what counts more than 32 bits do


@dataclass(frozen=True)
class Column:
    """A column's name and kind, and the digits after the point that its values have."""

    name: str
    kind: ColumnKind = ColumnKind.TEXT
    decimals: int = 0


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of them."""


class RecordWriter(Protocol):
    """Writes records to a stream."""

    def write(self, record: Record) -> None:
        """Write one record, which has a value or None for each column."""

    def finish(self) -> None:
        """Write what is still held back; nothing may follow."""


def open_writer(form: Format, stream: BinaryIO, columns: Sequence[Column]) -> RecordWriter:
    """Begin a report of a format.

    Raises:
        UsageError: the format needs a package that is not installed.
    """
    if form is Format.PARQUET:
        return ParquetWriter(stream, columns)
    if form is Format.XLSX:
        from batch.reports.workbook import WorkbookWriter

        return WorkbookWriter(stream, columns)
    return CsvWriter(stream, columns) if form is Format.CSV else JsonLinesWriter(stream, columns)


def check_format(form: Format) -> None:
    """Make sure that a format's package is installed.

    Raises:
        UsageError: it is not.
    """
    if form is Format.PARQUET:
        check_pyarrow("a report in Parquet", ", or name a .csv or .jsonl file")
    elif form is Format.XLSX:
        from batch.reports.workbook import check_xlsxwriter

        check_xlsxwriter()


class CsvWriter:
    r"""Comma-separated values (RFC 4180, but lines end in ``\n``): UTF-8, with a header."""

    def __init__(self, stream: BinaryIO, columns: Sequence[Column]) -> None:
        self._names = tuple(column.name for column in columns)
        self._reals = [
            (at, f"%.{column.decimals}f", column)
            for at, column in enumerate(columns)
            if column.kind is ColumnKind.FLOAT
        ]
        self._writer = csv.writer(_Utf8(stream), lineterminator="\n")
        self._writer.writerow(self._names)

    def write(self, record: Record) -> None:
        """Write one line; None is an empty field, and numbers have all their decimals."""
        fields = [record[name] for name in self._names]
        for at, form, column in self._reals:
            value = fields[at]
            # As `field_text` does, of which a row would take a third of its time.
            fields[at] = form % value if type(value) is float else field_text(value, column)
        self._writer.writerow(fields)  # to which None is an empty field as well

    def finish(self) -> None:
        """Do nothing: no row is held back."""


class JsonLinesWriter:
    """One JSON object a line, keys in the order of the columns; None is null."""

    def __init__(self, stream: BinaryIO, columns: Sequence[Column]) -> None:
        self._stream = stream
        self._names = tuple(column.name for column in columns)
        self._encode = json.JSONEncoder(ensure_ascii=False).encode

    def write(self, record: Record) -> None:
        """Write one line."""
        line = self._encode({name: record[name] for name in self._names})
        self._stream.write(line.encode() + b"\n")

    def finish(self) -> None:
        """Do nothing: no row is held back."""


class ParquetWriter:
    """Apache Parquet: typed columns, the same bytes every time.

    ``group`` rows are held in memory and written at a time; ``metadata`` goes into the footer.
    """

    def __init__(
        self,
        stream: Sink,
        columns: Sequence[Column],
        group: int = ROW_GROUP_ROWS,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        check_format(Format.PARQUET)
        import pyarrow.parquet

        self._arrow: Any = pyarrow
        fields = [(column.name, self._type(column.kind)) for column in columns]
        self._schema = self._arrow.schema(fields, metadata)
        self._group = group
        self._stream = stream
        self._names = self._schema.names
        self._waiting: list[list[Value]] = []  # a third of what the records take
        self._spool = Spool()
        self._writer = pyarrow.parquet.ParquetWriter(self._spool, self._schema, compression="zstd")

    def write(self, record: Record) -> None:
        """Take one record, and write a row group when there are enough."""
        self._waiting.append([record[name] for name in self._names])
        if len(self._waiting) == self._group:
            self.flush()

    @property
    def buffered_rows(self) -> int:
        """Rows in memory that are not written yet."""
        return len(self._waiting)

    def finish(self) -> None:
        """Write the last rows and the footer, without which no reader takes the file."""
        self.flush()
        self._writer.close()
        self._stream.write(self._spool.drain())

    def flush(self) -> None:
        """Write the rows in memory as a group, if there are any."""
        if not self._waiting:
            return
        columns = [
            self._arrow.array(values, field.type)
            for values, field in zip(zip(*self._waiting, strict=True), self._schema, strict=True)
        ]
        table = self._arrow.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._group)
        self._waiting = []
        self._stream.write(self._spool.drain())

    def _type(self, kind: ColumnKind) -> Any:
        types = {
            ColumnKind.TEXT: self._arrow.string(),
            # 64 bits, for in 32 the rounded 0.1234 would read as 0.12340000271797180.
            ColumnKind.FLOAT: self._arrow.float64(),
            ColumnKind.INT32: self._arrow.int32(),
            ColumnKind.INT64: self._arrow.int64(),
        }
        return types[kind]


class _Utf8:
    """Gives the csv module the text file that it wants."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text.encode())


class Spool:
    """Holds bytes back from the stream, such as those of a row group.

    Arrow writes once more when an abandoned writer is destroyed; this way that never meets a
    closed stream, and a full disk is an error of ours rather than of Arrow's.
    """

    def __init__(self) -> None:
        self.closed = False
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        return len(data)

    def drain(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def field_text(value: Value, column: Column) -> str:
    """Write a value as a text: a number with all its decimals, and None as nothing."""
    if value is None:
        return ""
    # A number that is a text already comes from another report, which rounded it.
    rounds = column.kind is ColumnKind.FLOAT and not isinstance(value, str)
    return f"{value:.{column.decimals}f}" if rounds else str(value)
