"""Datasets: reports that are a folder of Parquet files, which ``_SUCCESS`` lists.

The rows are in the order of the files' names: ``part-00000-<digest>.parquet`` comes first. A name
has the start of the SHA-256 of its file, so that files with different rows have different names.
"""

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
from batch.reports.tabular import Column, Record
from batch.reports.writers import ParquetWriter

# An output whose name ends in this is a dataset.
DATASET_SUFFIX = "/"
# Other programs that read a folder of Parquet files ignore names that begin with an underscore.
SUCCESS_FILE = "_SUCCESS"
# Size limit of ``_SUCCESS`` in bytes; an entry has about 200.
MAX_SUCCESS_BYTES = 64 << 20
SCHEMA_VERSION = 1
MAX_ROWS_PER_FILE = 1_000_000
DIGEST_LENGTH = 12  # hexadecimal digits of the SHA-256 in a file's name

# A file is named after its digest once it is complete; until then it has the name of a draft.
_DRAFT = re.compile(r"part-[0-9]{5,}")
_FILE = re.compile(rf"{_DRAFT.pattern}-([0-9a-f]{{{DIGEST_LENGTH}}})\.parquet")


def is_dataset(output: str) -> bool:
    """Tell whether an output's name asks for a dataset."""
    return output.endswith(DATASET_SUFFIX)


@dataclass(frozen=True)
class DatasetFile:
    """An entry of ``_SUCCESS``.

    Attributes:
        path: its path in the folder, which is its name.
        rows: number of rows.
        bytes: size in bytes.
        sha256: digest of the file, in hexadecimal digits.
    """

    path: str
    rows: int
    bytes: int
    sha256: str


def encode_success(files: Sequence[DatasetFile]) -> bytes:
    """Encode ``_SUCCESS``, which lists all files in the order of their rows."""
    content = {
        "written_by": "batch-label",
        "schema_version": SCHEMA_VERSION,
        "rows": sum(file.rows for file in files),
        "files": [asdict(file) for file in files],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def parse_success(success: bytes) -> tuple[DatasetFile, ...] | None:
    """Parse ``_SUCCESS``; None if this program did not write it."""
    try:
        values = json.loads(success)
        if values["written_by"] != "batch-label":
            return None
        return tuple(map(_parse_file, values["files"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _parse_file(values: dict[str, Any]) -> DatasetFile:
    """Parse an entry of ``_SUCCESS``.

    Raises:
        ValueError, TypeError: it is not an entry, or its path is not the name of a dataset's file.
    """
    file = DatasetFile(**values)
    if not type(file.rows) is type(file.bytes) is int or parse_digest(file.path) is None:
        raise ValueError(f"{file} is not a file of a dataset")
    return file


def parse_digest(name: str) -> str | None:
    """Return the start of the SHA-256 in the name of a dataset's file; None for other names."""
    match = _FILE.fullmatch(name)
    return match[1] if match else None


def is_dataset_name(name: str) -> bool:
    """Tell whether a file of a dataset may have this name."""
    return name == SUCCESS_FILE or parse_digest(name) is not None


def is_draft_name(name: str) -> bool:
    """Tell whether this is the name of a file that is still being written."""
    return _DRAFT.fullmatch(name) is not None


def foreign_file_error(place: str, name: str) -> OutputError:
    """Make the error for a folder or prefix that holds something besides a dataset."""
    return OutputError(
        f"{place} holds {printable_text(name)}, which is not part of a dataset of batch-label",
        "name another folder with -o",
    )


class DatasetFolder(Protocol):
    """A folder in which a dataset is written before it is published.

    Attributes:
        root: the folder.
    """

    root: Path

    def open(self, name: str) -> BinaryIO:
        """Create a file in the folder."""


class DatasetWriter:
    """Writes records into files of ``MAX_ROWS_PER_FILE`` rows, one after the other.

    The same records always give the same names and bytes. A dataset without rows has one file,
    from which readers take the columns and their types.

    Raises:
        UsageError: pyarrow is not installed.
    """

    def __init__(self, folder: DatasetFolder, columns: Sequence[Column]) -> None:
        self._folder = folder
        self._columns = columns
        self._files: list[DatasetFile] = []
        self._file = self._begin_file()

    def write(self, record: Record) -> None:
        """Write one record."""
        if self._file.rows == MAX_ROWS_PER_FILE:
            self._files.append(self._file.finish())
            self._file = self._begin_file()
        self._file.write_record(record)

    def finish(self) -> None:
        """End the last file and list all of them in ``_SUCCESS``."""
        self._files.append(self._file.finish())
        with self._folder.open(SUCCESS_FILE) as stream:
            stream.write(encode_success(self._files))

    def _begin_file(self) -> _FileInProgress:
        return _FileInProgress(self._folder, f"part-{len(self._files):05}", self._columns)


class _FileInProgress:
    """A Parquet file that is named after its digest once it is complete."""

    def __init__(self, folder: DatasetFolder, name: str, columns: Sequence[Column]) -> None:
        self.rows = 0
        self._draft = folder.root / name
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._stream = folder.open(name)
        self._writer = ParquetWriter(self, columns)

    def write(self, data: bytes) -> None:
        """Take the bytes of ``ParquetWriter``."""
        self._digest.update(data)
        self._bytes += len(data)
        self._stream.write(data)

    def write_record(self, record: Record) -> None:
        self._writer.write(record)
        self.rows += 1

    def finish(self) -> DatasetFile:
        self._writer.finish()
        self._stream.close()
        digest = self._digest.hexdigest()
        name = f"{self._draft.name}-{digest[:DIGEST_LENGTH]}.parquet"
        self._draft.rename(self._draft.with_name(name))
        return DatasetFile(name, self.rows, self._bytes, digest)
