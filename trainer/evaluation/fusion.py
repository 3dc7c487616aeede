"""Finds how far to trust the face and how far the whole photo, for the runner's fusion.

Logistic regression on the two (Platt 1999): for a photo with a face

    log-odds = bias + face * face_log_odds + photo * photo_log_odds

and without one the same, with ``face_log_odds`` = 0. All log-odds are of the first label
against the second and are cut off: at ``limit``, beyond which lies more certainty than the
few photos behind these numbers can prove, and at ``photo_limit`` for a photo that has a face.
A face whose own log-odds reach ``alone`` answers alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from batch.fusion import Fusion
from trainer.evaluation.calibrate import halved_error, unsure_below
from trainer.evaluation.metrics import Probabilities, Targets

LIMIT = 8.0
# What surrounds a face and the light on it must not outweigh it: a model of whole photos that has
# seen few of them takes the dark ones for sad. Neither number took anything from accuracy.
PHOTO_LIMIT = 1.5
# Odds of 12 to 1. Of 270 faces so sure, from web photos, 97 % were right with the photo's help and
# without; the time for the second model is saved.
ALONE = 2.5
# Half the squared weights count this much against the sum of losses, so that a fit always ends.
DECAY = 0.1
STEPS = 25

LogOdds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """The numbers of the formula; see the module."""

    bias: float
    face: float
    photo: float
    limit: float = LIMIT
    photo_limit: float | None = PHOTO_LIMIT
    alone: float | None = ALONE


# Takes log-odds as they are.
AS_IT_IS = Weights(0.0, 0.0, 1.0, photo_limit=None, alone=None)


@dataclass(frozen=True)
class Evidence:
    """What is known of photos: log-odds, float64 [n], and the index of the true label, int64 [n].

    ``face`` is not a number where a photo has no face. ``folds``, int64 [n], says which
    photos the network behind ``photo`` had not learnt from together.
    """

    face: LogOdds
    photo: LogOdds
    targets: Targets
    folds: npt.NDArray[np.int64]

    @property
    def has_face(self) -> npt.NDArray[np.bool_]:
        """Which photos have a face, bool [n]."""
        return ~np.isnan(self.face)


def fuse(weights: Weights, face: LogOdds, photo: LogOdds) -> Probabilities:
    """Probabilities of the two labels, float32 [n, 2]; ``face`` may hold not-a-number."""
    answers = _design(face, photo, weights.limit, weights.photo_limit) @ [
        weights.bias,
        weights.face,
        weights.photo,
    ]
    if weights.alone is not None:
        sure = np.abs(np.nan_to_num(face)) >= weights.alone
        answers = np.where(sure, face, answers)
    first = 1 / (1 + np.exp(-answers))
    both: Probabilities = np.stack([first, 1 - first], axis=1).astype(np.float32)
    return both


def fit(
    evidence: Evidence,
    limit: float = LIMIT,
    photo_limit: float = PHOTO_LIMIT,
    alone: float | None = ALONE,
) -> Weights:
    """Find the numbers of least log loss, by Newton's method.

    The photos' log-odds must come from networks that had not learnt from them. Faces that answer
    alone have no part in it: what a face is worth beside a photo is told by those that do not.
    """
    mixed = ~(np.abs(np.nan_to_num(evidence.face)) >= (np.inf if alone is None else alone))
    design = _design(evidence.face, evidence.photo, limit, photo_limit)[mixed]
    truth = (evidence.targets == 0).astype(np.float64)[mixed]
    numbers = np.zeros(design.shape[1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-design @ numbers))
        slope = design.T @ (chance - truth) + DECAY * numbers
        curvature = (design.T * (chance * (1 - chance))) @ design + DECAY * np.eye(len(numbers))
        numbers -= np.linalg.solve(curvature, slope)
    bias, face, photo = (round(float(weight), 4) for weight in numbers)
    return Weights(bias, face, photo, limit, photo_limit, alone)


def nested(evidence: Evidence) -> Probabilities:
    """Fuse each fold by numbers that were fitted on the other folds: float32 [n, 2]."""
    answers = np.empty((len(evidence.targets), 2), dtype=np.float32)
    for fold in np.unique(evidence.folds):
        held = evidence.folds == fold
        weights = fit(_take(evidence, ~held))
        answers[held] = fuse(weights, evidence.face[held], evidence.photo[held])
    return answers


def face_or_photo(evidence: Evidence) -> Probabilities:
    """Answer by the face where there is one, else by the whole photo: float32 [n, 2]."""
    odds = np.where(evidence.has_face, evidence.face, evidence.photo)
    return fuse(AS_IT_IS, np.full(len(odds), np.nan), odds)


def fusion_for(face_model: str, evidence: Evidence, face_first: bool = False) -> Fusion:
    """Fit the record that a whole-photo model carries for the runner.

    ``face_first`` mixes nothing, which is safer where photos differ from those behind the
    numbers. Below the threshold an answer is unsure: above it half as many are wrong as
    among all, by answers that were not fitted to their own photos.
    """
    answers = face_or_photo(evidence) if face_first else nested(evidence)
    threshold = unsure_below(answers, evidence.targets, halved_error(answers, evidence.targets))
    weights = Weights(0.0, 1.0, 0.0, photo_limit=None, alone=None) if face_first else fit(evidence)
    return Fusion(face_model, unsure_below=round(threshold, 4), **asdict(weights))


def _take(evidence: Evidence, chosen: npt.NDArray[np.bool_]) -> Evidence:
    return Evidence(
        evidence.face[chosen],
        evidence.photo[chosen],
        evidence.targets[chosen],
        evidence.folds[chosen],
    )


def _design(
    face: LogOdds, photo: LogOdds, limit: float, photo_limit: float | None
) -> npt.NDArray[np.float64]:
    """One, face and photo, cut off at their limits: float64 [n, 3]."""
    beside = limit if photo_limit is None else photo_limit
    photo_limits = np.where(np.isnan(face), limit, beside)
    columns = (
        np.ones(len(photo)),
        np.nan_to_num(face).clip(-limit, limit),
        photo.clip(-photo_limits, photo_limits),
    )
    return np.stack(columns, axis=1)
