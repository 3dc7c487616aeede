"""A measured figure: the median of repeats, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class MedianRange:
    """The median, the least and the greatest of some repeats."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> MedianRange:
        """Sum up repeats; there must be one at least."""
        measured = list(values)
        return cls(statistics.median(measured), min(measured), max(measured))

    def text(self, form: str = ".3g") -> str:
        """Write the median, with the least and greatest where they differ: ``62 (60-65)``."""
        middle, low, high = (
            format(value, form) for value in (self.median, self.least, self.greatest)
        )
        return middle if low == high else f"{middle} ({low}–{high})"  # noqa: RUF001
