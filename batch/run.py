"""A whole run of the command: from what was asked for to the published report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from batch.discover import Survey
from batch.engine import Engine, open_engine
from batch.labelling import Labelling, Terminal
from batch.limits import Timer
from batch.location import Url, location_of
from batch.lock import locked
from batch.log import Event, Log
from batch.options import Job
from batch.recording.metrics import metrics_file
from batch.recording.recorder import Recorder
from batch.reports.report import check_output
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
    check_output(job.output)
    if job.metrics_file is not None:
        metrics_file(job.metrics_file).check()
    shard = job.options.shard
    with stop_on_signals(Timer(job.limits)) as stop:
        recorder = Recorder(job, terminal.log)
        survey = Survey(
            job.photos,
            job.options.search,
            listing=terminal.listing,
            left_out=lambda path, why: recorder.summary.leave_out(path, why),
            check=stop.check,
        )
        recorder.sharded = Sharded(survey, shard) if shard else None
        with _locks(job, stop, terminal.log), recorder:
            started = time.monotonic()
            with closing(open_engine(job, stop, terminal.log)) as engine:
                recorder.engine = engine
                provider = engine.place.provider
                terminal.log(Event.OPENED, _introduction(engine), provider=provider)
                labelling = Labelling(job, terminal, stop, recorder, engine)
                labelling.through(recorder.sharded or survey)
            recorder.summary.seconds = time.monotonic() - started
    return recorder.summary


@contextmanager
def _locks(job: Job, stop: Stop, log: Log) -> Iterator[None]:
    told: list[str] = []

    def waiting() -> None:
        if stop:
            raise stop.error("nothing was begun")
        if not told:
            told.append("waiting")
            log(Event.WAITING, "another run is at work on this report: waiting for it to end")

    with ExitStack() as stack:
        places = [job.output] + ([str(job.memory.state)] if job.memory.state else [])
        report = job.output if isinstance(location_of(job.output), Url) else None
        for place in places:
            stack.enter_context(locked(place, waiting if job.wait else None, report))
        yield


def _introduction(engine: Engine) -> str:
    note = f" ({engine.provider_note})" if engine.provider_note else ""
    models, provider = engine.ensemble.describe(), engine.place.provider.value
    return f"{models} on {provider}{note}, {engine.crew}"
