"""Time of a run without changes, in relation to a listing of the same files by ``find``.

Both are whole processes. ``find -type f -printf`` reads the size and time of each file, as a run
does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandError, CommandRun, label_photos, run_process
from bench.memory import Peak
from bench.rounds import MedianRange, run_in_turns
from bench.simulated_runs import TWO_WORKERS, label_simulated, make_files

FIND, COMMAND = "find", "command"


@dataclass(frozen=True)
class UnchangedRuns:
    """Times of runs without changes, in seconds.

    Attributes:
        files: the number of files.
        find: the whole process of ``find``.
        whole: the whole process of the command.
        ratio: ``whole`` over ``find``, within a round.
        start: the part of the command's time until its models are open.
        discover: the part for finding the files and comparing them with the journal.
        report: the part for writing the report.
        peak: peak memory of a separate run; None on a system without /proc.
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
    """Fill a journal with simulated workers, then time the command and ``find`` in turn."""
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
    """Run with real workers over files that are all in the journal.

    Raises:
        CommandError: the run failed, or labelled a file again.
    """
    run = label_photos([photos], *TWO_WORKERS, report=report, sampled=sampled)
    reused = run.record["counts"]["reused"]
    if reused != files:
        raise CommandError(f"only {reused} of {files} files were reused from the journal")
    return run
