"""A whole run of the command: from what was asked for to the published report."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import BinaryIO

from batch.discovery.discover import STDIN_LIST, Discovery
from batch.engines.engine import Engine, open_engine
from batch.errors import BatchLabelError, OutputError, UsageError, WorkerError
from batch.files.lock import hold_lock, lock_path
from batch.files.publish import is_streamed, resolve_path
from batch.journal.damage import COMPANION_SUFFIXES
from batch.journal.damage import STATE_REMEDY as ANOTHER_STATE
from batch.journal.gone import InputCoverage
from batch.journal.path import find_journal_path
from batch.labelling import RESUME_HINT, LabellingRun, Terminal
from batch.limits import RunTimer
from batch.location import Url, parse_location
from batch.log import Event, Log
from batch.options import Job
from batch.path_text import path_text
from batch.recording.metrics import metrics_file
from batch.recording.recorder import Recorder
from batch.recording.run_record import local_record_file
from batch.reports.output import check_not_input
from batch.reports.report import check_output, check_output_name
from batch.shard import ShardedFiles
from batch.stopping import Stop, stop_on_signals
from batch.tally import Tally
from batch.workers.process import LaunchedWorker


def run(job: Job, terminal: Terminal, launched: LaunchedWorker | None = None) -> Tally:
    """Label photos and publish the report; return what became of every file.

    Things are done in the order in which they can fail: the cheap checks first. A worker may be
    ``launched`` already.

    Raises:
        BatchLabelError: the run can't go on, or a signal or the time ended it. An earlier
            report is left as it was.
    """
    check_output_name(job.output)
    _check_distinct_files(job, terminal.listing)
    # The record is written last, whatever ends the run, and while its locks are still held.
    with (
        stop_on_signals(RunTimer(job.limits)) as stop,
        ExitStack() as locks,
        Recorder(job, terminal.log) as recorder,
        _translate_memory_errors(),
        stop.translate_stop(RESUME_HINT),
    ):
        _check_destinations(job, stop, recorder)
        discovery = Discovery(
            job.photos,
            job.options.search,
            listing=terminal.listing,
            on_skip=lambda path, why: recorder.tally.add_skipped(path, why),
            check=stop.check,
        )
        shard = job.options.shard
        coverage = InputCoverage(discovery, job.photos)
        recorder.sharded = ShardedFiles(coverage, shard) if shard else None
        _take_locks(job, stop, terminal.log, locks)
        started = time.monotonic()
        with closing(open_engine(job, stop, terminal.log, launched)) as engine:
            recorder.engine = engine
            provider = engine.device.provider
            terminal.log(Event.OPENED, _describe_engine(engine), provider=provider)
            labelling = LabellingRun(job, terminal, stop, recorder, engine, coverage)
            labelling.run(recorder.sharded or coverage)
        recorder.tally.seconds = time.monotonic() - started
    return recorder.tally


def record_refusal(job: Job, error: UsageError, log: Log) -> None:
    """Put on record that a command line was refused, as far as its own words say where.

    ``job`` has what could be read of it. A place that does not do gets no record.
    """
    with suppress(BatchLabelError):
        check_output_name(job.output)
        _check_distinct_files(job, BytesIO())
        with stop_on_signals() as stop, Recorder(job, log) as recorder:
            recorder.settings = {}
            _check_destinations(job, stop, recorder)
            raise error


def _check_distinct_files(job: Job, listing: BinaryIO) -> None:
    """Make sure that no two files of a run have one name, and that none is a list that is read.

    Raises:
        UsageError: one is.
    """
    places: dict[str, Path | None] = {
        "the journal": find_journal_path(job),
        "the metrics file": resolve_path(job.metrics_file) if job.metrics_file else None,
    }
    if journal := places["the journal"]:
        places |= {
            f"the journal's {end} file": journal.with_name(journal.name + end)
            for end in COMPANION_SUFFIXES
        }
    report = parse_location(job.output)
    if isinstance(report, Path) and not is_streamed(job.output):
        report = resolve_path(report)
        places |= {
            "the report": report,
            "its record": local_record_file(report).path,
            "its lock": lock_path(report),
        }
    named = {noun: place for noun, place in places.items() if place is not None}
    for (one, place), (other, again) in combinations(named.items(), 2):
        if place == again:
            raise UsageError(
                f"{one} and {other} would be the same file, {path_text(place)}",
                "give each a name of its own",
            )
    with suppress(OSError, ValueError):  # no list, or one in memory
        status = os.fstat(listing.fileno()) if STDIN_LIST in job.photos else None
        for noun, place in named.items():
            if status and place.exists() and os.path.samestat(status, place.stat()):
                raise UsageError(f"{noun} {path_text(place)} is the list", "name another file")


def _check_destinations(job: Job, stop: Stop, recorder: Recorder) -> None:
    """Find out before the work whether all that a run writes could be written.

    Raises:
        UsageError, OutputError: something could not; what could is noted for the record.
    """
    refusal: OutputError | None = None
    try:
        if job.metrics_file is not None:
            metrics_file(job.metrics_file).check()
        recorder.has_metrics = True
    except OutputError as error:  # which the record is to tell, so the report's place comes first
        refusal = error
    check_output(job.output, stop.check)
    check_not_input(job.output, "an input", *job.photos)
    recorder.has_destination = True
    if refusal:
        raise refusal


@contextmanager
def _translate_memory_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise WorkerError(
            "memory does not suffice for the models", "free some, or raise its limit (ulimit -v)"
        ) from error


def _take_locks(job: Job, stop: Stop, log: Log, locks: ExitStack) -> None:
    was_told: list[str] = []

    def waiting() -> None:
        if stop.requested:
            raise stop.make_error("nothing was begun")
        if not was_told:
            was_told.append("waiting")
            log(Event.WAITING, "another run is at work on this report: waiting for it to end")

    wait = waiting if job.wait else None
    report = job.output if isinstance(parse_location(job.output), Url) else None
    locks.enter_context(hold_lock(job.output, wait, report))
    if job.journal.state:
        state = str(job.journal.state)
        if report:  # whose lock is that of its journal
            locks.enter_context(hold_lock(state, wait, report))
        else:
            locks.enter_context(hold_lock(state, wait, None, "journal", ANOTHER_STATE))


def _describe_engine(engine: Engine) -> str:
    note = f" ({engine.provider_note})" if engine.provider_note else ""
    models, provider = engine.ensemble.describe(), engine.device.provider.value
    return f"{models} on {provider}{note}, {engine.workers_text}"
