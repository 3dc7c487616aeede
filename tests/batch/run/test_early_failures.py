"""A run that fails before its first photo is recorded as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.files.lock import hold_lock
from tests.conftest import REPOSITORY
from tests.support.discovery import NOBODY
from tests.support.runs import (
    BASE_ARGUMENTS,
    JOURNAL,
    REPORT,
    RunFolder,
    make_photos,
    unprivileged_prefix,
)

METRICS = "m.prom"


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 2)
    place.label("--metrics-file", METRICS)
    return place


def _exit_code(place: RunFolder) -> int:
    lines = (place.folder / METRICS).read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("batch_label_last_run_exit_code"))
    return int(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("photos", "more", "code", "words"),
    [
        ("gone", (), ExitCode.USAGE, "'gone' can't be found"),
        ("photos", ("-m", "gone.onnx"), ExitCode.USAGE, "gone.onnx"),
        ("photos", ("--provider", "tpu"), ExitCode.USAGE, "'--provider'"),
        ("photos", ("--no-such-option",), ExitCode.USAGE, "No such option"),
        ("photos", ("--time-limit", "soon"), ExitCode.USAGE, "--time-limit soon"),
        ("photos", ("--deadline",), ExitCode.USAGE, "requires an argument"),
        ("photos", ("--metrics-file", "photos"), ExitCode.FAILED, "metrics file"),
    ],
)
def test_the_error_that_ended_a_run_early_is_recorded(
    place: RunFolder, photos: str, more: tuple[str, ...], code: ExitCode, words: str
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


def test_a_missing_folder_of_the_report_shows_in_the_metrics(place: RunFolder) -> None:
    ran = place.run("photos", "-o", "gone/r.csv", "--metrics-file", METRICS)
    assert ran.returncode == ExitCode.FAILED
    assert len(ran.stderr.splitlines()) == 1
    assert _exit_code(place) == ExitCode.FAILED


def test_metrics_are_written_even_if_the_record_can_t_be(place: RunFolder) -> None:
    record = place.folder / f"{REPORT}.run.json"
    record.unlink()
    record.mkdir()
    ran = place.run("photos", "-o", REPORT, "--metrics-file", METRICS, "-m", "gone.onnx")
    assert ran.returncode == ExitCode.USAGE
    assert _exit_code(place) == ExitCode.USAGE


def test_a_locked_out_run_leaves_the_record_of_the_active_run(place: RunFolder) -> None:
    before = place.record()
    with hold_lock(str(place.report)):
        assert place.run("photos", "-o", REPORT).returncode == ExitCode.LOCKED
    assert place.record() == before


def test_a_command_line_that_is_refused_replaces_nothing_but_records(place: RunFolder) -> None:
    for args in (("--state", REPORT), ("--metrics-file", REPORT), ("--metrics-file", "photos")):
        report, record = place.report.read_bytes(), place.record()
        ran = place.run("photos", "-o", REPORT, *args, "--no-such-option")
        assert ran.returncode == ExitCode.USAGE
        assert place.report.read_bytes() == report
        is_recorded = "photos" in args
        assert (place.record() != record) is is_recorded
    names = sorted(path.name for path in place.folder.iterdir())
    assert place.run("--dry-run", "--bogus", "-o", "new.csv").returncode == ExitCode.USAGE
    assert place.run("--version", "--bogus", "-o", "photo.jpg").returncode == ExitCode.USAGE
    assert sorted(path.name for path in place.folder.iterdir()) == names
    assert place.run("-o", REPORT).returncode == ExitCode.USAGE
    assert (place.record()["inputs"], place.record()["settings"]) == ([], {})


def test_a_name_without_a_format_leaves_nothing(place: RunFolder) -> None:
    names = sorted(path.name for path in place.folder.iterdir())
    assert place.run("photos", "-o", "photo.jpg").returncode == ExitCode.USAGE
    assert sorted(path.name for path in place.folder.iterdir()) == names


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--state", REPORT), "the journal and the report would be the same file"),
        (("--state", f"{REPORT}.run.json"), "the journal and its record"),
        (("--state", f".{REPORT}.lock", "--wait"), "the journal and its lock"),
        (("--metrics-file", REPORT), "the metrics file and the report"),
        (("--metrics-file", f".{REPORT}.journal"), "the journal and the metrics file"),
    ],
)
def test_two_files_with_the_same_path_are_refused(
    place: RunFolder, args: tuple[str, ...], words: str
) -> None:
    before = place.report.read_bytes()
    ran = place.run("photos", "-o", REPORT, *args)
    assert ran.returncode == ExitCode.USAGE
    assert words in ran.stderr
    assert place.report.read_bytes() == before
    assert place.label()["labelled_now"] == 0


def test_a_list_that_is_read_is_not_replaced(place: RunFolder) -> None:
    listing = place.folder / "list.csv"
    listing.write_text("photos/00000.jpg\n")
    command = [sys.executable, "-m", "batch", *BASE_ARGUMENTS, "-", "-o", "list.csv"]
    with listing.open("rb") as stdin:
        ran = subprocess.run(
            command,
            cwd=place.folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=stdin,
            capture_output=True,
            text=True,
        )
    assert ran.returncode == ExitCode.USAGE
    assert "list.csv is the list" in ran.stderr
    assert listing.read_text() == "photos/00000.jpg\n"


def test_a_pipe_for_metrics_is_refused_and_stays(place: RunFolder) -> None:
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    ran = place.run("photos", "-o", REPORT, "--metrics-file", "pipe")
    assert ran.returncode == ExitCode.FAILED
    assert len(ran.stderr.splitlines()) == 1
    assert pipe.is_fifo()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files of another's")
@pytest.mark.parametrize("name", [JOURNAL, f".{REPORT}.lock"])
def test_the_error_names_the_owner_of_another_user_s_file(place: RunFolder, name: str) -> None:
    (place.folder / name).touch()
    (place.folder / name).chmod(0o600)
    os.chown(place.folder / name, NOBODY, NOBODY)
    ran = place.run("photos", "-o", REPORT, before=unprivileged_prefix())
    assert ran.returncode == ExitCode.FAILED
    assert f"uid {NOBODY}" in ran.stderr.splitlines()[-1]
    assert "mode 600); change its owner (chown) or mode or " in ran.stderr
    assert place.record()["exit_code"] == ExitCode.FAILED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files of another's")
def test_the_error_names_the_owner_of_another_user_s_reviews(place: RunFolder) -> None:
    reviews = place.folder / f"{REPORT}.reviews.csv"
    reviews.touch(0o600)
    os.chown(reviews, NOBODY, NOBODY)
    ran = place.run("photos", "-o", REPORT, before=unprivileged_prefix())
    assert ran.returncode == ExitCode.USAGE
    assert f"reviews file {reviews}: permission denied (owner " in ran.stderr
    assert "mode 600); change its owner (chown) or mode, then run again" in ran.stderr
    assert "--forget-reviews" not in ran.stderr


def test_a_pipe_that_nobody_reads_is_not_waited_for_beyond_the_limit(place: RunFolder) -> None:
    os.mkfifo(place.folder / "pipe")
    ran = place.run("photos", "-o", "pipe", "--time-limit", "1s")
    assert ran.returncode == ExitCode.TIME_IS_UP


def test_a_lack_of_memory_is_an_error_message(place: RunFolder) -> None:
    make_photos(place.folder / "photos", 1, first=2)
    limits = ("sh", "-c", 'ulimit -v 160000; exec "$@"', "sh")
    ran = place.run("photos", "-o", REPORT, before=limits)
    assert ran.returncode == ExitCode.FAILED
    assert "Traceback" not in ran.stderr


def test_a_folder_that_is_gone_is_no_traceback(place: RunFolder, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); " + (
        "import batch.cli.main; batch.cli.main.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *BASE_ARGUMENTS, str(place.folder / "photos"), "-o", "r.csv"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (ExitCode.FAILED, ExitCode.USAGE)
    assert "Traceback" not in ran.stderr


def test_an_unreadable_working_directory_does_not_matter(place: RunFolder) -> None:
    closed = place.folder / "closed"
    closed.mkdir(mode=0)
    program = [sys.executable, "-c", "import batch.cli.main; batch.cli.main.main()"]
    report = place.folder / "s.csv"
    ran = subprocess.run(
        [
            *unprivileged_prefix(),
            *program,
            "label",
            place.folder / "photos",
            "-o",
            report,
            "--workers",
            "1",
        ],
        cwd=closed,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    closed.rmdir()
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert report.exists()
