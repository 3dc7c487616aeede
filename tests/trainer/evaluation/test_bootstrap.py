from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.metrics import (
    accuracy,
    calibration_error,
    estimate_from_counts,
    estimate_from_means,
    estimate_mean,
    estimate_shares,
    macro_f1,
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


@pytest.mark.parametrize("samples", [20, 200])
def test_intervals_of_few_samples_contain_the_true_shares(samples: int) -> None:
    """Among them are draws without a wrong answer, from which a bootstrap concludes 100 %."""
    rng = np.random.default_rng(3)
    truth = np.array([0.97, 0.85])
    rights = rng.binomial(samples, truth, size=(400, 2))
    found = [estimate_shares(right, np.array([samples, samples])) for right in rights]
    hits = [[e.low <= t <= e.high for e, t in zip(f, truth, strict=True)] for f in found]
    means = [estimate_mean(f) for f in found]
    assert np.mean(hits, axis=0).min() > 0.92
    assert np.mean([m.low <= truth.mean() <= m.high for m in means]) > 0.92


def test_shares_without_samples_have_no_estimate() -> None:
    known, unknown = estimate_shares(np.array([20, 0]), np.array([20, 0]))
    assert known.value == known.high == 1
    assert known.low == pytest.approx(0.839, abs=0.001)  # of published tables
    assert np.isnan(unknown.value)
    assert estimate_mean([known, unknown]) == known


def test_no_error_in_few_samples_does_not_exclude_one() -> None:
    (found,) = estimate_from_counts(macro_f1, np.array([[10, 0], [0, 10]]), np.full((2, 2), 0.25))
    assert found.value == found.high == 1
    assert found.low < 0.95


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
