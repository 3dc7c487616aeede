from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.metrics import (
    accuracy,
    calibration_error,
    calibration_gaps,
    estimate_from_counts,
    estimate_from_means,
    recall,
)


def test_counts_give_the_interval_of_a_share() -> None:
    (found,) = estimate_from_counts(accuracy, np.array([[450, 50], [50, 450]]))
    assert found.value == 0.9
    # The normal approximation: 1.96 standard errors of a share of 0.9 among 1,000.
    assert found.low == pytest.approx(0.9 - 1.96 * 0.0095, abs=0.002)
    assert found.high == pytest.approx(0.9 + 1.96 * 0.0095, abs=0.002)


def test_each_metric_of_the_same_counts_has_an_interval() -> None:
    first, second, never = estimate_from_counts(
        recall, np.array([[9, 1, 0], [20, 80, 0], [0, 0, 0]])
    )
    assert (first.value, second.value) == (0.9, 0.8)
    assert first.high - first.low > 2 * (second.high - second.low)
    assert np.isnan([never.value, never.low, never.high]).all()


def test_means_give_the_interval_of_a_mean() -> None:
    terms = np.random.default_rng(4).normal(3, 2, (2500, 1))
    found = estimate_from_means(lambda means: means[..., 0], terms)
    assert found.value == pytest.approx(terms.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 50, rel=0.1)
    assert found.low < 3 < found.high


def test_the_interval_of_a_calibrated_model_contains_its_error() -> None:
    chance = np.random.default_rng(6)
    sure = chance.uniform(0.5, 1, 800)
    shares = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    targets = (chance.random(800) > sure).astype(np.int64)
    found = estimate_from_means(calibration_error, calibration_gaps(shares, targets))
    assert found.low < found.value < found.high
    assert found.value > 0.01
    assert found.low < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_contains_even_a_small_error(seed: int) -> None:
    chance = np.random.default_rng(seed)
    sure = chance.uniform(0.5, 1, 300)
    shares = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    targets = (chance.random(300) > sure).astype(np.int64)
    gaps = calibration_gaps(shares, targets)
    # Without the mean of its gaps, the sample is perfectly calibrated.
    found = estimate_from_means(calibration_error, gaps - gaps.mean(axis=0))
    assert found.low < found.value < found.high


def test_the_same_input_has_the_same_interval() -> None:
    terms = np.random.default_rng(7).normal(size=(50, 3))
    assert estimate_from_means(calibration_error, terms) == estimate_from_means(
        calibration_error, terms
    )
