"""A report is replaced only when the new one is complete."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import OutputError
from batch.files.publish import Draft
from tests.support.discovery import NOBODY, without_privileges
from tests.support.runs import find_drafts

OLD = b"the earlier report\n"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

# A run of its own: it says when a good part of the report is written.
RUN = """
import sys
from pathlib import Path
from batch.files.publish import Draft
draft = Draft(Path(sys.argv[1]))
draft.stream.write(b"half a report" * 10_000)
draft.stream.flush()
print("written", flush=True)
sys.stdin.readline()
draft.publish()
"""

LIMITED_RUN = """
import resource, sys
from pathlib import Path
from batch.errors import OutputError
from batch.files.publish import Draft
from batch.os_errors import translate_write_errors
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
draft = Draft(Path(sys.argv[1]))
try:
    with translate_write_errors("report"):
        for _ in range(100):
            draft.stream.write(b"x" * 1000)
    draft.publish()
except OutputError as error:
    draft.discard()
    print(error)
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    report = tmp_path / "results.csv"
    report.write_bytes(OLD)
    return report


def start(report: Path) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(report)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "written\n"
    return run


def kill(run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGKILL)
    run.communicate()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_report_appears_only_when_published(report: Path) -> None:
    draft = Draft(report)
    draft.stream.write(b"new")
    draft.stream.flush()
    assert report.read_bytes() == OLD
    draft.publish()
    assert report.read_bytes() == b"new"
    assert names(report.parent) == {report.name}


def test_a_discarded_draft_leaves_no_trace(report: Path) -> None:
    draft = Draft(report)
    draft.stream.write(b"new")
    draft.discard()
    assert report.read_bytes() == OLD
    assert names(report.parent) == {report.name}


def test_a_killed_run_leaves_the_earlier_report_and_the_next_run_tidies_up(report: Path) -> None:
    run = start(report)
    kill(run)
    assert report.read_bytes() == OLD
    assert len(find_drafts(report.parent, report.name)) == 1
    assert len(names(report.parent)) == 2
    Draft(report).publish()
    assert names(report.parent) == {report.name}


def test_a_live_run_keeps_its_draft_and_publishes_it(report: Path) -> None:
    run = start(report)
    Draft(report).discard()
    run.communicate("go on\n")
    assert run.returncode == 0
    assert report.read_bytes() == b"half a report" * 10_000


def test_a_new_report_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        Draft(tmp_path / "new.csv").publish()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o640


def test_an_earlier_reports_permissions_are_kept(report: Path) -> None:
    report.chmod(0o604)
    Draft(report).publish()
    assert stat.S_IMODE(report.stat().st_mode) == 0o604


@needs_root
def test_root_leaves_an_earlier_report_s_owner(report: Path, tmp_path: Path) -> None:
    report.chmod(0o640)
    os.chown(report, 12345, 12346)
    new = tmp_path / "new.csv"
    for draft in (Draft(report), Draft(new, like=report)):
        draft.publish()
    for path in (report, new):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o640)


@needs_root
def test_an_owner_that_can_not_be_kept_is_no_error() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other users
        report = Path(name).resolve() / "results.csv"
        report.write_bytes(OLD)
        os.chown(report.parent, NOBODY, NOBODY)
        with without_privileges(report.parent):
            Draft(report).publish()
        assert report.read_bytes() == b""
        assert report.stat().st_uid == NOBODY


def test_a_link_is_followed(report: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "latest.csv"
    link.symlink_to(report)
    draft = Draft(link)
    draft.stream.write(b"new")
    draft.publish()
    assert link.is_symlink()
    assert report.read_bytes() == b"new"
    assert names(link.parent) == {link.name}


def test_the_missing_target_of_a_link_is_created(tmp_path: Path) -> None:
    link = tmp_path / "latest.csv"
    link.symlink_to("2024.csv")
    Draft(link).publish()
    assert link.is_symlink()
    assert (tmp_path / "2024.csv").is_file()


def test_a_folder_removed_during_the_run_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    draft = Draft(folder / "results.csv")
    draft.stream.write(b"new")
    shutil.rmtree(folder)
    with pytest.raises(
        OutputError, match=r"gone/results\.csv can't be written .*create its folder"
    ):
        draft.publish()
    draft.discard()


def test_a_full_disk_leaves_the_earlier_report(report: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED_RUN, str(report)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in run.stdout
    assert "raise the limit on the size of files" in run.stdout
    assert run.stderr == ""
    assert report.read_bytes() == OLD
    assert names(report.parent) == {report.name}


def test_a_photo_saved_there_during_the_run_is_not_replaced(report: Path) -> None:
    draft = Draft(report)
    draft.stream.write(b"new")
    Image.new("RGB", (8, 8)).save(report, "JPEG")
    photo = report.read_bytes()
    with pytest.raises(OutputError, match="is a picture, and pictures are never replaced"):
        draft.publish()
    draft.discard()
    assert report.read_bytes() == photo
    assert names(report.parent) == {report.name}


def test_a_draft_is_in_use_until_it_is_published(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def late(self: Path, target: Path) -> Path:
        Draft(report).discard()  # another process tidies up in this moment
        return replace(self, target)

    draft = Draft(report)
    draft.stream.write(b"new")
    monkeypatch.setattr(Path, "replace", late)
    draft.publish()
    assert report.read_bytes() == b"new"
