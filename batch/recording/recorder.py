"""Writes run.json and the metrics at the end of a run, even if it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from batch.engines.engine import Engine
from batch.errors import (
    BatchLabelError,
    DriftError,
    ExitCode,
    Interrupted,
    LockedError,
    OutputError,
    PublishedOnly,
    TimeLimitReached,
)
from batch.files.publish import is_streamed, resolve_path
from batch.limits import monotonic_seconds, utc_now
from batch.location import Location, Url, parse_location
from batch.log import Event, Level, Log
from batch.options import Job
from batch.parallel import available_cores
from batch.path_text import path_text
from batch.recording.drift import Drift
from batch.recording.metrics import metrics_file, write_metrics
from batch.recording.retention import keep_record
from batch.recording.run_record import (
    DetectorRecord,
    ModelRecord,
    Outcome,
    RunCounts,
    RunRecord,
    StageSeconds,
    describe_host,
    find_versions,
    flatten_options,
    record_file,
    write_record,
)
from batch.shard import ShardedFiles
from batch.stopping import mark_record_written
from batch.tally import Tally
from batch.vision.basis import compute_basis
from batch.vision.detector_file import hash_detector

# Prefix of the error text of an exception that is not a ``BatchLabelError``.
UNEXPECTED_ERROR = "an error in batch-label: "
_OUTCOMES = {
    TimeLimitReached: Outcome.TIME_IS_UP,
    Interrupted: Outcome.INTERRUPTED,
    PublishedOnly: Outcome.PUBLISHED_ONLY,
    DriftError: Outcome.DRIFTED,
}


class Recorder:
    """Context manager that collects the facts of a run and writes its record on exit.

    The run sets the attributes as soon as it knows them.

    Attributes:
        settings: the options of the job, by name.
        has_destination: whether the folder of the report was checked, so that a record can be
            written beside it.
        has_metrics: whether the path of the metrics file was checked.
        engine: the engine that labels.
        sharded: the files of the shard; None without ``--shard``.
        tally: counts of files.
        drift: comparison with earlier runs; None if nothing was compared.
        published: whether the report holds the results of this run.
        up_to_date: whether the report was kept, as nothing in it would change.
        kept: the report in its history folder; None without ``--keep``.
    """

    def __init__(self, job: Job, log: Log) -> None:
        self._job = job
        self._log = log
        self._started = utc_now()
        self._clock = monotonic_seconds()
        self.settings = flatten_options(job)
        del self.settings["photos"]  # the record has them as ``inputs``
        del self.settings["reviews"]  # not an option
        self.has_destination = self.has_metrics = False
        self.engine: Engine | None = None
        self.sharded: ShardedFiles | None = None
        self.tally = Tally()
        self.drift: Drift | None = None
        self.published = self.up_to_date = False
        self.kept: Path | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, LockedError):
            return  # the record belongs to the run that holds the lock
        if not (self.has_destination or self.has_metrics):
            return  # nothing can be written
        record = self._make_record(error)
        if self.has_destination and not is_streamed(self._job.output):
            with self._log_output_error():
                write_record(record_file(self._report), record)
                if self.kept is not None:
                    keep_record(Path(self._report), self.kept)
        metrics = self._job.metrics_file
        if metrics is not None and self.has_metrics:
            with self._log_output_error():
                write_metrics(metrics_file(metrics), record)
        mark_record_written()

    @contextmanager
    def _log_output_error(self) -> Iterator[None]:
        """Log a failed write as a warning: it does not change the outcome of the run."""
        try:
            yield
        except OutputError as error:
            self._log(Event.NOT_RECORDED, str(error), Level.WARNING)

    def _make_record(self, error: BaseException | None) -> RunRecord:
        code = _find_exit_code(self.tally, error)
        engine, ensemble = self.engine, self.engine.ensemble if self.engine else None
        return RunRecord(
            outcome=_find_outcome(code, error),
            exit_code=int(code),
            published=self.published or isinstance(error, PublishedOnly),
            error=_error_text(error),
            started=self._started,
            ended=utc_now(),
            report=path_text(self._report),
            inputs=self._job.photos,
            seconds=self._seconds(),
            counts=_to_counts(self.tally),
            models=tuple(
                ModelRecord(model.spec.name, model.spec.version, model.digest)
                for model in (ensemble.models if ensemble else ())
            ),
            detector=DetectorRecord(hash_detector()) if ensemble and ensemble.face else None,
            provider=engine.device.provider.value if engine else None,
            devices=engine.device.devices if engine else (),
            settings=self.settings,
            versions=find_versions(),
            host=describe_host(available_cores()),
            drift=self.drift,
            basis=compute_basis(ensemble.models, self._job.options).hex() if ensemble else None,
            shard=self.sharded.record if self.sharded else None,
            outputs=ensemble.outputs if ensemble else (),
            up_to_date=self.up_to_date,
        )

    @property
    def _report(self) -> Location:
        report = parse_location(self._job.output)
        return report if isinstance(report, Url) else resolve_path(report)

    def _seconds(self) -> StageSeconds:
        timings = self.engine.timings.seconds() if self.engine else {}
        stages = {stage: round(seconds, 3) for stage, seconds in timings.items()}
        return StageSeconds(wall=round(monotonic_seconds() - self._clock, 3), **stages)


def _to_counts(tally: Tally) -> RunCounts:
    return RunCounts(
        found=tally.found,
        labelled_now=tally.labelled_now,
        reused=tally.reused,
        missing=tally.missing,
        away=tally.unavailable,
        gone=tally.gone,
        salvaged=tally.salvaged,
        by_cause=dict(tally.by_cause),
        left_out=tally.skipped,
        left_out_by_reason=dict(tally.skipped_by_reason.most_common()),
        by_status={status.value: count for status, count in tally.by_status.items()},
        by_reason={reason.value: count for reason, count in sorted(tally.by_reason.items())},
        by_label=tally.by_label,
        accepted=tally.accepted,
        reviewed=tally.reviewed,
        unmatched_reviews=tally.unmatched_reviews,
    )


def _find_exit_code(tally: Tally, error: BaseException | None) -> ExitCode:
    if error is None:
        return tally.exit_code
    return error.exit_code if isinstance(error, BatchLabelError) else ExitCode.FAILED


def _find_outcome(code: ExitCode, error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome.INCOMPLETE if code is ExitCode.INCOMPLETE else Outcome.DONE
    outcomes = (outcome for kind, outcome in _OUTCOMES.items() if isinstance(error, kind))
    return next(outcomes, Outcome.FAILED)


def _error_text(error: BaseException | None) -> str | None:
    if error is None or isinstance(error, BatchLabelError):
        return str(error) if error else None
    return f"{UNEXPECTED_ERROR}{type(error).__name__}: {error}"
