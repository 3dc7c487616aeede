from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.metrics import (
    accuracy,
    calibration_error,
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


def test_the_same_input_has_the_same_interval() -> None:
    terms = np.random.default_rng(7).normal(size=(50, 3))
    assert estimate_from_means(calibration_error, terms) == estimate_from_means(
        calibration_error, terms
    )
