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

    Attributes:
        by_label: photos of status ``ok`` by label, for every label of the model.
        by_source: the same photos by source.
        answers: photos with an answer: a label, sure or not, or the status of an abstain output.
        confidence: the sum of their confidences.
        confidence_squared: the sum of the squares.
        by_abstain: photos of each status that a model's abstain output gives; empty for models
            without such outputs.
    """

    by_label: Mapping[str, int]
    by_source: Mapping[str, int]
    answers: int
    confidence: float
    confidence_squared: float
    by_abstain: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Profile) -> Profile:
        """Join the profiles of two sets of answers."""
        return Profile(
            by_label=_sum(self.by_label, other.by_label),
            by_source=_sum(self.by_source, other.by_source),
            answers=self.answers + other.answers,
            confidence=self.confidence + other.confidence,
            confidence_squared=self.confidence_squared + other.confidence_squared,
            by_abstain=_sum(self.by_abstain, other.by_abstain),
        )

    @property
    def sure(self) -> int:
        """Photos of status ``ok``."""
        return sum(self.by_label.values())

    @property
    def by_outcome(self) -> dict[str, int]:
        """Photos whose answer counts: of status ``ok`` by label, others by status."""
        return {**self.by_label, **self.by_abstain}

    @property
    def mean_confidence(self) -> float | None:
        """The mean over photos with an answer, 0 to 1; None without such photos."""
        return self.confidence / self.answers if self.answers else None

    @property
    def variance(self) -> float:
        """The variance of the mean confidence, by chance alone."""
        if not self.answers:
            return math.inf
        mean = self.confidence / self.answers
        return max(0.0, self.confidence_squared / self.answers - mean**2) / self.answers


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


@dataclass
class Tally:
    """Gathers the profile of rows as they pass.

    Attributes:
        labels: the model's labels.
        abstain: the abstain outputs that can take the place of a label.
    """

    labels: Sequence[str]
    abstain: Sequence[str] = ()
    _by_label: Counter[str] = field(default_factory=Counter, init=False)
    _by_source: Counter[str] = field(default_factory=Counter, init=False)
    _by_abstain: Counter[str] = field(default_factory=Counter, init=False)
    _answers: int = field(default=0, init=False)
    _sum: float = field(default=0.0, init=False)
    _squares: float = field(default=0.0, init=False)

    def add(self, row: Row) -> None:
        """Count a row's answer, if it has one."""
        if row.answer is None:
            return
        confidence = float(row.answer.confidence)
        self._answers += 1
        self._sum += confidence
        self._squares += confidence**2
        if row.answer.label is None:
            self._by_abstain[row.status.value] += 1
        elif row.status is Status.OK and row.source is not None:
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
            by_abstain={name: self._by_abstain[name] for name in self.abstain},
        )
