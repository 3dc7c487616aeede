from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batch.answer import failed_row, labelled_row
from batch.records import Box, Failure, Reason, Region, Stage, Status, Views

LABELS = ("happy", "sad")


def _views(*boxes: Box, region: Region = Region.FACE) -> Views:
    count = len(boxes) if region is Region.FACE else 1
    return Views(Path("p.jpg"), 640, 480, region, boxes, np.zeros((count, 8, 8, 1), dtype=np.uint8))


def _array(*rows: tuple[float, float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.asarray(rows, dtype=np.float32).reshape(-1, 2)


def test_one_face_speaks_for_the_photo() -> None:
    box = Box(1, 2, 30, 40, 0.9)
    row = labelled_row(_views(box), _array((0.25, 0.75)), LABELS, 0.6)
    assert row.status is Status.OK
    assert row.answer == row.faces[0]
    assert row.answer is not None
    assert (row.answer.label, row.answer.confidence, row.answer.box) == ("sad", 0.75, box)
    assert row.answer.probabilities == {"happy": 0.25, "sad": 0.75}
    assert (row.width, row.height, row.source) == (640, 480, Region.FACE)


def test_faces_count_by_area_times_score() -> None:
    large, small = Box(0, 0, 20, 20, 0.5), Box(50, 50, 10, 10, 1.0)
    row = labelled_row(_views(large, small), _array((0.9, 0.1), (0.3, 0.7)), LABELS, 0.5)
    assert row.answer is not None
    # Weights 400 * 0.5 and 100 * 1.0: two thirds and one third.
    assert row.answer.probabilities["happy"] == pytest.approx(0.9 * 2 / 3 + 0.3 / 3)
    assert row.answer.box == large
    assert [face.label for face in row.faces] == ["happy", "sad"]
    assert [face.box for face in row.faces] == [large, small]


def test_below_the_threshold_an_answer_is_unsure_but_given() -> None:
    row = labelled_row(_views(Box(0, 0, 9, 9, 1)), _array((0.55, 0.45)), LABELS, 0.6)
    assert row.status is Status.UNSURE
    assert row.answer is not None
    assert row.answer.label == "happy"


def test_at_the_threshold_an_answer_is_sure() -> None:
    row = labelled_row(_views(Box(0, 0, 9, 9, 1)), _array((0.5, 0.5)), LABELS, 0.5)
    assert row.status is Status.OK


def test_no_face_is_a_status_of_its_own() -> None:
    row = labelled_row(_views(), _array(), LABELS, 0.5)
    assert (row.status, row.answer, row.faces) == (Status.NO_FACE, None, ())
    assert (row.width, row.height) == (640, 480)


def test_a_whole_photo_has_an_answer_and_no_face() -> None:
    row = labelled_row(_views(region=Region.IMAGE), _array((0.8, 0.2)), LABELS, 0.5)
    assert row.source is Region.IMAGE
    assert row.answer is not None
    assert row.answer.box is None
    assert row.faces == ()


def test_a_failure_becomes_a_row() -> None:
    failure = Failure(Path("p.jpg"), Stage.DECODE, Reason.TRUNCATED, "cut off")
    row = failed_row(failure)
    assert (row.path, row.status, row.failure) == (Path("p.jpg"), Status.FAILED, failure)
