"""Estimate of the time that a training still takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from batch.limits import format_duration

# Before this many seconds of training an estimate would be that of the warm-up of the machine.
MIN_SECONDS = 5.0


class TimeLeft:
    """Measures steps and ends of epochs, and estimates the time that the others take.

    The epochs of an earlier, interrupted training do not count.

    Args:
        steps: steps of an epoch.
        epochs: epochs that are left to train.
        clock: returns seconds.
    """

    def __init__(
        self, steps: int, epochs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps, self._epochs, self._clock = steps, epochs, clock
        self._done_steps = self._done_epochs = 0
        self._training = self._ending = 0.0
        self._at = clock()
        self._is_announced = False

    def end_step(self) -> str:
        """Count a step; return the first estimate as soon as there is one, else an empty text."""
        self._training += self._lap()
        self._done_steps += 1
        if self._is_announced or self._training < MIN_SECONDS:
            return ""
        self._is_announced = True
        return self._format()

    def end_epoch(self, is_last: bool) -> str:
        """Count an epoch with its evaluation and checkpoint; return the estimate of the rest."""
        self._ending += self._lap()
        self._done_epochs += 1
        self._is_announced = True
        return "" if is_last else self._format()

    def _lap(self) -> float:
        before, self._at = self._at, self._clock()
        return self._at - before

    def _format(self) -> str:
        steps = self._steps * self._epochs - self._done_steps
        seconds = steps * self._training / max(1, self._done_steps)
        if self._done_epochs:
            seconds += (self._epochs - self._done_epochs) * self._ending / self._done_epochs
        # An estimate is not precise to the second.
        rounded = 60 * round(seconds / 60) if seconds >= 90 else max(1, round(seconds))
        return f"about {format_duration(rounded)} left"
