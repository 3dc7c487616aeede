from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.calibrate import (
    error_before,
    fit_temperature,
    halved_error,
    softmax,
    unsure_below,
)
from trainer.evaluation.metrics import Targets, calibration_error, calibration_gaps, log_loss


def answers(logits: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Targets:
    """Draw true classes with exactly the probabilities that the logits give."""
    chance = np.random.default_rng(3)
    shares = softmax(logits, 1).cumsum(axis=1)
    drawn: Targets = (chance.random((len(logits), 1)) > shares).sum(axis=1).clip(0, 2)
    return drawn


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_spoiled_logits_is_found(temperature: float) -> None:
    logits = np.random.default_rng(2).normal(0, 2, (20_000, 3)).astype(np.float32)
    targets = answers(logits)
    spoiled = logits * np.float32(temperature)
    found = fit_temperature(spoiled, targets)
    assert found == pytest.approx(temperature, rel=0.05)
    best = log_loss(softmax(spoiled, found), targets)
    for other in (found * 0.97, found * 1.03):
        assert best < log_loss(softmax(spoiled, other), targets)


def test_softmax_stands_large_logits() -> None:
    np.testing.assert_allclose(
        softmax(np.array([[1000.0, 0.0]], dtype=np.float32), 1), [[1.0, 0.0]]
    )


def confidences(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([[value, 1 - value] for value in values], dtype=np.float32)


def test_the_threshold_is_the_lowest_that_keeps_the_promise() -> None:
    shares = confidences(0.9, 0.8, 0.7, 0.6)
    targets = np.array([0, 0, 1, 0])
    assert unsure_below(shares, targets, 1.0) == pytest.approx(0.75)
    assert unsure_below(shares, targets, 0.75) == 0.5
    assert unsure_below(shares, targets, 0.7) == 0.5


def test_equal_confidences_stand_or_fall_together() -> None:
    shares = confidences(0.9, 0.8, 0.8, 0.6)
    assert unsure_below(shares, np.array([0, 0, 1, 1]), 0.9) == pytest.approx(0.85)


def test_where_no_confidence_is_good_enough_all_is_unsure() -> None:
    assert unsure_below(confidences(0.9, 0.8), np.array([1, 1]), 0.5) == 1.0


def test_never_below_what_every_answer_reaches() -> None:
    assert unsure_below(confidences(0.9, 0.6), np.array([0, 0]), 0.95) == 0.5


def test_the_error_before_the_temperature_is_that_of_the_bare_logits() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (2_000, 3)).astype(np.float32)
    targets = answers(logits / np.float32(2))
    bare = float(calibration_error(calibration_gaps(softmax(logits, 1), targets).mean(axis=0)))
    assert bare > 0.1
    assert error_before(softmax(logits, 2), targets, 2) == pytest.approx(bare, abs=1e-4)


def test_half_the_error_is_halfway_to_all_right() -> None:
    shares = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1]]
    assert halved_error(shares, np.array([0, 0, 0, 1, 0])) == pytest.approx(0.9)
