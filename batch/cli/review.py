"""The command ``review``: apply people's answers to a report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batch.cli.options import FILE
from batch.cli.settings import announce_wait, exit_with_error, find_url_reviews
from batch.errors import BatchLabelError
from batch.location import hide_secrets, parse_location
from batch.log import count_text, escape_line
from batch.path_text import path_text


@click.group("review", short_help="Apply people's answers to a report.")
def review() -> None:
    """Apply people's answers, which the page of a report saves as review.csv."""


@review.command("apply", short_help="Override the answers of a report by reviews.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="REVIEW.csv...")
@click.argument("report", metavar="REPORT")
@click.option("--wait", is_flag=True, help="Wait for a run that is writing the report to end.")
def apply(files: tuple[Path, ...], report: str, wait: bool) -> None:
    """Override the answers of a report by reviews, in this and all later reports.

    The answers are added to the reviews file beside the report, REPORT.reviews.csv, and the report
    is written again with all of them. Later runs apply them too, wherever the photos move, until a
    run with --forget-reviews. If files answer for the same photo, the last one counts.
    """
    from batch.reviewing.apply_reviews import ReviewJob, apply_reviews, lacks_labels
    from batch.reviewing.corrections import RENAMED_REMEDY
    from batch.stopping import stop_on_signals

    try:
        with stop_on_signals() as stop:
            job = ReviewJob(files, hide_secrets(report), find_url_reviews(report))
            on_wait = stop.make_waiter("nothing was changed", announce_wait) if wait else None
            applied = apply_reviews(job, sys.stdout.buffer, stop, on_wait)
    except BatchLabelError as error:
        exit_with_error(error)
    counts = [f"{number:,} {addition}" for addition, number in applied.additions.items()]
    counts += [f"{number:,} unusable ({why})" for why, number in applied.unusable.items()]
    file, rows = path_text(applied.reviews), count_text(applied.rows, "row")
    name = path_text(parse_location(report))
    lines = [
        f"{file}: {count_text(applied.total, 'review')}, now {', '.join(counts) or 'none'}",
        f"{name}: {rows} with a person's answer; {applied.summary}",
    ]
    if lacks_labels(applied.unusable):
        lines.append(RENAMED_REMEDY)
    if applied.accuracy:
        lines.append(f"random sample: the model had {applied.accuracy.describe()}")
    for line in lines:
        click.echo(escape_line(line), err=True)
