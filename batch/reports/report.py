"""Reports: rows written and published in the format and at the location that ``-o`` names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import PurePosixPath
from types import TracebackType
from typing import BinaryIO

from batch.errors import UsageError
from batch.files.publish import Draft, is_stdout, is_streamed
from batch.location import parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import path_text
from batch.records import Row
from batch.reports.columns import flatten_row, make_columns
from batch.reports.dataset import DatasetWriter, is_dataset
from batch.reports.dataset_place import check_dataset, open_dataset
from batch.reports.formats import Format, check_format, find_format, open_writer
from batch.reports.output import Destination, check_destination, describe_output, open_destination
from batch.reports.tabular import Record, RecordWriter
from batch.stopping import StopCheck, never_stop


def report_format(output: str) -> Format:
    """Return the format of an output's name; ``-``, pipes and devices without a suffix get CSV.

    Raises:
        UsageError: no format has the name's suffix.
    """
    place = parse_location(output)
    if is_stdout(output) or (is_streamed(output) and not PurePosixPath(place.name).suffix):
        return Format.CSV
    if form := find_format(place.name):
        return form
    suffixes = ", ".join(Format)
    if os.path.isdir(output):  # noqa: PTH112 - Path.is_dir raises for some names
        raise UsageError(
            f"{describe_output(output)} is a folder",
            f"for a dataset write {path_text(place)}/, else name a file in it that ends in "
            f"{suffixes}",
        )
    raise UsageError(
        f"{describe_output(output)} has no suffix that names a format",
        f"end its name in {suffixes}, or in / for a dataset, or give - for CSV on standard output",
    )


def check_output_name(output: str) -> None:
    """Make sure that an output's name asks for a format, and that its package is installed.

    Raises:
        UsageError: it does not, or the package is missing.
    """
    check_format(Format.PARQUET if is_dataset(output) else report_format(output))


def check_output(output: str, check: StopCheck = never_stop) -> None:
    """Check before the run that a report can be published.

    Args:
        output: what ``-o`` names.
        check: raises an error to stop waiting for a store.

    Raises:
        UsageError: the suffix is unknown, or a package that the format needs is missing.
        OutputError: it is a folder, or its folder is missing or can't be written.
    """
    check_output_name(output)
    if is_dataset(output):
        check_dataset(parse_location(output), check)
    else:
        check_destination(output, check)


def open_report(
    output: str,
    outputs: Sequence[str],
    per_face: bool,
    stdout: BinaryIO,
    numbered: bool = False,
    check: StopCheck = never_stop,
    *,
    located: bool = False,
) -> ReportWriter:
    """Start a report.

    Args:
        output: what ``-o`` names.
        outputs: the model's labels, then its abstain outputs.
        per_face: write one row per face.
        stdout: takes the report if ``output`` is ``-``.
        numbered: add the column `position`, as in the report of a shard.
        check: raises an error to stop an upload to a store, or the wait for a pipe's reader.
        located: add the columns `latitude` and `longitude`.

    Raises:
        UsageError, OutputError: as ``check_output``.
    """
    check_output(output, check)
    columns = make_columns(outputs, per_face, numbered, located=located)
    display_name = describe_output(output)
    with translate_write_errors(display_name), ExitStack() as undo:
        destination: Destination
        writer: RecordWriter
        if is_dataset(output):
            destination = folder = open_dataset(parse_location(output), check)
            undo.callback(destination.discard)
            writer = DatasetWriter(folder, columns)
        else:
            destination = file = open_destination(output, stdout, check)
            undo.callback(destination.discard)
            writer = open_writer(report_format(output), file.stream, columns)
        undo.pop_all()
    flatten = partial(
        flatten_row, outputs=tuple(outputs), per_face=per_face, numbered=numbered, located=located
    )
    return ReportWriter(display_name, destination, writer, flatten)


class ReportWriter:
    """A report that is being written; ``publish`` makes it visible under its name.

    As a context manager it discards the report unless ``publish`` was called. ``add`` and
    ``publish`` raise ``OutputError`` on an I/O error, and leave an earlier report as it was.

    Attributes:
        digest: SHA-256 of a published report that is one file on disk, else None.
    """

    def __init__(
        self,
        display_name: str,
        destination: Destination,
        writer: RecordWriter,
        flatten: Callable[[Row], Iterable[Record]],
    ) -> None:
        self._display_name = display_name
        self._destination = destination
        self._writer = writer
        self._flatten = flatten
        self._is_published = False
        self.digest: bytes | None = None

    def add(self, row: Row) -> None:
        """Write a photo's row, or one row per face."""
        with translate_write_errors(self._display_name):
            for record in self._flatten(row):
                self._writer.write(record)

    def copy(self, record: Record) -> None:
        """Write a record of another report, which is already flat and rounded."""
        with translate_write_errors(self._display_name):
            self._writer.write(record)

    def publish(self) -> None:
        """Finish the report and give it its name in one step."""
        with translate_write_errors(self._display_name):
            self._writer.finish()
        digest = self._destination.digest() if isinstance(self._destination, Draft) else None
        self._destination.publish()
        self.digest = digest
        self._is_published = True

    def __enter__(self) -> ReportWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_published:
            self._destination.discard()
