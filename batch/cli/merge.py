"""The command ``merge``: join the reports of all shards."""

from __future__ import annotations

import sys
import time

import click

from batch.cli.options import log_options
from batch.cli.settings import exit_with_logged_error, find_url_reviews
from batch.errors import BatchLabelError, ExitCode
from batch.log import Event, Level, LogFormat, count_text, open_log


@click.command("merge", short_help="Join the reports of all shards.")
@click.argument("parts", nargs=-1, required=True, metavar="PARTS...")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE|DIR/",
    help="The report: a .csv, .jsonl, .xlsx or .parquet file, a folder for a Parquet dataset, or "
    "- for CSV on standard output (default).",
)
@click.option(
    "--manifest",
    metavar="FILE.parquet",
    help="The manifest that was labelled. Every path is compared with it, and parts need no run "
    "record.",
)
@log_options
def merge(
    parts: tuple[str, ...], output: str, manifest: str | None, log_format: str, quiet: bool
) -> None:
    """Join the reports of all shards into the report of a single run.

    PARTS are the reports of runs with --shard, in any format and order, including datasets. The
    exit code is that of a single run: 3 if some files could not be read.
    """
    from batch.merging.merge import MergeJob
    from batch.merging.merge import merge as merge_reports
    from batch.stopping import stop_on_signals

    log = open_log(sys.stderr, LogFormat(log_format), quiet)
    started = time.monotonic()
    try:
        with stop_on_signals() as stop:
            job = MergeJob(parts, output, manifest, find_url_reviews(output))
            tally = merge_reports(job, sys.stdout.buffer, stop)
    except BatchLabelError as error:
        exit_with_logged_error(error, log)
    missing = f"; {tally.missing} missing" if tally.missing else ""
    reviewed = f"; {tally.reviewed:,} reviewed" if tally.reviewed else ""
    if tally.unmatched_reviews:
        reviewed += f"; {count_text(tally.unmatched_reviews, 'review')} of no row"
    log(
        Event.SUMMARY,
        f"{tally.counts_text()}{missing}{reviewed}; joined from "
        f"{count_text(len(parts), 'part')} in {time.monotonic() - started:.1f} s",
        Level.INFO if tally.exit_code is ExitCode.OK else Level.WARNING,
        found=tally.found,
        by_status=tally.by_status,
        by_label=tally.by_label,
        reviewed=tally.reviewed,
        exit_code=tally.exit_code,
    )
    sys.exit(tally.exit_code)
