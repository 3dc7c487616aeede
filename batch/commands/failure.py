"""How a command ends that can't go on: it says why on standard error, and exits."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from batch.errors import BatchLabelError, ReaderGone
from batch.log import PROGRAM, Event, Level, Log, one_line


def fail(error: BatchLabelError, exit_code: int | None = None) -> NoReturn:
    """Say what is wrong, and exit with the error's own code unless another one is given."""
    if not isinstance(error, ReaderGone):
        click.echo(one_line(f"{PROGRAM}: {error}"), err=True)
    sys.exit(error.exit_code if exit_code is None else exit_code)


def fail_in_log(error: BatchLabelError, log: Log) -> NoReturn:
    """Write what is wrong into the log of a command that has one, and exit."""
    if not isinstance(error, ReaderGone):
        log(Event.ERROR, str(error), Level.ERROR, exit_code=error.exit_code)
    sys.exit(error.exit_code)
