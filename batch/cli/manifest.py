"""The command ``manifest``: list photos in a Parquet file."""

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


@click.command("manifest", short_help="List photos in a Parquet file for later runs.")
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option("-o", "--output", required=True, metavar="FILE.parquet", help="The manifest.")
@search_options
@log_options
def manifest(
    photos: tuple[str, ...],
    output: str,
    log_format: str,
    quiet: bool,
    **search: Any,
) -> None:
    """List photos in a Parquet file that later runs take as PHOTOS.

    PHOTOS are as for labelling. The exit code is 3 if some files or folders could not be read.
    """
    log = open_log(sys.stderr, LogFormat(log_format), quiet)
    try:
        sys.exit(_run(photos, build_search_options(**search), output, log))
    except BatchLabelError as error:
        exit_with_logged_error(error, log)


def _run(photos: tuple[str, ...], search: Search, output: str, log: Log) -> ExitCode:
    from batch.discovery.discover import Discovery
    from batch.location import hide_secrets
    from batch.path_text import path_text
    from batch.reports.output import check_not_input
    from batch.tally import Tally

    if Path(output).suffix.lower() != ".parquet":
        raise UsageError(f"manifest {output!r} is not a .parquet file", "end its name in .parquet")
    if not photos:
        raise UsageError("nothing to list", "name PHOTOS")
    photos = tuple(map(hide_secrets, photos))
    tally = Tally()
    started = time.monotonic()
    check_not_input(output, "one of the inputs", *photos, kind="manifest")

    def files(check: StopCheck) -> Iterable[FoundFile]:
        listing = sys.stdin.buffer
        found = Discovery(photos, search, listing=listing, on_skip=tally.add_skipped, check=check)
        return _count_found(found, tally)

    _write(files, output)
    failed = tally.by_reason.total()
    code = ExitCode.INCOMPLETE if failed else ExitCode.OK
    unreadable = f", of which {failed} can't be read" if failed else ""
    log(
        Event.SUMMARY,
        f"{count_text(tally.found, 'file')} in {path_text(Path(output))}{unreadable}; "
        f"{tally.skipped_text()}; {time.monotonic() - started:.1f} s",
        Level.WARNING if failed else Level.INFO,
        found=tally.found,
        failed=failed,
        left_out=tally.skipped,
        exit_code=code,
    )
    return code


def _count_found(files: Iterable[FoundFile], tally: Tally) -> Iterator[FoundFile]:
    for file in files:
        tally.found += 1
        if file.failure:
            tally.by_reason[file.failure.reason] += 1
        yield file


def _write(find: Callable[[StopCheck], Iterable[FoundFile]], output: str) -> None:
    from batch.discovery.manifest import write_manifest
    from batch.files.lock import hold_lock
    from batch.os_errors import translate_write_errors
    from batch.reports.output import check_destination, describe_output, publish_output
    from batch.stopping import StopRequested, stop_on_signals

    check_destination(output)
    remedy = "no manifest was written; run the same command again"
    with stop_on_signals() as stop:
        try:
            files = find(stop.check)
        except StopRequested as request:
            raise stop.make_error(remedy) from request
        with hold_lock(output), publish_output(output, sys.stdout.buffer) as stream:
            with translate_write_errors(describe_output(output)):
                write_manifest(stop.take_until_signal(files), stream)
            if stop.stopped_early:
                raise stop.make_error(remedy)
