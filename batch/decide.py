"""From a model's probabilities to a photo's label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from batch.fusion import Fusion
from batch.records import (
    Answer,
    Box,
    Evidence,
    Failure,
    Photo,
    Probabilities,
    Row,
    Source,
    Status,
)


class Rules(Protocol):
    """What decides on an answer, beside the models' own; an ``Ensemble`` has it."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def fusion(self) -> Fusion | None: ...
    @property
    def unsure_below(self) -> float: ...
    @property
    def face_unsure_below(self) -> float: ...
    @property
    def settled_from(self) -> float: ...


def failed_row(failure: Failure) -> Row:
    """Make the row of a file that could not be labelled."""
    return Row(path=failure.path, status=Status.FAILED, failure=failure)


def is_settled(evidence: Evidence, rules: Rules) -> bool:
    """Whether the faces that were seen answer for the photo, so that no one need look closer.

    They do if they answer alone in a fusion, or surely in a face model of its own.
    """
    if not evidence.boxes:
        return False
    face = _mean(evidence)
    if rules.fusion:
        return rules.fusion.answers_alone(face)
    return bool(face.max() >= rules.settled_from)


def labelled_row(photo: Photo, evidence: Evidence, rules: Rules) -> Row:
    """Make a photo's row from what detector and models say of it.

    The faces' answer is the mean of their probabilities, each weighted by its area times
    the detector's score: who fills the picture is whom the photo is about, and what the
    detector doubts may be no face. With a whole-photo model beside the face model, the
    photo's answer is what the fusion makes of both; with one model, it is that model's.
    """
    faces = tuple(
        _answer(p, rules.labels, rules.face_unsure_below, box)
        for p, box in zip(evidence.faces, evidence.boxes, strict=True)
    )
    source, probabilities = _decided(evidence, rules.fusion)
    if probabilities is None:
        return Row(
            path=photo.path,
            status=Status.NO_FACE,
            width=photo.width,
            height=photo.height,
            salvaged=photo.salvaged,
        )
    box = evidence.boxes[0] if faces else None
    answer = _answer(probabilities, rules.labels, rules.unsure_below, box)
    return Row(
        path=photo.path,
        status=Status.OK if answer.sure else Status.UNSURE,
        answer=answer,
        source=source,
        faces=faces,
        width=photo.width,
        height=photo.height,
        salvaged=photo.salvaged,
    )


def _decided(
    evidence: Evidence, fusion: Fusion | None
) -> tuple[Source | None, Probabilities | None]:
    face = _mean(evidence) if evidence.boxes else None
    image = evidence.image[0] if len(evidence.image) else None
    if image is None:
        return (None if face is None else Source.FACE), face
    if face is None or fusion is None:
        return Source.IMAGE, fusion.fuse(None, image) if fusion else image
    alone = fusion.answers_alone(face)
    return (Source.FACE if alone else Source.BOTH), fusion.fuse(face, image)


def _mean(evidence: Evidence) -> Probabilities:
    if len(evidence.boxes) == 1:
        only: Probabilities = evidence.faces[0]
        return only
    weights = np.asarray([box.area * box.score for box in evidence.boxes])
    mean: Probabilities = (weights / weights.sum()) @ evidence.faces
    return mean


def _answer(
    probabilities: Probabilities, labels: Sequence[str], unsure_below: float, box: Box | None
) -> Answer:
    best = int(np.argmax(probabilities))
    confidence = float(probabilities[best])
    return Answer(
        label=labels[best],
        confidence=confidence,
        probabilities={label: float(p) for label, p in zip(labels, probabilities, strict=True)},
        sure=confidence >= unsure_below,
        box=box,
    )
