"""Reader of datasets: the rows of all files that ``_SUCCESS`` lists, in the report's order."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from batch.errors import ReportError
from batch.location import Location
from batch.reports.dataset import SUCCESS_FILE, DatasetFile, parse_success
from batch.reports.dataset_place import join_location, read_sizes, read_success
from batch.reports.formats import Format, check_format
from batch.reports.readers import REMEDY, ParquetReader, damage_error, translate_read_errors
from batch.reports.tabular import ROW_GROUP_ROWS, Records
from batch.stores.download import open_location


class DatasetReader:
    """Reads a dataset whose files all exist with the listed sizes; one is open at a time.

    Args:
        place: the folder or prefix.
        display_name: its name in messages.
        rows: rows to hold in memory at a time.

    Raises:
        ReportError: it is not a dataset, or is incomplete.
        UsageError: pyarrow is not installed.
    """

    unit = "row"
    is_text = False

    def __init__(self, place: Location, display_name: str, rows: int = ROW_GROUP_ROWS) -> None:
        check_format(Format.PARQUET)
        self.display_name = display_name
        self._place = place
        self._rows = rows
        self._files = _check_complete(place, display_name)
        with self._open_file(self._files[0]) as reader:
            self.columns = reader.columns

    def records(self, wanted: Sequence[str]) -> Records:
        """Read the records once: see ``RecordReader``."""
        number = 0
        for file in self._files:
            with self._open_file(file) as reader:
                for _, values in reader.records(wanted):
                    number += 1
                    yield number, values

    @contextmanager
    def _open_file(self, file: DatasetFile) -> Iterator[ParquetReader]:
        display_name = f"{self.display_name}, file {file.path},"
        with translate_read_errors(display_name):
            try:
                stream = open_location(
                    join_location(self._place, file.path), display_name, ReportError
                )
            except FileNotFoundError as error:
                raise _missing_error(self.display_name, file) from error
        with stream:
            reader = ParquetReader(stream, display_name, self._rows)
            if reader.row_count != file.rows:
                raise damage_error(display_name, f"it has {reader.row_count} rows, not {file.rows}")
            yield reader


def require_success(place: Location, display_name: str) -> bytes:
    """Read ``_SUCCESS``, which has the digests of all files and so identifies the dataset.

    Raises:
        ReportError: it is missing, or can't be read.
    """
    with translate_read_errors(display_name):
        success = read_success(place, display_name)
    if success is None:
        raise ReportError(
            f"{display_name} is not a dataset, or was never finished: it has no {SUCCESS_FILE}",
            REMEDY,
        ) from FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), SUCCESS_FILE)
    return success


def _check_complete(place: Location, display_name: str) -> tuple[DatasetFile, ...]:
    """Read the list of files, and make sure that all exist with the listed sizes."""
    files = parse_success(require_success(place, display_name))
    if not files:
        raise ReportError(
            f"{display_name} is not a dataset of batch-label: another program wrote its "
            f"{SUCCESS_FILE}",
            REMEDY,
        )
    with translate_read_errors(display_name):
        sizes = read_sizes(place, [file.path for file in files], display_name)
    for file in files:
        if file.path not in sizes:
            raise _missing_error(display_name, file)
        if sizes[file.path] != file.bytes:
            raise _incomplete_error(
                display_name, f"{file.path} has {sizes[file.path]} bytes, not {file.bytes}"
            )
    return files


def _missing_error(display_name: str, file: DatasetFile) -> ReportError:
    return _incomplete_error(display_name, f"{file.path} is missing")


def _incomplete_error(display_name: str, why: str) -> ReportError:
    return ReportError(
        f"{display_name} is incomplete: {why}",
        "try again if it was replaced just now, else write it again",
    )
