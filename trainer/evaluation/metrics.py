"""Classification metrics with 95 % intervals, and tests of paired answers.

Shares have Wilson's interval, which holds for few samples too: of 20 right answers in 20, a
bootstrap would conclude that there can be no wrong one. The bootstrap of other metrics is that of
Efron and Tibshirani 1993, "An Introduction to the Bootstrap", with a fixed seed: the same input
gives the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.share_interval import compute_share_interval

BINS = 15
RESAMPLES = 2000
SEED = 1
INTERVAL_QUANTILES = (0.025, 0.975)
# Width at which the search for an end of a score interval stops.
GAIN_PRECISION = 1e-9

Counts = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: samples in bins of equal width by confidence.

    Attributes:
        count: int64 [bins], samples in each bin.
        confidence: float64 [bins], their mean confidence, NaN in an empty bin.
        accuracy: float64 [bins], the share of them that is right, NaN in an empty bin.
    """

    count: Counts
    confidence: Figures
    accuracy: Figures


def confusion_matrix(predicted: Targets, targets: Targets, classes: int) -> Counts:
    """Count samples by true class (rows) and predicted class (columns): int64 [K, K]."""
    flat = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def accuracy(confusion: Counts) -> Figures:
    """Share of right answers, from one confusion matrix [K, K] or many [..., K, K]."""
    return safe_divide(_count_right(confusion).sum(-1), confusion.sum((-2, -1)))


def recall(confusion: Counts) -> Figures:
    """Recall of each class, [..., K]; NaN for a class without samples."""
    return safe_divide(_count_right(confusion), confusion.sum(-1))


def balanced_accuracy(confusion: Counts) -> Figures:
    """Mean recall of the classes that have samples."""
    means: Figures = np.nanmean(recall(confusion), axis=-1)
    return means


def macro_f1(confusion: Counts) -> Figures:
    """Mean F1 of the classes that occur among targets or answers."""
    scores = safe_divide(2 * _count_right(confusion), confusion.sum(-1) + confusion.sum(-2))
    means: Figures = np.nanmean(scores, axis=-1)
    return means


def reliability(probabilities: Probabilities, targets: Targets, bins: int = BINS) -> Reliability:
    """Bin answers by confidence, in bins of equal width; a bin includes its upper edge."""
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
    """Correctness (1 or 0) minus confidence, in the column of each answer's bin: [n, bins]."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = np.zeros((len(targets), bins))
    right = probabilities.argmax(axis=1) == targets
    gaps[np.arange(len(targets)), _assign_bins(confidence, bins)] = right - confidence
    return gaps


def calibration_error(mean_gaps: Figures) -> Figures:
    """Plain expected calibration error (Guo et al. 2017, arXiv 1706.04599), 0 to 1.

    It is too high, the more so the fewer samples: ``trainer.evaluation.calibration_error`` corrects
    that. ``mean_gaps``: the mean of ``calibration_gaps`` over all samples, [..., bins].
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
    """Divide element by element; NaN where the divisor is 0."""
    shares = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval.

    Attributes:
        value: the metric on all samples.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


# A metric without samples.
NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)


def estimate_shares(
    parts: Counts, wholes: Counts, independent: Counts | None = None
) -> tuple[Estimate, ...]:
    """Estimate shares with Wilson's interval (1927).

    Args:
        parts: int64 [n], the samples that count.
        wholes: int64 [n], all samples.
        independent: int64 [n], the number of samples that the interval counts, see
            ``count_independent``; None if the samples do not depend on each other.

    Returns:
        One estimate per share; NaN if it has no samples.
    """
    return tuple(
        Estimate(part / whole, *compute_share_interval(part / whole, count))
        if whole
        else NO_ESTIMATE
        for part, whole, count in zip(
            parts.tolist(),
            wholes.tolist(),
            (wholes if independent is None else independent).tolist(),
            strict=True,
        )
    )


def count_independent(groups: npt.NDArray[np.str_]) -> int:
    """Count samples, those of a group as one: text [n], empty for a sample without a group."""
    named = groups[groups != ""]
    return len(groups) - len(named) + len(np.unique(named))


def estimate_mean(shares: Iterable[Estimate]) -> Estimate:
    """Estimate the mean of independent shares from their intervals, without those that are NaN.

    The distances to the ends add up as standard errors do (Zou and Donner 2008, "Construction of
    confidence limits about effect measures", Statistics in Medicine 27).
    """
    known = [share for share in shares if not math.isnan(share.value)]
    if not known:
        return NO_ESTIMATE
    value = sum(share.value for share in known) / len(known)
    below = math.hypot(*(share.value - share.low for share in known)) / len(known)
    above = math.hypot(*(share.high - share.value for share in known)) / len(known)
    return Estimate(value, value - below, value + above)


def estimate_from_counts(
    figure: Callable[[Counts], Figures], counts: Counts, added: Figures | None = None
) -> tuple[Estimate, ...]:
    """Bootstrap a metric that depends only on the number of samples in each cell.

    Args:
        figure: takes int64 [..., *counts.shape] and returns [...], or [..., F] for F metrics.
        counts: int64, samples in each cell.
        added: float64 of the shape of ``counts``, samples that are added to those that are drawn
            from, so that a cell without samples can have some; None for none.

    Returns:
        One estimate per metric; NaN if its cells have no samples.
    """
    # To resample n samples is to draw new counts from a multinomial distribution.
    rng = np.random.default_rng(SEED)
    total = int(counts.sum())
    drawn_from = (counts if added is None else counts + added).ravel()
    drawn = rng.multinomial(total, drawn_from / drawn_from.sum(), size=RESAMPLES)
    values = np.atleast_1d(figure(counts))
    resampled = figure(drawn.reshape(-1, *counts.shape)).reshape(RESAMPLES, -1)
    return tuple(
        _estimate_percentiles(float(v), r) for v, r in zip(values, resampled.T, strict=True)
    )


def estimate_from_means(figure: Callable[[Figures], Figures], terms: Figures) -> Estimate:
    """Bootstrap a metric that depends only on the means of per-sample terms.

    The percentiles are shifted so that their median is the value: a difference of metrics that
    grow with resampling, such as calibration errors, would be centred elsewhere.

    Args:
        figure: takes means, float64 [..., T], and returns [...].
        terms: float64 [n, T], the terms of each sample.
    """
    rng = np.random.default_rng(SEED)
    n = len(terms)
    weights = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES))
    value = float(figure(terms.mean(axis=0)))
    resampled = figure(np.stack([w @ terms for w in weights]) / n)
    low, middle, high = np.quantile(resampled, (INTERVAL_QUANTILES[0], 0.5, INTERVAL_QUANTILES[1]))
    return Estimate(value, value + float(low - middle), value + float(high - middle))


def estimate_to_json(estimate: Estimate) -> Mapping[str, float] | None:
    """Convert an estimate for JSON, rounded to 4 digits; None for NaN."""
    if np.isnan(estimate.value):
        return None
    return {end: round(value, 4) for end, value in asdict(estimate).items()}


def sign_test(wins: int, losses: int) -> float:
    """p-value of the one-sided sign test: ``wins`` or more if win and loss are equally likely.

    This is the exact form of McNemar's test of paired answers (Psychometrika 12, 1947).
    """
    from scipy.stats import binomtest

    n = wins + losses
    return float(binomtest(wins, n, alternative="greater").pvalue) if n else 1.0


def non_inferiority_test(wins: int, losses: int, samples: int, margin: float) -> float:
    """p-value of the one-sided test that the accuracy of paired answers fell by ``margin`` or more.

    The score test of Tango 1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design" (Statistics in Medicine 17). It holds with few
    differing answers, and with none, of which a bootstrap would conclude that there can be none.

    Args:
        wins: samples that only the new answers get right.
        losses: samples that only the old answers get right.
        samples: all samples.
        margin: above 0, up to 1.
    """
    from scipy.stats import norm

    if not samples:
        return 1.0
    return float(norm.sf(_score_loss(wins, losses, samples, margin)))


def estimate_paired_gain(wins: int, losses: int, samples: int) -> Estimate:
    """Estimate the change of accuracy of paired answers, -1 to 1, with Tango's score interval.

    It has the changes that the test of ``non_inferiority_test`` does not reject at 2.5 % in either
    direction. If no answer differs, a bootstrap would conclude that none can; this one does not.

    Args:
        wins: samples that only the new answers get right.
        losses: samples that only the old answers get right.
        samples: all samples.

    Returns:
        The estimate; NaN without samples.
    """
    if not samples:
        return NO_ESTIMATE
    low = _find_least_gain(wins, losses, samples)
    # The other end is that of the old answers, compared with the new ones.
    return Estimate((wins - losses) / samples, low, 0.0 - _find_least_gain(losses, wins, samples))


def _find_least_gain(wins: int, losses: int, samples: int) -> float:
    """Find the least gain that a one-sided score test does not reject at 2.5 %, by bisection."""
    deviations = NormalDist().inv_cdf(INTERVAL_QUANTILES[1])
    rejected, possible = -1.0, (wins - losses) / samples
    while possible - rejected > GAIN_PRECISION:
        gain = (rejected + possible) / 2
        if _score_loss(wins, losses, samples, -gain) > deviations:
            rejected = gain
        else:
            possible = gain
    return rejected


def _score_loss(wins: int, losses: int, samples: int, loss: float) -> float:
    """Return the score of the hypothesis that the accuracy fell by ``loss``, -1 to 1."""
    # The estimate of the share of losses under it: the root of a q^2 + b q + c.
    a = 2 * samples
    b = (2 * samples - wins + losses) * -loss - wins - losses
    c = losses * loss * (1 + loss)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    deviation = math.sqrt(max(0.0, samples * (2 * share - loss * (1 + loss))))
    distance = wins - losses + samples * loss
    if not deviation:
        return math.inf if distance > 0 else -math.inf
    return distance / deviation


def _estimate_percentiles(value: float, resampled: Figures) -> Estimate:
    if np.isnan(value):
        return Estimate(value, value, value)
    # A resample without samples of a rare class has no value for it.
    low, high = np.nanquantile(resampled, INTERVAL_QUANTILES)
    return Estimate(value, float(low), float(high))
