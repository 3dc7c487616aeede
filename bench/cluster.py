"""The same photos labelled by this machine's workers and by as many actors on Ray, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.command import label
from bench.figure import Figure
from bench.sets import PhotoSet

LOCAL = ("--provider", "cpu")
RAY = (*LOCAL, "--engine", "ray")


@dataclass(frozen=True)
class Clustered:
    """Both engines on the same photos.

    ``start`` and ``ray_start`` are the seconds of a run of one photo, ``rate`` and ``ray_rate``
    photos a second of the whole run; ``to_local`` is the ratio of the rates beyond the start.
    """

    photos: str
    count: int
    workers: int
    start: Figure
    ray_start: Figure
    rate: Figure
    ray_rate: Figure
    to_local: Figure


@dataclass(frozen=True)
class _Round:
    local_one: float
    local_all: float
    ray_one: float
    ray_all: float

    def to_local(self) -> float:
        return (self.local_all - self.local_one) / (self.ray_all - self.ray_one)


def measure_cluster(photos: PhotoSet, workers: int, rounds: int) -> Clustered:
    """Run both engines, the order of which turns from round to round.

    Raises:
        CommandError: a run failed.
    """
    local, ray = (*LOCAL, "--workers", str(workers)), (*RAY, "--actors", str(workers))
    taken = [_round(photos, local, ray, ray_first=number % 2 == 1) for number in range(rounds)]
    return Clustered(
        photos=photos.name,
        count=photos.count,
        workers=workers,
        start=Figure.of(one.local_one for one in taken),
        ray_start=Figure.of(one.ray_one for one in taken),
        rate=Figure.of(photos.count / one.local_all for one in taken),
        ray_rate=Figure.of(photos.count / one.ray_all for one in taken),
        to_local=Figure.of(one.to_local() for one in taken),
    )


def _round(photos: PhotoSet, local: Sequence[str], ray: Sequence[str], ray_first: bool) -> _Round:
    seconds: dict[bool, tuple[float, float]] = {}
    for on_ray in (ray_first, not ray_first):
        options = ray if on_ray else local
        one = label(photos.paths()[:1], *options, expected=1)
        every = label(photos.folders(), *options, expected=photos.count)
        seconds[on_ray] = one.seconds, every.seconds
    return _Round(*seconds[False], *seconds[True])
