"""Repeated measurements: rounds in alternating order, and the median and range of the results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


def run_in_turns(
    ways: Mapping[Key, Callable[[int], Result]], rounds: int
) -> dict[Key, list[Result]]:
    """Measure each way once per round, every other round in the opposite order.

    The load of a machine drifts slowly; the alternating order cancels a drift out.

    Args:
        ways: the functions to measure, called with the number of the round.
        rounds: the number of rounds.

    Returns:
        The results of each way in the order of the rounds. Results at the same index were
        measured in the same round and can be compared.
    """
    found: dict[Key, list[Result]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            found[name].append(ways[name](number))
    return found


@dataclass(frozen=True)
class MedianRange:
    """The median and the range of repeated measurements.

    Attributes:
        median: the median.
        least: the smallest value.
        greatest: the largest value.
    """

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> MedianRange:
        """Summarize measurements, at least one."""
        measured = list(values)
        return cls(statistics.median(measured), min(measured), max(measured))

    def text(self, form: str = ".3g") -> str:
        """Format the median and, if the values differ, the range: ``62 (60-65)``."""
        middle, low, high = (
            format(value, form) for value in (self.median, self.least, self.greatest)
        )
        return middle if low == high else f"{middle} ({low}–{high})"  # noqa: RUF001
