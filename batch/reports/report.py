"""The report: every file's row, in the format and at the place that its name says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import PurePosixPath
from types import TracebackType
from typing import BinaryIO

from batch.errors import UsageError
from batch.files.publish import Draft, is_stdout, is_streamed
from batch.location import parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import label_text, path_text
from batch.records import Row, Status
from batch.reports.columns import flatten_row, make_columns
from batch.reports.dataset import DatasetWriter, is_dataset
from batch.reports.dataset_place import check_dataset, open_dataset
from batch.reports.formats import Format, Record, RecordWriter, check_format, open_writer
from batch.reports.output import Destination, check_destination, describe_output, open_destination
from batch.stopping import StopCheck, never_stop


def report_format(output: str) -> Format:
    """Tell the format from the output's name; ``-``, pipes and devices get CSV.

    Raises:
        UsageError: the name ends in none of the known suffixes.
    """
    suffix = PurePosixPath(parse_location(output).name).suffix
    if is_stdout(output) or (not suffix and is_streamed(output)):
        return Format.CSV
    try:
        return Format(suffix.lower())
    except ValueError:
        suffixes = ", ".join(Format)
        if os.path.isdir(output):  # noqa: PTH112 - Path.is_dir raises for some names
            raise UsageError(
                f"{describe_output(output)} is a folder",
                f"for a dataset in it write {path_text(parse_location(output))}/, else name a file in "
                f"it that ends in {suffixes}",
            ) from None
        raise UsageError(
            f"{describe_output(output)} has no suffix that names a format",
            f"end its name in {suffixes}, or in / for a dataset, or give - for CSV on standard "
            "output",
        ) from None


def check_output_name(output: str) -> None:
    """Make sure that an output's name names a format whose package is installed.

    Raises:
        UsageError: it does not.
    """
    check_format(Format.PARQUET if is_dataset(output) else report_format(output))


def check_output(output: str, check: StopCheck = never_stop) -> None:
    """Find out before the work whether a report can be published at its end.

    ``check`` ends the wait for a store: see ``stores.waiting``.

    Raises:
        UsageError: unknown suffix, or a package that the format needs is missing.
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
) -> ReportWriter:
    """Begin a report at ``output``, or on ``stdout`` where that is ``-``.

    ``outputs`` are the model's labels and then its abstain outputs; ``numbered`` adds the column
    `position`: see ``columns``. ``check`` ends the upload to a store: see ``stores.waiting``.

    Raises:
        UsageError, OutputError: as ``check_output`` does.
    """
    check_output(output, check)
    wanted = make_columns(outputs, per_face, numbered)
    with translate_write_errors(describe_output(output)), ExitStack() as undo:
        place: Destination
        writer: RecordWriter
        if is_dataset(output):
            place = folder = open_dataset(parse_location(output), check)
            undo.callback(place.discard)
            typical = {"status": Status.OK.value, "label": label_text(outputs[0])}
            writer = DatasetWriter(folder, wanted, typical)
        else:
            place = file = open_destination(output, stdout, check)
            undo.callback(place.discard)
            writer = open_writer(report_format(output), file.stream, wanted)
        undo.pop_all()
    return ReportWriter(describe_output(output), place, writer, outputs, per_face, numbered)


class ReportWriter:
    """A report in the making: rows go straight to it, and ``publish`` ends it.

    As a context manager it discards what was written unless ``publish`` was called. ``add``
    and ``publish`` raise ``OutputError`` where the system refuses, and leave an earlier report
    as it was.
    """

    def __init__(
        self,
        called: str,
        place: Destination,
        writer: RecordWriter,
        outputs: Sequence[str],
        per_face: bool,
        numbered: bool = False,
    ) -> None:
        self._called = called
        self._destination = place
        self._writer = writer
        self._outputs = tuple(outputs)
        self._per_face = per_face
        self._numbered = numbered
        self._is_published = False
        self.digest: bytes | None = None

    def add(self, row: Row) -> None:
        """Write a file's row, or one row for each of its faces."""
        with translate_write_errors(self._called):
            for record in flatten_row(row, self._outputs, self._per_face, self._numbered):
                self._writer.write(record)

    def copy(self, record: Record) -> None:
        """Write a record of another report, which is flat and rounded already."""
        with translate_write_errors(self._called):
            self._writer.write(record)

    def publish(self) -> None:
        """Let the whole report take its name, in one step.

        ``digest`` is then the SHA-256 of a report that is one file on disk.
        """
        self._finish()
        digest = self._destination.digest() if isinstance(self._destination, Draft) else None
        self._destination.publish()
        self.digest = digest
        self._is_published = True

    def _finish(self) -> None:
        with translate_write_errors(self._called):
            self._writer.finish()

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
