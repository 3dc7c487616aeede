"""The decision: from probabilities to a photo's label, or to the reason why it gets none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from batch.models.ensemble import DecisionRules, Thresholds
from batch.models.fusion import MIN_PROBABILITY, Fusion, log_odds
from batch.records import (
    Abstain,
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

# Log-odds, about the distance from 0.5 to 0.6. A probability closer than this to a threshold may
# cross it with another box of the same face: from a glance to a close look, the log-odds move by
# 0.2 on average in portraits, and by 0.4 in web photos.
NEAR_LOG_ODDS = 0.4


def make_failed_row(failure: Failure) -> Row:
    """Make the row of a file that could not be labelled."""
    return Row(path=failure.path, status=Status.FAILED, failure=failure)


def is_settled(photo: Photo, evidence: Evidence, rules: DecisionRules) -> bool:
    """Return whether the faces found at a glance need no close look.

    A close look moves boxes slightly, which may carry an answer over a close threshold, but not
    over a distant one.

    Args:
        photo: the photo.
        evidence: all that the decision uses: with the whole photo if ``needs_image_model``.
        rules: the labels and thresholds.
    """
    if not evidence.boxes:
        return False
    _, probabilities = _fuse_evidence(photo, evidence, rules.fusion)
    assert probabilities is not None
    thresholds = rules.model_thresholds
    return _is_far_from_thresholds(decide(probabilities, rules.labels, thresholds), thresholds)


def needs_image_model(photo: Photo, evidence: Evidence, rules: DecisionRules) -> bool:
    """Return whether the whole-photo model contributes to the answer."""
    if not evidence.boxes or not rules.fusion:
        return True
    return not rules.fusion.answers_alone(
        average_faces(evidence), *measure_main_face(photo, evidence)
    )


def _is_far_from_thresholds(answer: Answer, thresholds: Thresholds) -> bool:
    """Return whether an answer is far from every threshold it was compared with."""
    if any(
        abs(log_odds(_abstain_share(answer.probabilities, name)) - log_odds(least)) < NEAR_LOG_ODDS
        for name, least in thresholds.abstain_from.items()
    ):
        return False
    return answer.label is None or (
        log_odds(answer.confidence) >= log_odds(thresholds.unsure_below) + NEAR_LOG_ODDS
    )


def decide_row(photo: Photo, evidence: Evidence, rules: DecisionRules) -> Row:
    """Make a photo's row from the results of the detector and the models.

    The faces' probabilities are averaged, each weighted by its area times the detector's score:
    the person who fills a photo counts most, and a box with a low score may not be a face. With a
    whole-photo model, the fusion joins both.
    """
    faces = tuple(
        decide(probabilities, rules.labels, rules.face_thresholds, box)
        for probabilities, box in zip(evidence.faces, evidence.boxes, strict=True)
    )
    source, probabilities = _fuse_evidence(photo, evidence, rules.fusion)
    if probabilities is None:
        return Row(
            path=photo.path,
            status=Status.NO_FACE,
            width=photo.width,
            height=photo.height,
            salvaged=photo.salvaged,
            capture=photo.capture,
        )
    box = evidence.boxes[0] if faces else None
    answer = decide(probabilities, rules.labels, rules.photo_thresholds, box)
    return Row(
        path=photo.path,
        status=answer.status,
        answer=answer,
        source=source,
        faces=faces,
        width=photo.width,
        height=photo.height,
        salvaged=photo.salvaged,
        capture=photo.capture,
    )


def decide(
    probabilities: Probabilities,
    labels: Sequence[str],
    thresholds: Thresholds,
    box: Box | None = None,
) -> Answer:
    """Decide the answer of one face or photo.

    Args:
        probabilities: float32 [K + A], first of the K labels, then of the A abstain outputs.
        labels: the K labels.
        thresholds: ``abstain_from`` names the A abstain outputs.
        box: the face; None for a whole photo.
    """
    outputs = (*labels, *thresholds.abstain_from)
    by_name = {name: float(p) for name, p in zip(outputs, probabilities, strict=True)}
    return _decide_by_name(by_name, labels, thresholds, box)


def apply_thresholds(row: Row, rules: DecisionRules) -> Row:
    """Decide a row again from its own probabilities, with other thresholds.

    The result is the row that ``decide_row`` makes of the same photo with these ``rules``, because
    thresholds do not change the inputs of the detector and the models.
    """
    if row.answer is None:
        return row
    own, labels = row.answer, rules.labels
    answer = _decide_by_name(own.probabilities, labels, rules.photo_thresholds, own.box)
    faces = tuple(
        _decide_by_name(face.probabilities, labels, rules.face_thresholds, face.box)
        for face in row.faces
    )
    return replace(row, status=answer.status, answer=answer, faces=faces)


def _decide_by_name(
    by_name: Mapping[str, float], labels: Sequence[str], thresholds: Thresholds, box: Box | None
) -> Answer:
    reason = None if thresholds.always_answer else _find_abstain(by_name, thresholds.abstain_from)
    if reason is not None:
        return Answer(Status(reason), None, by_name[reason], by_name, box)
    best = max(labels, key=lambda label: by_name[label])
    confidence = by_name[best]
    if thresholds.always_answer:
        # If a model is certain of an abstain output, the labels' probabilities may all be 0.
        total = sum(by_name[label] for label in labels)
        confidence = confidence / total if total > 0 else 1 / len(labels)
    status = Status.OK if confidence >= thresholds.unsure_below else Status.UNSURE
    return Answer(status, best, confidence, by_name, box)


def _find_abstain(by_name: Mapping[str, float], abstain_from: Mapping[str, float]) -> str | None:
    """Find the abstain output that replaces a label, ``no_person`` first; None if none does."""
    for name in (Abstain.NO_PERSON, Abstain.NEITHER):
        if name in abstain_from and _abstain_share(by_name, name) >= abstain_from[name]:
            return name
    return None


def _abstain_share(by_name: Mapping[str, float], name: str) -> float:
    """Compute the value that is compared with an abstain output's threshold.

    For ``neither``, this is the probability given that there is a person.
    """
    probability = by_name.get(name, 0.0)  # a face model may lack it
    if name != Abstain.NEITHER:
        return probability
    return probability / max(1 - by_name.get(Abstain.NO_PERSON, 0.0), MIN_PROBABILITY)


def average_faces(evidence: Evidence) -> Probabilities:
    """Average the faces' probabilities, weighted by area times score: float32 [K + A]."""
    if len(evidence.boxes) == 1:
        only: Probabilities = evidence.faces[0]
        return only
    weights = np.asarray([box.area * box.score for box in evidence.boxes])
    mean: Probabilities = (weights / weights.sum()) @ evidence.faces
    return mean


def measure_main_face(photo: Photo, evidence: Evidence) -> tuple[float, float]:
    """Return the main face's score, and its longer side as a share of the photo's."""
    box = evidence.boxes[0]
    return box.score, max(box.width, box.height) / max(photo.width, photo.height)


def _fuse_evidence(
    photo: Photo, evidence: Evidence, fusion: Fusion | None
) -> tuple[Source | None, Probabilities | None]:
    face = average_faces(evidence) if evidence.boxes else None
    image = evidence.image[0] if len(evidence.image) else None
    if fusion is None:
        if image is not None:
            return Source.IMAGE, image
        return (None if face is None else Source.FACE), face
    if face is None:
        assert image is not None
        return Source.IMAGE, fusion.fuse(None, 0.0, image)
    score, share = measure_main_face(photo, evidence)
    if image is None or fusion.answers_alone(face, score, share):
        return Source.FACE, fusion.spread_face(face)
    return Source.BOTH, fusion.fuse(face, score, image)
