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
from batch.os_errors import describe_refusal
from batch.path_text import printable
from batch.reports.formats import DAMAGES, ROW_GROUP, Format, Value, check_format

# Files that a process has open beside those that are counted.
OTHER_FILES = 64


def allow_open_files(number: int, what: str) -> None:
    """Let this process have so many files open, beside some others; messages say ``what`` they are.

    Raises:
        InputError: the system allows fewer.
    """
    needed = number + OTHER_FILES
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
MAX_LINE = 1 << 20
MAX_COLUMNS = 4_096  # four times what a model's labels come to
# Bytes that the columns which are read have in a row group of Parquet, uncompressed.
MAX_GROUP = 512 * 1024**2
# Bytes of Parquet's texts that are in memory as they are read, of as many rows as have that.
TEXT_BYTES = 32 * 1024**2
# It says of a text only by what it differs from the one before: that has no bound.
_DELTAS = "DELTA_BYTE_ARRAY"
_SHOWN = 300  # characters of a text in a message
# The records' numbers, counted as their users would, and the values of the columns asked for.
Records = Iterator[tuple[int, tuple[Value, ...]]]
REMEDY = "give a report that batch-label wrote, or write it anew"


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
        self._size = 0  # bytes of the record that is read
        csv.field_size_limit(MAX_LINE)
        self._rows = csv.reader(self._bounded(_lines(stream, called)), strict=True)
        header = next(self._fields(), None)
        if not header:
            raise ReportError(f"{called} has no columns in its first line", REMEDY)
        self.columns = checked_columns(header, called)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
        pick, width = picker(self.columns, wanted), len(self.columns)
        for fields in self._fields():
            if len(fields) != width:
                raise self._damage(f"it has {len(fields)} fields, not {width}")
            yield self._rows.line_num, tuple(field or None for field in pick(fields))

    def _fields(self) -> Iterator[list[str]]:
        try:
            for fields in self._rows:
                self._size = 0
                yield fields
        except csv.Error as error:
            raise self._damage(str(error)) from error

    def _bounded(self, lines: Iterable[str]) -> Iterator[str]:
        """Pass lines on, of which a record may have several: a field in quotes has no end."""
        for line in lines:
            self._size += len(line)
            if self._size > MAX_LINE:
                raise self._damage(f"a record is longer than {MAX_LINE} bytes")
            yield line

    def _damage(self, why: str) -> ReportError:
        return damaged(self, self._rows.line_num, why)


class JsonLinesReader:
    """One JSON object a line; the first one's keys are the columns."""

    unit = "line"
    is_text = False
    files = 1

    def __init__(self, stream: BinaryIO, called: str) -> None:
        self.called = called
        self._decode = msgspec.json.Decoder().decode
        self._lines = enumerate(_lines(stream, called), start=1)
        self._first = next(self._lines, None)
        names = tuple(self._parsed(*self._first)) if self._first else ()
        self.columns = checked_columns(names, called)

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
            record = self._decode(line)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise damaged(self, number, f"no JSON: {error}") from error
        if not isinstance(record, dict):
            raise damaged(self, number, "no JSON object")
        # Only where there are more colons than keys may one be there twice.
        if line.count(":") > len(record) and len(_pairs(line)) > len(record):
            raise damaged(self, number, "it has a key twice")
        return record


def _pairs(line: str) -> list[tuple[str, Value]]:
    return json.loads(line, object_pairs_hook=list)  # type: ignore[no-any-return]


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
        self._stream = stream
        self._open = pyarrow.parquet.ParquetFile
        with reading(called):
            try:
                file: Any = self._open(stream)
            except DAMAGES as error:
                raise damage(called, f"no Parquet: {error}") from error
        self._metadata = file.metadata
        self._schema = file.schema_arrow
        self.columns = checked_columns(self._schema.names, called)
        self.number: int = self._metadata.num_rows

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once: see ``RecordReader``."""
        number = 0
        for batch in self._batches(wanted):
            for values in zip(*batch, strict=True):
                number += 1
                yield number, values

    def _batches(self, wanted: Sequence[str]) -> Iterator[list[list[Value]]]:
        try:
            with reading(self.called):
                texts = self._texts(wanted)
                self._check_groups(wanted)
                # Texts stay in dictionaries: one that stands in many rows may be long.
                file: Any = self._open(self._stream, metadata=self._metadata, read_dictionary=texts)
                batches = file.iter_batches(batch_size=self._rows, columns=list(wanted))
                if self.number <= self._rows:
                    batches = list(batches)  # as Arrow's reader takes more than so few rows
                del file
                for batch in batches:
                    for part in _small(batch, texts):
                        yield [_values(part.column(name)) for name in wanted]
        except DAMAGES as error:
            raise damage(self.called, str(error)) from error

    def _texts(self, wanted: Sequence[str]) -> list[str]:
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
                raise damage(self.called, f"its column {name} is of the type {str(kind)[:99]}")
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
            if size > MAX_GROUP:
                why = f"row group {number} has {size} bytes, more than {MAX_GROUP}"
                raise damage(self.called, why)
            if any(_DELTAS in chunk.encodings for chunk in chunks):
                raise damage(self.called, f"texts in the encoding {_DELTAS} have no bound")


def _small(batch: Any, texts: Sequence[str]) -> Iterator[Any]:
    """Divide a batch into parts whose texts come to ``TEXT_BYTES``, or that are single rows."""
    import pyarrow.compute as pc

    sizes: Any = 0
    for column in map(batch.column, texts):
        lengths = pc.binary_length(column.dictionary).cast("int64").take(column.indices)
        sizes = pc.add(sizes, pc.fill_null(lengths, 0))
    if not texts or pc.sum(sizes).as_py() <= TEXT_BYTES:
        yield batch
        return
    first = total = 0
    for number, size in enumerate(sizes.to_pylist()):
        total += size
        if total > TEXT_BYTES and number > first:
            yield batch.slice(first, number - first)
            first, total = number, size
    yield batch.slice(first)


def _values(column: Any) -> list[Value]:
    decode = getattr(column, "dictionary_decode", None)
    return (decode() if decode else column).to_pylist()  # type: ignore[no-any-return]


def picker(columns: Sequence[str], wanted: Sequence[str]) -> Callable[..., tuple[Value, ...]]:
    """Make what picks the values of the ``wanted``, two or more, from those of all ``columns``."""
    at = {name: number for number, name in enumerate(columns)}
    return itemgetter(*(at[name] for name in wanted))


def checked_columns(names: Sequence[str], called: str) -> tuple[str, ...]:
    """Make sure that each column has a name of its own, and that there are not too many.

    Raises:
        ReportError: one is there twice, or there are more than ``MAX_COLUMNS``.
    """
    if len(names) > MAX_COLUMNS:
        raise no_report(called, f"it has {len(names)} columns, more than {MAX_COLUMNS}", names)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise no_report(called, f"it has {', '.join(twice)} twice", names)
    return tuple(names)


def no_report(called: str, why: str, columns: Sequence[str]) -> ReportError:
    """Make the error for columns that no report has."""
    why, shown = (printable(text)[:_SHOWN] for text in (why, ", ".join(columns[:MAX_COLUMNS])))
    return ReportError(f"{called} is no report: {why} (its columns are {shown})", REMEDY)


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
    shown = printable(" ".join(why[:MAX_LINE].split())[:_SHOWN])
    return ReportError(f"{where} is damaged ({shown})", REMEDY)


@contextmanager
def reading(called: str) -> Iterator[None]:
    """Turn what the system refuses while a report is read into a ``ReportError``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # Arrow's own, which means what it has read
            raise damage(called, str(error)) from error
        remedy = "check its name and rights"
        raise ReportError(describe_refusal(called, "read", error), remedy) from error
