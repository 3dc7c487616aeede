"""What validation data say of a network's confidence: a temperature, and when to be unsure."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trainer.evaluation.metrics import (
    Probabilities,
    Targets,
    calibration_error,
    calibration_gaps,
    log_loss,
)

TEMPERATURES = (0.05, 20.0)
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
# The logarithm of the temperature is found to this width.
PRECISION = 1e-4

Logits = npt.NDArray[np.float32]


def softmax(logits: Logits, temperature: float) -> Probabilities:
    """Turn logits, float32 [n, K], into probabilities of the same shape."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def fit_temperature(logits: Logits, targets: Targets) -> float:
    """Find the temperature of least log loss (Guo et al. 2017, arXiv 1706.04599).

    ``logits``: float32 [n, K]; ``targets``: int64 [n]. The loss is convex in the
    temperature's inverse and so has one valley, which golden-section search finds.
    """
    low, high = (math.log(end) for end in TEMPERATURES)
    best = _valley(lambda at: log_loss(softmax(logits, math.exp(at)), targets), low, high)
    return round(math.exp(best), 4)


def error_before(probabilities: Probabilities, targets: Targets, temperature: float) -> float:
    """Give the expected calibration error that the answers had without their temperature."""
    # The logarithms are the scaled logits but for a constant, which softmax takes out.
    logits = np.log(probabilities.clip(1e-12)) * temperature
    gaps = calibration_gaps(softmax(logits, 1.0), targets)
    return float(calibration_error(gaps.mean(axis=0)))


def halved_error(probabilities: Probabilities, targets: Targets) -> float:
    """Give the share of right answers that has half as many wrong ones."""
    return (1 + float((probabilities.argmax(axis=1) == targets).mean())) / 2


def unsure_below(probabilities: Probabilities, targets: Targets, wanted: float) -> float:
    """Find the lowest confidence from which on at least a share ``wanted`` of answers is right.

    All answers at least that confident count together. It is never below 1/K, which
    every answer reaches, and 1 where no confidence is good enough.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    confidence, accuracy = confidence[order], right[order].cumsum() / np.arange(1, len(order) + 1)
    # Answers of one confidence stand or fall together: only the last of them is a cut.
    last = np.append(confidence[:-1] != confidence[1:], True)
    good = np.flatnonzero(last & (accuracy >= wanted))
    lowest = 1 / int(probabilities.shape[1])
    if not len(good):
        return 1.0
    if good[-1] == len(order) - 1:
        return lowest
    # Between the last answer that counts as sure and the first that does not.
    between = float(confidence[good[-1]] + confidence[good[-1] + 1]) / 2
    return min(1.0, max(lowest, between))


def _valley(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search for the least value of a function with one valley."""
    left, right = high - GOLDEN_RATIO * (high - low), low + GOLDEN_RATIO * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > PRECISION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN_RATIO * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN_RATIO * (high - low)
            at_right = function(right)
    return (low + high) / 2
