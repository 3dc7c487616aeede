"""How often the model is right, by people's answers about the random sample of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

from batch.reading.reviews import ReviewLine

# Standard deviations of a 95 % interval.
_DEVIATIONS = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class SampleAccuracy:
    """How often the model was right on the random sample of a report's photos.

    Attributes:
        answers: reviewed answers, of faces or of photos.
        right: those that the model gave as well.
        photos: photos that they are about.
    """

    answers: int
    right: int
    photos: int

    @property
    def share(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.right / self.answers

    def describe(self) -> str:
        """Describe the share with its 95 % interval: ``46 of 50 right: 92.0 % (81.2 % to 96.8 %)``.

        Answers about faces of one photo depend on each other, so the interval counts photos.
        """
        low, high = compute_share_interval(self.share, self.photos)
        return (
            f"{self.right:,} of {self.answers:,} right: {self.share:.1%} ({low:.1%} to {high:.1%})"
        ).replace("%", " %")


def measure_sample(lines: Iterable[ReviewLine]) -> SampleAccuracy | None:
    """Measure the model by the answers about a random sample, or return None without any."""
    sampled = [line for line in lines if line.is_random]
    if not sampled:
        return None
    right = sum(line.said == line.label for line in sampled)
    return SampleAccuracy(len(sampled), right, len({line.sha256 or line.path for line in sampled}))


def compute_share_interval(share: float, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a share of ``count`` independent samples (Wilson 1927).

    Rounding errors never move an end beyond the share, below 0 or above 1.
    """
    square = _DEVIATIONS**2
    middle = share + square / (2 * count)
    half = _DEVIATIONS * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low, high = ((middle + side) / (1 + square / count) for side in (-half, half))
    return min(max(0.0, low), share), max(min(1.0, high), share)
