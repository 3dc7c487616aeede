"""The interval of the calibration error, on simulated models with a known one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from trainer.evaluation.calibration_error import (
    estimate_calibration_error,
    estimate_calibration_growth,
)
from trainer.evaluation.gate_checks import CALIBRATION_MARGIN
from trainer.evaluation.metrics import (
    BINS,
    Figures,
    Probabilities,
    Targets,
    calibration_error,
    calibration_gaps,
)

Truth = Callable[[Figures], Figures]
REPEATS, PAIRS = 50, 20


def keep(confidence: Figures) -> Figures:
    return confidence


def lower(confidence: Figures) -> Figures:
    return confidence - 0.05


def lower_the_surest(confidence: Figures) -> Figures:
    return np.where(confidence > 0.9, confidence - 0.1, confidence)


def draw(
    chance: np.random.Generator, samples: int, accuracy: Truth, shift: float = 0.0
) -> tuple[Probabilities, Targets]:
    """Draw answers with a uniform confidence, and classes that they get right so often."""
    confidence = chance.uniform(0.55, 1, samples)
    right = chance.random(samples) < accuracy(confidence)
    return with_confidence(confidence + shift), (~right).astype(np.int64)


def with_confidence(confidence: Figures) -> Probabilities:
    clipped = confidence.clip(0.5, 1)
    return np.stack([clipped, 1 - clipped], axis=1).astype(np.float32)


def true_error(accuracy: Truth) -> float:
    confidence = np.linspace(0.55, 1, 1_000_001)
    bins = np.ceil(confidence * BINS).astype(int) - 1
    sums = np.bincount(bins, accuracy(confidence) - confidence)
    return float(np.abs(sums).sum() / len(confidence))


def plain_error(probabilities: Probabilities, targets: Targets) -> float:
    return float(calibration_error(calibration_gaps(probabilities, targets).mean(axis=0)))


@pytest.mark.parametrize("accuracy", [keep, lower, lower_the_surest])
@pytest.mark.parametrize("samples", [100, 1000])
def test_the_interval_contains_the_true_error(accuracy: Truth, samples: int) -> None:
    chance = np.random.default_rng(11)
    error = true_error(accuracy)
    found = [estimate_calibration_error(*draw(chance, samples, accuracy)) for _ in range(REPEATS)]
    assert all(0 <= each.low <= each.value <= each.high for each in found)
    # Of 50 intervals of 95 %, 44 and more contain the value in 99 % of simulations.
    assert sum(each.low <= error <= each.high for each in found) >= 44


def test_a_calibrated_model_has_no_error_although_the_plain_estimate_has_one() -> None:
    chance = np.random.default_rng(12)
    drawn = [draw(chance, 300, keep) for _ in range(REPEATS)]
    found = [estimate_calibration_error(*each) for each in drawn]
    assert np.mean([plain_error(*each) for each in drawn]) > 0.04
    assert np.median([each.value for each in found]) < 0.02
    assert sum(each.low == 0 for each in found) >= 46


def test_many_samples_give_the_error_itself() -> None:
    drawn = draw(np.random.default_rng(13), 200_000, lower)
    found = estimate_calibration_error(*drawn)
    assert found.value == pytest.approx(0.05, abs=0.003)
    assert found.high - found.low < 0.01
    assert plain_error(*drawn) == pytest.approx(found.value, abs=0.001)


def make_constant(samples: int, wrong: int, confidence: float) -> tuple[Probabilities, Targets]:
    """Make answers with the same confidence, some of them wrong."""
    return (
        with_confidence(np.full(samples, confidence)),
        (np.arange(samples) < wrong).astype(np.int64),
    )


@pytest.mark.parametrize(
    ("samples", "confidence", "accuracy"),
    [
        (100, 0.99, 0.99),
        (100, 0.99, 0.97),
        (100, 0.99, 0.95),
        (100, 0.999, 0.99),
        (100, 0.95, 0.8),
        (100, 0.9, 0.99),
        (1000, 0.99, 0.97),
        (1000, 0.999, 0.99),
    ],
)
def test_the_interval_contains_the_true_error_of_sure_models(
    samples: int, confidence: float, accuracy: float
) -> None:
    covered = 0.0
    for wrong in range(samples + 1):
        share = binom.pmf(wrong, samples, 1 - accuracy)
        if share > 1e-4:
            found = estimate_calibration_error(*make_constant(samples, wrong, confidence))
            error = abs(confidence - accuracy)
            covered += share * (found.low - 1e-6 <= error <= found.high + 1e-6)
    assert covered > 0.935


def test_fewer_than_100_samples_give_no_estimate() -> None:
    few, targets = make_constant(99, 5, 0.99)
    for found in (
        estimate_calibration_error(few, targets),
        estimate_calibration_growth(few, few, targets),
        estimate_calibration_error(few[:0], targets[:0]),
    ):
        assert all(map(math.isnan, (found.value, found.low, found.high)))


def test_only_right_answers_do_not_exclude_wrong_ones() -> None:
    for samples in (100, 1000):
        found = estimate_calibration_error(*make_constant(samples, 0, 0.99))
        assert found.low < 0.01 - 1e-6 <= found.high
        sure = estimate_calibration_error(*make_constant(samples, 0, 1.0))
        assert (sure.value, sure.low) == (0, 0)
        # Clopper and Pearson's upper end is 1 - 0.025 ** (1 / n): 3.6 % of 100, 0.37 % of 1,000.
        assert sure.high == pytest.approx(1 - 0.025 ** (1 / samples), rel=0.15)
    targets = np.zeros(200, np.int64)
    targets[:10] = 1  # 5 % of the certain answers are wrong
    found = estimate_calibration_error(with_confidence(np.ones(200)), targets)
    assert 0.02 < found.low < found.value < found.high < 0.1
    assert found.value == pytest.approx(0.05, abs=0.005)


def test_the_same_answers_have_the_same_interval() -> None:
    drawn = draw(np.random.default_rng(14), 150, lower)
    assert estimate_calibration_error(*drawn) == estimate_calibration_error(*drawn)


@pytest.mark.parametrize(
    ("samples", "shift", "least", "most"),
    [
        (300, 0.0, 0.0, 0.05),
        (300, 0.02, 0.0, 0.1),  # the true growth is the margin
        (300, 0.15, 0.6, 1.0),  # from 0 to about 0.12
    ],
)
def test_the_gate_finds_a_growth_also_with_few_samples(
    samples: int, shift: float, least: float, most: float
) -> None:
    chance = np.random.default_rng(15)
    rejected = 0
    for _ in range(PAIRS):
        old, targets = draw(chance, samples, keep)
        new = with_confidence(old.max(axis=1) + shift)
        growth = estimate_calibration_growth(new, old, targets)
        rejected += growth.low > CALIBRATION_MARGIN
    assert least <= rejected / PAIRS <= most
