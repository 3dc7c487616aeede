"""How far the answers of a model file are from those of the network that it was made of.

Two bounds: the same computation elsewhere (PyTorch and ONNX Runtime, or a wrapped graph) may differ
by rounding alone, in batches of any size; weights that are stored with fewer bits change answers,
which is measured on held-out samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from batch.inference.providers import describe_ort_error
from batch.records import Pixels, Probabilities
from trainer.evaluation.thresholds import clopper_pearson_bound

# Largest allowed difference of a probability by rounding alone.
MAX_DIFFERENCE = 1e-4
# Largest share of samples whose likeliest output weights of fewer bits may change, and the level of
# the test that it is larger; largest mean over the samples of the largest change of a probability.
MAX_CHANGED, SIGNIFICANCE_LEVEL = 0.05, 0.05
MAX_MEAN_CHANGE = 0.03
HIGH_QUANTILE = 0.99

logger = logging.getLogger(__name__)

Run = Callable[[Pixels], Probabilities]


@dataclass(frozen=True)
class AnswerChanges:
    """Answers of a model with stored weights, compared with those of its exact network.

    Attributes:
        samples: number of held-out samples.
        changed: number of these with another likeliest output.
        mean: mean over the samples of the largest change of a probability.
        high: the 99th percentile of that change.
        largest: its maximum.
    """

    samples: int
    changed: int
    mean: float
    high: float
    largest: float

    @property
    def changed_bound(self) -> float:
        """Upper 95 % confidence bound of the share of changed answers (Clopper and Pearson)."""
        return clopper_pearson_bound(self.changed, self.samples)

    @property
    def is_close(self) -> bool:
        """Whether the answers are within the limits, or exceed them within sampling error."""
        from scipy.stats import binomtest

        test = binomtest(self.changed, self.samples, MAX_CHANGED, alternative="greater")
        exceeds = self.changed > MAX_CHANGED * self.samples and test.pvalue < SIGNIFICANCE_LEVEL
        return not exceeds and self.mean <= MAX_MEAN_CHANGE


def measure_answer_changes(exact: Probabilities, stored: Probabilities) -> AnswerChanges:
    """Compare answers to the same samples, float32 [n, K] each; n > 0."""
    changes = np.abs(exact - stored).max(axis=1)
    return AnswerChanges(
        samples=len(exact),
        changed=int((exact.argmax(axis=1) != stored.argmax(axis=1)).sum()),
        mean=float(changes.mean()),
        high=float(np.quantile(changes, HIGH_QUANTILE)),
        largest=float(changes.max()),
    )


def answer_changes_to_json(found: AnswerChanges) -> dict[str, Any]:
    """Convert the changes to plain values for JSON, rounded to 4 digits."""
    values = {**asdict(found), "changed_bound": found.changed_bound}
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }


def measure_differences(
    run: Run, pixels: Pixels, wanted: Probabilities, batches: Iterable[int]
) -> tuple[float, ...]:
    """Measure the largest difference of a probability for each batch size.

    Returns:
        One difference per size; infinite if the model fails on such a batch, and the log says why.
    """
    return tuple(_measure_in_batches(run, pixels, wanted, batch) for batch in batches)


def _measure_in_batches(run: Run, pixels: Pixels, wanted: Probabilities, batch: int) -> float:
    try:
        parts = [run(pixels[at : at + batch]) for at in range(0, len(pixels), batch)]
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        why = describe_ort_error(error)
    else:
        found = np.concatenate(parts)
        if found.shape == wanted.shape:
            return float(np.abs(found - wanted).max())
        why = f"it gives {len(found):,} answers to {len(wanted):,} pictures"
    logger.warning("WARNING: the model fails in batches of %d (%s)", batch, why)
    return float("inf")
