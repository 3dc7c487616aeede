"""The command `manifest`: options in, exit codes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.options import log_options, search_options
from batch.cli.settings import build_search_options, exit_with_logged_error
from batch.errors import BatchLabelError, ExitCode, UsageError
from batch.found import FoundFile
from batch.log import Event, Level, Log, LogFormat, count_text, open_log
from batch.options import Search
from batch.stopping import StopCheck

if TYPE_CHECKING:
    from batch.tally import Tally


@click.command("manifest", short_help="List photos once and for all, for later runs.")
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option("-o", "--output", required=True, metavar="FILE.parquet", help="The manifest.")
@search_options
@click.option(
    "--inventory",
    metavar="MANIFEST.json",
    help="List the bucket that this S3 inventory is of, and no PHOTOS: a path or a URL.",
)
@log_options
def manifest(
    photos: tuple[str, ...],
    output: str,
    inventory: str | None,
    log_format: str,
    quiet: bool,
    **search: Any,
) -> None:
    """List photos once and for all, in a Parquet file that is PHOTOS to later runs.

    PHOTOS are as for labelling. The exit code is 3 if some could not be looked at.
    """
    log = open_log(sys.stderr, LogFormat(log_format), quiet)
    try:
        sys.exit(_run(photos, inventory, build_search_options(**search), output, log))
    except BatchLabelError as error:
        exit_with_logged_error(error, log)


def _run(
    photos: tuple[str, ...], inventory: str | None, search: Search, output: str, log: Log
) -> ExitCode:
    from batch.location import hide_secrets
    from batch.path_text import path_text
    from batch.reports.output import check_not_input
    from batch.tally import Tally

    if Path(output).suffix.lower() != ".parquet":
        raise UsageError(f"manifest {output!r} is no .parquet file", "end its name in .parquet")
    photos, inventory = tuple(map(hide_secrets, photos)), inventory and hide_secrets(inventory)
    tally = Tally()
    started = time.monotonic()
    check_not_input(output, "one of the files to list from", *photos, *filter(None, (inventory,)))

    def files(check: StopCheck) -> Iterable[FoundFile]:
        return _count_found(_find_files(photos, inventory, search, tally, check), tally)

    _write(files, output)
    failed = tally.by_reason.total()
    code = ExitCode.INCOMPLETE if failed else ExitCode.OK
    refused = f", of which {failed} can't be looked at" if failed else ""
    log(
        Event.SUMMARY,
        f"{count_text(tally.found, 'file')} in {path_text(Path(output))}{refused}; "
        f"{tally.skipped_text()}; {time.monotonic() - started:.1f} s",
        Level.WARNING if failed else Level.INFO,
        found=tally.found,
        failed=failed,
        left_out=tally.skipped,
        exit_code=code,
    )
    return code


def _find_files(
    photos: tuple[str, ...],
    inventory: str | None,
    search: Search,
    tally: Tally,
    check: StopCheck,
) -> Iterable[FoundFile]:
    from batch.discovery.discover import Discovery
    from batch.discovery.inventory import Inventory

    if inventory is None:
        if not photos:
            raise UsageError("there is nothing to list", "name PHOTOS, or an --inventory")
        listing = sys.stdin.buffer
        return Discovery(photos, search, listing=listing, on_skip=tally.add_skipped, check=check)
    if photos or not search.recursive or search.follow_symlinks:
        raise UsageError(
            "an inventory lists a bucket as a whole",
            "leave out PHOTOS, --no-recursive and --follow-symlinks",
        )
    return Inventory(inventory).files(search, tally.add_skipped, check)


def _count_found(files: Iterable[FoundFile], tally: Tally) -> Iterator[FoundFile]:
    for file in files:
        tally.found += 1
        if file.failure:
            tally.by_reason[file.failure.reason] += 1
        yield file


def _write(find: Callable[[StopCheck], Iterable[FoundFile]], output: str) -> None:
    from batch.discovery.manifest import write_manifest
    from batch.files.lock import hold_lock
    from batch.files.publish import translate_write_errors
    from batch.reports.output import check_destination, describe_output, publish_output
    from batch.stopping import StopRequested, stop_on_signals

    check_destination(output)
    kept = "no manifest was written: run the same command again"
    with stop_on_signals() as stop:
        try:
            files = find(stop.check)
        except StopRequested as request:
            raise stop.make_error(kept) from request
        with hold_lock(output), publish_output(output, sys.stdout.buffer) as stream:
            with translate_write_errors(describe_output(output)):
                write_manifest(stop.take_until_signal(files), stream)
            if stop.stopped_early:
                raise stop.make_error(kept)
