"""The command `diff`: options in, exit codes out."""

from __future__ import annotations

import sys

import click

from batch.cli.settings import exit_with_error
from batch.errors import BatchLabelError, ExitCode
from batch.log import escape_line

# As with diff(1): 1 says that there are differences, so what goes wrong must have another.
EXIT_DIFFERENT = 1
EXIT_TROUBLE = 2


@click.command("diff", short_help="Compare two reports.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="The list of changes: a .csv, .jsonl, .xlsx or .parquet file, or - for CSV on standard "
    "output (default).",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything changed, else with 0.")
def diff(old: str, new: str, output: str, exit_code: bool) -> None:
    """Compare two reports: which photos are new, gone, relabelled, failed or healed?

    OLD and NEW are reports of any format, datasets too. The list of what changed goes to standard
    output or to FILE, a summary to standard error. The exit code is 2 if they can't be compared.
    """
    from batch.reading import diff as comparing

    try:
        comparison = comparing.diff(old, new, output, sys.stdout.buffer)
    except BatchLabelError as error:
        exit_with_error(error, EXIT_TROUBLE)
    except KeyboardInterrupt:  # which click would make the 1 that means differences
        sys.exit(ExitCode.INTERRUPTED)
    for line in comparison.describe(old, new):
        # Labels are a report's, and may be anything.
        click.echo(escape_line(line), err=True)
    sys.exit(EXIT_DIFFERENT if exit_code and comparison.is_different else ExitCode.OK)
