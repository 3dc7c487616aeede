"""Marker files without which a run is refused: --require-file."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.discovery.marker_files import check_marker_files
from batch.errors import BatchLabelError, ExitCode, UsageError
from batch.recording.metrics import EXIT_CODE, LAST_SUCCESS
from tests.support.runs import REPORT, RunFolder, make_photos, unprivileged_prefix

MARKER = ".mounted"
GUARD = ("--require-file", MARKER)


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", 2)
    return RunFolder(tmp_path)


def test_a_run_without_its_marker_file_is_refused_before_any_work(place: RunFolder) -> None:
    metrics = place.folder / "label.prom"
    args = ("photos", "-o", REPORT, "--metrics-file", metrics, *GUARD)
    marker = place.folder / "photos" / MARKER
    marker.touch()
    assert place.run(*args).returncode == ExitCode.OK
    marker.unlink()
    report, journal = place.report.read_bytes(), place.journal.read_bytes()
    success = next(
        line for line in metrics.read_text().splitlines() if f"{LAST_SUCCESS.name}{{" in line
    )
    ran = place.run(*args)
    assert ran.returncode == ExitCode.FAILED
    (line,) = ran.stderr.splitlines()
    assert f"photos/{MARKER}, which --require-file requires: not found" in line
    assert "check that its disk is mounted" in line
    assert (place.report.read_bytes(), place.journal.read_bytes()) == (report, journal)
    record = place.record()
    assert (record["outcome"], record["exit_code"], record["published"]) == ("failed", 1, False)
    assert record["error"] in line
    assert record["settings"]["require_file"] == [MARKER]
    text = metrics.read_text().splitlines()
    assert success in text
    assert any(line.startswith(EXIT_CODE.name) and line.endswith(" 1") for line in text)


def test_a_dry_run_is_refused_too(place: RunFolder) -> None:
    ran = place.run("photos", "--dry-run", *GUARD)
    assert ran.returncode == ExitCode.FAILED
    assert ran.stdout == ""
    assert MARKER in ran.stderr
    (place.folder / "photos" / MARKER).touch()
    ran = place.run("photos", "--dry-run", *GUARD)
    assert (ran.returncode, len(ran.stdout.split())) == (ExitCode.OK, 2)


def test_a_folder_that_is_gone_is_refused_as_a_disk_that_is_not_mounted(place: RunFolder) -> None:
    ran = place.run("gone", "-o", REPORT, *GUARD)
    assert ran.returncode == ExitCode.FAILED
    assert f"gone/{MARKER}" in ran.stderr


def test_a_marker_file_that_can_t_be_seen_names_who_denies_it(place: RunFolder) -> None:
    photos = place.folder / "photos"
    (photos / MARKER).touch()
    photos.chmod(0o600)
    try:
        ran = place.run("photos", "-o", REPORT, *GUARD, before=unprivileged_prefix())
    finally:
        photos.chmod(0o700)
    assert ran.returncode == ExitCode.FAILED
    assert "permission denied (folder" in ran.stderr


def test_every_folder_and_every_file_is_checked(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / MARKER).touch()
    inputs = [str(folders[0]), f"file://{folders[1]}"]
    check_marker_files([MARKER, str(folders[0] / MARKER)], inputs)
    (folders[1] / MARKER).unlink()
    with pytest.raises(BatchLabelError, match=rf"/b/{MARKER}.*not found"):
        check_marker_files([MARKER], inputs)
    with pytest.raises(BatchLabelError, match="/c/marker"):
        check_marker_files([MARKER, str(tmp_path / "c" / "marker")], inputs[:1])


def test_a_marker_may_be_a_folder_or_lie_deeper(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".stfolder").mkdir(parents=True)
    check_marker_files(["sub/.stfolder"], [str(tmp_path)])


@pytest.mark.parametrize("given", ["list.txt", "photos.zip", "-", "s3://bucket/photos"])
def test_a_relative_name_needs_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("list.txt", "photos.zip", MARKER):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="absolute path"):
        check_marker_files([MARKER], [str(tmp_path), given])
    check_marker_files([str(tmp_path / MARKER)], [given])


@pytest.mark.parametrize("name", ["", ".", "..", "/", "./"])
def test_a_name_that_is_always_there_guards_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="names no file"):
        check_marker_files([name], [str(tmp_path)])
