"""What ends a run early: signals and time. It finishes what it has in hand and keeps it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias, TypeVar

from batch.errors import BatchLabelError, HungUp, Interrupted, Terminated, TimeLimitReached
from batch.limits import Limits, RunTimer

Item = TypeVar("Item")
# Raises an exception where a loop or a wait is to end, such as ``Stop.check``.
StopCheck: TypeAlias = Callable[[], None]
SIGNAL_ERRORS = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}
# Seconds between a signal and another one that does not come with it: `timeout` sends one to its
# child and then to the whole group.
REPEAT_SIGNAL_SECONDS = 0.5


# Whether the record of a run is written: nothing may change its outcome any more.
_is_record_written = False


def exit_by_signal(number: int, frame: FrameType | None) -> None:
    """End the process as a signal does by itself, but not once its record says how it ended."""
    if not _is_record_written:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def mark_record_written() -> None:
    """Take note that the run's record is written."""
    global _is_record_written
    _is_record_written = True


class StopRequested(BaseException):
    """Ends a long step of a run that was asked to end; only ``Stop.check`` raises it.

    No ``Exception``, so that nobody takes it for a file's or a store's failure.
    """


def never_stop() -> None:
    """Check nothing, for what nobody asks to end."""


class Stop:
    """Remembers that the run was asked to end.

    ``stopped_early`` is True once something was left undone for that.
    """

    def __init__(self, timer: RunTimer | None = None) -> None:
        self._timer = timer or RunTimer(Limits())
        self._signal: int | None = None
        self._since = 0.0
        self.stopped_early = False

    @property
    def by_signal(self) -> bool:
        """Whether a signal came."""
        return self._signal is not None

    @property
    def requested(self) -> bool:
        """Whether a signal came or time is up."""
        return self.by_signal or self._timer.is_up

    def check(self) -> None:
        """End a long step here if the run was asked to end: loops and waits call this.

        Safe to call from any thread.

        Raises:
            StopRequested: it was; ``take_until_stop`` and ``take_until_signal`` end there what they pass on.
        """
        if self.requested:
            self.stopped_early = True
            raise StopRequested

    def check_signal(self) -> None:
        """End a step here if a signal came, for what is worth finishing when time is up.

        Raises:
            StopRequested: one came.
        """
        if self.by_signal:
            self.check()

    @contextmanager
    def translate_stop(self, kept: str) -> Iterator[None]:
        """End the run where the block was ended by ``check``; ``kept`` as for ``make_error``.

        Raises:
            BatchLabelError: as ``make_error`` makes it.
        """
        try:
            yield
        except StopRequested as request:
            raise self.make_error(kept) from request

    def take_until_stop(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on until the run is asked to end."""
        timed = self._timer.ends_at is not None
        try:
            for item in items:  # of which there may be millions
                if self._signal is not None or (timed and self._timer.is_up):
                    self.stopped_early = True
                    return
                yield item
        except StopRequested:
            return

    def take_until_signal(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on until a signal comes, for what is worth finishing in any case."""
        try:
            for item in items:
                if self.by_signal:
                    self.stopped_early = True
                    return
                yield item
        except StopRequested:
            return

    def make_error(self, kept: str) -> BatchLabelError:
        """Make the exception that ends the run; ``kept`` says where its results are."""
        if self._signal is None:
            return TimeLimitReached(f"time is up: {self._timer.why}", kept)
        name = signal.Signals(self._signal).name
        return SIGNAL_ERRORS[signal.Signals(self._signal)](f"stopped by {name}", kept)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
        elif now - self._since >= REPEAT_SIGNAL_SECONDS:
            # Another one ends the process at once, for those who can't wait.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def stop_on_signals(timer: RunTimer | None = None) -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into a note for the length of the block.

    A SIGHUP that the caller had ignored, as ``nohup`` does, stays ignored.
    """
    stop = Stop(timer)
    heard = [
        n for n in SIGNAL_ERRORS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop._handle_signal) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
