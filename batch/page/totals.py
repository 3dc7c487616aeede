"""Sums over the rows of a report, which its page and its plots show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from batch.reading.saved import SavedRow
from batch.records import Abstain, Status

# Parts of equal width that confidences, 0 to 1, are counted in.
BINS = 20
# What the page calls each status.
STATUS_TEXTS = {
    Status.OK: "ok",
    Status.UNSURE: "unsure",
    Status.NEITHER: "neither",
    Status.NO_PERSON: "nobody there",
    Status.NO_FACE: "no face",
    Status.FAILED: "failed",
}


class Totals:
    """Counts of rows, and of their answers: labels, or reasons to give none.

    Attributes:
        labels: the model's, in its order; others are added as rows have them.
        abstain: the model's abstain outputs, and those that rows have as their status.
        by_status: rows by status.
        sure: answers that are sure of a label, by label.
        unsure: answers that are not, by label.
        bins: confidences, by answer and by part of the range 0 to 1.
        rows: all rows.
        photos: photos, of which each face may have a row.
        missing: rows that were kept for photos that are gone.
    """

    def __init__(self, labels: Sequence[str] = (), abstain: Sequence[str] = ()) -> None:
        self.labels = list(labels)
        self._abstain = set(abstain)
        self.by_status: Counter[str] = Counter()
        self.sure: Counter[str] = Counter()
        self.unsure: Counter[str] = Counter()
        self.bins: dict[str, list[int]] = {answer: [0] * BINS for answer in (*labels, *abstain)}
        self.rows = self.photos = self.missing = 0
        self._confidence = 0.0
        self._answers = 0
        self._last: str | None = None

    def add(self, row: SavedRow) -> None:
        """Count a row."""
        self.rows += 1
        self.photos += row.path != self._last
        self._last = row.path
        self.missing += row.missing
        self.by_status[row.status] += 1
        answer = row.answer
        if answer is None:
            return
        if row.label is None:
            self._abstain.add(answer)
        elif row.confidence is not None:
            if row.label not in self.labels:
                self.labels.append(row.label)
            (self.sure if row.status == Status.OK else self.unsure)[row.label] += 1
        if row.confidence is not None:
            bins = self.bins.setdefault(answer, [0] * BINS)
            bins[min(BINS - 1, int(row.confidence * BINS))] += 1
            self._confidence += row.confidence
            self._answers += 1

    @property
    def abstain(self) -> list[str]:
        """The abstain outputs that the report knows, in their usual order."""
        return [name for name in Abstain if name in self._abstain]

    @property
    def mean_confidence(self) -> float | None:
        """The mean over all answers that have one, 0 to 1; None without any."""
        return self._confidence / self._answers if self._answers else None

    def settled(self, answer: str) -> int:
        """Count the rows that have an answer and are not unsure of it."""
        return (self.by_status if answer in self._abstain else self.sure)[answer]

    def share(self, answer: str) -> float | None:
        """Give an answer's share of those that are not unsure, 0 to 1.

        None if there are none, or if the report does not know the answer.
        """
        total = self.sure.total() + sum(self.by_status[name] for name in self.abstain)
        return self.settled(answer) / total if total and answer in self.bins else None
