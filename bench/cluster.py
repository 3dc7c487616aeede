"""The same photos labelled by this machine's workers and by as many actors on Ray, in turn."""

from __future__ import annotations

from dataclasses import dataclass

from bench.command import label_photos
from bench.figure import MedianRange
from bench.sets import PhotoSet
from bench.turns import run_in_turns

LOCAL = ("--provider", "cpu")
RAY = (*LOCAL, "--engine", "ray")


@dataclass(frozen=True)
class EngineComparison:
    """Both engines on the same photos.

    ``start`` and ``ray_start`` are the seconds of a run of one photo, ``seconds`` and
    ``ray_seconds`` those of the whole run, from its process's start to its end.
    """

    photos: str
    count: int
    workers: int
    start: MedianRange
    ray_start: MedianRange
    seconds: MedianRange
    ray_seconds: MedianRange


def measure_cluster(photos: PhotoSet, workers: int, rounds: int) -> EngineComparison:
    """Run both engines in turn.

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
