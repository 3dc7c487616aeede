"""A whole run of the command: from what was asked for to the published report."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing

from batch.discover import Survey
from batch.engine import Engine, open_engine
from batch.labelling import KEPT, Labelling, Terminal
from batch.limits import Timer
from batch.location import Url, location_of
from batch.lock import locked
from batch.log import Event, Log
from batch.options import Job
from batch.recording.metrics import metrics_file
from batch.recording.recorder import Recorder
from batch.reports.output import check_apart
from batch.reports.report import check_name, check_output
from batch.sharding.shard import Sharded
from batch.stopping import Stop, stop_on_signals
from batch.summary import Summary


def run(job: Job, terminal: Terminal) -> Summary:
    """Label photos and publish the report; return what became of every file.

    Things are done in the order in which they can fail: the cheap checks first.

    Raises:
        BatchLabelError: the run can't go on, or a signal or the time ended it. An earlier
            report is left as it was.
    """
    check_name(job.output)
    # The record is written last, whatever ends the run, and while its locks are still held.
    with (
        stop_on_signals(Timer(job.limits)) as stop,
        ExitStack() as locks,
        Recorder(job, terminal.log) as recorder,
        stop.ends(KEPT),
    ):
        check_output(job.output, stop.check)
        check_apart(job.output, "an input", *job.photos)
        recorder.has_place = True
        if job.metrics_file is not None:
            metrics_file(job.metrics_file).check()
        survey = Survey(
            job.photos,
            job.options.search,
            listing=terminal.listing,
            left_out=lambda path, why: recorder.summary.leave_out(path, why),
            check=stop.check,
        )
        shard = job.options.shard
        recorder.sharded = Sharded(survey, shard) if shard else None
        _lock(job, stop, terminal.log, locks)
        started = time.monotonic()
        with closing(open_engine(job, stop, terminal.log)) as engine:
            recorder.engine = engine
            provider = engine.place.provider
            terminal.log(Event.OPENED, _introduction(engine), provider=provider)
            labelling = Labelling(job, terminal, stop, recorder, engine)
            labelling.through(recorder.sharded or survey)
        recorder.summary.seconds = time.monotonic() - started
    return recorder.summary


def _lock(job: Job, stop: Stop, log: Log, locks: ExitStack) -> None:
    told: list[str] = []

    def waiting() -> None:
        if stop:
            raise stop.error("nothing was begun")
        if not told:
            told.append("waiting")
            log(Event.WAITING, "another run is at work on this report: waiting for it to end")

    places = [job.output] + ([str(job.memory.state)] if job.memory.state else [])
    report = job.output if isinstance(location_of(job.output), Url) else None
    for place in places:
        locks.enter_context(locked(place, waiting if job.wait else None, report))


def _introduction(engine: Engine) -> str:
    note = f" ({engine.provider_note})" if engine.provider_note else ""
    models, provider = engine.ensemble.describe(), engine.place.provider.value
    return f"{models} on {provider}{note}, {engine.crew}"
