"""A run that fails before its first photo is on record as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.lock import locked
from tests.runs import REPORT, Place, make_photos

METRICS = "m.prom"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    make_photos(tmp_path / "photos", 2)
    place.label("--metrics-file", METRICS)
    return place


def _exit_code(place: Place) -> int:
    lines = (place.folder / METRICS).read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("batch_label_last_run_exit_code"))
    return int(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("photos", "more", "code", "words"),
    [
        ("gone", (), ExitCode.USAGE, "'gone' can't be found"),
        ("photos", ("-m", "gone.onnx"), ExitCode.FAILED, "gone.onnx"),
        ("photos", ("--metrics-file", "photos"), ExitCode.FAILED, "metrics file"),
    ],
)
def test_what_ended_a_run_early_is_on_record(
    place: Place, photos: str, more: tuple[str, ...], code: ExitCode, words: str
) -> None:
    report = place.report.read_bytes()
    ran = place.run(photos, "-o", REPORT, "--metrics-file", METRICS, *more)
    assert ran.returncode == code
    record = place.record()
    assert (record["outcome"], record["exit_code"]) == ("failed", code)
    assert record["published"] is False
    assert words in record["error"]
    assert place.report.read_bytes() == report
    if METRICS not in more and "--metrics-file" not in more:
        assert _exit_code(place) == code


def test_a_report_s_folder_that_is_missing_shows_in_the_metrics(place: Place) -> None:
    ran = place.run("photos", "-o", "gone/r.csv", "--metrics-file", METRICS)
    assert ran.returncode == ExitCode.FAILED
    assert len(ran.stderr.splitlines()) == 1
    assert _exit_code(place) == ExitCode.FAILED


def test_a_record_that_can_t_be_written_keeps_no_metrics_back(place: Place) -> None:
    record = place.folder / f"{REPORT}.run.json"
    record.unlink()
    record.mkdir()
    ran = place.run("photos", "-o", REPORT, "--metrics-file", METRICS, "-m", "gone.onnx")
    assert ran.returncode == ExitCode.FAILED
    assert _exit_code(place) == ExitCode.FAILED


def test_a_run_that_is_refused_leaves_the_record_of_the_one_at_work(place: Place) -> None:
    before = place.record()
    with locked(str(place.report)):
        assert place.run("photos", "-o", REPORT).returncode == ExitCode.LOCKED
    assert place.record() == before


def test_a_name_without_a_format_leaves_nothing(place: Place) -> None:
    names = sorted(path.name for path in place.folder.iterdir())
    assert place.run("photos", "-o", "photo.jpg").returncode == ExitCode.USAGE
    assert sorted(path.name for path in place.folder.iterdir()) == names
