"""A report as a dataset: Parquet files in folders by status and label, as Hive lays them out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from batch.errors import OutputError
from batch.formats import ROW_GROUP, Column, ParquetWriter, Record
from batch.names import printable

# How the name of an output ends that is to be a dataset.
ENDING = "/"
PARTITIONS = ("status", "label")
# Source: https://github.com/apache/hive, FileUtils.makePartName and ConfVars DEFAULTPARTITIONNAME.
NULL = "__HIVE_DEFAULT_PARTITION__"
SUCCESS = "_SUCCESS"
SCHEMA_VERSION = 1

MAX_ROWS_A_FILE = 1_000_000
# Rows in memory, over all files that are open: about 40 MB.
MAX_ROWS_WAITING = 4 * ROW_GROUP
MAX_OPEN_FILES = 256

_DIGEST_LENGTH = 12
_SPECIAL = re.compile(r"[\x00-\x1f\"#%'*/:=?\\\x7f{\[\]^]")
# Also without the digest, while the file is in the making.
_OWN = re.compile(r"status=[^/]+/label=[^/]+/part-[0-9]{5,}(-[0-9a-f]{12}\.parquet)?")


@dataclass(frozen=True)
class Part:
    """One file of a dataset: its path in it, its rows, its bytes, and its SHA-256."""

    path: str
    rows: int
    bytes: int
    sha256: str


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
    records. A file's name ends in a digest of its bytes, so that no name ever stands for other
    rows. ``finish`` lists all files in ``_SUCCESS``. Where no record has a label, the folder of
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

    def write(self, record: Record) -> None:
        """Take one record, and write the fullest file's rows when there are many in memory."""
        partition = partition_of(record)
        part = self._open.pop(partition, None) or self._begin(partition)
        self._open[partition] = part
        part.writer.write(record)
        self._waiting += 1
        if part.writer.waiting == 0:  # it has written a row group by itself
            self._waiting -= ROW_GROUP
        part.rows += 1
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
            stream.write(success(self._parts))

    def _begin(self, partition: str) -> _OpenPart:
        if len(self._open) == MAX_OPEN_FILES:
            self._end(next(iter(self._open)))
        number = self._numbers[partition] = self._numbers.get(partition, -1) + 1
        return _OpenPart(self._folder, f"{partition}/part-{number:05}", self._columns)

    def _end(self, partition: str) -> None:
        part = self._open.pop(partition)
        self._waiting -= part.writer.waiting
        self._parts.append(part.end())


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

    def end(self) -> Part:
        self.writer.finish()
        self._stream.close()
        digest = self._digest.hexdigest()
        path = f"{self._name}-{digest[:_DIGEST_LENGTH]}.parquet"
        (self._root / self._name).rename(self._root / path)
        return Part(path, self.rows, self._bytes, digest)


def partition_of(record: Record) -> str:
    """Name the folder of a record: ``status=ok/label=happy``."""
    return "/".join(f"{name}={_escaped(record[name])}" for name in PARTITIONS)


def success(parts: Iterable[Part]) -> bytes:
    """Give the content of ``_SUCCESS``: all files of a dataset, in the order of their paths."""
    files = sorted(parts, key=lambda part: part.path)
    content = {
        "written_by": "batch-label",
        "schema_version": SCHEMA_VERSION,
        "rows": sum(part.rows for part in files),
        "files": [asdict(part) for part in files],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def parts_of(content: bytes) -> tuple[Part, ...] | None:
    """Read ``_SUCCESS``; None where this program did not write it."""
    try:
        values = json.loads(content)
        if values["written_by"] != "batch-label":
            return None
        return tuple(Part(**part) for part in values["files"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def refusal(place: str, name: str) -> OutputError:
    """Make the error for a place that holds what no dataset has."""
    return OutputError(
        f"{place} holds {printable(name)}, which is no part of a dataset of batch-label",
        "name another folder with -o",
    )


def is_own(name: str) -> bool:
    """Tell whether a path in a folder is one that a dataset has, or has in the making."""
    return name == SUCCESS or _OWN.fullmatch(name) is not None


def _escaped(value: object) -> str:
    if value is None or value == "":
        return NULL
    return _SPECIAL.sub(lambda match: f"%{ord(match.group()):02X}", str(value))
