"""What labels files for a run: this machine, or a cluster of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from batch.engines.local import LocalEngine
from batch.errors import UsageError
from batch.journal.journal import Journal
from batch.journal.path import find_journal_path
from batch.log import Event, Log
from batch.models.ensemble import Ensemble
from batch.options import Device, EngineKind, Job
from batch.records import Failure, FinishedFile, PendingFile
from batch.stopping import Stop, StopCheck, StopRequested
from batch.timings import Timings
from batch.workers.process import LaunchedWorker
from batch.workers.worker import KnownRowLookup


class Engine(Protocol):
    """Models, and whatever applies them to any number of files.

    ``workers_text`` says for people who does the work; the rest is as ``LocalEngine`` has it.
    """

    ensemble: Ensemble
    device: Device
    provider_note: str
    timings: Timings
    workers_text: str

    def check_models(self) -> None:
        """Make sure that the models work, before there is anything of a report.

        Raises:
            ModelError, ProviderError, WorkerError: as ``Pipeline.prove`` does.
        """

    def recover_finished(self, journal: Journal) -> Iterable[FinishedFile]:
        """Give what earlier runs finished and this journal has not taken in."""

    def label(
        self,
        found: Iterable[Failure | PendingFile],
        known: KnownRowLookup | None = None,
        in_order: bool = False,
    ) -> Iterator[FinishedFile]:
        """Label files, one row each, as they are ready or ``in_order``.

        Rows that are ``known`` are taken over.
        """

    def clean_up(self, journal: Journal) -> None:
        """Clear away, once the report is published, what the journal has as well."""

    def close(self) -> None:
        """Let go of everything."""


def open_engine(job: Job, stop: Stop, log: Log, launched: LaunchedWorker | None = None) -> Engine:
    """Open the engine that a run asks for; a worker of this machine may be ``launched`` already.

    Raises:
        UsageError: it is not installed, or can't do what is asked.
        ModelError, ProviderError, WorkerError: as ``LocalEngine`` does.
    """
    if job.cluster.engine is EngineKind.LOCAL:
        return LocalEngine(job.options, None, _log_stop_once(stop, log), launched, check_now=False)
    _check_cluster_options(job)
    from batch.engines.ray.ray_engine import RayEngine

    return RayEngine(job, stop, log)


def _log_stop_once(stop: Stop, log: Log) -> StopCheck:
    """Have a run tell once that it stops, as a photo in hand may take a while."""
    told: list[bool] = []

    def check() -> None:
        try:
            stop.check()
        except StopRequested:
            if not told:
                told.append(True)
                log(
                    Event.STOPPING, "stopping: no more photos are begun, those in hand are finished"
                )
            raise

    return check


def _check_cluster_options(job: Job) -> None:
    """Refuse what a cluster can't do, before anything is begun."""
    if find_journal_path(job) is None:
        raise UsageError(
            "--engine ray needs a journal, and a report that is streamed has none",
            "name a report file with -o, or a journal with --state",
        )
    if job.options.devices:
        raise UsageError(
            "--devices is not for --engine ray, which hands out GPUs itself", "leave it out"
        )
    if job.journal.verify_hash:
        raise UsageError(
            "--verify-hash is not for --engine ray, whose actors do not have the journal",
            "leave one of the two out",
        )
