"""Readers of report formats: CSV, JSON Lines or Parquet become records, one at a time."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any, BinaryIO

import msgspec

from batch.errors import ReportError
from batch.os_errors import describe_failed_access
from batch.path_text import printable_text
from batch.reports.tabular import ARROW_ERRORS, ROW_GROUP_ROWS, RecordReader, Records, Value

# Most bytes of a line, or of a record of several lines. The longest row of a report has a path of
# 330 kB and labels of 815 kB, both escaped.
MAX_LINE_BYTES = 2 << 20
MAX_COLUMNS = 4_096  # four times what a model's labels take
# Most uncompressed bytes of the columns that are read from a Parquet row group.
MAX_ROW_GROUP_BYTES = 512 * 1024**2
# Most bytes of Parquet text in memory.
MAX_TEXT_BYTES = 32 * 1024**2
# This encoding stores only how a text differs from the one before, so its length has no bound.
_UNBOUNDED_ENCODING = "DELTA_BYTE_ARRAY"
_MAX_SHOWN_CHARS = 300  # characters of report text in a message
REMEDY = "give a report that batch-label wrote, or write it again"


def record_error(reader: RecordReader, number: int, why: str) -> ReportError:
    """Make the error for a damaged record."""
    return damage_error(f"{reader.display_name}, {reader.unit} {number}", why)


class CsvReader:
    """Comma-separated values with a header, as written by this program or a spreadsheet."""

    unit = "line"
    is_text = True

    def __init__(self, stream: BinaryIO, display_name: str) -> None:
        self.display_name = display_name
        self._size = 0  # characters of the current record
        csv.field_size_limit(MAX_LINE_BYTES)
        self._rows = csv.reader(
            self._check_record_size(_read_lines(stream, display_name)), strict=True
        )
        header = next(self._read_fields(), None)
        if not header:
            raise ReportError(f"{display_name} has no columns in its first line", REMEDY)
        self.columns = check_column_names(header, display_name)

    def records(self, wanted: Sequence[str]) -> Records:
        """Read the records once: see ``RecordReader``."""
        pick, width = make_picker(self.columns, wanted), len(self.columns)
        for fields in self._read_fields():
            if len(fields) != width:
                raise self._record_error(f"it has {len(fields)} fields, not {width}")
            yield self._rows.line_num, tuple(field or None for field in pick(fields))

    def _read_fields(self) -> Iterator[list[str]]:
        try:
            for fields in self._rows:
                self._size = 0
                yield fields
        except csv.Error as error:
            raise self._record_error(str(error)) from error

    def _check_record_size(self, lines: Iterable[str]) -> Iterator[str]:
        """Pass lines on and limit the size of a record: a quoted field may span many lines."""
        for line in lines:
            self._size += len(line)
            if self._size > MAX_LINE_BYTES:
                raise self._record_error(f"a record is longer than {MAX_LINE_BYTES} bytes")
            yield line

    def _record_error(self, why: str) -> ReportError:
        return record_error(self, self._rows.line_num, why)


class JsonLinesReader:
    """One JSON object per line; the keys of the first one are the columns."""

    unit = "line"
    is_text = False

    def __init__(self, stream: BinaryIO, display_name: str) -> None:
        self.display_name = display_name
        self._decode = msgspec.json.Decoder().decode
        self._lines = enumerate(_read_lines(stream, display_name), start=1)
        self._first = next(self._lines, None)
        names = tuple(self._parse(*self._first)) if self._first else ()
        self.columns = check_column_names(names, display_name)

    def records(self, wanted: Sequence[str]) -> Records:
        """Read the records once: see ``RecordReader``."""
        if self._first is None:
            return
        pick, keys = itemgetter(*wanted), set(self.columns)
        yield self._first[0], pick(self._parse(*self._first))
        for number, line in self._lines:
            record = self._parse(number, line)
            if record.keys() != keys:
                raise record_error(self, number, "its keys are not those of the first line")
            yield number, pick(record)

    def _parse(self, number: int, line: str) -> dict[str, Value]:
        try:
            record = self._decode(line)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise record_error(self, number, f"not JSON: {error}") from error
        if not isinstance(record, dict):
            raise record_error(self, number, "not a JSON object")
        # The decoder drops duplicate keys. Only a line with more colons than keys may have one.
        if line.count(":") > len(record) and len(_parse_pairs(line)) > len(record):
            raise record_error(self, number, "it has a duplicate key")
        return record


def _parse_pairs(line: str) -> list[tuple[str, Value]]:
    return json.loads(line, object_pairs_hook=list)  # type: ignore[no-any-return]


class ParquetReader:
    """Apache Parquet.

    Args:
        stream: the file.
        display_name: its name in messages.
        rows: rows to hold in memory at a time.

    Attributes:
        row_count: rows of the file.
    """

    unit = "row"
    is_text = False

    def __init__(self, stream: BinaryIO, display_name: str, rows: int = ROW_GROUP_ROWS) -> None:
        import pyarrow.parquet

        self.display_name = display_name
        self._rows = rows
        self._stream = stream
        self._open = pyarrow.parquet.ParquetFile
        with translate_read_errors(display_name):
            try:
                file: Any = self._open(stream)
            except ARROW_ERRORS as error:
                raise damage_error(display_name, f"not Parquet: {error}") from error
        self._metadata = file.metadata
        self._schema = file.schema_arrow
        self.columns = check_column_names(self._schema.names, display_name)
        self.row_count: int = self._metadata.num_rows

    def records(self, wanted: Sequence[str]) -> Records:
        """Read the records once: see ``RecordReader``."""
        number = 0
        for batch in self._read_batches(wanted):
            for values in zip(*batch, strict=True):
                number += 1
                yield number, values

    def _read_batches(self, wanted: Sequence[str]) -> Iterator[list[list[Value]]]:
        try:
            with translate_read_errors(self.display_name):
                texts = self._text_columns(wanted)
                self._check_groups(wanted)
                # Text stays dictionary-encoded: a long one may be repeated in many rows.
                file: Any = self._open(self._stream, metadata=self._metadata, read_dictionary=texts)
                batches = file.iter_batches(batch_size=self._rows, columns=list(wanted))
                if self.row_count <= self._rows:
                    batches = list(batches)  # takes less memory than Arrow's reader
                del file
                for batch in batches:
                    for part in _split_batch(batch, texts):
                        yield [_to_values(part.column(name)) for name in wanted]
        except ARROW_ERRORS as error:
            raise damage_error(self.display_name, str(error)) from error

    def _text_columns(self, wanted: Sequence[str]) -> list[str]:
        """List the text columns, and refuse columns that are neither text nor numbers."""
        from pyarrow import types

        numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_null)
        texts = []
        for name in wanted:
            kind = self._schema.field(name).type
            value = kind.value_type if types.is_dictionary(kind) else kind
            if types.is_string(value) or types.is_large_string(value):
                texts.append(name)
            elif not any(fits(value) for fits in numbers):
                raise damage_error(
                    self.display_name, f"its column {name} has the type {str(kind)[:99]}"
                )
        return texts

    def _check_groups(self, wanted: Sequence[str]) -> None:
        """Refuse row groups that don't fit into memory."""
        at = {name: number for number, name in enumerate(self.columns)}
        columns = [at[name] for name in wanted]
        file: Any = self._open(self._stream, metadata=self._metadata)
        for number in range(self._metadata.num_row_groups):
            # Read a row first: Arrow aborts the process if it is asked about the metadata of a
            # column that its reader refuses.
            next(file.iter_batches(batch_size=1, row_groups=[number], columns=list(wanted)), None)
            group = self._metadata.row_group(number)
            chunks = [group.column(column) for column in columns]
            size = sum(chunk.total_uncompressed_size for chunk in chunks)
            if size > MAX_ROW_GROUP_BYTES:
                why = f"row group {number} has {size} bytes, more than {MAX_ROW_GROUP_BYTES}"
                raise damage_error(self.display_name, why)
            if any(_UNBOUNDED_ENCODING in chunk.encodings for chunk in chunks):
                raise damage_error(
                    self.display_name, f"text in the encoding {_UNBOUNDED_ENCODING} has no bound"
                )


def _split_batch(batch: Any, texts: Sequence[str]) -> Iterator[Any]:
    """Split a batch into parts of up to ``MAX_TEXT_BYTES`` of text, or of a single row."""
    import pyarrow.compute as pc

    sizes: Any = 0
    for column in map(batch.column, texts):
        lengths = pc.binary_length(column.dictionary).cast("int64").take(column.indices)
        sizes = pc.add(sizes, pc.fill_null(lengths, 0))
    if not texts or pc.sum(sizes).as_py() <= MAX_TEXT_BYTES:
        yield batch
        return
    first = total = 0
    for number, size in enumerate(sizes.to_pylist()):
        total += size
        if total > MAX_TEXT_BYTES and number > first:
            yield batch.slice(first, number - first)
            first, total = number, size
    yield batch.slice(first)


def _to_values(column: Any) -> list[Value]:
    decode = getattr(column, "dictionary_decode", None)
    return (decode() if decode else column).to_pylist()  # type: ignore[no-any-return]


def make_picker(columns: Sequence[str], wanted: Sequence[str]) -> Callable[..., tuple[Value, ...]]:
    """Make a function that picks the values of two or more ``wanted`` columns from a row."""
    at = {name: number for number, name in enumerate(columns)}
    return itemgetter(*(at[name] for name in wanted))


def check_column_names(names: Sequence[str], display_name: str) -> tuple[str, ...]:
    """Make sure that column names are unique, and not more than ``MAX_COLUMNS``.

    Raises:
        ReportError: they are not.
    """
    if len(names) > MAX_COLUMNS:
        raise columns_error(
            display_name, f"it has {len(names)} columns, more than {MAX_COLUMNS}", names
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise columns_error(display_name, f"it has {', '.join(twice)} twice", names)
    return tuple(names)


def columns_error(display_name: str, why: str, columns: Sequence[str]) -> ReportError:
    """Make the error for columns that are not those of a report."""
    why, shown = (
        printable_text(text)[:_MAX_SHOWN_CHARS] for text in (why, ", ".join(columns[:MAX_COLUMNS]))
    )
    return ReportError(f"{display_name} is not a report: {why} (its columns are {shown})", REMEDY)


def _read_lines(stream: BinaryIO, display_name: str) -> Iterator[str]:
    """Read lines of UTF-8 text, without the byte-order mark that spreadsheets add."""
    with translate_read_errors(display_name):
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES), b""), start=1):
            if len(line) == MAX_LINE_BYTES:
                raise damage_error(
                    f"{display_name}, line {number}", f"longer than {MAX_LINE_BYTES} bytes"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise damage_error(f"{display_name}, line {number}", "not UTF-8") from error


def damage_error(where: str, why: str) -> ReportError:
    """Make the error for damaged data; ``why`` is shortened to one line."""
    shown = printable_text(" ".join(why[:MAX_LINE_BYTES].split())[:_MAX_SHOWN_CHARS])
    return ReportError(f"{where} is damaged ({shown})", REMEDY)


@contextmanager
def translate_read_errors(display_name: str) -> Iterator[None]:
    """Turn an ``OSError`` while a report is read into a ``ReportError``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Arrow raises this for damaged data
            raise damage_error(display_name, str(error)) from error
        remedy = "check its name and permissions"
        raise ReportError(describe_failed_access(display_name, "read", error), remedy) from error
