"""The report of one shard, open for reading: one of the parts of a whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from batch.errors import ReportError
from batch.location import Location, parse_location
from batch.path_text import guard_cell, parse_printable_text, path_bytes
from batch.reading.fields import make_checker
from batch.reading.readers import RecordReader, record_error
from batch.reading.saved import open_reader
from batch.recording.run_record import RunRecord, read_record, record_file
from batch.reports.columns import column_names
from batch.reports.formats import ROW_GROUP_ROWS, Value

REMEDY = "give reports that batch-label wrote with --shard, or write it anew"
# Where rows come that have no position: behind all others.
NO_POSITION = sys.maxsize
# Rows of Parquet in memory, of all parts together and of each at least.
_MAX_SHOWN_CHARS = 100  # characters of a value in a message
MAX_BUFFERED_ROWS, MIN_ROWS_PER_SHARD = 2 * ROW_GROUP_ROWS, 128


class ShardRow(NamedTuple):
    """A row of a part, in an order that all parts' rows share.

    Rows of missing files have no ``position`` and come ``NO_POSITION``, in the order of their paths'
    bytes, ``missing``, which is empty for all others. ``number`` is the row's own in its part;
    ``values`` are those of a report that is no part.
    """

    position: int
    missing: bytes
    part: int
    number: int
    values: tuple[Value, ...]


class ShardReport:
    """A report with positions; ``index`` is its number among the parts.

    ``outputs`` are the labels, then the abstain outputs that it has columns for; None if it is a
    report in JSON Lines without rows to name them.
    ``record`` is that of the run that wrote it, if that is there; ``files`` are open at once.

    Raises:
        ReportError: it is no report of a shard.
    """

    def __init__(self, reader: RecordReader, place: Location, index: int) -> None:
        self.display_name = reader.display_name
        self.index = index
        self.record = _read_run_record(place)
        self.per_face = "face" in reader.columns
        self.outputs = _parse_outputs(reader) if reader.columns else None
        self.files = reader.files
        self._reader = reader

    def rows(self, as_text: bool) -> Iterator[ShardRow]:
        """Read the rows in their order, once, with values as reports' writers take them.

        With ``as_text`` the texts of CSV stay as they are.

        Raises:
            ReportError: a row is damaged or not where it belongs, with its number in the message,
                or rows are missing at the end.
        """
        names = column_names(self.outputs or (), self.per_face, numbered=True)
        check = make_checker(names, strict=not self._reader.is_text)
        unchanged = as_text and self._reader.is_text
        photos = _RowOrderCheck(names)
        for number, values in self._reader.records(names):
            try:
                checked = check(values)
                _check_cells(checked)
                key = _sort_key(checked[-1], checked[0])
                photos.add(key, checked)
            except ValueError as error:
                raise self.record_error(number, str(error)) from error
            yield ShardRow(*key, self.index, number, (values if unchanged else checked)[:-1])
        self._check_end(photos)

    def record_error(self, number: int, why: str) -> ReportError:
        """Make the error for a row that can't be right."""
        return record_error(self._reader, number, why)

    def _check_end(self, photos: _RowOrderCheck) -> None:
        try:
            photos.end()
        except ValueError as error:
            raise ReportError(f"{self.display_name} is not whole: {error}", REMEDY) from error
        counts = self.record.counts if self.record else None
        if counts and (photos.found, photos.missing) != (counts.found, counts.missing):
            raise ReportError(
                f"{self.display_name} is not whole: it has {photos.found + photos.missing} photos, and "
                f"its run wrote {counts.found + counts.missing}",
                REMEDY,
            )


class _RowOrderCheck:
    """Follows the rows of a part: photos come in order, and each one's faces are all there."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.found = self.missing = 0
        self._key = (0, b"")
        self._path: Value = None
        self._face = self._faces = 0
        self._columns = (names.index("face"), names.index("faces")) if "face" in names else None

    def add(self, key: tuple[int, bytes], values: tuple[Any, ...]) -> None:
        """Take the next row, or raise ValueError where another one belongs."""
        face, faces = (values[i] or 0 for i in self._columns) if self._columns else (0, 0)
        if key == self._key and face == self._face + 1 and values[0] == self._path:
            self._face = face
            return
        self.end()
        if key <= self._key:
            raise ValueError("it is not in the order of `position`, or there twice")
        if face > 1:
            raise ValueError(f"face {face} comes without those before")
        self._key, self._path = key, values[0]
        self._face, self._faces = face, faces if face else 0
        if key[0] == NO_POSITION:
            self.missing += 1
        else:
            self.found += 1

    def end(self) -> None:
        """Take note that no row of the last photo follows, or raise ValueError if one should."""
        if self._face != self._faces:
            raise ValueError(f"{self._path} has {self._faces} faces, but rows for {self._face}")


@contextmanager
def open_shard_report(text: str, index: int, among: int) -> Iterator[ShardReport]:
    """Open one of so many parts, which share the memory for their rows.

    Raises:
        ReportError: it is missing, no report of a shard, or its beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    place = parse_location(text)
    with open_reader(place, max(MIN_ROWS_PER_SHARD, MAX_BUFFERED_ROWS // among)) as reader:
        yield ShardReport(reader, place, index)


def _read_run_record(place: Location) -> RunRecord | None:
    return read_record(
        record_file(Path(os.path.realpath(place)) if isinstance(place, Path) else place)
    )


def _parse_outputs(reader: RecordReader) -> tuple[str, ...]:
    names = reader.columns
    if "position" not in names:
        raise ReportError(f"{reader.display_name} is no part: it has no column `position`", REMEDY)
    try:
        outputs = tuple(parse_printable_text(name[2:]) for name in names if name.startswith("p_"))
    except ValueError:
        outputs = ()
    if names != column_names(outputs, "face" in names, numbered=True):
        raise ReportError(f"{reader.display_name} does not have the columns of a report", REMEDY)
    return outputs


def _check_cells(values: tuple[Any, ...]) -> None:
    """Make sure that no text is one that a spreadsheet would run: no report of a run has such."""
    for text in values:
        if isinstance(text, str) and text != guard_cell(text):
            raise ValueError(f"{text[:_MAX_SHOWN_CHARS]} begins a formula")


def _sort_key(position: int | None, path: str) -> tuple[int, bytes]:
    return (NO_POSITION, path_bytes(path)) if position is None else (position, b"")
