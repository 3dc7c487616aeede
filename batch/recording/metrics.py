"""Metrics of a run for the textfile collector of Prometheus' node_exporter.

The format is the text exposition format 0.0.4:
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batch.errors import ExitCode
from batch.recording.run_record import RunRecord
from batch.records import Reason, Status
from batch.reports.whole_file import AtomicFile

SUCCESS_CODES = (ExitCode.OK, ExitCode.INCOMPLETE)


@dataclass(frozen=True)
class Metric:
    """A gauge.

    Attributes:
        name: its name.
        labels: names of its labels besides ``report``.
        meaning: its HELP text.
    """

    name: str
    labels: tuple[str, ...]
    meaning: str


STARTED = Metric(
    "batch_label_last_run_start_timestamp_seconds", (), "When the last run began, Unix time."
)
DURATION = Metric("batch_label_last_run_duration_seconds", (), "How long the last run took.")
EXIT_CODE = Metric("batch_label_last_run_exit_code", (), "The exit code of the last run.")
LAST_SUCCESS = Metric(
    "batch_label_last_success_timestamp_seconds",
    (),
    "When a run last ended with exit code 0 or 3, Unix time.",
)
FOUND = Metric("batch_label_photos_found", (), "Files that the last run found.")
PHOTOS = Metric("batch_label_photos", ("status",), "Files of the last run by status.")
FAILURES = Metric("batch_label_failures", ("reason",), "Failed files of the last run by reason.")
ACCEPTED = Metric(
    "batch_label_failures_accepted", (), "Failed files of the last run that were accepted."
)
LABELLED = Metric("batch_label_photos_labelled_now", (), "Files that the last run labelled itself.")
REUSED = Metric(
    "batch_label_photos_reused", (), "Files whose rows the last run took from earlier ones."
)
MISSING = Metric(
    "batch_label_photos_missing", (), "Files that are gone and stay in the last run's report."
)
GONE = Metric("batch_label_photos_gone", (), "Files that are gone and left the last run's report.")
REVIEWED = Metric(
    "batch_label_photos_reviewed", (), "Photos of the last run with an answer that a person gave."
)
UNMATCHED_REVIEWS = Metric(
    "batch_label_reviews_unmatched", (), "People's answers that no row of the report has used."
)
DRIFT = Metric("batch_label_drift_warnings", (), "Warnings of drift that the last run gave.")
INFO = Metric(
    "batch_label_run_info", ("version", "provider"), "What the last run ran with; always 1."
)
METRICS = (
    *(STARTED, DURATION, EXIT_CODE, LAST_SUCCESS),
    *(FOUND, PHOTOS, FAILURES, ACCEPTED, LABELLED, REUSED),
    *(MISSING, GONE, REVIEWED, UNMATCHED_REVIEWS, DRIFT, INFO),
)


def metrics_file(path: Path) -> AtomicFile:
    """Return the file of ``--metrics-file``; an earlier one is replaced only if a run wrote it."""
    remedy = "choose another path with --metrics-file"
    return AtomicFile(path, "metrics file", remedy, start=f"# HELP {STARTED.name} ".encode())


def write_metrics(file: AtomicFile, record: RunRecord) -> None:
    """Replace the metrics by those of a run, and keep the time of the last success.

    Raises:
        OutputError: the file can't be written; the earlier one stays.
    """
    file.write(metrics_text(record, file.read() or b"").encode())


def metrics_text(record: RunRecord, earlier: bytes = b"") -> str:
    """Format the metrics of a run.

    Every metric has the label ``report``, so that one folder can hold the files of several jobs.

    Args:
        record: the record of the run.
        earlier: the earlier file, from which a failed run takes the time of the last success.
    """
    lines: list[str] = []
    for metric, samples in _collect_samples(record, earlier).items():
        if samples:
            lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} gauge"]
        for labels, value in samples.items():
            lines.append(f"{_series_text(metric, record.report, labels)} {value}")
    return "\n".join(lines) + "\n"


def _collect_samples(
    record: RunRecord, earlier: bytes
) -> dict[Metric, Mapping[tuple[str, ...], int | float]]:
    """Collect the values of each metric by label values, in the order of ``METRICS``."""
    counts = record.counts
    ended = record.ended.timestamp()
    success = (
        ended if record.exit_code in SUCCESS_CODES else _find_last_success(earlier, record.report)
    )
    run = (record.versions.get("batch-label") or "", record.provider or "")
    return {
        STARTED: {(): record.started.timestamp()},
        DURATION: {(): record.seconds.wall},
        EXIT_CODE: {(): int(record.exit_code)},
        LAST_SUCCESS: {} if success is None else {(): success},
        FOUND: {(): counts.found},
        PHOTOS: {(status.value,): counts.by_status.get(status, 0) for status in Status},
        FAILURES: {(reason.value,): counts.by_reason.get(reason, 0) for reason in Reason},
        ACCEPTED: {(): counts.accepted},
        LABELLED: {(): counts.labelled_now},
        REUSED: {(): counts.reused},
        MISSING: {(): counts.missing},
        GONE: {(): counts.gone},
        REVIEWED: {(): counts.reviewed},
        UNMATCHED_REVIEWS: {(): counts.unmatched_reviews},
        DRIFT: {(): len(record.drift.warnings) if record.drift else 0},
        INFO: {run: 1},
    }


def _find_last_success(earlier: bytes, report: str) -> float | None:
    """Find the time of the last success of a report in the file of an earlier run."""
    start = f"{_series_text(LAST_SUCCESS, report, ())} "
    for line in earlier.decode("utf-8", "replace").split("\n"):
        if line.startswith(start):
            with suppress(ValueError):
                value = float(line.removeprefix(start))
                return value if math.isfinite(value) else None
    return None


def _series_text(metric: Metric, report: str, values: tuple[str, ...]) -> str:
    labels = {"report": report} | dict(zip(metric.labels, values, strict=True))
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{metric.name}{{{pairs}}}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
