"""The answers of people in the reviews file of a report, matched to the rows of a page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.os_errors import describe_os_error
from batch.page.gather import PageRow
from batch.path_text import path_text
from batch.reading.reviews import ReviewError, ReviewLine
from batch.records import Box, Source
from batch.reviewing.reviews_file import (
    Reviews,
    find_face_line,
    find_photo_line,
    find_reviews_path,
    list_set_aside,
    read_reviews,
)


@dataclass(frozen=True)
class RecordedAnswer:
    """A person's answer that is already recorded.

    Attributes:
        label: the right label, ``neither`` or ``no_person``.
        said: the answer of the model, likewise; empty if it had none, None if unknown.
        confidence: the confidence of the model; None if unknown.
        position: position in the reviews file, to which new answers are appended; -1 without one.
        is_random: whether it is recorded as an answer of the random sample.
    """

    label: str
    said: str | None = None
    confidence: float | None = None
    position: int = -1
    is_random: bool = False


@dataclass(frozen=True)
class ForgottenAnswers:
    """The answers in a reviews file that ``--forget-reviews`` has set aside.

    Attributes:
        mtime_ms: when the file was last written, in milliseconds since 1970.
        by_row: labels by the index of the row in the page.
    """

    mtime_ms: int
    by_row: dict[int, str]


@dataclass(frozen=True)
class RecordedAnswers:
    """The recorded answers for the rows of a page.

    Attributes:
        by_row: answers by the index of the row in the page.
        unmatched: reviews of photos or faces that are not in the page.
        unknown: reviews with a label that the report does not have.
        forgotten: answers that were recorded before and that browsers may still have.
        warnings: files with such answers that can't be read.
    """

    by_row: dict[int, RecordedAnswer]
    unmatched: int = 0
    unknown: int = 0
    forgotten: Sequence[ForgottenAnswers] = ()
    warnings: Sequence[str] = ()

    def list_facts(self) -> list[tuple[str, str]]:
        """List what the page takes from earlier reviews, as pairs of name and value."""
        counts = (
            (len(self.by_row), "reviewed"),
            (self.unmatched, "about photos or faces that are not in this page"),
            (self.unknown, "with labels that this report lacks"),
        )
        parts = [f"{count:,} {what}" for count, what in counts if count]
        return [("Reviews", ", ".join(parts))] if parts else []


def read_recorded_answers(
    report: Path, rows: Sequence[PageRow], choices: Iterable[str]
) -> RecordedAnswers:
    """Read the reviews file of a report if there is one.

    Args:
        report: the report.
        rows: the rows of the page.
        choices: the answers that the report knows.

    Raises:
        ReviewError: the file is damaged.
    """
    # A person's answer in the report counts even if the reviews file was not moved with it.
    by_row = {
        index: RecordedAnswer(row.saved.answer)
        for index, row in enumerate(rows)
        if row.source == Source.REVIEW and row.saved.answer is not None
    }
    path = find_reviews_path(os.fspath(report), None)
    reviews = read_reviews(path) if path else None
    forgotten, warnings = _read_forgotten(path, rows) if path else ([], [])
    if reviews is None:
        return RecordedAnswers(by_row, forgotten=forgotten, warnings=warnings)
    known = frozenset(choices)
    positions = {id(line): position for position, line in enumerate(reviews)}
    used = set()
    for index, row in enumerate(rows):
        line = _find_line(reviews, row)
        if line is not None and line.label in known:
            by_row[index] = RecordedAnswer(
                line.label, line.said, line.confidence, positions[id(line)], line.is_random
            )
            used.add(id(line))
    unknown = sum(line.label not in known for line in reviews)
    unmatched = len(reviews) - len(used) - unknown
    return RecordedAnswers(by_row, unmatched, unknown, forgotten, warnings)


def _read_forgotten(
    path: Path, rows: Sequence[PageRow]
) -> tuple[list[ForgottenAnswers], list[str]]:
    """Read the files that were set aside, and list those that can't be read."""
    forgotten, warnings = [], []
    for aside in list_set_aside(path):
        try:
            mtime_ms = aside.stat().st_mtime_ns // 1_000_000
            reviews = read_reviews(aside)
        except (OSError, ReviewError) as error:
            cause = error.problem if isinstance(error, ReviewError) else describe_os_error(error)
            warnings.append(f"browsers may still show answers of {path_text(aside)}: {cause}")
            continue
        lines = ((index, _find_line(reviews, row)) for index, row in enumerate(rows) if reviews)
        found = {index: line.label for index, line in lines if line}
        forgotten.append(ForgottenAnswers(mtime_ms, found))
    return forgotten, warnings


def _find_line(reviews: Reviews, row: PageRow) -> ReviewLine | None:
    """Find the review that a report applies to a row."""
    lines = reviews.find(row.sha256.hex()) if row.sha256 else None
    if lines is None:
        return None
    if row.saved.face is None:
        return find_photo_line(lines)
    return find_face_line(lines, Box(*row.box, score=1.0) if row.box else None)
