"""The command `merge`: options in, exit codes out."""

from __future__ import annotations

import sys
import time

import click

from batch.cli.options import log_options
from batch.cli.settings import fail_in_log
from batch.errors import BatchLabelError, ExitCode
from batch.log import Event, Level, LogFormat, counted, open_log


@click.command("merge", short_help="Join the reports of all shards.")
@click.argument("parts", nargs=-1, required=True, metavar="PARTS...")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE|DIR/",
    help="The report: a .csv, .jsonl, .xlsx or .parquet file, a folder for a dataset in Parquet, "
    "or - for CSV on standard output (default).",
)
@click.option(
    "--manifest",
    metavar="FILE.parquet",
    help="The manifest that was labelled: every path is compared with it, and parts need no "
    "record of their run.",
)
@log_options
def merge(
    parts: tuple[str, ...], output: str, manifest: str | None, log_format: str, quiet: bool
) -> None:
    """Join the reports of all shards into the one that a single run would have written.

    PARTS are the reports of runs with --shard, in any formats and any order, datasets too. The
    exit code is that of such a run: 3 if some files could not be read.
    """
    from batch.merging.merge import MergeJob
    from batch.merging.merge import merge as join
    from batch.stopping import stop_on_signals

    log = open_log(sys.stderr, LogFormat(log_format), quiet)
    started = time.monotonic()
    try:
        with stop_on_signals() as stop:
            summary = join(MergeJob(parts, output, manifest), sys.stdout.buffer, stop)
    except BatchLabelError as error:
        fail_in_log(error, log)
    missing = f"; {summary.missing} missing" if summary.missing else ""
    log(
        Event.SUMMARY,
        f"{summary.sums()}{missing}; joined from {counted(len(parts), 'part')} in "
        f"{time.monotonic() - started:.1f} s",
        Level.INFO if summary.exit_code is ExitCode.OK else Level.WARNING,
        found=summary.found,
        by_status=summary.by_status,
        by_label=summary.by_label,
        exit_code=summary.exit_code,
    )
    sys.exit(summary.exit_code)
