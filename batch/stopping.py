"""Early end of a run, by a signal or a time limit: photos in flight are finished and kept."""

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
# Called by loops and waits; raises an exception to end them. ``Stop.check`` is one.
StopCheck: TypeAlias = Callable[[], None]

SIGNAL_ERRORS = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}
# A signal this soon after another one counts as the same request: `timeout` sends one to its child
# and one to the process group.
REPEAT_SIGNAL_SECONDS = 0.5

# Whether the run record is written: from then on the outcome of the run is fixed.
_is_record_written = False


class StopRequested(BaseException):
    """Ends a long step of a run that is to stop; raised only by ``Stop.check``.

    Not an ``Exception``, so that no handler takes it for the failure of a file or store.
    """


def never_stop() -> None:
    """No-op ``StopCheck``."""


class Stop:
    """The request to stop a run, by a signal or its timer.

    Attributes:
        stopped_early: whether the run skipped work because of the request.
    """

    def __init__(self, timer: RunTimer | None = None) -> None:
        self._timer = timer or RunTimer(Limits())
        self._signal: int | None = None
        self._signalled_at = 0.0
        self.stopped_early = False

    @property
    def by_signal(self) -> bool:
        """Whether a signal was received."""
        return self._signal is not None

    @property
    def requested(self) -> bool:
        """Whether a signal was received or a time limit was reached."""
        return self.by_signal or self._timer.is_up

    def check(self) -> None:
        """End a long step if the run is to stop; safe to call from any thread.

        Raises:
            StopRequested: the run is to stop.
        """
        if self.requested:
            self.stopped_early = True
            raise StopRequested

    def check_signal(self) -> None:
        """End a step if a signal was received, but finish it if a time limit was reached.

        Raises:
            StopRequested: a signal was received.
        """
        if self.by_signal:
            self.check()

    @contextmanager
    def translate_stop(self, remedy: str) -> Iterator[None]:
        """Turn ``StopRequested`` into the exception of ``make_error``.

        Raises:
            BatchLabelError: the block was stopped.
        """
        try:
            yield
        except StopRequested as request:
            raise self.make_error(remedy) from request

    def take_until_stop(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items until the run is to stop or ``check`` ends their iterator."""
        timed = self._timer.ends_at is not None
        try:
            for item in items:  # maybe millions: read the timer only if it has a limit
                if self._signal is not None or (timed and self._timer.is_up):
                    self.stopped_early = True
                    return
                yield item
        except StopRequested:
            return

    def take_until_signal(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items until a signal is received, regardless of time limits."""
        try:
            for item in items:
                if self.by_signal:
                    self.stopped_early = True
                    return
                yield item
        except StopRequested:
            return

    def make_error(self, remedy: str) -> BatchLabelError:
        """Return the exception that ends the run; ``remedy`` says how to continue it."""
        if self._signal is None:
            return TimeLimitReached(f"time is up: {self._timer.why}", remedy)
        name = signal.Signals(self._signal).name
        return SIGNAL_ERRORS[signal.Signals(self._signal)](f"stopped by {name}", remedy)

    def make_waiter(self, remedy: str, announce: Callable[[], None]) -> StopCheck:
        """Make the function to call before each wait for another process.

        Args:
            remedy: as for ``make_error``.
            announce: says that the program waits; called once.

        Returns:
            A function that raises the exception of ``make_error`` if the run is to stop.
        """
        is_announced = False

        def on_wait() -> None:
            nonlocal is_announced
            if self.requested:
                raise self.make_error(remedy)
            if not is_announced:
                is_announced = True
                announce()

        return on_wait

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._signalled_at = number, now
        elif now - self._signalled_at >= REPEAT_SIGNAL_SECONDS:
            # A second request ends the process at once.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def stop_on_signals(timer: RunTimer | None = None) -> Iterator[Stop]:
    """Record SIGINT, SIGTERM and SIGHUP in a ``Stop`` while the block runs.

    SIGHUP stays ignored if it is ignored already, as by ``nohup``.
    """
    stop = Stop(timer)
    handled = [
        n for n in SIGNAL_ERRORS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop._handle_signal) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_by_signal(number: int, frame: FrameType | None) -> None:
    """Signal handler that ends the process, unless its record is already written."""
    if not _is_record_written:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def mark_record_written() -> None:
    """Note that the run record is written, so that a signal no longer changes the exit code."""
    global _is_record_written
    _is_record_written = True
