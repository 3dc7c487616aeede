"""Waiting times: for the help, the models, the first label, and the report on one photo."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from batch.log import Event
from bench.command import COMMAND, CommandError
from bench.rounds import MedianRange, run_in_turns
from bench.sets import PhotoSet

CHUNK = 65536


@dataclass(frozen=True)
class WaitTimes:
    """Seconds from the start of a process.

    Attributes:
        help: until ``--help`` has ended.
        models_open: until the models are open and checked.
        first_label: until the first row of a report on standard output can be read.
        one_photo: until the report on one photo is published and the process has ended.
    """

    help: MedianRange
    models_open: MedianRange
    first_label: MedianRange
    one_photo: MedianRange


def measure_waits(photos: PhotoSet, repeats: int) -> WaitTimes:
    """Measure new processes in turn; program and models are in the page cache of the system."""
    found: dict[str, list[tuple[float, ...]]] = run_in_turns(
        {
            "help": lambda _: (_time_help(),),
            "one photo": lambda _: _time_one_photo(photos.paths()[0]),
            "first label": lambda _: (_time_first_label(photos),),
        },
        repeats,
    )
    single = found["one photo"]
    return WaitTimes(
        help=MedianRange.of(seconds for (seconds,) in found["help"]),
        models_open=MedianRange.of(opened for opened, _ in single),
        first_label=MedianRange.of(seconds for (seconds,) in found["first label"]),
        one_photo=MedianRange.of(ended for _, ended in single),
    )


def _time_help() -> float:
    started = time.perf_counter()
    subprocess.run([*COMMAND, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def _time_one_photo(photo: Path) -> tuple[float, float]:
    """Label one photo; return the seconds until the models were open and until the end."""
    opened = None
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "r.csv"
        command = [*COMMAND, str(photo), "-o", str(report), "--log-format", "json"]
        started = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if opened is None and json.loads(line)["event"] == Event.OPENED:
                    opened = time.perf_counter() - started
        ended = time.perf_counter() - started
        if opened is None or process.returncode or not report.is_file():
            raise CommandError(f"{' '.join(command)} ended with {process.returncode}")
    return opened, ended


def _time_first_label(photos: PhotoSet) -> float:
    """Stream a report to standard output until its first row arrives."""
    command = [*COMMAND, *map(str, photos.folders()), "-o", "-", "-q"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        seen = b""
        while seen.count(b"\n") < 2:  # the header and a row
            chunk = os.read(process.stdout.fileno(), CHUNK)
            if not chunk:
                raise CommandError(f"{' '.join(command)} ended without a row")
            seen += chunk
        passed = time.perf_counter() - started
        process.terminate()
    return passed
