"""Corrections: people's answers override the model's in the rows of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from batch.log import count_text
from batch.path_text import label_text, printable_text
from batch.reading.reviews import ReviewLine
from batch.records import ABSTAIN_OUTPUTS, Answer, Box, Row, Source, Status
from batch.reports.columns import BOX_COLUMNS, PIXEL_DECIMALS, has_face_records
from batch.reports.tabular import Record, Value
from batch.reviewing.reviews_file import Reviews, find_face_line, find_photo_line
from batch.tally import MAX_NAMED

# What to do about a label that the model lacks.
RENAMED_REMEDY = "if a class was renamed, replace its old name in the reviews"


class LabelCheck:
    """Tells which labels of reviews a report can have.

    Args:
        labels: the model's labels.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels = {label_text(label): label for label in labels}

    def find_flaw(self, line: ReviewLine) -> str:
        """Return why a line's label can't be used; empty if it can."""
        if line.label in ABSTAIN_OUTPUTS or line.label in self._labels:
            return ""
        return f"the model has no label {printable_text(line.label)}"

    def parse(self, label: str) -> tuple[Status, str | None]:
        """Return the status and the model's label that a valid label of a review stands for."""
        if label in ABSTAIN_OUTPUTS:
            return Status(label), None
        return Status.OK, self._labels[label]


class Corrections:
    """Overrides the answers of a report by reviews, and counts which of these were used.

    A photo is recognised by its SHA-256, and a face by its box. In a report with one row per face,
    reviews of a photo apply only to photos without a face, because they do not say which face they
    are about; in other reports, reviews of faces do not apply. Failed files keep their rows.

    Args:
        reviews: the reviews.
        labels: labels of the model.
        per_face: whether the report has one row per face.

    Attributes:
        unusable: the number of reviews that can't be used, by the reason.
    """

    def __init__(self, reviews: Reviews, labels: Sequence[str], per_face: bool) -> None:
        self._reviews = reviews
        self._labels = LabelCheck(labels)
        self._per_face = per_face
        self._used: set[int] = set()  # identities of lines
        self.unusable = Counter(filter(None, map(self._labels.find_flaw, reviews)))

    @property
    def unmatched(self) -> int:
        """The number of reviews that no row of the report has used so far, for any reason."""
        return len(self._reviews) - len(self._used)

    def describe(self) -> str:
        """Describe what was used: ``12 reviews applied; 3 not (...)``."""
        others = self.unmatched - self.unusable.total()
        text = f"{count_text(len(self._used), 'review')} applied"
        if others:
            text += f"; {others:,} not (no row of the report is about their photo or face)"
        for reason, number in self.unusable.most_common(MAX_NAMED):
            text += f"; {number:,} not ({reason})"
        return f"{text}; {RENAMED_REMEDY}" if self.unusable else text

    def correct_row(self, row: Row) -> Row:
        """Override the answers of a row; the probabilities stay the model's."""
        lines = self._reviews.find(row.sha256.hex()) if row.sha256 else None
        if lines is None or row.status is Status.FAILED:
            return row
        if has_face_records(row, self._per_face):
            faces = tuple(
                self._correct(face, find_face_line(lines, _round_box(face.box)))
                for face in row.faces
            )
            return replace(row, faces=faces)
        # Without a face, a face model has no answer that could be overridden.
        given = row.answer or Answer(row.status, None, 0.0, {})
        answer = self._correct(given, find_photo_line(lines))
        if not answer.reviewed:
            return row
        return replace(row, status=answer.status, answer=answer, source=Source.REVIEW)

    def correct_record(self, record: Record) -> Record:
        """Override the answer of a record of a report, as ``correct_row`` does for a row."""
        lines = self._reviews.find(str(record["sha256"]))
        if lines is None or record["status"] == Status.FAILED:
            return record
        if record.get("face") is None:
            line = find_photo_line(lines)
        else:
            line = find_face_line(lines, _parse_record_box(record))
        found = self._use(line)
        if found is None or line is None:
            return record
        status, label = found
        corrected: dict[str, Value] = {
            "status": status.value,
            "label": None if label is None else line.label,
            "confidence": 1.0,
            "source": Source.REVIEW.value,
        }
        return {**record, **corrected}

    def _correct(self, answer: Answer, line: ReviewLine | None) -> Answer:
        found = self._use(line)
        if found is None:
            return answer
        status, label = found
        return replace(answer, status=status, label=label, confidence=1.0, reviewed=True)

    def _use(self, line: ReviewLine | None) -> tuple[Status, str | None] | None:
        """Return the status and label that a review stands for; None if it can't be used."""
        if line is None or self._labels.find_flaw(line):
            return None
        self._used.add(id(line))
        return self._labels.parse(line.label)


def _round_box(box: Box | None) -> Box | None:
    """Round a box as reports do, so that a row and its record find the same face."""
    if box is None:
        return None
    left, top, width, height = (
        round(side, PIXEL_DECIMALS) for side in (box.left, box.top, box.width, box.height)
    )
    return Box(left, top, width, height, box.score)


def _parse_record_box(record: Mapping[str, Value]) -> Box | None:
    sides = [float(side) for name in BOX_COLUMNS if (side := record[name]) is not None]
    if len(sides) < len(BOX_COLUMNS):
        return None
    left, top, width, height = sides
    return Box(left, top, width, height, score=1.0)
