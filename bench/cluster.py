"""The same photos labelled by this machine's workers and by as many actors on Ray, in turn."""

from __future__ import annotations

from dataclasses import dataclass

from bench.command import label
from bench.figure import Figure
from bench.sets import PhotoSet
from bench.turns import take_turns

LOCAL = ("--provider", "cpu")
RAY = (*LOCAL, "--engine", "ray")


@dataclass(frozen=True)
class Clustered:
    """Both engines on the same photos.

    ``start`` and ``ray_start`` are the seconds of a run of one photo, ``seconds`` and
    ``ray_seconds`` those of the whole run, from its process's start to its end.
    """

    photos: str
    count: int
    workers: int
    start: Figure
    ray_start: Figure
    seconds: Figure
    ray_seconds: Figure


def measure_cluster(photos: PhotoSet, workers: int, rounds: int) -> Clustered:
    """Run both engines in turn.

    Raises:
        CommandError: a run failed.
    """

    def measure(*options: str) -> tuple[float, float]:
        one = label(photos.paths()[:1], *options, expected=1)
        every = label(photos.folders(), *options, expected=photos.count)
        return one.seconds, every.seconds

    found = take_turns(
        {
            "local": lambda _: measure(*LOCAL, "--workers", str(workers)),
            "ray": lambda _: measure(*RAY, "--actors", str(workers)),
        },
        rounds,
    )
    start, seconds = zip(*found["local"], strict=True)
    ray_start, ray_seconds = zip(*found["ray"], strict=True)
    return Clustered(
        photos=photos.name,
        count=photos.count,
        workers=workers,
        start=Figure.of(start),
        ray_start=Figure.of(ray_start),
        seconds=Figure.of(seconds),
        ray_seconds=Figure.of(ray_seconds),
    )
