from __future__ import annotations

import math

import numpy as np
import pytest

from batch.fusion import log_odds
from batch.records import Probabilities
from trainer.evaluation.fusion import (
    Evidence,
    Weights,
    face_or_photo,
    fit,
    fuse,
    fusion_for,
    nested,
)


def drawn_evidence(count: int, seed: int) -> Evidence:
    """Photos whose face says twice as much as the whole; every third has no face."""
    chance = np.random.default_rng(seed)
    targets = chance.integers(0, 2, count)
    sign = 1.0 - 2.0 * targets
    face = 2.0 * sign + chance.normal(0, 2.0, count)
    face[::3] = np.nan
    photo = sign + chance.normal(0, math.sqrt(2.0), count)
    return Evidence(face, photo, targets, np.arange(count) % 5)


def test_fitted_weights_are_those_of_the_world_that_made_the_evidence() -> None:
    fusion = fit(drawn_evidence(40_000, 1), limit=100.0, photo_limit=100.0, alone=None)
    # Of two normal distributions m apart from 0 the log-odds of x are 2 m x / variance.
    assert (fusion.bias, fusion.face, fusion.photo) == pytest.approx((0, 1, 1), abs=0.06)


def test_two_witnesses_are_better_than_one() -> None:
    evidence = drawn_evidence(3000, 2)
    right = (nested(evidence).argmax(1) == evidence.targets).mean()
    photo_alone = ((evidence.photo < 0) == evidence.targets).mean()
    assert right > photo_alone + 0.05


def test_a_fold_is_not_fused_by_its_own_labels() -> None:
    evidence = drawn_evidence(200, 3)
    flipped = np.where(evidence.folds == 0, 1 - evidence.targets, evidence.targets)
    other = Evidence(evidence.face, evidence.photo, flipped, evidence.folds)
    held = evidence.folds == 0
    assert np.array_equal(nested(evidence)[held], nested(other)[held])
    assert not np.array_equal(nested(evidence)[~held], nested(other)[~held])


def test_the_formula_by_hand() -> None:
    weights = Weights(bias=0.5, face=2.0, photo=1.5, limit=3.0, photo_limit=1.0, alone=4.0)
    face = np.array([1.0, np.nan, 3.5, -3.5, 9.0, -4.0])
    answers = fuse(weights, face, np.array([-1.0, 2.0, 0.0, 9.0, -9.0, 9.0]))
    by_hand = [0.5 + 2 - 1.5, 0.5 + 3, 0.5 + 6, 0.5 - 6 + 1.5, 9.0, -4.0]
    assert answers[:, 0] == pytest.approx([1 / (1 + math.exp(-x)) for x in by_hand], abs=1e-6)
    assert answers.sum(axis=1) == pytest.approx(np.ones(6))


def test_certainty_has_finite_log_odds() -> None:
    assert log_odds(0.5) == 0
    assert log_odds(1.0) == pytest.approx(-log_odds(0.0)) == pytest.approx(13.8, abs=0.1)


def test_evidence_without_an_error_still_has_a_fit() -> None:
    photo = np.array([3.0, 3.0, -3.0, -3.0])
    targets = np.array([0, 0, 1, 1])
    fusion = fit(Evidence(np.full(4, np.nan), photo, targets, np.arange(4)))
    assert 0 < fusion.photo < 10
    assert fusion.face == 0


def _both(first: float) -> Probabilities:
    return np.asarray([first, 1 - first], dtype=np.float32)


def test_the_runner_fuses_as_the_fit_assumed() -> None:
    evidence = drawn_evidence(300, 4)
    fusion = fusion_for("happy-sad", evidence)
    expected = fuse(fit(evidence), evidence.face, evidence.photo)
    for face, photo, answer in zip(evidence.face, evidence.photo, expected, strict=True):
        both = [
            None if np.isnan(odds) else _both(1 / (1 + math.exp(-odds))) for odds in (face, photo)
        ]
        assert both[1] is not None
        assert fusion.fuse(both[0], both[1]) == pytest.approx(answer, abs=1e-4)
    assert fusion.face_model == "happy-sad"
    assert 0.5 <= fusion.unsure_below < 1


def test_face_first_answers_by_the_face_where_there_is_one() -> None:
    evidence = drawn_evidence(300, 5)
    answers = face_or_photo(evidence)
    decides = np.where(evidence.has_face, evidence.face, evidence.photo)
    assert np.array_equal(answers.argmax(1) == 0, decides > 0)
    fusion = fusion_for("happy-sad", evidence, face_first=True)
    assert fusion.face_first
    assert (fusion.bias, fusion.face) == (0, 1)
