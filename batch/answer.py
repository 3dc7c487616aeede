"""From a model's probabilities to a photo's label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from batch.ensemble import Evidence
from batch.fusion import Fusion
from batch.records import Answer, Box, Failure, Probabilities, Row, Source, Status, Views


class Rules(Protocol):
    """What decides on an answer, beside the models' own; an ``Ensemble`` has it."""

    labels: tuple[str, ...]
    fusion: Fusion | None
    unsure_below: float
    face_unsure_below: float


def failed_row(failure: Failure) -> Row:
    """Make the row of a file that could not be labelled."""
    return Row(path=failure.path, status=Status.FAILED, failure=failure)


def labelled_row(views: Views, evidence: Evidence, ensemble: Rules) -> Row:
    """Make a photo's row from what the models say of its views.

    The faces' answer is the mean of their probabilities, each weighted by its area times
    the detector's score: who fills the picture is whom the photo is about, and what the
    detector doubts may be no face. With a whole-photo model beside the face model, the
    photo's answer is what the fusion makes of both; with one model, it is that model's.
    """
    faces = tuple(
        _answer(p, ensemble.labels, ensemble.face_unsure_below, box)
        for p, box in zip(evidence.faces, views.boxes, strict=True)
    )
    source, probabilities = _decided(views, evidence, ensemble.fusion)
    if probabilities is None:
        return Row(
            path=views.path,
            status=Status.NO_FACE,
            width=views.width,
            height=views.height,
            salvaged=views.salvaged,
        )
    box = views.boxes[0] if faces else None
    photo = _answer(probabilities, ensemble.labels, ensemble.unsure_below, box)
    return Row(
        path=views.path,
        status=Status.OK if photo.sure else Status.UNSURE,
        answer=photo,
        source=source,
        faces=faces,
        width=views.width,
        height=views.height,
        salvaged=views.salvaged,
    )


def _decided(
    views: Views, evidence: Evidence, fusion: Fusion | None
) -> tuple[Source | None, Probabilities | None]:
    face = _mean(evidence.faces, views.boxes) if views.boxes else None
    image = evidence.image[0] if len(evidence.image) else None
    if fusion and image is not None:
        mixed = Source.FACE if fusion.face_first else Source.BOTH
        return (Source.IMAGE if face is None else mixed), fusion.fuse(face, image)
    if image is not None:
        return Source.IMAGE, image
    return (None if face is None else Source.FACE), face


def _mean(probabilities: Probabilities, boxes: Sequence[Box]) -> Probabilities:
    if len(boxes) == 1:
        only: Probabilities = probabilities[0]
        return only
    weights = np.asarray([box.area * box.score for box in boxes])
    mean: Probabilities = (weights / weights.sum()) @ probabilities
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
