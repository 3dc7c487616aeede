"""Calibration on held-out samples: temperature scaling and a correction for class shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.datasets.dataset import Votes
from trainer.evaluation.metrics import (
    Probabilities,
    Targets,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    log_loss,
)

TEMPERATURE_RANGE = (0.05, 20.0)
GRID_POINTS = 61
# Standard deviation of the prior on the logarithm of the temperature. Two standard deviations are a
# factor of 2.7, a range that contains all temperatures fitted on thousands of samples here. On
# FER+'s 3,076 validation samples the prior changes a temperature of 1.3 by less than 0.1 %.
PRIOR_SPREAD = 0.5
# Candidate strengths of the correction for class shares, and the accuracy it may cost.
CORRECTIONS = tuple(step / 10 for step in range(11))
MAX_ACCURACY_LOSS = 0.001
# Precision of the logarithm of the temperature.
LOG_PRECISION = 1e-4

Logits = npt.NDArray[np.float32]
LogShares = npt.NDArray[np.float64]


def softmax(logits: Logits, temperature: float) -> Probabilities:
    """Convert logits, float32 [n, K], to probabilities of the same shape."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def fit_temperature(logits: Logits, targets: Targets, groups: Votes | None = None) -> float:
    """Find the temperature with the least log loss (Guo et al. 2017, arXiv 1706.04599).

    A normal prior on its logarithm (``PRIOR_SPREAD``) keeps it away from the ends of its range if
    there are few answers or all of them are right.

    Args:
        logits: float32 [n, classes].
        targets: int64 [n], of the classes or, with ``groups``, of the groups.
        groups: float32 [outputs, classes] of 0 and 1; an output is the sum of its classes'
            probabilities. None if every class is an output.
    """
    from scipy.optimize import minimize_scalar

    def loss(at: float) -> float:
        answers = softmax(logits, math.exp(at))
        return len(targets) * log_loss(_sum_groups(answers, groups), targets) + at**2 / (
            2 * PRIOR_SPREAD**2
        )

    # The loss may have several local minima, so a grid finds the interval of the lowest.
    grid = np.linspace(
        math.log(TEMPERATURE_RANGE[0]), math.log(TEMPERATURE_RANGE[1]), GRID_POINTS
    ).tolist()
    lowest = min(range(1, GRID_POINTS - 1), key=lambda n: loss(grid[n]))
    found = minimize_scalar(
        loss,
        bounds=(grid[lowest - 1], grid[lowest + 1]),
        method="bounded",
        options={"xatol": LOG_PRECISION},
    )
    return round(math.exp(found.x), 4)


@dataclass(frozen=True)
class Calibration:
    """The parameters that convert logits to probabilities.

    Attributes:
        temperature: divides the logits.
        prior_correction: 0 to 1, the part of the logarithm of each class's share in training that
            is subtracted from its logit first.
    """

    temperature: float
    prior_correction: float = 0.0


@dataclass(frozen=True)
class OutputLayout:
    """How a model's outputs are composed of classes.

    Attributes:
        log_shares: float64 [classes], the logarithm of each class's share in training.
        groups: float32 [outputs, classes] of 0 and 1; an output is the sum of its classes'
            probabilities. None if every class is an output.
    """

    log_shares: LogShares
    groups: Votes | None = None

    def probabilities(self, logits: Logits, calibration: Calibration) -> Probabilities:
        """Convert logits, float32 [n, classes], to outputs, float32 [n, outputs]."""
        return _sum_groups(
            softmax(self._shift(logits, calibration), calibration.temperature), self.groups
        )

    def calibrate(
        self, logits: Logits, targets: Targets, prior_correction: float | None = 0.0
    ) -> Calibration:
        """Fit the temperature, and choose the correction for class shares if none is given.

        The chosen correction has the highest balanced accuracy of ``CORRECTIONS`` among those
        that cost at most ``MAX_ACCURACY_LOSS`` of accuracy.

        Args:
            logits: float32 [n, classes], of held-out samples.
            targets: int64 [n], indices of outputs.
            prior_correction: 0 to 1; None to choose it.
        """
        strengths = CORRECTIONS if prior_correction is None else (prior_correction,)
        found = []
        for strength in strengths:
            shifted = self._shift(logits, Calibration(1.0, strength))
            temperature = fit_temperature(shifted, targets, self.groups)
            found.append(Calibration(temperature, strength))
        counts = [
            confusion_matrix(
                self.probabilities(logits, calibration).argmax(axis=1), targets, self.count
            )
            for calibration in found
        ]
        floor = float(accuracy(counts[0])) - MAX_ACCURACY_LOSS
        allowed = [n for n in range(len(found)) if float(accuracy(counts[n])) >= floor]
        return found[max(allowed, key=lambda n: float(balanced_accuracy(counts[n])))]

    def offsets(self, calibration: Calibration) -> LogShares:
        """Offsets to subtract from the logits: float64 [classes]."""
        return self.log_shares * calibration.prior_correction

    @property
    def count(self) -> int:
        """The number of outputs."""
        return len(self.log_shares) if self.groups is None else len(self.groups)

    def _shift(self, logits: Logits, calibration: Calibration) -> Logits:
        return (logits - self.offsets(calibration)).astype(np.float32)


def _sum_groups(probabilities: Probabilities, groups: Votes | None) -> Probabilities:
    return probabilities if groups is None else probabilities @ groups.T
