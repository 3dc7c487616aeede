"""Peak memory of a run by the number of photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.command import label_photos
from bench.memory import Peak
from bench.sets import PhotoSet

TWO_WORKERS = ("--provider", "cpu", "--workers", "2")


@dataclass(frozen=True)
class Footprint:
    """The memory of a run with two workers; None on a system without /proc."""

    photos: str
    count: int
    peak: Peak | None


def measure_footprint(photos: PhotoSet, counts: Sequence[int]) -> list[Footprint]:
    """Label different numbers of photos, each time from the start, and sample the memory."""
    found = []
    for count in counts:
        some = photos.first(count)
        run = label_photos(some.folders(), *TWO_WORKERS, expected=some.count, sampled=True)
        found.append(Footprint(photos.name, some.count, run.peak))
    return found
