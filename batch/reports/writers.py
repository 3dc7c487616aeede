"""Writers of report formats: records become CSV, JSON Lines or Parquet, one row at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from batch.reports.tabular import (
    ROW_GROUP_ROWS,
    Column,
    ColumnKind,
    Record,
    Sink,
    Value,
    format_value,
)


class CsvWriter:
    r"""Comma-separated values (RFC 4180, but lines end in ``\n``): UTF-8, with a header."""

    def __init__(self, stream: BinaryIO, columns: Sequence[Column]) -> None:
        self._names = tuple(column.name for column in columns)
        self._floats = [
            (at, f"%.{column.decimals}f", column)
            for at, column in enumerate(columns)
            if column.kind is ColumnKind.FLOAT
        ]
        self._writer = csv.writer(_Utf8(stream), lineterminator="\n")
        self._writer.writerow(self._names)

    def write(self, record: Record) -> None:
        """Write one line; None is an empty field, and numbers have all their decimals."""
        fields = [record[name] for name in self._names]
        for at, form, column in self._floats:
            value = fields[at]
            # Calling format_value for every float takes a third of a row's time.
            fields[at] = form % value if type(value) is float else format_value(value, column)
        self._writer.writerow(fields)  # the csv module writes None as an empty field

    def finish(self) -> None:
        """Do nothing: no row is buffered."""


class JsonLinesWriter:
    """One JSON object per line, with keys in the order of the columns; None is null."""

    def __init__(self, stream: BinaryIO, columns: Sequence[Column]) -> None:
        self._stream = stream
        self._names = tuple(column.name for column in columns)
        self._encode = json.JSONEncoder(ensure_ascii=False).encode

    def write(self, record: Record) -> None:
        """Write one line."""
        line = self._encode({name: record[name] for name in self._names})
        self._stream.write(line.encode() + b"\n")

    def finish(self) -> None:
        """Do nothing: no row is buffered."""


class ParquetWriter:
    """Apache Parquet: typed columns; the same records always give the same bytes.

    Args:
        stream: takes the file's bytes.
        columns: the columns.
        group: rows per row group, which are buffered in memory.
        metadata: key-value metadata for the file's footer.
    """

    def __init__(
        self,
        stream: Sink,
        columns: Sequence[Column],
        group: int = ROW_GROUP_ROWS,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        import pyarrow.parquet

        self._arrow: Any = pyarrow
        fields = [(column.name, self._type(column.kind)) for column in columns]
        self._schema = self._arrow.schema(fields, metadata)
        self._group = group
        self._stream = stream
        self._names = self._schema.names
        self._buffered: list[list[Value]] = []  # lists take a third of the memory of records
        self._spool = _Spool()
        self._writer = pyarrow.parquet.ParquetWriter(self._spool, self._schema, compression="zstd")

    def write(self, record: Record) -> None:
        """Buffer one record, and write a row group when it is full."""
        self._buffered.append([record[name] for name in self._names])
        if len(self._buffered) == self._group:
            self._write_group()

    def finish(self) -> None:
        """Write the last rows and the footer, without which the file can't be read."""
        if self._buffered:
            self._write_group()
        self._writer.close()
        self._stream.write(self._spool.drain())

    def _write_group(self) -> None:
        columns = [
            self._arrow.array(values, field.type)
            for values, field in zip(zip(*self._buffered, strict=True), self._schema, strict=True)
        ]
        table = self._arrow.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._group)
        self._buffered = []
        self._stream.write(self._spool.drain())

    def _type(self, kind: ColumnKind) -> Any:
        types = {
            ColumnKind.TEXT: self._arrow.string(),
            # In 32 bits the rounded 0.1234 would read as 0.12340000271797180.
            ColumnKind.FLOAT: self._arrow.float64(),
            ColumnKind.INT32: self._arrow.int32(),
            ColumnKind.INT64: self._arrow.int64(),
        }
        return types[kind]


class _Utf8:
    """Encodes the text that the csv module writes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text.encode())


class _Spool:
    """Buffers the bytes that Arrow writes.

    Arrow writes once more when an unfinished writer is destroyed. The stream may be closed by then.
    And an error of the stream, such as a full disk, must not pass through Arrow.
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
