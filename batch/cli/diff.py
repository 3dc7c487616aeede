"""The command ``diff``: compare two reports."""

from __future__ import annotations

import sys

import click

from batch.cli.settings import exit_with_error
from batch.errors import BatchLabelError, ExitCode
from batch.log import escape_line

# As in diff(1): 1 means that there are differences, and errors have a code of their own.
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
    """Compare two reports: list photos that are new, gone, moved or have another label.

    OLD and NEW are reports in any format, including datasets. The list of changes goes to standard
    output or to FILE, a summary to standard error. The exit code is 2 if the reports can't be
    compared.
    """
    from batch.reading.diff import diff as compare_reports

    try:
        comparison = compare_reports(old, new, output, sys.stdout.buffer)
    except BatchLabelError as error:
        exit_with_error(error, EXIT_TROUBLE)
    except KeyboardInterrupt:  # click would exit with 1, which means differences
        sys.exit(ExitCode.INTERRUPTED)
    for line in comparison.describe(old, new):
        # Labels from a report may contain control characters.
        click.echo(escape_line(line), err=True)
    sys.exit(EXIT_DIFFERENT if exit_code and comparison.is_different else ExitCode.OK)
