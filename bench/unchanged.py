"""A run without changes against a mere listing of the same files, whole processes both.

``find -type f -printf`` reads size and time of each file, as a run has to.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandError, CommandRun, label_photos, run_process
from bench.figure import MedianRange
from bench.made_up import TWO_WORKERS, label_simulated, make_files
from bench.memory import Peak
from bench.turns import run_in_turns

FIND, COMMAND = "find", "command"


@dataclass(frozen=True)
class UnchangedRuns:
    """Times in seconds.

    Attributes:
        files: how many there are.
        find: the whole process of ``find``.
        whole: the whole process of the command.
        ratio: the second over the first, in the same round.
        start: that part of the command's time in which its models are opened.
        discover: that in which it finds the files and compares them with the journal.
        report: that in which it writes the report.
        peak: the command's memory, of another run; None on a system without /proc.
    """

    files: int
    find: MedianRange
    whole: MedianRange
    ratio: MedianRange
    start: MedianRange
    discover: MedianRange
    report: MedianRange
    peak: Peak | None


def measure_unchanged(files: int, rounds: int) -> UnchangedRuns:
    """Fill a journal through simulated workers, then run again and list the files in turn."""
    with tempfile.TemporaryDirectory() as home:
        photos, report = Path(home) / "photos", Path(home) / "r.csv"
        make_files(photos, files)
        label_simulated([photos], report)
        listing = ["find", str(photos), "-type", "f", "-printf", "%s %T@ %p\n"]
        listings: list[float] = []
        runs: list[CommandRun] = []
        run_in_turns(
            {
                FIND: lambda _: listings.append(run_process(listing).seconds),
                COMMAND: lambda _: runs.append(run_again(photos, report, files)),
            },
            rounds,
        )
        peak = run_again(photos, report, files, sampled=True).peak
    return UnchangedRuns(
        files=files,
        find=MedianRange.of(listings),
        whole=MedianRange.of(run.seconds for run in runs),
        ratio=MedianRange.of(run.seconds / find for run, find in zip(runs, listings, strict=True)),
        start=MedianRange.of(run.seconds - run.after_start for run in runs),
        discover=MedianRange.of(run.record["seconds"]["discover"] for run in runs),
        report=MedianRange.of(run.record["seconds"]["report"] for run in runs),
        peak=peak,
    )


def run_again(photos: Path, report: Path, files: int, *, sampled: bool = False) -> CommandRun:
    """Run with real workers over files that the journal knows.

    Raises:
        CommandError: the run failed, or did not know them.
    """
    run = label_photos([photos], *TWO_WORKERS, report=report, sampled=sampled)
    reused = run.record["counts"]["reused"]
    if reused != files:
        raise CommandError(f"{reused} of {files} files were known from the run before")
    return run
