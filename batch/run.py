"""One run of the command, from a job to the published report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import BinaryIO

from batch.discovery.discover import Discovery
from batch.discovery.marker_files import check_marker_files
from batch.discovery.path_list import STDIN_LIST
from batch.engines.engine import Engine, open_engine
from batch.errors import BatchLabelError, OutputError, UsageError, WorkerError
from batch.files.lock import hold_lock, lock_path
from batch.files.publish import is_streamed, resolve_path
from batch.journal.missing import InputCoverage
from batch.journal.path import find_journal_path
from batch.journal.sqlite_errors import COMPANION_SUFFIXES, STATE_REMEDY
from batch.labelling import RESUME_HINT, LabellingRun, Terminal
from batch.limits import RunTimer
from batch.location import Url, parse_location
from batch.log import Event, Log
from batch.options import Job
from batch.path_text import path_text
from batch.recording.metrics import metrics_file
from batch.recording.recorder import Recorder
from batch.recording.retention import check_history_names, find_history_folder
from batch.recording.run_record import local_record_file
from batch.reports.output import check_not_input
from batch.reports.report import check_output, check_output_name
from batch.reviewing.reviews_file import find_reviews_path
from batch.reviewing.run_reviews import read_run_reviews
from batch.shard import ShardedFiles
from batch.stopping import Stop, stop_on_signals
from batch.tally import Tally
from batch.workers.process import LaunchedWorker


def run(job: Job, terminal: Terminal, launched: LaunchedWorker | None = None) -> Tally:
    """Label photos and publish the report.

    Args:
        job: what to label, and how.
        terminal: the streams of the run.
        launched: the first worker, if it was started early.

    Returns:
        The number of files by outcome.

    Raises:
        BatchLabelError: the run can't go on, or a signal or time limit stopped it. An earlier
            report stays as it was.
    """
    with (
        stop_on_signals(RunTimer(job.limits)) as stop,
        ExitStack() as locks,  # released after the recorder has written
        Recorder(job, terminal.log) as recorder,
        _translate_memory_errors(),
        stop.translate_stop(RESUME_HINT),
    ):
        _check_destinations(job, terminal.listing, stop, recorder)
        check_marker_files(job.require_file, job.photos)
        coverage = _find_inputs(job, terminal, stop, recorder)
        _take_locks(job, stop, terminal.log, locks)
        reviews = read_run_reviews(job)
        started = time.monotonic()
        with closing(open_engine(job, stop, terminal.log, launched)) as engine:
            recorder.engine = engine
            provider = engine.device.provider
            terminal.log(Event.OPENED, _describe_engine(engine), provider=provider)
            labelling = LabellingRun(job, terminal, stop, recorder, engine, coverage, reviews)
            labelling.run(recorder.sharded or coverage)
        if job.xmp:
            from batch.applying.after_run import write_sidecars  # late: most runs write none

            write_sidecars(job, terminal.log, stop)
        recorder.tally.seconds = time.monotonic() - started
    return recorder.tally


def record_refusal(job: Job, error: UsageError, log: Log) -> None:
    """Record that a command line was refused, if its destinations can be written.

    ``job`` has the options that could be read.
    """
    with suppress(BatchLabelError), stop_on_signals() as stop, Recorder(job, log) as recorder:
        recorder.settings = {}
        _check_destinations(job, BytesIO(), stop, recorder)
        raise error


def _check_destinations(job: Job, listing: BinaryIO, stop: Stop, recorder: Recorder) -> None:
    """Check that all files of the run differ and can be written, the cheap checks first.

    Raises:
        UsageError, OutputError: one of them can't be written. The recorder still writes the records
            that can be written.
    """
    check_output_name(job.output)
    if job.xmp:
        from batch.applying.after_run import check_sidecars

        check_sidecars(job)
    _check_distinct_files(job, listing)
    refusal: OutputError | None = None
    try:
        if job.metrics_file is not None:
            metrics_file(job.metrics_file).check()
        recorder.has_metrics = True
    except OutputError as error:  # raised below, so that run.json has it
        refusal = error
    check_output(job.output, stop.check)
    check_not_input(job.output, "an input", *job.photos)
    report = parse_location(job.output)
    if job.keep is not None and isinstance(report, Path):
        check_history_names(report)
    recorder.has_destination = True
    if refusal:
        raise refusal


def _check_distinct_files(job: Job, listing: BinaryIO) -> None:
    """Check that the files of a run have different names, and none is the list of inputs.

    Raises:
        UsageError: two have the same name, or one is the list of inputs.
    """
    paths: dict[str, Path | None] = {
        "the journal": find_journal_path(job),
        "the metrics file": resolve_path(job.metrics_file) if job.metrics_file else None,
        "the reviews file": find_reviews_path(job.output, job.reviews),
    }
    if journal := paths["the journal"]:
        paths |= {
            f"the journal's {suffix} file": journal.with_name(journal.name + suffix)
            for suffix in COMPANION_SUFFIXES
        }
    report = parse_location(job.output)
    if isinstance(report, Path) and not is_streamed(job.output):
        report = resolve_path(report)
        paths |= {
            "the report": report,
            "its record": local_record_file(report).path,
            "its lock": lock_path(report),
        }
        if job.keep is not None:
            paths["its history"] = find_history_folder(report)
    named = {noun: path for noun, path in paths.items() if path is not None}
    for (one, path), (other, again) in combinations(named.items(), 2):
        if path == again:
            raise UsageError(
                f"{one} and {other} would be the same file, {path_text(path)}",
                "give each a different name",
            )
    with suppress(OSError, ValueError):  # no list, or one in memory
        status = os.fstat(listing.fileno()) if STDIN_LIST in job.photos else None
        for noun, path in named.items():
            if status and path.exists() and os.path.samestat(status, path.stat()):
                raise UsageError(
                    f"{noun} {path_text(path)} is the list of inputs", "choose another file"
                )


def _find_inputs(job: Job, terminal: Terminal, stop: Stop, recorder: Recorder) -> InputCoverage:
    """Resolve the inputs; their files are listed only when the result is iterated over."""
    discovery = Discovery(
        job.photos,
        job.options.search,
        listing=terminal.listing,
        on_skip=lambda path, why: recorder.tally.add_skipped(path, why),
        check=stop.check,
    )
    coverage = InputCoverage(discovery, job.photos)
    if job.options.shard:
        recorder.sharded = ShardedFiles(coverage, job.options.shard)
    return coverage


def _take_locks(job: Job, stop: Stop, log: Log, locks: ExitStack) -> None:
    """Lock the report and the journal for this run, or wait for another run with ``--wait``."""
    text = "another run is writing this report: waiting for it to end"
    on_wait = stop.make_waiter("no work was started", lambda: log(Event.WAITING, text))
    wait = on_wait if job.wait else None
    report = job.output if isinstance(parse_location(job.output), Url) else None
    locks.enter_context(hold_lock(job.output, wait, report))
    if job.journal.state:
        state = str(job.journal.state)
        if report:  # a report at a URL is locked only through its journal
            locks.enter_context(hold_lock(state, wait, report))
        else:
            locks.enter_context(hold_lock(state, wait, None, "journal", STATE_REMEDY))


def _describe_engine(engine: Engine) -> str:
    note = f" ({engine.provider_note})" if engine.provider_note else ""
    models, provider = engine.ensemble.describe(), engine.device.provider.value
    return f"{models} on {provider}{note}, {engine.workers_text}"


@contextmanager
def _translate_memory_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise WorkerError(
            "not enough memory for the models", "free some, or raise its limit (ulimit -v)"
        ) from error
