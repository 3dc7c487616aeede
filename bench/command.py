"""Runs of the command as users have it: a process from its start to its published report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from batch.errors import ExitCode
from batch.log import Event
from bench.memory import MemorySampler, Peak

COMMAND = (sys.executable, "-m", "batch")


class CommandError(Exception):
    """The command failed, or did not do what is measured."""


@dataclass(frozen=True)
class FinishedProcess:
    """A process that has ended as it should.

    Attributes:
        seconds: from its start to its end.
        ended: the time of its end, Unix time.
        stderr: what it wrote on standard error.
        own_peak: the most memory that it had itself, in MiB; None on a system without /proc.
        peak: that of all its processes; None if they were not sampled, too.
    """

    seconds: float
    ended: float
    stderr: str
    own_peak: float | None
    peak: Peak | None


@dataclass(frozen=True)
class CommandRun:
    """A run of the command.

    Attributes:
        seconds: from the start of its process to its end.
        after_start: from the moment when its models were open to its end.
        own_peak: as that of ``FinishedProcess``.
        peak: likewise.
        record: the run's own record, run.json.
    """

    seconds: float
    after_start: float
    own_peak: float | None
    peak: Peak | None
    record: dict[str, Any]


def label_photos(
    photos: Sequence[Path],
    *options: str,
    command: Sequence[str] = COMMAND,
    report: Path | None = None,
    expected: int | None = None,
    sampled: bool = False,
    incomplete: bool = False,
    checkout: Path | None = None,
) -> CommandRun:
    """Label folders into a report, a new one unless it is named.

    Args:
        photos: the folders.
        options: more options of the command.
        command: how it is started.
        report: where the report goes.
        expected: the number of photos that must be labelled; None for any.
        sampled: whether the memory of all its processes is sampled, which takes time.
        incomplete: whether files may fail.
        checkout: the checkout of the project to run; None for this one.

    Raises:
        CommandError: the command failed, or labelled another number of photos than ``expected``.
    """
    with tempfile.TemporaryDirectory() as place:
        report = report or Path(place) / "r.csv"
        named = [str(path.resolve()) for path in photos]
        whole = [*command, *named, "-o", str(report), "--log-format", "json", *options]
        ok_codes = (ExitCode.OK, ExitCode.INCOMPLETE) if incomplete else (ExitCode.OK,)
        process = run_process(whole, sampled=sampled, fine=ok_codes, folder=checkout)
        record = json.loads(report.with_name(f"{report.name}.run.json").read_text("utf-8"))
    labelled = record["counts"]["labelled_now"]
    if expected is not None and labelled != expected:
        raise CommandError(f"{labelled} photos were labelled where {expected} were to be")
    after_start = process.ended - _find_open_time(process.stderr)
    return CommandRun(process.seconds, after_start, process.own_peak, process.peak, record)


def run_process(
    command: Sequence[str],
    *,
    sampled: bool = False,
    ok_codes: Sequence[int] = (0,),
    folder: Path | None = None,
) -> FinishedProcess:
    """Run a process in a folder, and time it.

    Raises:
        CommandError: it ended with another exit code than one of ``fine``.
    """
    # Its own folder is where `python -m` looks first, unless a path says otherwise.
    environment = os.environ | ({"PYTHONPATH": str(folder)} if folder else {})
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=folder,
        env=environment,
    ) as process:
        sampler = MemorySampler(process.pid, whole_tree=sampled)
        _, complaints = process.communicate()
        seconds, ended = time.perf_counter() - started, time.time()
        own_peak, peak = sampler.end()
    if process.returncode not in ok_codes:
        shown = " ".join(command)
        raise CommandError(f"{shown} ended with {process.returncode}: {complaints.strip()}")
    return FinishedProcess(seconds, ended, complaints, own_peak, peak)


def _find_open_time(log: str) -> float:
    """Find out from a log in JSON when the models were open, Unix time."""
    for line in log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry["event"] == Event.OPENED:
                return datetime.fromisoformat(entry["time"]).timestamp()
    raise CommandError(f"the log does not say when the models were open: {log[:1000]}")
