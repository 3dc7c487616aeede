"""Sums over the rows of a report, which its page and its plots show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from batch.reading.saved import SavedRow
from batch.records import Status

# Parts of equal width that confidences, 0 to 1, are counted in.
BINS = 20


class Totals:
    """Counts rows as they pass; ``labels`` are the model's, and others are added as they come.

    ``sure`` and ``unsure`` count answers by label, ``bins`` confidences by label and part,
    ``by_status`` rows by status; ``photos`` counts photos, of which each face may have a row,
    ``missing`` the rows that were kept for photos that are gone.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.labels = list(labels)
        self.by_status: Counter[str] = Counter()
        self.sure: Counter[str] = Counter()
        self.unsure: Counter[str] = Counter()
        self.bins: dict[str, list[int]] = {label: [0] * BINS for label in labels}
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
        if row.label is None or row.confidence is None:
            return
        if row.label not in self.bins:
            self.labels.append(row.label)
            self.bins[row.label] = [0] * BINS
        (self.sure if row.status == Status.OK else self.unsure)[row.label] += 1
        self.bins[row.label][min(BINS - 1, int(row.confidence * BINS))] += 1
        self._confidence += row.confidence
        self._answers += 1

    @property
    def mean_confidence(self) -> float | None:
        """The mean over sure and unsure answers, 0 to 1; None without answers."""
        return self._confidence / self._answers if self._answers else None

    def share(self, label: str) -> float | None:
        """Give a label's share of the sure answers, 0 to 1; None without any."""
        total = self.sure.total()
        return self.sure[label] / total if total else None
