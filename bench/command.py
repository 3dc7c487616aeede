"""Runs of the command as users have it: a process from its start to its published report."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.errors import ExitCode
from bench.memory import Peak, Sampler

COMMAND = (sys.executable, "-m", "batch")


class CommandError(Exception):
    """The command failed, or did not do what is measured."""


@dataclass(frozen=True)
class Run:
    """One run: seconds from the process's start to its end, and the run's own record, run.json.

    ``peak`` is its memory's, None where nobody looked.
    """

    seconds: float
    peak: Peak | None
    record: dict[str, Any]


def label(
    photos: Sequence[Path],
    *options: str,
    report: Path | None = None,
    expected: int | None = None,
    looked_at: bool = False,
    incomplete: bool = False,
) -> Run:
    """Label folders into a report, a new one unless it is named.

    With ``looked_at`` its memory is sampled, which takes time. With ``incomplete`` it may meet
    files that can't be read.

    Raises:
        CommandError: the command failed, or labelled another number of photos than ``expected``.
    """
    with tempfile.TemporaryDirectory() as place:
        report = report or Path(place) / "r.csv"
        arguments = [*map(str, photos), "-o", str(report), "-q", *options]
        fine = (ExitCode.OK, ExitCode.INCOMPLETE) if incomplete else (ExitCode.OK,)
        seconds, peak = _timed([*COMMAND, *arguments], looked_at, fine)
        record = json.loads(report.with_name(f"{report.name}.run.json").read_text("utf-8"))
    labelled = record["counts"]["labelled_now"]
    if expected is not None and labelled != expected:
        raise CommandError(f"{labelled} photos were labelled where {expected} were to be")
    return Run(seconds, peak, record)


def _timed(
    command: Sequence[str], looked_at: bool, fine: Sequence[int]
) -> tuple[float, Peak | None]:
    """Run a process; give its seconds and, if it is looked at, its peak memory."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        sampler = Sampler(process.pid) if looked_at else None
        _, complaints = process.communicate()
        seconds = time.perf_counter() - started
        peak = sampler.peak() if sampler else None
    if process.returncode not in fine:
        shown = " ".join(command)
        raise CommandError(f"{shown} ended with {process.returncode}: {complaints.strip()}")
    return seconds, peak
