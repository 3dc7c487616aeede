"""Selection of photos by the rows of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from batch.applying.expression import Condition
from batch.errors import ReportError, UsageError
from batch.path_text import (
    begins_formula,
    cell_text,
    label_text,
    parse_printable_text,
    printable_text,
)
from batch.reading.fields import is_known_column, read_checked_records
from batch.reading.saved import REQUIRED_COLUMNS, check_columns
from batch.records import ABSTAIN_OUTPUTS, MAX_LABELS, Status
from batch.reports.columns import BOX_COLUMNS, is_missing
from batch.reports.tabular import RecordReader
from batch.xmp import FaceRegion

DIGEST_COLUMN = "sha256"
_SIZE_COLUMNS = ("width", "height")
RELABEL_REMEDY = "label the photos again with this version of batch-label"


@dataclass(frozen=True)
class Selection:
    """Which rows of a report match; all conditions must hold.

    Attributes:
        labels: labels; empty for any label or none.
        statuses: statuses.
        min_confidence: 0 to 1; None for any.
        where: an SQL expression over the report's columns; None for none.
    """

    labels: tuple[str, ...] = ()
    statuses: tuple[str, ...] = (Status.OK,)
    min_confidence: float | None = None
    where: str | None = None


@dataclass(frozen=True)
class ReportedPhoto:
    """A photo of a report, with what its matching rows say.

    Attributes:
        path: the text in the report.
        sha256: the text in the report; None if the cell is empty.
        folders: labels of the matching rows, or their statuses if they have none, without
            duplicates; empty if no row matches.
        statuses: statuses of all rows, without duplicates.
        keywords: labels of the matching rows, or `neither` or `no_person`, without duplicates.
        faces: boxes of the matching rows that have one and a label.
        width: pixels of the upright file; None if unknown.
        height: pixels of the upright file; None if unknown.
        missing: whether the row was kept for a photo that is missing.
    """

    path: str
    sha256: str | None
    folders: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    faces: tuple[FaceRegion, ...] = ()
    width: int | None = None
    height: int | None = None
    missing: bool = False

    @property
    def matches(self) -> bool:
        """Whether a row of the photo matches."""
        return bool(self.folders)


class PhotoReader:
    """Reads the photos of a report, and decides which match.

    Args:
        reader: the report.
        selection: which rows match.
        needs_faces: whether the boxes of faces are needed.

    Raises:
        ReportError: the report lacks a column.
        UsageError: the selection names a label that the report can't have, or its expression is
            invalid.
    """

    def __init__(self, reader: RecordReader, selection: Selection, needs_faces: bool) -> None:
        self._reader = reader
        self._selection = selection
        self._labels = {text for label in selection.labels for text in (label, label_text(label))}
        # A report in JSON Lines without rows has no columns.
        self._columns = tuple(filter(is_known_column, reader.columns)) or REQUIRED_COLUMNS
        if reader.columns:
            check_columns(reader.columns, reader.display_name)
            self._check_needed_columns((DIGEST_COLUMN,), "so photos can't be compared with it")
            if needs_faces:
                self._check_needed_columns(
                    (*BOX_COLUMNS, *_SIZE_COLUMNS), "so faces can't be marked"
                )
            self._check_labels()
        self._condition = Condition(selection.where, self._columns) if selection.where else None
        self._at = {name: number for number, name in enumerate(self._columns)}

    def read(self) -> Iterator[ReportedPhoto]:
        """Read the photos in the report's order, once.

        Raises:
            ReportError: a row is damaged.
            UsageError: the expression can't be evaluated for a row.
        """
        records = (values for _, values in read_checked_records(self._reader, self._columns))
        for path, rows in groupby(records, itemgetter(self._at["path"])):
            yield self._join_rows(path, list(rows))

    def _join_rows(self, path: str, rows: list[tuple[Any, ...]]) -> ReportedPhoto:
        first, get = rows[0], self._get
        matching = [row for row in rows if self._matches(row)]
        answers = [(get(row, "label"), row[self._at["status"]]) for row in matching]
        folders = (read_label(label) if label else status for label, status in answers)
        keywords = (
            read_label(label) if label else status
            for label, status in answers
            if label or status in ABSTAIN_OUTPUTS
        )
        faces = []
        for row, (label, _) in zip(matching, answers, strict=True):
            box = [get(row, name) for name in BOX_COLUMNS]
            if label and None not in box:
                faces.append(FaceRegion(read_label(label), *box))
        return ReportedPhoto(
            path,
            get(first, DIGEST_COLUMN),
            tuple(dict.fromkeys(folders)),
            tuple(dict.fromkeys(row[self._at["status"]] for row in rows)),
            tuple(dict.fromkeys(keywords)),
            tuple(faces),
            get(first, "width"),
            get(first, "height"),
            is_missing(get(first, "error")),
        )

    def _matches(self, row: tuple[Any, ...]) -> bool:
        selection = self._selection
        if row[self._at["status"]] not in selection.statuses:
            return False
        if self._labels and row[self._at["label"]] not in self._labels:
            return False
        if selection.min_confidence is not None:
            confidence = row[self._at["confidence"]]
            if confidence is None or confidence < selection.min_confidence:
                return False
        return self._condition is None or self._condition.matches(row)

    def _get(self, row: tuple[Any, ...], name: str) -> Any:
        at = self._at.get(name)
        return None if at is None else row[at]

    def _check_needed_columns(self, names: tuple[str, ...], consequence: str) -> None:
        for name in names:
            if name not in self._reader.columns:
                raise ReportError(
                    f"{self._reader.display_name} has no column {name}, {consequence}",
                    RELABEL_REMEDY,
                )

    def _check_labels(self) -> None:
        known = [name[2:] for name in self._reader.columns if name.startswith("p_")]
        labels = [name for name in known if name not in ABSTAIN_OUTPUTS]
        for label in self._selection.labels:
            if label in ABSTAIN_OUTPUTS:
                raise UsageError(f"{label} is a status, not a label", f"use --status {label}")
            if labels and cell_text(label) not in labels:
                raise UsageError(
                    f"{self._reader.display_name} has no label {printable_text(label)}",
                    f"name one of its labels with --label: {', '.join(labels)[:300]}",
                )


@lru_cache(maxsize=2 * MAX_LABELS)
def read_label(cell: str) -> str:
    """Read a label from a cell that ``label_text`` wrote; a damaged cell is read as it is."""
    text = cell[1:] if cell.startswith("'") and begins_formula(cell[1:]) else cell
    try:
        return parse_printable_text(text)
    except ValueError:
        return text
