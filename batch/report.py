"""The report: every file's row, flat and rounded, in the columns of docs/report.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import PurePosixPath
from types import TracebackType
from typing import BinaryIO

from batch.dataset import DatasetWriter, is_dataset
from batch.dataset_place import check_dataset, open_dataset
from batch.errors import UsageError
from batch.formats import (
    Column,
    Format,
    Kind,
    Record,
    RecordWriter,
    Value,
    check_format,
    open_writer,
)
from batch.location import location_of
from batch.names import label_text, path_text, printable
from batch.output import Place, called, check_place, is_stdout, is_streamed, open_output
from batch.publish import writing
from batch.records import Answer, Reason, Row, Status

PROBABILITY_DECIMALS = 4
PIXEL_DECIMALS = 1
# How the column `error` begins in a row that was kept for a file that is gone.
MISSING = "missing:"
# What `error` says, after its reason, of a photo of which only a part is there.
SALVAGED = "labelled from what is there"


def columns(labels: Sequence[str], per_face: bool, numbered: bool = False) -> tuple[str, ...]:
    """Name the report's columns in their order, for a model's labels in theirs.

    ``numbered`` is the report of a shard, whose rows know their position among all files.
    """
    return tuple(column.name for column in layout(labels, per_face, numbered))


def records_of(
    row: Row, labels: Sequence[str], per_face: bool, numbered: bool = False
) -> Iterator[dict[str, Value]]:
    """Flatten a row into records with the keys of ``columns``, one or one a face.

    Confidence, probabilities and score have 4 decimals, boxes (pixels) have 1. With
    ``per_face`` a photo without faces keeps one record, and each face has a status of its
    own.
    """
    position = {"position": row.position} if numbered else {}
    if not per_face:
        yield _record(row, row.status, row.answer, labels) | position
    elif not row.faces:
        yield _record(row, row.status, row.answer, labels) | {"face": None} | position
    for number, answer in enumerate(row.faces if per_face else (), start=1):
        status = Status.OK if answer.sure else Status.UNSURE
        yield _record(row, status, answer, labels) | {"face": number} | position


def report_format(output: str) -> Format:
    """Tell the format from the output's name; ``-``, pipes and devices get CSV.

    Raises:
        UsageError: the name ends in none of the known suffixes.
    """
    suffix = PurePosixPath(location_of(output).name).suffix
    if is_stdout(output) or (not suffix and is_streamed(output)):
        return Format.CSV
    try:
        return Format(suffix.lower())
    except ValueError:
        raise UsageError(
            f"{called(output)} has no suffix that names a format",
            f"end its name in {', '.join(Format)}, or give - for CSV on standard output",
        ) from None


def check_output(output: str) -> None:
    """Find out before the work whether a report can be published at its end.

    Raises:
        UsageError: unknown suffix, or a package that the format needs is missing.
        OutputError: it is a folder, or its folder is missing or can't be written.
    """
    if is_dataset(output):
        check_format(Format.PARQUET)
        check_dataset(location_of(output))
        return
    check_format(report_format(output))
    check_place(output)


def open_report(
    output: str,
    labels: Sequence[str],
    per_face: bool,
    stdout: BinaryIO,
    numbered: bool = False,
) -> Report:
    """Begin a report at ``output``, or on ``stdout`` where that is ``-``.

    ``numbered`` adds the column `position`: see ``columns``.

    Raises:
        UsageError, OutputError: as ``check_output`` does.
    """
    check_output(output)
    wanted = layout(labels, per_face, numbered)
    with writing(called(output)), ExitStack() as undo:
        place: Place
        writer: RecordWriter
        if is_dataset(output):
            place = folder = open_dataset(location_of(output))
            undo.callback(place.discard)
            typical = {"status": Status.OK.value, "label": label_text(labels[0])}
            writer = DatasetWriter(folder, wanted, typical)
        else:
            place = file = open_output(output, stdout)
            undo.callback(place.discard)
            writer = open_writer(report_format(output), file.stream, wanted)
        undo.pop_all()
    return Report(called(output), place, writer, labels, per_face, numbered)


class Report:
    """A report in the making: rows go straight to it, and ``publish`` ends it.

    As a context manager it discards what was written unless ``publish`` was called. ``add``
    and ``publish`` raise ``OutputError`` where the system refuses, and leave an earlier report
    as it was.
    """

    def __init__(
        self,
        called: str,
        place: Place,
        writer: RecordWriter,
        labels: Sequence[str],
        per_face: bool,
        numbered: bool = False,
    ) -> None:
        self._called = called
        self._place = place
        self._writer = writer
        self._labels = tuple(labels)
        self._per_face = per_face
        self._numbered = numbered
        self._ended = False

    def add(self, row: Row) -> None:
        """Write a file's row, or one row for each of its faces."""
        with writing(self._called):
            for record in records_of(row, self._labels, self._per_face, self._numbered):
                self._writer.write(record)

    def copy(self, record: Record) -> None:
        """Write a record of another report, which is flat and rounded already."""
        with writing(self._called):
            self._writer.write(record)

    def publish(self) -> None:
        """Let the whole report take its name, in one step."""
        self._finish()
        self._place.publish()
        self._ended = True

    def _finish(self) -> None:
        with writing(self._called):
            self._writer.finish()

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._ended:
            self._place.discard()


def layout(labels: Sequence[str], per_face: bool, numbered: bool = False) -> tuple[Column, ...]:
    """Give the columns that ``columns`` names, with what their values are."""
    boxes = ("face_left", "face_top", "face_width", "face_height")
    return (
        Column("path"),
        Column("status"),
        Column("label"),
        Column("confidence", Kind.REAL, PROBABILITY_DECIMALS),
        *(Column(name, Kind.REAL, PROBABILITY_DECIMALS) for name in map(_p, labels)),
        Column("source"),
        Column("faces", Kind.WHOLE),
        *((Column("face", Kind.WHOLE),) if per_face else ()),
        *(Column(name, Kind.REAL, PIXEL_DECIMALS) for name in boxes),
        Column("face_score", Kind.REAL, PROBABILITY_DECIMALS),
        Column("width", Kind.WHOLE),
        Column("height", Kind.WHOLE),
        Column("error"),
        *((Column("position", Kind.LONG),) if numbered else ()),
    )


def _p(label: str) -> str:
    return f"p_{printable(label)}"


def _record(
    row: Row, status: Status, answer: Answer | None, labels: Sequence[str]
) -> dict[str, Value]:
    box = answer.box if answer else None
    share = PROBABILITY_DECIMALS
    return {
        "path": path_text(row.path),
        "status": status.value,
        "label": label_text(answer.label) if answer else None,
        "confidence": _rounded(answer.confidence, share) if answer else None,
        **{_p(n): _rounded(answer.probabilities[n], share) if answer else None for n in labels},
        "source": row.source.value if row.source else None,
        # Nobody counted the faces of a file that failed.
        "faces": None if row.failure else len(row.faces),
        "face_left": _rounded(box.left, PIXEL_DECIMALS) if box else None,
        "face_top": _rounded(box.top, PIXEL_DECIMALS) if box else None,
        "face_width": _rounded(box.width, PIXEL_DECIMALS) if box else None,
        "face_height": _rounded(box.height, PIXEL_DECIMALS) if box else None,
        "face_score": _rounded(box.score, share) if box else None,
        "width": row.width,
        "height": row.height,
        "error": _error(row),
    }


def _rounded(value: float, decimals: int) -> float:
    # Zero is added so that -0.04 comes out as 0.0, not as -0.0.
    return round(float(value), decimals) + 0.0


def _error(row: Row) -> str | None:
    parts = [f"{MISSING} not found in this run"] if row.missing else []
    if row.failure:
        parts.append(f"{row.failure.reason}: {row.failure.detail}")
    elif row.salvaged:
        parts.append(f"{Reason.TRUNCATED}: {SALVAGED} ({row.salvaged})")
    return printable("; ".join(parts)) or None
