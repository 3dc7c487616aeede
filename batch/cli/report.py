"""The command ``report``: make an HTML page to review a report."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batch.cli.options import FILE, photos_option
from batch.cli.settings import exit_with_error
from batch.errors import BatchLabelError, ExitCode
from batch.log import count_text, escape_line

DEFAULT_GALLERY = 500
MAX_GALLERY = 5_000


@click.command("report", short_help="Make an HTML page to review a report.")
@click.argument("report", type=FILE, metavar="REPORT")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The page: a .html file, or - for standard output.  [default: REPORT with .html]",
)
@click.option(
    "--previous",
    type=FILE,
    multiple=True,
    metavar="OLD",
    help="An earlier report, to show what changed; repeatable.  [default: the last reports in the "
    "folder REPORT.history, which --keep of a run makes]",
)
@photos_option
@click.option(
    "--gallery",
    type=click.IntRange(0, MAX_GALLERY),
    default=DEFAULT_GALLERY,
    show_default=True,
    metavar="N",
    help="Photos with a thumbnail in the page: the random sample to review, then reviewed ones, up "
    "to half of the rest, then the least certain.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print warnings and errors only.")
def report(
    report: Path,
    output: str | None,
    previous: tuple[Path, ...],
    photos: Path,
    gallery: int,
    quiet: bool,
) -> None:
    """Make an HTML page to review a report: its photos, plots and changes.

    REPORT is a file in any format or the folder of a dataset. The page is one HTML file that works
    in any browser without a network. Corrections made in the page are downloaded as review.csv.
    """
    from batch.page.make import PageJob, make_page

    if not report.name.strip("."):  # "." and ".." have no name to derive that of the page from
        report = report.resolve()
    page = str(report.with_suffix(".html")) if output is None else output
    try:
        made = make_page(PageJob(report, page, photos, gallery, previous), sys.stdout.buffer)
    except BatchLabelError as error:
        exit_with_error(error)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    rows = count_text(made.report_rows, "row")
    if made.rows != made.report_rows:
        rows = f"{made.rows:,} of {rows}"
    pictures = count_text(made.pictures, "picture")
    lines = [f"{page}: {rows}, {pictures}, {made.size / 1e6:.1f} MB", made.history]
    lines = [line for line in lines if line and not quiet]
    for line in (*lines, *(f"not shown: {problem}" for problem in made.skipped)):
        click.echo(escape_line(line), err=True)
    if made.gone:
        click.echo(
            f"{count_text(made.gone, 'photo')} not found; set their base folder with --photos",
            err=True,
        )
