"""Signals that ask a run to end: it finishes what it has in hand and keeps it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from batch.errors import Interrupted, Terminated

Item = TypeVar("Item")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Remembers that the run was asked to end."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def __bool__(self) -> bool:
        return self._signal is not None

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on until the run is asked to end."""
        for item in items:
            if self:
                return
            yield item

    def error(self, kept: str) -> Interrupted:
        """Make the exception that ends the run; ``kept`` says where its results are."""
        kind = Terminated if self._signal == signal.SIGTERM else Interrupted
        return kind(f"stopped by {signal.Signals(self._signal or signal.SIGINT).name}", kept)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        # The second one ends the process at once, for those who can't wait.
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a note for the length of the block."""
    stop = Stop()
    before = {number: signal.signal(number, stop._notice) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
