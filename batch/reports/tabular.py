"""Tabular records: columns, values, and the interfaces of writers and readers of any format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from batch.errors import UsageError

Value = str | float | int | None
Record = Mapping[str, Value]
# Pairs of a record's number, as users count it, and the values of the wanted columns.
Records = Iterator[tuple[int, tuple[Value, ...]]]

# Rows per Parquet row group, which are held in memory: about 10 MB.
ROW_GROUP_ROWS = 8_192

# Base classes of the exceptions of pyarrow for damaged data, besides an OSError without ``errno``.
ARROW_ERRORS = (ValueError, TypeError, LookupError, NotImplementedError)


class ColumnKind(Enum):
    """The type of a column's values."""

    TEXT = "text"
    FLOAT = "real"
    INT32 = "whole"
    INT64 = "long"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: unique in its table.
        kind: the type of its values.
        decimals: digits after the decimal point, for floats only.
    """

    name: str
    kind: ColumnKind = ColumnKind.TEXT
    decimals: int = 0


class Sink(Protocol):
    """A stream of bytes."""

    def write(self, data: bytes, /) -> object:
        """Write all of the bytes."""


class RecordWriter(Protocol):
    """Writes records to a stream."""

    def write(self, record: Record) -> None:
        """Write one record, which has a value or None for each column."""

    def finish(self) -> None:
        """Write buffered rows and the end of the file; nothing may be written after it."""


class RecordReader(Protocol):
    """Reads records from a report.

    Attributes:
        display_name: the report's name in messages.
        columns: the columns' names; empty if a file without rows names none.
        unit: what records are numbered by, such as "line".
        is_text: whether all values are text, as in CSV.
    """

    display_name: str
    columns: tuple[str, ...]
    unit: str
    is_text: bool

    def records(self, wanted: Sequence[str]) -> Records:
        """Read the records once, with the values of two or more columns.

        Values of CSV are text, and None for an empty field.

        Raises:
            ReportError: a record is damaged.
        """


def check_pyarrow(user: str, alternative: str = "") -> None:
    """Make sure that pyarrow is installed.

    Args:
        user: what needs it, for the message.
        alternative: the end of the remedy: what can be done without it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{user} needs the package pyarrow, which is not installed",
            f"run: pip install 'batch-label[parquet]'{alternative}",
        ) from error


def format_value(value: Value, column: Column) -> str:
    """Format a value as text: a float with all its decimals, None as an empty text."""
    if value is None:
        return ""
    # A float that is given as text comes from another report, and is already rounded.
    rounds = column.kind is ColumnKind.FLOAT and not isinstance(value, str)
    return f"{value:.{column.decimals}f}" if rounds else str(value)
