"""Rates, run times and memory by the number of files, with a fitted exponent per command.

An exponent of 1.0 means that a command's time is proportional to the number of files.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.command import COMMAND, CommandRun, FinishedProcess, label_photos, run_process
from bench.memory import Peak
from bench.rounds import MedianRange, run_in_turns
from bench.sets import PhotoSet
from bench.simulated_runs import (
    TWO_WORKERS,
    label_simulated,
    make_files,
    path_in_one_folder,
    path_nested,
)
from bench.unchanged import run_again

# Size of the run whose time counts as start-up.
FEWEST_FILES = 10
SHARDS = 2
# A fit skips sizes that take less than this many start-ups: noise hides their cost.
LEAST_STARTS = 1.5
FIRST = "first run, simulated workers"
ONE_FOLDER, NESTED = "one folder", "nested folders"


@dataclass(frozen=True)
class FirstRun:
    """A first run over real photos.

    Attributes:
        count: the number of photos.
        rate: photos per second once the models are open.
        to_smallest: the rate over that of the smallest size, within a round.
    """

    count: int
    rate: MedianRange
    to_smallest: MedianRange


@dataclass(frozen=True)
class Intake:
    """The main process of a run whose workers are simulated.

    Attributes:
        files: the number of files.
        workers: the number of simulated workers.
        rate: rows per second, from the first request to the last row.
        spent_ms: milliseconds of processor time per file, in the main process.
        peak: peak memory of the main process, in MiB; None on a system without /proc.
    """

    files: int
    workers: int
    rate: float
    spent_ms: float
    peak: float | None


@dataclass(frozen=True)
class CommandCost:
    """One run of a command, as a whole process.

    Attributes:
        what: the name of the measurement.
        files: the number of files.
        seconds: the run time of the process.
        peak: peak memory of the process itself, in MiB; None on a system without /proc.
    """

    what: str
    files: int
    seconds: float
    peak: float | None


@dataclass(frozen=True)
class Growth:
    """All measurements by size.

    Attributes:
        first_runs: first runs over real photos.
        intakes: main processes of runs with simulated workers.
        costs: commands at each size.
        exponents: the exponent of run time without start-up, by the name of the measurement; only
            for measurements at two or more sizes.
    """

    first_runs: list[FirstRun]
    intakes: list[Intake]
    costs: list[CommandCost]
    exponents: dict[str, float]


@dataclass(frozen=True)
class GrowthSizes:
    """Sizes of the measurements.

    Attributes:
        photos: numbers of real photos for first runs.
        rounds: the number of rounds of first runs.
        rows: numbers of empty files in folders of a thousand, labelled by simulated workers.
        workers: the number of simulated workers.
        one_folder: numbers of empty files in one folder.
        nested: numbers of empty files, each in a nested folder of its own.
    """

    photos: tuple[int, ...]
    rounds: int
    rows: tuple[int, ...]
    workers: int
    one_folder: tuple[int, ...]
    nested: tuple[int, ...]


def measure_growth(photos: PhotoSet, sizes: GrowthSizes, tell: Callable[[str], None]) -> Growth:
    """Measure first runs over real photos in turn, and every other command once per size.

    Raises:
        CommandError: a command failed.
    """
    counts_text = " and ".join(f"{number:,}" for number in sizes.photos)
    tell(f"growth: first runs of {counts_text} photos")
    first_runs = _measure_first_runs(photos, sizes)
    intakes: list[Intake] = []
    costs: list[CommandCost] = []
    for files in _add_fewest(sizes.rows):
        tell(f"growth: {files:,} simulated rows")
        with tempfile.TemporaryDirectory() as home:
            intake, made = _measure_tree(Path(home), files, sizes.workers)
            intakes.append(intake)
            costs += made
    for what, counts, name in (
        (ONE_FOLDER, sizes.one_folder, path_in_one_folder),
        (NESTED, sizes.nested, path_nested),
    ):
        for files in _add_fewest(counts):
            tell(f"growth: {what}, {files:,} files")
            with tempfile.TemporaryDirectory() as home:
                costs += _measure_runs(Path(home), files, name, what)
    names = dict.fromkeys(cost.what for cost in costs)
    fitted = {name: fit_exponent([c for c in costs if c.what == name]) for name in names}
    return Growth(
        first_runs,
        [intake for intake in intakes if intake.files > FEWEST_FILES],
        [cost for cost in costs if cost.files > FEWEST_FILES],
        {name: value for name, value in fitted.items() if value is not None},
    )


def fit_exponent(costs: Sequence[CommandCost]) -> float | None:
    """Fit the exponent of run time, without start-up, against the number of files.

    Least squares on logarithms. The run over ``FEWEST_FILES`` files gives the start-up time.

    Returns:
        The exponent; None with fewer than two sizes that take longer than start-up.
    """
    fewest, *others = sorted(costs, key=lambda cost: cost.files)
    others = [cost for cost in others if cost.seconds > LEAST_STARTS * fewest.seconds]
    if fewest.files > FEWEST_FILES or len(others) < 2:
        return None
    across = [math.log(cost.files) for cost in others]
    up = [math.log(cost.seconds - fewest.seconds) for cost in others]
    middle, height = sum(across) / len(across), sum(up) / len(up)
    slope = sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True))
    return slope / sum((x - middle) ** 2 for x in across)


def _measure_first_runs(photos: PhotoSet, sizes: GrowthSizes) -> list[FirstRun]:
    def measure(count: int, _: int) -> float:
        some = photos.first(count)
        run = label_photos(some.folders(), *TWO_WORKERS, expected=some.count)
        return some.count / run.after_start

    ways = {count: partial(measure, count) for count in sizes.photos}
    found = run_in_turns(ways, sizes.rounds)
    smallest = found[sizes.photos[0]]
    return [
        FirstRun(
            photos.first(count).count,
            MedianRange.of(rates),
            MedianRange.of(rate / least for rate, least in zip(rates, smallest, strict=True)),
        )
        for count, rates in found.items()
    ]


def _add_fewest(counts: Sequence[int]) -> tuple[int, ...]:
    """Add the size that measures start-up, if there are sizes enough to fit an exponent."""
    return (FEWEST_FILES, *counts) if len(counts) > 1 else tuple(counts)


def _measure_tree(home: Path, files: int, workers: int) -> tuple[Intake, list[CommandCost]]:
    """Run all commands over one tree, in order: each uses the results of the one before."""
    photos, report = home / "photos", home / "r.csv"
    make_files(photos, files)
    first = label_simulated([photos], report, workers=workers)
    later = _measure_commands(home, photos, report, files)
    intake = Intake(
        files=first.rows,
        workers=workers,
        rate=first.rows / first.seconds,
        spent_ms=1000 * first.spent / first.rows,
        peak=first.run.own_peak,
    )
    return intake, [_cost(FIRST, files, first.run), *later]


def _measure_commands(home: Path, photos: Path, report: Path, files: int) -> Iterator[CommandCost]:
    old = home / "old.csv"
    yield _cost("run without changes", files, run_again(photos, report, files))
    shutil.copy(report, old)
    shards = [home / f"shard-{number}.csv" for number in range(1, SHARDS + 1)]
    for number, shard in enumerate(shards, start=1):
        label_simulated([photos], shard, "--shard", f"{number}/{SHARDS}")
    merged, page, listed = home / "merged.csv", home / "r.html", home / "files.parquet"
    yield _cost("merge", files, _run_command("merge", *shards, "-o", merged))
    yield _cost("report", files, _run_command("report", report, "-o", page))
    yield _cost("manifest", files, _run_command("manifest", photos, "-o", listed))
    # Move half of the files away: whole folders or, in a small tree, single files.
    gone = home / "gone"
    gone.mkdir()
    entries = sorted(photos.iterdir())
    if len(entries) == 1:
        entries = sorted(entries[0].iterdir())
    for entry in entries[: len(entries) // 2]:
        entry.rename(gone / entry.name)
    keep = ("--keep-missing", "--max-gone", "0")
    kept = label_photos([photos], *TWO_WORKERS, *keep, report=report, expected=0)
    yield _cost("--keep-missing, half are gone", files, kept)
    changes = home / "changes.csv"
    yield _cost("diff, half are gone", files, _run_command("diff", old, report, "-o", changes))


def _measure_runs(
    home: Path, files: int, name: Callable[[int], str], what: str
) -> Iterator[CommandCost]:
    """Measure a first run over a tree, and a run without changes."""
    photos, report = home / "photos", home / "r.csv"
    make_files(photos, files, name)
    first = label_simulated([photos], report).run
    yield _cost(f"{FIRST}, {what}", files, first)
    again = run_again(photos, report, files)
    yield _cost(f"run without changes, {what}", files, again)


def _run_command(*arguments: object) -> FinishedProcess:
    command = [*COMMAND, *map(str, arguments)]
    if arguments[0] == "manifest":
        command.append("-q")
    return run_process(command)


def _cost(what: str, files: int, process: FinishedProcess | CommandRun) -> CommandCost:
    return CommandCost(what, files, process.seconds, process.own_peak)


@dataclass(frozen=True)
class Footprint:
    """Peak memory of a run with two workers.

    Attributes:
        photos: the name of the photo set.
        count: the number of photos.
        peak: the peak memory; None on a system without /proc.
    """

    photos: str
    count: int
    peak: Peak | None


def measure_footprint(photos: PhotoSet, counts: Sequence[int]) -> list[Footprint]:
    """Label several numbers of photos, each from scratch, and sample the memory."""
    found = []
    for count in counts:
        some = photos.first(count)
        run = label_photos(some.folders(), *TWO_WORKERS, expected=some.count, sampled=True)
        found.append(Footprint(photos.name, some.count, run.peak))
    return found
