"""A report as a dataset: Parquet files in folders by status and label, as Hive lays them out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from batch.reports.dataset_files import (
    DIGEST_LENGTH,
    NULL,
    ORDER,
    PARTITIONS,
    SUCCESS,
    Part,
    partition_of,
    success,
)
from batch.reports.formats import ROW_GROUP, Column, ParquetWriter, Record

# How the name of an output ends that is to be a dataset.
ENDING = "/"

MAX_ROWS_A_FILE = 1_000_000
# Rows in memory, over all files that are open: about 40 MB.
MAX_ROWS_WAITING = 4 * ROW_GROUP
MAX_OPEN_FILES = 256


class Folder(Protocol):
    """Where a dataset is made: a folder at ``root`` that nobody looks into yet."""

    root: Path

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the folder."""


def is_dataset(output: str) -> bool:
    """Tell whether an output's name asks for a dataset."""
    return output.endswith(ENDING)


class DatasetWriter:
    """Writes records into the files of their status and label; the same bytes every time.

    In each folder the order of the files' names, and of the rows in them, is that of the
    records; how the folders' rows follow each other is told by one file more. A file's name ends
    in a digest of its bytes, so that no name ever stands for other rows. ``finish`` lists all
    files in ``_SUCCESS``. Where no record has a label, the folder of
    ``typical`` gets a file without rows: readers take the columns and their types from what
    they find.

    Raises:
        UsageError: a package is not installed.
    """

    def __init__(self, folder: Folder, columns: Sequence[Column], typical: Record) -> None:
        self._folder = folder
        self._typical = partition_of(typical)
        self._columns = [column for column in columns if column.name not in PARTITIONS]
        # In the order in which they were last written to.
        self._open: dict[str, _OpenPart] = {}
        self._numbers: dict[str, int] = {}
        self._parts: list[Part] = []
        self._waiting = 0
        self._order = _OpenPart(folder, ORDER, [Column(name) for name in PARTITIONS])

    def write(self, record: Record) -> None:
        """Take one record, and write the fullest file's rows when there are many in memory."""
        partition = partition_of(record)
        part = self._open.pop(partition, None) or self._begin(partition)
        self._open[partition] = part
        part.write_row(record)
        self._order.write_row({name: record[name] for name in PARTITIONS})
        self._waiting += 1
        if part.writer.waiting == 0:  # it has written a row group by itself
            self._waiting -= ROW_GROUP
        if part.rows == MAX_ROWS_A_FILE:
            self._end(partition)
        elif self._waiting == MAX_ROWS_WAITING:
            fullest = max(self._open.values(), key=lambda part: part.writer.waiting)
            self._waiting -= fullest.writer.waiting
            fullest.writer.flush()

    def finish(self) -> None:
        """End all files and list them; nothing may follow."""
        if all(partition.endswith(NULL) for partition in self._numbers):
            self._open[self._typical] = self._begin(self._typical)
        for partition in list(self._open):
            self._end(partition)
        with self._folder.open(SUCCESS) as stream:
            stream.write(success(self._parts, self._order.end()))

    def _begin(self, partition: str) -> _OpenPart:
        if len(self._open) == MAX_OPEN_FILES:
            self._end(next(iter(self._open)))
        number = self._numbers[partition] = self._numbers.get(partition, -1) + 1
        return _OpenPart(self._folder, f"{partition}/part-{number:05}", self._columns)

    def _end(self, partition: str) -> None:
        part = self._open.pop(partition)
        self._waiting -= part.writer.waiting
        self._parts.append(part.end(".parquet"))


class _OpenPart:
    """A file in the making: a stream that takes the digest of what goes through it."""

    def __init__(self, folder: Folder, name: str, columns: Sequence[Column]) -> None:
        self.rows = 0
        self._root = folder.root
        self._name = name
        self._stream = folder.open(name)
        self._digest = hashlib.sha256()
        self._bytes = 0
        self.writer = ParquetWriter(self, columns)

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._bytes += len(data)
        return self._stream.write(data)

    def write_row(self, record: Record) -> None:
        self.writer.write(record)
        self.rows += 1

    def end(self, suffix: str = "") -> Part:
        self.writer.finish()
        self._stream.close()
        digest = self._digest.hexdigest()
        path = f"{self._name}-{digest[:DIGEST_LENGTH]}{suffix}"
        (self._root / self._name).rename(self._root / path)
        return Part(path, self.rows, self._bytes, digest)
