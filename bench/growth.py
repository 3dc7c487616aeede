"""What a photo costs, by how many there are: rates, seconds and memory, and a fitted exponent.

Costs of 1.0 grow in proportion to the number of photos.
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
from bench.figure import MedianRange
from bench.made_up import (
    TWO_WORKERS,
    SimulatedRun,
    label_simulated,
    make_files,
    path_in_one_folder,
    path_nested,
)
from bench.sets import PhotoSet
from bench.turns import run_in_turns
from bench.unchanged import run_again

# Start-up is that of the same command over so few files.
FEWEST_FILES = 10
SHARDS = 2
# Sizes that take less than so many start-ups are left out of a fit: noise hides their cost.
LEAST_STARTS = 1.5
FIRST = "first run, simulated workers"
ONE_FOLDER, NESTED = "one folder", "nested folders"


@dataclass(frozen=True)
class FirstRun:
    """A first run over real photos: photos a second once the models are open.

    ``to_smallest`` is its ratio to the rate of the smallest number, in the same round.
    """

    count: int
    rate: MedianRange
    to_smallest: MedianRange


@dataclass(frozen=True)
class Intake:
    """The run itself, whose workers are simulated.

    Attributes:
        files: how many there were.
        workers: how many workers answered.
        rate: rows a second, from the first photo that was handed out to the last row.
        spent_ms: milliseconds of the processor for a photo, in the run's own process.
        peak: the most memory that it had, in MiB; None on a system without /proc.
    """

    files: int
    workers: int
    rate: float
    spent_ms: float
    peak: float | None


@dataclass(frozen=True)
class CommandCost:
    """A command over ``files`` files, once, as a whole process; its own peak of memory in MiB."""

    what: str
    files: int
    seconds: float
    peak: float | None


@dataclass(frozen=True)
class Growth:
    """All that was measured by size.

    ``exponents`` are those of the costs' seconds without start-up, by what was done; a command that
    was measured at too few sizes has none.
    """

    first_runs: list[FirstRun]
    intakes: list[Intake]
    costs: list[CommandCost]
    exponents: dict[str, float]


@dataclass(frozen=True)
class GrowthSizes:
    """How many photos or files each measurement is of.

    Attributes:
        photos: real photos of first runs.
        rounds: how often these are measured.
        rows: files with made-up rows in folders of a thousand.
        workers: simulated workers that make them up.
        one_folder: files with made-up rows in one folder.
        nested: files with made-up rows in as many nested folders.
    """

    photos: tuple[int, ...]
    rounds: int
    rows: tuple[int, ...]
    workers: int
    one_folder: tuple[int, ...]
    nested: tuple[int, ...]


def measure_growth(photos: PhotoSet, sizes: GrowthSizes, tell: Callable[[str], None]) -> Growth:
    """Measure real first runs in turn, and each of the other commands once at each size.

    Raises:
        CommandError: a command failed.
    """
    tell(f"growth: first runs of {_join_numbers(sizes.photos)} photos")
    first_runs = _first_runs(photos, sizes)
    intakes: list[Intake] = []
    costs: list[CommandCost] = []
    for files in _add_fewest(sizes.rows):
        tell(f"growth: {files:,} made-up rows")
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
    """Fit the exponent of seconds against files, less the seconds of the fewest files.

    Least squares of the logarithms; None with less than two sizes whose cost stands out.
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


def _first_runs(photos: PhotoSet, sizes: GrowthSizes) -> list[FirstRun]:
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
    """Put the start-up in front, which only an exponent needs."""
    return (FEWEST_FILES, *counts) if len(counts) > 1 else tuple(counts)


def _measure_tree(home: Path, files: int, workers: int) -> tuple[Intake, list[CommandCost]]:
    """Take one tree through all commands, each of which needs what the last one left."""
    photos, report = home / "photos", home / "r.csv"
    make_files(photos, files)
    first = label_simulated([photos], report, workers=workers)
    later = _measure_commands(home, photos, report, files)
    return _intake(first, workers), [_cost(FIRST, files, first.run), *later]


def _measure_commands(home: Path, photos: Path, report: Path, files: int) -> Iterator[CommandCost]:
    old = home / "old.csv"
    yield _cost("run without changes", files, run_again(photos, report, files))
    shutil.copy(report, old)
    shards = [home / f"shard-{number}.csv" for number in range(1, SHARDS + 1)]
    for number, shard in enumerate(shards, start=1):
        label_simulated([photos], shard, "--shard", f"{number}/{SHARDS}")
    merged, page, listed = home / "merged.csv", home / "r.html", home / "files.parquet"
    yield _cost("merge", files, _command("merge", *shards, "-o", merged))
    yield _cost("report", files, _command("report", report, "-o", page))
    yield _cost("manifest", files, _command("manifest", photos, "-o", listed))
    # Half of the photos are gone, in whole folders or, in a small tree, as single files.
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
    yield _cost("diff, half are gone", files, _command("diff", old, report, "-o", changes))


def _measure_runs(
    home: Path, files: int, name: Callable[[int], str], what: str
) -> Iterator[CommandCost]:
    """Run twice over one tree: first, and without changes."""
    photos, report = home / "photos", home / "r.csv"
    make_files(photos, files, name)
    first = label_simulated([photos], report).run
    yield _cost(f"{FIRST}, {what}", files, first)
    again = run_again(photos, report, files)
    yield _cost(f"run without changes, {what}", files, again)


def _intake(first: SimulatedRun, workers: int) -> Intake:
    return Intake(
        files=first.rows,
        workers=workers,
        rate=first.rows / first.seconds,
        spent_ms=1000 * first.spent / first.rows,
        peak=first.run.own_peak,
    )


def _command(*arguments: object) -> FinishedProcess:
    command = [*COMMAND, *map(str, arguments)]
    if arguments[0] == "manifest":
        command.append("-q")
    return run_process(command)


def _cost(what: str, files: int, process: FinishedProcess | CommandRun) -> CommandCost:
    return CommandCost(what, files, process.seconds, process.own_peak)


def _join_numbers(numbers: Sequence[int]) -> str:
    return " and ".join(f"{number:,}" for number in numbers)
