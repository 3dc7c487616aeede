"""Reports of shards, read row by row: the parts that are merged."""

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
from batch.reading.saved import open_reader
from batch.recording.run_record import RunRecord, read_record, record_file
from batch.reports.columns import column_names
from batch.reports.readers import record_error
from batch.reports.tabular import ROW_GROUP_ROWS, RecordReader, Value

REMEDY = "give reports that batch-label wrote with --shard, or write this one again"
# The position of rows without one, which come after all others.
NO_POSITION = sys.maxsize
# Parquet rows in memory: of all parts together, and the minimum per part.
MAX_BUFFERED_ROWS, MIN_ROWS_PER_SHARD = 2 * ROW_GROUP_ROWS, 128
_MAX_SHOWN_CHARS = 100  # characters of a value in a message


class ShardRow(NamedTuple):
    """A row of a part; rows of all parts sort in the order of the merged report.

    Attributes:
        position: the photo's number in the listing; ``NO_POSITION`` for a missing photo.
        missing: the path of a missing photo, as sort key among these; else empty.
        part: the number of the part.
        number: the row's number in the part.
        values: the row's values without the position.
    """

    position: int
    missing: bytes
    part: int
    number: int
    values: tuple[Value, ...]


class ShardReport:
    """The report of a shard, which has the column ``position``.

    Attributes:
        display_name: its name in messages.
        index: its number among the parts.
        record: the record of the run that wrote it; None if it is missing.
        per_face: whether it has one row per face.
        located: whether it has the photos' coordinates.
        outputs: the labels, then the abstain outputs, that it has columns for; None for a report
            in JSON Lines without rows.

    Raises:
        ReportError: it is not the report of a shard.
    """

    def __init__(self, reader: RecordReader, place: Location, index: int) -> None:
        self.display_name = reader.display_name
        self.index = index
        self.record = _read_run_record(place)
        self.per_face = "face" in reader.columns
        self.located = "latitude" in reader.columns
        self.outputs = _parse_outputs(reader) if reader.columns else None
        self._reader = reader

    @property
    def layout(self) -> tuple[object, ...]:
        """What decides its columns."""
        return self.outputs, self.per_face, self.located

    def rows(self, as_text: bool) -> Iterator[ShardRow]:
        """Read the rows in their order, once, with values for a ``RecordWriter``.

        Args:
            as_text: pass the text of CSV on unchanged.

        Raises:
            ReportError: a row is damaged or out of order (the message has its number), or rows are
                missing at the end.
        """
        names = column_names(self.outputs or (), self.per_face, numbered=True, located=self.located)
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
        """Make the error for a damaged row."""
        return record_error(self._reader, number, why)

    def _check_end(self, photos: _RowOrderCheck) -> None:
        try:
            photos.end()
        except ValueError as error:
            raise ReportError(f"{self.display_name} is incomplete: {error}", REMEDY) from error
        counts = self.record.counts if self.record else None
        if counts and (photos.found, photos.missing) != (counts.found, counts.missing):
            raise ReportError(
                f"{self.display_name} is incomplete: it has {photos.found + photos.missing} "
                f"photos, and its run wrote {counts.found + counts.missing}",
                REMEDY,
            )


class _RowOrderCheck:
    """Checks the rows of a part: photos are in order, and no face is missing.

    Attributes:
        found: photos so far, without missing ones.
        missing: photos so far that no longer exist.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.found = self.missing = 0
        self._key = (0, b"")
        self._path: Value = None
        self._face = self._faces = 0
        self._columns = (names.index("face"), names.index("faces")) if "face" in names else None

    def add(self, key: tuple[int, bytes], values: tuple[Any, ...]) -> None:
        """Check the next row.

        Raises:
            ValueError: another row belongs in its place.
        """
        face, faces = (values[i] or 0 for i in self._columns) if self._columns else (0, 0)
        if key == self._key and face == self._face + 1 and values[0] == self._path:
            self._face = face
            return
        self.end()
        if key <= self._key:
            raise ValueError("it is out of the order of `position`, or a duplicate")
        if face > 1:
            raise ValueError(f"face {face} comes without the faces before it")
        self._key, self._path = key, values[0]
        self._face, self._faces = face, faces if face else 0
        if key[0] == NO_POSITION:
            self.missing += 1
        else:
            self.found += 1

    def end(self) -> None:
        """Check that the last photo has rows for all its faces.

        Raises:
            ValueError: it does not.
        """
        if self._face != self._faces:
            raise ValueError(f"{self._path} has {self._faces} faces, but rows for {self._face}")


@contextmanager
def open_shard_report(text: str, index: int, part_count: int) -> Iterator[ShardReport]:
    """Open a part.

    Args:
        text: its path or URL.
        index: its number among the parts.
        part_count: the number of parts, which share the memory for rows.

    Raises:
        ReportError: it is missing, not the report of a shard, or its beginning is damaged.
        UsageError: a package that its format needs is not installed.
    """
    place = parse_location(text)
    with open_reader(place, max(MIN_ROWS_PER_SHARD, MAX_BUFFERED_ROWS // part_count)) as reader:
        yield ShardReport(reader, place, index)


def _read_run_record(place: Location) -> RunRecord | None:
    return read_record(
        record_file(Path(os.path.realpath(place)) if isinstance(place, Path) else place)
    )


def _parse_outputs(reader: RecordReader) -> tuple[str, ...]:
    names = reader.columns
    if "position" not in names:
        raise ReportError(
            f"{reader.display_name} is not the report of a shard: it has no column `position`",
            REMEDY,
        )
    try:
        outputs = tuple(parse_printable_text(name[2:]) for name in names if name.startswith("p_"))
    except ValueError:
        outputs = ()
    located = "latitude" in names
    if names != column_names(outputs, "face" in names, numbered=True, located=located):
        raise ReportError(f"{reader.display_name} does not have the columns of a report", REMEDY)
    return outputs


def _check_cells(values: tuple[Any, ...]) -> None:
    """Refuse text that a spreadsheet would run as a formula; reports of a run have none."""
    for text in values:
        if isinstance(text, str) and text != guard_cell(text):
            raise ValueError(f"{text[:_MAX_SHOWN_CHARS]} starts a formula")


def _sort_key(position: int | None, path: str) -> tuple[int, bytes]:
    return (NO_POSITION, path_bytes(path)) if position is None else (position, b"")
