"""Evaluation on the validation split after each epoch: loss, accuracy and recall of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.datasets.dataset import Split, keep_agreed
from trainer.evaluation.metrics import Counts, accuracy, confusion_matrix, recall

Losses = npt.NDArray[np.float32]

# A class is named in the log if its recall is lower by this than the mean of the others, and by
# more than chance explains (Fisher's exact test).
MIN_GAP = 0.2
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True)
class Validation:
    """The answers of a network to a split.

    Attributes:
        losses: cross-entropy of each sample, float32 [n], in nats.
        accuracy: accuracy over the certain samples, NaN if there are none.
        recall: recall of each class over them by label, None for a class without samples.
        worst: a class whose recall is far below that of the others, with the two recalls, as text;
            empty if there is none.
    """

    losses: Losses
    accuracy: float
    recall: dict[str, float | None]
    worst: str = ""

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean(dtype=np.float64))


def evaluate_logits(logits: Tensor, part: Split, labels: Sequence[str]) -> Validation:
    """Evaluate the logits of a split's samples, float32 [n, K]."""
    losses = F.cross_entropy(logits, torch.from_numpy(part.votes), reduction="none").numpy()
    certain = keep_agreed(part)
    answers = logits.argmax(1).numpy()[part.certain]
    counts = confusion_matrix(answers, certain.targets, len(labels))
    shares = [None if np.isnan(share) else float(share) for share in recall(counts)]
    return Validation(
        losses=losses,
        accuracy=float(accuracy(counts)),
        recall=dict(zip(labels, shares, strict=True)),
        worst=_describe_worst_class(counts, labels),
    )


def _describe_worst_class(counts: Counts, labels: Sequence[str]) -> str:
    from scipy.stats import fisher_exact

    shares, samples = recall(counts), counts.sum(axis=1)
    present = np.flatnonzero(samples)
    if len(present) < 2:
        return ""
    worst = int(present[shares[present].argmin()])
    others = present[present != worst]
    right, total = int(counts[worst, worst]), int(samples[worst])
    right_others, total_others = int(counts[others, others].sum()), int(samples[others].sum())
    mean = float(shares[others].mean())
    table = [[right, total - right], [right_others, total_others - right_others]]
    # Any of the classes may be the worst, hence the factor.
    chance = fisher_exact(table, alternative="less").pvalue * len(present)
    if mean - shares[worst] < MIN_GAP or chance >= SIGNIFICANCE_LEVEL:
        return ""
    return (
        f"recall of {labels[worst]} {shares[worst]:.2f} ({right} of {total}), of the others "
        f"{mean:.2f}"
    )
