"""The 95 % interval of a share, for the runner's review of a report and for the trainer."""

from __future__ import annotations

import math
from statistics import NormalDist

# Standard deviations of a 95 % interval.
_DEVIATIONS = NormalDist().inv_cdf(0.975)


def compute_share_interval(share: float, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a share of ``count`` independent samples (Wilson 1927).

    Rounding errors never move an end beyond the share, below 0 or above 1.
    """
    square = _DEVIATIONS**2
    middle = share + square / (2 * count)
    half = _DEVIATIONS * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low, high = ((middle + side) / (1 + square / count) for side in (-half, half))
    return min(max(0.0, low), share), max(min(1.0, high), share)
