"""This checkout's command against that of another checkout of the project, in turn on one core."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.command import CommandError, label
from bench.figure import Figure
from bench.machine import on_cores, usable_cores
from bench.sets import PhotoSet
from bench.turns import take_turns

ONE_WORKER = ("--provider", "cpu", "--workers", "1")
WHERE = "import batch, sys; sys.stdout.write(batch.__path__[0])"


@dataclass(frozen=True)
class Against:
    """Photos a second of both, start-up included; ``times`` is the ratio, in the same round."""

    photos: str
    count: int
    other: str
    rate: Figure
    other_rate: Figure
    times: Figure


def measure_against(checkout: Path, sets: Sequence[PhotoSet], rounds: int) -> list[Against]:
    """Label each set with both, with the Python and the packages of this process.

    Raises:
        CommandError: a run failed, or there is no such checkout.
    """
    checkout = checkout.resolve()
    name = _name(checkout)
    return [_compare(checkout, name, photos, rounds) for photos in sets]


def _compare(checkout: Path, name: str, photos: PhotoSet, rounds: int) -> Against:
    def measure(folder: Path | None) -> float:
        run = label(photos.folders(), *ONE_WORKER, expected=photos.count, checkout=folder)
        return photos.count / run.seconds

    with on_cores(usable_cores()[:1]):
        found = take_turns(
            {"this": lambda _: measure(None), "other": lambda _: measure(checkout)}, rounds
        )
    rates, others = found["this"], found["other"]
    return Against(
        photos=photos.name,
        count=photos.count,
        other=name,
        rate=Figure.of(rates),
        other_rate=Figure.of(others),
        times=Figure.of(rate / other for rate, other in zip(rates, others, strict=True)),
    )


def _name(checkout: Path) -> str:
    """Give a checkout's commit, or its folder's name where Git knows none.

    Raises:
        CommandError: Python does not take the package from there.
    """
    ran = subprocess.run(
        [sys.executable, "-c", WHERE],
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
