"""Sidecars for the photos of a run that has just published its report."""

from __future__ import annotations

import io
from pathlib import Path

from batch.applying.apply_report import apply_report
from batch.applying.job import ApplyJob
from batch.applying.sidecar_action import check_sidecar_options
from batch.applying.summary import Summary
from batch.errors import BatchLabelError, Interrupted, PublishedOnly, TimeLimitReached, UsageError
from batch.files.publish import is_streamed
from batch.log import Event, Level, Log
from batch.options import Job
from batch.reports.formats import READABLE_FORMATS, Format
from batch.reports.report import report_format
from batch.stopping import Stop


def check_sidecars(job: Job) -> None:
    """Check that sidecars can be written after a run.

    Raises:
        UsageError: the report can't be read back, or lxml is not installed.
    """
    check_sidecar_options(job.sidecars)
    if is_streamed(job.output) or report_format(job.output) not in READABLE_FORMATS:
        names = ", ".join(form for form in Format if form in READABLE_FORMATS)
        raise UsageError(
            "--xmp needs a report that can be read back", f"name one with -o: {names} or a dataset"
        )


def write_sidecars(job: Job, log: Log, stop: Stop) -> None:
    """Write the labels of the published report into sidecars, as ``apply --xmp --prune`` does.

    Photos are not read: the run has just read them, or found them unchanged.

    Args:
        job: the run.
        log: the log.
        stop: requests to stop.

    Raises:
        PublishedOnly: a sidecar can't be written.
        Interrupted: a signal stopped the work.
        TimeLimitReached: the time limit of the run was reached.
    """
    state = job.journal.state
    apply_job = ApplyJob(
        report=job.output,
        state_folder=Path() if state is None else state.parent,
        sidecars=job.sidecars,
        prune=True,
        execute=True,
        follows_run=True,
    )
    text = "another process applies this report: waiting for it to end"
    on_wait = stop.make_waiter(
        "no sidecar was written; run it again", lambda: log(Event.WAITING, text)
    )
    try:
        summary = apply_report(apply_job, io.BytesIO(), stop, on_wait if job.wait else None)
    except (Interrupted, TimeLimitReached):
        raise
    except BatchLabelError as error:
        raise PublishedOnly(
            f"the report {job.output} is published, but its sidecars can't be written "
            f"({error.problem})",
            error.remedy,
        ) from error
    _log_summary(summary, log)
    if summary.failed:
        raise PublishedOnly(
            f"the report {job.output} is published, but {summary.describe_failures()}",
            "fix this, then run the same command again: no photo is labelled again",
        )


def _log_summary(summary: Summary, log: Log) -> None:
    counts = {verb: summary.count(verb) for verb in ("write", "clear")}
    if not summary.photos:  # the report was applied before
        return
    skipped = "".join(f"; {n:,} {why}" for why, n in summary.skipped.most_common())
    log(
        Event.SIDECARS,
        f"sidecars: {counts['write']:,} written, labels removed from {counts['clear']:,}, "
        f"{summary.unchanged:,} done already{skipped}",
        Level.WARNING if summary.failed else Level.INFO,
        written=counts["write"],
        cleared=counts["clear"],
        unchanged=summary.unchanged,
        skipped=summary.skipped,
        failed=summary.failed.total(),
    )
