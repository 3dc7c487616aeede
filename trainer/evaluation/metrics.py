"""Figures of answers against the truth, in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15

Counts = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """Samples by confidence in equal bins: their number, mean confidence and accuracy."""

    count: Counts
    confidence: Figures
    accuracy: Figures


def confusion_matrix(predicted: Targets, targets: Targets, classes: int) -> Counts:
    """Count samples by true class (row) and answer (column): int64 [K, K]."""
    flat = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def accuracy(confusion: Counts) -> Figures:
    """Share of right answers, of one matrix [K, K] or of many [..., K, K]."""
    return safe_divide(_count_right(confusion).sum(-1), confusion.sum((-2, -1)))


def recall(confusion: Counts) -> Figures:
    """Share of each class that was found, [..., K]; not a number for a class with no sample."""
    return safe_divide(_count_right(confusion), confusion.sum(-1))


def balanced_accuracy(confusion: Counts) -> Figures:
    """Mean recall of the classes that have samples."""
    means: Figures = np.nanmean(recall(confusion), axis=-1)
    return means


def macro_f1(confusion: Counts) -> Figures:
    """Mean F1 of the classes that occur in truth or answers."""
    scores = safe_divide(2 * _count_right(confusion), confusion.sum(-1) + confusion.sum(-2))
    means: Figures = np.nanmean(scores, axis=-1)
    return means


def reliability(probabilities: Probabilities, targets: Targets, bins: int = BINS) -> Reliability:
    """Sort answers by confidence into equal bins over 0 to 1, each closed above."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    where = _assign_bins(confidence, bins)
    count = np.bincount(where, minlength=bins)
    return Reliability(
        count=count,
        confidence=safe_divide(np.bincount(where, confidence, bins), count),
        accuracy=safe_divide(np.bincount(where, right, bins), count),
    )


def calibration_gaps(probabilities: Probabilities, targets: Targets, bins: int = BINS) -> Figures:
    """Right (1) or wrong (0) minus confidence, in the column of each answer's bin: [n, bins]."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = np.zeros((len(targets), bins))
    right = probabilities.argmax(axis=1) == targets
    gaps[np.arange(len(targets)), _assign_bins(confidence, bins)] = right - confidence
    return gaps


def calibration_error(mean_gaps: Figures) -> Figures:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599), 0 to 1.

    ``mean_gaps``: the mean of ``calibration_gaps`` over all samples, [..., bins].
    """
    errors: Figures = np.abs(mean_gaps).sum(axis=-1)
    return errors


def log_loss(probabilities: Probabilities, targets: Targets) -> float:
    """Mean negative logarithm of the true class's probability, in nats."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(chosen.clip(1e-12)).mean())


def _assign_bins(confidence: Figures, bins: int) -> Counts:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _count_right(confusion: Counts) -> Counts:
    right: Counts = np.diagonal(confusion, axis1=-2, axis2=-1)
    return right


def safe_divide(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Figures:
    """Divide a part by its whole, element by element; not a number where the whole is 0."""
    shares = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares
