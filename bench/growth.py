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

from bench.command import COMMAND, Process, Run, label, run_process
from bench.figure import Figure
from bench.made_up import (
    TWO_WORKERS,
    SimulatedRun,
    in_one,
    label_simulated,
    make_files,
    nested,
)
from bench.sets import PhotoSet
from bench.turns import take_turns
from bench.unchanged import run_again

# Start-up is that of the same command over so few files.
FEW = 10
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
    rate: Figure
    to_smallest: Figure


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
class Cost:
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
    costs: list[Cost]
    exponents: dict[str, float]


@dataclass(frozen=True)
class Sizes:
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


def measure_growth(photos: PhotoSet, sizes: Sizes, tell: Callable[[str], None]) -> Growth:
    """Measure real first runs in turn, and each of the other commands once at each size.

    Raises:
        CommandError: a command failed.
    """
    tell(f"growth: first runs of {_listed(sizes.photos)} photos")
    first_runs = _first_runs(photos, sizes)
    intakes: list[Intake] = []
    costs: list[Cost] = []
    for files in _with_few(sizes.rows):
        tell(f"growth: {files:,} made-up rows")
        with tempfile.TemporaryDirectory() as home:
            intake, made = _through_all(Path(home), files, sizes.workers)
            intakes.append(intake)
            costs += made
    for what, counts, name in (
        (ONE_FOLDER, sizes.one_folder, in_one),
        (NESTED, sizes.nested, nested),
    ):
        for files in _with_few(counts):
            tell(f"growth: {what}, {files:,} files")
            with tempfile.TemporaryDirectory() as home:
                costs += _through_runs(Path(home), files, name, what)
    names = dict.fromkeys(cost.what for cost in costs)
    fitted = {name: exponent([c for c in costs if c.what == name]) for name in names}
    return Growth(
        first_runs,
        [intake for intake in intakes if intake.files > FEW],
        [cost for cost in costs if cost.files > FEW],
        {name: value for name, value in fitted.items() if value is not None},
    )


def exponent(costs: Sequence[Cost]) -> float | None:
    """Fit the exponent of seconds against files, less the seconds of the fewest files.

    Least squares of the logarithms; None with less than two sizes whose cost stands out.
    """
    fewest, *others = sorted(costs, key=lambda cost: cost.files)
    others = [cost for cost in others if cost.seconds > LEAST_STARTS * fewest.seconds]
    if fewest.files > FEW or len(others) < 2:
        return None
    across = [math.log(cost.files) for cost in others]
    up = [math.log(cost.seconds - fewest.seconds) for cost in others]
    middle, height = sum(across) / len(across), sum(up) / len(up)
    slope = sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True))
    return slope / sum((x - middle) ** 2 for x in across)


def _first_runs(photos: PhotoSet, sizes: Sizes) -> list[FirstRun]:
    def measure(count: int, _: int) -> float:
        some = photos.first(count)
        run = label(some.folders(), *TWO_WORKERS, expected=some.count)
        return some.count / run.after_start

    ways = {count: partial(measure, count) for count in sizes.photos}
    found = take_turns(ways, sizes.rounds)
    smallest = found[sizes.photos[0]]
    return [
        FirstRun(
            photos.first(count).count,
            Figure.of(rates),
            Figure.of(rate / least for rate, least in zip(rates, smallest, strict=True)),
        )
        for count, rates in found.items()
    ]


def _with_few(counts: Sequence[int]) -> tuple[int, ...]:
    """Put the start-up in front, which only an exponent needs."""
    return (FEW, *counts) if len(counts) > 1 else tuple(counts)


def _through_all(home: Path, files: int, workers: int) -> tuple[Intake, list[Cost]]:
    """Take one tree through all commands, each of which needs what the last one left."""
    photos, report = home / "photos", home / "r.csv"
    make_files(photos, files)
    first = label_simulated([photos], report, workers=workers)
    later = _through_commands(home, photos, report, files)
    return _intake(first, workers), [_cost(FIRST, files, first.run), *later]


def _through_commands(home: Path, photos: Path, report: Path, files: int) -> Iterator[Cost]:
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
    kept = label([photos], *TWO_WORKERS, *keep, report=report, expected=0)
    yield _cost("--keep-missing, half are gone", files, kept)
    changes = home / "changes.csv"
    yield _cost("diff, half are gone", files, _command("diff", old, report, "-o", changes))


def _through_runs(home: Path, files: int, name: Callable[[int], str], what: str) -> Iterator[Cost]:
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


def _command(*arguments: object) -> Process:
    command = [*COMMAND, *map(str, arguments)]
    if arguments[0] == "manifest":
        command.append("-q")
    return run_process(command)


def _cost(what: str, files: int, process: Process | Run) -> Cost:
    return Cost(what, files, process.seconds, process.own_peak)


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(f"{number:,}" for number in numbers)
