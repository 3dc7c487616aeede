"""The profile of a set of answers: a few sums that runs can be compared by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batch.records import Row, Source, Status


@dataclass(frozen=True)
class Profile:
    """What a set of answers looks like.

    ``by_label`` has the sure answers of every label of the model, ``by_source`` those of
    each source; ``answers`` counts unsure ones as well, whose confidences ``confidence`` and
    ``confidence_squared`` add up.
    """

    by_label: Mapping[str, int]
    by_source: Mapping[str, int]
    answers: int
    confidence: float
    confidence_squared: float

    @property
    def sure(self) -> int:
        """Photos of status ``ok``."""
        return sum(self.by_label.values())

    @property
    def mean_confidence(self) -> float | None:
        """The mean over sure and unsure answers, 0 to 1; None without answers."""
        return self.confidence / self.answers if self.answers else None

    @property
    def variance(self) -> float:
        """The variance of the mean confidence, by chance alone."""
        if not self.answers:
            return math.inf
        mean = self.confidence / self.answers
        return max(0.0, self.confidence_squared / self.answers - mean**2) / self.answers


@dataclass
class Tally:
    """Gathers the profile of rows as they pass; ``labels`` are the model's."""

    labels: Sequence[str]
    _by_label: Counter[str] = field(default_factory=Counter, init=False)
    _by_source: Counter[str] = field(default_factory=Counter, init=False)
    _answers: int = field(default=0, init=False)
    _sum: float = field(default=0.0, init=False)
    _squares: float = field(default=0.0, init=False)

    def add(self, row: Row) -> None:
        """Count a row's answer, if it has one."""
        if row.answer is None or row.answer.label is None:
            return
        confidence = float(row.answer.confidence)
        self._answers += 1
        self._sum += confidence
        self._squares += confidence**2
        if row.status is Status.OK and row.source is not None:
            self._by_label[row.answer.label] += 1
            self._by_source[row.source.value] += 1

    def profile(self) -> Profile:
        """Give what was gathered so far."""
        return Profile(
            by_label={label: self._by_label[label] for label in self.labels},
            by_source={source.value: self._by_source[source.value] for source in Source},
            answers=self._answers,
            confidence=self._sum,
            confidence_squared=self._squares,
        )
