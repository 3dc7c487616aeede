"""The command ``apply``: do something with the photos whose rows match."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.cli.options import FILE, RealRange, photos_option, sidecar_options
from batch.cli.settings import (
    announce_wait,
    build_sidecar_options,
    exit_with_error,
    find_state_folder,
)
from batch.errors import BatchLabelError, UsageError
from batch.location import Url, hide_secrets, parse_location
from batch.log import PROGRAM, escape_line
from batch.records import Status

if TYPE_CHECKING:
    from batch.applying.job import ApplyJob
    from batch.applying.summary import Summary

LINKS = ("symbolic", "hard", "reflink")


@click.command("apply", short_help="Copy, link, move or list photos by label; write sidecars.")
@click.argument("report", metavar="REPORT")
@click.option(
    "--label", "labels", multiple=True, metavar="L", help="Only photos with this label; repeatable."
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in Status]),
    multiple=True,
    default=(Status.OK.value,),
    show_default=True,
    help="Only photos with this status; repeatable.",
)
@click.option(
    "--min-confidence",
    type=RealRange(0, 1),
    metavar="P",
    help="Only photos with at least this confidence.",
)
@click.option(
    "--where",
    metavar="EXPR",
    help="Only photos for which an SQL expression over the report's columns is true.",
)
@click.option("--copy-to", type=FILE, metavar="DIR", help="Copy photos to a folder per label.")
@click.option("--link-to", type=FILE, metavar="DIR", help="Link photos in a folder per label.")
@click.option(
    "--link",
    type=click.Choice(LINKS),
    default=LINKS[0],
    show_default=True,
    help="Kind of link; reflink: a copy that shares its blocks with the photo.",
)
@click.option("--move-to", type=FILE, metavar="DIR", help="Move photos to a folder per label.")
@click.option(
    "--tree/--flat",
    default=True,
    help="Keep the sub-folders of photos (default), or put all photos of a label in one folder.",
)
@sidecar_options
@click.option(
    "--list",
    "list_to",
    metavar="FILE",
    help="Write the paths of photos to a file, or - for standard output, which needs no --yes.",
)
@click.option("--null", is_flag=True, help="End each path in the list with NUL, not a newline.")
@photos_option
@click.option(
    "--prune",
    is_flag=True,
    help="Also remove copies, links and keywords of photos that do not match any more.",
)
@click.option("--undo", is_flag=True, help="Undo the last run that is not undone.")
@click.option("--yes", is_flag=True, help="Do it; without this, only say what would be done.")
@click.option("--wait", is_flag=True, help="Wait until no other process applies the report.")
def apply(
    report: str,
    labels: tuple[str, ...],
    statuses: tuple[str, ...],
    min_confidence: float | None,
    where: str | None,
    copy_to: Path | None,
    link_to: Path | None,
    link: str,
    move_to: Path | None,
    tree: bool,
    list_to: str | None,
    null: bool,
    photos: Path,
    prune: bool,
    undo: bool,
    yes: bool,
    wait: bool,
    xmp: bool,
    sidecar_name: str,
    keyword_root: str,
    faces: bool,
) -> None:
    """Do something with the photos whose rows match: copy, link, move or list them, write sidecars.

    REPORT is a report in any format but .xlsx, including datasets. A photo is skipped if its bytes
    are not those that were labelled. Without --yes nothing is changed. The exit code is 3 if
    something failed for a photo.
    """
    from batch.applying.job import ApplyJob
    from batch.applying.selection import Selection
    from batch.applying.transfer import How

    try:
        sidecars = build_sidecar_options(xmp, sidecar_name, keyword_root, faces)
        job = ApplyJob(
            report=hide_secrets(report),
            state_folder=_find_state_folder(report),
            photos=photos,
            selection=Selection(labels, statuses, min_confidence, where),
            copy_to=copy_to,
            move_to=move_to,
            link_to=link_to,
            link=How(link),
            flat=not tree,
            sidecars=sidecars if xmp else None,
            list_to=list_to,
            null=null,
            prune=prune,
            execute=yes,
        )
        has_action = any((copy_to, link_to, move_to, xmp, list_to))
        if undo == has_action:
            raise UsageError(
                "--undo goes with no action" if undo else "nothing is to be done with the photos",
                "give --undo and --yes only"
                if undo
                else "add --copy-to, --link-to, --move-to, --xmp or --list",
            )
        summary = _run(job, undo, wait)
    except BatchLabelError as error:
        exit_with_error(error)
    for line in summary.describe():
        click.echo(escape_line(line), err=True)
    if summary.dry_run and summary.done and (undo or copy_to or link_to or move_to or xmp):
        click.echo("nothing was changed: run it again with --yes", err=True)
    elif summary.dry_run and list_to not in (None, "-"):
        click.echo("no list was written: run it again with --yes", err=True)
    sys.exit(summary.exit_code)


def _run(job: ApplyJob, undo: bool, wait: bool) -> Summary:
    from batch.applying.apply_report import apply_report
    from batch.applying.undoing import undo_last
    from batch.stopping import stop_on_signals

    with stop_on_signals() as stop:
        on_wait = stop.make_waiter("nothing was changed", announce_wait) if wait else None
        if undo:
            return undo_last(job, stop, on_wait)
        return apply_report(job, sys.stdout.buffer, stop, on_wait)


def _find_state_folder(report: str) -> Path:
    """Return the folder for what is done with a report at a URL."""
    if isinstance(parse_location(report), Url):
        return find_state_folder() / PROGRAM
    return Path()
