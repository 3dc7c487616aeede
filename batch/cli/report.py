"""The command `report`: a page of a report to look at, and to put its answers right."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batch.cli.options import FILE
from batch.cli.settings import exit_with_error
from batch.errors import BatchLabelError, ExitCode
from batch.log import count_text, escape_line

DEFAULT_GALLERY = 500
MAX_GALLERY = 5_000


@click.command("report", short_help="Make a page of a report, to look at and to correct.")
@click.argument("report", type=FILE, metavar="REPORT")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The page: a .html file, or - for standard output.  [default: REPORT's name with .html]",
)
@click.option(
    "--previous",
    type=FILE,
    multiple=True,
    metavar="OLD",
    help="An earlier report, to show what changed; may be given more than once.",
)
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    metavar="DIR",
    help="Where the report's relative paths begin.  [default: this folder]",
)
@click.option(
    "--gallery",
    type=click.IntRange(0, MAX_GALLERY),
    default=DEFAULT_GALLERY,
    show_default=True,
    metavar="N",
    help="Photos with a picture in the page, the least certain first.",
)
def report(
    report: Path, output: str | None, previous: tuple[Path, ...], photos: Path, gallery: int
) -> None:
    """Make a page of a report: its photos, figures and changes, and a way to correct it.

    REPORT is a file of any format, or the folder of a dataset. The page is one HTML file that
    works in any browser without a network. What you put right in it can be downloaded as
    review.csv.
    """
    from batch.page.make import PageJob, make_page

    if not report.name.strip("."):  # a dataset may be named by a dot, and its page is beside it
        report = report.resolve()
    page = str(report.with_suffix(".html")) if output is None else output
    try:
        made = make_page(PageJob(report, page, photos, gallery, previous), sys.stdout.buffer)
    except BatchLabelError as error:
        exit_with_error(error)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    rows = f"{'' if made.rows == made.of else f'{made.rows:,} of '}{count_text(made.of, 'row')}"
    said = f"{page}: {rows}, {count_text(made.pictures, 'picture')}, {made.size / 1e6:.1f} MB"
    click.echo(escape_line(said), err=True)
    if made.gone:
        click.echo(
            f"{count_text(made.gone, 'photo')} not found: --photos says where to look", err=True
        )
