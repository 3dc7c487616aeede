"""The files of a dataset: how they are called, and the list of them that ends its making."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from batch.errors import OutputError
from batch.path_text import printable_text
from batch.reports.formats import ROW_GROUP_ROWS, Column, ParquetWriter, Record

PARTITIONS = ("status", "label")
# Source: https://github.com/apache/hive, FileUtils.makePartName and ConfVars DEFAULTPARTITIONNAME.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
SUCCESS_FILE = "_SUCCESS"
# Bytes of that file: it lists the dataset's files, in about 200 bytes each.
MAX_SUCCESS_BYTES = 64 << 20
# Readers of datasets pass over what begins with an underscore, whatever it ends in.
ORDER_FILE = "_order"
SCHEMA_VERSION = 1
# Bytes of a folder's name: what file systems take.
MAX_FOLDER_NAME_BYTES = 255

_SPECIAL = re.compile(r"[\x00-\x1f\"#%'*/:=?\\\x7f{\[\]^]")
DIGEST_LENGTH = 12
_DIGEST = rf"-([0-9a-f]{{{DIGEST_LENGTH}}})"
_ROWS = re.compile(rf"status=[^/]+/label=[^/]+/part-[0-9]{{5,}}{_DIGEST}\.parquet")
_ORDER = re.compile(rf"{ORDER_FILE}{_DIGEST}")
# Without the digest, which is known in the end.
_DRAFT = re.compile(rf"status=[^/]+/label=[^/]+/part-[0-9]{{5,}}|{ORDER_FILE}")
_PARTITION = re.compile(r"status=[^/]+(/label=[^/]+)?")


@dataclass(frozen=True)
class DatasetFile:
    """One file of a dataset: its path in it, its rows, its bytes, and its SHA-256."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class DatasetContents:
    """What ``_SUCCESS`` lists: the files with the rows, and the one with their order.

    The latter is Parquet too and has status and label of all rows, one after another, so that
    the next row of such a report is the next one in the files of that status and label.
    """

    parts: tuple[DatasetFile, ...]
    order: DatasetFile

    @property
    def files(self) -> tuple[DatasetFile, ...]:
        """All files but the list itself."""
        return (*self.parts, self.order)

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all files and of their folders, the list included."""
        files = {part.path for part in self.files}
        folders = {path[:end] for path in files for end, char in enumerate(path) if char == "/"}
        return frozenset(files | folders | {SUCCESS_FILE})


def partition_path(record: Record) -> str:
    """Name the folder of a record: ``status=ok/label=happy``."""
    status, label = (record[name] for name in PARTITIONS)
    return f"status={_escape(status)}/{label_folder(label)}"


def label_folder(label: object) -> str:
    """Name the folder of a label, as reports write it, or of none."""
    return f"label={_escape(label)}"


def encode_success(parts: Sequence[DatasetFile], order: DatasetFile) -> bytes:
    """Give the content of ``_SUCCESS``: all files of a dataset, in the order of their paths."""
    content = {
        "written_by": "batch-label",
        "schema_version": SCHEMA_VERSION,
        "rows": sum(part.rows for part in parts),
        "files": [asdict(part) for part in sorted(parts, key=lambda part: part.path)],
        "order": asdict(order),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def parse_success(success: bytes) -> DatasetContents | None:
    """Read ``_SUCCESS``; None where this program did not write it."""
    try:
        values = json.loads(success)
        if values["written_by"] != "batch-label":
            return None
        return DatasetContents(
            tuple(map(_parse_file, values["files"])), _parse_file(values["order"])
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def foreign_file_error(place: str, name: str) -> OutputError:
    """Make the error for a place that holds what no dataset has."""
    return OutputError(
        f"{place} holds {printable_text(name)}, which is no part of a dataset of batch-label",
        "name another folder with -o",
    )


def is_dataset_path(name: str) -> bool:
    """Tell whether a path in a folder is one that a file of a dataset has."""
    return name == SUCCESS_FILE or parse_digest(name) is not None


def parse_digest(name: str) -> str | None:
    """Give the beginning of the SHA-256 that a file of a dataset has in its path there."""
    match = _ROWS.fullmatch(name) or _ORDER.fullmatch(name)
    return match[1] if match else None


def is_draft_path(name: str) -> bool:
    """Tell whether a path is that of a file of a dataset that is being written."""
    return _DRAFT.fullmatch(name) is not None


def is_partition_path(name: str) -> bool:
    """Tell whether a path is that of a folder of a status, or of a status and label."""
    return _PARTITION.fullmatch(name) is not None


def _parse_file(values: dict[str, Any]) -> DatasetFile:
    """Make a file of its entry in ``_SUCCESS``.

    Raises:
        ValueError, TypeError: it is none, or one outside of the dataset.
    """
    part = DatasetFile(**values)
    numbers_are_whole = type(part.rows) is type(part.bytes) is int
    # What is not printable, such as NUL, may not even be a path.
    is_path = part.path.isprintable() and parse_digest(part.path) is not None
    if not numbers_are_whole or not is_path:
        raise ValueError(f"{part} is no file of a dataset")
    return part


def _escape(value: object) -> str:
    if value is None or value == "":
        return NULL_PARTITION
    return _SPECIAL.sub(lambda match: f"%{ord(match.group()):02X}", str(value))


# == A report as a dataset: Parquet files in folders by status and label, as Hive lays them out.

# How the name of an output ends that is to be a dataset.
DATASET_SUFFIX = "/"

MAX_ROWS_PER_FILE = 1_000_000
# Rows in memory, over all files that are open: about 40 MB.
MAX_BUFFERED_ROWS = 4 * ROW_GROUP_ROWS
MAX_OPEN_FILES = 256


class DatasetFolder(Protocol):
    """Where a dataset is made: a folder at ``root`` that nobody looks into yet."""

    root: Path

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the folder."""


def is_dataset(output: str) -> bool:
    """Tell whether an output's name asks for a dataset."""
    return output.endswith(DATASET_SUFFIX)


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

    def __init__(self, folder: DatasetFolder, columns: Sequence[Column], typical: Record) -> None:
        self._folder = folder
        self._typical = partition_path(typical)
        self._columns = [column for column in columns if column.name not in PARTITIONS]
        # In the order in which they were last written to.
        self._open: dict[str, _OpenFile] = {}
        self._numbers: dict[str, int] = {}
        self._parts: list[DatasetFile] = []
        self._waiting = 0
        self._order = _OpenFile(folder, ORDER_FILE, [Column(name) for name in PARTITIONS])

    def write(self, record: Record) -> None:
        """Take one record, and write the fullest file's rows when there are many in memory."""
        partition = partition_path(record)
        part = self._open.pop(partition, None) or self._begin(partition)
        self._open[partition] = part
        part.write_row(record)
        self._order.write_row({name: record[name] for name in PARTITIONS})
        self._waiting += 1
        if part.writer.buffered_rows == 0:  # it has written a row group by itself
            self._waiting -= ROW_GROUP_ROWS
        if part.rows == MAX_ROWS_PER_FILE:
            self._end(partition)
        elif self._waiting == MAX_BUFFERED_ROWS:
            fullest = max(self._open.values(), key=lambda part: part.writer.buffered_rows)
            self._waiting -= fullest.writer.buffered_rows
            fullest.writer.flush()

    def finish(self) -> None:
        """End all files and list them; nothing may follow."""
        if all(partition.endswith(NULL_PARTITION) for partition in self._numbers):
            self._open[self._typical] = self._begin(self._typical)
        for partition in list(self._open):
            self._end(partition)
        with self._folder.open(SUCCESS_FILE) as stream:
            stream.write(encode_success(self._parts, self._order.end()))

    def _begin(self, partition: str) -> _OpenFile:
        if len(self._open) == MAX_OPEN_FILES:
            self._end(next(iter(self._open)))
        number = self._numbers[partition] = self._numbers.get(partition, -1) + 1
        return _OpenFile(self._folder, f"{partition}/part-{number:05}", self._columns)

    def _end(self, partition: str) -> None:
        part = self._open.pop(partition)
        self._waiting -= part.writer.buffered_rows
        self._parts.append(part.end(".parquet"))


class _OpenFile:
    """A file in the making: a stream that takes the digest of what goes through it."""

    def __init__(self, folder: DatasetFolder, name: str, columns: Sequence[Column]) -> None:
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

    def end(self, suffix: str = "") -> DatasetFile:
        self.writer.finish()
        self._stream.close()
        digest = self._digest.hexdigest()
        path = f"{self._name}-{digest[:DIGEST_LENGTH]}{suffix}"
        (self._root / self._name).rename(self._root / path)
        return DatasetFile(path, self.rows, self._bytes, digest)
