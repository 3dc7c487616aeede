"""Runs of the command as whole processes, with their times and memory."""

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
    """The command failed, or did something else than what is measured."""


@dataclass(frozen=True)
class FinishedProcess:
    """A process that ended with an expected exit code.

    Attributes:
        seconds: run time from start to end.
        ended: end time, Unix time.
        stderr: its standard error.
        own_peak: peak memory of the process itself, in MiB; None on a system without /proc.
        peak: peak memory of the process and its children; None if not sampled or without /proc.
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
        seconds: run time of the process from start to end.
        after_start: seconds from the moment the models were open to the end.
        own_peak: as in ``FinishedProcess``.
        peak: as in ``FinishedProcess``.
        record: the run record, run.json.
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
    """Label photos with the command.

    Args:
        photos: the inputs of the command.
        options: more options of the command.
        command: the command line that starts the command.
        report: the path of the report; None for a temporary file.
        expected: the number of photos that must be labelled; None for any.
        sampled: whether to sample the memory of all its processes, which slows the run down.
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
        process = run_process(whole, sampled=sampled, ok_codes=ok_codes, folder=checkout)
        record = json.loads(report.with_name(f"{report.name}.run.json").read_text("utf-8"))
    labelled = record["counts"]["labelled_now"]
    if expected is not None and labelled != expected:
        raise CommandError(f"{labelled} photos were labelled, not {expected}")
    after_start = process.ended - _find_open_time(process.stderr)
    return CommandRun(process.seconds, after_start, process.own_peak, process.peak, record)


def run_process(
    command: Sequence[str],
    *,
    sampled: bool = False,
    ok_codes: Sequence[int] = (0,),
    folder: Path | None = None,
) -> FinishedProcess:
    """Run a process and time it.

    Args:
        command: the command line.
        sampled: whether to sample the memory of its children, too.
        ok_codes: the expected exit codes.
        folder: the working directory, from which Python imports; None for this one.

    Raises:
        CommandError: the exit code is not one of ``ok_codes``.
    """
    # PYTHONPATH may point to this checkout and would take precedence over the folder.
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
        _, stderr = process.communicate()
        seconds, ended = time.perf_counter() - started, time.time()
        own_peak, peak = sampler.end()
    if process.returncode not in ok_codes:
        shown = " ".join(command)
        raise CommandError(f"{shown} ended with {process.returncode}: {stderr.strip()}")
    return FinishedProcess(seconds, ended, stderr, own_peak, peak)


def _find_open_time(log: str) -> float:
    """Return the Unix time at which the models were open, from a JSON log."""
    for line in log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry["event"] == Event.OPENED:
                return datetime.fromisoformat(entry["time"]).timestamp()
    raise CommandError(f"no event {Event.OPENED} in the log: {log[:1000]}")
