"""Side-by-side runs of the command: local workers and Ray actors, this checkout and another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandError, label_photos
from bench.machine import list_usable_cores, pin_to_cores
from bench.rounds import MedianRange, run_in_turns
from bench.sets import PhotoSet

LOCAL = ("--provider", "cpu")
RAY = (*LOCAL, "--engine", "ray")
ONE_WORKER = (*LOCAL, "--workers", "1")
LOCATE_PACKAGE = "import batch, sys; sys.stdout.write(batch.__path__[0])"


@dataclass(frozen=True)
class EngineComparison:
    """The local engine and Ray on the same photos and cores; all times are whole processes.

    Attributes:
        photos: the name of the photo set.
        count: the number of photos.
        workers: the number of local workers and of Ray actors.
        start: seconds of a local run over one photo.
        ray_start: seconds of a run on Ray over one photo.
        seconds: seconds of a local run over all photos.
        ray_seconds: seconds of a run on Ray over all photos.
    """

    photos: str
    count: int
    workers: int
    start: MedianRange
    ray_start: MedianRange
    seconds: MedianRange
    ray_seconds: MedianRange


@dataclass(frozen=True)
class CheckoutComparison:
    """This checkout and another one on the same photos, on one core, start-up included.

    Attributes:
        photos: the name of the photo set.
        count: the number of photos.
        other: the commit of the other checkout, or the name of its folder.
        rate: photos per second of this checkout.
        other_rate: photos per second of the other checkout.
        times: ``rate`` over ``other_rate``, within a round.
    """

    photos: str
    count: int
    other: str
    rate: MedianRange
    other_rate: MedianRange
    times: MedianRange


def compare_engines(photos: PhotoSet, workers: int, rounds: int) -> EngineComparison:
    """Run the local engine and Ray in turn.

    Raises:
        CommandError: a run failed.
    """

    def measure(*options: str) -> tuple[float, float]:
        one = label_photos(photos.paths()[:1], *options, expected=1)
        every = label_photos(photos.folders(), *options, expected=photos.count)
        return one.seconds, every.seconds

    found = run_in_turns(
        {
            "local": lambda _: measure(*LOCAL, "--workers", str(workers)),
            "ray": lambda _: measure(*RAY, "--actors", str(workers)),
        },
        rounds,
    )
    start, seconds = zip(*found["local"], strict=True)
    ray_start, ray_seconds = zip(*found["ray"], strict=True)
    return EngineComparison(
        photos=photos.name,
        count=photos.count,
        workers=workers,
        start=MedianRange.of(start),
        ray_start=MedianRange.of(ray_start),
        seconds=MedianRange.of(seconds),
        ray_seconds=MedianRange.of(ray_seconds),
    )


def compare_checkouts(
    checkout: Path, sets: Sequence[PhotoSet], rounds: int
) -> list[CheckoutComparison]:
    """Label each photo set with both checkouts, using the Python and packages of this process.

    Raises:
        CommandError: a run failed, or ``checkout`` is not a checkout of the project.
    """
    checkout = checkout.resolve()
    name = _name_checkout(checkout)
    return [_compare(checkout, name, photos, rounds) for photos in sets]


def _compare(checkout: Path, name: str, photos: PhotoSet, rounds: int) -> CheckoutComparison:
    def measure(folder: Path | None) -> float:
        run = label_photos(photos.folders(), *ONE_WORKER, expected=photos.count, checkout=folder)
        return photos.count / run.seconds

    with pin_to_cores(list_usable_cores()[:1]):
        found = run_in_turns(
            {"this": lambda _: measure(None), "other": lambda _: measure(checkout)}, rounds
        )
    rates, others = found["this"], found["other"]
    return CheckoutComparison(
        photos=photos.name,
        count=photos.count,
        other=name,
        rate=MedianRange.of(rates),
        other_rate=MedianRange.of(others),
        times=MedianRange.of(rate / other for rate, other in zip(rates, others, strict=True)),
    )


def _name_checkout(checkout: Path) -> str:
    """Return the commit of a checkout, or the name of its folder outside of Git.

    Raises:
        CommandError: Python does not import the package from there.
    """
    ran = subprocess.run(
        [sys.executable, "-c", LOCATE_PACKAGE],
        cwd=checkout if checkout.is_dir() else None,
        env={"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if Path(ran.stdout) != checkout / "batch":
        raise CommandError(
            f"{checkout} is not a checkout of batch-label; name another folder with --against"
        )
    asked = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return commit or checkout.name
