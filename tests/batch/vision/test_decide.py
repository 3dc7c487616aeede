from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.models.ensemble import Thresholds
from batch.models.fusion import Fusion, FusionWeights
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
from batch.vision.decide import (
    apply_thresholds,
    decide,
    decide_row,
    is_settled,
    make_failed_row,
    needs_image_model,
)

LABELS = ("happy", "sad")
NEITHER = Thresholds(0.6, {"neither": 0.5})
BOTH = Thresholds(0.6, {"neither": 0.5, "no_person": 0.3})
FACE = Box(0, 0, 9, 9, 1)
PHOTO = Photo(Path("p.jpg"), Image.new("RGB", (8, 8)), 640, 480)
RULE = FusionWeights(
    bias=(0.1, 0.0, 0.0, -1.0),
    face=0.5,
    label=0.8,
    abstain={"neither": 0.5, "no_person": 1.0},
    score=0.25,
    label_limit=3.0,
    abstain_limits={"neither": (-5.0, 5.0), "no_person": (-5.0, 5.0)},
)
FUSION = Fusion(
    face_model="happy-sad",
    face_abstain=("neither",),
    both=RULE,
    photo=replace(RULE, face=0.0, score=0.0),
    alone_score=0.8,
    alone_share=0.75,
    alone_from=0.9,
    unsure_below=0.7,
    abstain_from={"neither": 0.5, "no_person": 0.3},
)


@dataclass
class Rules:
    labels: tuple[str, ...] = LABELS
    fusion: Fusion | None = None
    photo_thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.6))
    face_thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.6))
    model_thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.8))


PAIR = Rules(
    fusion=FUSION,
    photo_thresholds=Thresholds(FUSION.unsure_below, FUSION.abstain_from),
    face_thresholds=NEITHER,
    model_thresholds=Thresholds(FUSION.unsure_below, FUSION.abstain_from),
)


def _array(*rows: Sequence[float], columns: int = 2) -> Probabilities:
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), -1 if rows else columns)


def _evidence(
    boxes: Sequence[Box], faces: Probabilities, image: Probabilities | None = None
) -> Evidence:
    return Evidence(tuple(boxes), faces, _array() if image is None else image)


def _row(
    boxes: Sequence[Box],
    faces: Probabilities,
    image: Probabilities | None = None,
    rules: Rules | None = None,
) -> Row:
    return decide_row(PHOTO, _evidence(boxes, faces, image), rules or Rules())


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "expected"),
    [
        # No abstain output.
        ((0.75, 0.25), Thresholds(0.6), (Status.OK, "happy", 0.75)),
        ((0.25, 0.75), Thresholds(0.75), (Status.OK, "sad", 0.75)),
        ((0.25, 0.75), Thresholds(0.76), (Status.UNSURE, "sad", 0.75)),
        ((0.5, 0.5), Thresholds(0.5), (Status.OK, "happy", 0.5)),
        # One: a label, which may be less likely than the abstain output, or `neither`.
        ((0.25, 0.5, 0.25), NEITHER, (Status.UNSURE, "sad", 0.5)),
        ((0.25, 0.25, 0.5), NEITHER, (Status.NEITHER, None, 0.5)),
        ((0.375, 0.125, 0.5), Thresholds(0.6, {"neither": 0.51}), (Status.UNSURE, "happy", 0.375)),
        ((0.75, 0.125, 0.125), Thresholds(0.6, {"neither": 0.125}), (Status.NEITHER, None, 0.125)),
        # Two: `no_person` first, then `neither` by its share in what that leaves.
        ((0.5, 0.125, 0.0, 0.375), BOTH, (Status.NO_PERSON, None, 0.375)),
        ((0.0, 0.125, 0.5, 0.375), BOTH, (Status.NO_PERSON, None, 0.375)),
        ((0.125, 0.0, 0.375, 0.5), BOTH, (Status.NO_PERSON, None, 0.5)),
        ((0.125, 0.0, 0.4375, 0.4375), BOTH, (Status.NO_PERSON, None, 0.4375)),
        ((0.0, 0.0, 0.5, 0.5), BOTH, (Status.NO_PERSON, None, 0.5)),
        ((0.375, 0.0, 0.375, 0.25), BOTH, (Status.NEITHER, None, 0.375)),
        ((0.4375, 0.0, 0.3125, 0.25), BOTH, (Status.UNSURE, "happy", 0.4375)),
        ((0.625, 0.0, 0.25, 0.125), BOTH, (Status.OK, "happy", 0.625)),
        # Always a label, and its share among the labels.
        ((0.75, 0.25), replace(BOTH, abstain_from={}, always_answer=True), ("ok", "happy", 0.75)),
        ((0.125, 0.0, 0.375, 0.5), replace(BOTH, always_answer=True), ("ok", "happy", 1.0)),
        ((0.125, 0.125, 0.25, 0.5), replace(BOTH, always_answer=True), ("unsure", "happy", 0.5)),
        ((0.0625, 0.1875, 0.75), replace(NEITHER, always_answer=True), ("ok", "sad", 0.75)),
        ((0.0, 0.0, 1.0), replace(NEITHER, always_answer=True), ("unsure", "happy", 0.5)),
    ],
)
def test_the_answer_to_probabilities(
    probabilities: tuple[float, ...], thresholds: Thresholds, expected: tuple[Status, str, float]
) -> None:
    answer = decide(np.asarray(probabilities, dtype=np.float32), LABELS, thresholds, FACE)
    assert (answer.status, answer.label, answer.confidence) == expected
    outputs = (*LABELS, *thresholds.abstain_from)
    assert list(answer.probabilities.items()) == list(zip(outputs, probabilities, strict=True))
    assert answer.box == FACE


@pytest.mark.parametrize(
    ("probabilities", "always", "expected"),
    [
        ((0.25, 0.25, 0.25, 0.25), False, (Status.UNSURE, "a", 0.25)),
        ((0.0, 0.125, 0.625, 0.25), False, (Status.OK, "c", 0.625)),
        ((0.0, 0.0, 0.25, 0.75), False, (Status.NEITHER, None, 0.75)),
        ((0.0, 0.0625, 0.1875, 0.75), True, (Status.OK, "c", 0.75)),
        ((0.0, 0.0, 0.0, 1.0), True, (Status.UNSURE, "a", 1 / 3)),
    ],
)
def test_any_number_of_labels(
    probabilities: tuple[float, ...], always: bool, expected: tuple[Status, str, float]
) -> None:
    thresholds = replace(NEITHER, always_answer=always)
    answer = decide(np.asarray(probabilities, dtype=np.float32), ("a", "b", "c"), thresholds)
    assert (answer.status, answer.label, answer.confidence) == expected


def test_a_share_of_all_labels_is_never_more_than_one() -> None:
    thresholds = replace(NEITHER, always_answer=True)
    for tiny in (1e-45, 1e-30, 3e-8, 0.1):
        answer = decide(np.asarray([tiny, 0, 1 - tiny], np.float32), LABELS, thresholds)
        assert (answer.label, answer.confidence) == ("happy", 1.0)


def test_probabilities_of_other_outputs_are_a_defect() -> None:
    with pytest.raises(ValueError, match="zip"):
        decide(np.asarray([0.5, 0.25, 0.25], dtype=np.float32), LABELS, Thresholds(0.5))


def test_a_single_face_decides_the_photo() -> None:
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


def test_each_face_and_the_photo_have_a_status() -> None:
    rules = Rules(photo_thresholds=NEITHER, face_thresholds=NEITHER)
    large, small = Box(0, 0, 20, 20, 1), Box(50, 50, 10, 10, 1)
    row = _row([large, small], _array((0.125, 0.0, 0.875), (0.125, 0.875, 0.0)), rules=rules)
    assert [(face.status, face.label) for face in row.faces] == [
        (Status.NEITHER, None),
        (Status.OK, "sad"),
    ]
    assert row.answer is not None
    assert (row.status, row.answer.status, row.answer.label) == (Status.NEITHER,) * 2 + (None,)
    assert row.answer.confidence == pytest.approx(0.7)
    assert row.answer.box == large


def test_no_face_is_a_status_of_its_own() -> None:
    for rules in (Rules(), Rules(photo_thresholds=replace(NEITHER, always_answer=True))):
        row = _row([], _array(), rules=rules)
        assert (row.status, row.answer, row.faces) == (Status.NO_FACE, None, ())
        assert (row.width, row.height) == (640, 480)


def test_a_whole_photo_has_an_answer_and_no_face() -> None:
    row = _row([], _array(), image=_array((0.8, 0.2)))
    assert row.source is Source.IMAGE
    assert row.answer is not None
    assert row.answer.box is None
    assert row.faces == ()


def test_a_whole_photo_without_a_person() -> None:
    image = _array((0.25, 0.125, 0.0, 0.625))
    row = _row([], _array(), image, Rules(photo_thresholds=BOTH))
    assert (row.status, row.source) == (Status.NO_PERSON, Source.IMAGE)
    assert row.answer is not None
    assert (row.answer.label, row.answer.confidence) == (None, 0.625)


def test_face_and_photo_are_fused() -> None:
    image = _array((0.25, 0.25, 0.25, 0.25))
    row = _row([FACE], _array((0.5, 0.25, 0.25)), image, PAIR)
    assert row.source is Source.BOTH
    assert row.answer is not None
    joined = FUSION.fuse(np.asarray([0.5, 0.25, 0.25], dtype=np.float32), FACE.score, image[0])
    outputs = (*LABELS, "neither", "no_person")
    expected = dict(zip(outputs, map(float, joined), strict=True))
    assert row.answer.probabilities == expected
    assert row.status is Status.UNSURE, "the photo's thresholds are the fusion's"
    assert row.faces[0].status is Status.UNSURE, "a face's are the face model's"
    assert row.faces[0].probabilities == {"happy": 0.5, "sad": 0.25, "neither": 0.25}
    assert row.answer.box == FACE


def test_without_a_face_the_photo_has_its_own_weights() -> None:
    image = _array((0.125, 0.625, 0.125, 0.125))
    row = _row([], _array(), image, PAIR)
    assert row.source is Source.IMAGE
    assert row.answer is not None
    assert list(row.answer.probabilities.values()) == FUSION.fuse(None, 0.0, image[0]).tolist()
    assert row.faces == ()


@pytest.mark.parametrize(
    ("box", "face", "alone"),
    [
        (Box(0, 0, 9, 9, 1), (0.95, 0.0, 0.05), True),  # sure of a label
        (Box(0, 0, 480, 300, 0.8), (0.05, 0.0, 0.95), True),  # fills three quarters
        (Box(0, 0, 300, 480, 0.8), (0.4, 0.3, 0.3), True),  # fills them, and is unsure
        (Box(0, 0, 479, 300, 1), (0.4, 0.3, 0.3), False),
        (Box(0, 0, 480, 480, 0.79), (0.95, 0.0, 0.05), False),  # perhaps no face
        (Box(0, 0, 9, 9, 1), (0.05, 0.0, 0.95), False),  # sure that it is neither
    ],
)
def test_a_face_that_answers_alone_needs_no_whole_photo(
    box: Box, face: tuple[float, ...], alone: bool
) -> None:
    faces, image = _array(face), _array((0.125, 0.125, 0.125, 0.625))
    assert needs_image_model(PHOTO, _evidence([box], faces), PAIR) is not alone
    row = _row([box], faces, image, PAIR)
    assert row.source is (Source.FACE if alone else Source.BOTH)
    if alone:
        assert row == _row([box], faces, None, PAIR), "whether the photo was asked or not"
        assert row.answer is not None
        assert list(row.answer.probabilities.values()) == [*faces[0].tolist(), 0.0]


def test_always_an_answer_from_a_pair() -> None:
    rules = replace(
        PAIR,
        photo_thresholds=replace(PAIR.photo_thresholds, always_answer=True),
        face_thresholds=replace(PAIR.face_thresholds, always_answer=True),
    )
    faces, image = _array((0.1, 0.2, 0.7)), _array((0.01, 0.02, 0.07, 0.9))
    usual, always = (_row([FACE], faces, image, each) for each in (PAIR, rules))
    assert usual.status is Status.NO_PERSON
    assert usual.answer is not None
    assert always.answer is not None
    assert always.answer.label == "sad"
    assert always.answer.probabilities == usual.answer.probabilities
    p = usual.answer.probabilities
    assert always.answer.confidence == pytest.approx(p["sad"] / (p["happy"] + p["sad"]))
    (face,) = always.faces
    assert (face.status, face.label) == (Status.OK, "sad")
    assert face.confidence == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("faces", "settled"),
    [
        ((0.9, 0.1, 0.0), True),
        ((0.68, 0.32, 0.0), False),  # ok, but not by much
        ((0.55, 0.35, 0.1), False),  # unsure
        ((0.1, 0.0, 0.9), True),  # neither
        ((0.25, 0.17, 0.58), False),  # neither, but not by much
    ],
)
def test_a_face_model_alone_looks_closer_if_a_threshold_is_near(
    faces: tuple[float, ...], settled: bool
) -> None:
    rules = Rules(model_thresholds=NEITHER)
    assert is_settled(PHOTO, _evidence([FACE], _array(faces)), rules) is settled
    assert not is_settled(PHOTO, _evidence([], _array()), rules)


@pytest.mark.parametrize(
    ("box", "face", "image", "settled"),
    [
        (Box(0, 0, 480, 300, 1), (0.05, 0.0, 0.95), None, True),  # alone
        (Box(0, 0, 480, 300, 1), (0.4, 0.3, 0.3), None, False),
        (FACE, (0.5, 0.25, 0.25), (0.9, 0.05, 0.04, 0.01), True),  # ok, the photo is sure
        (FACE, (0.5, 0.25, 0.25), (0.6, 0.1, 0.2, 0.1), False),  # ok, but not by much
        (FACE, (0.05, 0.0, 0.95), (0.02, 0.02, 0.95, 0.01), True),  # neither
        (FACE, (0.05, 0.0, 0.95), (0.6, 0.1, 0.2, 0.1), False),  # nearly so
        (FACE, (0.6, 0.2, 0.2), (0.01, 0.01, 0.01, 0.97), True),  # no person
        (Box(0, 0, 480, 480, 0.79), (0.95, 0, 0.05), (0.125, 0.125, 0.125, 0.625), False),
    ],
)
def test_a_pair_looks_closer_if_its_fused_answer_is_near_a_threshold(
    box: Box, face: tuple[float, ...], image: tuple[float, ...] | None, settled: bool
) -> None:
    evidence = _evidence([box], _array(face), None if image is None else _array(image))
    assert needs_image_model(PHOTO, evidence, PAIR) is (image is not None)
    assert is_settled(PHOTO, evidence, PAIR) is settled


@pytest.mark.parametrize(
    ("probabilities", "settled"),
    [
        ((0.2, 0.13, 0.52, 0.15), True),  # of what is left 0.61 are neither
        ((0.2, 0.2, 0.45, 0.15), False),  # 0.53
    ],
)
def test_neither_is_compared_with_its_threshold_given_a_person(
    probabilities: tuple[float, ...], settled: bool
) -> None:
    rules = Rules(model_thresholds=BOTH)
    assert is_settled(PHOTO, _evidence([FACE], _array(probabilities)), rules) is settled


def test_a_failure_becomes_a_row() -> None:
    failure = Failure(Path("p.jpg"), Stage.DECODE, Reason.TRUNCATED, "cut off")
    row = make_failed_row(failure)
    assert (row.path, row.status, row.failure) == (Path("p.jpg"), Status.FAILED, failure)


@pytest.mark.parametrize("always", [False, True])
def test_a_label_of_the_rules_without_a_probability_is_an_error(always: bool) -> None:
    """With 0 instead, the first label would win with a confidence of nothing."""
    answer = decide(np.array([0.3, 0.7], np.float32), LABELS, Thresholds(0.6))
    row = Row(Path("p.jpg"), answer.status, answer, Source.IMAGE)
    rules = Rules(("good", "bad"), photo_thresholds=Thresholds(0.6, always_answer=always))
    with pytest.raises(KeyError):
        apply_thresholds(row, rules)
