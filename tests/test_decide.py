from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from batch.decide import failed_row, labelled_row
from batch.fusion import Fusion
from batch.records import (
    Box,
    Evidence,
    Failure,
    Photo,
    Probabilities,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)

LABELS = ("happy", "sad")
FUSION = Fusion("happy-sad", bias=0.1, face=0.5, photo=0.8, limit=3.0, unsure_below=0.7)


@dataclass
class Rules:
    labels: tuple[str, ...] = LABELS
    fusion: Fusion | None = None
    unsure_below: float = 0.6
    face_unsure_below: float = 0.6
    settled_from: float = 0.8


def _array(*rows: tuple[float, float]) -> Probabilities:
    return np.asarray(rows, dtype=np.float32).reshape(-1, 2)


def _row(
    boxes: Sequence[Box],
    faces: Probabilities,
    image: Probabilities | None = None,
    rules: Rules | None = None,
) -> Row:
    photo = Photo(Path("p.jpg"), np.zeros((8, 8, 3), dtype=np.uint8), 640, 480)
    evidence = Evidence(tuple(boxes), faces, _array() if image is None else image)
    return labelled_row(photo, evidence, rules or Rules())


def test_one_face_speaks_for_the_photo() -> None:
    box = Box(1, 2, 30, 40, 0.9)
    row = _row([box], _array((0.25, 0.75)))
    assert row.status is Status.OK
    assert row.answer == row.faces[0]
    assert row.answer is not None
    assert (row.answer.label, row.answer.confidence, row.answer.box) == ("sad", 0.75, box)
    assert row.answer.probabilities == {"happy": 0.25, "sad": 0.75}
    assert (row.width, row.height, row.source) == (640, 480, Source.FACE)


def test_faces_count_by_area_times_score() -> None:
    large, small = Box(0, 0, 20, 20, 0.5), Box(50, 50, 10, 10, 1.0)
    row = _row([large, small], _array((0.9, 0.1), (0.3, 0.7)))
    assert row.answer is not None
    # Weights 400 * 0.5 and 100 * 1.0: two thirds and one third.
    assert row.answer.probabilities["happy"] == pytest.approx(0.9 * 2 / 3 + 0.3 / 3)
    assert row.answer.box == large
    assert [face.label for face in row.faces] == ["happy", "sad"]
    assert [face.box for face in row.faces] == [large, small]


def test_below_the_threshold_an_answer_is_unsure_but_given() -> None:
    row = _row([Box(0, 0, 9, 9, 1)], _array((0.55, 0.45)))
    assert row.status is Status.UNSURE
    assert row.answer is not None
    assert row.answer.label == "happy"


def test_at_the_threshold_an_answer_is_sure() -> None:
    row = _row([Box(0, 0, 9, 9, 1)], _array((0.5, 0.5)), rules=Rules(unsure_below=0.5))
    assert row.status is Status.OK


def test_no_face_is_a_status_of_its_own() -> None:
    row = _row([], _array())
    assert (row.status, row.answer, row.faces) == (Status.NO_FACE, None, ())
    assert (row.width, row.height) == (640, 480)


def test_a_whole_photo_has_an_answer_and_no_face() -> None:
    row = _row([], _array(), image=_array((0.8, 0.2)))
    assert row.source is Source.IMAGE
    assert row.answer is not None
    assert row.answer.box is None
    assert row.faces == ()


def test_face_and_photo_speak_together() -> None:
    rules = Rules(fusion=FUSION, unsure_below=FUSION.unsure_below)
    row = _row([Box(0, 0, 9, 9, 1)], _array((0.75, 0.25)), _array((0.5, 0.5)), rules)
    assert row.source is Source.BOTH
    assert row.answer is not None
    # log-odds: 0.1 + 0.5 * log(3) + 0.8 * 0
    assert row.answer.probabilities["happy"] == pytest.approx(0.65685, abs=1e-4)
    assert row.status is Status.UNSURE, "the photo's threshold is the fusion's"
    assert row.faces[0].sure, "a face's is the face model's"
    assert row.faces[0].probabilities["happy"] == 0.75


def test_without_a_face_the_photo_speaks_alone() -> None:
    row = _row([], _array(), _array((0.2, 0.8)), Rules(fusion=FUSION))
    assert row.source is Source.IMAGE
    assert row.answer is not None
    # log-odds: 0.1 + 0.8 * log(1 / 4)
    assert row.answer.probabilities["happy"] == pytest.approx(0.26719, abs=1e-4)
    assert row.faces == ()


def test_face_first_asks_the_photo_only_without_a_face() -> None:
    first = Fusion("happy-sad", bias=0.0, face=1.0, photo=0.0, limit=8.0, unsure_below=0.7)
    rules = Rules(fusion=first)
    row = _row([Box(0, 0, 9, 9, 1)], _array((0.75, 0.25)), _array((0.1, 0.9)), rules)
    assert row.answer is not None
    assert (row.source, row.answer.label) == (Source.FACE, "happy")
    row = _row([], _array(), _array((0.1, 0.9)), rules)
    assert row.answer is not None
    assert (row.source, row.answer.label) == (Source.IMAGE, "sad")


def test_a_failure_becomes_a_row() -> None:
    failure = Failure(Path("p.jpg"), Stage.DECODE, Reason.TRUNCATED, "cut off")
    row = failed_row(failure)
    assert (row.path, row.status, row.failure) == (Path("p.jpg"), Status.FAILED, failure)
