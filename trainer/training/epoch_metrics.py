"""Metrics of each epoch of a training, in memory and as ``history.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from batch.errors import InputError
from trainer.training.config import Config

HISTORY_FILE = "history.csv"
# Names of columns.
EPOCH, RECALL_PREFIX = "epoch", "recall_"
# The epoch of the probe, before any training.
BASELINE_EPOCH = 0

# The values of each column of ``history.csv``, one per epoch; NaN if a cell is empty.
History = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one epoch.

    Attributes:
        epoch: number of the epoch, from 1; 0 for the probe, before any training.
        learning_rate: learning rate of the last step.
        train_loss: mean loss over the training samples, in nats.
        train_accuracy: accuracy over them, 0 to 1.
        validation_loss: loss of the averaged weights over the validation split, in nats.
        validation_accuracy: accuracy over its certain samples, 0 to 1.
        recall: recall of each label over them, None for a label without samples.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    recall: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether the validation loss is a number; not so after a divergence."""
        return math.isfinite(self.validation_loss)

    def to_row(self) -> dict[str, float | None]:
        """Return the metrics by name, as in ``history.csv`` and for trackers."""
        row = asdict(self)
        recall = row.pop("recall")
        return row | {f"{RECALL_PREFIX}{label}": share for label, share in recall.items()}


def is_finished(history: Sequence[EpochMetrics], config: Config) -> bool:
    """Tell whether all epochs were trained, or ``patience`` ends the training."""
    done = count_epochs(history)
    waited = done - find_best_epoch(history)
    return done == config.epochs or (config.patience > 0 and waited >= config.patience)


def count_epochs(history: Sequence[EpochMetrics]) -> int:
    """Count the epochs that were trained; the probe, epoch 0, is none."""
    return history[-1].epoch if history else 0


def find_finite(history: Sequence[EpochMetrics]) -> list[EpochMetrics]:
    """Find the epochs with a finite validation loss."""
    return [epoch for epoch in history if epoch.is_finite]


def find_best_epoch(history: Sequence[EpochMetrics]) -> int:
    """Return the number of the epoch with the lowest validation loss, 0 before the first.

    Losses that are not finite do not count; if none is finite, it is the first epoch.
    """
    best = min(
        find_finite(history) or history[:1], key=lambda epoch: epoch.validation_loss, default=None
    )
    return best.epoch if best else 0


def write_history(run: Path, history: Sequence[EpochMetrics]) -> None:
    """Write the metrics of all epochs so far as CSV, one row per epoch."""
    if not history:
        return
    partial = run / f"{HISTORY_FILE}.partial"
    with partial.open("w", newline="", encoding="utf-8") as file:
        # A training that an earlier release began lacks columns in its first epochs.
        writer = csv.DictWriter(file, history[-1].to_row().keys())
        writer.writeheader()
        writer.writerows(epoch.to_row() for epoch in history)
    partial.replace(run / HISTORY_FILE)


def read_history(path: Path) -> History:
    """Read ``history.csv`` by columns, whichever it has; empty if there is none.

    Raises:
        InputError: it can't be read, or a spreadsheet has changed it to another format.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} can't be read ({error})", "remove it; the next training writes it again"
        ) from error
    if rows and not math.isfinite(_to_number(rows[-1].get(EPOCH))):
        raise InputError(
            f"{path} has no number of an epoch in its last line",
            "remove it; the next training writes it again",
        )
    columns = rows[0] if rows else {}
    return {name: [_to_number(row.get(name)) for row in rows] for name in columns}


def _to_number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:  # a column of text
        return math.nan
