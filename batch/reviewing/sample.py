"""How often the model is right, by people's answers about the random sample of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batch.reading.reviews import ReviewLine
from batch.share_interval import compute_share_interval


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
