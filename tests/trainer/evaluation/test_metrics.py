from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    calibration_error,
    calibration_gaps,
    confusion_matrix,
    estimate_paired_gain,
    log_loss,
    macro_f1,
    non_inferiority_test,
    recall,
    reliability,
)

# Six of class 0 (five found), three of class 1 (one found), one of class 2 (not found).
TARGETS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
ANSWERS = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 1])
COUNTS = confusion_matrix(ANSWERS, TARGETS, 3)


def test_confusion_has_truth_in_rows() -> None:
    assert COUNTS.tolist() == [[5, 1, 0], [2, 1, 0], [0, 1, 0]]


def test_metrics_match_values_computed_by_hand() -> None:
    assert accuracy(COUNTS) == pytest.approx(0.6)
    np.testing.assert_allclose(recall(COUNTS), [5 / 6, 1 / 3, 0])
    assert balanced_accuracy(COUNTS) == pytest.approx((5 / 6 + 1 / 3 + 0) / 3)
    assert macro_f1(COUNTS) == pytest.approx((10 / 13 + 2 / 6 + 0) / 3)


def test_a_class_that_never_occurs_is_ignored() -> None:
    counts = confusion_matrix(ANSWERS, TARGETS, 4)
    assert np.isnan(recall(counts)[3])
    assert balanced_accuracy(counts) == balanced_accuracy(COUNTS)
    assert macro_f1(counts) == macro_f1(COUNTS)


def test_stacked_matrices_give_the_same_metrics() -> None:
    other = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    for figure in (accuracy, recall, balanced_accuracy, macro_f1):
        np.testing.assert_allclose(
            figure(np.stack([COUNTS, other])), [figure(COUNTS), figure(other)]
        )


def test_calibration_error_by_hand() -> None:
    # Two answers of 0.9, one right: off by 0.4; two of 0.6, both right: off by 0.4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]], dtype=np.float32)
    targets = np.array([0, 1, 1, 1])
    bins = reliability(probabilities, targets)
    assert bins.count.sum() == 4
    assert bins.count[13] == 2
    gaps = calibration_gaps(probabilities, targets)
    np.testing.assert_allclose(gaps[:, 13], [0.1, -0.9, 0, 0], atol=1e-6)
    assert calibration_error(gaps.mean(axis=0)) == pytest.approx(0.4)


def test_a_bin_includes_its_upper_edge() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]], dtype=np.float32)
    bins = reliability(probabilities, np.array([0, 0]), bins=2)
    assert bins.count.tolist() == [1, 1]
    np.testing.assert_allclose(bins.confidence, [0.5, 1.0])


def test_log_loss_by_hand_and_never_infinite() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]], dtype=np.float32)
    assert log_loss(probabilities, np.array([0, 1])) == pytest.approx(
        (-np.log(0.5) - np.log(0.75)) / 2
    )
    assert np.isfinite(log_loss(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1])))


@pytest.mark.parametrize(
    ("wins", "losses", "samples"), [(0, 0, 3), (0, 1, 1), (1, 0, 1), (2, 9, 50), (60, 40, 1000)]
)
def test_the_interval_of_paired_answers_has_what_the_score_test_does_not_reject(
    wins: int, losses: int, samples: int
) -> None:
    found = estimate_paired_gain(wins, losses, samples)
    mirrored = estimate_paired_gain(losses, wins, samples)
    assert found.value == (wins - losses) / samples
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.02
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high))
    if -1 < found.low < 0:
        p = non_inferiority_test(wins, losses, samples, -found.low)
        assert p == pytest.approx(0.025, abs=1e-4)


def test_the_interval_of_paired_answers_is_tango_s() -> None:
    # Without differing answers both ends are z^2 / (n + z^2).
    found = estimate_paired_gain(0, 0, 44)
    assert (found.low, found.high) == pytest.approx((-0.0803, 0.0803), abs=1e-4)
    assert math.isnan(estimate_paired_gain(0, 0, 0).value)


@pytest.mark.parametrize("samples", [20, 100])
@pytest.mark.parametrize(("win", "loss"), [(0.01, 0.01), (0.05, 0.2), (0.0, 0.03)])
def test_the_interval_of_paired_answers_contains_the_true_gain(
    samples: int, win: float, loss: float
) -> None:
    drawn = np.random.default_rng(3).multinomial(samples, (win, loss, 1 - win - loss), 500)
    ends = {
        pair: estimate_paired_gain(*pair, samples)
        for pair in {(int(w), int(x)) for w, x, _ in drawn}
    }
    found = [ends[int(w), int(x)] for w, x, _ in drawn]
    assert np.mean([each.low <= win - loss <= each.high for each in found]) > 0.92
