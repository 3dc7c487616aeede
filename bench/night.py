"""A night on which nothing has changed, against a mere listing of the files.

`find -type f -printf` is compared with a second run: discovery and comparison, which may take
three times as long, and everything else.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from bench.command import CommandError, Run, label
from bench.figure import Figure
from bench.memory import Peak

PER_FOLDER = 1_000
REPEATS = 3
MODEL = ("-m", "people", "--provider", "cpu", "--workers", "2")


@dataclass(frozen=True)
class Night:
    """Times in seconds; ``first_peak`` is that of the run to which all files are new."""

    files: int
    find: Figure
    discover: Figure
    ratio: Figure
    report: Figure
    first_peak: Peak | None
    peak: Peak | None


def measure_night(files: int) -> Night:
    """Label a tree of tiny pictures, then run again and compare with a listing, in turn."""
    with tempfile.TemporaryDirectory() as home:
        photos, report = Path(home) / "photos", Path(home) / "r.csv"
        _make(photos, files)
        first = label([photos], *MODEL, report=report, looked_at=True)
        turns = [(_listed(photos), _again(photos, report, files)) for _ in range(REPEATS)]
        last = _again(photos, report, files, looked_at=True)
    return Night(
        files=files,
        find=Figure.of(listing for listing, _ in turns),
        discover=Figure.of(run.record["seconds"]["discover"] for _, run in turns),
        ratio=Figure.of(run.record["seconds"]["discover"] / listing for listing, run in turns),
        report=Figure.of(run.record["seconds"]["report"] for _, run in turns),
        first_peak=first.peak,
        peak=last.peak,
    )


def _again(photos: Path, report: Path, files: int, looked_at: bool = False) -> Run:
    run = label([photos], *MODEL, report=report, looked_at=looked_at)
    reused = run.record["counts"]["reused"]
    if reused != files:
        raise CommandError(f"{reused} of {files} files were known from the run before")
    return run


def _make(photos: Path, files: int) -> None:
    """Fill folders with copies of one tiny picture, of which the first alone is labelled."""
    picture = BytesIO()
    Image.new("RGB", (8, 8), "grey").save(picture, "JPEG")
    for n in range(files):
        folder = photos / f"{n // PER_FOLDER:04}"
        if n % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{n:07}.jpg").write_bytes(picture.getvalue())


def _listed(photos: Path) -> float:
    """Time a listing of all files with size and time."""
    started = time.perf_counter()
    command = ["find", str(photos), "-type", "f", "-printf", "%s %T@ %p\n"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
