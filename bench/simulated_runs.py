"""Runs with simulated workers, over trees of sparse files of any size."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandRun, label_photos

PER_FOLDER = 1_000
CPU = ("--provider", "cpu")
TWO_WORKERS = (*CPU, "--workers", "2")


@dataclass(frozen=True)
class SimulatedRun:
    """A run whose workers are simulated.

    Attributes:
        run: the whole run.
        rows: the number of rows.
        seconds: time from the first request to the last row, without start-up, discovery and
            report.
        spent: processor time of the main process in that time, in seconds.
    """

    run: CommandRun
    rows: int
    seconds: float
    spent: float


def label_simulated(
    photos: Sequence[Path], report: Path, *options: str, workers: int = 2
) -> SimulatedRun:
    """Label files with simulated workers, see ``bench.simulated_worker``.

    Raises:
        CommandError: the run failed.
    """
    with tempfile.TemporaryDirectory() as place:
        figures = Path(place) / "figures.json"
        run = label_photos(
            photos,
            *(*CPU, "--workers", str(workers), *options),
            command=(sys.executable, "-m", "bench.simulated_worker", str(figures)),
            report=report,
        )
        return SimulatedRun(run, **json.loads(figures.read_text("utf-8")))


def path_in_thousands(number: int) -> str:
    """Return the path of a file in folders of a thousand files."""
    return f"{number // PER_FOLDER:05}/{number:07}.jpg"


def path_in_one_folder(number: int) -> str:
    """Return the path of a file in one folder for all files."""
    return f"all/{number:07}.jpg"


def path_nested(number: int) -> str:
    """Return the path of a file in a folder of its own, five folders deep."""
    digits = f"{number:05}"
    return f"{'/'.join(digits)}/{digits}.jpg"


def make_files(folder: Path, count: int, name: Callable[[int], str] = path_in_thousands) -> None:
    """Make sparse files of various sizes, which take no space on the disk."""
    made: set[Path] = set()
    for number in range(count):
        path = folder / name(number)
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.touch()
        os.truncate(path, 10_000 + number * 7_919 % 1_000_003)
