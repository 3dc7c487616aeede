"""Runs of the whole command over broken files, and checks of their reports."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.errors import ExitCode
from batch.path_text import parse_path_text
from tests.conftest import REPOSITORY

RUN_SECONDS = 900.0  # for one run


@dataclass(frozen=True)
class LabelRun:
    """A finished run of the command.

    Attributes:
        code: the exit code.
        stderr: the standard error.
        seconds: the run time.
        peak_mib: peak resident memory of the largest process, in MiB.
        descriptors: the most file descriptors open in the main process.
    """

    code: int
    stderr: str
    seconds: float
    peak_mib: int
    descriptors: int

    def __str__(self) -> str:
        return (
            f"exit code {self.code}, {self.seconds:.1f} s, {self.peak_mib} MiB, "
            f"{self.descriptors} descriptors"
        )


def label_files(files: Sequence[Path], work: Path, *options: str) -> list[LabelRun]:
    """Label files into two reports in ``work``, and again with the journal of the first run.

    Raises:
        AssertionError: a run fails, a file has no row, or two runs differ.
    """
    listing = work / "files"
    listing.write_bytes(b"\0".join(map(os.fsencode, files)))
    runs = [_label(listing, work / name, *options) for name in ("1.csv", "2.csv", "1.csv")]
    for run in runs:
        assert run.code in (ExitCode.OK, ExitCode.INCOMPLETE), run.stderr
        assert "Traceback" not in run.stderr, run.stderr
    assert (work / "1.csv").read_bytes() == (work / "2.csv").read_bytes(), "another report"
    with (work / "1.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    paths = [parse_path_text(row["path"]) for row in rows]
    assert paths == list(files), f"{len(rows)} rows for {len(files)} files"
    assert not [row["error"] for row in rows if row["error"].startswith("internal")]
    return runs


def _label(listing: Path, report: Path, *options: str) -> LabelRun:
    started = time.monotonic()
    # A file, because a pipe that is read only at the end could fill up.
    log = report.with_suffix(".log")
    words = ("-W", "error", "-m", "batch", "label", "-", "-o", str(report))
    with listing.open("rb") as stdin, log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *words, "--provider", "cpu", *options],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        watch = _Descriptors(process.pid)
        killer = threading.Timer(RUN_SECONDS, process.kill)
        killer.start()
        _, status, used = os.wait4(process.pid, 0)
        killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return LabelRun(
        code=process.returncode,
        stderr=log.read_text(encoding="utf-8", errors="replace"),
        seconds=time.monotonic() - started,
        peak_mib=used.ru_maxrss // 1024,
        descriptors=watch.most(),
    )


class _Descriptors:
    """Samples the number of open file descriptors of a process until it ends."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}/fd")
        self._most = 0
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                self._most = max(self._most, len(list(self._folder.iterdir())))
            except OSError:  # the process has ended, or there is no /proc
                return
            time.sleep(0.02)

    def most(self) -> int:
        self._thread.join()
        return self._most
