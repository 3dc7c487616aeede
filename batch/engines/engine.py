"""The interface of a labelling backend, and the choice of one: this machine or a Ray cluster."""

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
    """Interface of a labelling backend.

    Attributes:
        ensemble: the models.
        device: where they run.
        provider_note: why ``--provider auto`` did not choose CUDA, else empty.
        timings: seconds by stage, so far.
        workers_text: the number and kind of workers, as text.
    """

    ensemble: Ensemble
    device: Device
    provider_note: str
    timings: Timings
    workers_text: str

    def check_models(self) -> None:
        """Check that the models work, before the first photo.

        Raises:
            ModelError: a model gives wrong answers for its golden samples.
            ProviderError: a model does not run.
            WorkerError: no worker starts.
        """

    def recover_finished(self, journal: Journal) -> Iterable[FinishedFile]:
        """Yield the rows of earlier runs that the journal does not have."""

    def label(
        self,
        found: Iterable[Failure | PendingFile],
        find_known: KnownRowLookup | None = None,
        in_order: bool = False,
    ) -> Iterator[FinishedFile]:
        """Label files, one row each.

        Args:
            found: files, and failures to pass on as rows.
            find_known: finds the row of a file with the same bytes.
            in_order: yield in the order of ``found``, instead of as soon as they are ready.
        """

    def clean_up(self, journal: Journal) -> None:
        """Remove files that the journal replaces, once the report is published."""

    def close(self) -> None:
        """Release all resources."""


def open_engine(job: Job, stop: Stop, log: Log, launched: LaunchedWorker | None = None) -> Engine:
    """Open the engine of a job.

    Args:
        job: the job.
        stop: requests to stop.
        log: the log.
        launched: the first worker of this machine, if it was started early.

    Raises:
        UsageError: the engine is not installed, or does not support the job's options.
        ModelError, ProviderError, WorkerError: as for ``LocalEngine``.
    """
    if job.cluster.engine is EngineKind.LOCAL:
        return LocalEngine(job.options, None, _log_stop_once(stop, log), launched, check_now=False)
    _check_cluster_options(job)
    from batch.engines.ray.ray_engine import RayEngine

    return RayEngine(job, stop, log)


def _log_stop_once(stop: Stop, log: Log) -> StopCheck:
    """Make a check that logs the first stop request, as the current photos may take a while."""
    logged: list[bool] = []

    def check() -> None:
        try:
            stop.check()
        except StopRequested:
            if not logged:
                logged.append(True)
                log(Event.STOPPING, "stopping after the photos in flight")
            raise

    return check


def _check_cluster_options(job: Job) -> None:
    """Check that a cluster supports the options.

    Raises:
        UsageError: it does not.
    """
    if find_journal_path(job) is None:
        raise UsageError(
            "--engine ray needs a journal, which a streamed report does not have",
            "choose a report file with -o, or a journal with --state",
        )
    if job.options.devices:
        raise UsageError(
            "--engine ray does not support --devices: Ray assigns the GPUs", "remove --devices"
        )
    if job.journal.verify_hash:
        raise UsageError(
            "--engine ray does not support --verify-hash: actors do not have the journal",
            "remove one of them",
        )
