"""The answers of people in the reviews file beside a report, matched to the rows of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.page.gather import PageRow, PixelBox
from batch.reading.reviews import ReviewLine, read_review_file
from batch.records import Box, Source

REVIEWS_SUFFIX = ".reviews.csv"
# Boxes in the same photo are of one face if their intersection over union is at least this.
MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class RecordedAnswer:
    """A person's answer that is already recorded.

    Attributes:
        label: the right label, ``neither`` or ``no_person``.
        said: the answer of the model, likewise; empty if it had none, None if unknown.
        confidence: the confidence of the model; None if unknown.
    """

    label: str
    said: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class RecordedAnswers:
    """The recorded answers for the rows of a page.

    Attributes:
        by_row: answers by the index of the row in the page.
        unmatched: lines about photos or faces that are not in the page.
        unknown: lines with a label that the report does not have.
    """

    by_row: dict[int, RecordedAnswer]
    unmatched: int = 0
    unknown: int = 0


def find_reviews_file(report: Path) -> Path:
    """Find the place of the reviews file: beside the report, with its name."""
    return report.with_name(f"{report.name}{REVIEWS_SUFFIX}")


def read_recorded_answers(
    report: Path, rows: Sequence[PageRow], choices: Iterable[str]
) -> RecordedAnswers:
    """Read the reviews file of a report if there is one; later lines override earlier ones.

    Args:
        report: the report.
        rows: the rows of the page.
        choices: the answers that the report knows.

    Raises:
        ReviewError: the file is damaged.
    """
    file = find_reviews_file(report)
    by_row = {
        index: RecordedAnswer(row.saved.answer)
        for index, row in enumerate(rows)
        if row.source == Source.REVIEW and row.saved.answer is not None
    }
    if not file.exists():
        return RecordedAnswers(by_row)
    known, matcher = frozenset(choices), _Matcher(rows)
    unmatched = unknown = 0
    for line in read_review_file(file):
        if line.label not in known:
            unknown += 1
            continue
        found = matcher.find(line)
        unmatched += not found
        for index in found:
            by_row[index] = RecordedAnswer(line.label, line.said, line.confidence)
    return RecordedAnswers(by_row, unmatched, unknown)


class _Matcher:
    """Finds the rows of a page that a line of a review is about.

    The photo is the one with the line's digest. If the line or the row has no digest, it is the one
    with the line's path.
    """

    def __init__(self, rows: Sequence[PageRow]) -> None:
        self._rows = rows
        self._by_digest: dict[bytes, list[int]] = {}
        self._by_path: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            if row.sha256:
                self._by_digest.setdefault(row.sha256, []).append(index)
            self._by_path.setdefault(row.saved.path, []).append(index)

    def find(self, line: ReviewLine) -> list[int]:
        """Find the indexes of the rows; several if copies of the photo are in the report."""
        digest = bytes.fromhex(line.sha256)
        found = self._by_digest.get(digest, [])
        if not found:
            at_path = self._by_path.get(line.path, [])
            found = [index for index in at_path if not (digest and self._rows[index].sha256)]
        by_photo: dict[str, list[int]] = {}
        for index in found:
            by_photo.setdefault(self._rows[index].saved.path, []).append(index)
        chosen = (self._choose_face(line, indexes) for indexes in by_photo.values())
        return [index for index in chosen if index is not None]

    def _choose_face(self, line: ReviewLine, indexes: Sequence[int]) -> int | None:
        """Choose the row of one photo: about the photo, or about the face in the same place."""
        if line.face is None:
            return next((index for index in indexes if self._rows[index].saved.face is None), None)
        faces = [index for index in indexes if self._rows[index].saved.face is not None]
        if line.box is None:
            return next((i for i in faces if self._rows[i].saved.face == line.face), None)
        overlaps = [(compute_overlap(line.box, self._rows[index].box), index) for index in faces]
        best, index = max(overlaps, default=(0.0, 0))
        return index if best >= MIN_OVERLAP else None


def compute_overlap(one: Box, other: PixelBox | None) -> float:
    """Compute the intersection over union of two boxes, 0 to 1; 0 without a second one."""
    if other is None:
        return 0.0
    left, top, width, height = other
    across = min(one.left + one.width, left + width) - max(one.left, left)
    down = min(one.top + one.height, top + height) - max(one.top, top)
    shared = max(0.0, across) * max(0.0, down)
    return shared / (one.area + width * height - shared)
