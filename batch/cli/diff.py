"""The command ``diff``: compare two reports."""

from __future__ import annotations

import sys

import click

from batch.cli.settings import exit_with_error
from batch.errors import BatchLabelError, ExitCode, UsageError
from batch.log import escape_line

# As in diff(1): 1 means that there are differences, and errors have a code of their own.
EXIT_DIFFERENT = 1
EXIT_TROUBLE = 2


@click.command("diff", short_help="Compare two reports.")
@click.argument("reports", nargs=-1, required=True, metavar="[OLD] NEW")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="The list of changes: a .csv, .jsonl, .xlsx or .parquet file, or - for CSV on standard "
    "output (default).",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything changed, else with 0.")
def diff(reports: tuple[str, ...], output: str, exit_code: bool) -> None:
    """Compare two reports: list photos that are new, gone, moved or have another label.

    OLD and NEW are reports in any format, including datasets. Without OLD it is the last report
    before NEW in the folder NEW.history, which --keep of a run makes. The list of changes goes to
    standard output or to FILE, a summary to standard error. The exit code is 2 if the reports can't
    be compared.
    """
    from batch.reading.diff import diff as compare_reports

    if len(reports) > 2:
        raise click.UsageError(f"{len(reports)} reports are given, and two are compared.")
    try:
        new = reports[-1]
        old = reports[0] if len(reports) == 2 else _find_old(new)
        comparison = compare_reports(old, new, output, sys.stdout.buffer)
    except BatchLabelError as error:
        exit_with_error(error, EXIT_TROUBLE)
    except KeyboardInterrupt:  # click would exit with 1, which means differences
        sys.exit(ExitCode.INTERRUPTED)
    for line in comparison.describe(old, new):
        # Labels from a report may contain control characters.
        click.echo(escape_line(line), err=True)
    sys.exit(EXIT_DIFFERENT if exit_code and comparison.is_different else ExitCode.OK)


def _find_old(new: str) -> str:
    """Find the last report before ``new`` in its history folder.

    Raises:
        UsageError: it is at a URL, or its history folder has none.
        ReportError: the folder can't be read.
    """
    from batch.location import Url, parse_location
    from batch.path_text import path_text
    from batch.recording.retention import find_history_folder, list_earlier, list_kept
    from batch.reports.readers import translate_read_errors

    report = parse_location(new)
    if isinstance(report, Url):
        raise UsageError(f"report {report} is at a URL, which has no history", "give two reports")
    folder = path_text(find_history_folder(report))
    with translate_read_errors(f"history {folder}"):
        earlier = list_earlier(report)
        is_first = not earlier and bool(list_kept(report))
    if is_first:
        raise UsageError(
            f"{path_text(report)} is the first report that {folder} keeps, so there is none before "
            "it, and a run that changes nothing keeps none",
            "run with --keep again after photos or answers have changed, or give two reports",
        )
    if not earlier:
        raise UsageError(
            f"{folder} has no report before {path_text(report)}",
            "give two reports, or label with --keep first",
        )
    return str(earlier[-1])
