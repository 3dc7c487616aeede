"""Figures of answers against the truth, in numpy alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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


# == Sampling error of figures: 95 % bootstrap intervals, and a sign test.
# ==
# == Efron and Tibshirani 1993, "An Introduction to the Bootstrap". The same input always gives
# == the same interval.

RESAMPLES = 2000
SEED = 1
INTERVAL_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def estimate_from_counts(
    figure: Callable[[Counts], Figures], counts: Counts
) -> tuple[Estimate, ...]:
    """Estimate what depends on the number of samples in each cell alone.

    ``figure`` takes int64 [..., *counts.shape] and gives [...] or, for several figures at
    once, [..., F]; there is one estimate for each. A figure of cells that have no sample is
    not a number, and neither are its ends.
    """
    # Drawing n samples anew is drawing new counts for the cells.
    rng = np.random.default_rng(SEED)
    total = int(counts.sum())
    drawn = rng.multinomial(total, counts.ravel() / total, size=RESAMPLES)
    values = np.atleast_1d(figure(counts))
    resampled = figure(drawn.reshape(-1, *counts.shape)).reshape(RESAMPLES, -1)
    return tuple(
        _estimate_percentiles(float(v), r) for v, r in zip(values, resampled.T, strict=True)
    )


def estimate_from_means(figure: Callable[[Figures], Figures], terms: Figures) -> Estimate:
    """Estimate what depends on the means of each sample's terms, float64 [n, T], alone.

    ``figure`` takes means [..., T] and gives [...]. The percentiles are moved so that their
    middle is the value: a figure of absolute gaps comes out larger in nearly every resample,
    and the interval would carry that excess along.
    """
    rng = np.random.default_rng(SEED)
    n = len(terms)
    weights = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES))
    value = float(figure(terms.mean(axis=0)))
    resampled = figure(np.stack([w @ terms for w in weights]) / n)
    low, middle, high = np.quantile(resampled, (INTERVAL_QUANTILES[0], 0.5, INTERVAL_QUANTILES[1]))
    return Estimate(value, value + float(low - middle), value + float(high - middle))


def estimate_to_json(estimate: Estimate) -> Mapping[str, float] | None:
    """Write an estimate for JSON, which has no "not a number": that is None."""
    if np.isnan(estimate.value):
        return None
    return {end: round(value, 4) for end, value in asdict(estimate).items()}


def sign_test(wins: int, losses: int) -> float:
    """Chance of so many wins or more where both are as likely: the one-sided sign test.

    It is McNemar's test of paired answers (Psychometrika 12, 1947) in its exact form.
    """
    n = wins + losses
    ways: int = sum(math.comb(n, k) for k in range(wins, n + 1))
    return float(ways / 2**n)


def _estimate_percentiles(value: float, resampled: Figures) -> Estimate:
    if np.isnan(value):
        return Estimate(value, value, value)
    # A class of few samples may be missing from a resample, which then says nothing of it.
    low, high = np.nanquantile(resampled, INTERVAL_QUANTILES)
    return Estimate(value, float(low), float(high))
