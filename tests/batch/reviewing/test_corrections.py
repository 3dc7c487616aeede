"""Overriding answers: the same rule for rows and for records of reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from batch.reading.reviews import ReviewLine
from batch.records import Answer, Box, Failure, Reason, Row, Source, Stage, Status
from batch.reports.columns import flatten_row
from batch.reviewing.corrections import Corrections
from batch.reviewing.reviews_file import Reviews

LABELS = ("=happy", "sad")
OUTPUTS = (*LABELS, "neither", "no_person")
SHA256 = bytes(range(32))
LEFT, RIGHT = Box(10, 20, 29.96, 40, 0.9), Box(200, 20, 30, 40, 0.8)
# Overlaps the left face by exactly a half, once that is rounded as in a report.
TWICE = Box(10, 20, 60, 40, 1.0)


def answer(status: Status = Status.OK, box: Box | None = LEFT) -> Answer:
    label = None if status is Status.NO_PERSON else "=happy"
    return Answer(status, label, 0.9, {"=happy": 0.9, "sad": 0.1}, box)


TWO_FACES = Row(
    Path("two.jpg"), Status.OK, answer(), Source.BOTH,
    (answer(), answer(Status.UNSURE, RIGHT)), 300, 100, sha256=SHA256,
)  # fmt: skip
WHOLE = replace(TWO_FACES, source=Source.IMAGE, answer=answer(box=None), faces=())
FALSE_FACE = replace(TWO_FACES, status=Status.NO_PERSON, answer=answer(Status.NO_PERSON))
NO_FACE = replace(WHOLE, status=Status.NO_FACE, source=None, answer=None)
FAILED = replace(
    NO_FACE, status=Status.FAILED, failure=Failure(Path("a"), Stage.DECODE, Reason.CORRUPT, "bad")
)
OTHER = replace(TWO_FACES, sha256=b"0" * 32)
UNREAD = replace(FAILED, sha256=None)
ROWS = (TWO_FACES, WHOLE, FALSE_FACE, NO_FACE, FAILED, OTHER, UNREAD, replace(WHOLE, missing=True))


def line(label: str, face: int | None = None, box: Box | None = None) -> ReviewLine:
    return ReviewLine("a.jpg", SHA256.hex(), face, box, "'=happy", 0.9, label)


def make(lines: Iterable[ReviewLine], per_face: bool) -> Corrections:
    reviews = Reviews()
    for one in lines:
        reviews.add(one)
    return Corrections(reviews, LABELS, per_face)


PHOTO = [line("sad")], [line("neither")], [line("'=happy")], [line("blue")]
FACE = (
    [line("no_person", 2, RIGHT)],
    [line("sad", 1, LEFT), line("sad", 2, RIGHT), line("neither")],
    [line("sad", 1, TWICE)],
)


@pytest.mark.parametrize("lines", [*PHOTO, *FACE])
@pytest.mark.parametrize("per_face", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_rows_and_records_are_corrected_alike(
    row: Row, per_face: bool, lines: list[ReviewLine]
) -> None:
    by_row, by_record = make(lines, per_face), make(lines, per_face)
    model = list(flatten_row(row, OUTPUTS, per_face))
    corrected = list(flatten_row(by_row.correct_row(row), OUTPUTS, per_face))
    assert corrected == list(map(by_record.correct_record, model))
    # As in CSV, where all values are text.
    as_text = ({name: v and str(v) for name, v in record.items()} for record in model)
    statuses = [record["status"] for record in corrected]
    assert [by_record.correct_record(record)["status"] for record in as_text] == statuses
    assert by_row.unmatched == by_record.unmatched
    for before, after in zip(model, corrected, strict=True):
        changed = {name for name, value in after.items() if value != before[name]}
        assert changed <= {"status", "label", "confidence", "source"}


@pytest.mark.parametrize(
    ("label", "status", "cell"),
    [("sad", "ok", "sad"), ("'=happy", "ok", "'=happy"), ("no_person", "no_person", None)],
)
@pytest.mark.parametrize("row", [TWO_FACES, WHOLE, FALSE_FACE, NO_FACE])
def test_a_photo_gets_the_answer_of_a_person(
    row: Row, label: str, status: str, cell: str | None
) -> None:
    (record,) = flatten_row(make([line(label)], False).correct_row(row), OUTPUTS, False)
    assert [record[name] for name in ("status", "label", "confidence", "source")] == [
        status, cell, 1.0, "review",
    ]  # fmt: skip
    assert record["p_=happy"] == (None if row is NO_FACE else 0.9)


def test_only_the_face_in_the_box_gets_the_answer() -> None:
    # As another model may see the face: an intersection over union of 0.55, and of 0.43.
    for width, is_same in ((55, True), (70, False)):
        corrections = make([line("sad", 1, replace(RIGHT, width=width))], True)
        left, right = flatten_row(corrections.correct_row(TWO_FACES), OUTPUTS, True)
        assert (left["status"], left["source"], left["confidence"]) == ("ok", "face", 0.9)
        assert (right["label"] == "sad", right["source"] == "review") == (is_same, is_same)
        assert corrections.unmatched == (0 if is_same else 1)


def test_what_is_not_used_is_counted_and_said() -> None:
    corrections = make(
        [line("blue"), line("sad", 1, LEFT), line("sad", 2, Box(0, 0, 1, 1, 1))], True
    )
    assert corrections.unmatched == 3
    corrections.correct_row(TWO_FACES)
    assert corrections.unmatched == 2
    assert corrections.describe() == (
        "1 review applied; 1 not (no row of the report is about their photo or face); "
        "1 not (the model has no label blue); "
        "if a class was renamed, replace its old name in the reviews"
    )
    assert "renamed" not in make([line("sad")], True).describe()
