"""The command line: its commands, its version, and the exit of the process."""

from __future__ import annotations

import gc
import os
import signal
from typing import NoReturn

import click

from batch.cli.apply import apply
from batch.cli.default_command import DefaultGroup, show_help
from batch.cli.diff import diff
from batch.cli.explain import explain
from batch.cli.label import label
from batch.cli.manifest import manifest
from batch.cli.merge import merge
from batch.cli.model import model
from batch.cli.report import report
from batch.cli.review import review
from batch.cli.settings import exit_with_error
from batch.errors import BatchLabelError
from batch.log import PROGRAM
from batch.standard_streams import replace_standard_streams
from batch.stopping import SIGNAL_ERRORS, exit_by_signal


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version(PROGRAM)}")
        ctx.exit()


_VERSION_OPTION = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)


@click.group(
    PROGRAM,
    cls=DefaultGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@_VERSION_OPTION
def cli() -> None:
    """Label whole folders of photos: is the person happy or sad, or neither?

    PHOTOS are folders, searched with their sub-folders; files; glob patterns; .zip and .tar
    archives; URLs of these (s3://, gs://, https:// and others); or "-" for a list of paths on
    standard input, one per line or separated by NUL bytes.
    """


cli.add_command(_VERSION_OPTION(label))
cli.add_command(apply)
cli.add_command(diff)
cli.add_command(explain)
cli.add_command(model)
cli.add_command(report)
cli.add_command(review)
cli.add_command(manifest)
cli.add_command(merge)
cli.add_command(show_help)


def main() -> NoReturn:
    """Run the command line and exit the process with its exit code."""
    # Until a run installs its own handlers, a signal ends the process by its default action.
    # Python's handler would print a traceback, and click would exit with the code of a failure.
    for number in SIGNAL_ERRORS:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, exit_by_signal)
    # The sums of numpy are too small for one thread per core, and OpenBLAS sends this process a
    # SIGINT if it can't start a thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    replace_standard_streams()
    try:
        cli.main(prog_name=PROGRAM)
    except BatchLabelError as error:  # of a standard stream; commands handle their own
        exit_with_error(error)
    finally:
        # The process is about to exit; a last garbage collection would take 50 ms.
        gc.freeze()
    raise AssertionError("click exits the process")
