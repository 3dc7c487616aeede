from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.calibration import (
    CORRECTIONS,
    MAX_ACCURACY_LOSS,
    Calibration,
    OutputLayout,
    fit_temperature,
    softmax,
)
from trainer.evaluation.metrics import (
    Counts,
    Targets,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    log_loss,
)


def answers(logits: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Targets:
    """Draw true classes from the probabilities that the logits give."""
    chance = np.random.default_rng(3)
    shares = softmax(logits, 1).cumsum(axis=1)
    drawn: Targets = (chance.random((len(logits), 1)) > shares).sum(axis=1).clip(0, 2)
    return drawn


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_of_scaled_logits_is_recovered(temperature: float) -> None:
    logits = np.random.default_rng(2).normal(0, 2, (20_000, 3)).astype(np.float32)
    targets = answers(logits)
    spoiled = logits * np.float32(temperature)
    found = fit_temperature(spoiled, targets)
    assert found == pytest.approx(temperature, rel=0.05)
    best = log_loss(softmax(spoiled, found), targets)
    for other in (found * 0.97, found * 1.03):
        assert best < log_loss(softmax(spoiled, other), targets)


def test_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(
        softmax(np.array([[1000.0, 0.0]], dtype=np.float32), 1), [[1.0, 0.0]]
    )


@pytest.mark.parametrize("count", [1, 20, 100])
def test_the_temperature_stays_moderate_if_all_answers_are_right(count: int) -> None:
    logits = np.tile(np.array([[3.0, 0.0]], np.float32), (count, 1))
    found = fit_temperature(logits, np.zeros(count, np.int64))
    assert 0.35 < found < 1
    # Without the prior it would go to the end of the range.
    assert log_loss(softmax(logits, 0.05), np.zeros(count, np.int64)) < 1e-6


def test_few_wrong_answers_give_a_moderate_temperature() -> None:
    logits = np.tile(np.array([[3.0, 0.0]], np.float32), (4, 1))
    assert 1 < fit_temperature(logits, np.array([1, 1, 1, 1])) < 6


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_prior_moves_a_temperature_of_thousands_of_samples_by_less_than_a_hundredth(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(2).normal(0, 2, (3_000, 3)).astype(np.float32)
    targets = answers(logits)
    spoiled = logits * np.float32(temperature)
    with_prior = fit_temperature(spoiled, targets)
    monkeypatch.setattr("trainer.evaluation.calibration.PRIOR_SPREAD", 1e6)
    assert with_prior == pytest.approx(fit_temperature(spoiled, targets), rel=0.01)


def test_joined_classes_are_calibrated_by_their_sums() -> None:
    logits = np.random.default_rng(4).normal(0, 2, (4_000, 3)).astype(np.float32)
    classes = answers(logits)
    groups = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    found = fit_temperature(logits * np.float32(2), np.minimum(classes, 1), groups)
    assert found == pytest.approx(2, rel=0.06)


def test_a_correction_finds_rare_classes_at_no_cost_in_accuracy() -> None:
    """A network trained on few samples of the last class predicts that class too rarely."""
    chance = np.random.default_rng(5)
    targets = chance.choice(3, 3_000, p=[0.45, 0.45, 0.1])
    logits = chance.normal(0, 1.5, (3_000, 3)) + 2 * np.eye(3)[targets]
    shares = np.array([0.495, 0.495, 0.01])
    outputs = OutputLayout(np.log(shares))
    shy = (logits + 0.7 * np.log(shares)).astype(np.float32)
    chosen = outputs.calibrate(shy, targets, None)
    assert 0 < chosen.prior_correction <= 1

    def counts(strength: float) -> Counts:
        answers = outputs.probabilities(shy, outputs.calibrate(shy, targets, strength))
        return confusion_matrix(answers.argmax(axis=1), targets, 3)

    best, plain = counts(chosen.prior_correction), counts(0.0)
    assert balanced_accuracy(best) > balanced_accuracy(plain)
    assert accuracy(best) >= accuracy(plain) - MAX_ACCURACY_LOSS
    for strength in CORRECTIONS:
        other = counts(strength)
        allowed = accuracy(other) >= accuracy(plain) - MAX_ACCURACY_LOSS
        assert not allowed or balanced_accuracy(other) <= balanced_accuracy(best)


def test_a_given_correction_is_subtracted_before_the_temperature() -> None:
    outputs = OutputLayout(np.log([0.9, 0.1]))
    logits = np.array([[1.0, 0.0]], np.float32)
    found = outputs.probabilities(logits, Calibration(2.0, 0.5))
    shifted = (logits - 0.5 * np.log([0.9, 0.1])) / 2
    powers = np.exp(shifted)
    np.testing.assert_allclose(found, powers / powers.sum(), rtol=1e-6)
    assert outputs.calibrate(logits, np.array([0]), 0.5).prior_correction == 0.5
