"""Prometheus can parse the metrics, and a failed run keeps the time of the last success."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.recording.metrics import LAST_SUCCESS, METRICS, metrics_file, metrics_text, write_metrics
from batch.recording.run_record import RunCounts, RunRecord
from batch.records import Reason, Status
from tests.support.run_records import EARLY, RECORD

Samples = dict[str, list[tuple[dict[str, str], float]]]

GOOD = replace(RECORD, ended=datetime(2024, 5, 1, 23, 0, 0, 500_000, tzinfo=UTC))
BAD = replace(EARLY, ended=datetime(2024, 5, 2, 23, 0, tzinfo=UTC))


def parsed(text: str) -> Samples:
    """Read metrics by the parser of Prometheus' own library."""
    parser = pytest.importorskip("prometheus_client.parser")
    samples: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.name not in samples
        assert family.type == "gauge"
        assert family.documentation
        samples[family.name] = [(sample.labels, sample.value) for sample in family.samples]
    return samples


def success(text: str) -> float | None:
    samples = parsed(text).get(LAST_SUCCESS.name)
    return samples[0][1] if samples else None


def test_all_metrics_of_a_run_are_written() -> None:
    samples = parsed(metrics_text(GOOD))
    assert list(samples) == [metric.name for metric in METRICS]
    assert all(labels["report"] == "results.csv" for each in samples.values() for labels, _ in each)
    flat = {name: each[0][1] for name, each in samples.items() if len(each) == 1}
    assert flat["batch_label_last_run_start_timestamp_seconds"] == GOOD.started.timestamp()
    assert flat["batch_label_last_run_duration_seconds"] == 1800
    assert flat["batch_label_last_run_exit_code"] == 3
    assert flat["batch_label_last_success_timestamp_seconds"] == GOOD.ended.timestamp()
    assert flat["batch_label_photos_found"] == 12
    assert flat["batch_label_photos_labelled_now"] == 2
    assert flat["batch_label_photos_reused"] == 10
    assert flat["batch_label_drift_warnings"] == 1
    assert samples["batch_label_run_info"] == [
        ({"report": "results.csv", "version": "0.1.0", "provider": "cuda"}, 1)
    ]


def test_statuses_and_reasons_without_files_are_zero() -> None:
    samples = parsed(metrics_text(GOOD))
    photos = {labels["status"]: value for labels, value in samples["batch_label_photos"]}
    assert photos == {status.value: 0 for status in Status} | {"ok": 11, "failed": 1}
    assert list(photos) == ["ok", "unsure", "neither", "no_person", "no_face", "failed"]
    failures = {labels["reason"]: value for labels, value in samples["batch_label_failures"]}
    assert failures == {reason.value: 0 for reason in Reason} | {"empty": 1}


def test_samples_have_the_labels_of_their_metric() -> None:
    samples = parsed(metrics_text(GOOD))
    for metric in METRICS:
        for labels, _ in samples[metric.name]:
            assert tuple(labels) == ("report", *metric.labels)


def test_the_text_keeps_to_the_format() -> None:
    text = metrics_text(GOOD)
    assert text.endswith("\n")
    assert "\n\n" not in text
    first = text.splitlines()[:3]
    assert first[0].startswith("# HELP batch_label_last_run_start_timestamp_seconds ")
    assert first[1] == "# TYPE batch_label_last_run_start_timestamp_seconds gauge"
    series = 'batch_label_last_run_start_timestamp_seconds{report="results.csv"} '
    assert first[2] == f"{series}{GOOD.started.timestamp()}"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\\nb", "größer/写真", 'x"} 5\n'])
def test_any_name_goes_through_the_format(name: str) -> None:
    text = metrics_text(replace(GOOD, report=name))
    assert parsed(text)[LAST_SUCCESS.name] == [({"report": name}, GOOD.ended.timestamp())]
    assert success(metrics_text(replace(BAD, report=name), text.encode())) == (
        GOOD.ended.timestamp()
    )


@pytest.mark.parametrize("code", list(ExitCode))
def test_only_a_run_that_published_is_a_success(code: ExitCode) -> None:
    expected = GOOD.ended.timestamp() if code in (0, 3) else None
    assert success(metrics_text(replace(GOOD, exit_code=int(code)))) == expected


def test_a_run_that_failed_keeps_the_time_of_the_last_success(tmp_path: Path) -> None:
    file = metrics_file(tmp_path / "batch.prom")

    def last(record: RunRecord) -> float | None:
        write_metrics(file, record)
        return success(file.path.read_text(encoding="utf-8"))

    assert last(BAD) is None
    assert last(GOOD) == GOOD.ended.timestamp()
    assert last(BAD) == GOOD.ended.timestamp()
    assert last(BAD) == GOOD.ended.timestamp()
    later = replace(GOOD, ended=datetime(2024, 6, 1, tzinfo=UTC))
    assert last(later) == later.ended.timestamp()
    assert [entry.name for entry in tmp_path.iterdir()] == ["batch.prom"]


@pytest.mark.parametrize(
    "earlier",
    [
        b"",
        b"\xff\xfe",
        b'batch_label_last_success_timestamp_seconds{report="results.csv"} \n',
        b'batch_label_last_success_timestamp_seconds{report="results.csv"} soon\n',
        b'batch_label_last_success_timestamp_seconds{report="results.csv"} NaN\n',
        b'batch_label_last_success_timestamp_seconds{report="results.csv"} +Inf\n',
        b'batch_label_last_success_timestamp_seconds{report="other.csv"} 5\n',
        b'# HELP batch_label_last_success_timestamp_seconds{report="results.csv"} 5\n',
    ],
)
def test_other_success_times_are_not_kept(earlier: bytes) -> None:
    assert success(metrics_text(BAD, earlier)) is None


def test_a_run_that_ended_early_writes_metrics() -> None:
    samples = parsed(metrics_text(replace(BAD, counts=RunCounts(), versions={})))
    assert samples["batch_label_photos_found"][0][1] == 0
    assert samples["batch_label_last_run_exit_code"][0][1] == 1
    assert samples["batch_label_drift_warnings"][0][1] == 0
    assert samples["batch_label_run_info"][0][0]["provider"] == ""
