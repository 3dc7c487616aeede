"""What nights need: limits of time and of failures, figures for monitors, logs for programs."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.recording.metrics import EXIT_CODE, LABELLED, LAST_SUCCESS, REUSED, Metric
from tests.support.runs import REPORT, BusyPhotos, RunFolder, make_photos, wait_for_end

EARLIER = b"an earlier report\n"
FEW = 10


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> BusyPhotos:
    return BusyPhotos.make_for(tmp_path_factory.mktemp("crowd"), seconds=5.0)


@pytest.fixture
def few(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", FEW)
    return RunFolder(tmp_path)


def _shortly_before_half_past(seconds: int) -> str:
    """Make a time zone in which it will be 12:30 in some seconds."""
    now = int(time.time()) % 86_400
    behind = (now + seconds - (12 * 60 + 30) * 60) % 86_400
    return f"AWAY{behind // 3600:02}:{behind // 60 % 60:02}:{behind % 60:02}"


@pytest.mark.parametrize(
    ("limit", "why"),
    [(("--time-limit", "2s"), "time limit 2s"), (("--deadline", "12:30"), "deadline 12:30")],
)
def test_a_night_that_is_too_short_goes_on_the_next(
    crowd: BusyPhotos, tmp_path: Path, limit: tuple[str, str], why: str
) -> None:
    place = crowd.place(tmp_path)
    place.report.write_bytes(EARLIER)
    # Beside a few seconds, what Python takes to start.
    zone = _shortly_before_half_past(3 + round(crowd.startup))
    ran = place.run("photos", "-o", REPORT, *limit, TZ=zone)
    assert ran.returncode == ExitCode.TIME_IS_UP, ran.stderr
    assert why in ran.stderr.splitlines()[-1]
    assert place.report.read_bytes() == EARLIER
    assert place.record()["outcome"] == "time_is_up"
    assert place.record()["counts"]["labelled_now"] > 0
    assert place.label()["reused"] > 0
    assert place.report.read_bytes() == crowd.report


def test_a_second_run_is_refused_or_waits_and_takes_over(crowd: BusyPhotos, tmp_path: Path) -> None:
    place = crowd.place(tmp_path)
    first = place.begin()
    refused = place.run("photos", "-o", REPORT)
    assert refused.returncode == ExitCode.LOCKED
    assert "--wait" in refused.stderr
    second = place.start("photos", "-o", REPORT, "--wait")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    first.send_signal(signal.SIGTERM)
    assert wait_for_end(first).returncode == ExitCode.TERMINATED
    assert wait_for_end(second).returncode == ExitCode.OK
    assert place.counts()["reused"] > 0
    assert place.report.read_bytes() == crowd.report


def test_a_signal_ends_the_waiting(few: RunFolder) -> None:
    few.report.write_bytes(EARLIER)
    with (few.folder / f".{REPORT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = few.start("photos", "-o", REPORT, "--wait")
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert wait_for_end(process).returncode == ExitCode.TERMINATED
    assert few.report.read_bytes() == EARLIER


def _spoil(place: RunFolder, number: int) -> None:
    for photo in sorted((place.folder / "photos").iterdir())[:number]:
        os.truncate(photo, photo.stat().st_size // 2)


@pytest.mark.parametrize("limit", ["1", "10%"])
def test_too_many_failures_publish_nothing_and_keep_the_rows(few: RunFolder, limit: str) -> None:
    few.report.write_bytes(EARLIER)
    _spoil(few, 2)
    ran = few.run("photos", "-o", REPORT, "--max-failures", limit)
    assert ran.returncode == ExitCode.FAILED
    assert "2 of 10 files failed" in ran.stderr.splitlines()[-1]
    assert "truncated: 2" in ran.stderr.splitlines()[-1]
    assert few.report.read_bytes() == EARLIER
    assert not few.record()["published"]
    make_photos(few.folder / "photos", 1)
    counts = few.label("--max-failures", limit)
    assert (counts["labelled_now"], counts["reused"]) == (2, FEW - 2)
    assert counts["by_status"]["failed"] == 1


def _figures(file: Path) -> dict[str, float]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def test_monitors_see_every_run_and_when_one_last_was_a_success(few: RunFolder) -> None:
    metrics = few.folder / "label.prom"
    args = ("photos", "-o", REPORT, "--metrics-file", metrics)

    def figures(code: ExitCode, *more: str) -> dict[Metric, float]:
        assert few.run(*args, *more).returncode == code
        values = _figures(metrics)
        return {
            metric: values[metric.name] for metric in (EXIT_CODE, LAST_SUCCESS, LABELLED, REUSED)
        }

    before = time.time()
    first = figures(ExitCode.OK)
    assert before <= first[LAST_SUCCESS] <= time.time()
    assert (first[EXIT_CODE], first[LABELLED], first[REUSED]) == (0, FEW, 0)
    _spoil(few, 1)
    second = figures(ExitCode.FAILED, "--max-failures", "0")
    assert second[LAST_SUCCESS] == first[LAST_SUCCESS]
    assert (second[EXIT_CODE], second[LABELLED], second[REUSED]) == (1, 1, FEW - 1)
    third = figures(ExitCode.INCOMPLETE)
    assert third[LAST_SUCCESS] > first[LAST_SUCCESS]
    assert figures(ExitCode.USAGE, "-m", "gloomy")[LAST_SUCCESS] == third[LAST_SUCCESS]


def test_a_place_for_metrics_that_won_t_do_is_told_before_the_work(few: RunFolder) -> None:
    ran = few.run("photos", "-o", REPORT, "--metrics-file", "no/such/label.prom")
    assert ran.returncode == ExitCode.FAILED
    assert "--metrics-file" in ran.stderr
    assert not few.journal.exists()


def _events(stderr: str) -> list[str]:
    return [json.loads(line)["event"] for line in stderr.splitlines()]


def test_every_line_of_a_json_log_is_json(few: RunFolder) -> None:
    json_log = ("photos", "-o", REPORT, "--log-format", "json")
    first = few.run(*json_log)
    assert _events(first.stderr) == ["opened", "found", "published", "summary"]
    summary = json.loads(first.stderr.splitlines()[-1])
    assert (summary["found"], summary["labelled_now"], summary["reused"]) == (FEW, FEW, 0)
    few.journal.write_bytes(b"garbage")
    broken = few.run(*json_log)
    assert _events(broken.stderr) == ["opened", "journal_broken", "found", "published", "summary"]
    _spoil(few, 1)
    assert _events(few.run(*json_log, "--max-failures", "0").stderr)[-1] == "error"
    assert _events(few.run(*json_log, "--dry-run").stderr) == ["found"]
    assert _events(few.run("nowhere", "-o", REPORT, "--log-format", "json").stderr) == ["error"]


def test_a_run_that_is_stopped_logs_json_to_the_end(crowd: BusyPhotos, tmp_path: Path) -> None:
    process = crowd.place(tmp_path).begin("--log-format", "json")
    process.send_signal(signal.SIGTERM)
    ran = wait_for_end(process)
    error = json.loads(ran.stderr.splitlines()[-1])
    assert (error["event"], error["exit_code"]) == ("error", ExitCode.TERMINATED)
    assert _events(ran.stderr)[:2] == ["opened", "found"]
