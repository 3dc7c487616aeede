"""From a model's probabilities to a photo's label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batch.classify import Probabilities
from batch.records import Answer, Box, Failure, Region, Row, Status, Views


def failed_row(failure: Failure) -> Row:
    """Make the row of a file that could not be labelled."""
    return Row(path=failure.path, status=Status.FAILED, failure=failure)


def labelled_row(
    views: Views, probabilities: Probabilities, labels: Sequence[str], unsure_below: float
) -> Row:
    """Make a photo's row from the probabilities of its views (float32 [n, K]).

    The photo's probabilities are the mean of its faces', each weighted by its area times
    the detector's score: who fills the picture is whom the photo is about, and what the
    detector doubts may be no face.
    """
    if not len(probabilities):
        return Row(path=views.path, status=Status.NO_FACE, width=views.width, height=views.height)
    boxes: Sequence[Box | None] = views.boxes or (None,) * len(probabilities)
    faces = tuple(
        _answer(p, labels, unsure_below, box) for p, box in zip(probabilities, boxes, strict=True)
    )
    photo = faces[0]
    if len(faces) > 1:
        photo = _answer(_mean(probabilities, views.boxes), labels, unsure_below, views.boxes[0])
    return Row(
        path=views.path,
        status=Status.OK if photo.sure else Status.UNSURE,
        answer=photo,
        source=views.region,
        faces=faces if views.region is Region.FACE else (),
        width=views.width,
        height=views.height,
    )


def _mean(probabilities: Probabilities, boxes: Sequence[Box]) -> Probabilities:
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
