"""How many files a process may have open at once."""

from __future__ import annotations

import csv
import json
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any, BinaryIO, Protocol

import msgspec

from batch.errors import InputError, ReportError
from batch.os_errors import describe_failed_access
from batch.path_text import printable_text
from batch.reports.formats import ARROW_ERRORS, ROW_GROUP_ROWS, Format, Value, check_format

# Files that a process has open beside those that are counted.
RESERVED_FILES = 64


def allow_open_files(number: int, what: str) -> None:
    """Let this process have so many files open, beside some others; messages say ``what`` they are.

    Raises:
        InputError: the system allows fewer.
    """
    needed = number + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{what} can't be open at once: the system allows {hard} files",
            f"raise its limit: ulimit -n {needed}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


# == Reading the formats of a report back: bytes become flat records, one at a time.

# Bytes, also of a record of several lines. A path has four characters for each of its bytes if all
# are escaped, and a model's labels take a quarter of this in JSON Lines at most.
MAX_LINE_BYTES = 1 << 20
MAX_COLUMNS = 4_096  # four times what a model's labels come to
# Bytes that the columns which are read have in a row group of Parquet, uncompressed.
MAX_ROW_GROUP_BYTES = 512 * 1024**2
# Bytes of Parquet's texts that are in memory as they are read, of as many rows as have that.
MAX_TEXT_BYTES = 32 * 1024**2
# It says of a text only by what it differs from the one before: that has no bound.
_UNBOUNDED_ENCODING = "DELTA_BYTE_ARRAY"
_MAX_SHOWN_CHARS = 300  # characters of a text in a message
# The records' numbers, counted as their users would, and the values of the columns asked for.
Records = Iterator[tuple[int, tuple[Value, ...]]]
REMEDY = "give a report that batch-label wrote, or write it anew"


class RecordReader(Protocol):
    """Reads records from a report, for which messages have the name ``display_name``.

    ``columns`` are those that it names, none where a file without rows names none; ``unit`` is
    what its records are numbered by. ``is_text`` tells that all values are texts, as CSV's are,
    and ``files`` is how many files are open while records are read.
    """

    display_name: str
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


def record_error(reader: RecordReader, number: int, why: str) -> ReportError:
    """Make the error for a record that can't be right."""
    return damage_error(f"{reader.display_name}, {reader.unit} {number}", why)


class CsvReader:
    """Comma-separated values with a header, also as a spreadsheet saves them."""

    unit = "line"
    is_text = True
    files = 1

    def __init__(self, stream: BinaryIO, display_name: str) -> None:
        self.display_name = display_name
        self._size = 0  # bytes of the record that is read
        csv.field_size_limit(MAX_LINE_BYTES)
        self._rows = csv.reader(
            self._check_record_size(_read_lines(stream, display_name)), strict=True
        )
        header = next(self._read_fields(), None)
        if not header:
            raise ReportError(f"{display_name} has no columns in its first line", REMEDY)
        self.columns = check_column_names(header, display_name)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
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
        """Pass lines on, of which a record may have several: a field in quotes has no end."""
        for line in lines:
            self._size += len(line)
            if self._size > MAX_LINE_BYTES:
                raise self._record_error(f"a record is longer than {MAX_LINE_BYTES} bytes")
            yield line

    def _record_error(self, why: str) -> ReportError:
        return record_error(self, self._rows.line_num, why)


class JsonLinesReader:
    """One JSON object a line; the first one's keys are the columns."""

    unit = "line"
    is_text = False
    files = 1

    def __init__(self, stream: BinaryIO, display_name: str) -> None:
        self.display_name = display_name
        self._decode = msgspec.json.Decoder().decode
        self._lines = enumerate(_read_lines(stream, display_name), start=1)
        self._first = next(self._lines, None)
        names = tuple(self._parse(*self._first)) if self._first else ()
        self.columns = check_column_names(names, display_name)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
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
            raise record_error(self, number, f"no JSON: {error}") from error
        if not isinstance(record, dict):
            raise record_error(self, number, "no JSON object")
        # Only where there are more colons than keys may one be there twice.
        if line.count(":") > len(record) and len(_parse_pairs(line)) > len(record):
            raise record_error(self, number, "it has a key twice")
        return record


def _parse_pairs(line: str) -> list[tuple[str, Value]]:
    return json.loads(line, object_pairs_hook=list)  # type: ignore[no-any-return]


class ParquetReader:
    """Apache Parquet, so many ``rows`` at a time; ``row_count`` is how many there are."""

    unit = "row"
    is_text = False
    files = 1

    def __init__(self, stream: BinaryIO, display_name: str, rows: int = ROW_GROUP_ROWS) -> None:
        check_format(Format.PARQUET)
        import pyarrow.parquet

        self.display_name = display_name
        self._rows = rows
        self._stream = stream
        self._open = pyarrow.parquet.ParquetFile
        with translate_read_errors(display_name):
            try:
                file: Any = self._open(stream)
            except ARROW_ERRORS as error:
                raise damage_error(display_name, f"no Parquet: {error}") from error
        self._metadata = file.metadata
        self._schema = file.schema_arrow
        self.columns = check_column_names(self._schema.names, display_name)
        self.row_count: int = self._metadata.num_rows

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
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
                # Texts stay in dictionaries: one that stands in many rows may be long.
                file: Any = self._open(self._stream, metadata=self._metadata, read_dictionary=texts)
                batches = file.iter_batches(batch_size=self._rows, columns=list(wanted))
                if self.row_count <= self._rows:
                    batches = list(batches)  # as Arrow's reader takes more than so few rows
                del file
                for batch in batches:
                    for part in _split_batch(batch, texts):
                        yield [_to_values(part.column(name)) for name in wanted]
        except ARROW_ERRORS as error:
            raise damage_error(self.display_name, str(error)) from error

    def _text_columns(self, wanted: Sequence[str]) -> list[str]:
        """Name the columns of texts, and refuse what is neither text nor number."""
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
                    self.display_name, f"its column {name} is of the type {str(kind)[:99]}"
                )
        return texts

    def _check_groups(self, wanted: Sequence[str]) -> None:
        """Refuse row groups that don't fit into memory, by a look at their first pages."""
        at = {name: number for number, name in enumerate(self.columns)}
        columns = [at[name] for name in wanted]
        file: Any = self._open(self._stream, metadata=self._metadata)
        for number in range(self._metadata.num_row_groups):
            # Arrow ends the process where it is asked about a column that its reader refuses.
            next(file.iter_batches(batch_size=1, row_groups=[number], columns=list(wanted)), None)
            group = self._metadata.row_group(number)
            chunks = [group.column(column) for column in columns]
            size = sum(chunk.total_uncompressed_size for chunk in chunks)
            if size > MAX_ROW_GROUP_BYTES:
                why = f"row group {number} has {size} bytes, more than {MAX_ROW_GROUP_BYTES}"
                raise damage_error(self.display_name, why)
            if any(_UNBOUNDED_ENCODING in chunk.encodings for chunk in chunks):
                raise damage_error(
                    self.display_name, f"texts in the encoding {_UNBOUNDED_ENCODING} have no bound"
                )


def _split_batch(batch: Any, texts: Sequence[str]) -> Iterator[Any]:
    """Divide a batch into parts whose texts come to ``MAX_TEXT_BYTES``, or that are single rows."""
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
    """Make what picks the values of the ``wanted``, two or more, from those of all ``columns``."""
    at = {name: number for number, name in enumerate(columns)}
    return itemgetter(*(at[name] for name in wanted))


def check_column_names(names: Sequence[str], display_name: str) -> tuple[str, ...]:
    """Make sure that each column has a name of its own, and that there are not too many.

    Raises:
        ReportError: one is there twice, or there are more than ``MAX_COLUMNS``.
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
    """Make the error for columns that no report has."""
    why, shown = (
        printable_text(text)[:_MAX_SHOWN_CHARS] for text in (why, ", ".join(columns[:MAX_COLUMNS]))
    )
    return ReportError(f"{display_name} is no report: {why} (its columns are {shown})", REMEDY)


def _read_lines(stream: BinaryIO, display_name: str) -> Iterator[str]:
    """Give the lines of UTF-8 text, without the byte-order mark that spreadsheets add."""
    with translate_read_errors(display_name):
        for number, line in enumerate(iter(partial(stream.readline, MAX_LINE_BYTES), b""), start=1):
            if len(line) == MAX_LINE_BYTES:
                raise damage_error(
                    f"{display_name}, line {number}", f"longer than {MAX_LINE_BYTES} bytes"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise damage_error(f"{display_name}, line {number}", "no UTF-8") from error


def damage_error(where: str, why: str) -> ReportError:
    """Make the error for what can't be right; ``why`` is one line whatever it was."""
    shown = printable_text(" ".join(why[:MAX_LINE_BYTES].split())[:_MAX_SHOWN_CHARS])
    return ReportError(f"{where} is damaged ({shown})", REMEDY)


@contextmanager
def translate_read_errors(display_name: str) -> Iterator[None]:
    """Turn what the system refuses while a report is read into a ``ReportError``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Arrow's own, which means what it has read
            raise damage_error(display_name, str(error)) from error
        remedy = "check its name and rights"
        raise ReportError(describe_failed_access(display_name, "read", error), remedy) from error
