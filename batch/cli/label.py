"""The command ``label``, the default command: label photos and write the report."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.default_command import DEFAULT_COMMAND
from batch.cli.options import (
    choice_options,
    cluster_options,
    file_options,
    journal_options,
    log_options,
    model_options,
    schedule_options,
    search_options,
    sidecar_options,
)
from batch.cli.settings import (
    add_default_journal,
    build_job,
    describe_hidden_models,
    exit_with_logged_error,
)
from batch.errors import BatchLabelError, ExitCode, UsageError
from batch.log import Event, Level, Log, LogFormat, count_text, open_log
from batch.options import DEFAULT_BATCH_SIZE, EngineKind, Job, JournalOptions, Provider

# Imports for a run are late, so that --help stays fast.
if TYPE_CHECKING:
    from batch.location import Location
    from batch.progress import Progress
    from batch.tally import Tally
    from batch.workers.process import LaunchedWorker

STDOUT = "-"


class LabelCommand(click.Command):
    """A command that writes a run record even if its command line is invalid."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        given = list(args)  # the parser consumes them
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            # Parse again, ignoring what is invalid, to find the paths of the record.
            lenient = {"resilient_parsing": True, "ignore_unknown_options": True}
            read = super().make_context(info_name, given, parent, **extra, **lenient).params
            problem = error.format_message().rstrip(".")
            _record_usage_error(UsageError(problem, "see batch-label --help"), **read)
            raise


@click.command(DEFAULT_COMMAND, cls=LabelCommand)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS...")
@click.option(
    "-o",
    "--output",
    default=STDOUT,
    metavar="FILE|DIR/|URL",
    help="The report: a .csv, .jsonl, .xlsx or .parquet file, or a folder for a Parquet dataset, "
    "each also in an object store; or - for CSV on standard output (default).",
)
@model_options
@search_options
@choice_options
@file_options
@journal_options
@cluster_options
@schedule_options
@sidecar_options
@log_options
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    metavar="N",
    help="Faces per call of the model.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Photos to label in parallel.  [default: number of cores]",
)
def label(dry_run: bool, quiet: bool, log_format: str, **given: Any) -> None:
    """Label photos and write the report (the default command)."""
    form = LogFormat(log_format)
    log = open_log(sys.stderr, form, quiet)
    try:
        try:
            job = build_job(**given)
        except UsageError as error:
            _record_usage_error(error, dry_run, **given)
            raise
        for warning in describe_hidden_models(given["model"]):
            log(Event.MODEL_HIDDEN, warning, Level.WARNING)
        if dry_run:
            _list_files(job, log)
            return
        sys.exit(_run(add_default_journal(job), log, quiet, form))
    except BatchLabelError as error:
        exit_with_logged_error(error, log)


def _record_usage_error(
    error: UsageError,
    dry_run: bool,
    photos: tuple[str, ...] | None,
    output: str | None,
    state: Path | None,
    metrics_file: Path | None,
    **_: Any,
) -> None:
    if dry_run:
        return
    from batch.run import record_refusal

    journal = JournalOptions(state=state)
    job = Job(photos or (), output or STDOUT, journal=journal, metrics_file=metrics_file)
    record_refusal(job, error, open_log(sys.stderr, LogFormat.TEXT))


def _list_files(job: Job, log: Log) -> None:
    from batch.discovery.discover import discover
    from batch.discovery.marker_files import check_marker_files
    from batch.path_text import path_text
    from batch.records import Failure
    from batch.tally import Tally

    tally = Tally()

    def skip(path: Location, why: str) -> None:
        tally.add_skipped(path, why)
        log(Event.LEFT_OUT, f"skipped: {path_text(path)} ({why})", path=path_text(path), why=why)

    check_marker_files(job.require_file, job.photos)
    files = discover(
        job.photos,
        job.options.search,
        listing=sys.stdin.buffer,
        on_skip=skip,
        shard=job.options.shard,
    )
    for found in files:
        tally.found += 1
        path = found.path if isinstance(found, Failure) else found
        # As bytes: paths are UTF-8 in any encoding of the terminal.
        click.echo(path_text(path).encode())
    log(
        Event.FOUND,
        f"{count_text(tally.found, 'file')} found, {tally.skipped_text()}",
        found=tally.found,
        left_out=tally.skipped,
    )


def _run(job: Job, log: Log, quiet: bool, form: LogFormat) -> ExitCode:
    with ExitStack() as stack:
        launched = _launch_early(job)
        if launched:
            stack.callback(launched.close)
        return _label(launched, job, log, quiet, form)


def _launch_early(job: Job) -> LaunchedWorker | None:
    """Start the first worker, so that it imports its packages while the run imports its own.

    Returns:
        The worker; None if the run has a journal and may have nothing to label, or if it labels
        on a GPU or a cluster.
    """
    from batch.inference.placement import has_nvidia_driver
    from batch.journal.path import find_journal_path
    from batch.workers.process import launch_early

    journal, provider = find_journal_path(job), job.options.provider
    if job.cluster.engine is not EngineKind.LOCAL:
        return None
    if journal is not None and os.path.lexists(journal) and not job.journal.fresh:
        return None
    if provider is Provider.CPU or (provider is Provider.AUTO and not has_nvidia_driver()):
        return launch_early(job.options.file_limits)
    return None


def _label(
    launched: LaunchedWorker | None, job: Job, log: Log, quiet: bool, form: LogFormat
) -> ExitCode:
    gc.disable()  # imports create no garbage worth collecting
    from batch.labelling import Terminal
    from batch.run import run

    gc.freeze()
    gc.enable()
    progress = _choose_progress(job.output, log, quiet, form)
    tally = run(job, Terminal(sys.stdin.buffer, sys.stdout.buffer, log, progress), launched)
    if tally.not_accepted:
        _log_failures(job, tally, log)
    level = Level.INFO if tally.exit_code is ExitCode.OK else Level.WARNING
    log(
        Event.SUMMARY,
        tally.summary_text(),
        level,
        found=tally.found,
        labelled_now=tally.labelled_now,
        reused=tally.reused,
        missing=tally.missing,
        gone=tally.gone,
        accepted=tally.accepted,
        by_status=tally.by_status,
        by_label=tally.by_label,
        reviewed=tally.reviewed,
        exit_code=tally.exit_code,
    )
    return tally.exit_code


def _log_failures(job: Job, tally: Tally, log: Log) -> None:
    from batch.journal.path import find_journal_path
    from batch.location import parse_location
    from batch.path_text import path_text, printable_text

    failed = tally.not_accepted.total()
    report = "the report" if job.output == STDOUT else path_text(parse_location(job.output))
    accept = "" if find_journal_path(job) is None else ", or run once with --accept-failures"
    log(
        Event.FAILURES,
        f"{count_text(failed, 'file')} failed: {tally.describe_failures()}; {report} has all of "
        f"them, with the status failed; repair the files or their permissions{accept}",
        Level.WARNING,
        failed=failed,
        accepted=tally.accepted,
        files=[
            {"path": path_text(f.path), "reason": f.reason, "detail": printable_text(f.detail)}
            for f in tally.failures
        ],
    )


def _choose_progress(output: str, log: Log, quiet: bool, form: LogFormat) -> Progress:
    from batch.progress import NoProgress, ProgressLog, TerminalProgress

    if quiet or (output == STDOUT and sys.stdout.isatty()):
        return NoProgress()
    if form is LogFormat.TEXT and sys.stderr is not None and sys.stderr.isatty():
        return TerminalProgress(sys.stderr)
    return ProgressLog(log)
