"""Failed files are named, and can be accepted until they change."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.support.runs import REPORT, RunFolder, make_photos, unprivileged_prefix

RUN = ("photos", "-o", REPORT)
BROKEN = 7


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """Three photos and seven broken ones."""
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 3)
    for number in range(BROKEN):
        (tmp_path / "photos" / f"x{number}.jpg").write_bytes(b"\xff\xd8\xff%d" % number)
    return place


def test_the_first_failures_are_named_with_where_to_see_all(place: RunFolder) -> None:
    ran = place.run(*RUN, "--quiet")
    assert ran.returncode == ExitCode.INCOMPLETE
    (line,) = [line for line in ran.stderr.splitlines() if "files failed" in line]
    assert f"warning: {BROKEN} files failed: photos/x0.jpg (" in line
    assert "photos/x4.jpg (" in line
    assert "photos/x5.jpg" not in line
    assert "and 2 more" in line
    assert f"{REPORT} has all of them" in line
    assert "--accept-failures" in line
    log = place.run(*RUN, "--log-format", "json").stderr.splitlines()
    (event,) = [e for e in map(json.loads, log) if e["event"] == "failures"]
    assert (event["failed"], event["accepted"]) == (BROKEN, 0)
    assert [file["path"] for file in event["files"]] == [f"photos/x{n}.jpg" for n in range(5)]
    assert all(file["reason"] and file["detail"] for file in event["files"])


def test_too_many_failures_are_named_with_where_to_see_all(place: RunFolder) -> None:
    ran = place.run(*RUN, "--max-failures", "2")
    assert ran.returncode == ExitCode.FAILED
    last = ran.stderr.splitlines()[-1]
    assert "7 of 10 files failed" in last
    assert "photos/x0.jpg (" in last
    assert "and 2 more" in last
    # The message says how to see all of them.
    assert "another -o and --state" in last
    assert place.run("photos", "-o", "all.csv", "--state", place.journal.name).returncode == 3
    assert (place.folder / "all.csv").read_text().count("failed") == BROKEN


def test_accepted_failures_do_not_count_until_files_change(place: RunFolder) -> None:
    metrics = place.folder / "label.prom"
    assert place.run(*RUN, "--accept-failures", "--max-failures", "0").returncode == ExitCode.OK
    for _ in range(2):
        ran = place.run(*RUN, "--max-failures", "0", "--metrics-file", metrics)
        assert ran.returncode == ExitCode.OK, ran.stderr
        assert f"{BROKEN} failed (all accepted)" in ran.stderr
        assert "files failed" not in ran.stderr
        counts = place.counts()
        assert (counts["by_status"]["failed"], counts["accepted"]) == (BROKEN, BROKEN)
        assert place.record()["outcome"] == "done"
    assert "batch_label_failures_accepted{report=" in metrics.read_text()
    assert place.rows()["photos/x0.jpg"]["status"] == "failed"
    # The same bytes elsewhere are known, others under a known name are not.
    shutil.copy(place.folder / "photos/x0.jpg", place.folder / "photos/y0.jpg")
    assert place.run(*RUN).returncode == ExitCode.OK
    (place.folder / "photos/x1.jpg").write_bytes(b"\xff\xd8\xff other")
    ran = place.run(*RUN)
    assert ran.returncode == ExitCode.INCOMPLETE
    assert "1 file failed: photos/x1.jpg (" in ran.stderr
    assert f"{BROKEN + 1} failed ({BROKEN} accepted)" in ran.stderr
    make_photos(place.folder / "photos", 2, first=3)
    (place.folder / "photos/x1.jpg").unlink()
    assert place.run(*RUN, "--max-failures", "0").returncode == ExitCode.OK


def test_one_accepted_empty_file_is_not_every_empty_file(place: RunFolder) -> None:
    for name in ("e1.jpg", "e2.jpg"):
        (place.folder / "photos" / name).touch()
        assert place.run(*RUN).returncode == ExitCode.INCOMPLETE
        assert place.run(*RUN, "--accept-failures").returncode == ExitCode.OK


def test_an_accepted_unreadable_file_counts_again_once_it_changes(place: RunFolder) -> None:
    photo = place.folder / "photos" / "00000.jpg"
    photo.chmod(0)
    command = ("photos", "-o", REPORT)
    accepted = (ExitCode.OK, ExitCode.OK, ExitCode.INCOMPLETE)
    codes: list[int] = []
    for more in (("--accept-failures",), (), ()):
        if codes == [*accepted[:2]]:
            os.utime(photo, (1, 1))
        codes.append(place.run(*command, *more, before=unprivileged_prefix()).returncode)
    assert tuple(codes) == accepted


def test_a_run_that_publishes_nothing_accepts_nothing(place: RunFolder) -> None:
    command = ("photos", "-o", REPORT, "--max-failures", "0")
    (place.folder / REPORT).unlink(missing_ok=True)
    (place.folder / REPORT).mkdir()
    assert place.run(*command[:3], "--accept-failures").returncode != ExitCode.OK
    (place.folder / REPORT).rmdir()
    assert place.run(*command).returncode == ExitCode.FAILED


def test_without_a_journal_nothing_can_be_accepted(place: RunFolder) -> None:
    ran = place.run("photos", "--accept-failures")
    assert ran.returncode == ExitCode.USAGE
    assert "--state" in ran.stderr
    ran = place.run("photos", "--accept-failures", "--state", "journal")
    assert ran.returncode == ExitCode.OK, ran.stderr
