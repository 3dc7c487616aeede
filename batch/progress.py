"""Progress of a run: a bar on a terminal, else a log line from time to time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

import click

from batch.log import Event, Log

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

Item = TypeVar("Item")

LOG_INTERVAL_SECONDS = 30.0  # between two progress lines in the log


class Progress(Protocol):
    """Reports progress while rows pass through it.

    Attributes:
        wants_total: whether it needs the number of rows beforehand.
    """

    wants_total: bool

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterable[Item]:
        """Yield the rows unchanged; ``total`` is their number, None if unknown."""


class NoProgress:
    """No-op progress reporter."""

    wants_total = False

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterable[Item]:
        """Return the rows."""
        return rows


class TerminalProgress:
    """Progress bar with rate and remaining time."""

    wants_total = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterator[Item]:
        """Yield the rows and advance the bar."""
        started = time.monotonic()
        done = 0
        bar: ProgressBar[int] = click.progressbar(
            length=total,
            file=self._stream,
            show_pos=True,
            label="labelling",
            item_show_func=lambda _: _rate_text(done, started),
            update_min_steps=max(1, min(50, (total or 0) // 200)),
        )
        with bar:
            for row in rows:
                done += 1
                bar.update(1)
                yield row


class ProgressLog:
    """Logs an event at most every ``interval`` seconds."""

    wants_total = False

    def __init__(self, log: Log, interval: float = LOG_INTERVAL_SECONDS) -> None:
        self._log = log
        self._interval = interval

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterator[Item]:
        """Yield the rows and log their number."""
        started = last = time.monotonic()
        of = "" if total is None else f" of {total:,}"
        for done, row in enumerate(rows, start=1):
            now = time.monotonic()
            if now - last >= self._interval:
                last = now
                message = f"{done:,}{of} photos, {_rate_text(done, started)}"
                self._log(Event.PROGRESS, message, done=done, pending=total)
            yield row


def _rate_text(done: int, started: float) -> str:
    return f"{done / max(time.monotonic() - started, 1e-9):.1f} photos/s"
