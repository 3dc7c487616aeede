"""Staging folders are private, and those of killed processes are removed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batch.files.drafts import make_draft_name
from batch.files.staging import STAGED_STEM, StagingFolder
from batch.reports.output import open_destination
from tests.conftest import REPOSITORY

# A limit on the size of files stands for a full disk: both are refused as they are written.
LIMITED_RUN = """
import io, resource
from batch.errors import OutputError
from batch.reports.output import open_destination
from batch.os_errors import translate_write_errors
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
output = open_destination("memory://outputs/r.csv", io.BytesIO())
try:
    with translate_write_errors("report"):
        for _ in range(100):
            output.stream.write(b"x" * 1000)
    output.publish()
except OutputError as error:
    output.discard()
    print(error)
"""


KILLED_RUN = """
import os, signal
from batch.files.staging import StagingFolder
StagingFolder().open("r.csv").write(b"half a report")
os.kill(os.getpid(), signal.SIGKILL)
"""


MANY_RUNS = """
from batch.files.staging import StagingFolder
for _ in range(150):
    StagingFolder().close()
"""


def elsewhere(temporary: Path) -> dict[str, Any]:
    return {"cwd": REPOSITORY, "env": {**os.environ, "TMPDIR": str(temporary)}}


def test_temporary_files_are_private_and_end_with_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = open_destination("memory://outputs/r.csv", io.BytesIO())
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    output.discard()
    assert not list(tmp_path.iterdir())


def test_folders_of_killed_processes_are_removed_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    used = StagingFolder()
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN], **elsewhere(tmp_path))
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    other = StagingFolder()
    assert len(list(tmp_path.iterdir())) == 2
    assert used.path.is_dir()
    for staging in (used, other):
        staging.close()
        staging.close()
    assert not list(tmp_path.iterdir())


def test_other_folders_of_the_temporary_folder_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in (
        "batch-label-holiday",
        STAGED_STEM,
        make_draft_name(STAGED_STEM),
        f"{STAGED_STEM}.batch-label-1.tmp",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.jpg").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    StagingFolder().close()
    assert sorted(tmp_path.rglob("*")) == before


def test_many_may_start_at_once(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", MANY_RUNS], stderr=subprocess.PIPE, **elsewhere(tmp_path)
        )
        for _ in range(4)
    ]
    assert [run.communicate()[1] for run in runs] == [b""] * 4
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_temporary_file(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED_RUN],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(f"temporary file {tmp_path}/{STAGED_STEM}.batch-label-")
    assert "r.csv can't be written (File too large); " in ran.stdout
    assert "point TMPDIR at another disk" in ran.stdout
    assert not list(tmp_path.iterdir())
