"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

import click

from batch.records import Row

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

# Seconds between two lines where there is no terminal.
LINE_EVERY = 30.0


def with_bar(rows: Iterable[Row], total: int, stream: TextIO) -> Iterator[Row]:
    """Pass rows on and draw a bar with the rate and the time left."""
    started = time.monotonic()
    done = 0
    bar: ProgressBar[int] = click.progressbar(
        length=total,
        file=stream,
        show_pos=True,
        label="labelling",
        item_show_func=lambda _: _rate(done, started),
        update_min_steps=max(1, min(50, total // 200)),
    )
    with bar:
        for row in rows:
            done += 1
            bar.update(1)
            yield row


def with_lines(rows: Iterable[Row], stream: TextIO, every: float = LINE_EVERY) -> Iterator[Row]:
    """Pass rows on and write a line each ``every`` seconds."""
    started = last = time.monotonic()
    for done, row in enumerate(rows, start=1):
        now = time.monotonic()
        if now - last >= every:
            last = now
            stream.write(f"{done} photos, {_rate(done, started)}\n")
            stream.flush()
        yield row


def _rate(done: int, started: float) -> str:
    return f"{done / max(time.monotonic() - started, 1e-9):.1f} photos/s"
