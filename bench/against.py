"""This checkout's command against that of another checkout of the project, in turn on one core."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandError, label_photos
from bench.figure import MedianRange
from bench.machine import list_usable_cores, pin_to_cores
from bench.sets import PhotoSet
from bench.turns import run_in_turns

ONE_WORKER = ("--provider", "cpu", "--workers", "1")
WHERE_PROGRAM = "import batch, sys; sys.stdout.write(batch.__path__[0])"


@dataclass(frozen=True)
class CheckoutComparison:
    """Photos a second of both, start-up included; ``times`` is the ratio, in the same round."""

    photos: str
    count: int
    other: str
    rate: MedianRange
    other_rate: MedianRange
    times: MedianRange


def measure_against(
    checkout: Path, sets: Sequence[PhotoSet], rounds: int
) -> list[CheckoutComparison]:
    """Label each set with both, with the Python and the packages of this process.

    Raises:
        CommandError: a run failed, or there is no such checkout.
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
    """Give a checkout's commit, or its folder's name where Git knows none.

    Raises:
        CommandError: Python does not take the package from there.
    """
    ran = subprocess.run(
        [sys.executable, "-c", WHERE_PROGRAM],
        cwd=checkout if checkout.is_dir() else None,
        env={"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if Path(ran.stdout) != checkout / "batch":
        raise CommandError(f"{checkout} is not a checkout of batch-label: name one for --against")
    asked = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return commit or checkout.name
