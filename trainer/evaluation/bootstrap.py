"""Sampling error of figures: 95 % bootstrap intervals, and a sign test.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap". The same input always gives
the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from trainer.evaluation.metrics import Counts, Figures

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
