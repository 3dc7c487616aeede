"""Full, closed and missing standard streams give a message and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.conftest import REPOSITORY

HEADER = "path,status,label,confidence,p_happy,p_sad,error\n"
PROGRAM = (sys.executable, "-m", "batch")
# Each writes to standard output, or would.
COMMANDS = {
    "dry-run": ("--dry-run", "."),
    "model": ("model",),
    "help": ("--help",),
    "version": ("--version",),
    "diff": ("diff", "old.csv", "new.csv"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.csv").write_text(f"{HEADER}a.jpg,ok,happy,0.9,0.9,0.1,\n")
    (tmp_path / "new.csv").write_text(f"{HEADER}a.jpg,ok,sad,0.9,0.1,0.9,\n")
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    return tmp_path


def run(
    folder: Path, redirection: str, *args: str, unbuffered: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell redirects it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["PYTHONUNBUFFERED"] = "1" if unbuffered else ""
    ran = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *PROGRAM, *args],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    assert "Exception ignored" not in ran.stderr, ran.stderr
    return ran


@pytest.mark.parametrize(
    ("redirection", "why", "unbuffered"),
    [
        (">/dev/full", "No space left on device", False),
        (">&-", "Bad file descriptor", True),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_standard_output(
    name: str, redirection: str, why: str, unbuffered: bool, folder: Path
) -> None:
    ran = run(folder, redirection, *COMMANDS[name], unbuffered=unbuffered)
    assert ran.returncode == (ExitCode.USAGE if name == "diff" else ExitCode.FAILED)
    assert f"standard output can't be written ({why}); " in ran.stderr
    # A dry run tells on standard error of what it leaves out.
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("skipped: ")]
    assert len(lines) == 1


@pytest.mark.parametrize("name", ["label", *COMMANDS])
def test_a_closed_pipe_is_not_reported(name: str, folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [*PROGRAM, *(COMMANDS | {"label": ("a.jpg", "-q")})[name]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert ran.returncode == (ExitCode.USAGE if name == "diff" else ExitCode.FAILED)
    # A dry run tells on standard error of what it leaves out.
    assert [line for line in ran.stderr.splitlines() if not line.startswith("skipped: ")] == []


@pytest.mark.parametrize(
    ("redirection", "args", "code"),
    [
        ("2>/dev/full", ("diff", "old.csv", "new.csv", "--exit-code"), 1),
        ("2>&-", ("diff", "old.csv", "none.csv"), 2),
        ("2>/dev/full", ("report", "none.csv", "-o", "r.html"), 2),
        ("2> >(true)", ("model", "none"), 2),
        ("2>/dev/full", ("merge", "old.csv"), 2),
        ("2>/dev/full", ("manifest", ".", "-o", "m.parquet"), 0),
        ("2>/dev/full", ("explain", "a.jpg", "-o", "a.png"), 3),
        ("2>/dev/full", ("--no-such-option",), 2),
        ("2>&-", ("--dry-run", "."), 0),
    ],
)
def test_a_full_standard_error_does_not_change_the_exit_code(
    redirection: str, args: tuple[str, ...], code: int, folder: Path
) -> None:
    assert run(folder, redirection, *args).returncode == code


@pytest.mark.parametrize("redirection", [">&- 2>&- <&-", "<&-"])
def test_a_run_without_streams_writes_its_report(redirection: str, folder: Path) -> None:
    ran = run(folder, redirection, "a.jpg", "-q", "-o", "r.csv")
    assert ran.returncode == ExitCode.INCOMPLETE
    assert (folder / "r.csv").read_text().splitlines()[1].startswith("a.jpg,failed,")
    assert (folder / "r.csv.run.json").exists()


@pytest.mark.parametrize("args", [("-", "--dry-run"), ("-", "-o", "r.csv")])
def test_a_list_from_a_closed_input_is_refused(args: tuple[str, ...], folder: Path) -> None:
    ran = run(folder, "<&-", *args)
    assert ran.returncode == ExitCode.USAGE
    assert "standard input can't be read (Bad file descriptor)" in ran.stderr
    assert not (folder / "r.csv").exists()
