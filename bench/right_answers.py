"""Right answers of each way of learning, summed up over the turns of the loop."""

from __future__ import annotations

import numpy as np

from bench.tables import Table
from trainer.evaluation.metrics import Estimate, Figures, Targets, estimate_from_means
from trainer.evaluation.tables import format_difference, format_interval
from trainer.exporting.linear_head import Floats

FIRST = "nothing: the first model"


class RightAnswers:
    """Right answers by way of learning: a row for each turn, a column for each photo.

    A photo that a turn did not judge by is not a number there.
    """

    def __init__(self, targets: Targets) -> None:
        self._right: dict[str, list[Figures]] = {}
        self._targets = targets

    def note(self, way: str, judged: Targets, logits: Floats) -> None:
        """Note a turn's answers, float32 [n, K], to the photos with the indices ``judged``."""
        row = np.full(len(self._targets), np.nan)
        row[judged] = logits.argmax(axis=1) == self._targets[judged]
        self._right.setdefault(way, []).append(row)

    def table(self, title: str) -> Table:
        """Lay accuracy and gain of each way out, with the mean of each photo over the turns."""
        judged = ~np.isnan(self._right[FIRST]).all(axis=0)
        means = {
            way: np.nanmean(np.stack(rows)[:, judged], axis=0) for way, rows in self._right.items()
        }
        rows = []
        for way, right in means.items():
            gain = format_difference(_mean(right - means[FIRST])) if way != FIRST else ""
            rows.append((way, format_interval(_mean(right)), gain))
        columns = ("Learnt from", "Right", "Gain")
        return Table(f"{title}, {judged.sum():,} to judge by", columns, rows)


def find_least_certain(logits: Floats, count: int) -> Targets:
    """Give the indices of those that a reviewer sees first, of logits float32 [n, 2]."""
    order: Targets = np.argsort(np.abs(logits[:, 0] - logits[:, 1]), kind="stable")[:count]
    return order


def _mean(values: Figures) -> Estimate:
    return estimate_from_means(lambda means: means[..., 0], values[:, None])
