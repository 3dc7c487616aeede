"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

import click

from batch.log import Event, Log

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

Item = TypeVar("Item")

# Seconds between two lines where there is no terminal.
LOG_INTERVAL_SECONDS = 30.0


class Progress(Protocol):
    """Sees the rows of a run pass; ``wants_total`` asks for their number beforehand."""

    wants_total: bool

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterable[Item]:
        """Pass the rows on."""


class NoProgress:
    """Looks away."""

    wants_total = False

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterable[Item]:
        """Pass the rows on."""
        return rows


class TerminalProgress:
    """Draws a bar with the rate and the time left on a terminal."""

    wants_total = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterator[Item]:
        """Pass the rows on."""
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
    """Tells the log every so many seconds."""

    wants_total = False

    def __init__(self, log: Log, every: float = LOG_INTERVAL_SECONDS) -> None:
        self._log = log
        self._every = every

    def __call__(self, rows: Iterable[Item], total: int | None) -> Iterator[Item]:
        """Pass the rows on."""
        started = last = time.monotonic()
        of = "" if total is None else f" of {total:,}"
        for done, row in enumerate(rows, start=1):
            now = time.monotonic()
            if now - last >= self._every:
                last = now
                message = f"{done:,}{of} photos, {_rate_text(done, started)}"
                self._log(Event.PROGRESS, message, done=done, pending=total)
            yield row


def _rate_text(done: int, started: float) -> str:
    return f"{done / max(time.monotonic() - started, 1e-9):.1f} photos/s"
