"""Places that a report can go to, and those that are refused before the work begins."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.reports.output import check_destination, open_destination

# Reports 20,000 rows to standard output and says how that ended.
RUN = """
import sys
from pathlib import Path
from batch.errors import BatchLabelError
from batch.records import Row, Status
from batch.reports.report import open_report
try:
    with open_report(sys.argv[1], ("happy", "sad"), False, sys.stdout.buffer) as report:
        for number in range(20_000):
            report.add(Row(Path(f"{number}.jpg"), Status.NO_FACE))
        report.publish()
except BatchLabelError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_standard_output_is_written_through_and_stays_open(tmp_path: Path, output: str) -> None:
    with (tmp_path / "redirected").open("wb") as stdout:
        stdout.write(b"before ")
        place = open_destination(output, stdout)
        place.stream.write(b"row")
        place.publish()
        stdout.write(b" after")
    assert (tmp_path / "redirected").read_bytes() == b"before row after"


@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_a_redirection_that_appends_keeps_what_was_there(tmp_path: Path, output: str) -> None:
    log = tmp_path / "log.csv"
    log.write_text("before\n")
    with log.open("ab") as stdout:
        subprocess.run([sys.executable, "-c", RUN, output], stdout=stdout, check=True)
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    assert len(lines) == 2 + 20_000


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_one_clean_error(unbuffered: str) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.readline()
    run.stdout.close()
    complaint = run.stderr.read()
    run.stderr.close()
    assert run.wait() == 1
    assert complaint.startswith("standard output was closed (Broken pipe); ")
    assert len(complaint.splitlines()) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_one_clean_error(unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-c", RUN, "-"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert run.returncode == 1
    assert run.stderr.startswith(b"standard output can't be written (No space left on device); ")
    assert len(run.stderr.splitlines()) == 1


def test_a_pipe_gets_the_rows_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_destination(str(pipe))
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    place = open_destination(str(pipe), io.BytesIO())
    place.stream.write(b"row")
    place.publish()
    reader.join()
    assert got == [b"row"]
    assert pipe.is_fifo()


def test_a_device_is_written_through_and_its_refusal_is_an_error() -> None:
    open_destination("/dev/null", io.BytesIO()).publish()
    assert Path("/dev/null").is_char_device()
    place = open_destination("/dev/full", io.BytesIO())
    place.stream.write(b"row")
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        place.publish()
    place.discard()


def test_a_good_place_passes_the_check_and_is_left_as_it_was(tmp_path: Path) -> None:
    report = tmp_path / "results.csv"
    check_destination(str(report))
    assert not list(tmp_path.iterdir())
    report.write_text("old")
    check_destination(str(report))
    assert report.read_text() == "old"
    check_destination("-")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no folder .*/none\); create its folder first"):
        check_destination(str(tmp_path / "none" / "results.csv"))


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="no folder"):
        check_destination(str(tmp_path / "file" / "results.csv"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(OutputError, match="is a folder; give the name of a file in it"):
        check_destination(str(tmp_path / "results.csv"))


def test_a_folder_that_takes_no_files_is_refused() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder that refuses even root: /proc")
    with pytest.raises(OutputError, match=r"/proc/results\.csv can't be written"):
        check_destination("/proc/results.csv")


def test_a_name_too_long_for_its_draft_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"name too long.*choose a shorter name"):
        check_destination(str(tmp_path / ("a" * 248 + ".csv")))


def test_a_name_too_long_for_its_journal_is_refused(tmp_path: Path) -> None:
    for length in (255, 247, 240, 232):
        with pytest.raises(OutputError, match=r"name too long.*choose a shorter name with -o"):
            check_destination(str(tmp_path / ("r" * (length - 4) + ".csv")))
    check_destination(str(tmp_path / ("r" * (231 - 4) + ".csv")))


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("results.csv")
        with pytest.raises(OutputError, match="neither file nor pipe"):
            check_destination("results.csv")
